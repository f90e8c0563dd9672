package monitor_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

const gib = 1 << 30

// past returns Readings one step apart until noon, the last of which is now, each
// changed; i counts from 0 for the oldest.
func past(n int, step time.Duration, change func(i int, r *reading.Reading)) (now *reading.Reading, earlier []*reading.Reading) {
	for i := range n {
		r := aReading(nil)
		r.TakenAt = noon.Add(-time.Duration(n-1-i) * step)
		change(i, r)
		earlier = append(earlier, r)
	}
	return earlier[n-1], earlier[:n-1]
}

func trendsOf(now *reading.Reading, earlier []*reading.Reading) *judge.Trends {
	return judge.TrendsOf(now, earlier, reading.DefaultThresholds())
}

func TestTrendsNeedTheSameDatabase(t *testing.T) {
	now, earlier := past(4, time.Hour, func(i int, r *reading.Reading) {
		switch i {
		case 0:
			r.Database = "billing"
		case 1:
			r.Server.SystemIdentifier = "8"
		case 2:
			r.TakenAt = noon.Add(time.Hour)
		}
	})
	if got := trendsOf(now, earlier); got != nil {
		t.Errorf("%+v", got)
	}
	if got := trendsOf(now, nil); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestRates(t *testing.T) {
	counters := func(i int, r *reading.Reading) {
		n := int64(i)
		r.Server.StartedAt = noon.Add(-1000 * time.Hour)
		r.Transactions = &reading.Transactions{Commits: 6000 * n, Rollbacks: 600 * n, TempBytes: 60 * n, Deadlocks: n}
		r.Cache = &reading.Cache{LifetimeHits: 900 * n, LifetimeReads: 100 * n}
		r.WAL = &reading.WAL{Bytes: 6000 * n}
		r.Connections.WaitingForLock = i
	}
	now, earlier := past(4, time.Minute, func(i int, r *reading.Reading) { counters(i, r) })
	slices.Reverse(earlier) // in any order
	p := trendsOf(now, earlier).Points
	if len(p) != 4 || !p[3].At.Equal(noon) || p[0].CommitsPerSecond != nil || p[0].CacheHitPercent != nil {
		t.Fatalf("%+v", p)
	}
	got := []float64{*p[3].CommitsPerSecond, *p[3].RollbacksPerSecond, *p[3].TempBytesPerSecond, *p[3].WALBytesPerSecond, *p[3].CacheHitPercent}
	if !slices.Equal(got, []float64{100, 10, 1, 100, 90}) || *p[3].Deadlocks != 1 || *p[3].Waiting != 3 {
		t.Errorf("%v %+v", got, p[3])
	}

	for name, change := range map[string]func(r *reading.Reading){
		"a restart": func(r *reading.Reading) { r.Server.StartedAt = noon.Add(-30 * time.Second) },
		"a reset": func(r *reading.Reading) {
			r.Transactions.StatsReset, r.Cache.StatsReset, r.WAL.StatsReset = &noon, &noon, &noon
		},
		"a crash": func(r *reading.Reading) {
			r.Transactions, r.Cache, r.WAL = &reading.Transactions{Commits: 5}, &reading.Cache{LifetimeHits: 3}, &reading.WAL{Bytes: 2}
		},
		"another role": func(r *reading.Reading) { r.Server.Role = reading.RoleStandby },
	} {
		now, earlier := past(4, time.Minute, counters)
		change(now)
		last := trendsOf(now, earlier).Points[3]
		if last.CommitsPerSecond != nil || last.RollbacksPerSecond != nil || last.CacheHitPercent != nil ||
			last.WALBytesPerSecond != nil || last.Deadlocks != nil {
			t.Errorf("after %s there are rates: %+v", name, last)
		}
		if before := trendsOf(now, earlier).Points[2]; before.CommitsPerSecond == nil {
			t.Errorf("before %s there are none", name)
		}
	}

	// Before PostgreSQL 14 the position in the WAL stands for its bytes.
	now, earlier = past(2, time.Minute, func(i int, r *reading.Reading) {
		at := int64(60 * i)
		r.Replication = &reading.Replication{CurrentBytes: &at}
	})
	if last := trendsOf(now, earlier).Points[1]; last.WALBytesPerSecond == nil || *last.WALBytesPerSecond != 1 {
		t.Errorf("%+v", last)
	}
}

func TestPointsAreBounded(t *testing.T) {
	now, earlier := past(2500, 5*time.Minute, func(i int, r *reading.Reading) {
		r.Transactions = &reading.Transactions{Commits: int64(300 * i)}
	})
	got := trendsOf(now, earlier)
	if got.Readings != 2500 || len(got.Points) > judge.MaxPoints || len(got.Points) < judge.MaxPoints/2 {
		t.Fatal(got.Readings, len(got.Points))
	}
	last := got.Points[len(got.Points)-1]
	if !last.At.Equal(noon) || noon.Sub(got.Points[len(got.Points)-2].At) != 5*time.Minute {
		t.Error("the last two readings are not among the points")
	}
	for i, p := range got.Points[1:] {
		if p.CommitsPerSecond == nil || math.Abs(*p.CommitsPerSecond-1) > 1e-9 {
			t.Fatalf("point %d: %v commits per second", i, p.CommitsPerSecond)
		}
	}
}

func TestGrowth(t *testing.T) {
	grow := func(n int, step time.Duration, size func(days float64) float64) *judge.Growth {
		now, earlier := past(n, step, func(i int, r *reading.Reading) {
			r.Size = &reading.Size{DatabaseBytes: int64(size((time.Duration(i) * step).Hours() / 24))}
		})
		return trendsOf(now, earlier).Database
	}
	line := func(days float64) float64 { return 100*gib + days*gib }
	if g := grow(169, time.Hour, line); g == nil || g.Name != "clinic" || g.Bytes != 107*gib ||
		math.Abs(g.BytesPerDay/gib-1) > 1e-6 || g.HighPerDay-g.LowPerDay > gib/1e6 {
		t.Errorf("%+v", g)
	}
	if g := grow(169, time.Hour, func(days float64) float64 { return 100*gib - days*gib }); g == nil || g.HighPerDay > -gib+gib/1e6 {
		t.Errorf("%+v", g)
	}
	if g := grow(5, 3*time.Hour, line); g == nil {
		t.Error("five readings over twelve hours are enough")
	}
	if g := grow(4, 24*time.Hour, line); g != nil {
		t.Errorf("four readings: %+v", g)
	}
	if g := grow(300, 2*time.Minute, line); g != nil {
		t.Errorf("ten hours: %+v", g)
	}
	// A leap says little of a day: the interval holds zero or is very wide.
	leap := grow(100, time.Hour, func(days float64) float64 {
		if days > 2 {
			return 200 * gib
		}
		return 100 * gib
	})
	if leap != nil && (leap.HighPerDay-leap.LowPerDay) < leap.BytesPerDay {
		t.Errorf("a leap is taken for a steady growth: %+v", leap)
	}
}

// TestGrowthInterval draws sizes with noise that remembers, as sizes do, and
// counts how often the interval holds the truth.
func TestGrowthInterval(t *testing.T) {
	for name, memory := range map[string]float64{"independent": 0, "remembering": 0.7} {
		random := rand.New(rand.NewPCG(1, 2))
		held, of := 0, 400
		for range of {
			noise := 0.0
			now, earlier := past(57, 3*time.Hour, func(i int, r *reading.Reading) {
				noise = memory*noise + random.NormFloat64()*gib
				r.Size = &reading.Size{DatabaseBytes: 500*gib + int64(float64(i)/8*gib+noise)}
			})
			if g := trendsOf(now, earlier).Database; g.LowPerDay <= gib && gib <= g.HighPerDay {
				held++
			}
		}
		if share := float64(held) / float64(of); share < 0.88 || share > 0.995 {
			t.Errorf("%s: the 95 %% interval holds the truth in %.1f %%", name, 100*share)
		}
	}
}

func TestDiskForecast(t *testing.T) {
	disk := func(n int, step time.Duration, used func(days float64) float64) (*reading.Reading, []*reading.Reading) {
		return past(n, step, func(i int, r *reading.Reading) {
			r.Host = &reading.Host{Source: "local", DiskBytes: 100 * gib}
			r.Host.DiskFreeBytes = r.Host.DiskBytes - int64(used((time.Duration(i)*step).Hours()/24))
		})
	}
	for name, test := range map[string]struct {
		n        int
		step     time.Duration
		used     func(days float64) float64
		days     float64 // zero for no forecast
		severity pgmedic.Severity
	}{
		"in twenty days":       {8, 24 * time.Hour, func(d float64) float64 { return (73 + d) * gib }, 20, ""},
		"in ten days":          {8, 24 * time.Hour, func(d float64) float64 { return (76 + 2*d) * gib }, 5, "warn"},
		"in two days":          {8, 24 * time.Hour, func(d float64) float64 { return (44 + 7*d) * gib }, 1, "critical"},
		"further than we saw":  {14, time.Hour, func(d float64) float64 { return (80 + 2*d) * gib }, 9.46, ""},
		"shrinks":              {8, 24 * time.Hour, func(d float64) float64 { return (90 - d) * gib }, 0, ""},
		"stays":                {8, 24 * time.Hour, func(float64) float64 { return 90 * gib }, 0, ""},
		"up and down, no line": {9, 24 * time.Hour, func(d float64) float64 { return (80 + 9*math.Mod(d, 2) + d/10) * gib }, -1, ""},
	} {
		now, earlier := disk(test.n, test.step, test.used)
		f := trendsOf(now, earlier).Disk
		switch {
		case test.days == 0 && f != nil, test.days != 0 && f == nil:
			t.Errorf("%s: %+v", name, f)
		case test.days > 0 && (math.Abs(f.Days-test.days) > 0.01 || f.SoonestDays > f.Days || f.LatestDays == nil || *f.LatestDays < f.Days):
			t.Errorf("%s: %+v", name, f)
		case test.days < 0 && f.LatestDays != nil:
			t.Errorf("%s: it is said to be full by %v days", name, *f.LatestDays)
		}
		var severity pgmedic.Severity
		for _, found := range analyse(now, earlier...) {
			if found.ID == "disk-full-soon" {
				severity = found.Severity
			}
		}
		if severity != test.severity {
			t.Errorf("%s: severity %q", name, severity)
		}
	}

	// A larger disk begins anew.
	now, earlier := disk(8, 24*time.Hour, func(d float64) float64 { return (44 + 7*d) * gib })
	now.Host.DiskBytes, now.Host.DiskFreeBytes = 200*gib, 107*gib
	if f := trendsOf(now, earlier).Disk; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestTableGrowth(t *testing.T) {
	now, earlier := past(10, 12*time.Hour, func(i int, r *reading.Reading) {
		for n := range 30 {
			r.Tables.Items = append(r.Tables.Items, reading.Table{
				Schema: "public", Name: "t" + string(rune('A'+n)), Exact: true, TotalBytes: gib + int64(i*n)<<20,
			})
		}
		r.Tables.Items = append(r.Tables.Items,
			reading.Table{Schema: "public", Name: "estimated", EstimatedBytes: int64(i) << 40},
			reading.Table{Schema: "public", Name: "shrinks", Exact: true, TotalBytes: 100*gib - int64(i)*gib})
		if i < 9 {
			r.Tables.Items = append(r.Tables.Items, reading.Table{Schema: "public", Name: "dropped", Exact: true, TotalBytes: int64(i) << 40})
		}
	})
	got := trendsOf(now, earlier).Tables
	if len(got) != 20 || got[0].Name != `public."t^"` || math.Abs(got[0].BytesPerDay-58<<20) > 1 || got[0].Bytes != gib+9*29<<20 {
		t.Fatalf("%d %+v", len(got), got)
	}
	for _, g := range got {
		if g.Name == "public.estimated" || g.Name == "public.shrinks" || g.Name == "public.dropped" {
			t.Errorf("%+v", g)
		}
	}
}

// statements returns hourly Readings of so many days with one statement that is
// called 100 times an hour, for as long as seconds says for each hour, and
// another that takes most of the time.
func statements(days int, seconds func(hour int) float64) (*reading.Reading, []*reading.Reading) {
	total := 0.0
	return past(24*days+1, time.Hour, func(i int, r *reading.Reading) {
		total += 100 * seconds(i)
		r.Statements = &reading.Statements{Total: 2, ExecSeconds: total + float64(1000*i), Items: []reading.Statement{
			{QueryID: "-1", Database: "clinic", User: "app", Query: "SELECT other", StatementCounts: reading.StatementCounts{Calls: int64(100000 * i), ExecSeconds: float64(1000 * i)}},
			{QueryID: "42", Database: "clinic", User: "app", Query: "SELECT $1", StatementCounts: reading.StatementCounts{Calls: int64(100 * (i + 1)), ExecSeconds: total}},
		}}
	})
}

func TestStatementsAgainstTheSameHours(t *testing.T) {
	// Slow every day at noon is no regression, though twice as slow as else.
	daily := func(i int) float64 {
		if i%24 == 0 {
			return 0.5
		}
		return 0.05
	}
	now, earlier := statements(7, daily)
	if got := trendsOf(now, earlier).Statements; len(got) != 0 {
		t.Errorf("slow every day at this hour: %+v", got)
	}
	// Slow today alone is one.
	now, earlier = statements(7, func(i int) float64 {
		if i == 7*24 {
			return 0.5
		}
		return 0.05
	})
	got := trendsOf(now, earlier).Statements
	if len(got) != 1 || got[0].QueryID != "42" || got[0].Query != "SELECT $1" || got[0].Calls != 100 ||
		math.Abs(got[0].MeanSeconds-0.5) > 1e-9 || got[0].BeforeCalls != 600 || math.Abs(got[0].BeforeMeanSeconds-0.05) > 1e-9 {
		t.Errorf("%+v", got)
	}
	found := findingOf(analyse(now, earlier...), "statement-regressed")
	if found == nil || found.Object != "statement 42" || !strings.Contains(found.Summary, "500 ms on average in the last 60 minutes, and 50 ms in the same hours of 6 days before") {
		t.Errorf("%+v", found)
	}
	// A reset of the statistics leaves nothing to compare with.
	now.Statements.StatsReset = &noon
	if got := trendsOf(now, earlier).Statements; len(got) != 0 {
		t.Errorf("after a reset: %+v", got)
	}
}

func TestNewStatements(t *testing.T) {
	now, earlier := statements(3, func(int) float64 { return 0.05 })
	fresh := reading.Statement{QueryID: "7", Database: "clinic", User: "app", Query: "SELECT fresh", StatementCounts: reading.StatementCounts{Calls: 10, ExecSeconds: 9000}}
	now.Statements.Items = append(now.Statements.Items, fresh)
	now.Statements.Total++
	now.Statements.ExecSeconds += fresh.ExecSeconds
	got := trendsOf(now, earlier).Statements
	if len(got) != 1 || got[0].QueryID != "7" || got[0].Calls != 10 || got[0].MeanSeconds != 900 || got[0].BeforeCalls != 0 {
		t.Errorf("%+v", got)
	}
	if f := findingOf(analyse(now, earlier...), "statement-new"); f == nil || f.Object != "statement 7" {
		t.Errorf("%+v", f)
	}
	// One that a look of two days ago kept is not new, one of an hour ago is.
	earlier[len(earlier)-1].Statements.Items = append(earlier[len(earlier)-1].Statements.Items, fresh)
	if got := trendsOf(now, earlier).Statements; len(got) != 1 {
		t.Errorf("%+v", got)
	}
	earlier[20].Statements.Items = append(earlier[20].Statements.Items, fresh)
	if got := trendsOf(now, earlier).Statements; len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// Where a look left some out, it may have left this one out.
	now, earlier = statements(3, func(int) float64 { return 0.05 })
	for _, r := range earlier {
		r.Statements.Total = 100
		for i := range 20 {
			r.Statements.Items = append(r.Statements.Items, reading.Statement{QueryID: "k" + string(rune('a'+i)), StatementCounts: reading.StatementCounts{ExecSeconds: 5000}})
		}
	}
	now.Statements.Items = append(now.Statements.Items, fresh)
	if got := trendsOf(now, earlier).Statements; len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// The first day of a history knows of nothing whether it is new.
	now, earlier = statements(3, func(int) float64 { return 0.05 })
	now.Statements.Items = append(now.Statements.Items, fresh)
	if got := trendsOf(now, earlier[60:]).Statements; len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestStatementsOfTheLastDay judges what a statement took lately, not ever.
func TestStatementsOfTheLastDay(t *testing.T) {
	now, earlier := statements(3, func(i int) float64 {
		if i < 10 {
			return 100 // long ago, and most of all time
		}
		return 0.05
	})
	if f := findingOf(analyse(now), "statement-slow"); f == nil || f.Object != "statement 42" {
		t.Fatalf("%+v", f)
	}
	if f := findingOf(analyse(now, earlier...), "statement-slow"); f != nil {
		t.Errorf("%+v", f)
	}
	if f := findingOf(analyse(now, earlier...), "statement-heavy"); f == nil || f.Object != "statement -1" || !strings.Contains(f.Summary, "in the last 23 hours") {
		t.Errorf("%+v", f)
	}
}

func TestLockEpisodes(t *testing.T) {
	waits := func(at ...int) []pgmedic.Finding {
		now, earlier := past(100, 5*time.Minute, func(i int, r *reading.Reading) {
			r.Locks = &reading.Locks{}
			if slices.Contains(at, i) {
				r.Locks.Waiting = []reading.LockWait{{Object: "public.queue", Mode: "ShareLock", WaitSeconds: float64(i) / 10}}
			}
		})
		return analyse(now, earlier...)
	}
	f := findingOf(waits(20, 21, 40, 60), "lock-waits-recurring")
	if f == nil || f.Object != "public.queue" || !strings.Contains(f.Summary, "3 times in 4 of 100 readings") {
		t.Errorf("%+v", f)
	}
	if f := findingOf(waits(20, 21, 22, 23, 60), "lock-waits-recurring"); f != nil {
		t.Errorf("two episodes: %+v", f)
	}
	if f := findingOf(waits(1, 3, 5, 7), "lock-waits-recurring"); f != nil {
		t.Errorf("waits of less than a second: %+v", f)
	}
}

// TestWindowsOfADay holds what is judged to the last day, where a longer past is
// known.
func TestWindowsOfADay(t *testing.T) {
	now, earlier := past(100, 12*time.Hour, func(i int, r *reading.Reading) {
		r.Transactions = &reading.Transactions{Commits: int64(10_000 * i)}
		if i > 50 {
			r.Transactions.Deadlocks = 1
		}
	})
	if f := findingOf(analyse(now, earlier...), "deadlocks-seen"); f != nil {
		t.Errorf("a deadlock of weeks ago: %+v", f)
	}
	if f := findingOf(analyse(now), "deadlocks-seen"); f == nil || f.Severity != pgmedic.SeverityInfo {
		t.Errorf("without a past: %+v", f)
	}
	now.Transactions.Deadlocks = 2
	if f := findingOf(analyse(now, earlier...), "deadlocks-seen"); f == nil || f.Severity != pgmedic.SeverityWarn || !strings.Contains(f.Summary, "in the last 12 hours") {
		t.Errorf("%+v", f)
	}
	if f := findingOf(analyse(now, earlier[49:50]...), "deadlocks-seen"); f == nil || !strings.Contains(f.Summary, "in the last 25 days") {
		t.Errorf("the only reading before is old: %+v", f)
	}
}

// TestOutlinesSayTheSame compares what whole Readings say with what is kept of
// them: outlines, and details of those that are wanted.
func TestOutlinesSayTheSame(t *testing.T) {
	now, whole := statements(7, func(i int) float64 { return 0.01 * (1 + float64(i)/50) })
	for i, r := range append(whole, now) {
		free := int64(50*gib - i*100<<20)
		r.Size = &reading.Size{DatabaseBytes: 40*gib + int64(i)<<20}
		r.Host = &reading.Host{DiskBytes: 100 * gib, DiskFreeBytes: free}
		r.Transactions = &reading.Transactions{Commits: int64(i * i), Deadlocks: int64(i)}
		r.WAL = &reading.WAL{Bytes: int64(i) << 20}
		r.Cache = &reading.Cache{LifetimeHits: int64(i * 1_000_000), LifetimeReads: int64(i * 300_000)}
		r.Checkpoints = &reading.Checkpoints{Timed: int64(i), Requested: int64(3 * i)}
		r.Locks = &reading.Locks{Waiting: []reading.LockWait{{Object: "public.t", WaitSeconds: 2}}}
		r.Replication = &reading.Replication{Standbys: []reading.Standby{{Application: "s", State: "streaming", ReplayLagSeconds: new(float64)}}}
		r.Tables.Items = []reading.Table{{Schema: "public", Name: "t", Exact: true, TotalBytes: int64(i) << 20}}
		r.Connections.ByState = []reading.StateCount{{State: "active", Connections: i}}
	}
	moments := make([]time.Time, len(whole))
	for i, r := range whole {
		moments[i] = r.TakenAt
	}
	wanted := judge.DetailsWanted(now.TakenAt, moments)
	if len(wanted) > 40 || len(wanted) < 20 {
		t.Errorf("details of %d readings", len(wanted))
	}
	kept := make([]*reading.Reading, len(whole))
	for i, r := range whole {
		kept[i] = copied[reading.Reading](t, r.Outline())
		if slices.ContainsFunc(wanted, r.TakenAt.Equal) {
			kept[i].Fill(*copied[reading.Detailed](t, r))
		}
	}
	x, y := trendsOf(now, whole), trendsOf(now, kept)
	// Tables are measured at fewer moments.
	if len(y.Tables) != 1 || math.Abs(y.Tables[0].BytesPerDay-x.Tables[0].BytesPerDay) > 1 {
		t.Errorf("%+v %+v", x.Tables, y.Tables)
	}
	x.Tables, y.Tables = nil, nil
	if !reflect.DeepEqual(x, y) {
		t.Errorf("trends differ:\n%+v\n%+v", x, y)
	}
	if x, y := analyse(now, whole...), analyse(now, kept...); !reflect.DeepEqual(x, y) {
		t.Errorf("findings differ:\n%+v\n%+v", x, y)
	}
}

// TestOutlinesWanted reads all of the last day, and of the time before no more
// than can be shown.
func TestOutlinesWanted(t *testing.T) {
	var moments []time.Time
	for at := noon.AddDate(0, 0, -30); at.Before(noon); at = at.Add(5 * time.Minute) {
		moments = append(moments, at)
	}
	got := judge.OutlinesWanted(noon, moments)
	if len(got) != 300+judge.MaxPoints/2 || !slices.Equal(got[len(got)-300:], moments[len(moments)-300:]) {
		t.Errorf("%d of %d readings", len(got), len(moments))
	}
	if got[0].After(moments[0].AddDate(0, 0, 1)) || !slices.IsSortedFunc(got, time.Time.Compare) {
		t.Errorf("they begin with %v", got[0])
	}
	if got := judge.OutlinesWanted(noon, moments[:3]); len(got) != 3 {
		t.Errorf("%d of 3 readings", len(got))
	}
	if got := judge.OutlinesWanted(noon, nil); len(got) != 0 {
		t.Error(got)
	}
}

// copied sends a value through JSON into another type.
func copied[T any](t *testing.T, v any) *T {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func findingOf(findings []pgmedic.Finding, id string) *pgmedic.Finding {
	i := slices.IndexFunc(findings, func(f pgmedic.Finding) bool { return f.ID == id })
	if i < 0 {
		return nil
	}
	return &findings[i]
}

// BenchmarkTrends is what 1,000 earlier Readings cost a report.
func BenchmarkTrends(b *testing.B) {
	now, earlier := statements(42, func(int) float64 { return 0.05 })
	for i, r := range earlier {
		if i%40 != 0 && i != len(earlier)-1 {
			*r = *r.Outline()
		}
	}
	for b.Loop() {
		judge.Analyse(now, earlier, reading.DefaultThresholds())
		judge.TrendsOf(now, earlier, reading.DefaultThresholds())
	}
}
