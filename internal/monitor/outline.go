package monitor

import (
	"slices"
	"time"
)

// Outline returns what trends need of every Reading: counters, sizes and who
// waited for a lock, in some hundred bytes. It shares memory with the Reading.
func (r *Reading) Outline() *Reading {
	o := &Reading{
		Format: r.Format, TakenAt: r.TakenAt, Database: r.Database, DatabaseOID: r.DatabaseOID, Server: r.Server, Host: r.Host,
		Transactions: r.Transactions, WAL: r.WAL, Skipped: []Skipped{},
	}
	o.Server.Settings, o.Server.Extensions = nil, nil
	if c := r.Connections; c != nil {
		o.Connections = &Connections{
			Used: c.Used, MaxConnections: c.MaxConnections, SuperuserReserved: c.SuperuserReserved, Reserved: c.Reserved,
			WaitingForLock: c.WaitingForLock, OldestTransactionSeconds: c.OldestTransactionSeconds, ByState: c.ByState,
		}
	}
	if c := r.Cache; c != nil {
		o.Cache = &Cache{LifetimeHits: c.LifetimeHits, LifetimeReads: c.LifetimeReads, StatsReset: c.StatsReset}
	}
	if s := r.Size; s != nil {
		o.Size = &Size{DatabaseBytes: s.DatabaseBytes}
	}
	if c := r.Checkpoints; c != nil {
		o.Checkpoints = &Checkpoints{Timed: c.Timed, Requested: c.Requested, StatsReset: c.StatsReset}
	}
	if s := r.Statements; s != nil {
		o.Statements = &Statements{Version: s.Version, Total: s.Total, Evicted: s.Evicted, StatsReset: s.StatsReset, ExecSeconds: s.ExecSeconds}
	}
	if p := r.Replication; p != nil {
		o.Replication = &Replication{CurrentBytes: p.CurrentBytes, Replay: p.Replay, Conflicts: p.Conflicts}
		for _, s := range p.Standbys {
			o.Replication.Standbys = append(o.Replication.Standbys, Standby{
				Application: s.Application, State: s.State, ReplayLagBytes: s.ReplayLagBytes, ReplayLagSeconds: s.ReplayLagSeconds,
			})
		}
	}
	if l := r.Locks; l != nil {
		o.Locks = &Locks{WaitingTotal: l.WaitingTotal}
		for _, w := range l.Waiting {
			o.Locks.Waiting = append(o.Locks.Waiting, LockWait{
				Session:  Session{PID: w.PID, BackendStart: w.BackendStart, Database: w.Database},
				LockType: w.LockType, Mode: w.Mode, Object: w.Object, WaitSeconds: w.WaitSeconds,
			})
		}
	}
	return o
}

// Detailed names the parts of a Reading that its Outline lacks and trends
// compare at some moments only. Decoding these alone is several times faster
// than decoding a Reading.
type Detailed struct {
	Tables     *DetailedTables     `json:"tables"`
	Indexes    *DetailedIndexes    `json:"indexes"`
	Statements *DetailedStatements `json:"statements"`
}

// DetailedTables are the sizes of tables and how often they were read, see
// Tables.
type DetailedTables struct {
	Items []struct {
		Schema        string `json:"schema"`
		Name          string `json:"name"`
		Exact         bool   `json:"exact"`
		TotalBytes    int64  `json:"total_bytes"`
		SeqScans      int64  `json:"seq_scans"`
		SeqTuplesRead int64  `json:"seq_tuples_read"`
		IdxScans      int64  `json:"idx_scans"`
	} `json:"items"`
}

// DetailedIndexes are the indexes that nothing had scanned, see Indexes.
type DetailedIndexes struct {
	Unused []struct {
		OID  uint32 `json:"oid"`
		Name string `json:"name"`
	} `json:"unused"`
}

// DetailedStatements are the counters of statements, see Statements.
type DetailedStatements struct {
	Total int `json:"total"`
	Items []struct {
		QueryID     string  `json:"query_id"`
		Database    string  `json:"database"`
		User        string  `json:"user"`
		Toplevel    *bool   `json:"toplevel"`
		Calls       int64   `json:"calls"`
		ExecSeconds float64 `json:"exec_seconds"`
		Rows        int64   `json:"rows"`
		ReadBytes   int64   `json:"read_bytes"`
		TempBytes   int64   `json:"temp_bytes"`
	} `json:"items"`
}

// Fill adds details to the outline that they belong to.
func (r *Reading) Fill(d Detailed) {
	if d.Tables != nil {
		r.Tables = &Tables{Items: make([]Table, 0, len(d.Tables.Items))}
		for _, t := range d.Tables.Items {
			r.Tables.Items = append(r.Tables.Items, Table{
				Schema: t.Schema, Name: t.Name, Exact: t.Exact, TotalBytes: t.TotalBytes,
				SeqScans: t.SeqScans, SeqTuplesRead: t.SeqTuplesRead, IdxScans: t.IdxScans,
			})
		}
	}
	if d.Indexes != nil {
		r.Indexes = &Indexes{Unused: make([]Index, 0, len(d.Indexes.Unused))}
		for _, x := range d.Indexes.Unused {
			r.Indexes.Unused = append(r.Indexes.Unused, Index{OID: x.OID, Name: x.Name})
		}
	}
	if d.Statements != nil && r.Statements != nil {
		r.Statements.Items = make([]Statement, 0, len(d.Statements.Items))
		for _, s := range d.Statements.Items {
			r.Statements.Items = append(r.Statements.Items, Statement{
				QueryID: s.QueryID, Database: s.Database, User: s.User, Toplevel: s.Toplevel,
				StatementCounts: StatementCounts{
					Calls: s.Calls, ExecSeconds: s.ExecSeconds, Rows: s.Rows, ReadBytes: s.ReadBytes, TempBytes: s.TempBytes,
				},
			})
		}
	}
}

const (
	// spanLeast is the shortest newest span of statements, so that a span of a
	// report every five minutes holds some calls.
	spanLeast = 55 * time.Minute
	// daysBefore is of how many earlier days the same hours are compared.
	daysBefore = 7
	// tableSamples is at how many moments tables are measured for their growth.
	tableSamples = 16
)

// OutlinesWanted returns the moments that are worth comparing with a Reading
// taken at now, sorted, out of those that there are, which are sorted too: all
// of the last day, and of the time before as many as Trends can show.
func OutlinesWanted(now time.Time, moments []time.Time) []time.Time {
	day, _ := slices.BinarySearchFunc(moments, now.Add(-recently), time.Time.Compare)
	return slices.Concat(evenly(moments[:day], MaxPoints/2), moments[day:])
}

// DetailsWanted returns the moments whose details Analyse and TrendsOf compare
// with a Reading taken at now, sorted, out of those that there are, which are
// sorted too: about thirty however many there are.
func DetailsWanted(now time.Time, moments []time.Time) []time.Time {
	if len(moments) == 0 {
		return nil
	}
	wanted := []time.Time{moments[0], moments[len(moments)-1]}
	if dayAgo := newestBefore(now, moments, newAfter); !dayAgo.IsZero() {
		wanted = append(wanted, dayAgo)
	}
	if span := newestBefore(now, moments, spanLeast); !span.IsZero() {
		wanted = append(wanted, span)
		for day := 1; day <= daysBefore; day++ {
			if begin, end, ok := sameHours(span, now, day, moments); ok {
				wanted = append(wanted, begin, end)
			}
		}
	}
	wanted = append(wanted, evenly(moments, tableSamples)...)
	slices.SortFunc(wanted, time.Time.Compare)
	return slices.CompactFunc(wanted, time.Time.Equal)
}

// newestBefore returns the newest moment that is at least so long before now, or
// zero without one.
func newestBefore(now time.Time, moments []time.Time, least time.Duration) time.Time {
	for _, m := range slices.Backward(moments) {
		if now.Sub(m) >= least {
			return m
		}
	}
	return time.Time{}
}

// sameHours returns the moments nearest to the span from begin to end some days
// earlier, if there are two that are near enough: as near as half a span, and
// half an hour in any case, since old readings are an hour apart.
func sameHours(begin, end time.Time, days int, moments []time.Time) (from, to time.Time, ok bool) {
	near := max(end.Sub(begin)/2, 30*time.Minute)
	earlier := time.Duration(days) * -24 * time.Hour
	from, to = nearest(begin.Add(earlier), moments), nearest(end.Add(earlier), moments)
	ok = from.Sub(begin.Add(earlier)).Abs() <= near && to.Sub(end.Add(earlier)).Abs() <= near &&
		// Neither the same moment twice, nor one that the newest span holds.
		from.Before(to) && !to.After(begin)
	return from, to, ok
}

// nearest returns the moment that is nearest to another; there is at least one.
func nearest(to time.Time, moments []time.Time) time.Time {
	i, _ := slices.BinarySearchFunc(moments, to, time.Time.Compare)
	switch {
	case i == len(moments):
		return moments[i-1]
	case i > 0 && to.Sub(moments[i-1]) < moments[i].Sub(to):
		return moments[i-1]
	}
	return moments[i]
}

// evenly returns at most n moments, one in each of n parts of the time between
// the first and the last, the last of each.
func evenly(moments []time.Time, n int) []time.Time {
	if len(moments) <= n {
		return moments
	}
	var kept []time.Time
	first, last := moments[0], moments[len(moments)-1]
	part := last.Sub(first)/time.Duration(n) + 1
	for i, m := range moments {
		if i == len(moments)-1 || moments[i+1].Sub(first)/part > m.Sub(first)/part {
			kept = append(kept, m)
		}
	}
	return kept
}
