package drill_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// encoded is a database whose text is not UTF-8, or not all of it.
type encoded struct {
	name, encoding string
	// statements are in the database's encoding.
	statements []string
	// after are the administrator's, in UTF-8, for the database that %s names.
	after []string
	// rescue is a table to bring back alone.
	rescue string
}

func encodedDatabases() []encoded {
	return []encoded{
		{
			name: "bytes that are no character", encoding: "SQL_ASCII", rescue: `public.t_a*`,
			statements: []string{
				"CREATE TYPE en AS ENUM ('s\xed', 'no')",
				"CREATE TABLE t (id int, e en DEFAULT 's\xed', v text CHECK (v <> 'ni\xf1o'))", "INSERT INTO t VALUES (1, 's\xed', 'caf\xe9'), (2, 'no', 'caf\xc3\xa9'), (3, NULL, '\xff\xfe')",
				"COMMENT ON TABLE t IS 'tabla n\xba 1'", "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a\xf1o'::text $$",
				"CREATE TABLE \"t_a\xf1o\" (id int PRIMARY KEY, \"d\xeda\" int)", "INSERT INTO \"t_a\xf1o\" VALUES (1, 2)",
				"CREATE TABLE t2 (\"d\xeda\" int)", "INSERT INTO t2 VALUES (5), (6)",
				"CREATE SCHEMA \"\xe9t\xe9\"", "CREATE TABLE \"\xe9t\xe9\".\"back\\slash\xe9\" (x int)", "INSERT INTO \"\xe9t\xe9\".\"back\\slash\xe9\" VALUES (7)",
				"CREATE VIEW \"v\xe9\" AS SELECT \"d\xeda\" FROM t2",
				"COMMENT ON DATABASE \"%s\" IS 'a\xf1o'", "ALTER DATABASE \"%s\" SET app.x = 'a\xf1o'",
			},
		},
		{
			name: "names in Latin 1", encoding: "LATIN1", rescue: `"été"."t_é"`,
			statements: []string{
				"CREATE SCHEMA \"\xe9t\xe9\"", "CREATE TABLE \"\xe9t\xe9\".\"t_\xe9\" (\"n\xb0\" int, v text)", "INSERT INTO \"\xe9t\xe9\".\"t_\xe9\" VALUES (1, 'caf\xe9')",
				"CREATE TABLE t (\"\xe9\" text)", "INSERT INTO t VALUES ('\xe9'), ('a')",
				"COMMENT ON DATABASE \"%s\" IS 'a\xf1o'", "ALTER DATABASE \"%s\" SET app.x = 'a\xf1o'",
			},
		},
		{
			name: "a byte without a meaning", encoding: "WIN1252", rescue: "public.t",
			statements: []string{"CREATE TABLE t (id int, v text CHECK (v <> '\x81'))", "INSERT INTO t VALUES (1, '\x81\x80'), (2, 'caf\xe9')"},
		},
		{
			name: "characters that UTF8 lacks", encoding: "EUC_JP", rescue: "public.t",
			statements: []string{
				"CREATE TABLE t (id int, v text DEFAULT '\xa9\xa1')", "INSERT INTO t VALUES (1, '\xa9\xa1\xb0\xa1'), (2, '\xb0\xa1')",
				"COMMENT ON TABLE t IS '\xa9\xa1'", "CREATE TABLE \"\xb0\xa1\" (x int)", "INSERT INTO \"\xb0\xa1\" VALUES (1)",
				"COMMENT ON DATABASE \"%s\" IS '\xa9\xa1'", "ALTER DATABASE \"%s\" SET app.x = '\xa9\xa1'",
			},
		},
		{
			name: "clients in Latin 1", encoding: "UTF8", rescue: `public."tabelle_ä"`,
			statements: []string{
				`CREATE TABLE "tabelle_ä" (id int PRIMARY KEY, v text)`, `INSERT INTO "tabelle_ä" VALUES (1, 'café')`,
				"CREATE TABLE t (v text DEFAULT '日本')", "INSERT INTO t VALUES ('日本 €')", "COMMENT ON DATABASE \"%s\" IS '日本 €'",
			},
			after: []string{"ALTER DATABASE \"%s\" SET client_encoding = 'LATIN1'"},
		},
	}
}

// encode makes such a database.
func encode(t *testing.T, e encoded) (name string) {
	t.Helper()
	name = fixture.Name(t, server)
	fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING '"+e.encoding+"' LC_COLLATE 'C' LC_CTYPE 'C'")
	conn := testkit.Connect(t, server.DSN(name))
	for _, sql := range append([]string{"SET client_encoding = SQL_ASCII"}, e.statements...) {
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "%s", name)); err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
	}
	for _, sql := range e.after {
		fixture.Exec(t, server.DSN("postgres"), strings.ReplaceAll(sql, "%s", name))
	}
	return name
}

// storedText is all that a database holds, as it is stored: what pg_dump writes of the
// definitions, each table's rows, and what the server knows of the database.
func storedText(t *testing.T, server *scratch.Server, name string) []string {
	t.Helper()
	dump := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), "pg_dump"), "--schema-only", "--restrict-key=pgmedic", "--encoding=SQL_ASCII", "-d", server.DSN(name))
	definitions, err := dump.Output()
	if err != nil {
		t.Fatal(err)
	}
	conn := testkit.Connect(t, server.DSN(name))
	query := func(sql string) (values []string) {
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
		defer rows.Close()
		for rows.Next() {
			values = append(values, string(rows.RawValues()[0]))
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
		return values
	}
	query("SET client_encoding = SQL_ASCII")
	all := []string{string(definitions)}
	for _, table := range query("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' ORDER BY 1") {
		for _, row := range query("SELECT t::text FROM " + table + " AS t ORDER BY t::text COLLATE \"C\"") {
			all = append(all, table+": "+row)
		}
	}
	all = append(all, query("SELECT 'comment: ' || shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()")...)
	return append(all, query("SELECT 'setting: ' || unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1")...)
}

// TestEncodings takes databases whose text UTF8 lacks through everything, by both
// methods, and compares bytes.
func TestEncodings(t *testing.T) {
	for _, e := range testkit.SomeOf(t, 2, encodedDatabases()) {
		for _, method := range fixture.MethodsOf(e.name, 2) {
			t.Run(e.name+" "+string(method.Name()), func(t *testing.T) {
				source := encode(t, e)
				want := storedText(t, server, source)
				c, dir := fixture.NewCatalogIn(t)
				o := fixture.BackupOptions(t, server.DSN(source), c)
				o.Method = method
				taken, err := backup.Take(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				entry, err := c.Get(t.Context(), taken.ID, catalog.Filter{})
				if err != nil {
					t.Fatal(err)
				}
				b := entry.Backup
				verified, err := drill.Verify(t.Context(), drill.VerifyOptions{Catalog: c, Backup: b, Now: time.Now})
				if err != nil || verified.Outcome != pgmedic.OutcomeOK {
					t.Fatalf("verify: %+v, %v", verified, err)
				}
				d := options(t, c, b)
				d.SkipAmcheck = "it reads no text"
				receipt, err := run(t.Context(), t, d)
				if err != nil || receipt.Outcome != pgmedic.OutcomeOK {
					t.Fatalf("drill: %+v, %v", receipt, err)
				}
				t.Run("restore", func(t *testing.T) { restoreEncoded(t, c, b, want) })
				if method.Name() == pgmedic.MethodParallel { // what a swap does itself is one for both
					t.Run("swap", func(t *testing.T) { swapEncoded(t, c, b, want) })
				}
				t.Run("rescue", func(t *testing.T) { rescueEncoded(t, c, b, e.rescue) })
				t.Run("recover.sh", func(t *testing.T) { recoverEncoded(t, dir, b, want) })
			})
		}
	}
}

func wantStored(t *testing.T, want, got []string) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			t.Errorf("too much: %q", got[i])
		case i >= len(got):
			t.Errorf("missing: %q", want[i])
		case want[i] != got[i]:
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

func restoreEncoded(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup, want []string) {
	into := fixture.Name(t, server)
	if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, into)); err != nil {
		t.Fatal(err)
	}
	wantStored(t, want, storedText(t, server, into))
}

// swapEncoded swaps, and rolls back.
func swapEncoded(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup, want []string) {
	live := b.Database.Name
	o := swap.Options{Options: fixture.RestoreOptions(t, server, c, b, ""), Live: live, SkipSafety: "a test"}
	if _, err := swap.Replace(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	wantStored(t, want, storedText(t, server, live))
	_, err := swap.Rollback(t.Context(), swap.Options{Options: restore.Options{Target: o.Target, Logger: o.Logger, Now: time.Now}, Live: live})
	if err != nil {
		t.Fatal(err)
	}
	wantStored(t, want, storedText(t, server, live))
}

func rescueEncoded(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup, table string) {
	o := fixture.RestoreOptions(t, server, c, b, "")
	o.Target = fixture.Target(t, server.DSN(b.Database.Name))
	done, err := rescue.Run(t.Context(), rescue.Options{Options: o, Tables: []string{table}})
	if err != nil {
		t.Fatal(err)
	}
	if len(done.Tables) != 1 || done.Tables[0].Rows == 0 {
		t.Fatalf("rescued %+v", done.Tables)
	}
	conn := testkit.Connect(t, server.DSN(b.Database.Name))
	encoding := "UTF8"
	if b.Database.Encoding == "SQL_ASCII" {
		encoding = "SQL_ASCII"
	}
	if _, err := conn.Exec(t.Context(), "SET client_encoding = "+encoding); err != nil {
		t.Fatal(err)
	}
	compare := "DO $$ BEGIN ASSERT (SELECT count(*) FROM (TABLE " + done.Tables[0].As + " EXCEPT ALL TABLE " + done.Tables[0].Table + ") AS d) = 0 " +
		"AND (SELECT count(*) FROM " + done.Tables[0].As + ") = (SELECT count(*) FROM " + done.Tables[0].Table + "); END $$"
	if _, err := conn.PgConn().Exec(t.Context(), compare).ReadAll(); err != nil {
		t.Errorf("%q: %v", compare, err)
	}
}

func recoverEncoded(t *testing.T, dir string, b *pgmedic.Backup, want []string) {
	into := fixture.Name(t, server)
	script := filepath.Join(dir, filepath.FromSlash(catalog.Folder(b.Server.Name, b.Database.Name, b.ID)), "recover.sh")
	cmd := exec.CommandContext(t.Context(), "bash", script, "--globals", "--server", server.DSN(""), into)
	cmd.Env = append(os.Environ(), "PATH="+server.BinDir()+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	wantStored(t, want, storedText(t, server, into))
}

// TestEncodingOfRole has a role whose sessions are in Latin 1 back up, on a server
// with a role that Latin 1 can't name.
func TestEncodingOfRole(t *testing.T) {
	own := scratchtest.New(t, scratch.Options{})
	fixture.Exec(t, own.DSN("postgres"), "CREATE ROLE clerk SUPERUSER LOGIN", "ALTER ROLE clerk SET client_encoding = 'LATIN1'", `CREATE ROLE "Ärztin 🏥"`)
	for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{}} {
		c := fixture.NewCatalog(t)
		o := fixture.BackupOptions(t, own.DSN("postgres"), c)
		o.Target, o.Method, o.Maintenance = o.Target.With("user", "clerk"), method, "template1"
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", method.Name(), err)
		}
		r := restore.Source{Catalog: c, Backup: b}
		object, _ := b.Object(pgmedic.RoleGlobals)
		globals, err := r.Open(t.Context(), object)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(globals)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(strings.Fields(string(text)), `"Ärztin`) {
			t.Errorf("%s: the role is not in the globals", method.Name())
		}
	}
}

// TestEncodingOfServer drills and restores a database of a server that is in Latin 1
// throughout, with an owner whose name is in it.
func TestEncodingOfServer(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	own := scratchtest.New(t, scratch.Options{Encoding: "LATIN1"})
	conn := testkit.Connect(t, own.DSN("postgres"))
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
	}
	exec("SET client_encoding = SQL_ASCII")
	exec("CREATE ROLE \"Andr\xe9\"")
	exec("CREATE DATABASE clinic OWNER \"Andr\xe9\"")
	exec("COMMENT ON DATABASE clinic IS 'caf\xe9'")
	conn = testkit.Connect(t, own.DSN("clinic"))
	exec("SET client_encoding = SQL_ASCII")
	exec("CREATE TABLE t (v text)")
	exec("ALTER TABLE t OWNER TO \"Andr\xe9\"")
	exec("INSERT INTO t VALUES ('caf\xe9')")
	want := storedText(t, own, "clinic")
	for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{}} {
		c := fixture.NewCatalog(t)
		o := fixture.BackupOptions(t, own.DSN("clinic"), c)
		o.Method = method
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		d := options(t, c, b)
		d.SkipAmcheck = "it reads no text"
		if receipt, err := run(t.Context(), t, d); err != nil || receipt.Outcome != pgmedic.OutcomeOK {
			t.Errorf("%s: drill: %+v, %v", method.Name(), receipt, err)
		}
		into := "copy_" + string(method.Name())
		if _, err := restore.Into(t.Context(), fixture.RestoreOptions(t, own, c, b, into)); err != nil {
			t.Fatal(err)
		}
		wantStored(t, want, storedText(t, own, into))
	}
}

// TestEncodingRefused names what UTF8 can't name.
func TestEncodingRefused(t *testing.T) {
	for what, sql := range map[string]string{
		`relation "t_\xa9\xa1" of schema public`: "CREATE TABLE \"t_\xa9\xa1\" ()",
		`column "c_\xa9\xa1" of public.t`:        "CREATE TABLE t (\"c_\xa9\xa1\" int)",
	} {
		for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{}} {
			source := encode(t, encoded{encoding: "EUC_JP", statements: []string{sql}})
			o := fixture.BackupOptions(t, server.DSN(source), fixture.NewCatalog(t))
			o.Method = method
			_, err := backup.Take(t.Context(), o)
			if method.Name() == pgmedic.MethodPlain && strings.HasPrefix(what, "column") {
				if err != nil { // no column is named
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s, %s: no error", what, method.Name())
				continue
			}
			fixture.WantKind(t, err, pgmedic.KindUsage, what, "EUC_JP")
		}
	}
}
