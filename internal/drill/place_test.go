package drill_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// onServer are the options of a drill on the server that the tests have.
func onServer(t *testing.T, o drill.Options, kind string) drill.Options {
	t.Helper()
	o.Kind, o.Target = kind, fixture.Target(t, server.DSN("postgres"))
	return o
}

// TestOnServer drills in a temporary database, and looks that nothing but that
// came and went.
func TestOnServer(t *testing.T) {
	dsn := patients(t)
	for name, method := range fixture.Methods(t, 2) {
		for _, kind := range []string{pgmedic.ScratchOnServer, pgmedic.ScratchGiven} {
			t.Run(name+" "+kind, func(t *testing.T) {
				c, b, _ := take(t, dsn, method)
				before := fixture.Databases(t, server)
				o := onServer(t, options(t, c, b), kind)
				o.Assertions = []drill.Assertion{{Name: "rows", SQL: "SELECT count(*) FROM patients", Expect: []string{"3000"}}}
				var during []string
				var open bool
				at(&o, "amcheck", func() {
					during = fixture.Databases(t, server)
					open = fixture.Query[bool](t, dsn, "SELECT EXISTS (SELECT FROM pg_database, aclexplode(datacl) AS a WHERE datname = $1 AND a.grantee = 0) OR (SELECT datacl IS NULL FROM pg_database WHERE datname = $1)", "pgmedic_drill_"+b.ID)[0]
				})
				receipt, err := run(t.Context(), t, o)
				if err != nil || receipt.Proof != pgmedic.ProofProven {
					t.Fatalf("%+v, %v", receipt, err)
				}
				if want := append(slices.Clone(before), "pgmedic_drill_"+b.ID); !slices.Equal(sorted(during), sorted(want)) {
					t.Errorf("during the drill there were %q, want %q", during, want)
				}
				if got := check(t, receipt, "access list"); open || got.Outcome != pgmedic.OutcomeSkipped {
					t.Errorf("others may connect to the copy: %t; %+v", open, got)
				}
				if after := fixture.Databases(t, server); !slices.Equal(before, after) {
					t.Errorf("databases before %q, after %q", before, after)
				}
				s := receipt.Scratch
				if s.Kind != kind || s.Server == "" || s.CPUs != 0 || s.Platform != "" || s.Durable || s.NoNetwork {
					t.Errorf("scratch: %+v", s) // the tests' server has fsync off
				}
				if got := check(t, receipt, "time to recover"); got.Outcome != pgmedic.OutcomeWarn || !strings.Contains(got.Detail, "fsync") {
					t.Errorf("the time is called one to recover: %+v", got)
				}
				if receipt.Counted.Indexes == 0 || receipt.RecoverySeconds == 0 {
					t.Errorf("%+v", receipt)
				}
			})
		}
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// TestOnServerFails leaves nothing behind either.
func TestOnServerFails(t *testing.T) {
	dsn := patients(t)
	c, b, _ := take(t, dsn, backup.Parallel{Jobs: 2})
	before := fixture.Databases(t, server)
	name := "pgmedic_drill_" + b.ID
	for step, want := range map[string]string{"compare": "row counts: ", "amcheck": "indexes: "} {
		o := onServer(t, options(t, c, b), pgmedic.ScratchOnServer)
		at(&o, step, func() {
			if step == "compare" {
				fixture.Exec(t, server.DSN(name), "DELETE FROM patients WHERE id = 7")
				return
			}
			fixture.Exec(t, server.DSN(name),
				"UPDATE pg_index SET indisready = false WHERE indexrelid = 'public.patients_name'::regclass",
				"UPDATE public.patients SET name = name || 'x' WHERE id = 7",
				"UPDATE pg_index SET indisready = true WHERE indexrelid = 'public.patients_name'::regclass")
		})
		receipt, err := run(t.Context(), t, o)
		if detail := failedDetail(t, receipt, err); !strings.HasPrefix(detail, want) {
			t.Errorf("%s, want %s", detail, want)
		}
	}
	for _, step := range testkit.SomeOf(t, 2, []string{"create", "rows", "compare", "amcheck", "assertions"}) {
		ctx, cancel := context.WithCancel(t.Context())
		o := onServer(t, options(t, c, b), pgmedic.ScratchOnServer)
		at(&o, step, cancel)
		receipt, err := run(ctx, t, o)
		cancel()
		if step == "assertions" && err == nil {
			continue // it was over
		}
		if receipt != nil {
			t.Errorf("interrupted at %s: %+v", step, receipt)
		}
		fixture.WantKind(t, err, pgmedic.KindInterrupted)
	}
	if after := fixture.Databases(t, server); !slices.Equal(before, after) {
		t.Errorf("databases before %q, after %q", before, after)
	}
}

// TestOnServerSweeps removes what a killed drill left, and nothing else.
func TestOnServerSweeps(t *testing.T) {
	dsn := patients(t)
	c, b, _ := take(t, dsn, backup.Plain{})
	admin := testkit.Connect(t, server.DSN("postgres"))
	left := func(name string, s pgmedic.Story) string {
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+sqltext.QuoteIdent(name)+" TEMPLATE template0")
		t.Cleanup(func() { fixture.DropAll(t, server, name) })
		if s.Pgmedic != "" {
			if err := databases.SetStory(t.Context(), admin, name, s); err != nil {
				t.Fatal(err)
			}
		}
		return name
	}
	drilling := func(name string) pgmedic.Story {
		return pgmedic.Story{Pgmedic: pgmedic.StoryLoading, Of: name, By: "drill", Since: time.Now()}
	}
	own := "pgmedic_drill_" + b.ID
	dead := left(own, drilling(own))
	other := left("pgmedic_drill_other", drilling("pgmedic_drill_other"))
	var kept []string
	// One that another drill, which lives, works on.
	held := left("pgmedic_drill_held", drilling("pgmedic_drill_held"))
	lock, err := databases.AcquireRunLock(t.Context(), fixture.Target(t, server.DSN("postgres")), "postgres", held)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release(t.Context())
	kept = append(kept, held,
		left("pgmedic_drill_users_own", pgmedic.Story{}),
		left("pgmedic_drill_restored", pgmedic.Story{Pgmedic: pgmedic.StoryLoading, Of: "pgmedic_drill_restored", By: "restore"}),
		left("pgmedic_drill_renamed", drilling("pgmedic_drill_before")),
		left("not_of_a_drill", drilling("not_of_a_drill")))
	receipt, err := run(t.Context(), t, onServer(t, options(t, c, b), pgmedic.ScratchOnServer))
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	after := fixture.Databases(t, server)
	for _, name := range []string{dead, other} {
		if slices.Contains(after, name) {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range kept {
		if !slices.Contains(after, name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// TestOnServerRefuses has what a drill on somebody's server must not pass over.
func TestOnServerRefuses(t *testing.T) {
	dsn := patients(t)
	c, b, _ := take(t, dsn, backup.Plain{})
	name := "pgmedic_drill_" + b.ID

	t.Run("its name is taken", func(t *testing.T) {
		fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+sqltext.QuoteIdent(name)+" TEMPLATE template0")
		defer fixture.DropAll(t, server, name)
		receipt, err := run(t.Context(), t, onServer(t, options(t, c, b), pgmedic.ScratchOnServer))
		fixture.WantKind(t, err, pgmedic.KindConflict, name)
		if receipt != nil || !slices.Contains(fixture.Databases(t, server), name) {
			t.Error("somebody's database is gone, or there is a receipt")
		}
	})
	t.Run("another drill of the backup", func(t *testing.T) {
		lock, err := databases.AcquireRunLock(t.Context(), fixture.Target(t, server.DSN("postgres")), "postgres", name)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release(t.Context())
		_, err = run(t.Context(), t, onServer(t, options(t, c, b), pgmedic.ScratchOnServer))
		fixture.WantKind(t, err, pgmedic.KindConflict)
	})
	t.Run("roles that are not there", func(t *testing.T) {
		changed := *b
		changed.Database.Roles = append(slices.Clone(b.Database.Roles), pgmedic.Role{Name: "nobody here"})
		o := onServer(t, options(t, c, b), pgmedic.ScratchOnServer)
		o.Backup = &changed
		_, err := run(t.Context(), t, o)
		fixture.WantKind(t, err, pgmedic.KindNotFound, `"nobody here"`)
		if n := fixture.Query[int](t, dsn, "SELECT count(*)::int FROM pg_roles WHERE rolname = 'nobody here'")[0]; n != 0 {
			t.Error("the drill made a role")
		}
	})
	t.Run("no connection to spare", func(t *testing.T) {
		small := scratchtest.New(t, scratch.Options{Settings: map[string]string{"max_connections": "8", "superuser_reserved_connections": "2", "max_wal_senders": "0"}})
		o := options(t, c, b)
		o.Kind, o.Target, o.Jobs = pgmedic.ScratchGiven, fixture.Target(t, small.DSN("postgres")), 8
		_, err := run(t.Context(), t, o)
		fixture.WantKind(t, err, pgmedic.KindConflict, "free connections")
	})
	t.Run("no such server", func(t *testing.T) {
		o := options(t, c, b)
		o.Kind, o.Target = pgmedic.ScratchGiven, fixture.Target(t, "host=/nowhere user=x")
		_, err := run(t.Context(), t, o)
		fixture.WantKind(t, err, pgmedic.KindUnreachable)
	})
	wantProof(t, c, b, pgmedic.ProofTaken, 0)
}

// TestOnServerPlainRole drills with a role that owns what it makes and no more.
func TestOnServerPlainRole(t *testing.T) {
	fixture.Exec(t, server.DSN("postgres"), "CREATE ROLE drill_owner LOGIN CREATEDB")
	t.Cleanup(func() { fixture.Exec(t, server.DSN("postgres"), "DROP OWNED BY drill_owner", "DROP ROLE drill_owner") })
	source := scratchtest.Database(t, server)
	name := fixture.Query[string](t, source, "SELECT current_database()::text")[0]
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" OWNER TO drill_owner")
	defer fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" OWNER TO "+sqltext.QuoteIdent(server.Superuser()))
	fixture.Exec(t, source, "ALTER SCHEMA public OWNER TO drill_owner", "SET ROLE drill_owner; CREATE TABLE mine AS SELECT 1 AS id")
	c, b, _ := take(t, source, backup.Plain{})
	o := options(t, c, b)
	o.Kind, o.Target = pgmedic.ScratchOnServer, fixture.Target(t, server.DSN("postgres")).With("user", "drill_owner")
	receipt, err := run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if got := check(t, receipt, "indexes"); got.Outcome != pgmedic.OutcomeSkipped || got.Detail != "amcheck needs a superuser" {
		t.Errorf("%+v", got)
	}
}
