package judge

// IDs returns the id of every finding, sorted. Each is explained in
// docs/findings.md.
func IDs() []string {
	return []string{
		"archiver-behind", "archiver-failing", "autovacuum-off", "backup-failed", "backup-missing", "backup-old", "backup-shrunk",
		"backup-unproven", "cache-hit-low", "checkpoints-requested", "checksum-failures", "checksums-off", "connections-near-limit", "database-kept", "deadlocks-seen",
		"disk-filling", "disk-full-soon", "effective-cache-size", "foreign-key-without-index", "fsync-off",
		"full-page-writes-off", "idle-in-transaction", "index-bloat", "index-duplicate", "index-invalid", "index-missing",
		"index-redundant", "index-unused", "lock-wait", "lock-waits-recurring", "long-transaction", "passwords-md5", "prepared-transaction-old",
		"random-page-cost-default", "replay-conflicts", "replay-paused", "rescue-left", "restart-pending", "rollbacks-high",
		"sequence-near-end", "sessions-unencrypted", "shared-buffers-size", "slot-behind", "slot-inactive", "slot-lost",
		"standby-lagging", "standby-not-receiving", "standby-silent", "statement-heavy", "statement-new", "statement-regressed",
		"statement-slow", "statements-evicted", "statements-not-tracked", "subscription-down", "superuser-sessions",
		"synchronous-standby-missing", "table-bloat", "table-dead-tuples", "table-never-analyzed", "table-never-vacuumed",
		"table-without-primary-key", "temp-files", "track-counts-off", "vacuum-held-back", "version-outdated",
		"version-unsupported", "workers-exhausted", "wraparound-database", "wraparound-table",
	}
}
