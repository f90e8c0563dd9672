package test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// guided is what emergency --json prints, as far as tests read it.
type guided struct {
	Before string
	Checks []struct{ Name, Outcome, Detail string }
	Steps  []struct {
		Title, Why, Command string
		Argv                []string
		Unknown             []struct{ Word string }
		CanRun              bool `json:"can_run"`
	}
}

// guide runs emergency --json.
func (b *bench) guide(code int, args ...string) guided {
	b.t.Helper()
	r := b.run(append([]string{"emergency", "--json"}, args...)...)
	if r.code != code {
		b.t.Fatalf("exit code %d, want %d: %s\n%s", r.code, code, r.stderr, r.stdout)
	}
	var g guided
	if err := json.Unmarshal([]byte(r.stdout), &g); err != nil {
		b.t.Fatal(err)
	}
	if len(g.Steps) < 3 {
		b.t.Fatalf("%d steps", len(g.Steps))
	}
	return g
}

// has checks what a check says.
func (g guided) has(t *testing.T, name, outcome, detail string) {
	t.Helper()
	for _, c := range g.Checks {
		if c.Name == name && c.Outcome == outcome && strings.Contains(c.Detail, detail) {
			return
		}
	}
	t.Errorf("no check %s is %s with %q: %+v", name, outcome, detail, g.Checks)
}

// step is the one command that has a text.
func (g guided) step(t *testing.T, text string) string {
	t.Helper()
	for _, s := range g.Steps {
		if strings.Contains(s.Command, text) {
			return s.Command
		}
	}
	t.Fatalf("no step has %q: %+v", text, g.Steps)
	return ""
}

// paste runs a printed command as a person pastes it, and returns what it prints.
func (b *bench) paste(on *scratch.Server, command string) string {
	b.t.Helper()
	return b.pasteFor(on, command, 0)
}

// pasteFor is paste of a command that ends with an exit code.
func (b *bench) pasteFor(on *scratch.Server, command string, code int) string {
	b.t.Helper()
	bin := filepath.Join(b.tmp, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "pgmedic"), []byte("#!/bin/sh\nexec "+binary+" \"$@\"\n"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	r := &runbook{t: b.t, work: b.dir, env: slices.Concat(b.env, []string{
		"PATH=" + bin + string(os.PathListSeparator) + on.BinDir() + string(os.PathListSeparator) + os.Getenv("PATH"), "PGPASSWORD=" + on.Password(),
	})}
	return r.bash(command, code)
}

// TestEmergencyTable: the commands that emergency prints for a dropped table, pasted one
// after the other, bring it back with all that is its own; those for rows bring the rows.
func TestEmergencyTable(t *testing.T) {
	t.Parallel()
	const table = `"Odd ""x"" it's"."Rechnung $1"`
	b := newBench(t, `CREATE SCHEMA "Odd ""x"" it's"`, `CREATE TABLE `+table+` (id serial PRIMARY KEY, payer text) PARTITION BY RANGE (id)`,
		`CREATE TABLE "Odd ""x"" it's".part PARTITION OF `+table+` FOR VALUES FROM (0) TO (1000)`,
		`INSERT INTO `+table+` (payer) SELECT 'payer ' || i FROM generate_series(1, 50) AS i`, `CREATE INDEX by_payer ON `+table+` (payer)`)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	mustExec(t, b.database, `DROP TABLE `+table)
	when := time.Now().UTC().Format("2006-01-02 15:04:05.999999+00")
	b.ok("backup", "-q") // without the table: latest is not the one to take
	g := b.guide(0, "table-dropped", b.database, "--table", table, "--when", when)
	g.has(t, "server", "ok", "primary")
	g.has(t, "backups", "ok", "2 backups")
	if out := b.pasteAll(t, g, id, 4); out != "50\n" {
		t.Errorf("the number of rows is %q", out)
	}
	whole := func(newest string) {
		t.Helper()
		mustExec(t, b.database, `INSERT INTO `+table+` (payer) VALUES ('later')`) // its counter goes on
		if got := query(t, b.database, `SELECT max(id)::text FROM `+table+` UNION ALL SELECT count(*)::text FROM pg_indexes WHERE indexname = 'by_payer'`); !slices.Equal(got, []string{newest, "1"}) {
			t.Errorf("the newest row and the index: %q", got)
		}
		if left := query(t, b.database, "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgmedic'"); len(left) > 0 {
			t.Errorf("schemas are left: %q", left)
		}
	}
	whole("51")

	mustExec(t, b.database, `DELETE FROM `+table+` WHERE id > 40`)
	b.pasteAll(t, b.guide(0, "rows-deleted", b.database, "--table", table, "--when", when), id, 4)
	if got := query(t, b.database, `SELECT count(*)::text FROM `+table); !slices.Equal(got, []string{"50"}) {
		t.Errorf("%q rows, want those of the backup", got)
	}

	t.Run("by a copy of the whole database", func(t *testing.T) {
		testkit.OnlyAll(t, "a backup and a restore of the whole database more")
		id := strings.TrimSpace(b.ok("backup", "-q", "--method", "plain"))
		mustExec(t, b.database, `DROP TABLE `+table)
		if out := b.pasteAll(t, b.guide(0, "table-dropped", b.database, "--table", table, "--when", time.Now().UTC().Format("2006-01-02 15:04:05.999999+00")), id, 5); out != "50\n50\n" {
			t.Errorf("the numbers of rows are %q", out)
		}
		whole("52")
		if left := databasesOf(t, b.database+"_"); len(left) > 0 {
			t.Errorf("databases are left: %q", left)
		}
	})
}

// pasteAll runs the commands of a plan one after the other, as many as are wanted, and
// returns what the one that counts rows prints. The one that changes a living table asks,
// and changes nothing where there is no answer.
func (b *bench) pasteAll(t *testing.T, g guided, id string, want int) (counted string) {
	t.Helper()
	ran := 0
	for _, s := range g.Steps {
		if len(s.Unknown) > 0 {
			t.Errorf("not known: %v of %s", s.Unknown, s.Command)
		}
		if len(s.Argv) > 0 && !slices.Contains(s.Argv, id) {
			t.Errorf("it does not name backup %s: %s", id, s.Command)
		}
		if s.Command == "" || strings.HasPrefix(s.Command, "diff ") { // which ends with 1 where there is nothing to see
			continue
		}
		command := s.Command
		if slices.Contains(s.Argv, "--in-place") && !slices.Contains(s.Argv, "--dry-run") {
			b.pasteFor(server, command, 13)
			command += " --yes"
		}
		out := b.paste(server, command)
		if ran++; strings.Contains(command, "count(*)") {
			counted = out
		}
	}
	if ran != want {
		t.Errorf("%d commands were run, want %d", ran, want)
	}
	return counted
}

// TestEmergencyServer: what is wrong with a server is found, and what is printed mends it. A
// server that has stopped, and a store that is gone, are said, and end nothing.
func TestEmergencyServer(t *testing.T) {
	t.Parallel()
	own := scratchtest.New(t, scratch.Options{Settings: map[string]string{"wal_level": "logical", "max_prepared_transactions": "5"}})
	b := newBench(t)
	b.env = append(b.environ("DATABASE_URL="+own.URL("postgres")), "PGMEDIC_SERVER=emerg")
	fixture.Exec(t, own.DSN("postgres"), "CREATE DATABASE other", "CREATE TABLE t (id int)", "SELECT pg_create_physical_replication_slot('old_standby', true)", "SELECT pg_create_physical_replication_slot('needed', true)")
	fixture.Exec(t, own.DSN("other"), "SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')")

	t.Run("slots", func(t *testing.T) {
		g := b.guide(15, "slot-inactive") // there is no store
		g.has(t, "slots", "warn", "3 of 3 slots without a consumer")
		g.has(t, "backups", "failed", "does not exist")
		b.paste(own, g.step(t, "'old_standby'"))
		b.paste(own, g.step(t, "'subscriber'"))
		if got := fixture.Query[string](t, own.DSN("postgres"), "SELECT slot_name::text FROM pg_replication_slots"); !slices.Equal(got, []string{"needed"}) {
			t.Errorf("slots are %q", got)
		}
		if own.Major() >= 13 {
			b.paste(own, g.step(t, "max_slot_wal_keep_size"))
		}
		b.paste(own, g.step(t, "CHECKPOINT"))
	})
	t.Run("locks", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		head, waiter := testkit.Connect(t, own.DSN("postgres")), testkit.Connect(t, own.DSN("postgres"))
		if _, err := head.Exec(ctx, "BEGIN; LOCK TABLE t"); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() {
			_, err := waiter.Exec(ctx, "INSERT INTO t VALUES (1)")
			waited <- err
		}()
		pid := strconv.Itoa(int(head.PgConn().PID()))
		testkit.Eventually(t, time.Minute, "one waits", func() bool {
			return fixture.Query[int64](t, own.DSN("postgres"), "SELECT count(*) FROM pg_stat_activity WHERE "+pid+" = ANY (pg_blocking_pids(pid))")[0] > 0
		})
		g := b.guide(15, "server-slow")
		g.has(t, "locks", "warn", "1 session waiting")
		b.paste(own, g.step(t, "pid = "+pid))
		if err := <-waited; err != nil {
			t.Errorf("the session that waited: %v", err)
		}
		_ = head.Close(ctx) // it was ended
		if err := waiter.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("wraparound", func(t *testing.T) {
		fixture.Exec(t, own.DSN("other"), "BEGIN; CREATE TABLE u (); PREPARE TRANSACTION 'it''s forgotten'")
		g := b.guide(15, "wraparound")
		g.has(t, "wraparound", "ok", "0 %")
		b.paste(own, g.step(t, "ROLLBACK PREPARED"))
		if n := fixture.Query[int64](t, own.DSN("postgres"), "SELECT count(*) FROM pg_prepared_xacts")[0]; n != 0 {
			t.Errorf("%d prepared transactions are left", n)
		}
		b.paste(own, g.step(t, "-c VACUUM"))
		b.paste(own, g.step(t, "mxid_age"))
	})
	t.Run("each statement that only reads", func(t *testing.T) {
		testkit.OnlyAll(t, "many statements, each by a psql of its own")
		for _, what := range []string{"disk-full", "wal-full", "slot-inactive", "server-slow", "wraparound"} {
			for _, s := range b.guide(15, what).Steps {
				if strings.HasPrefix(s.Command, "psql ") && !strings.Contains(s.Command, "drop_replication") {
					b.paste(own, s.Command)
				}
			}
		}
	})
	t.Run("the database is gone", func(t *testing.T) {
		g := b.guide(15, "table-dropped", "no_such_database")
		g.has(t, "database no_such_database", "failed", "")
		g.step(t, "restore BACKUP_ID --into=no_such_database")
		g.has(t, "server", "ok", "primary")
	})
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := own.Stop(ctx); err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"disk-full", "server-lost", "rows-deleted", "failover-failed"} {
			g := b.guide(15, what)
			g.has(t, "server", "failed", "")
			g.has(t, "slots", "skipped", "the server can't be reached")
			g.has(t, "room for a restore", "ok", "free in")
		}
	})
}
