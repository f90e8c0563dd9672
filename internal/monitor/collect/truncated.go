package collect

import "github.com/pgmedic/pgmedic/internal/monitor/reading"

// truncated names the lists that are full: there may be more on the server than they hold.
func truncated(r *reading.Reading) (full []string) {
	add := func(name string, isFull bool) {
		if isFull {
			full = append(full, name)
		}
	}
	if c := r.Connections; c != nil {
		add(reading.ListIdleInTransaction, len(c.IdleInTransaction) >= idleSessionsShown)
		add(reading.ListLongest, len(c.Longest) >= idleSessionsShown)
	}
	if l := r.Locks; l != nil {
		add(reading.ListLockWaits, len(l.Waiting) >= locksShown)
	}
	if l := r.Limits; l != nil {
		add(reading.ListSequences, len(l.Sequences) >= sequencesShown)
		add(reading.ListPrepared, len(l.Prepared) >= agesShown)
		add(reading.ListHolders, len(l.Holders) >= agesShown)
	}
	if t := r.Tables; t != nil {
		add(reading.ListTables, t.Total > len(t.Items))
		add(reading.ListWithoutPrimaryKey, t.WithoutPrimaryKeyTotal > len(t.WithoutPrimaryKey))
	}
	if x := r.Indexes; x != nil {
		add(reading.ListForeignKeysWithoutIndex, x.ForeignKeysWithoutIndexTotal > len(x.ForeignKeysWithoutIndex))
		add(reading.ListLargestIndexes, x.Total > len(x.Largest))
		add(reading.ListUnusedIndexes, x.UnusedTotal > len(x.Unused))
		add(reading.ListInvalidIndexes, len(x.Invalid) >= indexesShown)
		add(reading.ListInvalidPartitioned, len(x.InvalidPartitioned) >= indexesShown)
		add(reading.ListRedundantIndexes, len(x.Redundant) >= indexesShown)
	}
	if s := r.Statements; s != nil {
		add(reading.ListStatements, len(s.Items) >= reading.StatementsShown)
	}
	return full
}
