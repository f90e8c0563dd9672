package pgmedic

import "time"

// The format numbers that this version writes into manifests. A reader refuses a
// number that is higher than any it knows and reads every lower one; fields may be
// added without raising it, their meaning may not change.
const (
	// ManifestFormat is that of backups of a database.
	ManifestFormat = 1
	// PhysicalFormat is that of MethodPhysical: versions that know no such backups say
	// that they are too old for them.
	PhysicalFormat = 2
	// SQLFormat is that of physical backups whose files were read by SQL: see Physical.SQL.
	SQLFormat = 3
	// LatestFormat is the highest that this version reads.
	LatestFormat = SQLFormat
)

// Method names how a backup was taken and therefore how it is restored.
type Method string

// The methods.
const (
	// MethodPlain is one pg_dump SQL stream in one object, readable with
	// gunzip and psql alone.
	MethodPlain Method = "plain"
	// MethodParallel is the rows of ordinary tables in chunks, taken over
	// several connections in one snapshot, and everything else from pg_dump.
	MethodParallel Method = "parallel"
	// MethodPhysical is a base backup: the files of a whole cluster, from which WAL
	// recovers it.
	MethodPhysical Method = "physical"
)

// Purpose says why a backup exists.
type Purpose string

// The purposes of a backup.
const (
	// PurposeRegular is a backup that someone or a schedule asked for.
	PurposeRegular Purpose = "regular"
	// PurposeSafety is a backup of the live database that a restore took
	// before it swapped another one into its place.
	PurposeSafety Purpose = "safety"
)

// Backup is one backup as its manifest records it: what was taken, of which
// server and database, by which programs, and the objects that hold it. A
// Backup without a stored manifest does not exist.
type Backup struct {
	// Format is the manifest's format number: ManifestFormat or PhysicalFormat.
	Format int `json:"format"`
	// ID is unique and sorts by time: 20261122T020000Z-7f3a9c, in UTC.
	ID      string  `json:"id"`
	Method  Method  `json:"method"`
	Purpose Purpose `json:"purpose"`
	// StartedAt is when the run began, SnapshotAt the moment whose data the
	// backup holds, FinishedAt when the last object was stored. All in UTC.
	StartedAt  time.Time `json:"started_at"`
	SnapshotAt time.Time `json:"snapshot_at"`
	// SnapshotLSN is the end of the server's WAL when the snapshot was taken: it
	// orders backups of one server and timeline whatever the clocks say.
	SnapshotLSN string `json:"snapshot_lsn,omitempty"`
	// SnapshotTimeline is the timeline that the server wrote that WAL on. Zero is not
	// known: a standby's, or of a version that did not record it.
	SnapshotTimeline int64     `json:"snapshot_timeline,omitempty"`
	FinishedAt       time.Time `json:"finished_at"`
	Host             string    `json:"host"`
	Programs         Programs  `json:"programs"`
	Server           Server    `json:"server"`
	// Database is empty where Physical is not nil: the backup is of all databases.
	Database Database `json:"database"`
	// Physical is nil for all methods but MethodPhysical.
	Physical *Physical `json:"physical,omitempty"`
	// Scope is nil for a backup of the whole database.
	Scope  *Scope            `json:"scope,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Seal   Seal              `json:"seal"`
	// Objects are the stored objects that a restore needs, by name.
	Objects []Object `json:"objects"`
	// Tables lists what holds rows, with the number of rows that the backup
	// contains for each.
	Tables []Table `json:"tables"`
	// Chunks are the pieces of packs that hold rows, for MethodParallel.
	Chunks []Chunk `json:"chunks,omitempty"`
	Steps  []Step  `json:"steps"`
	// Load is what the backup asked of the server; nil in backups of versions
	// that did not measure it.
	Load *Load `json:"load,omitempty"`
	// Audit is the head of the host's audit log before the manifest was written; nil
	// where there was none.
	Audit *AuditAnchor `json:"audit,omitempty"`
}

// StoredBytes is the size of all objects as stored.
func (b *Backup) StoredBytes() int64 {
	var n int64
	for _, o := range b.Objects {
		n += o.StoredBytes
	}
	return n
}

// Rows is the number of rows that the backup holds in all tables.
func (b *Backup) Rows() int64 {
	var n int64
	for _, t := range b.Tables {
		n += t.Rows
	}
	return n
}

// Object returns the object with the given role.
func (b *Backup) Object(role ObjectRole) (Object, bool) {
	for _, o := range b.Objects {
		if o.Role == role {
			return o, true
		}
	}
	return Object{}, false
}

// RestObject returns the archive that has the data that no chunk holds.
func (b *Backup) RestObject() (Object, bool) {
	if o, ok := b.Object(RoleRest); ok {
		return o, true
	}
	return b.Object(RoleSchema)
}

// Programs are the versions of what took a backup.
type Programs struct {
	// Pgmedic is the version of pgmedic.
	Pgmedic string `json:"pgmedic"`
	// PgDump is pg_dump's own version, such as "15.18".
	PgDump string `json:"pg_dump,omitempty"`
}

// Server identifies a PostgreSQL server.
type Server struct {
	// Name is what backups of this server are filed under: the configured
	// name, else the system identifier.
	Name string `json:"name"`
	// SystemIdentifier is the number that initdb gave the cluster; a standby
	// shares it with its primary. Empty where it may not be read.
	SystemIdentifier string `json:"system_identifier,omitempty"`
	// Version is the server's version as it prints it, such as "15.18".
	Version string `json:"version"`
	// VersionNum is server_version_num, such as 150018.
	VersionNum int `json:"version_num"`
	// Standby is true while the server is in recovery.
	Standby bool `json:"standby"`
	// BootstrapRole is the role that initdb made, which owns the system
	// catalogue.
	BootstrapRole string `json:"bootstrap_role,omitempty"`
	// Settings are those of the server's configuration on which values that a
	// restore computes again can depend, such as TimeZone: what a database has that
	// sets none of its own.
	Settings []Setting `json:"settings,omitempty"`
}

// Major is the server's major version: 15 of 150018.
func (s Server) Major() int { return s.VersionNum / 10000 }

// Database is what a server knows of one database outside its rows, as needed
// to make it again elsewhere.
type Database struct {
	Name            string `json:"name"`
	Owner           string `json:"owner"`
	Encoding        string `json:"encoding"`
	Collate         string `json:"collate"`
	CType           string `json:"ctype"`
	LocaleProvider  string `json:"locale_provider"` // libc, icu or builtin
	ICULocale       string `json:"icu_locale,omitempty"`
	ICURules        string `json:"icu_rules,omitempty"`
	Tablespace      string `json:"tablespace"`
	Comment         string `json:"comment,omitempty"`
	ConnectionLimit int    `json:"connection_limit"`
	// SizeBytes is pg_database_size at the time of the backup.
	SizeBytes int64 `json:"size_bytes"`
	// DefaultACL is true where the server holds no access list of its own for
	// the database, so that the built-in default applies.
	DefaultACL  bool        `json:"default_acl"`
	ACL         []Grant     `json:"acl,omitempty"`
	Settings    []Setting   `json:"settings,omitempty"`
	Extensions  []Extension `json:"extensions,omitempty"`
	Roles       []Role      `json:"roles,omitempty"`
	Tablespaces []string    `json:"tablespaces,omitempty"`
	// SecurityLabels are those of the database itself.
	SecurityLabels []SecurityLabel `json:"security_labels,omitempty"`
	// LabelProviders are the providers of all security labels in the database, whose
	// libraries a server must have loaded to take them.
	LabelProviders []string `json:"label_providers,omitempty"`
}

// SecurityLabel is one SECURITY LABEL FOR provider … IS 'label'.
type SecurityLabel struct {
	Provider string `json:"provider"`
	Label    string `json:"label"`
}

// Grant is one privilege on a database.
type Grant struct {
	// Grantee is a role name, or empty for PUBLIC.
	Grantee   string `json:"grantee"`
	Privilege string `json:"privilege"` // CONNECT, CREATE or TEMPORARY
	Grantable bool   `json:"grantable"`
}

// Setting is one ALTER DATABASE … SET or ALTER ROLE … IN DATABASE … SET.
type Setting struct {
	// Role is empty for a setting of the database itself.
	Role  string `json:"role,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Extension is an installed extension.
type Extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

// Role is a role that objects of a database depend on.
type Role struct {
	Name      string `json:"name"`
	Superuser bool   `json:"superuser"`
}

// Table is a relation that holds rows.
type Table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// RootSchema and RootName name the topmost partitioned table above a
	// partition, and are empty elsewhere. Rows may rightly change leaf on the
	// way through a restore, so counts are compared by root.
	RootSchema string `json:"root_schema,omitempty"`
	RootName   string `json:"root_name,omitempty"`
	// Extension names the extension that owns the table, if one does. Its
	// rows are partly made by CREATE EXTENSION and are not compared.
	Extension string `json:"extension,omitempty"`
	// WithoutRows is true where a partial backup holds the table's definition
	// and none of its rows.
	WithoutRows bool `json:"without_rows,omitempty"`
	// Rows is how many rows the backup holds for the table.
	Rows int64 `json:"rows"`
	// SizeBytes is the heap and TOAST size at the time of the backup.
	SizeBytes int64 `json:"size_bytes"`
	// Format is how the chunks hold the rows; empty where the rows are in
	// pg_dump's own part of the backup.
	Format CopyFormat `json:"format,omitempty"`
	// Columns are those that the chunks hold, in their order. A table may have
	// none.
	Columns []Column `json:"columns,omitempty"`
}

// CopyFormat is a format of PostgreSQL's COPY.
type CopyFormat string

// The formats of COPY in use.
const (
	CopyText   CopyFormat = "text"
	CopyBinary CopyFormat = "binary"
)

// Column is one column of a table.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"` // as format_type prints it
}

// Seal says how the bytes of a backup were transformed on their way out.
type Seal struct {
	Compression string `json:"compression"` // gzip, zstd or none
	Encryption  string `json:"encryption"`  // age, aes-256-cbc or none
}

// ObjectRole says what a stored object is for.
type ObjectRole string

// The roles of stored objects.
const (
	// RoleDump is the plain method's SQL stream.
	RoleDump ObjectRole = "dump"
	// RoleSchema is pg_dump's archive of all definitions, and where there is no
	// RoleRest, of the data that no chunk holds.
	RoleSchema ObjectRole = "schema"
	// RoleRest is pg_dump's archive of the data that no chunk holds: sequence
	// values, large objects, rows of tables that were not taken over. Where it is
	// little it is in RoleSchema's archive, so that pg_dump runs once.
	RoleRest ObjectRole = "rest"
	// RoleFiles is the list of a physical backup's files, and where in the packs each is.
	RoleFiles ObjectRole = "files"
	// RoleServerManifest is PostgreSQL's own manifest of a base backup, as it was sent.
	RoleServerManifest ObjectRole = "server_manifest"
	// RoleSettings is what was configured on the server of a physical backup outside of
	// the data directory.
	RoleSettings ObjectRole = "settings"
	// RolePack holds chunks, end to end. It is not one sealed stream: its
	// hash is of the whole, for who can't open the chunks.
	RolePack ObjectRole = "pack"
	// RoleGlobals is the SQL of roles and tablespaces.
	RoleGlobals ObjectRole = "globals"
	// RoleInventory is the list of the database's objects with the hash of
	// each definition, by which a restored copy is compared.
	RoleInventory ObjectRole = "inventory"
	// RoleSums is the sums of the database's values, by which a restored copy is
	// compared row by row. Backups of versions that recorded none have none.
	RoleSums ObjectRole = "sums"
	// RoleRecovery is plain text, not sealed, that says how to restore the
	// backup without pgmedic, or does it.
	RoleRecovery ObjectRole = "recovery"
)

// Object is one stored object of a backup.
type Object struct {
	// Name is the object's name within the backup's folder.
	Name string     `json:"name"`
	Role ObjectRole `json:"role"`
	// StoredBytes and SHA256 (lower-case hex) are of the bytes as stored.
	StoredBytes int64  `json:"stored_bytes"`
	SHA256      string `json:"sha256"`
	// PlainBytes is the size before compression.
	PlainBytes int64 `json:"plain_bytes"`
	// HMAC authenticates the stored bytes of a backup encrypted with
	// aes-256-cbc, which itself authenticates nothing: the salt of its key and
	// the code, in hex, with a colon between them.
	HMAC string `json:"hmac,omitempty"`
}

// Step is one measured part of a run.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}
