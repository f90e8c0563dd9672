package reading

import "time"

// Tables is what the database's tables look like.
type Tables struct {
	// Total counts ordinary tables, partitions and materialized views outside
	// the system schemas.
	Total int `json:"total"`
	// Items holds the largest tables and those with the most dead rows,
	// largest first.
	Items []Table `json:"items"`
	// WithoutPrimaryKey is bounded to the 200 largest;
	// WithoutPrimaryKeyTotal counts all.
	WithoutPrimaryKey      []KeylessTable `json:"without_primary_key"`
	WithoutPrimaryKeyTotal int            `json:"without_primary_key_total"`
	// Vacuums are those that run now.
	Vacuums []Vacuuming `json:"vacuums"`
}

// Table is one table, partition or materialized view. Counters run since the
// statistics were last reset.
type Table struct {
	OID    uint32 `json:"oid"`
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// Kind is table, partition or materialized view.
	Kind string `json:"kind"`
	// EstimatedBytes is of the heap and TOAST as the last VACUUM or ANALYZE
	// saw them, or what the live rows take at least; EstimatedRows is
	// reltuples, -1 where neither ever ran (0 before PostgreSQL 14).
	EstimatedBytes int64 `json:"estimated_bytes"`
	EstimatedRows  int64 `json:"estimated_rows"`
	// Exact is true where the four sizes were measured. A table that somebody
	// holds locked is not measured, and they are zero.
	Exact      bool  `json:"exact"`
	TotalBytes int64 `json:"total_bytes"`
	TableBytes int64 `json:"table_bytes"`
	IndexBytes int64 `json:"index_bytes"`
	ToastBytes int64 `json:"toast_bytes"`

	LiveTuples int64 `json:"live_tuples"`
	DeadTuples int64 `json:"dead_tuples"`
	// ModifiedSinceAnalyze counts rows; InsertedSinceVacuum too, from
	// PostgreSQL 13.
	ModifiedSinceAnalyze int64  `json:"modified_since_analyze"`
	InsertedSinceVacuum  *int64 `json:"inserted_since_vacuum"`

	LastVacuum      *time.Time `json:"last_vacuum"`
	LastAutovacuum  *time.Time `json:"last_autovacuum"`
	LastAnalyze     *time.Time `json:"last_analyze"`
	LastAutoanalyze *time.Time `json:"last_autoanalyze"`

	SeqScans      int64 `json:"seq_scans"`
	SeqTuplesRead int64 `json:"seq_tuples_read"`
	IdxScans      int64 `json:"idx_scans"`
	// LastSeqScan and LastIdxScan are known from PostgreSQL 16.
	LastSeqScan *time.Time `json:"last_seq_scan"`
	LastIdxScan *time.Time `json:"last_idx_scan"`

	InsertedTuples int64 `json:"inserted_tuples"`
	UpdatedTuples  int64 `json:"updated_tuples"`
	DeletedTuples  int64 `json:"deleted_tuples"`
	// HotUpdatedTuples are updates that needed no new index entries;
	// NewpageUpdatedTuples those that moved the row to another page (known
	// from PostgreSQL 16).
	HotUpdatedTuples     int64  `json:"hot_updated_tuples"`
	NewpageUpdatedTuples *int64 `json:"newpage_updated_tuples"`

	// Unindexed are the columns that no valid index begins with, bounded to
	// the first 100.
	Unindexed []string `json:"unindexed"`
	// Bloat is nil where it could not be estimated: no statistics of all its
	// columns, or no privilege to see them.
	Bloat *Bloat `json:"bloat"`
	// Options are the table's storage parameters: autovacuum_enabled=false.
	Options []string `json:"options"`
}

// Bytes is the table's whole size where it was measured, else the estimate.
func (t *Table) Bytes() int64 {
	if t.Exact {
		return t.TotalBytes
	}
	return t.EstimatedBytes
}

// KeylessTable is a table, or a whole partitioned table, that has no primary
// key.
type KeylessTable struct {
	Schema         string `json:"schema"`
	Name           string `json:"name"`
	EstimatedBytes int64  `json:"estimated_bytes"`
	EstimatedRows  int64  `json:"estimated_rows"`
	// PartitionKey is such as RANGE (taken_at), empty unless partitioned.
	PartitionKey string `json:"partition_key"`
	// Partitions counts the leaves below a partitioned table,
	// PartitionsWithout those that have no primary key of their own.
	Partitions        int `json:"partitions"`
	PartitionsWithout int `json:"partitions_without"`
	// UniqueIndex is a unique index over NOT NULL columns, which tells the
	// rows apart already, or empty. UniqueIndexUsable is true where ADD
	// PRIMARY KEY USING INDEX takes it.
	UniqueIndex       string `json:"unique_index"`
	UniqueIndexUsable bool   `json:"unique_index_usable"`
	// FreeColumn is a name for a key column that the table doesn't have yet,
	// empty where it takes none.
	FreeColumn string `json:"free_column"`
	// Published is true where a publication sends its rows to subscribers, and
	// InCode where triggers or functions of its rows may count its columns.
	Published bool `json:"published"`
	InCode    bool `json:"in_code"`
}

// Indexes is what the database's indexes look like.
type Indexes struct {
	// ForeignKeysWithoutIndex is bounded to the 200 on the largest tables;
	// ForeignKeysWithoutIndexTotal counts all.
	ForeignKeysWithoutIndex      []ForeignKey `json:"foreign_keys_without_index"`
	ForeignKeysWithoutIndexTotal int          `json:"foreign_keys_without_index_total"`

	// Total counts the indexes of the database and EstimatedBytes their sizes.
	Total          int   `json:"total"`
	EstimatedBytes int64 `json:"estimated_bytes"`
	// Largest is bounded to 20. Unused is bounded to the 50 largest that no
	// scan has used; UnusedTotal counts all.
	Largest     []Index `json:"largest"`
	Unused      []Index `json:"unused"`
	UnusedTotal int     `json:"unused_total"`
	// Invalid and Redundant are bounded to 50.
	Invalid   []Index     `json:"invalid"`
	Redundant []IndexPair `json:"redundant"`
	// InvalidPartitioned is bounded to 50.
	InvalidPartitioned []PartitionedIndex `json:"invalid_partitioned"`
}

// ForeignKey is a foreign key whose referencing columns no index supports. The
// keys of a partitioned table's partitions are one ForeignKey.
type ForeignKey struct {
	// Schema and Table name the referencing table, at the top of its
	// partition tree.
	Schema           string   `json:"schema"`
	Table            string   `json:"table"`
	Name             string   `json:"name"`
	Columns          []string `json:"columns"`
	ReferencedSchema string   `json:"referenced_schema"`
	ReferencedTable  string   `json:"referenced_table"`
	// EstimatedBytes and EstimatedRows are of the tables without the index.
	EstimatedBytes int64 `json:"estimated_bytes"`
	EstimatedRows  int64 `json:"estimated_rows"`
	// Partitioned is true where Table is a partitioned table, and OnParent
	// where the key is declared on it and not on its partitions one by one.
	Partitioned bool `json:"partitioned"`
	OnParent    bool `json:"on_parent"`
	// Partitions counts the leaves below the table that declares the key.
	Partitions int `json:"partitions"`
	// PartitionsWithout names the leaves that lack the index, bounded to the
	// 50 largest; PartitionsWithoutTotal counts all.
	PartitionsWithout      []Relation `json:"partitions_without"`
	PartitionsWithoutTotal int        `json:"partitions_without_total"`
}

// Relation names a relation.
type Relation struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// How bloat is known.
const (
	BloatByEstimate    = "estimate"
	BloatByPgstattuple = "pgstattuple"
)
