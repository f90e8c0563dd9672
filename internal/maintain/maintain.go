// Package maintain keeps a database's tables and indexes in shape: VACUUM, ANALYZE and
// REINDEX CONCURRENTLY, planned from the findings of a report, and run one after the
// other within limits that the server's users do not feel. What a plan says is a pure
// function of what was read.
package maintain

import (
	"errors"

	"github.com/pgmedic/pgmedic"
)

// Kind is a kind of step.
type Kind string

// The kinds of steps.
const (
	// Analyze renews statistics that are missing or out of date.
	Analyze Kind = "analyze"
	// Vacuum removes dead rows and freezes old ones, and renews statistics with that.
	Vacuum Kind = "vacuum"
	// Reindex rebuilds a B-tree of which much is empty.
	Reindex Kind = "reindex"
	// Amcheck reads a B-tree and checks its order, and changes nothing.
	Amcheck Kind = "amcheck"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Analyze, Vacuum, Reindex, Amcheck} }

// DefaultKinds are those that a plan has if none is named: all that mend something.
func DefaultKinds() []Kind { return []Kind{Analyze, Vacuum, Reindex} }

// Outcome is what became of a step.
type Outcome string

// The outcomes of steps.
const (
	// Planned is a step that was not run, because the plan was not carried out.
	Planned Outcome = "planned"
	// Done is a step whose statement the server carried out.
	Done Outcome = "done"
	// Skipped is a step that was not begun, or that the server passed over.
	Skipped Outcome = "skipped"
	// Failed is a step that was begun and was refused, cancelled or broken off.
	Failed Outcome = "failed"
	// Damaged is a check that found an index damaged.
	Damaged Outcome = "damaged"
)

// Step is one statement on one table or index.
type Step struct {
	Kind Kind `json:"kind"`
	// Object is the table or index, quoted where it needs to be.
	Object string `json:"object"`
	// Statement is what is run, ready to paste.
	Statement string `json:"statement"`
	// Reason says why, with the numbers that it rests on.
	Reason string `json:"reason"`
	// GainBytes is about how much becomes usable again, 0 where that is not what the
	// step is for.
	GainBytes int64   `json:"gain_bytes"`
	Outcome   Outcome `json:"outcome"`
	// Detail says why a step was skipped or failed, and what is left to do.
	Detail string `json:"detail,omitempty"`
	// Seconds is how long the statement ran.
	Seconds float64 `json:"seconds"`

	// sql is the statement as it is sent.
	sql      string
	relation Relation
	urgency  int
	weight   int64
	// dead is how many dead rows a VACUUM is to remove.
	dead int64
}

// Plan is what a database needs.
type Plan struct {
	Database string `json:"database"`
	// Steps are in the order in which they are run.
	Steps []Step `json:"steps"`
	// Notes are what was found and is left to a person, a sentence each.
	Notes []string `json:"notes"`
	// Unread says what could not be read, and was therefore not planned for.
	Unread []string `json:"unread"`
}

// Runnable is how many steps are to be run.
func (p *Plan) Runnable() (n int) {
	for i := range p.Steps {
		if p.Steps[i].Outcome == Planned {
			n++
		}
	}
	return n
}

// Undone is how many steps of a plan that was carried out are not done, with what could
// not be read.
func (p *Plan) Undone() (n int) {
	for i := range p.Steps {
		if p.Steps[i].Outcome != Done {
			n++
		}
	}
	return n + len(p.Unread)
}

// Damaged is how many indexes a check found damaged.
func (p *Plan) Damaged() (n int) {
	for i := range p.Steps {
		if p.Steps[i].Outcome == Damaged {
			n++
		}
	}
	return n
}

// ErrWindow is the cause of a context that ends with the time that was given for
// maintenance.
var ErrWindow = errors.New("the time window is over")

// ParseKinds reads names of kinds, each once, in the order of Kinds. None is
// DefaultKinds.
func ParseKinds(names []string) ([]Kind, error) {
	if len(names) == 0 {
		return DefaultKinds(), nil
	}
	wanted := map[Kind]bool{}
	for _, name := range names {
		known := false
		for _, k := range Kinds() {
			known = known || string(k) == name
		}
		if !known {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "use analyze, vacuum, reindex and amcheck, with commas between", "unknown kind of maintenance %q", name)
		}
		wanted[Kind(name)] = true
	}
	var kinds []Kind
	for _, k := range Kinds() {
		if wanted[k] {
			kinds = append(kinds, k)
		}
	}
	return kinds, nil
}
