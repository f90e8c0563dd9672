// Package emergency says what to do when something went wrong: facts about a server, its
// backups and this host become steps, each with the command to type. It is pure.
package emergency

import (
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// Case is something that can happen.
type Case struct {
	// ID is what the command line calls it: table-dropped.
	ID string `json:"id"`
	// Summary is what it looks like, for a list to choose from.
	Summary string `json:"summary"`
	// Heading is that of its section in docs/emergency.md.
	Heading string `json:"-"`
	// Moment is true where the moment of the accident matters, and Table where the table does.
	Moment bool `json:"-"`
	Table  bool `json:"-"`

	plan func(*planner)
}

// Cases returns all cases, those that are about data first.
func Cases() []Case {
	return []Case{
		{ID: "rows-deleted", Summary: "rows are gone from a few tables", Heading: "Deleted rows", Moment: true, Table: true, plan: rowsDeleted},
		{ID: "table-dropped", Summary: "a table is gone", Heading: "Deleted table", Moment: true, Table: true, plan: tableDropped},
		{ID: "wrong-update", Summary: "rows were changed that should not have been", Heading: "Wrong change, with WAL", Moment: true, Table: true, plan: wrongUpdate},
		{ID: "disk-full", Summary: "the disk is full or nearly full", Heading: "Full disk", plan: diskFull},
		{ID: "wal-full", Summary: "pg_wal grows and is not emptied", Heading: "Full pg_wal", plan: walFull},
		{ID: "slot-inactive", Summary: "a replication slot has no consumer", Heading: "Inactive slot", plan: slotInactive},
		{ID: "wraparound", Summary: "transaction numbers run out", Heading: "Wraparound", plan: wraparound},
		{ID: "server-slow", Summary: "the server is slow, or sessions hang", Heading: "Slow server", plan: serverSlow},
		{ID: "server-lost", Summary: "the database server is gone", Heading: "Lost server", plan: serverLost},
		{ID: "failover-failed", Summary: "a failover went wrong: no primary, two of them, or lost changes", Heading: "Failed failover", plan: failoverFailed},
		{ID: "key-lost", Summary: "the key of the backups is gone", Heading: "Lost key", plan: keyLost},
		{ID: "ransomware", Summary: "a break-in, a ransom note, changed backups", Heading: "Break-in", Moment: true, plan: ransomware},
	}
}

// Find returns the case of an id.
func Find(id string) (Case, bool) {
	all := Cases()
	if i := slices.IndexFunc(all, func(c Case) bool { return c.ID == id }); i >= 0 {
		return all[i], true
	}
	return Case{}, false
}

// Facts are what is known. Zero values are not known, unless a field says otherwise.
type Facts struct {
	// Now is the clock of this host.
	Now time.Time
	// When is the moment of the accident. Its location is the one that it is printed in.
	When time.Time
	// Table is the pattern of tables that was given, as restore --table takes it.
	Table string
	// Database is the database that it is about.
	Database string
	// Global, Connection and Store are the flags of this run that each command, each
	// command that connects, and each command that opens a store has to be given, too.
	Global, Connection, Store []string
	// Named is the flag of this run that names the server in the store, which each command
	// that has such a flag is to be given.
	Named []string
	// Maintenance is the database for statements about the whole server; empty is postgres.
	Maintenance string
	// Conninfo is how psql reaches the server, without a password and a database.
	Conninfo string
	// OwnSlot is the replication slot that `pgmedic wal stream` uses.
	OwnSlot string

	Server  Server
	Backups []Backup // the newest first
	// Stores are the places that the configuration names, the store of backups first.
	Stores []Store
	WAL    *Window // nil: nothing can be recovered to a moment
	Keys   Keys
	// Room is the folder in which throwaway servers and copies are made on this host.
	Room Room
}

// Server is what is known of the server.
type Server struct {
	// Reached is true where it answered. Else nothing else of Server is known.
	Reached bool
	// DatabaseGone is true where it has no database of the name that it is about.
	DatabaseGone bool
	Major        int
	Standby      bool
	// DiskBytes and DiskFreeBytes are of the disk of its data folder.
	DiskBytes, DiskFreeBytes int64
	WALBytes, DatabaseBytes  int64
	Slots                    []Slot
	// Blockers are the sessions that others wait for and that wait for none themselves, those
	// with the most waiters first.
	Blockers []Blocker
	// Ages are those of the databases, the oldest first.
	Ages []Age
	// Holders are what keeps VACUUM from freezing rows, the oldest first.
	Holders []Holder
	// ArchiverFails is true where archive_command failed last.
	ArchiverFails bool
	// Kept counts the databases that swaps set aside.
	Kept int
}

// Slot is a replication slot.
type Slot struct {
	Name, Type, Database string
	Active               bool
	RetainedBytes        int64
}

// Blocker is a session that others wait for.
type Blocker struct {
	PID                int
	User, Application  string
	Database, State    string
	BackendStart       time.Time
	TransactionSeconds float64
	Waiting            int
	// Maintenance is the long work of the server's keeping that it is at, such as VACUUM.
	Maintenance string
	// Prepared is the name of a prepared transaction, which has no session.
	Prepared string
}

// Age is how much of the transaction numbers a database has used up.
type Age struct {
	Database string
	// Transactions is the age of its oldest row, or of its oldest multixact if that is older.
	Transactions int64
}

// Holder is what keeps VACUUM from freezing rows.
type Holder struct {
	// Kind is session, prepared transaction, replication slot or standby.
	Kind, Name, Database string
	XIDAge               int64
}

// Backup is a backup that a restore can begin with.
type Backup struct {
	ID, Database string
	At           time.Time
	Proof        pgmedic.Proof
	// Claimed is true where this host can't tell who wrote the proof.
	Claimed bool
	// Shrunk is true where it has far less than those before it.
	Shrunk bool
	// NotInPlace is why no single table can be made again from it, such as "was taken with
	// method plain"; empty where nothing is known.
	NotInPlace string
	// RecoverySeconds is what a drill took; zero where none measured it.
	RecoverySeconds float64
}

// Store is a place for backups.
type Store struct {
	// Name is what --store takes.
	Name string
	// Unread is why it could not be read, else empty; Newest is the newest backup there.
	Unread string
	Newest time.Time
	Count  int
}

// Window are the moments that a cluster can be recovered to.
type Window struct {
	From, Until, Proven time.Time
	Timeline            int64
}

// Reach says whether a moment can be recovered to.
type Reach int

// The values of Reach.
const (
	ReachNo Reach = iota
	// ReachPerhaps is of a moment at the edge of what is known: the times of a window are
	// those of observations of the server, which `pgmedic wal stream` stores once a minute.
	ReachPerhaps
	ReachYes
)

// edge is how far outside of a window a moment may be of which it is not known: the time of
// a few observations. It is our choice.
const edge = 5 * time.Minute

// Reach says whether a moment is one of the window's. A plan of the restore knows for sure.
func (w *Window) Reach(at time.Time) Reach {
	switch {
	case w == nil || at.IsZero():
		return ReachNo
	case !w.From.IsZero() && !w.Until.IsZero() && !at.Before(w.From) && !at.After(w.Until):
		return ReachYes
	case !w.From.IsZero() && at.Before(w.From.Add(-edge)) || !w.Until.IsZero() && at.After(w.Until.Add(edge)):
		return ReachNo
	}
	return ReachPerhaps
}

// Keys are the secret keys of this host.
type Keys struct {
	Count int
	// Opens is true where one of them opens the newest backup.
	Opens bool
}

// Room is a folder and what is free there.
type Room struct {
	Dir        string
	FreeBytes  int64
	NeedsBytes int64
}

// Step is one thing to do.
type Step struct {
	// Title is what to do, and Why the reason, or what to watch for.
	Title string `json:"title"`
	Why   string `json:"why,omitempty"`
	// Command is what to type in a shell; empty where there is nothing to type.
	Command string `json:"command,omitempty"`
	// Argv are the arguments of pgmedic, where Command is pgmedic alone.
	Argv []string `json:"argv,omitempty"`
	// Unknown are the words of Command that you have to replace.
	Unknown []Unknown `json:"unknown,omitempty"`
	// CanRun is true where pgmedic may run it, after a question: it is pgmedic's own and
	// changes nothing that is there.
	CanRun bool `json:"can_run"`
}

// Unknown is a word of a command that stands for something that is not known.
type Unknown struct {
	Word  string `json:"word"`
	Means string `json:"means"`
}

// Plan is what to do in a case.
type Plan struct {
	Case  Case   `json:"case"`
	Steps []Step `json:"steps"`
}

// NewPlan says what to do in a case, from what is known.
func NewPlan(c Case, f Facts) Plan {
	p := &planner{Facts: f}
	c.plan(p)
	return Plan{Case: c, Steps: p.steps}
}

// Before is the second before the accident, in UTC; zero where that is not known.
func (f Facts) Before() time.Time {
	if f.When.IsZero() {
		return time.Time{}
	}
	return f.When.UTC().Truncate(time.Second).Add(-time.Second)
}
