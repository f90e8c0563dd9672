package judge

import (
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Covers reports whether a Reading shows that a finding is gone which is not among the found,
// all findings that Analyse made of it, muted ones included. It does not where what the
// finding is about may have been left out of a list that was full: of the 200 largest tables
// without a primary key, a table that others have outgrown is no longer among them. Of the
// finding, ID, Database and Object count; an empty Database is the Reading's own. Sections
// that were not read, which the Reading's Skipped has, are not Covers' concern.
func Covers(got *reading.Reading, found []pgmedic.Finding, f pgmedic.Finding, thresholds reading.Thresholds) bool {
	c := covering{whole: got, of: got, limits: thresholds, object: f.Object}
	if i := slices.IndexFunc(got.Databases, func(r *reading.Reading) bool { return r.Database == f.Database }); i >= 0 {
		c.of = got.Databases[i]
	}
	at := func(f pgmedic.Finding) string {
		if f.Database == "" {
			return got.Database
		}
		return f.Database
	}
	same := 0
	for _, other := range found {
		if other.ID == f.ID && at(other) == at(f) {
			same++
		}
	}
	return c.covers(f.ID, same)
}

// covering is a question of Covers: whether a reading would show an object.
type covering struct {
	whole, of *reading.Reading
	limits    reading.Thresholds
	object    string
}

// covers knows how each finding that rests on a bounded list depends on it.
func (c covering) covers(id string, found int) bool {
	of := sqltext.ReadableTable
	index := func(x reading.Index) bool { return of(x.Schema, x.Name) == c.object }
	switch id {
	case "table-bloat", "table-never-analyzed", "table-never-vacuumed", "index-missing":
		return c.holds(reading.ListTables, c.hasTable)
	case "table-dead-tuples":
		return c.holds(reading.ListTables, func() bool { return c.hasTable() || c.hasDead() })
	case "table-without-primary-key":
		return c.holds(reading.ListWithoutPrimaryKey, func() bool {
			return slices.ContainsFunc(c.of.Tables.WithoutPrimaryKey, func(t reading.KeylessTable) bool { return of(t.Schema, t.Name) == c.object })
		})
	case "foreign-key-without-index":
		return c.holds(reading.ListForeignKeysWithoutIndex, func() bool { return false })
	case "index-bloat":
		return c.holds(reading.ListLargestIndexes, func() bool { return slices.ContainsFunc(c.of.Indexes.Largest, index) })
	case "index-unused":
		return c.holds(reading.ListUnusedIndexes, func() bool { return slices.ContainsFunc(c.of.Indexes.Unused, index) })
	case "index-invalid":
		return c.holds(reading.ListInvalidIndexes, func() bool { return slices.ContainsFunc(c.of.Indexes.Invalid, index) })
	case "index-partitioned-invalid":
		return c.holds(reading.ListInvalidPartitioned, func() bool {
			return slices.ContainsFunc(c.of.Indexes.InvalidPartitioned, func(x reading.PartitionedIndex) bool { return of(x.Schema, x.Name) == c.object })
		})
	case "index-duplicate", "index-redundant":
		return c.holds(reading.ListRedundantIndexes, func() bool {
			return slices.ContainsFunc(c.of.Indexes.Redundant, func(p reading.IndexPair) bool { return index(p.Redundant) })
		})
	case "statement-heavy", "statement-slow", "statement-new", "statement-regressed":
		return found < statementsFound && c.holds(reading.ListStatements, func() bool {
			return slices.ContainsFunc(c.of.Statements.Items, func(x reading.Statement) bool { return "statement "+x.QueryID == c.object })
		})
	case "wraparound-table":
		return found < agesFound
	}
	return c.coversWorst(id)
}

// coversWorst is of lists with the worst first: what a full one leaves out is not a finding
// where its last item is none.
func (c covering) coversWorst(id string) bool {
	whole := covering{whole: c.whole, of: c.whole, limits: c.limits, object: c.object} // these are the server's
	over := func(seconds float64, limit time.Duration) bool { return seconds > limit.Seconds() }
	switch id {
	case "idle-in-transaction":
		return whole.holds(reading.ListIdleInTransaction, func() bool {
			return !over(last(c.whole.Connections.IdleInTransaction).IdleSeconds, c.limits.IdleInTransaction)
		})
	case "long-transaction":
		return whole.holds(reading.ListLongest, func() bool {
			return !over(last(c.whole.Connections.Longest).TransactionSeconds, c.limits.LongTransaction)
		})
	case "lock-wait":
		return whole.holds(reading.ListLockWaits, func() bool { return !over(last(c.whole.Locks.Waiting).WaitSeconds, c.limits.LockWaitWarn) })
	case "prepared-transaction-old":
		return whole.holds(reading.ListPrepared, func() bool { return !over(last(c.whole.Limits.Prepared).AgeSeconds, c.limits.PreparedTransaction) })
	case "vacuum-held-back":
		return whole.holds(reading.ListHolders, func() bool {
			h := last(c.whole.Limits.Holders)
			return max(h.XIDAge, h.CatalogXIDAge) <= c.limits.HeldBackTransactions
		})
	case "sequence-near-end":
		return c.holds(reading.ListSequences, func() bool {
			return last(c.of.Limits.Sequences).UsedPercent < min(c.limits.LimitInfoPercent, c.limits.LimitWarnPercent, c.limits.LimitCriticalPercent)
		})
	}
	return true
}

// holds reports whether a list has all that there is, or what is asked for.
func (c covering) holds(list string, has func() bool) bool {
	return !slices.Contains(c.of.Truncated, list) || c.kept(list) && has()
}

// kept reports whether the section of a list is there: Visible leaves out those that were
// read only for the judgements of others.
func (c covering) kept(list string) bool {
	switch section, _, _ := strings.Cut(list, "."); section {
	case reading.SectionConnections:
		return c.of.Connections != nil
	case reading.SectionLocks:
		return c.of.Locks != nil
	case reading.SectionLimits:
		return c.of.Limits != nil
	case reading.SectionTables:
		return c.of.Tables != nil
	case reading.SectionIndexes:
		return c.of.Indexes != nil
	case reading.SectionStatements:
		return c.of.Statements != nil
	}
	return false
}

// last is the last item of a list, and nothing of an empty one, which is never full.
func last[T any](list []T) (item T) {
	if len(list) > 0 {
		item = list[len(list)-1]
	}
	return item
}

func (c covering) hasTable() bool {
	return slices.ContainsFunc(c.of.Tables.Items, func(t reading.Table) bool { return sqltext.ReadableTable(t.Schema, t.Name) == c.object })
}

// hasDead reports whether all tables with enough dead rows for a finding must be in the list.
// It has N by size, N by dead rows and N by rows scanned, so N is a third of it at least: if
// fewer have that many dead rows, the N with the most hold all that do.
func (c covering) hasDead() bool {
	dead := 0
	for i := range c.of.Tables.Items {
		if c.of.Tables.Items[i].DeadTuples > c.limits.DeadTuplesMin {
			dead++
		}
	}
	return 3*dead < len(c.of.Tables.Items)
}
