package torture_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescue brings every table of the torture database back beside the living
// one and puts deleted rows back by the SQL that is printed. Afterwards the
// database is what it was.
func TestRescue(t *testing.T) {
	scratchtest.EachComplete(t, rescueAll)
}

func rescueAll(t *testing.T, installation scratch.Installation) {
	server := start(t, installation)
	source := fixture.Torture(t, server, torture)
	// Or nothing could be deleted from tables without a key.
	fixture.Psql(t, server, source.Database, `SET session_replication_role = replica;
		ALTER PUBLICATION everything SET (publish = 'insert'); ALTER PUBLICATION of_schema SET (publish = 'insert');
		ALTER PUBLICATION "some tables" SET (publish = 'insert')`)
	for name, method := range fixture.BothMethods(t, 2) {
		t.Run(name, func(t *testing.T) {
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, source.DSN(), c)
			o.Method, o.Seal, o.Tools.Dirs = method, seal.Options{Compression: seal.CompressionZstd}, []string{installation.BinDir}
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			before := fixture.Contents(t, source)
			r := fixture.RestoreOptions(t, server, c, b, "")
			r.Target, r.Tools = r.Target.WithDatabase(source.Database), o.Tools
			done, err := rescue.Run(t.Context(), rescue.Options{Options: r, Tables: []string{"*"}})
			if err != nil {
				t.Fatal(err)
			}
			if !done.Unlogged {
				t.Error("a publication of all tables would send the copies out")
			}
			fixture.WantSame(t, "contents beside the rescue", before, withoutSchema(fixture.Contents(t, source), done.Schema))
			putBack(t, server, source, done)
			fixture.Psql(t, server, source.Database, "SET session_replication_role = replica;\n"+done.CleanUp)
			fixture.WantSame(t, "contents", before, fixture.Contents(t, source))
		})
	}
}

func withoutSchema(lines []string, schema string) []string {
	var kept []string
	for _, l := range lines {
		if !strings.Contains(l, schema) {
			kept = append(kept, l)
		}
	}
	return kept
}

// putBack deletes half of each table's rows and runs what was printed, with psql.
func putBack(t *testing.T, server *scratch.Server, source fixture.Place, done *rescue.Rescued) {
	t.Helper()
	count := func(sql string) int {
		return fixture.Query[int](t, source.DSN(), "SELECT count(*)::int FROM ("+strings.TrimSuffix(sql, ";")+") AS q")[0]
	}
	tried := 0
	for _, table := range done.Tables {
		if len(table.AsText) > 0 || !table.Live {
			t.Errorf("%s: live %t, as text %q", table.Table, table.Live, table.AsText)
		}
		switch table.Table {
		case `"public"."no_columns"`, `"public"."only_generated"`, `"v18"."only_virtual"`, `"public"."all_dropped"`, `"public"."logged"`:
			if table.SQL != nil || len(table.Notes) == 0 {
				t.Errorf("%s has SQL, or no word on why not", table.Table)
			}
			continue
		case `"parts"."far"`: // asks the server that is nowhere
			continue
		}
		if table.SQL == nil {
			t.Errorf("%s has no SQL: %q", table.Table, table.Notes)
			continue
		}
		if strings.ContainsAny(table.SQL.PutBack, "\x00\t\r\u200b") || strings.Contains(table.SQL.PutBack, "new\nline") {
			t.Errorf("it prints what could drive a terminal: %q", table.SQL.PutBack)
		}
		if n := count(table.SQL.Missing) + count(table.SQL.Added); n != 0 {
			t.Errorf("%s: %d rows differ at the beginning", table.Table, n)
		}
		if table.SQL.Changed != "" && count(table.SQL.Changed) != 0 {
			t.Errorf("%s: rows are said to have changed", table.Table)
		}
		switch table.Table {
		// A trigger that always fires; constraints that the rows don't meet.
		case `"public"."parent"`, `"public"."unchecked"`, `"v18"."not_null"`, `"parts"."not_null"`:
			continue
		}
		from := "ONLY " + table.Table
		if strings.HasPrefix(table.Table, `"parts"`) {
			from = table.Table
		}
		const quiet = "SET session_replication_role = replica;\n"
		fixture.Psql(t, server, source.Database, quiet+"DELETE FROM "+from+" WHERE ctid IN (SELECT ctid FROM "+from+
			" LIMIT (SELECT (count(*) + 1) / 2 FROM "+from+"));")
		missing := count(table.SQL.Missing)
		if missing > 0 {
			tried++
		} else if table.Rows > 0 {
			t.Errorf("%s: no row is missing", table.Table)
		}
		fixture.Psql(t, server, source.Database, quiet+table.SQL.PutBack)
		if n := count(table.SQL.Missing) + count(table.SQL.Added); n != 0 {
			t.Errorf("%s: %d rows differ after they were put back", table.Table, n)
		}
	}
	if tried < 20 {
		t.Errorf("rows of %d tables were put back, want most", tried)
	}
}
