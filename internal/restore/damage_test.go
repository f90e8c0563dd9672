package restore_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestDamage does to each object of a backup what a disk, a network or a person
// may do. None of it may restore.
func TestDamage(t *testing.T) {
	for _, compression := range testkit.SomeOf(t, 1, []seal.Compression{seal.CompressionGzip, seal.CompressionZstd, seal.CompressionNone}) {
		t.Run(string(compression), func(t *testing.T) { testDamage(t, compression) })
	}
}

func testDamage(t *testing.T, compression seal.Compression) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE patients AS SELECT n AS id, '"+fixture.PatientData+"' AS name FROM generate_series(1, 3000) AS n")
	c, dir := fixture.NewCatalogIn(t)
	take := func() (*pgmedic.Backup, string) {
		o := fixture.BackupOptions(t, dsn, c)
		o.Seal = seal.Options{Compression: compression}
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return b, filepath.Join(dir, catalog.Folder(b.Server.Name, b.Database.Name, b.ID))
	}
	b, folder := take()
	fixture.Exec(t, dsn, "INSERT INTO patients VALUES (-1, 'x')", "ALTER TABLE patients ADD more int")
	_, otherFolder := take()
	restoreIt := func(t *testing.T) (string, error) {
		into := fixture.Name(t, server)
		entry, err := c.Get(t.Context(), b.ID, catalog.Filter{})
		if err == nil {
			_, err = restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, entry.Backup, into))
		}
		return into, err
	}
	for _, object := range []string{"manifest.json", "manifest.json.sha256", string(pgmedic.RoleDump), string(pgmedic.RoleInventory)} {
		if o, ok := b.Object(pgmedic.ObjectRole(object)); ok {
			object = o.Name
		}
		path := filepath.Join(folder, object)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(otherFolder, object))
		if err != nil {
			t.Fatal(err)
		}
		flipped := func(at int) []byte {
			bad := bytes.Clone(good)
			bad[at] ^= 0x10
			return bad
		}
		damages := map[string][]byte{
			"cut":           good[:len(good)/2],
			"cut by a byte": good[:len(good)-1],
			"empty":         {},
			"longer":        append(bytes.Clone(good), '\n'),
			"first bit":     flipped(0), "middle bit": flipped(len(good) / 2), "last bit": flipped(len(good) - 2),
			"swapped": other, "removed": nil,
		}
		for name, bad := range damages {
			// One method of compression is tried with everything, the others
			// with what they could read past. The inventory is read after a
			// whole load, so it is damaged less often.
			switch {
			case compression != seal.CompressionGzip:
				if !strings.HasPrefix(object, "dump") || !slices.Contains([]string{"cut", "middle bit"}, name) {
					continue
				}
			case strings.HasPrefix(object, "inventory"):
				if !slices.Contains([]string{"cut", "middle bit", "swapped", "removed"}, name) {
					continue
				}
			}
			// What follows the hash's line says nothing.
			if object == "manifest.json.sha256" && slices.Contains([]string{"cut by a byte", "longer", "last bit"}, name) {
				continue
			}
			t.Run(object+" "+name, func(t *testing.T) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				if bad != nil {
					if err := os.WriteFile(path, bad, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				into, err := restoreIt(t)
				want := pgmedic.KindIntegrity
				if object == "manifest.json" && bad == nil {
					want = pgmedic.KindNotFound
				}
				fixture.WantGone(t, server, into, err, want)
				_ = os.Remove(path)
				if err := os.WriteFile(path, good, 0o600); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if _, err := restoreIt(t); err != nil {
		t.Errorf("with everything in its place again: %v", err)
	}
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 3001 {
		t.Errorf("the live database has %d patients", got)
	}
}

// TestBadSQL restores what the server refuses: it is named, and no row is told.
func TestBadSQL(t *testing.T) {
	_, c, original := fixture.Clinic(t, server)
	const table = "CREATE TABLE public.patients (id int, name text CHECK (name <> '" + fixture.PatientData + "'));\n"
	for name, tt := range testkit.Some(t, 2, map[string]struct{ sql, want string }{
		"check violation": {table + "COPY public.patients (id, name) FROM stdin;\n1\t" + fixture.PatientData + "\n\\.\n", `TABLE DATA "public"."patients": 1 row missing: check violation (SQLSTATE 23514)`},
		"not a number":    {table + "COPY public.patients (id, name) FROM stdin;\n" + fixture.PatientData + "\tx\n\\.\n", `TABLE DATA "public"."patients": 1 row missing: invalid text representation (SQLSTATE 22P02)`},
		"relation":        {"SELECT 1;\nSELECT '" + fixture.PatientData + "' FROM x y;\n", "statement in line 2 of the dump: undefined table (SQLSTATE 42P01)"},
		"syntax":          {"SELEKT '" + fixture.PatientData + "';\n", "statement in line 1 of the dump: syntax error (SQLSTATE 42601)"},
		"insert":          {table + "INSERT INTO public.patients VALUES (1, '" + fixture.PatientData + "');\n", "statement in line 2 of the dump: check violation (SQLSTATE 23514)"},
	}) {
		t.Run(name, func(t *testing.T) {
			into := fixture.Name(t, server)
			done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, fixture.Crafted(t, c, original, tt.sql, nil), into))
			if err != nil {
				t.Fatal(err)
			}
			missing := restore.Missing(done.Checks)
			if !done.Incomplete || len(done.Refused) != 1 || missing[0] != tt.want {
				t.Errorf("%q, want %q", missing, tt.want)
			}
			if strings.Contains(strings.Join(missing, "\n")+done.Degraded().Error(), "Patient") {
				t.Errorf("the message holds a row: %q", missing)
			}
		})
	}
}

// TestCompare restores dumps that load without an error and are not what was
// backed up.
func TestCompare(t *testing.T) {
	_, c, original := fixture.Clinic(t, server)
	object, _ := original.Object(pgmedic.RoleDump)
	r, err := (restore.Source{Catalog: c, Backup: original}).Open(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	good, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	for name, tt := range testkit.Some(t, 4, map[string]struct {
		sql    string
		change func(*pgmedic.Backup)
		words  []string
	}{
		"the same":         {string(good), nil, nil},
		"a row less":       {strings.Replace(string(good), "30\t"+fixture.PatientData+"\n", "", 1), nil, []string{"29 rows", "the backup 30"}},
		"a row more":       {string(good) + "INSERT INTO public.patients VALUES (31, 'x');\n", nil, []string{"31 rows"}},
		"a view less":      {string(good) + "DROP VIEW public.everyone;\n", nil, []string{"everyone", "missing"}},
		"a key less":       {string(good) + "ALTER TABLE public.patients DROP CONSTRAINT patients_pkey;\n", nil, []string{"patients_pkey"}},
		"a table more":     {string(good) + "CREATE TABLE public.extra ();\n", nil, []string{"extra", "unexpected"}},
		"another default":  {string(good) + "ALTER TABLE public.patients ALTER id SET DEFAULT 1;\n", nil, []string{"changed"}},
		"another owner":    {string(good) + "ALTER TABLE public.patients OWNER TO pg_database_owner;\n", nil, []string{"changed"}},
		"the row count":    {"", func(b *pgmedic.Backup) { b.Tables[0].Rows++ }, []string{"the backup 31"}},
		"an empty dump":    {"SELECT 1;\n", nil, []string{"is missing"}},
		"stops before end": {"\\q\n" + string(good), nil, []string{"psql command"}},
		"runs a program":   {string(good) + "\\! touch /tmp/never\n", nil, []string{"psql command"}},
	}) {
		t.Run(name, func(t *testing.T) {
			into := fixture.Name(t, server)
			o := fixture.RestoreOptions(t, server, c, fixture.Crafted(t, c, original, tt.sql, tt.change), into)
			done, err := restore.Into(t.Context(), o)
			if slices.Contains(tt.words, "psql command") {
				fixture.WantGone(t, server, into, err, pgmedic.KindIntegrity, tt.words...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			missing := strings.Join(restore.Missing(done.Checks), "\n")
			if done.Incomplete != (tt.words != nil) || !fixture.Exists(t, server, into) {
				t.Errorf("missing: %s", missing)
			}
			for _, word := range tt.words {
				if !strings.Contains(missing, word) {
					t.Errorf("no %q: %s", word, missing)
				}
			}
		})
	}
}
