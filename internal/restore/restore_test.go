package restore_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	settings := map[string]string{"wal_level": "logical", "max_prepared_transactions": "5"}
	os.Exit(scratchtest.Main(m, scratch.Options{Settings: settings}, func(s *scratch.Server) { server = s }))
}

func TestInto(t *testing.T) {
	dsn, c, b := fixture.Clinic(t, server)
	name := fixture.Name(t, server)
	var events []string
	o := fixture.RestoreOptions(t, server, c, b, name)
	o.Progress = func(e pgmedic.Event) {
		if e.Finished {
			events = append(events, e.Step)
		}
	}
	done, err := restore.Into(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Database != name || done.BackupID != b.ID || done.Seconds <= 0 {
		t.Errorf("restored: %+v", done)
	}
	if got := strings.Join(events, " "); got != "create load analyze properties compare" {
		t.Errorf("steps %q", got)
	}
	if got := fixture.Comment(t, server, name); got != "the clinic's own comment" {
		t.Errorf("comment %q", got)
	}
	fixture.WantEqual(t, fixture.Place{Server: server, Database: fixture.Target(t, dsn).Database()}, fixture.Place{Server: server, Database: name})
}

func TestIntoExisting(t *testing.T) {
	dsn, c, b := fixture.Clinic(t, server)
	live := fixture.Target(t, dsn).Database()
	fixture.Exec(t, dsn, "INSERT INTO patients VALUES (99, 'new')")
	_, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, live))
	fixture.WantKind(t, err, pgmedic.KindConflict, "exists already")
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 31 {
		t.Errorf("the existing database has %d patients, want 31", got)
	}
}

func TestMissingRolesAndTablespaces(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	for name, tt := range map[string]struct {
		change func(d *pgmedic.Database)
		words  []string
	}{
		"roles": {func(d *pgmedic.Database) {
			d.Roles = append(d.Roles, pgmedic.Role{Name: `Dr. "Who"`}, pgmedic.Role{Name: "nurse"})
		},
			[]string{`"Dr. ""Who"""`, `"nurse"`}},
		"tablespace":                {func(d *pgmedic.Database) { d.Tablespaces = []string{"fast disks"} }, []string{"fast disks"}},
		"the database's tablespace": {func(d *pgmedic.Database) { d.Tablespace = "slow disks" }, []string{"slow disks"}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := *b
			tt.change(&changed.Database)
			into := fixture.Name(t, server)
			roles := fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_roles")[0]
			_, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, &changed, into))
			fixture.WantGone(t, server, into, err, pgmedic.KindNotFound, tt.words...)
			if got := fixture.Query[int](t, server.DSN("postgres"), "SELECT count(*) FROM pg_roles")[0]; got != roles {
				t.Errorf("%d roles, there were %d", got, roles)
			}
		})
	}
}

func TestMissingExtension(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	changed := *b
	changed.Database.Extensions = append(changed.Database.Extensions, pgmedic.Extension{Name: "not_installed_here", Schema: "public"})
	into := fixture.Name(t, server)
	_, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, &changed, into))
	fixture.WantGone(t, server, into, err, pgmedic.KindUsage, "not_installed_here")
}

// TestPublicSchemaGone restores a database whose schema public was dropped: a
// dump does not say so, and the copy is no worse for having one.
func TestPublicSchemaGone(t *testing.T) {
	_, c, b := fixture.Clinic(t, server, "CREATE SCHEMA care", "ALTER TABLE patients SET SCHEMA care", "DROP VIEW everyone", "DROP SCHEMA public")
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))); err != nil {
		t.Error(err)
	}
}

// TestSubscription restores a subscription that has a slot on its publisher.
// The copy must let go of the slot, and be as easy to drop as any.
func TestSubscription(t *testing.T) {
	dsn, c, b := fixture.Clinic(t, server, "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)")
	t.Cleanup(func() {
		fixture.Exec(t, dsn, "ALTER SUBSCRIPTION feed SET (slot_name = NONE)", "DROP SUBSCRIPTION feed")
	})
	const slots = "SELECT coalesce(subslotname, 'none') || subenabled FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
	if got := fixture.Query[string](t, dsn, slots)[0]; got != "feedfalse" {
		t.Fatalf("the original has %q", got)
	}
	name := fixture.Name(t, server)
	o := fixture.RestoreOptions(t, server, c, b, name)
	if _, err := restore.Into(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := fixture.Query[string](t, server.DSN(name), slots)[0]; got != "nonefalse" {
		t.Errorf("the copy has %q, want no slot, disabled", got)
	}
	if err := restore.Drop(t.Context(), o.Target, "postgres", name); err != nil || fixture.Exists(t, server, name) {
		t.Errorf("drop the copy: %v", err)
	}
	// A restore that fails after it has made the subscription.
	into := fixture.Name(t, server)
	o = fixture.RestoreOptions(t, server, c, b, into)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(e pgmedic.Event) {
		if e.Step == "analyze" {
			cancel()
		}
	}
	_, err := restore.Into(ctx, o)
	fixture.WantGone(t, server, into, err, pgmedic.KindInterrupted)
	if got := fixture.Query[string](t, dsn, slots)[0]; got != "feedfalse" {
		t.Errorf("the original has now %q", got)
	}
}

// TestCancelledAtEachStep interrupts a restore at the beginning of each step
// and in the middle of the load.
func TestCancelledAtEachStep(t *testing.T) {
	dsn, c, b := fixture.Clinic(t, server)
	for _, step := range []string{"create", "load", "middle", "analyze", "properties", "compare", "end"} {
		t.Run(step, func(t *testing.T) {
			into := fixture.Name(t, server)
			check := fixture.NothingLeft(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := fixture.RestoreOptions(t, server, c, b, into)
			o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(key string, r io.ReadCloser) (io.ReadCloser, error) {
				if step == "middle" {
					return fixture.Closing{Reader: fixture.At(r, 100, cancel), Closer: r}, nil
				}
				return r, nil
			}})
			o.Progress = func(e pgmedic.Event) {
				if e.Step == step && !e.Finished || step == "end" && e.Step == "compare" && e.Finished {
					cancel()
				}
			}
			_, err := restore.Into(ctx, o)
			fixture.WantGone(t, server, into, err, pgmedic.KindInterrupted)
			check()
		})
	}
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 30 {
		t.Errorf("the live database has %d patients", got)
	}
}

func TestUnreadableStore(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	into := fixture.Name(t, server)
	o := fixture.RestoreOptions(t, server, c, b, into)
	failure := pgmedic.Errorf(pgmedic.KindUnreachable, "", "read: %w", fixture.ErrInjected)
	for name, onOpen := range map[string]func(string, io.ReadCloser) (io.ReadCloser, error){
		"open": func(string, io.ReadCloser) (io.ReadCloser, error) { return nil, failure },
		"middle": func(_ string, r io.ReadCloser) (io.ReadCloser, error) {
			return fixture.Closing{Reader: fixture.FailAfter(r, 100, failure), Closer: r}, nil
		},
	} {
		o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: onOpen})
		_, err := restore.Into(t.Context(), o)
		fixture.WantGone(t, server, into, err, pgmedic.KindUnreachable)
		if !errors.Is(err, fixture.ErrInjected) {
			t.Errorf("%s: the cause is not in the error: %v", name, err)
		}
	}
}

func TestServerKilledMidway(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	own := scratchtest.New(t, scratch.Options{})
	o := fixture.RestoreOptions(t, own, c, b, "copy")
	o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(key string, r io.ReadCloser) (io.ReadCloser, error) {
		if !strings.Contains(key, "/dump.sql") {
			return r, nil // what is read before the database is made
		}
		return fixture.Closing{Closer: r, Reader: fixture.At(r, 100, func() {
			if err := syscall.Kill(own.PID(), syscall.SIGQUIT); err != nil {
				t.Error(err)
			}
			<-own.Done()
		})}, nil
	}})
	_, err := restore.Into(t.Context(), o)
	if err == nil {
		t.Fatal("a restore into a server that died succeeds")
	}
	// It can't be dropped without its server, and that is said.
	if !strings.Contains(err.Error(), "half-restored database is still there") || strings.Contains(err.Error(), "Patient") {
		t.Errorf("error: %v", err)
	}
}
