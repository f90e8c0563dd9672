// Package config turns flags, environment, a .env file, a pgmedic.yaml and
// defaults into one checked Config that knows where each value came from.
//
// Every setting is one field of Config; its tags carry the key in the file,
// the environment name, the default, the rules and the sentence that documents
// it. Errors name the place and the key and never quote a value, because a
// secret may have been written on the wrong line.
package config

import (
	"time"

	"github.com/pgmedic/pgmedic/internal/schedule"
)

// Config is the checked configuration of one run. Paths are absolute, secrets
// are resolved. Load makes it; the zero Config is not usable.
//
// Tags: yaml is the key within its section; env the environment name; default
// the default as text; libpq the variables of PostgreSQL's client library that
// come before the default; secret, path and rule say how a value is read; enum,
// min and max what it may be; doc what it is.
type Config struct {
	Server        string        `yaml:"server" env:"PGMEDIC_SERVER" rule:"name" doc:"Name under which this server's backups are filed. Empty: the server's own system identifier."`
	Database      Database      `yaml:"database" doc:"The database. A URL overrides host, port, name, user and password."`
	Postgres      Postgres      `yaml:"postgres" doc:"PostgreSQL's programs on this machine."`
	Backup        Backup        `yaml:"backup" doc:"Backups."`
	WAL           WAL           `yaml:"wal" doc:"Continuous storing of WAL, for point-in-time recovery; docs/point-in-time.md has the steps."`
	Retention     Retention     `yaml:"retention" doc:"How long backups are kept. pgmedic prune shows what would go and why, and deletes with --yes; docs/retention.md has more. Lengths are written 36h, 30d, 12w, 6mo, 1y."`
	CloudStorage  CloudStorage  `yaml:"cloud_storage" doc:"A copy of each backup in a bucket, set with the names that existing deployments use. copies: has more options."`
	Restore       Restore       `yaml:"restore" doc:"Restores that replace a live database."`
	Drill         Drill         `yaml:"drill" doc:"Drills, which prove backups by restoring them into a throwaway server."`
	Report        Report        `yaml:"report" doc:"Reports on the server's health."`
	Notifications Notifications `yaml:"notifications" doc:"Messages about how jobs ended, by e-mail, chat and webhooks; docs/notifications.md has channels and routes."`
	Pings         Pings         `yaml:"pings" doc:"A dead man's switch: a service that raises the alarm if these pings stay away."`
	Audit         Audit         `yaml:"audit" doc:"The audit log, which records who did what; docs/audit.md has more."`
	Log           Log           `yaml:"log" doc:"Logs, which go to standard error unless a file is named."`

	// Copies are the further stores that each backup is copied to: those of the
	// file's list, and the one that CloudStorage asks for. The store itself is
	// never among them.
	Copies []Copy `yaml:"-"`
	// Schedules are those of the file. pgmedic starts nothing by itself.
	Schedules []schedule.Entry `yaml:"-"`
	// Warnings are sentences about things that are probably not meant and
	// that Load let pass. They hold no secrets.
	Warnings []string `yaml:"-"`
	// File and EnvFile are the paths of the files that were read, or empty.
	File    string `yaml:"-"`
	EnvFile string `yaml:"-"`

	origins map[string]Origin
	// folders are those that relative paths in a value start from, by key.
	folders map[string]string
	// references are where secrets are kept, by key.
	references map[string]Reference
	// credentials are those of them that systemd hands to a service, and others that are
	// followed later.
	credentials []Credential
	// environment returns a variable of the process, else of the .env file.
	environment func(name string) string
	libpq       map[string]string // the values shown for settings left to libpq
	stores      []StoreOf
	// scheduleOrigins are those of Schedules.
	scheduleOrigins []Origin
	// poolNames are those that are set and that only the pool has a use for.
	poolNames []string
}

// Database says how to reach the database. Use Config.Connection, which knows
// what overrides what, rather than these fields.
type Database struct {
	URL                 Secret        `yaml:"url" env:"DATABASE_URL" secret:"true" rule:"url" doc:"Connection URL; Prisma's parameters are understood."`
	DirectURL           Secret        `yaml:"direct_url" env:"DIRECT_URL" secret:"true" rule:"url" doc:"Connection URL that bypasses a pooler; used instead of url when set."`
	Host                string        `yaml:"host" env:"DB_HOST" default:"localhost" libpq:"PGHOST,PGHOSTADDR,PGSERVICE" doc:"Host name, address or socket folder."`
	Port                int           `yaml:"port" env:"DB_PORT" default:"5432" min:"1" max:"65535" libpq:"PGPORT,PGSERVICE" doc:"Port."`
	Name                string        `yaml:"name" env:"DB_NAME" libpq:"PGDATABASE,PGSERVICE" doc:"Database."`
	User                string        `yaml:"user" env:"DB_USER" libpq:"PGUSER,PGSERVICE" doc:"Role to connect as."`
	Password            Secret        `yaml:"password" env:"DB_PASSWORD" secret:"true" libpq:"PGPASSWORD,PGPASSFILE,PGSERVICE" doc:"Password, or file:/path or env:NAME to read it from; ~/.pgpass works too."`
	ReadReplicaURL      Secret        `yaml:"read_replica_url" env:"DB_READ_REPLICA_URL" secret:"true" doc:"Connection URLs of standbys, separated by commas or spaces. A swap ends the sessions there that still read the old database, and a report reads which indexes the standbys use."`
	ConnectTimeout      time.Duration `yaml:"connect_timeout" env:"DB_CONNECT_TIMEOUT" default:"5s" libpq:"PGCONNECT_TIMEOUT" doc:"Longest wait for a connection, as 5s or a number of seconds; 0 waits forever."`
	MaintenanceDatabase string        `yaml:"maintenance_database" env:"PGMEDIC_MAINTENANCE_DB" default:"postgres" doc:"Database to connect to when creating, renaming and dropping others."`
}

// Postgres says where PostgreSQL's programs are.
type Postgres struct {
	BinDirs []string `yaml:"bin_dirs" env:"PGMEDIC_POSTGRES_DIRS" path:"true" doc:"Folders searched first for client programs and servers. In the environment, separate them as in PATH."`
}

// Backup says how backups are taken and where they go.
type Backup struct {
	Dir              string            `yaml:"dir" env:"BACKUP_DIR" default:"./infrastructure/backups/database" path:"true" doc:"Folder that backups are written to if store is empty."`
	Store            string            `yaml:"store" env:"PGMEDIC_STORE" rule:"store" doc:"Where backups are stored, instead of dir: s3://bucket/prefix, azblob://container/prefix, gs://bucket/prefix, sftp://user@host/path, or a folder."`
	AllDatabases     bool              `yaml:"all_databases" env:"PGMEDIC_ALL_DATABASES" default:"false" doc:"true backs up every database of the server if none is named, each into its own backup, except templates and databases that restores set aside."`
	Method           string            `yaml:"method" env:"BACKUP_METHOD" default:"parallel" enum:"plain,parallel,physical" doc:"parallel copies rows over several connections; plain is one SQL dump; physical is a base backup of the whole server. With encryption aes-256-cbc the default is plain."`
	Reader           string            `yaml:"reader" env:"PGMEDIC_READER" default:"stream" enum:"stream,sql" doc:"How a physical backup reads the cluster: stream, as the server sends a base backup, or sql, by functions that the role must be granted, over as many connections as jobs says."`
	Jobs             int               `yaml:"jobs" env:"PGMEDIC_JOBS" default:"0" min:"0" max:"256" doc:"Connections that a parallel backup or restore uses for rows; 0 means one for each processor."`
	Compression      string            `yaml:"compression" env:"BACKUP_COMPRESSION" default:"zstd" enum:"gzip,zstd,none" doc:"gzip, zstd or none. The default for plain backups is gzip."`
	Encryption       string            `yaml:"encryption" env:"BACKUP_ENCRYPTION" default:"age" enum:"age,aes-256-cbc,none" doc:"age encrypts to recipients and encryption_key, if any is set; none stores backups unencrypted; aes-256-cbc encrypts plain backups with encryption_key as openssl does."`
	Recipients       []string          `yaml:"recipients" env:"BACKUP_RECIPIENTS" rule:"words" doc:"age public keys that open the backups. A host that has only these can back up but cannot read backups. In the environment, separate them with commas."`
	EncryptionKey    Secret            `yaml:"encryption_key" env:"BACKUP_ENCRYPTION_KEY" secret:"true" doc:"Passphrase that opens the backups. Any host that has it can read them."`
	IdentityFiles    []string          `yaml:"identity_files" env:"PGMEDIC_IDENTITY_FILES" path:"true" doc:"Files of age secret keys, on a host that reads backups. In the environment, separate them as in PATH."`
	AllowUnencrypted bool              `yaml:"allow_unencrypted" env:"PGMEDIC_ALLOW_UNENCRYPTED" default:"false" doc:"true accepts unencrypted backups on a host that has recipients, encryption_key or identity_files. By default they are refused there, because anyone who can write to the store can create such a backup."`
	SigningKey       string            `yaml:"signing_key" env:"PGMEDIC_SIGNING_KEY" rule:"signing key" doc:"Key that signs each backup's manifest: the file of a secret key of minisign, without a passphrase, which pgmedic keys new --signing makes; or one that stays in a KMS, as aws-kms://region/KEY, gcp-kms://project/location/ring/key/version or vault-transit://mount/key."`
	TrustedSigners   []string          `yaml:"trusted_signers" env:"PGMEDIC_TRUSTED_SIGNERS" rule:"signers" doc:"Public keys of minisign, or files of them. A host that has any refuses backups that none of them signed. In the environment, separate them with commas."`
	AllowUnsigned    bool              `yaml:"allow_unsigned" env:"PGMEDIC_ALLOW_UNSIGNED" default:"false" doc:"true accepts backups that none of trusted_signers signed, such as those from before signing was configured."`
	Tables           []string          `yaml:"tables" rule:"patterns" doc:"Patterns of the tables to back up, as in pg_dump; the backups are then partial."`
	ExcludeTables    []string          `yaml:"exclude_tables" rule:"patterns" doc:"Patterns of tables to leave out."`
	Schemas          []string          `yaml:"schemas" rule:"patterns" doc:"Patterns of the schemas whose tables to back up."`
	ExcludeSchemas   []string          `yaml:"exclude_schemas" rule:"patterns" doc:"Patterns of schemas whose tables to leave out."`
	ExcludeTableData []string          `yaml:"exclude_table_data" rule:"patterns" doc:"Patterns of tables whose definition is backed up, but not their rows."`
	LockTimeout      time.Duration     `yaml:"lock_timeout" env:"PGMEDIC_LOCK_TIMEOUT" default:"30s" doc:"Longest wait for a lock on a table."`
	MaxDuration      time.Duration     `yaml:"max_duration" env:"PGMEDIC_MAX_DURATION" default:"0s" doc:"Stop a backup that takes longer; 0 means no limit."`
	Labels           map[string]string `yaml:"labels" doc:"Labels for every backup, such as env: production."`
	ObjectLock       string            `yaml:"object_lock" env:"PGMEDIC_OBJECT_LOCK" default:"off" enum:"off,governance,compliance" doc:"Lock the objects of new backups for as long as retention keeps them for certain, in a bucket that can: with governance, a principal with a permission for that can delete them all the same; with compliance, no one can. A store that cannot lock is refused."`
	Access
}

// Access says how stores that are not folders here are reached.
type Access struct {
	S3    S3    `yaml:"s3" doc:"Access to an s3://… store. The AWS SDK finds the credentials; see docs/stores.md."`
	Azure Azure `yaml:"azure" doc:"Access to an azblob://… store, at Azure Blob Storage. Without connection_string, key and sas_token, Azure's SDK finds an identity; see docs/stores.md."`
	GCS   GCS   `yaml:"gcs" doc:"Access to a gs://… store, at Google Cloud Storage; see docs/stores.md."`
	SFTP  SFTP  `yaml:"sftp" doc:"Access to an sftp://… store."`

	// late are the secrets that are kept by a manager: see Read.
	late []lateSecret
	// kept are those and the ones in files: see Again.
	kept []lateSecret
}

// S3 says how a bucket is reached and how objects are written to it.
type S3 struct {
	Region               string `yaml:"region" doc:"Region of the bucket. Empty: AWS_REGION, or the profile's."`
	Endpoint             string `yaml:"endpoint" env:"PGMEDIC_S3_ENDPOINT" doc:"URL of a server other than Amazon's, without credentials."`
	PathStyle            bool   `yaml:"path_style" env:"PGMEDIC_S3_PATH_STYLE" default:"false" doc:"true if the server has no host names for buckets."`
	CAFile               string `yaml:"ca_file" env:"PGMEDIC_S3_CA_FILE" path:"true" doc:"File of PEM certificates to trust, besides the system's."`
	StorageClass         string `yaml:"storage_class" env:"PGMEDIC_S3_STORAGE_CLASS" doc:"Storage class of new objects, such as STANDARD_IA. Empty: the bucket's."`
	ServerSideEncryption string `yaml:"server_side_encryption" env:"PGMEDIC_S3_SSE" default:"default" enum:"default,aes256,aws:kms" doc:"Encryption by the server, in addition to pgmedic's own: AES256, aws:kms, or the bucket's default."`
	KMSKeyID             string `yaml:"kms_key_id" env:"PGMEDIC_S3_KMS_KEY_ID" doc:"Key for aws:kms. Empty: the account's."`
	PartSizeMiB          int    `yaml:"part_size_mib" env:"PGMEDIC_S3_PART_SIZE_MIB" default:"8" min:"5" max:"256" doc:"Initial size of the parts of an upload. An object can be up to 137,000 times as large."`
	Concurrency          int    `yaml:"concurrency" env:"PGMEDIC_S3_CONCURRENCY" default:"2" min:"1" max:"64" doc:"Parts of one upload that are sent concurrently. Each writer holds one more in memory."`
}

// SFTP says how a folder on another host is reached.
type SFTP struct {
	IdentityFile string `yaml:"identity_file" env:"PGMEDIC_SFTP_IDENTITY_FILE" path:"true" doc:"File of an SSH private key without a passphrase. Empty: the keys of the SSH agent, and password."`
	KnownHosts   string `yaml:"known_hosts" env:"PGMEDIC_SFTP_KNOWN_HOSTS" path:"true" doc:"File that has the server's host key, as ssh-keyscan prints it. Empty: .ssh/known_hosts in the home folder. A key that is not in it is refused."`
	Password     Secret `yaml:"password" env:"PGMEDIC_SFTP_PASSWORD" secret:"true" doc:"Password, or file:/path or env:NAME to read it from."`
	Connections  int    `yaml:"connections" env:"PGMEDIC_SFTP_CONNECTIONS" default:"4" min:"1" max:"64" doc:"Connections that are opened at most."`
}

// Restore says what becomes of what a restore replaced.
type Restore struct {
	KeepDisplaced time.Duration `yaml:"keep_displaced" env:"PGMEDIC_KEEP_DISPLACED" default:"7d" doc:"How long pgmedic prune leaves a database alone that a swap or a rollback set aside, such as 7d."`
}

// Drill says how drills run.
type Drill struct {
	ScratchDir       string        `yaml:"scratch_dir" env:"PGMEDIC_SCRATCH_DIR" path:"true" doc:"Folder for throwaway servers. Empty: the system's folder for temporary files."`
	ScratchURL       Secret        `yaml:"scratch_url" env:"PGMEDIC_SCRATCH_URL" secret:"true" rule:"url" doc:"Connection URL of a server to drill on, in a temporary database. Empty: a throwaway server on this machine."`
	PreloadLibraries []string      `yaml:"preload_libraries" env:"PGMEDIC_DRILL_PRELOAD" rule:"words" doc:"Libraries that throwaway servers preload, for extensions that cannot be created without them. In the environment, separate them with commas."`
	Amcheck          bool          `yaml:"amcheck" env:"PGMEDIC_DRILL_AMCHECK" default:"true" doc:"Whether drills read every index and table with amcheck."`
	AssertionTimeout time.Duration `yaml:"assertion_timeout" env:"PGMEDIC_ASSERTION_TIMEOUT" default:"5m" doc:"Time limit for one assertion; 0 means no limit."`
	Assertions       []Assertion   `yaml:"assertions" doc:"Queries that a restored copy must answer correctly, each with name and sql, and expect, min or max; docs/drills.md has an example."`
}

// Report says where reports go and what counts as bad.
type Report struct {
	Dir string `yaml:"dir" env:"PGMEDIC_REPORT_DIR" default:"./infrastructure/monitoring/database/reports" path:"true" doc:"Folder that reports are written to."`
	// Keep is zero where nothing is to be deleted.
	Keep time.Duration `yaml:"keep" env:"PGMEDIC_REPORT_KEEP" default:"30d" doc:"How long pgmedic cleanup leaves a report in dir alone, such as 30d; the newest stays. 0 deletes none."`
	// History is an absolute path, empty for the usual place, or off.
	History    string     `yaml:"history" env:"PGMEDIC_REPORT_HISTORY" rule:"path or off" doc:"File in which reports keep their readings, for trends; off keeps none. Empty: pgmedic/history.sqlite in XDG_STATE_HOME, else in ~/.local/state."`
	Thresholds Thresholds `yaml:"thresholds" doc:"Thresholds for warnings and criticals."`
	// ServerMemoryMB is zero if it is not set.
	ServerMemoryMB int `yaml:"server_memory_mb" env:"PGMEDIC_SERVER_MEMORY_MB" default:"0" min:"0" max:"1000000000" doc:"Memory of the server's machine in MB, for advice on memory settings. 0: measured if the server is on this machine, otherwise unknown."`
	// ServerDiskMB is zero if it is not set.
	ServerDiskMB int    `yaml:"server_disk_mb" env:"PGMEDIC_SERVER_DISK_MB" default:"0" min:"0" max:"1000000000" doc:"Size in MB of the disk that holds the data, for advice and forecasts. Everything that databases and WAL do not use counts as free. 0: measured if the server is on this machine, otherwise unknown."`
	Mute         []Mute `yaml:"mute" doc:"Findings to silence until a date, each with finding, reason and until, and with object to silence it for one object only; docs/monitoring.md has an example."`
}

// Thresholds are the limits of the report. Percentages are 0 to 100.
type Thresholds struct {
	ConnectionsWarnPercent     float64       `yaml:"connections_warn_percent" default:"80" min:"0" max:"100" doc:"Share of max_connections in use that causes a warning."`
	ConnectionsCriticalPercent float64       `yaml:"connections_critical_percent" default:"90" min:"0" max:"100" doc:"Share of max_connections in use that is critical."`
	DeadTuplesWarnPercent      float64       `yaml:"dead_tuples_warn_percent" default:"10" min:"0" max:"100" doc:"Share of dead rows in a table that causes a warning."`
	CacheHitWarnPercent        float64       `yaml:"cache_hit_warn_percent" default:"99" min:"0" max:"100" doc:"Cache hit ratio below which a warning is reported."`
	CacheHitCriticalPercent    float64       `yaml:"cache_hit_critical_percent" default:"95" min:"0" max:"100" doc:"Cache hit ratio below which it is critical."`
	BackupAgeWarn              time.Duration `yaml:"backup_age_warn" default:"26h" doc:"Age of the newest backup that causes a warning."`
	ProvenAgeWarn              time.Duration `yaml:"proven_age_warn" default:"8d" doc:"Age of the newest proven backup that causes a warning."`
	IdleInTransactionWarn      time.Duration `yaml:"idle_in_transaction_warn" default:"5m" doc:"Time that a transaction can be idle before a warning."`
	LongTransactionWarn        time.Duration `yaml:"long_transaction_warn" default:"1h" doc:"Time that a transaction can run before a warning."`
	LockWaitWarn               time.Duration `yaml:"lock_wait_warn" default:"10s" doc:"Time that a session can wait for a lock before a warning."`
	LockWaitCritical           time.Duration `yaml:"lock_wait_critical" default:"1m" doc:"Time that a session can wait for a lock before it is critical."`
	ReplicationLagWarn         time.Duration `yaml:"replication_lag_warn" default:"1m" doc:"Replication lag of a standby that causes a warning."`
	ReplicationLagCritical     time.Duration `yaml:"replication_lag_critical" default:"10m" doc:"Replication lag of a standby that is critical."`
	LimitInfoPercent           float64       `yaml:"limit_info_percent" default:"40" min:"0" max:"100" doc:"Used share of the transaction ids, or of a sequence, that is noted."`
	LimitWarnPercent           float64       `yaml:"limit_warn_percent" default:"60" min:"0" max:"100" doc:"As above, for a warning."`
	LimitCriticalPercent       float64       `yaml:"limit_critical_percent" default:"80" min:"0" max:"100" doc:"As above, for a critical finding."`
	BloatWarnPercent           float64       `yaml:"bloat_warn_percent" default:"50" min:"0" max:"100" doc:"Share of empty space in the file of a table or an index that causes a warning."`
	SlowStatementWarn          time.Duration `yaml:"slow_statement_warn" default:"1s" doc:"Mean execution time of a statement that causes a warning."`
	StatementShareWarnPercent  float64       `yaml:"statement_share_warn_percent" default:"20" min:"0" max:"100" doc:"Share of the total statement time used by one statement that causes a warning."`
	RollbackWarnPercent        float64       `yaml:"rollback_warn_percent" default:"5" min:"0" max:"100" doc:"Share of rolled-back transactions that causes a warning."`
	UnusedIndexAge             time.Duration `yaml:"unused_index_age" default:"7d" doc:"Time that an index must be known to be unused before dropping it is advised."`
	DiskWarnPercent            float64       `yaml:"disk_warn_percent" default:"85" min:"0" max:"100" doc:"Used share that causes a warning: of the data disk, and of the disk of a local store."`
	DiskCriticalPercent        float64       `yaml:"disk_critical_percent" default:"95" min:"0" max:"100" doc:"Used share that is critical: of the data disk, and of the disk of a local store."`
	DiskFullWarn               time.Duration `yaml:"disk_full_warn" default:"14d" doc:"Time until the data disk is full, at the current rate, that causes a warning."`
	DiskFullCritical           time.Duration `yaml:"disk_full_critical" default:"3d" doc:"As above, for a critical finding."`
}

// Log says what is logged, how and where.
type Log struct {
	Level  string `yaml:"level" env:"PGMEDIC_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" doc:"debug, info, warn or error."`
	Format string `yaml:"format" env:"PGMEDIC_LOG_FORMAT" default:"text" enum:"text,json" doc:"text or json. At a terminal, json set in the configuration file is treated as text."`
	File   string `yaml:"file" env:"PGMEDIC_LOG_FILE" path:"true" doc:"File to log to, which is rotated at 64 MiB and at midnight UTC. Empty: standard error."`
	// Keep is zero where nothing is to be deleted.
	Keep time.Duration `yaml:"keep" env:"PGMEDIC_LOG_KEEP" default:"30d" doc:"How long pgmedic cleanup leaves a rotated log alone, such as 30d; the newest stays. 0 deletes none."`
}
