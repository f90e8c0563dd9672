package pgmedic

import "time"

// AuditAnchor is the head of an audit log at one moment, kept in another place than the
// log: in manifests, in receipts, and as an object of its own in each store. A log that
// does not have this record with this hash was changed or cut.
type AuditAnchor struct {
	// Host is where the log is written, Log the log's random id.
	Host string `json:"host"`
	Log  string `json:"log"`
	// File is the log's current file, so that a log that replaces another in it is found.
	// It is empty in anchors of older versions, and where the run that made the anchor
	// also began the log: such a log, as in a container, may live no longer than the run.
	File string `json:"file,omitempty"`
	// Seq and Hash are those of the log's last record then.
	Seq  int64     `json:"seq"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
	// MAC is the HMAC-SHA256 of the rest with the log's key, in hexadecimal digits: an
	// anchor that has another one was not made by the log's writer.
	MAC string `json:"mac"`
}
