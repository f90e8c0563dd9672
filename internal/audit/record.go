// Package audit keeps a log of who did what: a file that is only ever appended to, one
// JSON record a line, each chained to the one before it by its hash and authenticated
// with a key. Verify finds every change, gap and swap; what is cut off the end is found
// by anchors, which are the log's head kept in other places.
package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// The actions of records that the log writes about itself.
const (
	// ActionOpen begins each file, and names the log, the key and the file before it.
	ActionOpen = "audit.open"
	// ActionTorn follows a line that a writer did not finish, and has its SHA-256.
	ActionTorn = "audit.torn"
	// ActionExpire says which file was old enough to be deleted, and what it ended with.
	ActionExpire = "audit.expire"
	// ActionAnchor says that the log's head was stored in a store, or could not be.
	ActionAnchor = "audit.anchor"
	// ActionAccept says that anchors are gone from a store, and that somebody knows why.
	ActionAccept = "audit.accept"
)

// The outcomes of records that are not the names of kinds of errors.
const (
	// OutcomeIntended is that of a record written before the act that it is about.
	OutcomeIntended = "intended"
	// OutcomeDone is that of an act that ended without an error.
	OutcomeDone = "done"
)

// Actor is the account that did something.
type Actor struct {
	// Kind is os: the account that the process runs as.
	Kind string `json:"kind"`
	// Name is the account's, or uid and its number where it has none.
	Name string `json:"name"`
	// SudoUser is the user that called sudo. It is taken from the environment, which a
	// user who is not root can set at will.
	SudoUser string `json:"sudo_user,omitempty"`
	UID      int    `json:"uid"`
}

// String names the actor for people.
func (a Actor) String() string {
	if a.SudoUser != "" {
		return a.SudoUser + " as " + a.Name
	}
	return a.Name
}

// Record is one line of the log. It holds integers and strings only, and no secret, no
// row and no SQL. The fields stand in the order of their names, which is the order in
// which they are written.
type Record struct {
	Action string    `json:"action"`
	Actor  Actor     `json:"actor"`
	At     time.Time `json:"at"`
	// Exit is the exit code, in records of an act that has ended.
	Exit *int `json:"exit,omitempty"`
	// Hash is the SHA-256 of Prev and of the record without Hash and MAC; MAC is the
	// HMAC-SHA256 of Hash with the log's key. Both are hexadecimal digits.
	Hash string `json:"hash,omitempty"`
	Host string `json:"host"`
	MAC  string `json:"mac,omitempty"`
	// Object is what was acted on: a backup's id, or a database.
	Object string `json:"object,omitempty"`
	// Outcome is intended, done, or the kind of the error.
	Outcome string `json:"outcome"`
	// Params say more: server, database, backup, counts.
	Params map[string]string `json:"params,omitempty"`
	PID    int               `json:"pid"`
	// Prev is the Hash of the record before, and zeros in the first.
	Prev string `json:"prev"`
	// Reason is what the user gave as one.
	Reason string `json:"reason,omitempty"`
	// Run is a random id of the process: an intent and its outcome have the same.
	Run string `json:"run"`
	// Seq counts records from 1 on, without gaps, across files.
	Seq int64 `json:"seq"`
}

const (
	// maxText bounds each text of a record, maxParams how many Params it has.
	maxText, maxParams = 500, 24
	// maxLine bounds a line as it is read: no record of pgmedic is longer.
	maxLine = 64 << 10
)

// zeroHash is Prev of the first record.
func zeroHash() string { return strings.Repeat("0", 2*sha256.Size) }

// clean makes a text one short line that drives no terminal.
func clean(text string) string {
	text = words.OneLine(strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

// encode writes a record as it is hashed and stored: sorted keys, no spaces.
func (r *Record) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("encode an audit record: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// sum returns the hash of a record, whatever its Hash and MAC are.
func (r *Record) sum() (string, error) {
	bare := *r
	bare.Hash, bare.MAC = "", ""
	text, err := bare.encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(r.Prev), text...))
	return hex.EncodeToString(sum[:]), nil
}

// seal fills in Hash and MAC and returns the line, with its newline.
func (r *Record) seal(key Key) ([]byte, error) {
	var err error
	if r.Hash, err = r.sum(); err != nil {
		return nil, err
	}
	r.MAC = key.mac(r.Hash)
	line, err := r.encode()
	if err != nil {
		return nil, err
	}
	if len(line) >= maxLine {
		return nil, errors.New("the audit record is too long")
	}
	return append(line, '\n'), nil
}

// What is wrong with a line.
var (
	errNotRecord = errors.New("is not an audit record")
	errForm      = errors.New("is not written as pgmedic writes records")
	errHash      = errors.New("does not have its hash: the record was changed")
	errMAC       = errors.New("was not written with this key: the record was changed or made by someone else")
)

// parse reads a line without its newline, and checks its form, hash and MAC. It does not
// check what comes before it.
func parse(line []byte, key Key) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, errNotRecord
	}
	// Two keys of one name, another order, or anything that encoders disagree on.
	if again, err := r.encode(); err != nil || !bytes.Equal(again, line) {
		return Record{}, errForm
	}
	sum, err := r.sum()
	if err != nil || sum != r.Hash {
		return Record{}, errHash
	}
	if !hmac.Equal([]byte(key.mac(r.Hash)), []byte(r.MAC)) {
		return r, errMAC
	}
	return r, nil
}
