package test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestVersions takes the torture database through every command that backs up and
// restores, as a user does, on each version with its own client programs.
func TestVersions(t *testing.T) {
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		on := scratchtest.New(t, scratch.Options{
			BinDir: installation.BinDir, TCP: true, Password: password, Settings: map[string]string{"wal_level": "logical"},
		})
		source := fixture.Torture(t, on, "torture")
		// As a restore does, without the event triggers.
		fixture.Exec(t, source.DSN(), `SET session_replication_role = replica;
			REFRESH MATERIALIZED VIEW public.m1; REFRESH MATERIALIZED VIEW public.a_on_m1`)
		for _, method := range testkit.Few(t, 1, []string{"plain", "parallel"}) {
			t.Run(method, func(t *testing.T) { everyCommand(t, installation, source, method) })
		}
	})
}

func everyCommand(t *testing.T, installation scratch.Installation, source fixture.Place, method string) {
	b := newBench(t)
	b.env = b.environ("DATABASE_URL="+source.Server.URL(source.Database), "BACKUP_METHOD="+method,
		"PGMEDIC_POSTGRES_DIRS="+installation.BinDir)
	if out := b.ok("check"); !strings.Contains(out, "pg_dump "+installation.Version) || !strings.Contains(out, "in "+installation.BinDir) {
		t.Errorf("check names other programs:\n%s", out)
	}
	schema, contents := fixture.SchemaText(t, source), fixture.Contents(t, source)
	same := func(what string, p fixture.Place) {
		t.Helper()
		fixture.WantSame(t, what+": schema", strings.Split(schema, "\n"), strings.Split(fixture.SchemaText(t, p), "\n"))
		fixture.WantSame(t, what+": contents", contents, fixture.Contents(t, p))
	}
	id := strings.TrimSpace(b.ok("backup", "-q"))
	b.ok("verify", id)
	var receipt struct {
		Proof  string                                   `json:"proof"`
		Checks []struct{ Name, Outcome, Detail string } `json:"checks"`
	}
	if err := json.Unmarshal([]byte(b.ok("drill", id, "--json")), &receipt); err != nil || receipt.Proof != "proven" {
		t.Errorf("drill: %+v, %v", receipt, err)
	}
	for _, check := range receipt.Checks {
		if check.Outcome != "ok" && check.Name != "assertions" {
			t.Errorf("drill: %s: %s: %s", check.Name, check.Outcome, check.Detail)
		}
	}

	copied := fixture.Place{Server: source.Server, Database: "copy " + method}
	b.ok("restore", id, "--into", copied.Database)
	same("a copy", copied)

	fixture.Exec(t, source.DSN(), "SET session_replication_role = replica; TRUNCATE types.numbers; DROP TABLE public.toasted")
	b.ok("restore", id, "--swap", "--yes")
	same("swapped in", source)
	b.ok("rollback", source.Database, "--yes")
	if left := fixture.Query[bool](t, source.DSN(), "SELECT to_regclass('public.toasted') IS NULL AND NOT EXISTS (SELECT FROM types.numbers)"); !left[0] {
		t.Error("the rollback did not bring the changed database back")
	}
	b.ok("rollback", source.Database, "--yes")
	same("swapped in again", source)

	schemaName := strings.TrimSpace(b.ok("restore", id, "--table", "types.numbers", "-q"))
	if rows := fixture.Query[int](t, source.DSN(), "SELECT count(*)::int FROM "+schemaName+".numbers"); rows[0] != 5 {
		t.Errorf("%d rows of a table are back, want 5", rows[0])
	}
	fixture.Exec(t, source.DSN(), "SET session_replication_role = replica; DROP SCHEMA "+schemaName+" CASCADE")
	same("after a rescue", source)
}
