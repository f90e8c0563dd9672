package monitor_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// metricsOf renders a look as metrics, which must be as Prometheus wants them.
func metricsOf(t *testing.T, r *reading.Reading) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	var b bytes.Buffer
	report := render.NewReport(r.TakenAt, r, judge.Analyse(r, nil, reading.DefaultThresholds()))
	if err := prometheus.Write(&b, report, prometheus.Options{Server: "s"}); err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(b.Bytes())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err = parser.TextToMetricFamilies(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	return b.String(), families
}

// series finds the values of the series of a metric that have a label.
func series(f *dto.MetricFamily, name, value string) (values []float64) {
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == name && l.GetValue() == value {
				values = append(values, m.GetGauge().GetValue()+m.GetCounter().GetValue())
			}
		}
	}
	return values
}

func testMetricsOfEveryVersionAreClean(t *testing.T, dsn string) {
	const hostile = "a\"b\\c\nd} 1"
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE "+sqltext.QuoteIdent(hostile)+" (id serial PRIMARY KEY, s text)",
		"INSERT INTO "+sqltext.QuoteIdent(hostile)+" (s) SELECT 'PLANTED' FROM generate_series(1, 100)",
		"SELECT count(*) FROM "+sqltext.QuoteIdent(hostile)+" WHERE s = 'PLANTED'", "SET application_name = 'e''{}\"'")
	text, families := metricsOf(t, look(t, conn, collect.Options{Numbers: true, Interval: 10 * time.Millisecond}))
	if strings.Contains(text, "PLANTED") || strings.Contains(text, "count(*)") {
		t.Errorf("a statement is in\n%s", text)
	}
	if len(series(families["pgmedic_table_bytes"], "table", hostile)) != 1 || len(series(families["pgmedic_connections_by_user"], "application", `e'{}"`)) != 1 {
		t.Errorf("hostile names: %v, %v", families["pgmedic_table_bytes"], families["pgmedic_connections_by_user"])
	}
	for _, name := range []string{
		"pgmedic_connections_used", "pgmedic_statement_seconds_total", "pgmedic_transactions_committed_total", "pgmedic_database_bytes",
		"pgmedic_wraparound_used_ratio", "pgmedic_checkpoints_total", "pgmedic_archiver_failing", "pgmedic_wait_sessions",
		"pgmedic_sequence_used_ratio", "pgmedic_setting_bytes",
	} {
		// A server that is idle but for this look has no waits.
		if families[name] == nil && name != "pgmedic_wait_sessions" {
			t.Errorf("%s is missing", name)
		}
	}
	if n := len(families["pgmedic_statement_calls_total"].GetMetric()); n < 1 || n > 20 {
		t.Errorf("%d statements", n)
	}
}

func TestMetricsOfADatabaseInNoEncoding(t *testing.T) {
	// Its statements spoil pg_stat_statements for databases in UTF-8.
	server := scratchtest.New(t, options(0))
	utf8 := connect(t, server.DSN("postgres"))
	exec(t, utf8, "CREATE EXTENSION pg_stat_statements", "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
	ascii := testkit.Connect(t, server.DSN("ascii"), func(c *pgx.ConnConfig) { c.RuntimeParams["client_encoding"] = "SQL_ASCII" })
	exec(t, ascii, "CREATE TABLE \"a\xff\" (id int)", "CREATE TABLE \"a\xfe\" (id int)")
	_, families := metricsOf(t, look(t, connect(t, server.DSN("ascii")), collect.Options{Numbers: true}))
	for _, name := range []string{`a\xff`, `a\xfe`} {
		if len(series(families["pgmedic_table_bytes"], "table", name)) != 1 {
			t.Errorf("%s: %v", name, families["pgmedic_table_bytes"])
		}
	}
	r := look(t, utf8, collect.Options{})
	if reason := skipReason(r, "texts of statements"); !strings.Contains(reason, "another encoding") || r.Statements == nil {
		t.Errorf("texts in another encoding: %q", reason)
	}
}

func TestMetricsOfAStandby(t *testing.T) {
	primary := scratchtest.New(t, scratch.Options{})
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	standby.CatchUp(t)
	of := func(s *scratch.Server) map[string]*dto.MetricFamily {
		_, families := metricsOf(t, look(t, connect(t, s.DSN("postgres")), collect.Options{Numbers: true}))
		return families
	}
	testkit.Eventually(t, time.Minute, "both see each other", func() bool {
		there, here := of(primary), of(standby.Server)
		return there["pgmedic_standby_replay_lag_bytes"] != nil && there["pgmedic_server_standby"].GetMetric()[0].GetGauge().GetValue() == 0 &&
			here["pgmedic_server_standby"].GetMetric()[0].GetGauge().GetValue() == 1 && here["pgmedic_replay_receiving"] != nil &&
			here["pgmedic_replay_receiving"].GetMetric()[0].GetGauge().GetValue() == 1 && here["pgmedic_replay_replayed_bytes_total"] != nil
	})
}

// TestASectionIsReadAlone: each section by itself asks less than all, and what
// it finds is what a look at everything finds of it.
func TestASectionIsReadAlone(t *testing.T) {
	dsn := scratchtest.Database(t, shared)
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "CREATE TABLE wide (id int, s text) WITH (autovacuum_enabled = off)", "CREATE INDEX spare ON wide (s)", "CREATE INDEX spare2 ON wide (s)",
		"INSERT INTO wide SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i", "ANALYZE wide",
		"SELECT count(*) FROM wide WHERE id = 5", "SELECT count(*) FROM wide WHERE id = 6")
	limits := reading.DefaultThresholds()
	limits.UnusedIndexBytes, limits.SeqScans, limits.SeqScanRows, limits.TempBytes = 0, 1, 10, 0
	limits.SlowStatement, limits.SlowStatementCalls = 500*time.Millisecond, 1
	testkit.Eventually(t, time.Minute, "the scans are in the statistics", func() bool {
		scans := 0
		err := conn.QueryRow(t.Context(), "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'wide'").Scan(&scans)
		return err == nil && scans >= 2
	})
	// What other tests have asked of the server has a share that shrinks with each look.
	exec(t, conn, "SELECT pg_stat_statements_reset()", "SELECT pg_sleep(1)")
	whole := look(t, conn, collect.Options{})
	all := judge.Analyse(whole, nil, limits)
	for _, section := range reading.Sections() {
		r := look(t, conn, collect.Options{Sections: []string{section}})
		if section != reading.SectionTrends && r.Cost.Queries >= whole.Cost.Queries {
			t.Errorf("%s alone asks %d queries, all of them %d", section, r.Cost.Queries, whole.Cost.Queries)
		}
		want := []string{}
		for _, f := range all {
			if f.Section == section {
				want = append(want, f.ID+" "+f.Object)
			}
		}
		got := []string{}
		for _, f := range judge.Analyse(r, nil, limits) {
			got = append(got, f.ID+" "+f.Object)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s alone finds %q, in all it is %q", section, got, want)
		}
		_, families := metricsOf(t, r)
		for _, m := range prometheus.Metrics() {
			if m.Section != "" && m.Section != section && families[m.Name] != nil {
				t.Errorf("%s is shown of section %s alone", m.Name, section)
			}
		}
	}
	if !slices.ContainsFunc(all, func(f pgmedic.Finding) bool { return f.ID == "index-missing" }) {
		t.Errorf("nothing to compare: %v", names(all))
	}
}

func TestSectionsAreNamed(t *testing.T) {
	got, err := reading.ParseSections([]string{"Locks, connections", "locks"})
	if err != nil || !slices.Equal(got, []string{reading.SectionConnections, reading.SectionLocks}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := reading.ParseSections(nil); got != nil || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, wrong := range []string{"lock", "", "locks,", "all"} {
		if _, err := reading.ParseSections([]string{wrong}); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), reading.SectionReplication) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

// TestALookSaysWhatItCost counts what the server was really sent.
func TestALookSaysWhatItCost(t *testing.T) {
	sent := &counter{}
	conn := testkit.Connect(t, scratchtest.Database(t, shared), func(c *pgx.ConnConfig) {
		c.DefaultQueryExecMode, c.Tracer = pgx.QueryExecModeExec, sent
	})
	exec(t, conn, "CREATE TABLE t (id int)")
	for _, opts := range []collect.Options{{}, {Numbers: true}, {Interval: 10 * time.Millisecond}, {Sections: []string{reading.SectionLocks}}} {
		sent.n = 0
		r := look(t, conn, opts)
		if r.Cost.Statements != sent.n || r.Cost.Connections != 1 || r.Cost.Queries >= sent.n || r.Cost.Seconds <= 0 {
			t.Errorf("%+v: the reading says %+v, and %d were sent", opts, r.Cost, sent.n)
		}
	}
}
