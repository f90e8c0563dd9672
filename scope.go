package pgmedic

// Scope is what a partial backup was asked to hold, as patterns of tables and
// schemas, and what follows from that. The definitions of everything that is no
// table are in every backup.
type Scope struct {
	// Tables and Schemas took in; without either all were in.
	Tables  []string `json:"tables,omitempty"`
	Schemas []string `json:"schemas,omitempty"`
	// ExcludeTables and ExcludeSchemas left out.
	ExcludeTables  []string `json:"exclude_tables,omitempty"`
	ExcludeSchemas []string `json:"exclude_schemas,omitempty"`
	// ExcludeTableData left rows out, and kept definitions.
	ExcludeTableData []string `json:"exclude_table_data,omitempty"`
	// WithoutLargeObjects is true where large objects were left out.
	WithoutLargeObjects bool `json:"without_large_objects,omitempty"`
	// LeftOutForeignKeys refer to rows that the backup does not hold. A restore
	// leaves them out.
	LeftOutForeignKeys []ForeignKey `json:"left_out_foreign_keys,omitempty"`
}

// ForeignKey is a foreign key constraint.
type ForeignKey struct {
	Schema   string `json:"schema"`
	Table    string `json:"table"`
	Name     string `json:"name"`
	ToSchema string `json:"to_schema"`
	ToTable  string `json:"to_table"`
	// OID is the constraint's own in the database that was backed up, by which
	// pg_dump's archive knows it.
	OID int64 `json:"oid"`
}

// Partial reports whether the backup holds less than the whole database.
func (b *Backup) Partial() bool { return b.Scope != nil }
