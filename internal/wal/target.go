package wal

import (
	"fmt"
	"time"
)

// TargetKind says how the moment is given to which a cluster is recovered.
type TargetKind string

// The kinds of targets.
const (
	// TargetTime is a time by the server's clock: what ended later is left out.
	TargetTime TargetKind = "time"
	// TargetLSN is a position: the first record that begins there or after it is the last.
	TargetLSN TargetKind = "lsn"
	// TargetName is a restore point, of pg_create_restore_point. Of several with one name
	// the first that can be reached is meant.
	TargetName TargetKind = "name"
	// TargetEnd is all that is stored.
	TargetEnd TargetKind = "end"
	// TargetBackup is the moment at which a base backup ended.
	TargetBackup TargetKind = "backup"
)

// MaxRestorePointName is how many bytes a restore point's name can have.
const MaxRestorePointName = 63

// Target is a moment to which a cluster is to be recovered.
type Target struct {
	Kind TargetKind
	// Time, LSN and Name are of the kinds of these names. PostgreSQL has microseconds;
	// what is finer is cut off.
	Time time.Time
	LSN  LSN
	Name string
	// Timeline is the one to follow. Zero is the latest of which WAL or a history is
	// stored.
	Timeline Timeline
	// Base is the ID of the base backup to begin with, and for TargetBackup the one that is
	// meant. Empty is the newest from which the target can be reached.
	Base string
}

// String returns the target in words.
func (t Target) String() string {
	switch t.Kind {
	case TargetTime:
		return t.Time.Format("2006-01-02 15:04:05.999999Z07:00")
	case TargetLSN:
		return "position " + t.LSN.String()
	case TargetName:
		return fmt.Sprintf("restore point %.80q", t.Name)
	case TargetEnd:
		return "the end of the stored WAL"
	case TargetBackup:
		return "the end of a base backup"
	}
	return "no known target"
}

// StopKind is how PostgreSQL is to stop.
type StopKind string

// The ways to stop.
const (
	// StopAtLSN: behind the record that begins at Plan.LSN, as with recovery_target_lsn and
	// recovery_target_inclusive.
	StopAtLSN StopKind = "lsn"
	// StopImmediate: as soon as the base backup is consistent, as with recovery_target.
	StopImmediate StopKind = "immediate"
	// StopAtEnd: at the end of the WAL, without a recovery target.
	StopAtEnd StopKind = "end"
)

// Plan is how a target is reached, and what a recovery to it will have done.
type Plan struct {
	Base Base `json:"base"`
	// Timeline is what recovery_target_timeline must be: the one that was asked for, or an
	// older one that has the same WAL up to the target, where PostgreSQL could not end on the
	// other because of transactions that are prepared there.
	Timeline Timeline `json:"timeline"`
	Stop     StopKind `json:"stop"`
	// LSN is where the last record begins that is replayed: of StopAtLSN alone. A
	// transaction ends with it, or it is the restore point or the record at a position that
	// was asked for.
	LSN LSN `json:"lsn,omitempty"`
	// End is where the last record ends that is needed: behind it nothing is read.
	End LSN `json:"end"`
	// Ranges is the WAL that is needed, in the order of reading: of each timeline whole
	// segments, but for the last, which ends at End.
	Ranges []Span `json:"ranges"`
	// Last is the last transaction that is committed after the recovery, as far as WAL from
	// the base backup's start on says: nil where none is. Next is the first end of a
	// transaction that is left out, and nil where none is stored.
	Last *Ended `json:"last_commit,omitempty"`
	Next *Ended `json:"next,omitempty"`
	// Commits is how many transactions commit in what is replayed.
	Commits int `json:"commits"`
	// Tablespaces are those that are created on the way: PostgreSQL makes each again where
	// it was on the server, unless its path in the WAL is changed.
	Tablespaces []Note `json:"tablespaces,omitempty"`
	// Others are restore points of the name that was asked for which are not meant.
	Others []Point `json:"others,omitempty"`
	// Unread is the WAL of which it is not known what it holds, because its version is not
	// known here: then Last, Commits and Tablespaces are incomplete, and a time or a name
	// can't be planned for.
	Unread []Span `json:"unread,omitempty"`
}

// Ended is the end of a transaction.
type Ended struct {
	Kind EventKind `json:"kind"`
	LSN  LSN       `json:"lsn"`
	End  LSN       `json:"end"`
	Time time.Time `json:"time,omitzero"`
	XID  uint32    `json:"xid"`
}

func endOf(e Event) *Ended {
	return &Ended{Kind: e.Kind, LSN: e.Start, End: e.End, Time: e.Time, XID: e.XID}
}

// PlanInputs are what is known of an archive, and how to know more.
type PlanInputs struct {
	Inputs
	// Summary returns what an index says of a segment. It is false where none does; then
	// the segment is walked. Nil is an archive without an index.
	Summary func(Segment) (Summary, bool)
	// Walk calls record for each whole record that begins in the given segments, which
	// follow one another, in order, until it returns false. An incomplete one at the end
	// is not called for. It returns where the WAL stopped being valid before the stored
	// bytes end, or nil. Its error is that of reading the store, and ends the planning.
	Walk func(segments []Segment, record func(*Record) bool) (*Stop, error)
}

// OutsideError is that a target can't be reached.
type OutsideError struct {
	Target Target
	// Timeline is the one that was followed.
	Timeline Timeline
	// Before and After are the nearest moments that can be reached, where there are any.
	Before, After *Point
	// ToEnd is true where all that is stored can be recovered, and only the time that was
	// asked for is later than it is known to go.
	ToEnd bool
	// Why is the reason in words.
	Why string
}

// Error implements error.
func (e *OutsideError) Error() string {
	return fmt.Sprintf("%s can't be reached on timeline %d: %s", e.Target, e.Timeline, e.Why)
}

// Hint says what can be reached.
func (e *OutsideError) Hint() string {
	switch {
	case e.Before != nil && e.After != nil:
		return fmt.Sprintf("the nearest moments that can be reached are %s before it and %s after it", e.Before, e.After)
	case e.Before != nil && e.ToEnd:
		return fmt.Sprintf("the last moment that is known to be reached is %s; --to-end recovers all that is stored", e.Before)
	case e.Before != nil:
		return fmt.Sprintf("the last moment that can be reached before it is %s", e.Before)
	case e.After != nil:
		return fmt.Sprintf("the first moment that can be reached is %s", e.After)
	}
	return "see `pgmedic wal status` for what can be reached"
}

// String returns the point in words.
func (p Point) String() string {
	if p.Time.IsZero() {
		return p.LSN.String()
	}
	return fmt.Sprintf("%s (%v)", p.Time.UTC().Format("2006-01-02 15:04:05.999999Z"), p.LSN)
}
