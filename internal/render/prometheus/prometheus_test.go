package prometheus_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files anew")

func metrics(t *testing.T, r render.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := prometheus.Write(&b, r, prometheus.Options{Server: "db1:5432", Version: "1.2.3"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// parsed reads metrics as Prometheus does.
func parsed(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return families
}

// lint fails for whatever promtool check metrics would object to.
func lint(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// label returns the values of one label of a family, sorted.
func label(f *dto.MetricFamily, name string) (values []string) {
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == name {
				values = append(values, l.GetValue())
			}
		}
	}
	slices.Sort(values)
	return values
}

func TestEveryMetricIsWrittenAndClean(t *testing.T) {
	text := metrics(t, rendertest.FullReport())
	lint(t, text)
	families := parsed(t, text)
	for _, m := range prometheus.Metrics() {
		f := families[m.Name]
		if f == nil {
			t.Errorf("%s: nothing of a full report makes it", m.Name)
			continue
		}
		if strings.ToLower(f.GetType().String()) != m.Type() || f.GetHelp() != m.Help || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: type %s, help %q", m.Name, f.GetType(), f.GetHelp())
		}
		names := []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		if want := append([]string{"server", "database"}, m.Labels...); !slices.Equal(names, want) {
			t.Errorf("%s has labels %q, want %q", m.Name, names, want)
		}
		delete(families, m.Name)
	}
	for name := range families {
		t.Errorf("%s is not among Metrics()", name)
	}
}

func TestMetricsGolden(t *testing.T) {
	for name, r := range map[string]*reading.Reading{"troubled": rendertest.Clinic(), "busy": rendertest.Busy(), "healthy": rendertest.Healthy()} {
		t.Run(name, func(t *testing.T) {
			text := metrics(t, rendertest.ReportOn(r))
			lint(t, text)
			testkit.Golden(t, filepath.Join("testdata", name+".prom"), text, *update)
		})
	}
}

// TestTheSameReportGivesTheSameMetrics: neither maps nor the order of what the
// server answered show.
func TestTheSameReportGivesTheSameMetrics(t *testing.T) {
	want := metrics(t, rendertest.ReportOn(rendertest.Busy()))
	for range 20 {
		r := rendertest.Busy()
		slices.Reverse(r.Skipped)
		slices.Reverse(r.Connections.ByUser)
		slices.Reverse(r.Tables.Items)
		if got := metrics(t, rendertest.ReportOn(r)); got != want {
			t.Fatalf("another order gives other metrics:\n%s\nand\n%s", got, want)
		}
	}
}

func TestWhatIsUnknownIsAbsent(t *testing.T) {
	families := parsed(t, metrics(t, render.NewReport(rendertest.Noon(), &reading.Reading{TakenAt: rendertest.Noon(), Skipped: []reading.Skipped{}}, nil)))
	for _, m := range prometheus.Metrics() {
		if m.Section != "" && m.Section != reading.SectionOverview && families[m.Name] != nil {
			t.Errorf("%s of a reading without %s", m.Name, m.Section)
		}
	}
	// A section of which one list alone was read.
	r := &reading.Reading{
		TakenAt: rendertest.Noon(), Skipped: []reading.Skipped{},
		Connections: &reading.Connections{}, Locks: &reading.Locks{}, Limits: &reading.Limits{}, Tables: &reading.Tables{},
		Indexes: &reading.Indexes{}, Statements: &reading.Statements{}, Cache: &reading.Cache{}, Size: &reading.Size{},
		Waits: &reading.Waits{}, Security: &reading.Security{}, Host: &reading.Host{},
		Replication: &reading.Replication{
			Standbys: []reading.Standby{{Application: "a"}}, Slots: []reading.Slot{{Name: "s"}},
			Replay: &reading.Replay{ReceiverStatus: "hidden"}, Subscriptions: []reading.Subscription{{Name: "u"}},
		},
		Backups: &reading.Backups{},
	}
	families = parsed(t, metrics(t, render.NewReport(rendertest.Noon(), r, nil)))
	known := []string{
		"pgmedic_standbys", "pgmedic_standby_info", "pgmedic_slot_active", "pgmedic_replay_paused", "pgmedic_subscription_enabled",
		"pgmedic_subscription_running", "pgmedic_subscription_tables_not_ready", "pgmedic_backups",
	}
	for _, m := range prometheus.Metrics() {
		if m.Section != "" && m.Section != reading.SectionOverview && families[m.Name] != nil && !slices.Contains(known, m.Name) {
			t.Errorf("%s, of which nothing is known: %v", m.Name, families[m.Name])
		}
	}
	r.Cost.Seconds = math.NaN()
	r.Replication.Standbys[0].ReplayLagSeconds = rendertest.Of(math.Inf(1))
	families = parsed(t, metrics(t, render.NewReport(rendertest.Noon(), r, nil)))
	if families["pgmedic_collect_duration_seconds"] != nil || families["pgmedic_standby_replay_lag_seconds"] != nil {
		t.Error("what is no number was written")
	}
}

func TestHostileNamesSurviveInLabels(t *testing.T) {
	names := []string{`a"b`, "a\nb", `a\b`, `a\nb`, "é", "", "a{b=\"c\"} 1\n# HELP x", "\u202e", "\x1b[2J"}
	r := rendertest.Healthy()
	r.Tables.Items = nil
	for i, name := range names {
		r.Tables.Items = append(r.Tables.Items, reading.Table{Schema: name, Name: name, LiveTuples: int64(i)})
	}
	// As a database in SQL_ASCII can hold it, beside the name that it becomes.
	r.Tables.Items = append(r.Tables.Items, reading.Table{Schema: "s", Name: "a\xff", LiveTuples: 7}, reading.Table{Schema: "s", Name: `a\xff`, LiveTuples: 9})
	text := metrics(t, rendertest.ReportOn(r))
	lint(t, text)
	f := parsed(t, text)["pgmedic_table_live_rows"]
	want := append(slices.Clone(names), `a\xff`)
	slices.Sort(want)
	if got := label(f, "table"); !slices.Equal(got, want) {
		t.Errorf("tables %q, want %q", got, want)
	}
	for _, m := range f.GetMetric() {
		if m.GetLabel()[3].GetValue() == `a\xff` && m.GetGauge().GetValue() != 9 {
			t.Errorf("of two that can't be told apart: %v", m)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	r := rendertest.Busy()
	for i := range 3000 {
		name := fmt.Sprint("x", i)
		r.Statements.Items = append(r.Statements.Items, reading.Statement{QueryID: name, StatementCounts: reading.StatementCounts{Calls: 1}})
		r.Limits.Databases = append(r.Limits.Databases, reading.DatabaseAge{Name: name})
		r.Replication.Slots = append(r.Replication.Slots, reading.Slot{Name: name})
		r.Replication.Standbys = append(r.Replication.Standbys, reading.Standby{Application: name})
		r.Replication.Subscriptions = append(r.Replication.Subscriptions, reading.Subscription{Name: name})
	}
	r.Indexes.Total, r.Indexes.EstimatedBytes = 4000, 1<<40
	families := parsed(t, metrics(t, rendertest.ReportOn(r)))
	for name, f := range families {
		if n := len(f.GetMetric()); n > 60 {
			t.Errorf("%s has %d series", name, n)
		}
	}
	sum := 0.0
	for _, m := range families["pgmedic_index_bytes"].GetMetric() {
		sum += m.GetGauge().GetValue()
	}
	if !slices.Contains(label(families["pgmedic_index_bytes"], "index"), "other") || sum != 1<<40 {
		t.Errorf("all indexes together are %.0f bytes", sum)
	}
}

// TestNoStatementGetsIntoMetrics plants a secret in everything that isn't a
// name.
func TestNoStatementGetsIntoMetrics(t *testing.T) {
	const secret = "PLANTED"
	full := rendertest.FullReport()
	plantIn(reflect.ValueOf(&full).Elem(), secret)
	if n := bytes.Count(mustJSON(t, full), []byte(secret)); n < 10 {
		t.Fatalf("planted %d", n)
	}
	if text := metrics(t, full); strings.Contains(text, secret) {
		t.Errorf("the secret is in\n%s", text)
	}
}

func mustJSON(t *testing.T, r render.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := render.JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// plantIn puts a text into each field that can hold words, code or a path.
func plantIn(v reflect.Value, secret string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			plantIn(v.Elem(), secret)
		}
	case reflect.Slice:
		for i := range v.Len() {
			plantIn(v.Index(i), secret)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			name := v.Type().Field(i).Name
			words := []string{
				"Query", "Definition", "Summary", "Fix", "Risk", "Reason", "Verdict", "Value", "LastArchived", "LastFailed", "GID", "SenderHost",
				"PartitionKey", "Docs",
			}
			if f.Kind() == reflect.String && slices.Contains(words, name) {
				f.SetString(secret)
			} else {
				plantIn(f, secret)
			}
		}
	}
}

func TestAServerThatIsDown(t *testing.T) {
	var b bytes.Buffer
	if err := prometheus.WriteDown(&b, "clinic", prometheus.Options{Server: "db1:5432", Version: "1.2.3"}); err != nil {
		t.Fatal(err)
	}
	lint(t, b.String())
	const want = `# HELP pgmedic_up Whether the server could be reached and read: 1 or 0.
# TYPE pgmedic_up gauge
pgmedic_up{server="db1:5432",database="clinic"} 0
# HELP pgmedic_build_info The version of pgmedic; always 1.
# TYPE pgmedic_build_info gauge
pgmedic_build_info{server="db1:5432",database="clinic",version="1.2.3"} 1
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestMutedFindingsAreNotCounted(t *testing.T) {
	findings := []pgmedic.Finding{
		{ID: "fsync-off", Severity: pgmedic.SeverityCritical, Object: "fsync"},
		{ID: "index-unused", Severity: pgmedic.SeverityInfo, Object: "a"}, {ID: "index-unused", Severity: pgmedic.SeverityInfo, Object: "b"},
	}
	r := render.NewReport(rendertest.Noon(), rendertest.Healthy(), findings, judge.Mute{ID: "fsync-off", Reason: "known", Until: rendertest.Noon().AddDate(1, 0, 0)})
	text := metrics(t, r)
	for _, want := range []string{
		`pgmedic_findings{server="db1:5432",database="clinic",severity="critical"} 0`,
		`pgmedic_findings{server="db1:5432",database="clinic",severity="info"} 2`,
		`pgmedic_finding{server="db1:5432",database="clinic",id="index-unused",severity="info"} 2`,
		`pgmedic_findings_muted{server="db1:5432",database="clinic"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, "fsync-off") {
		t.Error("a muted finding is counted")
	}
}
