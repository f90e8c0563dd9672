// Package config turns flags, environment, a .env file, a pgmedic.yaml and
// defaults into one checked Config that knows where each value came from.
//
// Every setting is one field of Config; its tags carry the key in the file,
// the environment name, the default, the rules and the sentence that documents
// it. Errors name the place and the key and never quote a value, because a
// secret may have been written on the wrong line.
package config

import "time"

// Config is the checked configuration of one run. Paths are absolute, secrets
// are resolved. Load makes it; the zero Config is not usable.
//
// Tags: yaml is the key within its section; env the environment name; default
// the default as text; libpq the variables of PostgreSQL's client library that
// come before the default; secret, path and rule say how a value is read; enum,
// min and max what it may be; doc what it is.
type Config struct {
	Server       string       `yaml:"server" env:"PGMEDIC_SERVER" rule:"name" doc:"Name under which this server's backups are filed. Empty: the server's own system identifier."`
	Database     Database     `yaml:"database" doc:"The database. A URL goes over host, port, name, user and password."`
	Postgres     Postgres     `yaml:"postgres" doc:"PostgreSQL's own programs on this machine."`
	Backup       Backup       `yaml:"backup" doc:"Backups."`
	Retention    Retention    `yaml:"retention" doc:"How long backups are kept. pgmedic prune shows what would go and why, and deletes with --yes; docs/retention.md has more. Lengths are written 36h, 30d, 12w, 6mo, 1y."`
	CloudStorage CloudStorage `yaml:"cloud_storage" doc:"A copy of each backup in a bucket, by the names that existing deployments have. copies: can say more."`
	Restore      Restore      `yaml:"restore" doc:"Restores that replace a live database."`
	Drill        Drill        `yaml:"drill" doc:"Drills, which prove backups by restoring them into a throwaway server."`
	Report       Report       `yaml:"report" doc:"Reports on the server's health."`
	Log          Log          `yaml:"log" doc:"Logs, which go to standard error unless a file is named."`

	// Copies are the further stores that each backup is copied to: those of the
	// file's list, and the one that CloudStorage asks for. The store itself is
	// never among them.
	Copies []Copy `yaml:"-"`
	// Warnings are sentences about things that are probably not meant and
	// that Load let pass. They hold no secrets.
	Warnings []string `yaml:"-"`
	// File and EnvFile are the paths of the files that were read, or empty.
	File    string `yaml:"-"`
	EnvFile string `yaml:"-"`

	origins map[string]Origin
	libpq   map[string]string // the values shown for settings left to libpq
	asked   []request         // what is asked for and not in this version
	stores  []StoreOf
	// poolNames are those that are set and that only the pool has a use for.
	poolNames []string
}

// Database says how to reach the database. Use Config.Connection, which knows
// what goes over what, rather than these fields.
type Database struct {
	URL                 Secret        `yaml:"url" env:"DATABASE_URL" secret:"true" rule:"url" doc:"Connection URL; Prisma's parameters are understood."`
	DirectURL           Secret        `yaml:"direct_url" env:"DIRECT_URL" secret:"true" rule:"url" doc:"Connection URL that goes around a pooler; used instead of url when set."`
	Host                string        `yaml:"host" env:"DB_HOST" default:"localhost" libpq:"PGHOST,PGHOSTADDR,PGSERVICE" doc:"Host name, address or socket folder."`
	Port                int           `yaml:"port" env:"DB_PORT" default:"5432" min:"1" max:"65535" libpq:"PGPORT,PGSERVICE" doc:"Port."`
	Name                string        `yaml:"name" env:"DB_NAME" libpq:"PGDATABASE,PGSERVICE" doc:"Database."`
	User                string        `yaml:"user" env:"DB_USER" libpq:"PGUSER,PGSERVICE" doc:"Role to connect as."`
	Password            Secret        `yaml:"password" env:"DB_PASSWORD" secret:"true" libpq:"PGPASSWORD,PGPASSFILE,PGSERVICE" doc:"Password, or file:/path or env:NAME to read it from; ~/.pgpass works too."`
	ReadReplicaURL      Secret        `yaml:"read_replica_url" env:"DB_READ_REPLICA_URL" secret:"true" doc:"Connection URLs of standbys, separated by commas or spaces. A swap ends the sessions there that would go on reading the old database, and a report asks which indexes they use."`
	ConnectTimeout      time.Duration `yaml:"connect_timeout" env:"DB_CONNECT_TIMEOUT" default:"5s" libpq:"PGCONNECT_TIMEOUT" doc:"Longest wait for a connection, as 5s or a number of seconds; 0 waits for ever."`
	MaintenanceDatabase string        `yaml:"maintenance_database" env:"PGMEDIC_MAINTENANCE_DB" default:"postgres" doc:"Database to connect to for creating, renaming and dropping others."`
}

// Postgres says where PostgreSQL's programs are.
type Postgres struct {
	BinDirs []string `yaml:"bin_dirs" env:"PGMEDIC_POSTGRES_DIRS" path:"true" doc:"Folders searched first for client programs and servers. In the environment separated as in PATH."`
}

// Backup says how backups are taken and where they go.
type Backup struct {
	Dir              string            `yaml:"dir" env:"BACKUP_DIR" default:"./infrastructure/backups/database" path:"true" doc:"Folder that backups are written to, where store is empty."`
	Store            string            `yaml:"store" env:"PGMEDIC_STORE" rule:"store" doc:"Where backups are instead of dir: s3://bucket/prefix, or a folder."`
	AllDatabases     bool              `yaml:"all_databases" env:"PGMEDIC_ALL_DATABASES" default:"false" doc:"true backs up every database of the server where none is named: each by itself, templates and what restores set aside left out."`
	Method           string            `yaml:"method" env:"BACKUP_METHOD" default:"parallel" enum:"plain,parallel" doc:"How backups are taken: parallel copies rows over several connections; plain is one SQL dump, and what encryption aes-256-cbc means where no method is set."`
	Jobs             int               `yaml:"jobs" env:"PGMEDIC_JOBS" default:"0" min:"0" max:"256" doc:"Connections that a parallel backup or restore uses for rows; 0 is one for each processor."`
	Compression      string            `yaml:"compression" env:"BACKUP_COMPRESSION" default:"zstd" enum:"gzip,zstd,none" doc:"gzip, zstd or none. Plain backups have gzip where none is set."`
	Encryption       string            `yaml:"encryption" env:"BACKUP_ENCRYPTION" default:"age" enum:"age,aes-256-cbc,none" doc:"age encrypts to recipients and encryption_key, where one is set; none stores backups as they are; aes-256-cbc encrypts plain backups with encryption_key as openssl does."`
	Recipients       []string          `yaml:"recipients" env:"BACKUP_RECIPIENTS" rule:"words" doc:"age public keys that open the backups. A host that has only these can back up and can't read. In the environment separated by commas."`
	EncryptionKey    Secret            `yaml:"encryption_key" env:"BACKUP_ENCRYPTION_KEY" secret:"true" doc:"Passphrase that opens the backups. The host that has it can read them."`
	IdentityFiles    []string          `yaml:"identity_files" env:"PGMEDIC_IDENTITY_FILES" path:"true" doc:"Files of age secret keys, on a host that reads backups. In the environment separated as in PATH."`
	AllowUnencrypted bool              `yaml:"allow_unencrypted" env:"PGMEDIC_ALLOW_UNENCRYPTED" default:"false" doc:"true uses backups that are not encrypted on a host that has recipients, encryption_key or identity_files; else they are refused, because anyone who can write to the store can write such a backup."`
	Tables           []string          `yaml:"tables" rule:"patterns" doc:"Patterns of the tables to back up, as pg_dump takes them; the backups are partial then."`
	ExcludeTables    []string          `yaml:"exclude_tables" rule:"patterns" doc:"Patterns of tables to leave out."`
	Schemas          []string          `yaml:"schemas" rule:"patterns" doc:"Patterns of the schemas whose tables to back up."`
	ExcludeSchemas   []string          `yaml:"exclude_schemas" rule:"patterns" doc:"Patterns of schemas whose tables to leave out."`
	ExcludeTableData []string          `yaml:"exclude_table_data" rule:"patterns" doc:"Patterns of tables of which the definition is backed up and no row."`
	LockTimeout      time.Duration     `yaml:"lock_timeout" env:"PGMEDIC_LOCK_TIMEOUT" default:"30s" doc:"Longest wait for a lock on a table."`
	MaxDuration      time.Duration     `yaml:"max_duration" env:"PGMEDIC_MAX_DURATION" default:"0s" doc:"Ends a backup that takes longer; 0 is no limit."`
	Labels           map[string]string `yaml:"labels" doc:"Labels that every backup gets, such as env: production."`
	S3               S3                `yaml:"s3" doc:"How the store is reached where it is s3://…. Credentials come from where the AWS SDK looks for them; docs/stores.md has more."`
}

// S3 says how a bucket is reached and how objects are written to it.
type S3 struct {
	Region               string `yaml:"region" doc:"Region of the bucket. Empty: AWS_REGION, or the profile's."`
	Endpoint             string `yaml:"endpoint" env:"PGMEDIC_S3_ENDPOINT" doc:"URL of a server other than Amazon's, without credentials."`
	PathStyle            bool   `yaml:"path_style" env:"PGMEDIC_S3_PATH_STYLE" default:"false" doc:"true where the server has no host names for buckets."`
	CAFile               string `yaml:"ca_file" env:"PGMEDIC_S3_CA_FILE" path:"true" doc:"PEM certificates to trust beside the system's."`
	StorageClass         string `yaml:"storage_class" env:"PGMEDIC_S3_STORAGE_CLASS" doc:"Storage class of new objects, such as STANDARD_IA. Empty: the bucket's."`
	ServerSideEncryption string `yaml:"server_side_encryption" env:"PGMEDIC_S3_SSE" default:"default" enum:"default,aes256,aws:kms" doc:"Encryption by the server, beside pgmedic's own: AES256, aws:kms, or the bucket's default."`
	KMSKeyID             string `yaml:"kms_key_id" env:"PGMEDIC_S3_KMS_KEY_ID" doc:"Key of aws:kms. Empty: the account's."`
	PartSizeMiB          int    `yaml:"part_size_mib" env:"PGMEDIC_S3_PART_SIZE_MIB" default:"8" min:"5" max:"256" doc:"How large the parts of an upload begin. An object may have 137,000 times as much."`
	Concurrency          int    `yaml:"concurrency" env:"PGMEDIC_S3_CONCURRENCY" default:"2" min:"1" max:"64" doc:"Parts of one upload that are sent at once. Each writer holds one more in memory."`
}

// Restore says what becomes of what a restore replaced.
type Restore struct {
	KeepDisplaced time.Duration `yaml:"keep_displaced" env:"PGMEDIC_KEEP_DISPLACED" default:"7d" doc:"How long pgmedic prune leaves a database alone that a swap or a rollback set aside, such as 7d."`
}

// Drill says how drills run.
type Drill struct {
	ScratchDir       string        `yaml:"scratch_dir" env:"PGMEDIC_SCRATCH_DIR" path:"true" doc:"Folder for throwaway servers. Empty: the system's folder for temporary files."`
	ScratchURL       Secret        `yaml:"scratch_url" env:"PGMEDIC_SCRATCH_URL" secret:"true" rule:"url" doc:"Connection URL of a server to drill on, in a temporary database. Empty: a throwaway server on this machine."`
	PreloadLibraries []string      `yaml:"preload_libraries" env:"PGMEDIC_DRILL_PRELOAD" rule:"words" doc:"Libraries that throwaway servers preload, for extensions that can't be made without. In the environment separated by commas."`
	Amcheck          bool          `yaml:"amcheck" env:"PGMEDIC_DRILL_AMCHECK" default:"true" doc:"Whether drills read every index and table with amcheck."`
	AssertionTimeout time.Duration `yaml:"assertion_timeout" env:"PGMEDIC_ASSERTION_TIMEOUT" default:"5m" doc:"Longest that one assertion may take; 0 is no limit."`
	Assertions       []Assertion   `yaml:"assertions" doc:"Questions that a restored copy must answer rightly, each with name and sql, and expect, min or max; docs/drills.md has an example."`
}

// Report says where reports go and what counts as bad.
type Report struct {
	Dir string `yaml:"dir" env:"PGMEDIC_REPORT_DIR" default:"./infrastructure/monitoring/database/reports" path:"true" doc:"Folder that reports are written to."`
	// History is an absolute path, empty for the usual place, or off.
	History    string     `yaml:"history" env:"PGMEDIC_REPORT_HISTORY" rule:"path or off" doc:"File that reports keep what they read in, for trends; off keeps nothing. Empty: pgmedic/history.sqlite in XDG_STATE_HOME, else in ~/.local/state."`
	Thresholds Thresholds `yaml:"thresholds" doc:"When a number becomes a warning or critical."`
	// ServerMemoryMB is zero where nobody stated it.
	ServerMemoryMB int `yaml:"server_memory_mb" env:"PGMEDIC_SERVER_MEMORY_MB" default:"0" min:"0" max:"1000000000" doc:"Memory of the server's machine in MB, for advice on memory settings. 0: read where the server is on this machine, else not known."`
	// ServerDiskMB is zero where nobody stated it.
	ServerDiskMB int    `yaml:"server_disk_mb" env:"PGMEDIC_SERVER_DISK_MB" default:"0" min:"0" max:"1000000000" doc:"Size in MB of the disk that holds the data, for advice and forecasts. What databases and WAL don't take counts as free. 0: read where the server is on this machine, else not known."`
	Mute         []Mute `yaml:"mute" doc:"Findings to silence for a time, each with finding, reason and until, and object where it is about one only; docs/monitoring.md has an example."`
}

// Thresholds are the limits of the report. Percentages are 0 to 100.
type Thresholds struct {
	ConnectionsWarnPercent     float64       `yaml:"connections_warn_percent" default:"80" min:"0" max:"100" doc:"Share of max_connections in use that is a warning."`
	ConnectionsCriticalPercent float64       `yaml:"connections_critical_percent" default:"90" min:"0" max:"100" doc:"Share of max_connections in use that is critical."`
	DeadTuplesWarnPercent      float64       `yaml:"dead_tuples_warn_percent" default:"10" min:"0" max:"100" doc:"Share of dead rows in a table that is a warning."`
	CacheHitWarnPercent        float64       `yaml:"cache_hit_warn_percent" default:"99" min:"0" max:"100" doc:"Cache hit ratio below which there is a warning."`
	CacheHitCriticalPercent    float64       `yaml:"cache_hit_critical_percent" default:"95" min:"0" max:"100" doc:"Cache hit ratio below which it is critical."`
	BackupAgeWarn              time.Duration `yaml:"backup_age_warn" default:"26h" doc:"Age of the newest backup that is a warning."`
	ProvenAgeWarn              time.Duration `yaml:"proven_age_warn" default:"8d" doc:"Age of the newest proven backup that is a warning."`
	IdleInTransactionWarn      time.Duration `yaml:"idle_in_transaction_warn" default:"5m" doc:"Time that a transaction may sit idle before it is a warning."`
	LongTransactionWarn        time.Duration `yaml:"long_transaction_warn" default:"1h" doc:"Time that a transaction may work before it is a warning."`
	LockWaitWarn               time.Duration `yaml:"lock_wait_warn" default:"10s" doc:"Time that a session may wait for a lock before it is a warning."`
	LockWaitCritical           time.Duration `yaml:"lock_wait_critical" default:"1m" doc:"Time that a session may wait for a lock before it is critical."`
	ReplicationLagWarn         time.Duration `yaml:"replication_lag_warn" default:"1m" doc:"Time that a standby may be behind before it is a warning."`
	ReplicationLagCritical     time.Duration `yaml:"replication_lag_critical" default:"10m" doc:"Time that a standby may be behind before it is critical."`
	LimitInfoPercent           float64       `yaml:"limit_info_percent" default:"40" min:"0" max:"100" doc:"Share of transaction numbers, or of a sequence, used up that is noted."`
	LimitWarnPercent           float64       `yaml:"limit_warn_percent" default:"60" min:"0" max:"100" doc:"The same that is a warning."`
	LimitCriticalPercent       float64       `yaml:"limit_critical_percent" default:"80" min:"0" max:"100" doc:"The same that is critical."`
	BloatWarnPercent           float64       `yaml:"bloat_warn_percent" default:"50" min:"0" max:"100" doc:"Share of a table's or an index's file that may be empty."`
	SlowStatementWarn          time.Duration `yaml:"slow_statement_warn" default:"1s" doc:"Mean time that a statement may take."`
	StatementShareWarnPercent  float64       `yaml:"statement_share_warn_percent" default:"20" min:"0" max:"100" doc:"Share of the time of all statements that one may take."`
	RollbackWarnPercent        float64       `yaml:"rollback_warn_percent" default:"5" min:"0" max:"100" doc:"Share of transactions that may be rolled back."`
	UnusedIndexAge             time.Duration `yaml:"unused_index_age" default:"7d" doc:"Time that an index must be known to be unused before it may be dropped."`
	DiskWarnPercent            float64       `yaml:"disk_warn_percent" default:"85" min:"0" max:"100" doc:"Share of the data's disk in use that is a warning."`
	DiskCriticalPercent        float64       `yaml:"disk_critical_percent" default:"95" min:"0" max:"100" doc:"Share of the data's disk in use that is critical."`
	DiskFullWarn               time.Duration `yaml:"disk_full_warn" default:"14d" doc:"Time until that disk is full, at the present pace, that is a warning."`
	DiskFullCritical           time.Duration `yaml:"disk_full_critical" default:"3d" doc:"The same that is critical."`
}

// Log says what is logged, how and where.
type Log struct {
	Level  string `yaml:"level" env:"PGMEDIC_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" doc:"debug, info, warn or error."`
	Format string `yaml:"format" env:"PGMEDIC_LOG_FORMAT" default:"text" enum:"text,json" doc:"text or json. At a terminal json from the file counts as text."`
	File   string `yaml:"file" env:"PGMEDIC_LOG_FILE" path:"true" doc:"File to log to. Empty: standard error."`
}
