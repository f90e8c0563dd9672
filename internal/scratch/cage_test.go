package scratch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestCagedServerWorks does in a cage what a restore and its checks do, and more:
// nothing that PostgreSQL needs may be behind a wall.
func TestCagedServerWorks(t *testing.T) {
	if scratchtest.AsUsers(t) == "" {
		return
	}
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			parent := parentDir(t)
			server := scratchtest.New(t, scratch.Options{
				Major: major, Parent: parent, Cage: &scratch.Cage{}, Superuser: `od"d`,
				Settings: map[string]string{"max_wal_size": "64MB", "min_wal_size": "32MB"},
			})
			wantWalls(t, server)
			dir, err := server.TablespaceDir(`it's "fast"`)
			if err != nil {
				t.Fatal(err)
			}
			use(t, server.DSN("postgres"),
				"CREATE TABLESPACE fast LOCATION "+sqltext.QuoteLiteral(dir),
				"CREATE DATABASE copied TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TABLESPACE fast",
				"ALTER DATABASE copied SET TABLESPACE pg_default", "CHECKPOINT")
			statements := []string{
				"CREATE EXTENSION amcheck", "CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pgcrypto",
				"CREATE TABLE t (id int PRIMARY KEY, note text, day timestamptz) TABLESPACE fast",
				"INSERT INTO t SELECT n, repeat(md5(n::text), 5), timestamptz '2026-01-01 Europe/Berlin' + n * interval '1 hour' FROM generate_series(1, 3000) AS n",
				"SET max_parallel_maintenance_workers = 2", "SET min_parallel_table_scan_size = 0", "SET maintenance_work_mem = '1MB'",
				"CREATE INDEX ON t (note)", "CREATE INDEX ON t USING gin (to_tsvector('german', note))",
				"SELECT bt_index_check('t_pkey', true)",
				"SET work_mem = '64kB'", "SELECT count(*) FROM (SELECT * FROM t ORDER BY note DESC OFFSET 0) AS s",
				"SET jit = on", "SET jit_above_cost = 0", "SELECT sum(id) FROM t WHERE id > 3", "SET jit = off",
				"SET max_parallel_workers_per_gather = 2", "SET parallel_setup_cost = 0", "SELECT count(*) FROM t WHERE note LIKE '%ab%'",
				"SELECT lo_from_bytea(0, 'x')", "SELECT crypt('x', gen_salt('md5'))",
				"DO $$ BEGIN PERFORM 1; END $$",
				"CREATE MATERIALIZED VIEW m AS SELECT * FROM t", "REFRESH MATERIALIZED VIEW m",
				"VACUUM (FULL, ANALYZE) t", "ALTER TABLE t SET TABLESPACE pg_default", "TRUNCATE t", "DROP MATERIALIZED VIEW m", "DROP TABLE t",
				"BEGIN", "CREATE TABLE two (a int)", "COMMIT", "CHECKPOINT",
			}
			if query(t, server.DSN("copied"), "SELECT count(*)::text FROM pg_collation WHERE collprovider = 'i'") != "0" {
				statements = append(statements, `SELECT 'a' < 'B' COLLATE "de-x-icu"`)
			}
			use(t, server.DSN("copied"), statements...)
			use(t, server.DSN("postgres"), "DROP DATABASE copied", "DROP TABLESPACE fast")
			log, err := os.ReadFile(filepath.Join(server.Dir(), "server.log"))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(log)) {
				// Versions to 14 do without their collector of statistics.
				if strings.Contains(line, "ermission denied") && !strings.Contains(line, "statistics collector") {
					t.Errorf("behind a wall: %s", line)
				}
			}
			stopAndCheck(t, server, parent)
		})
	}
}

func use(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// wantWalls looks that a server has the walls that this machine gives.
func wantWalls(t *testing.T, server *scratch.Server) {
	t.Helper()
	want, err := scratch.TryCage(t.Context(), scratch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := server.Walls(); !slices.Equal(got.Missing, want.Missing) || !slices.Equal(got.Standing, want.Standing) {
		t.Errorf("walls %+v, want %+v", got, want)
	}
}

// TestCagesTogether starts several at once, each as a user of its own where we
// are root.
func TestCagesTogether(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	parent := parentDir(t)
	servers := make([]*scratch.Server, 4)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range servers {
		group.Go(func() (err error) {
			servers[i], err = scratch.Start(ctx, scratch.Options{Parent: parent, Cage: &scratch.Cage{}, SearchDirs: scratchtest.SearchDirs()})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	users := map[string]bool{}
	for _, server := range servers {
		if server == nil {
			continue
		}
		if dir := query(t, server.DSN("postgres"), "SHOW data_directory"); dir != server.DataDir() {
			t.Errorf("asked the server of %s, %s answered", server.DataDir(), dir)
		}
		if exists("/proc/self/status") {
			users[statusLine(t, server.PID(), "Uid")[0]] = true
		}
		if err := server.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" && len(users) != len(servers) {
		t.Errorf("servers share users: %v", users)
	}
	if left := entries(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCageExcludesTCP refuses what can't be.
func TestCageExcludesTCP(t *testing.T) {
	_, err := scratch.Start(t.Context(), scratch.Options{Cage: &scratch.Cage{}, TCP: true, SearchDirs: scratchtest.SearchDirs()})
	if pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("a network and a cage: %v", err)
	}
	if walls := scratchtest.New(t, scratch.Options{}).Walls(); len(walls.Standing) > 0 || len(walls.Missing) != len(pgmedic.Walls()) {
		t.Errorf("a server without a cage has walls: %+v", walls)
	}
}

// TestCageInClosedFolder starts a server where its user could not pass.
func TestCageInClosedFolder(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		testkit.Elsewhere(t, "only root's servers have a user of their own")
	}
	closed := filepath.Join(parentDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := scratch.Start(t.Context(), scratch.Options{Parent: closed, Cage: &scratch.Cage{}, SearchDirs: scratchtest.SearchDirs()})
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), closed) || !strings.Contains(pgmedic.HintOf(err), "chmod o+x") {
		t.Errorf("got %v, hint %q", err, pgmedic.HintOf(err))
	}
	t.Setenv("TMPDIR", closed)
	server := scratchtest.New(t, scratch.Options{Cage: &scratch.Cage{}})
	if filepath.Dir(server.Dir()) != "/tmp" {
		t.Errorf("the folder is %s", server.Dir())
	}
}
