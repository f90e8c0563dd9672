package monitor_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func testEveryQueryAnswersOnEveryVersion(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn,
		"CREATE TABLE parent (id int PRIMARY KEY)",
		"CREATE TABLE child (p int REFERENCES parent, t text) PARTITION BY HASH (p)",
		"CREATE TABLE child_0 PARTITION OF child FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
		"CREATE MATERIALIZED VIEW seen AS SELECT * FROM parent",
		"INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (1, repeat('x', 9000))", "ANALYZE")
	// As a report's own session: what isn't the system's is closed to it.
	exec(t, conn, "CREATE EXTENSION pg_stat_statements",
		"SELECT set_config(name, 'view,foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'")
	r := look(t, conn, collect.Options{})
	if wrong := unexpected(r.Skipped); len(wrong) > 0 {
		t.Errorf("skipped: %+v", wrong)
	}
	if major(t, conn) >= 14 && (r.Statements == nil || r.Statements.StatsReset == nil || r.Statements.Evicted == nil) {
		t.Errorf("statements: %+v", r.Statements)
	}
	if r.Server.VersionNum/10000 < 12 || r.Server.Role != reading.RolePrimary || r.Server.SystemIdentifier == "" ||
		r.Server.UptimeSeconds <= 0 || len(r.Server.Settings) < 25 || len(r.Server.Extensions) == 0 {
		t.Errorf("server: %+v", r.Server)
	}
	if r.Connections == nil || r.Connections.Used < 1 || r.Connections.Usable() < 1 || r.Connections.Hidden != 0 {
		t.Errorf("connections: %+v", r.Connections)
	}
	if r.Cache == nil || r.Size == nil || r.Size.DatabaseBytes < 1<<20 {
		t.Errorf("cache %+v, size %+v", r.Cache, r.Size)
	}
	if r.Tables.Total != 3 || len(r.Tables.Items) != 3 {
		t.Fatalf("tables: %+v", r.Tables)
	}
	for _, x := range r.Tables.Items {
		if !x.Exact || x.TotalBytes != x.TableBytes+x.IndexBytes+x.ToastBytes {
			t.Errorf("sizes of %s: %+v", x.Name, x)
		}
	}
	if r.Cost.Queries < 10 || r.Cost.Seconds <= 0 {
		t.Errorf("cost: %+v", r.Cost)
	}
	if len(r.Tables.WithoutPrimaryKey) != 1 || len(r.Indexes.ForeignKeysWithoutIndex) != 1 {
		t.Errorf("a partition counts beside its parent: %+v, %+v", r.Tables.WithoutPrimaryKey, r.Indexes)
	}
}

// unexpected are skips for another reason than that a version or an extension
// doesn't know.
func unexpected(all []reading.Skipped) []reading.Skipped {
	return slices.DeleteFunc(slices.Clone(all), func(s reading.Skipped) bool { return strings.HasPrefix(s.Reason, "needs ") })
}

func TestARoleWithoutPrivilegesGetsAReport(t *testing.T) {
	dsn := scratchtest.Database(t, shared)
	owner := connect(t, dsn)
	exec(t, owner, "CREATE ROLE nobody_special", "CREATE TABLE secret (id int)",
		"REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		_, _ = owner.Exec(ctx, "GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
		_, _ = owner.Exec(ctx, "DROP ROLE nobody_special")
	})
	r := look(t, connect(t, dsn, "nobody_special"), collect.Options{})
	if reason := skipReason(r, "system identifier"); !strings.Contains(reason, "lacks EXECUTE") {
		t.Errorf("refused query: %q", reason)
	}
	// What the server would refuse, and log as an error, is not asked.
	for _, s := range r.Skipped {
		if strings.Contains(s.Reason, "SQLSTATE") {
			t.Errorf("the server logged an error: %+v", s)
		}
	}
	if reason := skipReason(r, "sessions of other roles"); !strings.Contains(reason, "pg_monitor") {
		t.Errorf("hidden sessions: %q", reason)
	}
	if r.Connections == nil || r.Connections.Used < 2 || r.Connections.Hidden < 1 {
		t.Errorf("connections: %+v", r.Connections)
	}
	if r.Size == nil || r.Cache == nil || r.Indexes == nil || len(r.Tables.WithoutPrimaryKey) != 1 {
		t.Errorf("sections are missing: %+v", r)
	}
}

func TestOneFailingQueryLosesNothingElse(t *testing.T) {
	dsn := scratchtest.Database(t, shared)
	conn := connect(t, dsn)
	locker := connect(t, dsn)

	t.Run("lock", func(t *testing.T) {
		exec(t, locker, "BEGIN", "LOCK TABLE pg_catalog.pg_constraint IN ACCESS EXCLUSIVE MODE")
		r := look(t, conn, collect.Options{})
		exec(t, locker, "ROLLBACK")
		if reason := skipReason(r, "foreign keys without index"); !strings.Contains(reason, "55P03") || !strings.Contains(reason, "lock") {
			t.Errorf("reason: %q of %+v", reason, r.Skipped)
		}
		if r.Indexes != nil {
			t.Error("what was not read must be nil")
		}
		if r.Connections == nil || r.Cache == nil || r.Size == nil || r.Tables == nil {
			t.Errorf("sections are missing: %+v", r)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		// The query passes an oid, so this is chosen before the real one.
		exec(t, conn, "CREATE TABLE slow (id int PRIMARY KEY)",
			"CREATE FUNCTION pg_catalog.pg_total_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT pg_sleep(60); SELECT 1::bigint'")
		// A new session, which has not prepared the query yet.
		r := look(t, connect(t, dsn), collect.Options{QueryTimeout: 3 * time.Second})
		if reason := skipReason(r, "exact table sizes"); !strings.Contains(reason, "than 3.0 s") || !strings.Contains(reason, "57014") {
			t.Errorf("reason: %q of %+v", reason, r.Skipped)
		}
		if r.Size == nil || len(r.Tables.Items) != 1 || r.Tables.Items[0].Exact || r.Indexes == nil {
			t.Errorf("sections: %+v", r.Tables)
		}
	})
}

func TestALockedTableIsNotMeasuredAndTheOthersAre(t *testing.T) {
	dsn := scratchtest.Database(t, shared)
	conn, locker := connect(t, dsn), connect(t, dsn)
	exec(t, conn, "CREATE TABLE free (id int PRIMARY KEY)", "CREATE TABLE held (id int PRIMARY KEY)", "CREATE TABLE reindexed (id int PRIMARY KEY)")
	exec(t, locker, "BEGIN", "LOCK TABLE held IN ACCESS EXCLUSIVE MODE", "REINDEX INDEX reindexed_pkey")
	r := look(t, conn, collect.Options{})
	exact := map[string]bool{}
	for _, x := range r.Tables.Items {
		exact[x.Name] = x.Exact
	}
	if !exact["free"] || exact["held"] || exact["reindexed"] {
		t.Errorf("measured: %v", exact)
	}
	if skipReason(r, "exact size of public.held") == "" {
		t.Errorf("skipped: %+v", r.Skipped)
	}
}

func TestCollectLeavesNothingBehind(t *testing.T) {
	conn := connect(t, scratchtest.Database(t, shared))
	exec(t, conn, "SET statement_timeout = '77s'", "SET search_path = public")
	look(t, conn, collect.Options{})
	var timeout, path, status string
	err := conn.QueryRow(t.Context(), "SELECT current_setting('statement_timeout'), current_setting('search_path'), "+
		"count(*)::text FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation > 16383").
		Scan(&timeout, &path, &status)
	if err != nil {
		t.Fatal(err)
	}
	if timeout != "77s" && timeout != "77000ms" || path != "public" || status != "0" || conn.PgConn().TxStatus() != 'I' {
		t.Errorf("timeout %s, path %s, locks %s, transaction %c", timeout, path, status, conn.PgConn().TxStatus())
	}
}

func TestCollectSaysThatItLooksAtNobodysFunctions(t *testing.T) {
	conn := connect(t, scratchtest.Database(t, shared))
	exec(t, conn,
		// A user's function that fits better than pg_catalog's would win, were
		// public on the search path.
		"CREATE FUNCTION public.count() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$",
		"CREATE FUNCTION public.quote_ident(name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$",
		"CREATE FUNCTION public.greatest_(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
		"CREATE TABLE a (id name PRIMARY KEY)", "CREATE TABLE b (id name REFERENCES a)",
		"SET search_path = public, pg_catalog")
	if wrong := unexpected(look(t, conn, collect.Options{}).Skipped); len(wrong) > 0 {
		t.Errorf("skipped: %+v", wrong)
	}
}

func TestCollectFailsWithAKind(t *testing.T) {
	t.Run("cancelled", func(t *testing.T) {
		conn := connect(t, scratchtest.Database(t, shared))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := collect.Collect(ctx, conn, collect.Options{}); pgmedic.KindOf(err) != pgmedic.KindInterrupted {
			t.Errorf("kind %s of %v", pgmedic.KindOf(err), err)
		}
	})
	t.Run("connection lost half-way", func(t *testing.T) {
		conn := connect(t, scratchtest.Database(t, shared))
		killer := connect(t, shared.DSN("postgres"))
		_, err := collect.Collect(t.Context(), &dying{Conn: conn, kill: func() {
			exec(t, killer, "SELECT pg_terminate_backend("+itoa(conn.PgConn().PID())+")")
		}}, collect.Options{})
		if pgmedic.KindOf(err) != pgmedic.KindUnreachable {
			t.Errorf("kind %s of %v", pgmedic.KindOf(err), err)
		}
	})
}

// dying is a connection whose session is ended once the transaction is open.
type dying struct {
	*pgx.Conn
	kill func()
}

func (d *dying) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	tx, err := d.Conn.BeginTx(ctx, opts)
	if err == nil {
		d.kill()
	}
	return tx, err
}

func TestConnectionsAndCacheOfARealServer(t *testing.T) {
	server := scratchtest.New(t, scratch.Options{Settings: map[string]string{
		"max_connections": "10", "superuser_reserved_connections": "3", "max_wal_senders": "0", "shared_buffers": "1MB",
	}})
	conn := connect(t, server.DSN("postgres"))
	mustNotFind(t, judgeNow(t, conn), "connections-near-limit", "server")
	for range 6 {
		connect(t, server.DSN("postgres"))
	}
	f := mustFind(t, judgeNow(t, conn), "connections-near-limit", "server")
	if f.Severity != pgmedic.SeverityCritical {
		t.Errorf("7 of 7 are %s", f.Severity)
	}
	paste(t, conn, f.Fix)

	// 20 MB read over and over do not fit into 1 MB.
	exec(t, conn, "CREATE TABLE wide AS SELECT i, repeat('x', 1000) AS t FROM generate_series(1, 20000) i")
	limits := reading.DefaultThresholds()
	limits.CacheMinAccesses = 10000
	before := look(t, conn, collect.Options{})
	var findings []pgmedic.Finding
	testkit.Eventually(t, time.Minute, "the reads are in the statistics", func() bool {
		exec(t, conn, "SELECT count(*) FROM wide", "SELECT count(*) FROM wide", "SELECT count(*) FROM wide", "SELECT count(*) FROM wide")
		findings = judge.Analyse(look(t, conn, collect.Options{}), []*reading.Reading{before}, limits)
		found, ok := find(findings, "cache-hit-low", "database postgres")
		return ok && strings.Contains(found.Summary, "in the last")
	})
	f = mustFind(t, findings, "cache-hit-low", "database postgres")
	paste(t, conn, f.Fix)
}
