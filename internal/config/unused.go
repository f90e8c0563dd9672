package config

import (
	"slices"
	"strings"
)

// ignored returns the names that existing deployments have, that this version
// has no use for and that change nothing about the safety of backups.
func ignored() []string {
	return []string{
		"PGMEDIC_CONFIG",             // read before any other
		"PGMEDIC_COMPLETION_TIMEOUT", // read by shell completion
		"DB_CONNECTION_LIMIT", "DB_POOL_TIMEOUT", "DB_SOCKET_TIMEOUT", "DB_QUERY_TIMEOUT",
		"DB_SLOW_QUERY_THRESHOLD", "DB_MAX_RETRIES", "DB_RETRY_DELAY", "DB_RETRY_BACKOFF",
		"DB_HEALTH_CHECK_INTERVAL",
	}
}

// wanted is false for the words that switch something off. Any other word
// asks for it, so that a misspelt one is refused rather than ignored.
func wanted(value string) bool {
	off := []string{"false", "f", "no", "n", "off", "0", "none", "disabled"}
	return !slices.Contains(off, strings.ToLower(strings.TrimSpace(value)))
}

// CheckBackup refuses with a KindUsage error when the settings ask for
// something that protects backups and that can't be done, such as a copy in a cloud
// without a bucket. Call it before whatever writes backups or replaces a database on
// the strength of them, and in a check.
func (c *Config) CheckBackup() error {
	return c.checkCloud()
}

// PoolNames returns the names that are set, that only the pool has a use for and no
// command reads.
func (c *Config) PoolNames() []string { return c.poolNames }

// noteUnused notes the names of ignored that are set.
func (l *loader) noteUnused(cfg *Config) {
	for _, name := range ignored() {
		if strings.HasPrefix(name, "DB_") && (l.environ[name] != "" || l.dotenv[name] != "") {
			cfg.poolNames = append(cfg.poolNames, name)
		}
	}
}
