package html_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/html"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
)

// htmlReports are the reports that the page is tried with.
func htmlReports(t *testing.T) map[string]render.Report {
	t.Helper()
	crowded := rendertest.Busy()
	crowded.Connections.Used, crowded.Connections.WaitingForLock, crowded.Connections.OldestTransactionSeconds = 57, 1, 180
	crowded.Connections.ByState = []reading.StateCount{{State: "idle", Connections: 44}, {State: "active", Connections: 11}, {State: "idle in transaction", Connections: 2}}
	trended := rendertest.ReportOn(crowded)
	trended.Trends = growing()
	muted := rendertest.Busy()
	return map[string]render.Report{
		"troubled": rendertest.ReportOn(rendertest.Clinic()),
		"healthy":  rendertest.ReportOn(rendertest.Healthy()),
		"busy":     rendertest.ReportOn(rendertest.Busy()),
		"trended":  trended,
		"muted": render.NewReport(rendertest.Noon(), muted, judge.Analyse(muted, nil, reading.DefaultThresholds()), judge.Mute{
			ID: "slot-inactive", Reason: "the standby <b>comes</b> back", Until: rendertest.Noon().Add(48 * time.Hour),
		}),
		"recorded": rendertest.ReportOn(recorded(t)),
		"standby":  rendertest.ReportOn(standby()),
		"skipped":  rendertest.ReportOn(skipped()),
		"nothing":  rendertest.ReportOn(&reading.Reading{Format: 1, TakenAt: rendertest.Noon(), Database: "d", Server: reading.Server{Version: "19beta1", Role: reading.RoleStandby}}),
		"huge":     rendertest.ReportOn(huge()),
		"hostile":  hostile(),
	}
}

// htmlOf renders one report.
func htmlOf(t *testing.T, r render.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := html.Write(&b, r, html.Options{Explain: explain}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// explain reads the page on findings, as the command does.
func explain(id string) string {
	text, err := os.ReadFile("../../../docs/findings.md")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), "\n### "+id+"\n")
	section, _, _ := strings.Cut(rest, "\n#")
	return section
}

// recorded is a reading of a real server, a clinic of synthetic people.
func recorded(t *testing.T) *reading.Reading {
	t.Helper()
	text, err := os.ReadFile("testdata/reading.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := reading.Decode(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// growing are the trends of thirty days, with a gap and a restart in them.
func growing() *judge.Trends {
	const hours, points = 720, 240
	trends := &judge.Trends{
		Since: rendertest.Noon().Add(-hours * time.Hour), Readings: 2100,
		Database: &judge.Growth{Name: "clinic", Bytes: 5 << 30, BytesPerDay: 37 << 20, LowPerDay: 31 << 20, HighPerDay: 43 << 20},
		Tables: []judge.Growth{
			{Name: "clinic.observations", Bytes: 3 << 30, BytesPerDay: 25 << 20, LowPerDay: 22 << 20, HighPerDay: 28 << 20},
			{Name: "clinic.claims", Bytes: 780 << 20, BytesPerDay: -2 << 20, LowPerDay: -4 << 20, HighPerDay: 1 << 18},
		},
		Disk: &judge.DiskForecast{FreeBytes: 40 << 30, Days: 1107, SoonestDays: 950},
		Statements: []judge.StatementChange{
			{QueryID: "1", Query: "select * from observations where patient_id = $1 order by taken_at desc limit $2", Calls: 5200, MeanSeconds: .3, BeforeCalls: 30000, BeforeMeanSeconds: .041},
			{QueryID: "2", Query: "refresh materialized view concurrently daily_claims", Calls: 24, MeanSeconds: 4.2},
		},
	}
	for i := range points {
		at := trends.Since.Add(time.Duration(i) * hours * time.Hour / (points - 1))
		day := 0.5 + 0.5*math.Sin(2*math.Pi*float64(at.Unix())/86400-1.5)
		wave := math.Sin(float64(i)*1.7) * math.Cos(float64(i)*.61)
		burst := math.Pow(math.Max(0, wave), 12)
		p := judge.Point{
			At: at, DatabaseBytes: rendertest.Of(int64(5<<30 - (points-i)*(37<<20)*30/points + int(wave*9e6))), DiskFreeBytes: rendertest.Of(int64(40 << 30)),
			Connections: rendertest.Of(20 + int(40*day+6*wave)), Active: rendertest.Of(3 + int(9*day+2*wave)), Waiting: rendertest.Of(max(0, int(3*wave-1))),
			LagSeconds: rendertest.Of(.2 + 9*burst), CacheHitPercent: rendertest.Of(99.6 - .4*day - .2*math.Abs(wave)),
			CommitsPerSecond: rendertest.Of(40 + 380*day + 30*wave), RollbacksPerSecond: rendertest.Of(2 + 3*day), WALBytesPerSecond: rendertest.Of((1.5 + 6*day + wave) * (1 << 20)),
			TempBytesPerSecond: rendertest.Of(burst * (3 << 20)), Deadlocks: rendertest.Of(int64(0)),
		}
		if i == 0 || i > 100 && i < 112 {
			p.CacheHitPercent, p.CommitsPerSecond, p.RollbacksPerSecond, p.WALBytesPerSecond, p.TempBytesPerSecond = nil, nil, nil, nil, nil
		}
		trends.Points = append(trends.Points, p)
	}
	return trends
}

// standby is a reading of a standby whose replay is paused.
func standby() *reading.Reading {
	r := rendertest.Healthy()
	r.Server.Role = reading.RoleStandby
	r.Replication = &reading.Replication{
		CurrentBytes: rendertest.Of(int64(8 << 30)), Standbys: []reading.Standby{}, Slots: []reading.Slot{},
		Replay: &reading.Replay{
			ReceiverStatus: "streaming", SenderHost: "10.0.0.1", ReceivedBytes: rendertest.Of(int64(9 << 30)), ReplayedBytes: rendertest.Of(int64(8 << 30)),
			MessageSeconds: rendertest.Of(2.5), LastReplayedAt: rendertest.At(20 * time.Minute), DelaySeconds: rendertest.Of(1200.0), Paused: true,
		},
		Conflicts:     &reading.Conflicts{Snapshot: 4},
		Subscriptions: []reading.Subscription{{Name: "from_the_ward", Enabled: true, TablesNotReady: 2}},
	}
	return r
}

// skipped is a reading in which every section is missing, with a reason.
func skipped() *reading.Reading {
	r := &reading.Reading{Format: 1, TakenAt: rendertest.Noon(), Database: "clinic", Server: reading.Server{Version: "15.20", VersionNum: 150020, Role: reading.RolePrimary}}
	for _, s := range []string{
		reading.SectionConnections, reading.SectionLocks, reading.SectionReplication, reading.SectionLimits, reading.SectionTables, reading.SectionIndexes,
		reading.SectionStatements, reading.SectionCache, reading.SectionSize, reading.SectionTransactions, reading.SectionCheckpoints,
		reading.SectionWaits, reading.SectionSettings, reading.SectionBackups, "of a later version",
	} {
		r.Skipped = append(r.Skipped, reading.Skipped{Section: s, Query: "what " + s + " needs", Reason: "this role lacks pg_monitor (SQLSTATE 42501)"})
	}
	return r
}

// huge is a reading with every list as long as Collect makes it.
func huge() *reading.Reading {
	r := rendertest.Busy()
	r.Tables.Total, r.Indexes.Total, r.Indexes.UnusedTotal, r.Indexes.ForeignKeysWithoutIndexTotal = 10_000, 20_000, 9000, 4000
	r.Tables.WithoutPrimaryKeyTotal, r.Statements.Total, r.Limits.SequencesTotal = 8000, 5000, 10_000
	fill := func(n int, one func(name string)) {
		for i := range n {
			one(fmt.Sprintf("a_table_of_the_ward_with_quite_a_long_name_%06d", i))
		}
	}
	fill(40, func(name string) {
		k := r.Tables.Items[0]
		k.Name, k.DeadTuples = name, k.LiveTuples/3
		r.Tables.Items = append(r.Tables.Items, k)
	})
	fill(200, func(name string) {
		r.Tables.WithoutPrimaryKey = append(r.Tables.WithoutPrimaryKey, reading.KeylessTable{Schema: "clinic", Name: name, EstimatedBytes: 1 << 30, EstimatedRows: 1e6, FreeColumn: "id"})
		r.Indexes.ForeignKeysWithoutIndex = append(r.Indexes.ForeignKeysWithoutIndex, reading.ForeignKey{
			Schema: "clinic", Table: name, Name: name + "_fkey", Columns: []string{"patient_id"}, ReferencedSchema: "clinic", ReferencedTable: "patients", EstimatedRows: 1e7, EstimatedBytes: 1 << 30,
		})
	})
	fill(50, func(name string) {
		k := r.Indexes.Largest[0]
		k.Name, k.Table = name+"_idx", name
		r.Indexes.Unused = append(r.Indexes.Unused, k)
		r.Indexes.Redundant = append(r.Indexes.Redundant, reading.IndexPair{Redundant: k, Kept: r.Indexes.Largest[0]})
		r.Indexes.Largest = append(r.Indexes.Largest, k)
		r.Databases = append(r.Databases, &reading.Reading{Database: name, Size: &reading.Size{DatabaseBytes: 1 << 30}, Tables: r.Tables, Skipped: []reading.Skipped{}})
		r.Locks.Waiting = append(r.Locks.Waiting, r.Locks.Waiting[0])
	})
	fill(60, func(name string) {
		q := r.Statements.Items[0]
		q.Query = "select " + strings.Repeat(name+", ", 340) + " from t"
		r.Statements.Items = append(r.Statements.Items, q)
	})
	return r
}

// planted are texts that would end an element, an attribute or a script, or
// pose as something else.
var planted = []string{
	`</script><script>document.title="owned"</script>`, `"><img src=x onerror="document.title='owned'">`, `' onmouseover='document.title=1`,
	"</style><style>*{display:none}</style>", "</code></pre><h1>owned</h1>", "<!--", "]]>", "{{.Verdict}}", "javascript:document.title=1", "a\nb\r\tc\x00d",
	"\u202eevil\u2066", "שלום עולם", "\xff\xfe", "&lt;b&gt;", strings.Repeat("long_", 2000), "`backquote` ${x}",
}

// hostile is a report in which everything that a server or a person names is
// one of planted.
func hostile() render.Report {
	r := rendertest.Busy()
	i := 0
	next := func() string {
		i++
		return planted[i%len(planted)]
	}
	r.Database = strings.Join(planted[:2], "")
	r.Server.Version, r.Server.SystemIdentifier = next(), next()
	for _, p := range planted {
		r.Server.Settings = append(r.Server.Settings, reading.Setting{Name: p, Value: p, Unit: p, Source: p})
		r.Server.Extensions = append(r.Server.Extensions, reading.Extension{Name: p, Version: p, Schema: p})
		r.Connections.ByUser = append(r.Connections.ByUser, reading.UserCount{User: p, Application: p, Connections: 1})
		r.Connections.ByClient = append(r.Connections.ByClient, reading.ClientCount{Client: p, Connections: 1})
		r.Connections.ByState = append(r.Connections.ByState, reading.StateCount{State: p, Connections: 1})
		session := reading.Session{PID: 1, User: p, Database: p, Application: p, Client: p, State: p, WaitEvent: p, Query: p}
		r.Connections.Longest = append(r.Connections.Longest, session)
		r.Locks.Blockers = append(r.Locks.Blockers, session)
		r.Locks.Waiting = append(r.Locks.Waiting, reading.LockWait{Session: session, LockType: p, Mode: p, Object: p})
		r.Tables.Items = append(r.Tables.Items, reading.Table{Schema: p, Name: p, Kind: p, LiveTuples: 1000, DeadTuples: 9000, Exact: true})
		r.Tables.WithoutPrimaryKey = append(r.Tables.WithoutPrimaryKey, reading.KeylessTable{Schema: p, Name: p, EstimatedRows: 100})
		r.Indexes.Largest = append(r.Indexes.Largest, reading.Index{Schema: p, Name: p, TableSchema: p, Table: p, Method: p, Valid: true})
		q := r.Statements.Items[0]
		q.Query, q.User, q.Database, q.QueryID = p, p, p, p
		r.Statements.Items = append(r.Statements.Items, q)
		r.Replication.Slots = append(r.Replication.Slots, reading.Slot{Name: p, Type: p, Database: p, WALStatus: p, InvalidationReason: p, RetainedBytes: rendertest.Of(int64(1 << 40))})
		r.Replication.Standbys = append(r.Replication.Standbys, reading.Standby{Application: p, Client: p, State: p, SyncState: p})
		r.Limits.Sequences = append(r.Limits.Sequences, reading.Sequence{Schema: p, Name: p, TableSchema: p, Table: p, Column: p, ColumnType: p, UsedPercent: 99, Limit: 100, LastValue: 99})
		r.Limits.Holders = append(r.Limits.Holders, reading.Holder{Kind: p, Name: p, Database: p})
		r.Waits.Statements = append(r.Waits.Statements, reading.StatementWait{WaitCount: reading.WaitCount{Type: p, Event: p, Seen: 1}, Query: p})
		r.Databases = append(r.Databases, &reading.Reading{Database: p, Skipped: []reading.Skipped{{Section: p, Query: p, Reason: p}}})
		r.Skipped = append(r.Skipped, reading.Skipped{Section: p, Query: p, Reason: p}, reading.Skipped{Section: "tables", Query: p, Reason: p})
	}
	findings := judge.Analyse(r, nil, reading.DefaultThresholds())
	for _, p := range planted {
		findings = append(findings, pgmedic.Finding{
			ID: p, Section: p, Severity: pgmedic.SeverityInfo, Database: p, Object: p, Summary: p, Fix: p, Risk: p, Docs: p, Evidence: []pgmedic.Evidence{{Name: p, Value: p}},
		})
	}
	out := render.NewReport(rendertest.Noon(), r, findings, judge.Mute{ID: "index-unused", Reason: planted[0], Until: rendertest.Noon().Add(time.Hour)})
	out.Trends = growing()
	out.Trends.Tables[0].Name, out.Trends.Statements[0].Query = planted[0], planted[1]
	return out
}
