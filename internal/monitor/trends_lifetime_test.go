package monitor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestADayIsEnough holds what counters of a lifetime say to the last day, once a
// Reading of a day ago is there to subtract.
func TestADayIsEnough(t *testing.T) {
	bad := func(r *reading.Reading) {
		var evicted int64 = 7
		r.Transactions = &reading.Transactions{Commits: 50_000, Rollbacks: 50_000, Deadlocks: 3, TempBytes: 9 << 30, TempFiles: 9}
		r.Cache = &reading.Cache{LifetimeHits: 100_000_000, LifetimeReads: 100_000_000}
		r.Checkpoints = &reading.Checkpoints{Timed: 10, Requested: 90}
		r.Statements = &reading.Statements{Total: 5000, Max: 5000, Evicted: &evicted}
		r.Tables.Items = []reading.Table{{Schema: "public", Name: "visits", SeqScans: 1000, SeqTuplesRead: 1000 * 50_000}}
	}
	all := []string{"rollbacks-high", "deadlocks-seen", "temp-files", "cache-hit-low", "checkpoints-requested", "statements-evicted", "index-missing"}
	for name, test := range map[string]struct {
		ago   time.Duration
		found bool
	}{
		"nothing happened for a day":       {24 * time.Hour, false},
		"nothing happened for ten minutes": {10 * time.Minute, true}, // which says nothing of the rest of the day
	} {
		now, earlier := past(2, test.ago, func(_ int, r *reading.Reading) { bad(r) })
		findings := analyse(now, earlier...)
		for _, id := range all {
			if f := findingOf(findings, id); (f != nil) != test.found {
				t.Errorf("%s: %s: %+v", name, id, f)
			}
		}
	}
	// And all happens anew in a day.
	now, earlier := past(2, 24*time.Hour, func(i int, r *reading.Reading) {
		if bad(r); i == 0 {
			none := int64(0)
			r.Transactions, r.Cache, r.Checkpoints = &reading.Transactions{}, &reading.Cache{}, &reading.Checkpoints{}
			r.Statements.Evicted = &none
			r.Tables.Items[0].SeqScans, r.Tables.Items[0].SeqTuplesRead = 100, 100*50_000
		}
	})
	findings := analyse(now, earlier...)
	for _, id := range all {
		f := findingOf(findings, id)
		if f == nil || !strings.Contains(f.Summary, "in the last 24 hours") {
			t.Errorf("%s: %+v", id, f)
		}
		if id == "index-missing" && f != nil && !strings.Contains(f.Summary, "900 times") {
			t.Errorf("%+v", f)
		}
	}
}

// TestReplayConflictsOfADay is the same for a standby.
func TestReplayConflictsOfADay(t *testing.T) {
	find := func(then int64, ago time.Duration) string {
		now, earlier := past(2, ago, func(i int, r *reading.Reading) {
			r.Server.Role = reading.RoleStandby
			r.Replication = &reading.Replication{Replay: &reading.Replay{ReceiverStatus: "streaming"}, Conflicts: &reading.Conflicts{Snapshot: 5}}
			if i == 0 {
				r.Replication.Conflicts.Snapshot = then
			}
		})
		if f := findingOf(analyse(now, earlier...), "replay-conflicts"); f != nil {
			return f.Summary
		}
		return ""
	}
	if got := find(5, 24*time.Hour); got != "" {
		t.Errorf("none in a day: %s", got)
	}
	if got := find(3, 24*time.Hour); !strings.HasPrefix(got, "2 queries have") || !strings.Contains(got, "in the last 24 hours") {
		t.Errorf("two in a day: %q", got)
	}
	if got := find(3, time.Hour); !strings.HasPrefix(got, "5 queries have") {
		t.Errorf("no day is known: %q", got)
	}
}

// TestAnotherUnderTheSameName compares no counters with those of another machine
// (a failover), of a time before a crash, or of another database that had the
// name (a restore, DROP DATABASE): their difference would be any number.
func TestAnotherUnderTheSameName(t *testing.T) {
	for name, change := range map[string]func(r *reading.Reading){
		"":                            func(*reading.Reading) {},
		"a failover or a crash":       func(r *reading.Reading) { r.Server.StatsReset = new(noon.Add(-time.Minute)) },
		"a restore":                   func(r *reading.Reading) { r.DatabaseOID = 17 },
		"a reset, without the cache":  func(r *reading.Reading) { r.Cache, r.Transactions.StatsReset = nil, &noon },
		"the caches weren't read":     func(r *reading.Reading) { r.Cache = nil },
		"a look before there was any": func(r *reading.Reading) { r.Server.StatsReset, r.DatabaseOID = nil, 0 },
	} {
		now, earlier := past(2, 2*time.Hour, func(i int, r *reading.Reading) {
			r.Server.StatsReset, r.DatabaseOID = new(noon.AddDate(-1, 0, 0)), 16
			r.Transactions = &reading.Transactions{Commits: int64(1_000_000 * (i + 1)), Rollbacks: int64(500_000 * i)}
			r.Cache = &reading.Cache{LifetimeHits: int64(400_000_000 + 1_000_000*i), LifetimeReads: int64(1_000_000 * i)}
		})
		change(earlier[0])
		same := name == "" || strings.Contains(name, "weren't") || strings.Contains(name, "there was any")
		f := findingOf(analyse(now, earlier...), "rollbacks-high")
		if f == nil || strings.Contains(f.Summary, "in the last 2 hours") != same {
			t.Errorf("%s: %+v", name, f)
		}
		if f := findingOf(analyse(now, earlier...), "cache-hit-low"); (f != nil) != (same && earlier[0].Cache != nil) {
			t.Errorf("%s: %+v", name, f)
		}
		if earlier[0].Cache == nil {
			continue
		}
		if p := trendsOf(now, earlier).Points[1]; (p.CommitsPerSecond != nil) != same {
			t.Errorf("%s: rates %+v", name, p)
		}
	}
}

// TestUnusedIndexIsKnownByHistory says that an index is unused for as long as
// earlier Readings saw it so, and never for longer than the statistics know.
func TestUnusedIndexIsKnownByHistory(t *testing.T) {
	spare := reading.Index{
		OID: 9, Schema: "public", Name: "spare", Valid: true, EstimatedBytes: 1 << 30,
		Definition: "CREATE INDEX spare ON public.t USING btree (a)",
	}
	const dropIt = "DROP INDEX CONCURRENTLY"
	for name, test := range map[string]struct {
		change func(now, old *reading.Reading)
		drop   bool
	}{
		"unused for ten days": {func(_, _ *reading.Reading) {}, true},
		"a crash between": {func(now, old *reading.Reading) {
			now.Server.StatsReset, old.Server.StatsReset = new(noon.Add(-time.Hour)), new(noon.AddDate(-1, 0, 0))
		}, false},
		// That the statistics were never reset means nothing after a crash.
		"old, but a crash of an hour ago": {func(now, old *reading.Reading) {
			old.Indexes = nil
			now.Server.StatsReset, now.Indexes.Unused[0].ChangedAt = new(noon.Add(-time.Hour)), new(noon.AddDate(-1, 0, 0))
		}, false},
		"old": {func(now, old *reading.Reading) {
			old.Indexes = nil
			now.Server.StatsReset, now.Indexes.Unused[0].ChangedAt = new(noon.AddDate(-1, 0, 0)), new(noon.AddDate(-1, 0, 0))
		}, true},
		"another index then": {func(_, old *reading.Reading) { old.Indexes.Unused[0].OID = 8 }, false},
	} {
		now, earlier := past(2, 10*24*time.Hour, func(_ int, r *reading.Reading) {
			r.Transactions, r.Replication = &reading.Transactions{}, &reading.Replication{Standbys: []reading.Standby{}}
			r.Indexes.Unused = []reading.Index{spare}
		})
		test.change(now, earlier[0])
		// As the history keeps it.
		kept := copied[reading.Reading](t, earlier[0].Outline())
		kept.Fill(*copied[reading.Detailed](t, earlier[0]))
		f := findingOf(analyse(now, kept), "index-unused")
		if f == nil || strings.HasPrefix(f.Fix, dropIt) != test.drop {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestHiddenStatementsAreNotCompared has a role look that may not see which
// statements others run: all have no id, and none is another.
func TestHiddenStatementsAreNotCompared(t *testing.T) {
	slower := func(i int) float64 {
		if i == 3*24 {
			return 5
		}
		return 0.05
	}
	hide := func(r *reading.Reading) {
		for i := range r.Statements.Items {
			r.Statements.Items[i].QueryID, r.Statements.Items[i].Query = "", ""
		}
	}
	for name, hidden := range map[string]func(i int) bool{
		"always":                        func(int) bool { return true },
		"a superuser, then a plain one": func(i int) bool { return i == 72 },
		"a plain one, then a superuser": func(i int) bool { return i < 72 },
	} {
		now, earlier := statements(3, slower)
		for i, r := range append(earlier, now) {
			if hidden(i) {
				hide(r)
			}
		}
		if got := trendsOf(now, earlier).Statements; len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		for _, id := range []string{"statement-regressed", "statement-new"} {
			if f := findingOf(analyse(now, earlier...), id); f != nil {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// TestDiskForecastReachesAsFarAsTheDiskWasSeen has a week of readings, of which
// only those of the last hours know the disk.
func TestDiskForecastReachesAsFarAsTheDiskWasSeen(t *testing.T) {
	now, earlier := past(7*24, time.Hour, func(i int, r *reading.Reading) {
		if hours := i - (7*24 - 14); hours >= 0 {
			r.Host = &reading.Host{Source: "local", DiskBytes: 100 * gib, DiskFreeBytes: 20*gib - int64(hours)*2*gib/24}
		}
	})
	if f := findingOf(analyse(now, earlier...), "disk-full-soon"); f != nil {
		t.Errorf("a forecast of nine days from thirteen hours: %+v", f)
	}
	if trendsOf(now, earlier).Disk == nil {
		t.Error("no trend at all: the test shows nothing")
	}
}

// TestCacheOfANightlyBackup is no reason to get up: what reads everything once is
// over before an hour is.
func TestCacheOfANightlyBackup(t *testing.T) {
	for apart, want := range map[time.Duration]pgmedic.Severity{5 * time.Minute: pgmedic.SeverityWarn, time.Hour: pgmedic.SeverityCritical} {
		now, earlier := past(2, apart, func(i int, r *reading.Reading) {
			r.Cache = &reading.Cache{LifetimeHits: 400_000_000 + int64(1_000_000*i), LifetimeReads: int64(1_000_000 * i)}
		})
		if f := findingOf(analyse(now, earlier...), "cache-hit-low"); f == nil || f.Severity != want {
			t.Errorf("after %s: %+v", apart, f)
		}
	}
}
