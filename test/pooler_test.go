package test

import (
	"context"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestSessionPooler runs everything through PgBouncer in session mode, one that
// resets nothing between connections, and looks at what the application is given.
func TestSessionPooler(t *testing.T) {
	t.Parallel()
	for _, method := range testkit.SomeOf(t, 1, []string{"parallel", "plain"}) {
		t.Run(method, func(t *testing.T) {
			b := newBench(t, patients("2000")...)
			through := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "session", PoolSize: 30, Settings: []string{"server_reset_query ="}})
			b.env = b.environ("DATABASE_URL="+through(b.database), "BACKUP_METHOD="+method)
			b.ok("check")
			id := b.backup()
			for _, args := range [][]string{
				{"drill", id}, {"report"}, {"restore", id, "--into", b.database + "_copy"},
				{"restore", id, "--table", "patients"}, {"restore", id, "--swap", "--yes"}, {"rollback", b.database, "--yes"},
			} {
				if r := b.run(args...); r.code != 0 {
					t.Errorf("pgmedic %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
				}
				wantFresh(t, args[0], through(b.database))
			}
		})
	}
}

// wantFresh opens as many sessions of the application as there may be, and looks at
// what earlier ones have left in them.
func wantFresh(t *testing.T, after, dsn string) {
	t.Helper()
	ctx := context.Background()
	for range 25 {
		conn := testkit.Dial(t, dsn+"&default_query_exec_mode=simple_protocol")
		defer testkit.End(conn)
		var set string
		// PgBouncer keeps these four as the client has them.
		const sql = `SELECT coalesce(string_agg(name || '=' || setting, ', ' ORDER BY name), '') ||
			coalesce((SELECT string_agg(' prepared ' || name, ',') FROM pg_prepared_statements), '') ||
			coalesce((SELECT ' temporary ' || count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() HAVING count(*) > 0), '') ||
			coalesce((SELECT ' locks ' || count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' HAVING count(*) > 0), '')
			FROM pg_settings WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')`
		if err := conn.QueryRow(ctx, sql).Scan(&set); err != nil {
			t.Fatal(err)
		}
		if set != "" {
			t.Fatalf("after %s the application has %s", after, set)
		}
	}
}
