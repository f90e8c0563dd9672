package rescue_test

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func rescueOptions(t *testing.T, dsn string, c *catalog.Catalog, b *pgmedic.Backup, tables ...string) rescue.Options {
	t.Helper()
	o := fixture.RestoreOptions(t, server, c, b, "")
	o.Target, o.Jobs = fixture.Target(t, dsn), 2
	return rescue.Options{Options: o, Tables: tables}
}

func mustRescue(t *testing.T, o rescue.Options) *rescue.Rescued {
	t.Helper()
	done, err := rescue.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// rescueSchemas are those that rescues made.
func rescueSchemas(t *testing.T, dsn string) []string {
	t.Helper()
	return fixture.Query[string](t, dsn, "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'pgmedic%'")
}

// reads is a store that writes down what is read.
type reads struct {
	store.Store
	mu    sync.Mutex
	bytes map[string]int64 // by the object's name and where the reading began
}

func (r *reads) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	src, err := r.Store.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return fixture.Closing{Closer: src, Reader: counting(func(p []byte) (int, error) {
		n, err := src.Read(p)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes[fmt.Sprintf("%s@%d", path.Base(key), offset)] += int64(n)
		return n, err
	})}, nil
}

type counting func(p []byte) (int, error)

func (c counting) Read(p []byte) (int, error) { return c(p) }

// TestRescueReadsOnlyItsChunks brings rows back by the SQL that is printed, and
// reads nothing from the store but the chunk that the tables which were named
// share, once.
func TestRescueReadsOnlyItsChunks(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{Jobs: 2})
	before := contents(t, dsn)
	fixture.Exec(t, dsn, "DELETE FROM notes WHERE patient < 3", "DELETE FROM patients WHERE id > 2000",
		"INSERT INTO patients (name) OVERRIDING USER VALUE VALUES ('new one')", "UPDATE patients SET born = '1999-09-09' WHERE id = 8")
	counted := &reads{Store: c.Store(), bytes: map[string]int64{}}
	o := rescueOptions(t, dsn, catalog.New(counted), b, "public.patients", "NOTE?")
	done := mustRescue(t, o)

	want, total := map[string]int64{}, int64(0)
	for _, chunk := range b.Chunks {
		if slices.ContainsFunc(chunk.Parts, func(p pgmedic.Part) bool { return b.Tables[p.Table].Name != "untouched" }) {
			want[fmt.Sprintf("%s@%d", chunk.Pack, chunk.Offset)] = chunk.StoredBytes
			total += chunk.StoredBytes
		}
	}
	if len(want) != 1 || fmt.Sprint(counted.bytes) != fmt.Sprint(want) {
		t.Errorf("read %v from the store, want %v", counted.bytes, want)
	}
	if done.FetchBytes != total || done.StoredBytes != b.StoredBytes() || done.Database != o.Target.Database() {
		t.Errorf("it says %+v, want %d bytes", done, total)
	}
	if len(done.Tables) != 2 || done.Tables[0].Table != `"public"."notes"` || done.Tables[1].Rows != 3000 {
		t.Fatalf("tables: %+v", done.Tables)
	}
	notes, patients := done.Tables[0].SQL, done.Tables[1].SQL
	for name, tt := range map[string]struct {
		sql  string
		want int
	}{
		"missing notes": {notes.Missing, 29}, "added notes": {notes.Added, 0}, "missing patients": {patients.Missing, 1000},
		"added patients": {patients.Added, 1}, "changed patients": {patients.Changed, 1},
	} {
		if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM ("+strings.TrimSuffix(tt.sql, ";")+") AS q")[0]; got != tt.want {
			t.Errorf("%s: %d rows, want %d\n%s", name, got, tt.want, tt.sql)
		}
	}
	// The people first, as the foreign key wants it.
	fixture.Psql(t, server, o.Target.Database(), patients.PutBack+"\n"+notes.PutBack+"\n"+patients.PutBack+"\n"+notes.PutBack)
	fixture.Exec(t, dsn, "DELETE FROM patients WHERE name = 'new one'", "UPDATE patients SET born = '1970-01-01' WHERE id = 8", done.CleanUp)
	fixture.WantSame(t, "the database", before, contents(t, dsn))
	if left := rescueSchemas(t, dsn); len(left) > 0 {
		t.Errorf("after the clean-up there is %q", left)
	}
}

func contents(t *testing.T, dsn string) []string {
	t.Helper()
	return slices.DeleteFunc(fixture.Contents(t, fixture.Place{Server: server, Database: fixture.Target(t, dsn).Database()}),
		func(line string) bool { return strings.HasPrefix(line, "sequence ") })
}

// TestRescuePlain takes tables out of the one stream of a plain backup.
func TestRescuePlain(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Plain{}, "CREATE SCHEMA audit", "CREATE TABLE audit.patients (seen timestamptz, by name)",
		"INSERT INTO audit.patients VALUES ('2020-02-02', 'x\\y')", "CREATE TABLE nobody (i int)")
	before := contents(t, dsn)
	fixture.Exec(t, dsn, "DELETE FROM notes WHERE patient < 3", "DELETE FROM patients WHERE id > 2000", "DELETE FROM audit.patients")
	done := mustRescue(t, rescueOptions(t, dsn, c, b, "patients", "n*"))
	var names []string
	for _, table := range done.Tables {
		names = append(names, table.As)
		if len(table.AsText) > 0 {
			t.Errorf("%s: as text: %q", table.Table, table.AsText)
		}
	}
	s := sqltext.QuoteIdent(done.Schema)
	if want := []string{s + `."audit.patients"`, s + `."nobody"`, s + `."notes"`, s + `."public.patients"`}; !slices.Equal(names, want) {
		t.Errorf("made %q, want %q", names, want)
	}
	fixture.Exec(t, dsn, done.Tables[0].SQL.PutBack, done.Tables[3].SQL.PutBack, done.Tables[2].SQL.PutBack, done.CleanUp)
	fixture.WantSame(t, "the database", before, contents(t, dsn))
}

// TestRescueDroppedTable brings a table back that is gone, with a type that is
// gone, too.
func TestRescueDroppedTable(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn, c, b := fixture.Ward(t, server, method, "CREATE TYPE mood AS ENUM ('well', 'ill')", "CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE < 101)",
				"CREATE TABLE moods (id int, m mood, p percent)", "INSERT INTO moods VALUES (1, 'ill', 7), (2, NULL, 8)")
			fixture.Exec(t, dsn, "DROP TABLE moods", "DROP TYPE mood")
			done := mustRescue(t, rescueOptions(t, dsn, c, b, "moods"))
			table := done.Tables[0]
			if table.Live || table.SQL != nil {
				t.Errorf("the table is said to live: %+v", table)
			}
			want := []string{"m"}
			if name == "plain" {
				want = []string{"id", "m", "p"}
			}
			if !slices.Equal(table.AsText, want) {
				t.Errorf("as text: %q, want %q", table.AsText, want)
			}
			if got := fixture.Query[string](t, dsn, "SELECT id::text || m || p FROM "+table.As+" WHERE m IS NOT NULL"); !slices.Equal(got, []string{"1ill7.00"}) {
				t.Errorf("rows %q", got)
			}
		})
	}
}

// TestRescueAgain adds to what an earlier rescue made, refuses what is there,
// and sweeps what was left half loaded.
func TestRescueAgain(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	first := mustRescue(t, rescueOptions(t, dsn, c, b, "notes"))
	second := mustRescue(t, rescueOptions(t, dsn, c, b, "patients"))
	if second.Schema != first.Schema {
		t.Errorf("schemas %s and %s", first.Schema, second.Schema)
	}
	_, err := rescue.Run(t.Context(), rescueOptions(t, dsn, c, b, "untouched", "notes"))
	fixture.WantKind(t, err, pgmedic.KindConflict, "notes", "is there already")
	have := func() []string {
		return fixture.Query[string](t, dsn, "SELECT relname::text FROM pg_class WHERE relnamespace = $1::text::regnamespace AND relkind = 'r' ORDER BY 1", first.Schema)
	}
	if got := have(); !slices.Equal(got, []string{"notes", "patients"}) {
		t.Errorf("the schema has %q", got)
	}
	// As a kill would leave it.
	fixture.Exec(t, dsn, fmt.Sprintf(`COMMENT ON TABLE %s IS '{"pgmedic":"loading","of":"x","by":"rescue","since":"2026-01-01T00:00:00Z"}'`, first.Tables[0].As),
		"DELETE FROM "+first.Tables[0].As)
	again := mustRescue(t, rescueOptions(t, dsn, c, b, "notes"))
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM "+again.Tables[0].As)[0]; got != 100 {
		t.Errorf("%d notes", got)
	}
	// A schema of somebody else's.
	fixture.Exec(t, dsn, again.CleanUp, "CREATE SCHEMA "+again.Schema)
	_, err = rescue.Run(t.Context(), rescueOptions(t, dsn, c, b, "notes"))
	fixture.WantKind(t, err, pgmedic.KindConflict, "was not made by a rescue")
	if got := have(); len(got) > 0 {
		t.Errorf("the schema has %q", got)
	}
}

// TestRescueInterrupted interrupts and breaks a rescue at each step: nothing of
// it is left.
func TestRescueInterrupted(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		dsn, c, b := fixture.Ward(t, server, method)
		before := contents(t, dsn)
		for _, step := range []string{"tables", "rows", "middle", "check"} {
			t.Run(name+" "+step, func(t *testing.T) {
				check := fixture.NothingLeft(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				o := rescueOptions(t, dsn, c, b, "*")
				o.Progress = func(e pgmedic.Event) {
					if e.Step == step && !e.Finished {
						cancel()
					}
				}
				o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(_ string, r io.ReadCloser) (io.ReadCloser, error) {
					if step == "middle" {
						return fixture.Closing{Reader: fixture.At(r, 100, cancel), Closer: r}, nil
					}
					return r, nil
				}})
				_, err := rescue.Run(ctx, o)
				fixture.WantKind(t, err, pgmedic.KindInterrupted)
				if left := rescueSchemas(t, dsn); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
				check()
			})
		}
		fixture.WantSame(t, "the database", before, contents(t, dsn))
	}
}

// TestRescueDamaged reads damaged and cut objects: none of it stays, and no
// message holds a row.
func TestRescueDamaged(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		dsn, c, b := fixture.Ward(t, server, method)
		for damage, do := range map[string]func(r io.Reader) io.Reader{
			"cut":     func(r io.Reader) io.Reader { return io.LimitReader(r, 300) },
			"flipped": func(r io.Reader) io.Reader { return flipAt(r, 400) },
		} {
			t.Run(name+" "+damage, func(t *testing.T) {
				o := rescueOptions(t, dsn, c, b, "patients")
				o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(_ string, r io.ReadCloser) (io.ReadCloser, error) {
					return fixture.Closing{Reader: do(r), Closer: r}, nil
				}})
				_, err := rescue.Run(t.Context(), o)
				fixture.WantKind(t, err, pgmedic.KindIntegrity)
				if strings.Contains(err.Error(), "Patient") {
					t.Errorf("the message holds a row: %v", err)
				}
				if left := rescueSchemas(t, dsn); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}
}

func flipAt(r io.Reader, at int64) io.Reader {
	return counting(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if at >= 0 && at < int64(n) {
			p[at] ^= 0x10
		}
		at -= int64(n)
		return n, err
	})
}

// TestRescueLocksNothing changes a living table while its rescue waits in the
// middle.
func TestRescueLocksNothing(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn, c, b := fixture.Ward(t, server, method)
			o := rescueOptions(t, dsn, c, b, "patients", "notes")
			var once sync.Once
			o.Catalog = catalog.New(&fixture.Faulty{Store: c.Store(), OnOpen: func(_ string, r io.ReadCloser) (io.ReadCloser, error) {
				return fixture.Closing{Closer: r, Reader: fixture.At(r, 100, func() {
					once.Do(func() {
						fixture.Exec(t, dsn, "SET lock_timeout = '30s'; ALTER TABLE patients ADD checked boolean; ALTER TABLE notes DROP extra; TRUNCATE patients CASCADE")
					})
				})}, nil
			}})
			done := mustRescue(t, o)
			if done.Tables[1].Rows != 3000 || len(done.Tables[0].Notes) != 1 || len(done.Tables[1].Notes) != 1 {
				t.Errorf("tables %+v", done.Tables)
			}
			fixture.Exec(t, dsn, done.Tables[1].SQL.PutBack, done.Tables[0].SQL.PutBack)
			if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 3000 {
				t.Errorf("%d patients", got)
			}
		})
	}
}

// TestRescueAsOwner works as a role that owns the database and is no superuser,
// and shows the copies to nobody else.
func TestRescueAsOwner(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{}, "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC")
	name := fixture.Target(t, dsn).Database()
	fixture.Exec(t, dsn, `DROP ROLE IF EXISTS "ward Owner"`, `CREATE ROLE "ward Owner" LOGIN`, "ALTER DATABASE "+name+` OWNER TO "ward Owner"`,
		`ALTER DEFAULT PRIVILEGES FOR ROLE "ward Owner" GRANT USAGE ON SCHEMAS TO PUBLIC`,
		`GRANT SELECT ON patients TO "ward Owner"`, "CREATE PUBLICATION all_of_it FOR ALL TABLES")
	t.Cleanup(func() {
		fixture.Exec(t, dsn, `DROP OWNED BY "ward Owner" CASCADE`, "ALTER DATABASE "+name+" OWNER TO CURRENT_USER", `DROP ROLE "ward Owner"`)
	})
	o := rescueOptions(t, dsn, c, b, "patients")
	o.Target = o.Target.With("user", "ward Owner")
	done := mustRescue(t, o)
	if !done.Unlogged {
		t.Error("a publication of all tables would send the copies out")
	}
	got := fixture.Query[bool](t, dsn, `SELECT has_schema_privilege('pg_monitor', $1, 'USAGE') OR EXISTS (SELECT FROM pg_publication_tables WHERE schemaname = $1)`, done.Schema)
	if got[0] {
		t.Error("others may look into the schema, or it is published")
	}
	fixture.Exec(t, dsn, done.CleanUp, "REVOKE CREATE ON DATABASE "+name+` FROM "ward Owner"`)
	_, err := rescue.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindUnreachable, "make schema")
}

// TestRescueOwnsItsSchema makes the schema the role's that rescues.
func TestRescueOwnsItsSchema(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	done := mustRescue(t, rescueOptions(t, dsn, c, b, "notes"))
	if got := fixture.Query[string](t, dsn, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1", done.Schema); !slices.Equal(got, fixture.Query[string](t, dsn, "SELECT current_user::text")) {
		t.Errorf("the schema is %q's", got)
	}
}

// TestRescueRefuses names what can't be.
func TestRescueRefuses(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	for name, tt := range map[string]struct {
		change func(o *rescue.Options)
		kind   pgmedic.Kind
		words  string
	}{
		"no such table":   {func(o *rescue.Options) { o.Tables = []string{"patients", "nurses"} }, pgmedic.KindNotFound, "no table nurses"},
		"other schema":    {func(o *rescue.Options) { o.Tables = []string{"audit.*"} }, pgmedic.KindNotFound, "audit.*"},
		"folded":          {func(o *rescue.Options) { o.Tables = []string{`"PATIENTS"`} }, pgmedic.KindNotFound, `"PATIENTS"`},
		"open quote":      {func(o *rescue.Options) { o.Tables = []string{`"patients`} }, pgmedic.KindUsage, "no closing quote"},
		"empty part":      {func(o *rescue.Options) { o.Tables = []string{`public.`} }, pgmedic.KindUsage, "names nothing"},
		"three parts":     {func(o *rescue.Options) { o.Tables = []string{`a.b.c`} }, pgmedic.KindUsage, "too many dots"},
		"other database":  {func(o *rescue.Options) { o.Target = o.Target.WithDatabase("postgres") }, pgmedic.KindUsage, "is of database"},
		"no key":          {func(o *rescue.Options) { changed := *b; changed.Seal.Encryption = "age"; o.Backup = &changed }, pgmedic.KindUsage, ""},
		"forged type":     {func(o *rescue.Options) { o.Backup = withType(b, "int); DROP TABLE public.patients; --") }, pgmedic.KindIntegrity, ""},
		"forged modifier": {func(o *rescue.Options) { o.Backup = withType(b, "varchar((SELECT 1))") }, pgmedic.KindIntegrity, ""},
		"forged comment":  {func(o *rescue.Options) { o.Backup = withType(b, "int -- ") }, pgmedic.KindIntegrity, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := rescueOptions(t, dsn, c, b, "patients")
			tt.change(&o)
			_, err := rescue.Run(t.Context(), o)
			if name == "no key" || name == "forged comment" {
				if err == nil {
					t.Error("no error")
				}
			} else {
				fixture.WantKind(t, err, tt.kind, tt.words)
			}
			if left := rescueSchemas(t, dsn); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM patients")[0]; got != 3000 {
		t.Errorf("%d patients", got)
	}
}

// withType is the backup with another type for a column.
func withType(b *pgmedic.Backup, typ string) *pgmedic.Backup {
	changed := *b
	changed.Tables = slices.Clone(b.Tables)
	for i := range changed.Tables {
		changed.Tables[i].Columns = slices.Clone(b.Tables[i].Columns)
		for j := range changed.Tables[i].Columns {
			changed.Tables[i].Columns[j].Type = typ
		}
	}
	return &changed
}

// TestRescueDryRun makes nothing, and says what would be read.
func TestRescueDryRun(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	counted := &reads{Store: c.Store(), bytes: map[string]int64{}}
	o := rescueOptions(t, dsn, catalog.New(counted), b, "notes")
	o.DryRun = true
	done := mustRescue(t, o)
	if !done.DryRun || done.FetchBytes == 0 || done.Tables[0].Rows != 100 || len(counted.bytes) > 0 {
		t.Errorf("%+v; read %v", done, counted.bytes)
	}
	if left := rescueSchemas(t, dsn); len(left) > 0 {
		t.Errorf("made: %q", left)
	}
}
