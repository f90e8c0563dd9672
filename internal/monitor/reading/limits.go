package reading

// Limits is how near the server is to what it can't do more of.
type Limits struct {
	// Databases are the ages of every database of the server, oldest first.
	Databases []DatabaseAge `json:"databases"`
	// Tables is bounded to the 20 oldest of the database that was looked at.
	Tables []TableAge `json:"tables"`
	// Sequences is bounded to the 50 that are used most.
	Sequences      []Sequence `json:"sequences"`
	SequencesTotal int        `json:"sequences_total"`
	// Holders are what keeps VACUUM from removing rows, oldest first.
	Holders []Holder `json:"holders"`
	// Prepared is bounded to the 20 oldest.
	Prepared []PreparedTransaction `json:"prepared"`
	Workers  []Workers             `json:"workers"`
}

// DatabaseAge is how many transactions have passed since all of a database's
// rows were frozen. At some 2,100 million the server refuses writes.
type DatabaseAge struct {
	Name         string `json:"name"`
	XIDAge       int64  `json:"xid_age"`
	MultiXactAge int64  `json:"multixact_age"`
}

// TableAge is the age of one table's oldest unfrozen row, its TOAST included.
type TableAge struct {
	Schema       string `json:"schema"`
	Name         string `json:"name"`
	XIDAge       int64  `json:"xid_age"`
	MultiXactAge int64  `json:"multixact_age"`
	// EstimatedBytes is what a VACUUM has to read at most.
	EstimatedBytes int64 `json:"estimated_bytes"`
}

// Sequence is a sequence and the column that it fills.
type Sequence struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// TableSchema, Table and Column are the column that it fills by default or
	// as an identity, empty where none is known, and ColumnType its type, of which
	// Domain says that it is a domain.
	TableSchema string `json:"table_schema"`
	Table       string `json:"table"`
	Column      string `json:"column"`
	ColumnType  string `json:"column_type"`
	Domain      bool   `json:"domain"`
	// ColumnLimit is the last value that the column can take, nil where that is
	// no less than the sequence's own.
	ColumnLimit *int64 `json:"column_limit"`
	// Published is true where a publication sends the table's rows to subscribers.
	Published bool `json:"published"`
	// Type is the sequence's own type.
	Type string `json:"type"`
	// LastValue is the last value that was given out, and Limit the last that
	// both the sequence and the column can take, in the direction of Increment.
	LastValue int64 `json:"last_value"`
	Start     int64 `json:"start"`
	Limit     int64 `json:"limit"`
	Increment int64 `json:"increment"`
	Cycle     bool  `json:"cycle"`
	// UsedPercent is how much of what lies between the first value and Limit
	// is used up.
	UsedPercent float64 `json:"used_percent"`
}

// Holder is a transaction, slot or standby for whose sake VACUUM keeps rows
// that are dead.
type Holder struct {
	// Kind is session, prepared transaction, replication slot or standby.
	Kind string `json:"kind"`
	// Name is a process id with its role, a transaction's name, a slot's name
	// or a standby's application name.
	Name string `json:"name"`
	// Database is empty for what concerns every database.
	Database string `json:"database"`
	// XIDAge counts transactions since, CatalogXIDAge those for which rows of
	// the system catalogue are kept.
	XIDAge        int64 `json:"xid_age"`
	CatalogXIDAge int64 `json:"catalog_xid_age"`
}

// Workers is how many of a bounded kind of process or slot are taken.
type Workers struct {
	// Kind is such as wal_senders; the setting that bounds it is Setting.
	Kind    string `json:"kind"`
	Setting string `json:"setting"`
	Used    int    `json:"used"`
	Max     int    `json:"max"`
}
