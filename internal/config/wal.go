package config

import (
	"regexp"
	"time"
)

// WAL says how the server's write-ahead log is stored.
type WAL struct {
	Stream   bool          `yaml:"stream" env:"PGMEDIC_WAL_STREAM" default:"false" doc:"true has pgmedic schedule start pgmedic wal stream as a service, and pgmedic check examine what it needs. The command itself runs either way."`
	MaxDelay time.Duration `yaml:"max_delay" env:"PGMEDIC_WAL_MAX_DELAY" default:"10s" doc:"Longest time until WAL that has arrived is sent to the store, at least 1s: what can be lost if the server and this host are lost together."`
	Slot     string        `yaml:"slot" env:"PGMEDIC_WAL_SLOT" rule:"slot" doc:"Replication slot that keeps WAL on the server until it is stored. Empty: pgmedic_ and the name of this host."`
	Sync     bool          `yaml:"sync" env:"PGMEDIC_WAL_SYNC" default:"false" doc:"true has pgmedic wal stream flush WAL to a local disk as it arrives, so that commits can wait for that: synchronous_standby_names of the server names pgmedic_sync."`
	Spool    string        `yaml:"spool" env:"PGMEDIC_WAL_SPOOL" path:"true" doc:"Folder for WAL that is flushed and not stored yet, with wal.sync. It is not encrypted. Empty: wal-spool in the state folder."`
	SpoolMB  int           `yaml:"spool_max_mb" env:"PGMEDIC_WAL_SPOOL_MAX_MB" default:"10240" min:"16" max:"1000000000" doc:"MB that the spool of a cluster may take. While it is full, commits that wait for it do not end."`
}

// slotName is what PostgreSQL accepts as the name of a replication slot.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// WALGiven reports whether the file, the environment or a flag says anything about WAL
// that asks for its being stored.
func (c *Config) WALGiven() bool {
	return c.WAL.Stream || c.WAL.Sync || c.origins["wal.slot"].Given() || c.origins["wal.max_delay"].Given()
}

// checkWAL refuses a delay that WAL can't be stored in.
func (c *Config) checkWAL() error {
	if c.WAL.MaxDelay < time.Second {
		const key = "wal.max_delay"
		return usage(c.origins[key].subject(key)+" is too short", "use 1s or more")
	}
	return nil
}
