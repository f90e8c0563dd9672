package judge

import (
	"maps"
	"slices"

	"github.com/pgmedic/pgmedic"
)

// Urgency says when what a finding is about does harm: lower is sooner. Each id has one,
// whatever the severity of the finding.
type Urgency int

// The urgencies, the soonest first. The order is our choice.
const (
	// UrgencyNow: something is refused, waits, is lost or stands still.
	UrgencyNow Urgency = iota
	// UrgencyGrows: something fills up or runs out, as it goes on.
	UrgencyGrows
	// UrgencyRisk: something is missing when something else happens: a crash, a loss, a
	// break-in.
	UrgencyRisk
	// UrgencyCost: it costs time or space.
	UrgencyCost
	// UrgencyUpgrade: a newer version of PostgreSQL is out.
	UrgencyUpgrade
)

// idsByUrgency is the one list of all findings. A test holds it against the code.
func idsByUrgency() map[Urgency][]string {
	return map[Urgency][]string{
		UrgencyNow: {
			"archiver-failing", "checksum-failures", "connections-near-limit", "disk-filling", "lock-wait", "pool-exhausted", "slot-lost",
			"standby-lagging", "standby-not-receiving", "standby-silent", "subscription-down", "synchronous-standby-missing",
			"workers-exhausted",
		},
		UrgencyGrows: {
			"archiver-behind", "autovacuum-off", "disk-full-soon", "idle-in-transaction", "long-transaction",
			"prepared-transaction-old",
			"replay-paused", "sequence-near-end", "slot-behind", "slot-inactive", "slot-unbounded", "track-counts-off",
			"vacuum-held-back", "wraparound-database", "wraparound-table",
		},
		UrgencyRisk: {
			"backup-failed", "backup-missing", "backup-old", "backup-shrunk", "backup-unproven", "base-backup-missing",
			"fsync-off", "full-page-writes-off", "moment-unproven", "sessions-unencrypted", "wal-behind", "wal-broken",
			"wal-missing", "wal-unknown",
		},
		UrgencyCost: {
			"cache-hit-low", "checkpoints-requested", "checksums-off", "database-kept", "deadlocks-seen",
			"effective-cache-size", "foreign-key-without-index", "index-bloat", "index-duplicate", "index-invalid",
			"index-missing", "index-partitioned-invalid", "index-redundant", "index-unused", "lock-waits-recurring", "passwords-md5",
			"random-page-cost-default", "replay-conflicts", "rescue-left", "restart-pending", "rollbacks-high",
			"shared-buffers-size", "statement-heavy", "statement-new", "statement-regressed", "statement-slow",
			"statements-evicted", "statements-not-tracked", "superuser-sessions", "table-bloat", "table-dead-tuples",
			"table-never-analyzed", "table-never-vacuumed", "table-without-primary-key", "temp-files",
		},
		UrgencyUpgrade: {
			"version-outdated", "version-unsupported",
		},
	}
}

// urgencies are the same by id.
func urgencies() map[string]Urgency {
	all := map[string]Urgency{}
	for u, ids := range idsByUrgency() {
		for _, id := range ids {
			all[id] = u
		}
	}
	return all
}

// IDs returns the id of every finding, sorted. Each is explained in
// docs/findings.md.
func IDs() []string { return slices.Sorted(maps.Keys(urgencies())) }

// UrgencyOf returns the urgency of a finding by its id, and false for an id that is not
// one of IDs.
func UrgencyOf(id string) (Urgency, bool) {
	u, ok := urgencies()[id]
	return u, ok
}

// MostUrgent returns which of findings, ordered as by Analyse, a reader has to deal with
// first: the first that does harm now, even where another is worse, such as a session that
// blocks others before a backup that is missing; without such a one the first. What grows
// does harm now once it is critical. Notes don't count; without anything worse it returns
// false.
func MostUrgent(findings []pgmedic.Finding) (pgmedic.Finding, bool) {
	when := urgencies()
	worse := func(f pgmedic.Finding) bool { return f.Severity.Rank() > pgmedic.SeverityInfo.Rank() }
	i := slices.IndexFunc(findings, func(f pgmedic.Finding) bool {
		u, known := when[f.ID]
		return known && worse(f) && (u == UrgencyNow || u == UrgencyGrows && f.Severity == pgmedic.SeverityCritical)
	})
	if i < 0 {
		i = slices.IndexFunc(findings, worse)
	}
	if i < 0 {
		return pgmedic.Finding{}, false
	}
	return findings[i], true
}
