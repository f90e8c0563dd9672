package reading

import "time"

// Index is one index and what must be known before anybody drops it.
type Index struct {
	OID    uint32 `json:"oid"`
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// TableSchema and Table name its table.
	TableSchema string `json:"table_schema"`
	Table       string `json:"table"`
	// Method is such as btree; Definition is its CREATE INDEX, in which the
	// literals of expressions and predicates are left out as in statements. It is
	// empty where the table was locked.
	Method     string `json:"method"`
	Definition string `json:"definition"`
	// EstimatedBytes is relpages; BloatBytes is how much of it is estimated to
	// be empty, nil where that can't be estimated.
	EstimatedBytes int64  `json:"estimated_bytes"`
	BloatBytes     *int64 `json:"bloat_bytes"`
	// BloatMethod and BloatConfidence are as in Bloat, empty without BloatBytes.
	BloatMethod     string `json:"bloat_method"`
	BloatConfidence string `json:"bloat_confidence"`
	// Scans counts since the database's statistics were reset; LastScan is
	// known from PostgreSQL 16.
	Scans    int64      `json:"scans"`
	LastScan *time.Time `json:"last_scan"`

	Unique          bool `json:"unique"`
	Primary         bool `json:"primary"`
	ReplicaIdentity bool `json:"replica_identity"`
	Clustered       bool `json:"clustered"`
	// Constraint is true where a constraint of its own table, or a foreign key
	// of another, depends on it.
	Constraint bool `json:"constraint"`
	// ForeignKey is true where it supports a foreign key of its own table.
	ForeignKey bool `json:"foreign_key"`
	// Partition is true for a part of a partitioned table's index, Partitioned for
	// such an index as a whole, which has no size of its own.
	Partition   bool `json:"partition"`
	Partitioned bool `json:"partitioned"`
	// Expression is true where it has columns that are expressions, of which
	// ANALYZE then keeps statistics: the planner uses them without a scan.
	Expression bool `json:"expression"`
	// Extension is true where an extension made it.
	Extension bool `json:"extension"`
	Valid     bool `json:"valid"`
	// Building is true while somebody builds it.
	Building bool `json:"building"`
	// ChangedAt is when its catalogue entry was last written: it was not
	// created later. Nil unless track_commit_timestamp is on and remembers.
	ChangedAt *time.Time `json:"changed_at"`
}

// Needed says why the index may not be dropped whatever its scans, or nothing.
func (x *Index) Needed() string {
	switch {
	case x.Primary:
		return "it is a primary key"
	case x.Unique:
		return "it keeps rows unique"
	case x.Constraint:
		return "a constraint rests on it"
	case x.ReplicaIdentity:
		return "logical replication tells rows apart by it"
	case x.ForeignKey:
		return "it supports a foreign key"
	case x.Clustered:
		return "the table is clustered by it"
	case x.Partition:
		return "it is part of a partitioned index"
	case x.Partitioned:
		return "it is the index of a partitioned table, which can't be dropped without locking all of its partitions"
	case x.Extension:
		return "it belongs to an extension"
	}
	return ""
}

// IndexPair is an index that another one of the same table makes needless.
type IndexPair struct {
	// Redundant is the one that could go, Kept the one that does its work.
	Redundant Index `json:"redundant"`
	Kept      Index `json:"kept"`
	// Exact is true where both have the same definition; otherwise Redundant's
	// columns are the first of Kept's.
	Exact bool `json:"exact"`
}

// PartitionedIndex is the index of a partitioned table that the server holds invalid
// although each partition has its own, attached and valid.
type PartitionedIndex struct {
	OID         uint32 `json:"oid"`
	Schema      string `json:"schema"`
	Name        string `json:"name"`
	TableSchema string `json:"table_schema"`
	Table       string `json:"table"`
	Unique      bool   `json:"unique"`
	// PartitionSchema and Partition name the index of one of the partitions.
	PartitionSchema string `json:"partition_schema"`
	Partition       string `json:"partition"`
}

// Bloat is how much of a table's file is estimated to be empty or dead.
type Bloat struct {
	Bytes int64 `json:"bytes"`
	// Method is estimate, from column statistics, or pgstattuple, measured.
	Method string `json:"method"`
	// Confidence is high for what was measured, else medium or low.
	Confidence string `json:"confidence"`
	// DroppedColumns counts the columns that the table once had: what they held
	// stays in its rows until those are written again, and an estimate takes it
	// for empty.
	DroppedColumns int `json:"dropped_columns"`
}

// Vacuuming is a VACUUM in progress in the database that was looked at.
type Vacuuming struct {
	PID    int    `json:"pid"`
	Schema string `json:"schema"`
	Table  string `json:"table"`
	Phase  string `json:"phase"`
	// Auto is true for autovacuum's.
	Auto bool `json:"auto"`
	// HeapBlocks is the table's length and ScannedBlocks how much is read.
	HeapBlocks    int64 `json:"heap_blocks"`
	ScannedBlocks int64 `json:"scanned_blocks"`
	// IndexRounds is how often the indexes were gone through: more than once
	// means that maintenance_work_mem was too small.
	IndexRounds int64   `json:"index_rounds"`
	Seconds     float64 `json:"seconds"`
}
