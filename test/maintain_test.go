package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// maintainPoints are the named places of maintenance.
func maintainPoints() []string { return []string{"maintain-reindexing"} }

// swollen is a table with an index of some 80 MiB of which next to nothing is used.
func swollen() []string {
	return []string{
		"CREATE EXTENSION pgstattuple",
		`CREATE TABLE public.swollen WITH (autovacuum_enabled = off) AS
			SELECT i, (SELECT string_agg(md5((i * 32 + j)::text), '') FROM generate_series(1, 32) AS j) AS t FROM generate_series(1, 80000) AS i`,
		"CREATE INDEX swollen_t ON public.swollen (t)", "DELETE FROM public.swollen WHERE i % 100 <> 0", "VACUUM (ANALYZE) public.swollen",
	}
}

// invalidIndexes are those that are not valid, by name.
func (b *bench) invalidIndexes() []string {
	b.t.Helper()
	return query(b.t, b.database, "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid")
}

// TestMaintainEndedMidway interrupts and kills the program while the server rebuilds an
// index. After an interrupt nothing is left; what a kill leaves the next run reports and
// leaves alone, since somebody else could have made it.
func TestMaintainEndedMidway(t *testing.T) {
	testkit.OnlyAll(t, "it fills a large index")
	waits := func(b *bench, statement string) bool {
		return len(query(t, "postgres", `SELECT 'x' FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock' AND query LIKE $2`, b.database, statement)) > 0
	}
	for _, how := range []string{"interrupt", "kill"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t, swollen()...)
			b.env = append(b.env, "PGMEDIC_SERVER_DISK_MB=1000000")
			b.program = mortal(t)
			conn := testkit.Connect(t, server.DSN(b.database))
			if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO public.swollen VALUES (0, '')"); err != nil {
				t.Fatal(err)
			}
			env := b.env
			b.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT="+how+":"+maintainPoints()[0])
			c := b.start("maintain", "--yes", "--only", "reindex")
			if how == "kill" {
				if r := c.wait(2 * time.Minute); r.code != -1 {
					t.Fatalf("exit code %d\n%s", r.code, r.stderr)
				}
				// The server goes on with the statement until its own limit for locks.
				testkit.Eventually(t, time.Minute, "the server gives up", func() bool {
					return len(query(t, "postgres", "SELECT 'x' FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND query LIKE 'REINDEX%'", b.database)) == 0
				})
				if got := b.invalidIndexes(); !slices.Equal(got, []string{"swollen_t_ccnew"}) {
					t.Errorf("left: %q", got)
				}
				if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
					t.Fatal(err)
				}
				b.env = env
				if out := b.ok("maintain", "--yes", "--only", "reindex"); !strings.Contains(out, "swollen_t_ccnew is an invalid index that this run did not make") || !strings.Contains(out, "1 done") {
					t.Errorf("%s", out)
				}
				if got := b.invalidIndexes(); !slices.Equal(got, []string{"swollen_t_ccnew"}) {
					t.Errorf("left: %q", got)
				}
				return
			}
			testkit.Eventually(t, time.Minute, "it cleans up", func() bool { return waits(b, "DROP INDEX%") })
			if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			if r := c.wait(2 * time.Minute); r.code != 130 {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
			if got := b.invalidIndexes(); len(got) > 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}
