package reading

// The lists of a Reading that are bounded and that findings rest on, by their names in JSON.
const (
	ListIdleInTransaction       = "connections.idle_in_transaction"
	ListLongest                 = "connections.longest"
	ListLockWaits               = "locks.waiting"
	ListSequences               = "limits.sequences"
	ListPrepared                = "limits.prepared"
	ListHolders                 = "limits.holders"
	ListTables                  = "tables.items"
	ListWithoutPrimaryKey       = "tables.without_primary_key"
	ListForeignKeysWithoutIndex = "indexes.foreign_keys_without_index"
	ListLargestIndexes          = "indexes.largest"
	ListUnusedIndexes           = "indexes.unused"
	ListInvalidIndexes          = "indexes.invalid"
	ListInvalidPartitioned      = "indexes.invalid_partitioned"
	ListRedundantIndexes        = "indexes.redundant"
	ListStatements              = "statements.items"
)
