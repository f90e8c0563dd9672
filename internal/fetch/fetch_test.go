package fetch_test

import (
	"context"
	"errors"
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
	"github.com/pgmedic/pgmedic/internal/fetch"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/test/fixture"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) { server = s }))
}

// taken makes a database and a backup of it by each method.
func taken(t *testing.T) (dsn string, c *catalog.Catalog, dir string, all map[string]*pgmedic.Backup) {
	t.Helper()
	dsn = scratchtest.Database(t, server)
	fixture.Exec(t, dsn,
		"CREATE TABLE patients (id int PRIMARY KEY, name text)", "INSERT INTO patients SELECT n, E'a\\n\\\\.\\tb' FROM generate_series(1, 2000) AS n",
		`CREATE TABLE "Vis'its \ :x" (patient int REFERENCES patients, j jsonb)`, `INSERT INTO "Vis'its \ :x" SELECT n, '{}' FROM generate_series(1, 100) AS n`,
		`CREATE TABLE "a FROM STDIN b" ("c FROM STDIN d" int PRIMARY KEY)`, `INSERT INTO "a FROM STDIN b" VALUES (1), (2)`,
		"CREATE SEQUENCE numbers", "SELECT setval('numbers', 77)", "SELECT lo_from_bytea(4711, 'an image')")
	c, dir = fixture.NewCatalogIn(t)
	all = map[string]*pgmedic.Backup{}
	for name, method := range map[string]backup.Method{"plain": backup.Plain{}, "parallel": backup.Parallel{Jobs: 2}} {
		o := fixture.BackupOptions(t, dsn, c)
		o.Method = method
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = b
	}
	return dsn, c, dir, all
}

func options(t *testing.T, c *catalog.Catalog, b *pgmedic.Backup) fetch.Options {
	t.Helper()
	return fetch.Options{Source: restore.Source{Catalog: c, Backup: b}, Dir: filepath.Join(t.TempDir(), "files"), Now: time.Now}
}

// program runs a client program in the folder.
func program(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// TestFetchedFilesRestore loads what was fetched as the README says.
func TestFetchedFilesRestore(t *testing.T) {
	dsn, c, _, all := taken(t)
	source := fixture.Place{Server: server, Database: fixture.Target(t, dsn).Database()}
	for name, b := range all {
		t.Run(name, func(t *testing.T) {
			o := options(t, c, b)
			done, err := fetch.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			into := fixture.Name(t, server)
			fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+into+" TEMPLATE template0")
			psql := []string{"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.DSN(into)}
			if name == "plain" {
				program(t, o.Dir, "psql", append(psql, "-f", "dump.sql")...)
			} else {
				if done.Rows != 2102 {
					t.Errorf("%d rows", done.Rows)
				}
				program(t, o.Dir, "pg_restore", "--exit-on-error", "--section=pre-data", "-d", server.DSN(into), "schema.dump")
				program(t, o.Dir, "psql", append(psql, "-f", "load.sql")...)
				rest := "schema.dump"
				if _, err := os.Stat(filepath.Join(o.Dir, "rest.dump")); err == nil {
					rest = "rest.dump"
				}
				program(t, o.Dir, "pg_restore", "--exit-on-error", "--section=data", "-d", server.DSN(into), rest)
				program(t, o.Dir, "pg_restore", "--exit-on-error", "--section=post-data", "-d", server.DSN(into), "schema.dump")
			}
			fixture.WantEqual(t, source, fixture.Place{Server: server, Database: into})
			for _, file := range []string{".", "README", "globals.sql"} {
				info, err := os.Stat(filepath.Join(o.Dir, file))
				if err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s: %v, %v", file, info, err)
				}
			}
		})
	}
}

func TestFetchRefused(t *testing.T) {
	_, c, store, all := taken(t)
	there := options(t, c, all["plain"])
	if err := os.Mkdir(there.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := fetch.Run(t.Context(), there)
	fixture.WantKind(t, err, pgmedic.KindConflict, "exists already")

	left := options(t, c, all["plain"])
	if err := os.Mkdir(left.Dir+".part", 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = fetch.Run(t.Context(), left)
	fixture.WantKind(t, err, pgmedic.KindConflict, "an interrupted run left")

	full := options(t, c, all["parallel"])
	full.FreeBytes = func(context.Context, string) (int64, error) { return 10, nil }
	_, err = fetch.Run(t.Context(), full)
	fixture.WantKind(t, err, pgmedic.KindFailed, "has 10 bytes free, and what is fetched takes ")

	odd := options(t, c, all["parallel"])
	odd.Only = "rows"
	_, err = fetch.Run(t.Context(), odd)
	fixture.WantKind(t, err, pgmedic.KindUsage, "unknown part")
	odd = options(t, c, all["plain"])
	odd.Only = fetch.PartSchema
	_, err = fetch.Run(t.Context(), odd)
	fixture.WantKind(t, err, pgmedic.KindUsage, "is a plain one")

	// Damaged bytes leave no folder, sealed or not.
	var damaged string
	err = filepath.WalkDir(store, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, all["parallel"].ID) && strings.HasSuffix(path, "pack-0001") {
			damaged = path
		}
		return err
	})
	if err != nil || damaged == "" {
		t.Fatal("no pack", err)
	}
	content, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := errors.Join(os.Chmod(damaged, 0o600), os.WriteFile(damaged, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, sealed := range []bool{false, true} {
		o := options(t, c, all["parallel"])
		o.Sealed = sealed
		_, err = fetch.Run(t.Context(), o)
		fixture.WantKind(t, err, pgmedic.KindIntegrity, "corrupt")
		for _, dir := range []string{o.Dir, o.Dir + ".part"} {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is there", dir)
			}
		}
	}
}

func TestFetchParts(t *testing.T) {
	_, c, _, all := taken(t)
	for only, want := range map[fetch.Part]string{
		fetch.PartGlobals: "README globals.sql", fetch.PartSchema: "README schema.dump", fetch.PartData: "README data load.sql rest.dump",
	} {
		o := options(t, c, all["parallel"])
		o.Only = only
		if _, err := fetch.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want && got != strings.TrimSuffix(want, " rest.dump") {
			t.Errorf("%s: %s", only, got)
		}
	}
}

// TestFetchSealed: all that belongs to the backup comes along, its signatures, too, and
// what only looks like one stays.
func TestFetchSealed(t *testing.T) {
	_, c, store, all := taken(t)
	e, err := c.Get(t.Context(), all["parallel"].ID, catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	b := e.Backup
	run := func() (*fetch.Fetched, error) {
		o := options(t, c, b)
		o.Sealed = true
		return fetch.Run(t.Context(), o)
	}
	done, err := run()
	if err != nil {
		t.Fatal(err)
	}
	if want := len(b.Objects) + 3; done.Files != want { // the manifest with its hash, and README
		t.Errorf("%d files, want %d", done.Files, want)
	}
	key, err := signature.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Manifest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, content string) {
		t.Helper()
		if _, err := c.Store().Put(t.Context(), catalog.Key(b, name), strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	put("signatures/"+key.ID()+".minisig", "in the way of the signature")
	put("signatures/0123456789ABCDEF.minisig", strings.Repeat("x", 1<<20))
	put("signatures/notes.txt", "somebody else's")
	if added, err := m.Add(t.Context(), key); err != nil || !added {
		t.Fatal(added, err)
	}
	if done, err = run(); err != nil {
		t.Fatal(err)
	}
	if want := len(b.Objects) + 5; done.Files != want {
		t.Errorf("%d files with signatures, want %d", done.Files, want)
	}
	manifest, err := os.ReadFile(filepath.Join(done.Dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(done.Dir, "signatures", key.ID()+"-2.minisig"))
	if err != nil || !(signature.Signers{key.Public()}).Verifies(manifest, text) {
		t.Errorf("the signature does not fit: %v", err)
	}

	// Another manifest in its place, with a hash that fits, is not passed on.
	where := filepath.Join(store, filepath.FromSlash(catalog.Key(b, "manifest.json")))
	if err := errors.Join(os.Chmod(where, 0o600), os.WriteFile(where, append(manifest, ' '), 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = run()
	fixture.WantKind(t, err, pgmedic.KindIntegrity, "changed while it was used")
}

// TestFetchTables: the rows of the named tables come alone, and load into tables that are
// there; what has no file of its own is refused.
func TestFetchTables(t *testing.T) {
	dsn, c, _, all := taken(t)
	o := options(t, c, all["parallel"])
	o.Tables = []string{"pat*", `"a FROM STDIN b"`}
	done, err := fetch.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.Rows != 2002 || done.Files != 4 {
		t.Errorf("%+v", done)
	}
	for _, name := range []string{"schema.dump", "globals.sql", "rest.dump"} {
		if _, err := os.Stat(filepath.Join(o.Dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	load, err := os.ReadFile(filepath.Join(o.Dir, "load.sql"))
	if err != nil || strings.Contains(string(load), "schema.dump") || !strings.HasPrefix(string(load), "-- Loads the rows of data/ into tables that exist already: ") {
		t.Errorf("load.sql speaks of files that are not there: %s, %v", load, err)
	}
	before := fixture.Query[string](t, dsn, "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients AS p")
	fixture.Exec(t, dsn, "TRUNCATE patients CASCADE", `TRUNCATE "a FROM STDIN b"`)
	program(t, o.Dir, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", "load.sql")
	if after := fixture.Query[string](t, dsn, "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM patients AS p"); after[0] != before[0] {
		t.Error("the rows are others")
	}
	for _, test := range []struct {
		method string
		tables []string
		only   fetch.Part
		sealed bool
		kind   pgmedic.Kind
		words  string
	}{
		{"parallel", []string{"patients", "nobody"}, "", false, pgmedic.KindNotFound, "has no table nobody"},
		{"parallel", []string{"a.b.c.d"}, "", false, pgmedic.KindUsage, "--table"},
		{"parallel", []string{"patients"}, fetch.PartSchema, false, pgmedic.KindUsage, "does not"},
		{"parallel", []string{"patients"}, "", true, pgmedic.KindUsage, "--sealed"},
		{"plain", []string{"patients"}, "", false, pgmedic.KindUsage, "is a plain one"},
	} {
		o := options(t, c, all[test.method])
		o.Tables, o.Only, o.Sealed = test.tables, test.only, test.sealed
		_, err := fetch.Run(t.Context(), o)
		fixture.WantKind(t, err, test.kind, test.words)
		if _, err := os.Stat(o.Dir); err == nil {
			t.Errorf("%v: there is a folder", test)
		}
	}
}

// TestFetchTableWithoutFile: a table that no file can be written for is refused, also where
// the backup counted no rows of it: of an unlogged table on a standby none could be read.
func TestFetchTableWithoutFile(t *testing.T) {
	_, c, _, all := taken(t)
	for name, test := range map[string]struct {
		rows    int64
		standby bool
		kind    pgmedic.Kind
		words   string
	}{
		"rows in pg_dump's part": {7, false, pgmedic.KindUsage, "in pg_dump's part"},
		"no rows counted":        {0, false, pgmedic.KindUsage, "in pg_dump's part"},
		"counted, on a standby":  {7, true, pgmedic.KindUsage, "in pg_dump's part"},
		"unknown, on a standby":  {0, true, pgmedic.KindNotFound, "only on the primary"},
	} {
		t.Run(name, func(t *testing.T) {
			b := *all["parallel"]
			b.Server.Standby = test.standby
			b.Tables = append(slices.Clone(b.Tables), pgmedic.Table{Schema: "public", Name: "sessions", Rows: test.rows})
			o := options(t, c, &b)
			o.Tables = []string{"patients", "sessions"}
			_, err := fetch.Run(t.Context(), o)
			fixture.WantKind(t, err, test.kind, test.words)
			if _, err := os.Stat(o.Dir); err == nil {
				t.Error("there is a folder")
			}
		})
	}
}
