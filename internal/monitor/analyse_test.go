package monitor_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// reading returns a Reading in which nothing is wrong, changed.
func aReading(change func(r *reading.Reading)) *reading.Reading {
	r := &reading.Reading{
		Format: reading.ReadingFormat, TakenAt: noon, Database: "clinic",
		Server: reading.Server{
			Version: "15.20", VersionNum: 150020, Role: reading.RolePrimary, SystemIdentifier: "7",
			Settings: []reading.Setting{
				{Name: "autovacuum", Value: "on"}, {Name: "autovacuum_vacuum_scale_factor", Value: "0.2"},
				{Name: "autovacuum_vacuum_threshold", Value: "50"},
			},
		},
		Connections: &reading.Connections{Used: 10, MaxConnections: 103, SuperuserReserved: 3},
		Cache:       &reading.Cache{LifetimeHits: 999_000, LifetimeReads: 1000},
		Tables:      &reading.Tables{},
		Indexes:     &reading.Indexes{},
		Skipped:     []reading.Skipped{},
	}
	if change != nil {
		change(r)
	}
	return r
}

func analyse(r *reading.Reading, earlier ...*reading.Reading) []pgmedic.Finding {
	return judge.Analyse(r, earlier, reading.DefaultThresholds())
}

func TestAnalyseThresholds(t *testing.T) {
	used := func(n, reserved int) func(*reading.Reading) {
		return func(r *reading.Reading) { r.Connections.Used, r.Connections.Reserved = n, reserved }
	}
	idle := func(seconds float64) func(*reading.Reading) {
		return func(r *reading.Reading) {
			r.Connections.IdleInTransaction = []reading.IdleSession{{PID: 7, User: "app", IdleSeconds: seconds, TransactionSeconds: seconds}}
		}
	}
	dead := func(live, dead int64) func(*reading.Reading) {
		return func(r *reading.Reading) {
			r.Tables.Items = []reading.Table{{Schema: "s", Name: "t", LiveTuples: live, DeadTuples: dead, EstimatedRows: live}}
		}
	}
	key := func(rows int64) func(*reading.Reading) {
		return func(r *reading.Reading) {
			r.Indexes.ForeignKeysWithoutIndex = []reading.ForeignKey{{Schema: "s", Table: "t", Columns: []string{"c"}, EstimatedRows: rows}}
		}
	}
	cache := func(hits, reads int64) func(*reading.Reading) {
		return func(r *reading.Reading) { r.Cache = &reading.Cache{LifetimeHits: hits, LifetimeReads: reads} }
	}
	tests := []struct {
		name   string
		change func(*reading.Reading)
		id     string
		want   pgmedic.Severity // empty: no finding
	}{
		{"healthy", nil, "", ""},
		{"80 of 100 connections", used(80, 0), "connections-near-limit", ""},
		{"81 of 100", used(81, 0), "connections-near-limit", pgmedic.SeverityWarn},
		{"90 of 100", used(90, 0), "connections-near-limit", pgmedic.SeverityWarn},
		{"91 of 100", used(91, 0), "connections-near-limit", pgmedic.SeverityCritical},
		{"80 of 90, as 10 are reserved", used(80, 10), "connections-near-limit", pgmedic.SeverityWarn},
		{"idle 300 s", idle(300), "idle-in-transaction", ""},
		{"idle 301 s", idle(301), "idle-in-transaction", pgmedic.SeverityWarn},
		{"10 % dead", dead(90_000, 10_000), "table-dead-tuples", ""},
		{"more than 10 % dead", dead(90_000, 10_100), "table-dead-tuples", pgmedic.SeverityWarn},
		{"1,000 dead of few", dead(100, 1000), "table-dead-tuples", ""},
		{"1,001 dead of few", dead(100, 1001), "table-dead-tuples", pgmedic.SeverityWarn},
		{"empty table", dead(0, 0), "table-dead-tuples", ""},
		{"small table's key", key(999), "foreign-key-without-index", pgmedic.SeverityInfo},
		{"large table's key", key(1000), "foreign-key-without-index", pgmedic.SeverityWarn},
		{"99 % hits", cache(99_000, 1000), "cache-hit-low", ""},
		{"98.9 % hits", cache(98_900, 1100), "cache-hit-low", pgmedic.SeverityWarn},
		{"95 % hits", cache(95_000, 5000), "cache-hit-low", pgmedic.SeverityWarn},
		{"94 % hits", cache(94_000, 6000), "cache-hit-low", pgmedic.SeverityCritical},
		{"too few accesses to say", cache(50_000, 49_999), "cache-hit-low", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings := analyse(aReading(tt.change))
			if tt.want == "" {
				if len(findings) > 0 {
					t.Fatalf("found %s", names(findings))
				}
				return
			}
			if len(findings) != 1 || findings[0].ID != tt.id || findings[0].Severity != tt.want {
				t.Fatalf("found %+v", findings)
			}
			f := findings[0]
			if f.Docs != "findings.md#"+f.ID || f.Summary == "" || f.Object == "" || f.Fix == "" || f.Risk == "" || len(f.Evidence) < 3 {
				t.Errorf("incomplete: %+v", f)
			}
		})
	}
}

func TestAnalyseOfNothingFindsNothing(t *testing.T) {
	findings := analyse(&reading.Reading{}, nil, &reading.Reading{})
	if findings == nil || len(findings) != 0 {
		t.Errorf("found %v", findings)
	}
}

func TestAnalyseSortsTheSameWayEveryTime(t *testing.T) {
	r := aReading(func(r *reading.Reading) {
		r.Connections.Used = 100
		r.Connections.IdleInTransaction = []reading.IdleSession{{PID: 1, IdleSeconds: 400}, {PID: 2, IdleSeconds: 500}}
		r.Tables.Items = []reading.Table{
			{Schema: "s", Name: "small", LiveTuples: 1, DeadTuples: 9999, EstimatedBytes: 10},
			{Schema: "s", Name: "large", LiveTuples: 1, DeadTuples: 9999, EstimatedBytes: 1 << 40},
		}
		r.Indexes.ForeignKeysWithoutIndex = []reading.ForeignKey{
			{Schema: "s", Table: "b", Columns: []string{"c"}, EstimatedRows: 1e6, EstimatedBytes: 1000},
			{Schema: "s", Table: "a", Columns: []string{"c"}, EstimatedRows: 1e6, EstimatedBytes: 1000},
			{Schema: "s", Table: "tiny", Columns: []string{"c"}},
		}
	})
	var got []string
	for _, f := range analyse(r) {
		got = append(got, f.Object)
	}
	want := []string{
		"server", "process 2 (role \"\")", "process 1 (role \"\")", "s.large", "s.a (c)", "s.b (c)", "s.small", "s.tiny (c)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("order\n%v, want\n%v", got, want)
	}
	if !reflect.DeepEqual(analyse(r), analyse(r)) {
		t.Error("twice is not the same")
	}
}

func TestAutovacuumTrigger(t *testing.T) {
	yesterday := noon.Add(-24 * time.Hour)
	tests := []struct {
		name    string
		options []string
		last    *time.Time
		rows    int64
		setting reading.Setting
		at, say string
	}{
		{"due and never there", nil, nil, 10_000, reading.Setting{}, "2050", "has never been here"},
		{"due again", nil, &yesterday, 10_000, reading.Setting{}, "2050", "last here on 2026-11-21"},
		{"not due", nil, nil, 1_000_000, reading.Setting{}, "200050", "has not been due"},
		{"the table's own", []string{"autovacuum_vacuum_scale_factor=0.01", "autovacuum_vacuum_threshold=7"}, nil, 10_000, reading.Setting{}, "107", "due"},
		{"capped from 18", nil, nil, 1e9, reading.Setting{Name: "autovacuum_vacuum_max_threshold", Value: "4000"}, "4000", "due"},
		{"never analyzed", nil, nil, -1, reading.Setting{}, "50", "due"},
		{"off for the table", []string{"fillfactor=70", "autovacuum_enabled=OFF"}, nil, 10_000, reading.Setting{}, "2050", "off for this table"},
		{"on for the table", []string{"autovacuum_enabled=on"}, nil, 10_000, reading.Setting{}, "2050", "never been here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings := analyse(aReading(func(r *reading.Reading) {
				r.Server.Settings = append(r.Server.Settings, tt.setting)
				r.Tables.Items = []reading.Table{{
					Schema: "s", Name: "t", LiveTuples: 6000, DeadTuples: 5000, EstimatedRows: tt.rows,
					Options: tt.options, LastAutovacuum: tt.last,
				}}
			}))
			if len(findings) != 1 || !strings.Contains(findings[0].Summary, tt.say) ||
				!slices.Contains(findings[0].Evidence, pgmedic.Evidence{Name: "autovacuum_at_dead_tuples", Value: tt.at}) {
				t.Errorf("found %+v", findings)
			}
		})
	}
}

func TestCacheIsJudgedFromWhatHappenedSince(t *testing.T) {
	low := func(r *reading.Reading) { r.Cache = &reading.Cache{LifetimeHits: 10_000_000, LifetimeReads: 5_000_000} }
	before := func(ago time.Duration, hits, reads int64, change func(*reading.Reading)) *reading.Reading {
		return aReading(func(r *reading.Reading) {
			r.TakenAt = noon.Add(-ago)
			r.Cache = &reading.Cache{LifetimeHits: hits, LifetimeReads: reads}
			if change != nil {
				change(r)
			}
		})
	}
	reset := noon.Add(-time.Minute)
	tests := []struct {
		name    string
		earlier []*reading.Reading
		want    string // part of the summary, empty: no finding
	}{
		{"nothing earlier", nil, "a lifetime average"},
		{"well since", []*reading.Reading{before(time.Hour, 9_000_000, 4_999_999, nil)}, ""},
		{"badly since", []*reading.Reading{before(3*time.Hour, 9_900_000, 4_900_000, nil)}, "50.0 % of block accesses were found in shared_buffers (in the last 3 hours)"},
		{"too quiet since the newest", []*reading.Reading{
			before(5*time.Minute, 9_999_999, 4_999_999, nil), before(3*time.Hour, 9_900_000, 4_900_000, nil),
		}, "in the last 3 hours"},
		{"the newest that will do", []*reading.Reading{
			before(9*time.Hour, 0, 0, nil), before(3*time.Hour, 9_900_000, 4_900_000, nil), before(5*time.Hour, 1, 1, nil),
		}, "in the last 3 hours"},
		{"another database", []*reading.Reading{before(time.Hour, 9_000_000, 4_999_999, func(r *reading.Reading) { r.Database = "x" })}, "lifetime"},
		{"another server", []*reading.Reading{before(time.Hour, 9_000_000, 4_999_999, func(r *reading.Reading) { r.Server.SystemIdentifier = "8" })}, "lifetime"},
		{"reset between", []*reading.Reading{before(time.Hour, 9_000_000, 4_999_999, func(r *reading.Reading) { r.Cache.StatsReset = &reset })}, "lifetime"},
		{"counters went back", []*reading.Reading{before(time.Hour, 99_000_000, 4_999_999, nil)}, "lifetime"},
		{"later, not earlier", []*reading.Reading{before(-time.Hour, 9_000_000, 4_999_999, nil)}, "lifetime"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings := analyse(aReading(low), tt.earlier...)
			if tt.want == "" && len(findings) > 0 || tt.want != "" && (len(findings) != 1 || !strings.Contains(findings[0].Summary, tt.want)) {
				t.Errorf("found %+v", findings)
			}
		})
	}
}

func TestAdviceOnAStandbySaysWhereToRunIt(t *testing.T) {
	findings := analyse(aReading(func(r *reading.Reading) {
		r.Server.Role = reading.RoleStandby
		r.Indexes.ForeignKeysWithoutIndex = []reading.ForeignKey{{Schema: "s", Table: "t", Columns: []string{"c"}}}
		r.Tables.WithoutPrimaryKey = []reading.KeylessTable{{Schema: "s", Name: "u", FreeColumn: "id"}}
	}))
	if len(findings) != 2 {
		t.Fatalf("found %s", names(findings))
	}
	for _, f := range findings {
		if !strings.HasPrefix(f.Risk, "Run it on the primary") {
			t.Errorf("%s: %s", f.ID, f.Risk)
		}
	}
}

func TestAPartitionThatHasAnIndexKeepsTheParentsAway(t *testing.T) {
	// Its index may differ from ours, and then the parent would build one more
	// under a lock.
	k := reading.ForeignKey{
		Schema: "s", Table: "t", Columns: []string{"c"}, Partitioned: true, OnParent: true, Partitions: 2,
		PartitionsWithout: []reading.Relation{{Schema: "s", Name: "t1"}}, PartitionsWithoutTotal: 1,
	}
	f := analyse(aReading(func(r *reading.Reading) { r.Indexes.ForeignKeysWithoutIndex = []reading.ForeignKey{k} }))[0]
	if f.Fix != `CREATE INDEX CONCURRENTLY ON "s"."t1" ("c");` {
		t.Errorf("fix: %s", f.Fix)
	}
}

func TestReadingSurvivesJSON(t *testing.T) {
	conn := connect(t, shared.DSN("postgres"))
	exec(t, conn, "CREATE TEMP TABLE x (i int)")
	r := look(t, conn, collect.Options{Now: func() time.Time { return noon }})
	first, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := reading.Decode(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r, back) {
		t.Errorf("went in\n%+v and came out\n%+v", r, back)
	}
	report := `{"format": 1, "findings": [], "reading": ` + string(first) + "}"
	within, err := reading.Decode(strings.NewReader(report))
	if err != nil || !reflect.DeepEqual(r, within) {
		t.Errorf("within a report it came out as\n%+v, %v", within, err)
	}
	if r.Cost.Seconds != 0 || !r.TakenAt.Equal(noon) {
		t.Error("the clock that was passed in was not used")
	}
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"", "[]", "{}", `{"format": 2}`, `{"format": "1"}`} {
		if _, err := reading.Decode(strings.NewReader(text)); pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		} else if strings.Contains(err.Error(), "Go ") {
			t.Errorf("%q: %v speaks of Go's types", text, err)
		}
	}
	if _, err := reading.Decode(strings.NewReader(`{"format": 1, "of_tomorrow": true}`)); err != nil {
		t.Errorf("a new field is refused: %v", err)
	}
}
