package reading

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
