package swap_test

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// forge has a role make a database with 666 patients that is closed and has a
// story, as only a run of pgmedic would.
func forge(t *testing.T, role, name string, s pgmedic.Story) {
	t.Helper()
	s.Name = name
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	as := func(database string) string { return server.DSN(database) + " user=" + role }
	fixture.Exec(t, as("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { fixture.DropAll(t, server, name) })
	fixture.Exec(t, as(name), "CREATE SCHEMA mine", "CREATE TABLE mine.patients AS SELECT generate_series(1, 666)")
	fixture.Exec(t, as("postgres"), "COMMENT ON DATABASE "+name+" IS "+sqltext.QuoteLiteral(string(text)),
		"ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
}

func rollbackOptions(live string, o swap.Options) swap.Options {
	return swap.Options{Options: restore.Options{Target: o.Target, Logger: fixture.Silent(), Now: time.Now}, Live: live}
}

func mustReplace(t *testing.T, o swap.Options) *swap.Swapped {
	t.Helper()
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func owner(t *testing.T, database string) string {
	t.Helper()
	return fixture.Query[string](t, server.DSN("postgres"), "SELECT datdba::regrole::text FROM pg_database WHERE datname = $1", database)[0]
}

// TestForgedKept: a role with CREATEDB makes what looks like the database that was
// kept last. A rollback takes the one that a swap set aside, and says what it
// passed over.
func TestForgedKept(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Creator(t, server, "forger")
	forge(t, "forger", live+"__before_deadbeef", pgmedic.Story{
		Pgmedic: pgmedic.StoryKept, Of: live, By: "restore", Since: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC), Number: math.MaxInt64,
	})
	// Nothing else is kept yet.
	_, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
	fixture.WantKind(t, err, pgmedic.KindNotFound, "nothing is kept of database", live+"__before_deadbeef", `its owner "forger" is neither a superuser nor`)
	if patients(t, live) != 40 {
		t.Errorf("%d patients", patients(t, live))
	}
	kept := mustReplace(t, o).Kept
	if s := story(t, kept); s.Number != 1 {
		t.Errorf("the number was taken from a story that nobody believes: %+v", s)
	}
	back := rollbackOptions(live, o)
	var plan swap.Plan
	back.Confirm = func(p swap.Plan) error { plan = p; return nil }
	done, err := swap.Rollback(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if patients(t, live) != 40 || done.Incoming != kept || owner(t, live) == "forger" {
		t.Errorf("%d patients of %s, from %s", patients(t, live), owner(t, live), done.Incoming)
	}
	for _, passed := range [][]string{plan.PassedOver, done.PassedOver} {
		if len(passed) != 1 || !strings.HasPrefix(passed[0], live+"__before_deadbeef: ") || strings.Contains(passed[0], "\n") {
			t.Errorf("passed over: %q", passed)
		}
	}
	// Nor is it what prune drops, which would be no harm, or what a backup leaves out.
	pruned, err := swap.Prune(t.Context(), swap.PruneOptions{Target: o.Target, Logger: fixture.Silent()})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pruned, func(p swap.Pruned) bool { return p.Database == live+"__before_deadbeef" })
	if i < 0 || pruned[i].Drop || !strings.Contains(pruned[i].Reason, "forger") {
		t.Errorf("prune: %+v", pruned)
	}
	open(t, live+"__before_deadbeef")
	all, err := databases.List(t.Context(), testkit.Connect(t, server.DSN("postgres")))
	if err != nil || !slices.Contains(all, live+"__before_deadbeef") {
		t.Errorf("its owner keeps it out of backups of all databases: %q, %v", all, err)
	}
}

// TestForgedCopies: nor does --resume swap a forged copy in, and neither it nor its
// sessions keep a restore from its work.
func TestForgedCopies(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Creator(t, server, "copier")
	for name, s := range map[string]pgmedic.Story{
		"__restore_deadbeef": {Pgmedic: pgmedic.StoryReady, Number: 7},
		"__restore_deadcafe": {Pgmedic: pgmedic.StoryLoading},
	} {
		s.Of, s.By, s.Backup, s.Since = live, "restore", o.Backup.ID, time.Now()
		forge(t, "copier", live+name, s)
	}
	// One that looks as if a restore had died before it wrote a story, and that can't
	// be dropped.
	fixture.Exec(t, server.DSN("postgres")+" user=copier", "CREATE DATABASE "+live+"__restore_00c0ffee TEMPLATE template0")
	fixture.Exec(t, server.DSN(live+"__restore_00c0ffee")+" user=copier", "BEGIN; CREATE TEMPORARY TABLE x (); ROLLBACK")
	fixture.Exec(t, server.DSN("postgres")+" user=copier", "ALTER DATABASE "+live+"__restore_00c0ffee ALLOW_CONNECTIONS false")
	open(t, live+"__restore_deadcafe")
	testkit.Connect(t, server.DSN(live+"__restore_deadcafe")+" user=copier application_name=psql")

	left, err := swap.FindLeft(t.Context(), swap.Options{Options: o.Options, Live: live})
	if err != nil || left.Ready != nil || len(left.PassedOver) != 1 {
		t.Errorf("what is left: %+v, %v", left, err)
	}
	_, err = swap.Resume(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotFound, "no restore of database", live+"__restore_deadbeef: its owner")
	if patients(t, live) != 40 {
		t.Errorf("%d patients", patients(t, live))
	}
	if done := mustReplace(t, o); len(done.Dropped) > 0 || patients(t, live) != 30 {
		t.Errorf("%+v, %d patients", done, patients(t, live))
	}
	// Where the live database is gone it is the backup that says whose a copy is.
	kept := fixture.Databases(t, server)
	fixture.DropAll(t, server, live)
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+live+" TEMPLATE template0") })
	_ = kept
	forge(t, "copier", live+"__restore_0badf00d", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Of: live, By: "restore", Backup: o.Backup.ID, Since: time.Now()})
	_, err = swap.Resume(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, live+"__restore_0badf00d", "is not trusted", "copier")
}

// TestClocksOfHosts: which was kept last does not depend on the clock of the hosts
// that swapped, nor does its age.
func TestClocksOfHosts(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Exec(t, server.DSN(live), "DELETE FROM patients WHERE id > 11") // 11 are kept first
	mustReplace(t, o)
	fixture.Exec(t, server.DSN(live), "DELETE FROM patients WHERE id > 22") // and then 22,
	behind := o
	behind.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) } // by a host whose clock is behind
	last := mustReplace(t, behind)
	if s := story(t, last.Kept); s.Number != 2 || s.Since.Before(time.Now().Add(-5*time.Minute)) {
		t.Errorf("the story is %+v", s)
	}
	ahead := rollbackOptions(live, o)
	ahead.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	done, err := swap.Rollback(t.Context(), ahead)
	if err != nil {
		t.Fatal(err)
	}
	if n := patients(t, live); n != 22 || done.Incoming != last.Kept {
		t.Errorf("%d patients came back from %s, want 22 from %s", n, done.Incoming, last.Kept)
	}
	if s := story(t, done.Kept); s.Number != 2 && s.Number != 3 || s.Since.After(time.Now().Add(time.Hour)) {
		t.Errorf("the story of what was displaced is %+v", s)
	}
	// And back.
	if _, err := swap.Rollback(t.Context(), behind); err != nil || patients(t, live) != 30 {
		t.Errorf("%d patients, %v", patients(t, live), err)
	}
}

// TestKeptOfTheFuture: with or without a number, what says that it was set aside
// later than now is not taken, and nothing older in its place.
func TestKeptOfTheFuture(t *testing.T) {
	live, o := liveClinic(t)
	kept := mustReplace(t, o).Kept
	s := story(t, kept)
	s.Since = time.Now().Add(time.Hour)
	setStory(t, kept, s)
	_, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
	fixture.WantKind(t, err, pgmedic.KindConflict, kept, "the server's clock says")
	if !strings.Contains(pgmedic.HintOf(err), "RENAME TO") || patients(t, live) != 30 {
		t.Errorf("hint %s, %d patients", pgmedic.HintOf(err), patients(t, live))
	}
}

func setStory(t *testing.T, database string, s pgmedic.Story) {
	t.Helper()
	if err := databases.SetStory(t.Context(), testkit.Connect(t, server.DSN("postgres")), database, s); err != nil {
		t.Fatal(err)
	}
}

// TestHalfDropped: what an interrupted DROP DATABASE left is not rolled back to, and
// nobody's session is ended for it. Prune drops it at once.
func TestHalfDropped(t *testing.T) {
	for name, half := range testkit.Some(t, 1, map[string]func(t *testing.T, kept string){
		"marked by the server": func(t *testing.T, kept string) {
			fixture.Exec(t, server.DSN("postgres"), "UPDATE pg_database SET datconnlimit = -2 WHERE datname = '"+kept+"'")
		},
		"marked by us": func(t *testing.T, kept string) {
			s := story(t, kept)
			s.Pgmedic = pgmedic.StoryDropping
			setStory(t, kept, s)
		},
	}) {
		t.Run(name, func(t *testing.T) {
			live, o := liveClinic(t)
			first := mustReplace(t, o).Kept
			half(t, first)
			client := testkit.Connect(t, server.DSN(live))
			_, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
			fixture.WantKind(t, err, pgmedic.KindNotFound, first+": its DROP DATABASE was")
			if err := client.Ping(t.Context()); err != nil {
				t.Errorf("a client's session was ended for it: %v", err)
			}
			fixture.Exec(t, server.DSN(live), "DELETE FROM patients WHERE id > 5")
			second := mustReplace(t, o).Kept
			done, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
			if err != nil || done.Incoming != second || patients(t, live) != 5 {
				t.Errorf("%+v, %v", done, err)
			}
			po := swap.PruneOptions{Target: o.Target, Keep: time.Hour, Logger: fixture.Silent(), Confirm: func(plan []swap.Pruned) error {
				for i := range plan {
					plan[i].Drop = plan[i].Drop && strings.HasPrefix(plan[i].Database, live)
				}
				return nil
			}}
			if _, err := swap.Prune(t.Context(), po); err != nil || fixture.Exists(t, server, first) {
				t.Errorf("it is still there: %t, %v", fixture.Exists(t, server, first), err)
			}
		})
	}
}

// TestSwapLooksFirst: whatever would make the swap fail is found before a client's
// session is ended.
func TestSwapLooksFirst(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	for name, tt := range map[string]struct {
		obstacle func(t *testing.T, live, kept string)
		word     string
	}{
		"a prepared transaction in the kept one": {func(t *testing.T, _, kept string) {
			open(t, kept)
			fixture.Exec(t, server.DSN(kept), "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'kept'")
			t.Cleanup(func() {
				open(t, kept)
				fixture.Exec(t, server.DSN(kept), "ROLLBACK PREPARED 'kept'")
			})
			fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+kept+" ALLOW_CONNECTIONS false")
		}, "prepared transaction"},
		"a live one that is invalid": {func(t *testing.T, live, _ string) {
			fixture.Exec(t, server.DSN("postgres"), "UPDATE pg_database SET datconnlimit = -2 WHERE datname = '"+live+"'")
			t.Cleanup(func() {
				fixture.Exec(t, server.DSN("postgres"), "UPDATE pg_database SET datconnlimit = -1 WHERE datname = '"+live+"'")
			})
		}, "interrupted DROP DATABASE"},
	} {
		t.Run(name, func(t *testing.T) {
			live, o := liveClinic(t)
			kept := mustReplace(t, o).Kept
			client := testkit.Connect(t, server.DSN(live))
			tt.obstacle(t, live, kept)
			_, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
			fixture.WantKind(t, err, pgmedic.KindConflict, tt.word)
			if err := client.Ping(t.Context()); err != nil {
				t.Errorf("a client's session was ended: %v", err)
			}
		})
	}
}

// TestClosedStaysClosed: nobody connects to a database that somebody has closed
// because a swap put another in its place.
func TestClosedStaysClosed(t *testing.T) {
	live, o := liveClinic(t)
	allowed := func() bool {
		return fixture.Query[bool](t, server.DSN("postgres"), "SELECT datallowconn FROM pg_database WHERE datname = $1", live)[0]
	}
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+live+" ALLOW_CONNECTIONS false")
	var plan swap.Plan
	o.Confirm = func(p swap.Plan) error { plan = p; return nil }
	done := mustReplace(t, o)
	if allowed() || !done.Closed || !plan.Closed || !story(t, done.Kept).Closed {
		t.Errorf("after the swap: %t, %+v, %+v", allowed(), done, story(t, done.Kept))
	}
	back := rollbackOptions(live, o)
	first, err := swap.Rollback(t.Context(), back)
	if err != nil || allowed() || !first.Closed {
		t.Errorf("after the rollback: %t, %+v, %v", allowed(), first, err)
	}
	// What was closed when it was set aside comes back closed, even in the place of
	// one that somebody opened since.
	open(t, live)
	second, err := swap.Rollback(t.Context(), back)
	if err != nil || allowed() {
		t.Errorf("after the second: %t, %+v, %v", allowed(), second, err)
	}
	open(t, live)
	third, err := swap.Rollback(t.Context(), back)
	if err != nil || !allowed() || third.Closed || patients(t, live) != 40 && patients(t, live) != 30 {
		t.Errorf("one that was open: %t, %+v, %v", allowed(), third, err)
	}
}

// TestOwnerChanged: a live database whose owner is another than when it was backed
// up is set aside and comes back, with its owner, and not an older one for it.
func TestOwnerChanged(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Creator(t, server, "new_owner")
	mustReplace(t, o) // an older one, which the old owner owns
	fixture.Exec(t, server.DSN(live), "DELETE FROM patients WHERE id > 7")
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+live+" OWNER TO new_owner")
	t.Cleanup(func() {
		for _, name := range fixture.Databases(t, server) {
			if strings.HasPrefix(name, live) && owner(t, name) == "new_owner" {
				fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" OWNER TO "+server.Superuser())
			}
		}
	})
	done := mustReplace(t, o)
	if owner(t, done.Kept) != server.Superuser() || story(t, done.Kept).Owner != "new_owner" || owner(t, live) != server.Superuser() {
		t.Errorf("kept by %s, live of %s, story %+v", owner(t, done.Kept), owner(t, live), story(t, done.Kept))
	}
	first, err := swap.Rollback(t.Context(), rollbackOptions(live, o))
	if err != nil || first.Incoming != done.Kept || patients(t, live) != 7 || owner(t, live) != "new_owner" {
		t.Errorf("%+v: %v; the owner is %s", first, err, owner(t, live))
	}
	if _, err := swap.Rollback(t.Context(), rollbackOptions(live, o)); err != nil || patients(t, live) != 30 || owner(t, live) != server.Superuser() {
		t.Errorf("the second: %v; %d patients, owner %s", err, patients(t, live), owner(t, live))
	}
}

// TestPruneInterrupted ends a prune while the server drops a database: that one is
// gone, or as it was, and never in between.
func TestPruneInterrupted(t *testing.T) {
	live, o := liveClinic(t)
	kept := mustReplace(t, o).Kept
	blocker := testkit.Connect(t, server.DSN("postgres"))
	po := swap.PruneOptions{Target: o.Target, Logger: fixture.Silent(), Confirm: func(plan []swap.Pruned) error {
		for i := range plan {
			plan[i].Drop = plan[i].Database == kept
		}
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(blocker, "BEGIN")
	exec(blocker, "ALTER DATABASE "+kept+" CONNECTION LIMIT 7")
	done := make(chan error, 1)
	prune := func() { _, err := swap.Prune(ctx, po); done <- err }
	go prune()
	testkit.Eventually(t, time.Minute, "prune has begun with the database", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			go prune() // a session with the database was slow to end, and kept it
		default:
		}
		return fixture.Query[int](t, server.DSN("postgres"), `SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND query LIKE '%`+kept+`%' AND pid <> pg_backend_pid()`)[0] > 0
	})
	cancel()
	exec(blocker, "ROLLBACK")
	fixture.WantKind(t, <-done, pgmedic.KindInterrupted)
	if fixture.Exists(t, server, kept) {
		t.Errorf("it is still there, as %+v", story(t, kept))
	}
	if patients(t, live) != 30 {
		t.Errorf("%d patients", patients(t, live))
	}
}
