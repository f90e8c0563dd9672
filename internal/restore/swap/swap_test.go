package swap_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// liveClinic is a database with a backup, to which 10 patients came since.
func liveClinic(t *testing.T, more ...string) (live string, o swap.Options) {
	t.Helper()
	dsn, c, b := fixture.Clinic(t, server, more...)
	live = fixture.Target(t, dsn).Database()
	// What a swap keeps has the live name in its own.
	t.Cleanup(func() { fixture.DropAll(t, server, live+"__") })
	fixture.Exec(t, dsn, "INSERT INTO patients SELECT n, 'new' FROM generate_series(31, 40) AS n")
	o = swap.Options{Options: fixture.RestoreOptions(t, server, c, b, ""), Live: live}
	return live, o
}

func patients(t *testing.T, database string) int {
	t.Helper()
	return fixture.Query[int](t, server.DSN(database), "SELECT count(*) FROM patients")[0]
}

// story reads what a kept database says of itself.
func story(t *testing.T, database string) pgmedic.Story {
	t.Helper()
	var s pgmedic.Story
	if err := json.Unmarshal([]byte(fixture.Comment(t, server, database)), &s); err != nil {
		t.Fatalf("the comment of %s is no story: %v", database, err)
	}
	return s
}

func open(t *testing.T, database string) {
	t.Helper()
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+sqltext.QuoteIdent(database)+" ALLOW_CONNECTIONS true")
}

// wantUntouched fails the test unless the live database is as it was and
// nothing stands beside it.
func wantUntouched(t *testing.T, live string) {
	t.Helper()
	if got := patients(t, live); got != 40 {
		t.Errorf("the live database has %d patients, want 40", got)
	}
	for _, name := range fixture.Databases(t, server) {
		if strings.HasPrefix(name, live+"__") {
			t.Errorf("database %s is left", name)
		}
	}
	if got := fixture.Comment(t, server, live); got != "the clinic's own comment" {
		t.Errorf("the live database's comment is %q", got)
	}
}

// safety takes a safety backup as the command line does.
func safety(t *testing.T, o swap.Options) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		b := fixture.BackupOptions(t, server.DSN(o.Live), o.Catalog)
		b.Locked, b.Purpose = true, pgmedic.PurposeSafety
		taken, err := backup.Take(ctx, b)
		if err != nil {
			return "", err
		}
		return taken.ID, nil
	}
}

// TestReplace swaps a database under twenty clients, and back, and back again.
func TestReplace(t *testing.T) {
	live, o := liveClinic(t)
	o.SafetyBackup = safety(t, o)
	var seen swap.Plan
	o.Confirm = func(p swap.Plan) error { seen = p; return nil }

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var queries, after, wrong atomic.Int64
	var swapped atomic.Bool
	for range 20 {
		clients.Go(func() {
			for ctx.Err() == nil {
				began := swapped.Load()
				conn, err := pgx.Connect(ctx, server.DSN(live))
				if err != nil {
					continue
				}
				for ctx.Err() == nil {
					var n int
					if err := conn.QueryRow(ctx, "SELECT count(*) FROM patients").Scan(&n); err != nil {
						break
					}
					queries.Add(1)
					switch {
					case n != 30 && n != 40, began && n != 30:
						wrong.Add(1)
					case n == 30:
						after.Add(1)
					}
				}
				_ = conn.Close(context.WithoutCancel(ctx))
			}
		})
	}
	testkit.Eventually(t, time.Minute, "the clients query", func() bool { return queries.Load() > 100 })
	done, err := swap.Replace(t.Context(), o)
	swapped.Store(true)
	if err == nil {
		reached := after.Load()
		testkit.Eventually(t, time.Minute, "the clients read the restored rows", func() bool { return after.Load() > reached+100 })
	}
	stop()
	clients.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if wrong.Load() > 0 {
		t.Errorf("%d of %d queries saw neither the old rows nor the restored ones", wrong.Load(), queries.Load())
	}
	if !seen.LiveExists || seen.Incoming != o.Backup.ID || seen.Kept != done.Kept || !seen.SafetyBackup || seen.Live != live {
		t.Errorf("confirmed plan %+v, done %+v", seen, done)
	}
	// It is the least part of a run, whose length is up to the machine.
	if done.OutageSeconds < 0 || done.OutageSeconds > done.Seconds/2 {
		t.Errorf("the name was gone for %v s of a run of %v s", done.OutageSeconds, done.Seconds)
	}
	if patients(t, live) != 30 || fixture.Comment(t, server, live) != "the clinic's own comment" {
		t.Errorf("live: %d patients, comment %q", patients(t, live), fixture.Comment(t, server, live))
	}
	if s := story(t, done.Kept); s.Pgmedic != pgmedic.StoryKept || s.Of != live || s.By != "restore" || s.Backup != o.Backup.ID ||
		s.SafetyBackup != done.SafetyBackup || s.Comment != "the clinic's own comment" || s.Since.IsZero() {
		t.Errorf("story of the kept database: %+v", s)
	}
	if _, err := pgx.Connect(t.Context(), server.DSN(done.Kept)); err == nil {
		t.Error("the kept database takes connections")
	}
	entry, err := o.Catalog.Get(t.Context(), done.SafetyBackup, catalog.Filter{})
	if err != nil || entry.Backup.Purpose != pgmedic.PurposeSafety || entry.Backup.Rows() != 40 {
		t.Errorf("safety backup: %+v, %v", entry.Backup, err)
	}
	rollBackTwice(t, live, o, done)
}

func rollBackTwice(t *testing.T, live string, o swap.Options, done *swap.Swapped) {
	t.Helper()
	fixture.Exec(t, server.DSN(live), "INSERT INTO patients VALUES (1000, 'since the swap')")
	back := swap.Options{Options: restore.Options{Target: o.Target, Logger: fixture.Silent(), Now: time.Now}, Live: live}
	refused := errors.New("no")
	back.Confirm = func(p swap.Plan) error {
		if p.Incoming != done.Kept {
			t.Errorf("the plan is to bring back %s, want %s", p.Incoming, done.Kept)
		}
		return refused
	}
	if _, err := swap.Rollback(t.Context(), back); !errors.Is(err, refused) || patients(t, live) != 31 {
		t.Errorf("a rollback that was not confirmed: %v, %d patients", err, patients(t, live))
	}
	back.Confirm = nil
	first, err := swap.Rollback(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if patients(t, live) != 40 || fixture.Comment(t, server, live) != "the clinic's own comment" {
		t.Errorf("rolled back: %d patients, comment %q", patients(t, live), fixture.Comment(t, server, live))
	}
	if fixture.Exists(t, server, done.Kept) || story(t, first.Kept).By != "rollback" {
		t.Errorf("displaced: %+v", story(t, first.Kept))
	}
	second, err := swap.Rollback(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if got := patients(t, live); got != 31 {
		t.Errorf("after the rollback of the rollback: %d patients, want 31", got)
	}
	open(t, second.Kept)
	if got := patients(t, second.Kept); got != 40 {
		t.Errorf("displaced by the second: %d patients, want 40", got)
	}
}

func TestRollbackWithNothingKept(t *testing.T) {
	live, o := liveClinic(t)
	_, err := swap.Rollback(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotFound, live)
	wantUntouched(t, live)
}

// TestReplaceRefuses has each reason not to swap in turn.
func TestReplaceRefuses(t *testing.T) {
	failure := errors.New("it went wrong")
	for name, tt := range map[string]struct {
		kind pgmedic.Kind
		word string
		set  func(t *testing.T, live string, o *swap.Options)
	}{
		"another server": {pgmedic.KindUsage, "another server", func(_ *testing.T, _ string, o *swap.Options) {
			changed := *o.Backup
			changed.Server.SystemIdentifier = "1"
			o.Backup = &changed
		}},
		"another database": {pgmedic.KindUsage, "is of database", func(_ *testing.T, _ string, o *swap.Options) {
			changed := *o.Backup
			changed.Database.Name = "another"
			o.Backup = &changed
		}},
		"not confirmed": {pgmedic.KindFailed, "it went wrong", func(_ *testing.T, _ string, o *swap.Options) {
			o.Confirm = func(swap.Plan) error { return failure }
		}},
		"no safety backup": {pgmedic.KindFailed, "it went wrong", func(_ *testing.T, _ string, o *swap.Options) {
			o.SafetyBackup = func(context.Context) (string, error) { return "", failure }
		}},
		"damaged": {pgmedic.KindIntegrity, "corrupt", func(t *testing.T, _ string, o *swap.Options) {
			o.Backup = fixture.Crafted(t, o.Catalog, o.Backup, "", func(b *pgmedic.Backup) { b.Objects[0].SHA256 = strings.Repeat("0", 64) })
		}},
		"maintenance database": {pgmedic.KindUsage, "can't be swapped", func(_ *testing.T, live string, o *swap.Options) { o.Maintenance = live }},
		"prepared transaction": {pgmedic.KindConflict, "prepared transaction: later", func(t *testing.T, live string, _ *swap.Options) {
			fixture.Exec(t, server.DSN(live), "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'later'")
			t.Cleanup(func() { fixture.Exec(t, server.DSN(live), "ROLLBACK PREPARED 'later'") })
		}},
		"logical slot": {pgmedic.KindConflict, "logical replication slot: cdc", func(t *testing.T, live string, _ *swap.Options) {
			fixture.Exec(t, server.DSN(live), "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')")
			t.Cleanup(func() { fixture.Exec(t, server.DSN(live), "SELECT pg_drop_replication_slot('cdc')") })
		}},
		"subscription": {pgmedic.KindConflict, "subscription: feed", func(t *testing.T, live string, _ *swap.Options) {
			fixture.Exec(t, server.DSN(live), "CREATE SUBSCRIPTION feed CONNECTION '' PUBLICATION p WITH (connect = false)")
			t.Cleanup(func() {
				fixture.Exec(t, server.DSN(live), "ALTER SUBSCRIPTION feed SET (slot_name = NONE)", "DROP SUBSCRIPTION feed")
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			live, o := liveClinic(t)
			o.SafetyBackup = func(context.Context) (string, error) { return "none", nil }
			tt.set(t, live, &o)
			_, err := swap.Replace(t.Context(), o)
			fixture.WantKind(t, err, tt.kind, tt.word)
			if tt.kind == pgmedic.KindConflict && pgmedic.HintOf(err) == "" {
				t.Error("no hint")
			}
			wantUntouched(t, live)
		})
	}
}

func TestReplaceFromServer(t *testing.T) {
	live, o := liveClinic(t)
	changed := *o.Backup
	changed.Server.SystemIdentifier = "1"
	o.Backup, o.FromServer = &changed, "not this one"
	_, err := swap.Replace(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindUsage, "another server")
	wantUntouched(t, live)
	o.FromServer = o.Backup.Server.Name
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := patients(t, live); got != 30 {
		t.Errorf("%d patients", got)
	}
}

// TestReplaceMissing brings back a database that somebody has dropped.
func TestReplaceMissing(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Exec(t, server.DSN("postgres"), "DROP DATABASE "+live)
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+live+" TEMPLATE template0") })
	t.Cleanup(func() { fixture.DropAll(t, server, live) })
	o.SafetyBackup = func(context.Context) (string, error) {
		t.Error("a safety backup of nothing")
		return "", nil
	}
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Kept != "" || patients(t, live) != 30 || fixture.Comment(t, server, live) != "the clinic's own comment" {
		t.Errorf("%+v, %d patients, comment %q", done, patients(t, live), fixture.Comment(t, server, live))
	}
}

// TestSweep leaves what a killed restore would: the next one clears it away, and
// touches nobody else's.
func TestSweep(t *testing.T) {
	live, o := liveClinic(t)
	admin := testkit.Connect(t, server.DSN("postgres"))
	for name, s := range map[string]pgmedic.Story{
		live + "__restore_00000000": {Pgmedic: pgmedic.StoryLoading, Of: live, By: "restore"},
		live + "__restore_other":    {Pgmedic: pgmedic.StoryLoading, Of: "another", By: "restore"},
		live + "__before_00000000":  {Pgmedic: pgmedic.StoryKept, Of: live, By: "restore"},
	} {
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0")
		if err := databases.SetStory(t.Context(), admin, name, s); err != nil {
			t.Fatal(err)
		}
	}
	fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+live+"__restore_mine TEMPLATE template0")
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"__restore_00000000": false, "__restore_other": true, "__before_00000000": true, "__restore_mine": true} {
		if fixture.Exists(t, server, live+name) != want {
			t.Errorf("%s: there is %t, want %t", name, !want, want)
		}
	}
}

func TestTwoReplacesAtOnce(t *testing.T) {
	live, o := liveClinic(t)
	second := o
	o.Confirm = func(swap.Plan) error {
		_, err := swap.Replace(t.Context(), second)
		fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
		_, err = swap.Rollback(t.Context(), second)
		fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
		_, err = backup.Take(t.Context(), fixture.BackupOptions(t, server.DSN(live), o.Catalog))
		fixture.WantKind(t, err, pgmedic.KindConflict, "another pgmedic run")
		return nil
	}
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := patients(t, live); got != 30 {
		t.Errorf("%d patients", got)
	}
}

func TestReplaceCancelledAtEachStep(t *testing.T) {
	live, o := liveClinic(t)
	for _, step := range []string{"create", "load", "analyze", "compare", "safety backup", "swap"} {
		t.Run(step, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := o
			o.SafetyBackup = func(ctx context.Context) (string, error) { return "none", ctx.Err() }
			o.Progress = func(e pgmedic.Event) {
				if e.Step == step && !e.Finished {
					cancel()
				}
			}
			_, err := swap.Replace(ctx, o)
			fixture.WantKind(t, err, pgmedic.KindInterrupted)
			wantUntouched(t, live)
		})
	}
}
