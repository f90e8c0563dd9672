package restore_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// odd is what a dump can't bring back in one pass, or not at all, and what comes of
// it.
type odd struct {
	statements []string
	// missing are the lines that name what does not come back; empty means that all
	// does.
	missing []string
}

func oddities() map[string]odd {
	return map[string]odd{
		"an index whose function calls another by its bare name": {statements: []string{
			"CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
			"CREATE FUNCTION folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
			"CREATE TABLE documents (id int PRIMARY KEY, title text)", "INSERT INTO documents SELECT n, 'Title ' || n FROM generate_series(1, 50) AS n",
			"CREATE INDEX documents_folded ON documents (folded(title))", "COMMENT ON INDEX documents_folded IS 'comes after it'",
		}},
		"a view and what hangs on it, whose function is in another schema": {statements: []string{
			"CREATE SCHEMA extensions", "CREATE FUNCTION extensions.fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
			"CREATE FUNCTION folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
			"DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET search_path = \"$user\", public, extensions'; END $$",
			"SET search_path = public, extensions", "CREATE TABLE documents (id int, title text, folded text GENERATED ALWAYS AS (folded(title)) STORED)",
			"INSERT INTO documents (id, title) SELECT n, 'Title ' || n FROM generate_series(1, 50) AS n",
			"CREATE MATERIALIZED VIEW seen AS SELECT id, folded(title) AS f FROM documents", "CREATE UNIQUE INDEX seen_id ON seen (id)",
			"CREATE INDEX documents_folded ON documents (folded(title))",
		}},
		"a materialized view that reads a query's text": {statements: []string{
			"CREATE TABLE documents (id int PRIMARY KEY, title text)", "INSERT INTO documents SELECT n, 'title ' || n FROM generate_series(1, 50) AS n",
			"CREATE MATERIALIZED VIEW words AS SELECT word, ndoc FROM ts_stat('SELECT to_tsvector(''simple'', title) FROM documents')",
			"CREATE INDEX words_word ON words (word)",
		}},
		"a check that reads its own table": {statements: []string{
			"CREATE TABLE chain (id int, before int)",
			"INSERT INTO chain VALUES (1, NULL), (2, 1), (3, 2)",
			"CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.chain WHERE id = $1)'",
			"ALTER TABLE chain ADD CHECK (known(before))",
			"CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)",
		}, missing: []string{
			"TABLE DATA public.chain: 3 rows missing: check violation (SQLSTATE 23514)", `row counts: "public"."chain" has 0 rows, the backup 3`,
		}},
		"checks that read tables which others keep empty": {statements: []string{
			"CREATE TABLE c (code text PRIMARY KEY)",
			"CREATE FUNCTION known_c(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.c WHERE code = $1)'",
			"CREATE TABLE b (code text PRIMARY KEY, c text CHECK (known_c(c)))",
			"CREATE FUNCTION known_b(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.b WHERE code = $1)'",
			"CREATE TABLE a (code text PRIMARY KEY, b text CHECK (known_b(b)))",
			"CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.audit VALUES (1); RETURN new; END $$",
			"CREATE TABLE audit (n int)", "INSERT INTO c VALUES ('c')", "INSERT INTO b VALUES ('b', 'c')", "INSERT INTO a VALUES ('a', 'b')",
			"CREATE TRIGGER fires AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION fires()", "ALTER TABLE a ENABLE ALWAYS TRIGGER fires",
			"CREATE TABLE z (a text REFERENCES a)", "INSERT INTO z VALUES ('a')",
		}},
		"rows that pg_dump keeps, and checks that read them": {statements: append(hashed("b", "a", "c"),
			"CREATE FUNCTION known_b(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.b WHERE n = $1)'",
			"CREATE FUNCTION known_c(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 = 1 OR EXISTS (SELECT FROM public.c WHERE n = $1 - 1)'",
			"INSERT INTO b SELECT 'sad', n FROM generate_series(1, 9) AS n", "INSERT INTO a SELECT 'ok', n FROM generate_series(1, 9) AS n",
			"INSERT INTO c VALUES ('ok', 1), ('ok', 2)",
			"ALTER TABLE a ADD CHECK (known_b(n))", "ALTER TABLE c ADD CHECK (known_c(n))", "CREATE TABLE other (id int PRIMARY KEY)",
		), missing: []string{"TABLE DATA public.c", ": 2 rows missing: check violation (SQLSTATE 23514)", `row counts: "public"."c" has 0 rows, the backup 2`}},
		"a function that is refused, and what depends on it": {statements: []string{
			"CREATE FUNCTION gone() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
			"CREATE TABLE kept (id int PRIMARY KEY)", "INSERT INTO kept VALUES (1), (2)", "CREATE VIEW seen AS SELECT gone() AS n", "COMMENT ON VIEW seen IS 'gone, too'",
			"CREATE TABLE with_default (n int DEFAULT gone(), m int)", "INSERT INTO with_default VALUES (1, 2)", "CREATE INDEX kept_more ON kept ((id + 1))",
			"UPDATE pg_catalog.pg_proc SET probin = '/nonexistent/lib', prosrc = 'gone', prosqlbody = NULL, prolang = (SELECT oid FROM pg_catalog.pg_language WHERE lanname = 'c') WHERE proname = 'gone'",
		}, missing: []string{
			"FUNCTION public.gone(): undefined file (SQLSTATE 58P01)", "VIEW public.seen: undefined function (SQLSTATE 42883)", "COMMENT VIEW public.seen: undefined table (SQLSTATE 42P01)",
			"TABLE public.with_default: undefined function (SQLSTATE 42883)", "TABLE DATA public.with_default: 1 row missing: undefined table (SQLSTATE 42P01)",
		}},
	}
}

// hashed makes tables whose rows pg_dump keeps: where they belong is another server's
// to say.
func hashed(names ...string) []string {
	statements := []string{"CREATE TYPE mood AS ENUM ('sad', 'ok')"}
	for _, name := range names {
		statements = append(statements, "CREATE TABLE "+name+" (m mood, n int) PARTITION BY HASH (m)",
			"CREATE TABLE "+name+"_0 PARTITION OF "+name+" FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
			"CREATE TABLE "+name+"_1 PARTITION OF "+name+" FOR VALUES WITH (MODULUS 2, REMAINDER 1)")
	}
	return statements
}

// TestRestoreGivesWhatThereIs restores databases of which something can't be made,
// or not in one pass: all else comes back, and what does not is named.
func TestRestoreGivesWhatThereIs(t *testing.T) {
	for name, odd := range testkit.Some(t, 6, oddities()) {
		for method, how := range fixture.MethodsOf(name, 2) {
			t.Run(name+", "+method, func(t *testing.T) {
				dsn := scratchtest.Database(t, server)
				fixture.Exec(t, dsn, odd.statements...)
				c, b := fixture.TakeBy(t, dsn, how)
				into := fixture.Name(t, server)
				done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, into))
				if err != nil {
					t.Fatal(err)
				}
				missing := restore.Missing(done.Checks)
				for _, want := range odd.missing {
					if !slices.ContainsFunc(missing, func(line string) bool { return strings.Contains("row counts: "+line, want) }) {
						t.Errorf("not named: %s", want)
					}
				}
				if len(odd.missing) == 0 {
					if len(missing) > 0 || done.Incomplete || done.Degraded() != nil {
						t.Errorf("missing: %q", missing)
					}
					fixture.WantEqual(t, fixture.Place{Server: server, Database: fixture.Target(t, dsn).Database()}, fixture.Place{Server: server, Database: into})
					return
				}
				t.Logf("%s", strings.Join(missing, "\n"))
				fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "is not complete")
				if !done.Incomplete || fixture.Comment(t, server, into) != "" || !fixture.Exists(t, server, into) {
					t.Errorf("%+v, comment %q", done, fixture.Comment(t, server, into))
				}
				left := fixture.Query[int64](t, server.DSN(into), "SELECT (SELECT count(*) FROM pg_class WHERE relname IN ('other', 'other_pkey', 'kept', 'kept_pkey', 'kept_more'))")
				if left[0] < 2 {
					t.Errorf("of what else there is, %d came back", left[0])
				}
			})
		}
	}
}

// TestManifestCountsOtherwise: a copy with other numbers of rows than the manifest
// says is a copy all the same.
func TestManifestCountsOtherwise(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	b = fixture.Crafted(t, c, b, "", func(b *pgmedic.Backup) { b.Tables[0].Rows = 7 })
	into := fixture.Name(t, server)
	done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, into))
	if err != nil || !done.Incomplete || !fixture.Exists(t, server, into) {
		t.Fatalf("%+v, %v", done, err)
	}
	if missing := restore.Missing(done.Checks); len(missing) != 1 || !strings.Contains(missing[0], "the backup 7") {
		t.Errorf("missing: %q", missing)
	}
}

// TestCommentDiffers: a difference in definitions leaves the copy.
func TestCommentDiffers(t *testing.T) {
	_, c, b := fixture.Clinic(t, server)
	object, _ := b.Object(pgmedic.RoleDump)
	r, err := (restore.Source{Catalog: c, Backup: b}).Open(t.Context(), object)
	if err != nil {
		t.Fatal(err)
	}
	dump, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	b = fixture.Crafted(t, c, b, string(dump)+"COMMENT ON TABLE public.patients IS 'another';\n", nil)
	into := fixture.Name(t, server)
	done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, b, into))
	if err != nil || !done.Incomplete || !fixture.Exists(t, server, into) {
		t.Fatalf("%+v, %v", done, err)
	}
	if missing := restore.Missing(done.Checks); len(missing) != 1 || missing[0] != "comment table public.patients unexpected" {
		t.Errorf("missing: %q", missing)
	}
}

// TestDamageLeavesNothing: rows that the server refuses because bytes are damaged are
// no rows that were refused.
func TestDamageLeavesNothing(t *testing.T) {
	for method, how := range fixture.Methods(t, 2) {
		t.Run(method, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			fixture.Exec(t, dsn, oddities()["a check that reads its own table"].statements...)
			c, b := fixture.TakeBy(t, dsn, how)
			changed := *b
			switch method {
			case "plain": // what the manifest says of the bytes is not what they are
				changed.Objects = slices.Clone(b.Objects)
				i := slices.IndexFunc(b.Objects, func(o pgmedic.Object) bool { return o.Role == pgmedic.RoleDump })
				changed.Objects[i].SHA256 = strings.Repeat("0", 64)
			default:
				changed.Chunks = slices.Clone(b.Chunks)
				for i := range changed.Chunks {
					changed.Chunks[i].SHA256 = strings.Repeat("0", 64)
				}
			}
			into := fixture.Name(t, server)
			_, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, c, &changed, into))
			fixture.WantGone(t, server, into, err, pgmedic.KindIntegrity)
		})
	}
}
