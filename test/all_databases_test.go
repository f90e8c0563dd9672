package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestAllDatabases backs up a whole server, on which one database can't be read,
// one is being loaded by a restore and one was set aside by a swap.
func TestAllDatabases(t *testing.T) {
	own := scratchtest.New(t, scratch.Options{TCP: true, Password: password})
	dsn := own.DSN("postgres")
	fixture.Exec(t, dsn, "CREATE DATABASE clinic", `CREATE DATABASE "odd ""name"""`, "CREATE DATABASE loading", "CREATE DATABASE closed",
		"ALTER DATABASE closed ALLOW_CONNECTIONS false", "CREATE DATABASE pattern IS_TEMPLATE true",
		"CREATE ROLE dumper LOGIN PASSWORD '"+password+"' IN ROLE pg_read_all_data")
	fixture.Exec(t, own.DSN("clinic"), "CREATE TABLE patients AS SELECT generate_series(1, 10) AS id")
	if err := databases.SetStory(t.Context(), testkit.Connect(t, dsn), "loading",
		pgmedic.Story{Pgmedic: pgmedic.StoryLoading, Of: "clinic", By: "restore"}); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	b.env = b.environ("DATABASE_URL=" + own.URL("clinic"))
	b.ok("backup")
	b.ok("restore", "latest", "--swap", "--yes")

	type output struct {
		Backups []struct {
			Database string
			Rows     int
		}
		Failed []struct{ Database, Error string }
	}
	all := func(code int) (o output) {
		t.Helper()
		r := b.run("backup", "--all-databases", "--json")
		if r.code != code {
			t.Fatalf("exit code %d, want %d\n%s", r.code, code, r.stderr)
		}
		if err := json.Unmarshal([]byte(r.stdout), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	names := func(o output) (all []string) {
		for _, b := range o.Backups {
			all = append(all, b.Database)
		}
		return all
	}
	o := all(0)
	if want := []string{"clinic", `odd "name"`, "postgres"}; !slices.Equal(names(o), want) || len(o.Failed) != 0 || o.Backups[0].Rows != 10 {
		t.Errorf("backed up %+v, want %q", o, want)
	}
	b.env = append(b.env, "PGMEDIC_ALL_DATABASES=yes")
	if out := b.ok("backup", "-q"); strings.Count(out, "\n") != 3 {
		t.Errorf("the setting backs up %s", out)
	}

	b.env = b.environ("DATABASE_URL=" + strings.Replace(own.URL("clinic"), "//postgres:", "//dumper:", 1))
	fixture.Exec(t, own.DSN(`odd "name"`), "CREATE TABLE secrets AS SELECT 'Jane Patient' AS name",
		"ALTER TABLE secrets ENABLE ROW LEVEL SECURITY")
	b.env = append(b.env, "PGMEDIC_SERVER=own")
	o = all(12)
	if want := []string{"clinic", "postgres"}; !slices.Equal(names(o), want) || len(o.Failed) != 1 || o.Failed[0].Database != `odd "name"` {
		t.Errorf("backed up %+v, want %q", o, want)
	}
	if strings.Contains(o.Failed[0].Error, "Jane") || !strings.Contains(o.Failed[0].Error, "secrets") {
		t.Errorf("the error is %q", o.Failed[0].Error)
	}
}
