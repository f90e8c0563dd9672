package swap_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// cronTable is the table in which pg_cron keeps its jobs.
var cronTable = []string{
	"CREATE SCHEMA cron",
	`CREATE TABLE cron.job (jobid bigint PRIMARY KEY, schedule text, command text, nodename text, nodeport int,
		database text, username text, active bool, jobname text)`,
}

// TestPlanNamesWhatIsOutside: before the question is asked, everything is named
// that a swap does not carry over or that acts by itself.
func TestPlanNamesWhatIsOutside(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Exec(t, server.DSN(live), append(cronTable,
		"INSERT INTO cron.job VALUES (1, '5 4 * * *', 'secret command', '', 0, '"+live+"', 'x', true, 'nightly'), (2, '@daily', '', '', 0, 'other', 'x', true, 'not ours'), (3, '@daily', '', '', 0, '"+live+"', 'x', false, 'asleep')",
		"CREATE PUBLICATION feed FOR TABLE patients",
		"CREATE EXTENSION postgres_fdw", "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw", "CREATE EXTENSION dblink",
		"CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
		"CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION watch()",
		"CREATE SUBSCRIPTION asleep CONNECTION '' PUBLICATION p WITH (connect = false, slot_name = NONE)",
	)...)
	t.Cleanup(func() { fixture.Exec(t, server.DSN(live), "DROP SUBSCRIPTION asleep") })
	// pg_cron's own database, which is another one, has a job for ours.
	cron := fixture.Name(t, server)
	fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+cron+" TEMPLATE template0",
		"ALTER DATABASE postgres SET cron.database_name = '"+cron+"'")
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE postgres RESET cron.database_name") })
	fixture.Exec(t, server.DSN(cron), append(cronTable,
		"INSERT INTO cron.job VALUES (7, '* * * * *', '', '', 0, '"+live+"', 'x', true, NULL)")...)
	stop := errors.New("seen enough")
	var named []string
	o.Confirm = func(p swap.Plan) error {
		for _, x := range p.Outside {
			named = append(named, x.Kind+" "+x.Name)
			if x.Note == "" || strings.Contains(fmt.Sprint(x), "secret") {
				t.Errorf("%+v", x)
			}
		}
		return stop
	}
	if _, err := swap.Replace(t.Context(), o); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	want := []string{
		"subscription asleep", "publication feed", "foreign server elsewhere", "extension dblink", "event trigger watcher",
		"pg_cron job nightly (5 4 * * *)", "pg_cron job 7 (* * * * *)",
	}
	if !slices.Equal(named, want) {
		t.Errorf("named are\n%q, want\n%q", named, want)
	}
	wantUntouched(t, live)
}

func TestReplaceRefusesTemplate(t *testing.T) {
	live, o := liveClinic(t)
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+live+" IS_TEMPLATE true")
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+live+" IS_TEMPLATE false") })
	_, err := swap.Replace(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, "is a template")
	if !strings.Contains(pgmedic.HintOf(err), "IS_TEMPLATE false") {
		t.Errorf("hint %q", pgmedic.HintOf(err))
	}
	wantUntouched(t, live)
	o.Live = "template1"
	_, err = swap.Replace(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindUsage, "the server's own")
}

// TestReplaceRefusesFullDisk: the server is on this machine, and the folder's
// free space is the caller's to say.
func TestReplaceRefusesFullDisk(t *testing.T) {
	live, o := liveClinic(t)
	var asked string
	free := o.Backup.Database.SizeBytes - 1
	o.FreeBytes = func(_ context.Context, dir string) (int64, error) { asked = dir; return free, nil }
	_, err := swap.Replace(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindFailed, "MiB free in "+server.DataDir())
	if !strings.Contains(pgmedic.HintOf(err), "--skip-disk-check") || asked != server.DataDir() {
		t.Errorf("asked for %s, hint %q", asked, pgmedic.HintOf(err))
	}
	wantUntouched(t, live)
	free++
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Error(err)
	}
}

// TestReplaceBroken replaces a live database that can't be backed up.
func TestReplaceBroken(t *testing.T) {
	for name, breakIt := range map[string]func(t *testing.T, live string){
		"closed": func(t *testing.T, live string) {
			fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+live+" ALLOW_CONNECTIONS false")
		},
		"a file of a table is gone": func(t *testing.T, live string) {
			path := fixture.Query[string](t, server.DSN(live), "SELECT pg_relation_filepath('patients')")[0]
			fixture.Exec(t, server.DSN(live), "CHECKPOINT")
			if err := os.Remove(filepath.Join(server.DataDir(), path)); err != nil {
				t.Fatal(err)
			}
		},
		"its folder is gone": func(t *testing.T, live string) {
			oid := fixture.Query[string](t, server.DSN(live), "SELECT oid::text FROM pg_database WHERE datname = current_database()")[0]
			fixture.Exec(t, server.DSN("postgres"), "CHECKPOINT")
			folder := filepath.Join(server.DataDir(), "base", oid)
			if err := os.Rename(folder, folder+".gone"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Rename(folder+".gone", folder) })
		},
	} {
		for _, method := range fixture.Methods(t, 2) {
			t.Run(name+" "+string(method.Name()), func(t *testing.T) {
				live, o := liveClinic(t)
				o.SafetyBackup = func(ctx context.Context) (string, error) {
					b := fixture.BackupOptions(t, server.DSN(o.Live), o.Catalog)
					b.Locked, b.Purpose, b.Method = true, pgmedic.PurposeSafety, method
					taken, err := backup.Take(ctx, b)
					if err != nil {
						return "", err
					}
					return taken.ID, nil
				}
				breakIt(t, live)
				done, err := swap.Replace(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if done.SafetyBackup != "" || done.SafetySkipped == "" || strings.Contains(done.SafetySkipped, "Patient") {
					t.Errorf("safety backup %q, skipped %q", done.SafetyBackup, done.SafetySkipped)
				}
				t.Log(done.SafetySkipped)
				if done.Closed != (name == "closed") {
					t.Errorf("closed is %t", done.Closed)
				}
				if done.Closed {
					open(t, live)
				}
				if patients(t, live) != 30 || story(t, done.Kept).SafetySkipped != done.SafetySkipped {
					t.Errorf("%d patients, story %+v", patients(t, live), story(t, done.Kept))
				}
			})
		}
	}
}

// TestSkipSafetyIsRecorded: the reason stands in the result and in the story of
// what was set aside.
func TestSkipSafetyIsRecorded(t *testing.T) {
	live, o := liveClinic(t)
	o.SkipSafety = "the disk is full"
	done, err := swap.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := story(t, done.Kept); got.SafetySkipped != o.SkipSafety || done.SafetySkipped != o.SkipSafety || got.Name != done.Kept {
		t.Errorf("story %+v, done %q", got, done.SafetySkipped)
	}
	if patients(t, live) != 30 {
		t.Errorf("%d patients", patients(t, live))
	}
}

// TestRollbackWithDetachedSubscription: what a restore detached does not keep it
// from being set aside in turn.
func TestRollbackWithDetachedSubscription(t *testing.T) {
	live, o := liveClinic(t, "CREATE SUBSCRIPTION feed CONNECTION 'host=/nonesuch' PUBLICATION p WITH (connect = false)")
	detach := func(name string) {
		fixture.Exec(t, server.DSN(name), "ALTER SUBSCRIPTION feed SET (slot_name = NONE)", "DROP SUBSCRIPTION feed")
	}
	detach(live)
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	back, err := swap.Rollback(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	wantPatients := patients(t, live)
	open(t, back.Kept)
	detach(back.Kept)
	if wantPatients != 40 {
		t.Errorf("%d patients", wantPatients)
	}
}

// leftReady makes what a restore leaves that died before the swap.
func leftReady(t *testing.T, live string, o swap.Options, suffix string, s pgmedic.Story) string {
	t.Helper()
	lo := o.Options
	lo.Into, lo.Of = live+"__restore_"+suffix, live
	if _, err := restore.Load(t.Context(), lo); err != nil {
		t.Fatal(err)
	}
	s.Of, s.By, s.Backup = live, "restore", o.Backup.ID
	if err := databases.SetStory(t.Context(), testkit.Connect(t, server.DSN("postgres")), lo.Into, s); err != nil {
		t.Fatal(err)
	}
	return lo.Into
}

func TestResume(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		live, o := liveClinic(t)
		_, err := swap.Resume(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindNotFound, live)
		wantUntouched(t, live)
	})
	t.Run("a ready copy among others", func(t *testing.T) {
		live, o := liveClinic(t)
		now := time.Now()
		leftReady(t, live, o, "aaaaaaaa", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: now.Add(-time.Hour)})
		newest := leftReady(t, live, o, "bbbbbbbb", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: now})
		leftReady(t, live, o, "cccccccc", pgmedic.Story{Pgmedic: pgmedic.StoryLoading, Since: now.Add(time.Hour)})
		done, err := swap.Resume(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if done.Resumed != newest || len(done.Dropped) != 2 || len(done.Checks) == 0 || patients(t, live) != 30 {
			t.Errorf("%+v, %d patients", done, patients(t, live))
		}
		done, err = swap.Resume(t.Context(), o)
		if err != nil || !done.Before || done.BackupID != o.Backup.ID || patients(t, live) != 30 {
			t.Errorf("again: %+v, %v", done, err)
		}
	})
	t.Run("a copy that was changed since", func(t *testing.T) {
		live, o := liveClinic(t)
		ready := leftReady(t, live, o, "dddddddd", pgmedic.Story{Pgmedic: pgmedic.StoryReady, Since: time.Now()})
		fixture.Exec(t, server.DSN(ready), "DELETE FROM patients WHERE id = 1")
		_, err := swap.Resume(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindNotConfirmed, ready, "29 rows, the backup 30")
		if patients(t, live) != 40 {
			t.Errorf("%d patients", patients(t, live))
		}
	})
}
