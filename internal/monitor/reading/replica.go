package reading

import (
	"slices"
	"time"
)

// Replica is a standby of the server and what its own sessions use there: each
// server keeps statistics for itself.
type Replica struct {
	// Name is where it was reached, such as db2.example.com:5432.
	Name string `json:"name"`
	// Application and Slot are what its primary knows its stream by, empty where
	// it didn't say.
	Application string `json:"application"`
	Slot        string `json:"slot"`
	// StartedAt and StatsReset bound since when its statistics are known: before
	// PostgreSQL 15 a standby begins them anew whenever it starts, and after it a
	// standby that crashed does.
	StartedAt  time.Time  `json:"started_at"`
	StatsReset *time.Time `json:"stats_reset"`
	// Indexes are the scans there of those that the primary doesn't use.
	Indexes []ReplicaIndex `json:"indexes"`
	// Standbys are those that follow it.
	Standbys []Standby `json:"standbys"`
}

// ReplicaIndex is how often sessions of a replica have scanned an index.
type ReplicaIndex struct {
	OID   uint32 `json:"oid"`
	Scans int64  `json:"scans"`
}

// CountedSince is since when the replica's statistics are known to be kept.
func (p *Replica) CountedSince() time.Time {
	if p.StatsReset != nil && p.StatsReset.After(p.StartedAt) {
		return *p.StatsReset
	}
	return p.StartedAt
}

// WALStream reports whether this is pgmedic's own stream of WAL into a store, which no
// session reads from and which replays nothing.
func (s Standby) WALStream() bool { return s.Application == "pgmedic wal" }

// Physical are those of the processes that WAL is sent to that can have sessions
// of their own on the same indexes. What this role may not see is among them.
func (r *Replication) Physical() []Standby {
	return slices.DeleteFunc(slices.Clone(r.Standbys), func(s Standby) bool {
		logical := slices.ContainsFunc(r.Slots, func(x Slot) bool { return x.Name == s.Slot && x.Type == "logical" })
		program := s.WALStream() || slices.Contains([]string{"pg_basebackup", "pg_receivewal", "barman_receive_wal"}, s.Application)
		return logical || program || s.State == "backup"
	})
}
