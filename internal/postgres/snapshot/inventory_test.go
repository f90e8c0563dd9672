package snapshot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// everything reads the SQL of a database with one of every kind of object.
func everything(t *testing.T, major int) string {
	t.Helper()
	text, err := os.ReadFile("testdata/everything.sql")
	if err != nil {
		t.Fatal(err)
	}
	sql := string(text)
	// Each mark begins a part for the versions from that one on.
	for _, from := range []int{13, 14, 15} {
		mark := fmt.Sprintf("-- from %d\n", from)
		if before, after, ok := strings.Cut(sql, mark); ok && major < from {
			_, rest, _ := strings.Cut(after, "-- all\n")
			sql = before + rest
		}
	}
	return sql
}

func inventory(t *testing.T, conn *pgx.Conn) []snapshot.Definition {
	t.Helper()
	all, err := snapshot.ReadInventory(t.Context(), conn, postgrestest.Query[int](t, conn, "SELECT current_setting('server_version_num')::int"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differences names how a database differs from what it was.
func differences(before, after []snapshot.Definition) []string {
	var all []string
	for _, d := range snapshot.CompareInventories(before, after) {
		all = append(all, d.String())
	}
	return all
}

func kinds(all []snapshot.Definition) []string {
	var found []string
	for _, d := range all {
		if !slices.Contains(found, d.Kind) {
			found = append(found, d.Kind)
		}
	}
	return found
}

func makeRoles(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for _, name := range []string{"inv_owner", "inv_reader", "a_reader"} {
		postgrestest.Run(t, conn, "CREATE ROLE "+name)
		t.Cleanup(func() { postgrestest.Run(t, conn, "DROP OWNED BY "+name, "DROP ROLE "+name) })
	}
}

// TestInventoryOfCopy: what pg_dump and psql make of a database has no
// differences.
func TestInventoryOfCopy(t *testing.T) {
	_, a := admin(t)
	makeRoles(t, a)
	from, source := database(t)
	to, copied := database(t)
	postgrestest.Run(t, source, everything(t, server.Major()))
	t.Cleanup(func() {
		for _, conn := range []*pgx.Conn{source, copied} {
			postgrestest.Run(t, conn, "DROP OWNED BY inv_owner CASCADE", "DROP OWNED BY inv_reader CASCADE", "DROP OWNED BY a_reader")
		}
	})
	dump := filepath.Join(t.TempDir(), "dump.sql")
	tool(t, "pg_dump", "--file="+dump, "--dbname="+from.Conninfo())
	tool(t, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.DevNull, "-f", dump, "--dbname="+to.Conninfo())
	before := inventory(t, source)
	if diffs := differences(before, inventory(t, copied)); len(diffs) > 0 {
		t.Errorf("the copy differs:\n%s", strings.Join(diffs, "\n"))
	}
	for _, want := range []string{
		"schema", "relation", "column", "sequence", "constraint", "index", "trigger", "rule", "policy", "function", "type", "statistics",
		"extension", "event trigger", "publication", "default privileges", "large objects", "comment", "operator", "operator class",
		"operator family", "cast", "collation", "text search configuration", "text search dictionary", "foreign-data wrapper",
		"foreign server", "user mapping", "conversion",
	} {
		if !slices.Contains(kinds(before), want) {
			t.Errorf("nothing of kind %s", want)
		}
	}
}

// TestInventoryWithoutPublic: CREATE DATABASE makes the public schema, and a
// dump of a database without it does not drop it.
func TestInventoryWithoutPublic(t *testing.T) {
	_, source := database(t)
	_, copied := database(t)
	postgrestest.Run(t, source, "DROP SCHEMA public")
	if diffs := differences(inventory(t, source), inventory(t, copied)); len(diffs) > 0 {
		t.Errorf("the copy differs: %s", diffs)
	}
	if diffs := differences(inventory(t, copied), inventory(t, source)); len(diffs) != 1 || diffs[0] != "schema public missing" {
		t.Errorf("a lost public schema: %s", diffs)
	}
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(server.BinDir(), name), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// changes are statements, each with the difference that it must make.
func changes() map[string]string {
	return map[string]string{
		"CREATE SCHEMA new":                  "schema new unexpected",
		"ALTER SCHEMA s OWNER TO inv_reader": "schema s changed",
		"DROP INDEX s.people_lower":          "index s.people_lower missing",
		"DROP INDEX s.people_lower; CREATE INDEX people_lower ON s.people (name)":                            "index s.people_lower changed",
		"ALTER TABLE s.people ALTER name SET DEFAULT 'x'":                                                    "column s.people.name changed",
		"ALTER TABLE s.people ALTER born TYPE timestamptz":                                                   "column s.people.born changed",
		"ALTER TABLE s.people ALTER name DROP NOT NULL":                                                      "column s.people.name changed",
		"ALTER TABLE s.people DROP COLUMN born":                                                              "column s.people.born missing",
		"ALTER TABLE s.people DROP CONSTRAINT status_known":                                                  "constraint status_known on s.people missing",
		"ALTER TABLE s.visits DROP CONSTRAINT later":                                                         "constraint later on s.visits missing",
		"ALTER TABLE s.visits VALIDATE CONSTRAINT not_valid":                                                 "constraint not_valid on s.visits changed",
		"ALTER TABLE s.visits ALTER CONSTRAINT later NOT DEFERRABLE":                                         "constraint later on s.visits changed",
		"ALTER TABLE s.people OWNER TO inv_reader":                                                           "relation s.people changed",
		"REVOKE SELECT ON s.people FROM inv_reader":                                                          "relation s.people changed",
		"GRANT SELECT (id) ON s.people TO a_reader":                                                          "column s.people.id changed",
		"ALTER TABLE s.people DISABLE ROW LEVEL SECURITY":                                                    "relation s.people changed",
		"ALTER TABLE s.people SET (fillfactor = 50)":                                                         "relation s.people changed",
		"ALTER TABLE s.fast SET LOGGED":                                                                      "relation s.fast changed",
		"ALTER TABLE s.parts DETACH PARTITION s.parts_a":                                                     "relation s.parts_a changed",
		"CREATE OR REPLACE VIEW s.v AS SELECT id, name FROM s.people WHERE id > 1":                           "relation s.v changed",
		"ALTER TABLE s.people DISABLE TRIGGER touch":                                                         "trigger touch on s.people changed",
		"DROP TRIGGER touch ON s.people":                                                                     "trigger touch on s.people missing",
		"DROP RULE quiet ON s.visits":                                                                        "rule quiet on s.visits missing",
		"ALTER POLICY own ON s.people USING (id > 5)":                                                        "policy own on s.people changed",
		"ALTER POLICY own ON s.people TO a_reader":                                                           "policy own on s.people changed",
		"CREATE OR REPLACE FUNCTION s.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN (new); END'": "function s.touch() changed",
		"ALTER FUNCTION s.touch() OWNER TO inv_reader":                                                       "function s.touch() changed",
		"DROP PROCEDURE s.proc(integer)":                                                                     "function s.proc(integer) missing",
		"CREATE OR REPLACE AGGREGATE s.total(integer) (sfunc = int4pl, stype = integer, initcond = '7')":     "function s.total(integer) changed",
		"ALTER TYPE s.mood ADD VALUE 'sad'":                                                                  "type s.mood changed",
		"ALTER DOMAIN s.positive DROP CONSTRAINT above":                                                      "constraint above on s.positive missing",
		"ALTER DOMAIN s.positive SET DEFAULT 3":                                                              "type s.positive changed",
		"ALTER DOMAIN s.numbers SET NOT NULL":                                                                "type s.numbers changed",
		"ALTER TYPE s.pair ADD ATTRIBUTE c int":                                                              "column s.pair.c unexpected",
		"ALTER SEQUENCE s.counter INCREMENT 5":                                                               "sequence s.counter changed",
		"SET LOCAL restrict_nonsystem_relation_kind = ''; REFRESH MATERIALIZED VIEW s.m":                     "filled materialized view s.m unexpected",
		"DROP STATISTICS s.stats":                                                                            "statistics s.stats missing",
		"DROP EXTENSION citext":                                                                              "extension citext missing",
		"ALTER EVENT TRIGGER watch DISABLE":                                                                  `event trigger watch changed`,
		"ALTER PUBLICATION pub DROP TABLE s.people":                                                          "publication pub changed",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT INSERT ON TABLES TO inv_reader":                          "default privileges",
		"COMMENT ON TABLE s.people IS '(other)'":                                                             "comment table s.people changed",
		"COMMENT ON COLUMN s.people.name IS NULL":                                                            "comment table column s.people.name missing",
		"GRANT SELECT ON LARGE OBJECT 424242 TO PUBLIC":                                                      "large objects owners and privileges changed",
		"ALTER LARGE OBJECT 424242 OWNER TO inv_reader":                                                      "large objects owners and privileges changed",
		"SELECT lo_unlink(424242)":                                                                           "large objects count changed",
		"DROP OPERATOR s.=== (integer, integer)":                                                             "operator s.===(integer,integer) missing",
		"DROP CAST (s.mood AS integer)":                                                                      "cast (s.mood AS integer) missing",
		"DROP COLLATION s.coll CASCADE":                                                                      "collation s.coll missing",
		"DROP CONVERSION s.conv":                                                                             "conversion s.conv missing",
		"DROP TEXT SEARCH CONFIGURATION s.ts":                                                                "text search configuration s.ts missing",
		"DROP FOREIGN TABLE s.remote":                                                                        "relation s.remote missing",
		"ALTER FOREIGN TABLE s.remote OPTIONS (SET a 'other')":                                               "relation s.remote changed",
		"DROP USER MAPPING FOR inv_reader SERVER srv":                                                        "user mapping inv_reader on server srv missing",
	}
}

func TestInventoryChanges(t *testing.T) {
	_, a := admin(t)
	makeRoles(t, a)
	_, conn := database(t)
	postgrestest.Run(t, conn, everything(t, server.Major()))
	t.Cleanup(func() {
		postgrestest.Run(t, conn, "DROP OWNED BY inv_owner CASCADE", "DROP OWNED BY inv_reader CASCADE", "DROP OWNED BY a_reader")
	})
	before := inventory(t, conn)
	for change, want := range changes() {
		t.Run(change, func(t *testing.T) {
			postgrestest.Run(t, conn, "BEGIN")
			defer postgrestest.Run(t, conn, "ROLLBACK")
			postgrestest.Run(t, conn, change)
			diffs := differences(before, inventory(t, conn))
			if !slices.ContainsFunc(diffs, func(d string) bool { return strings.HasPrefix(d, want) }) {
				t.Errorf("want %q among %q", want, diffs)
			}
		})
	}
}

// TestInventoryMajors reads the inventory on every version.
func TestInventoryMajors(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			s := scratchtest.New(t, scratch.Options{Major: major, Settings: map[string]string{"wal_level": "logical"}})
			target := postgrestest.Parse(t, s.DSN("postgres"))
			postgrestest.Run(t, postgrestest.Connect(t, target), "CREATE ROLE inv_owner; CREATE ROLE inv_reader LOGIN; CREATE ROLE a_reader", "CREATE DATABASE d TEMPLATE template0")
			conn := postgrestest.Connect(t, target.WithDatabase("d"))
			postgrestest.Run(t, conn, everything(t, major))
			first := inventory(t, conn)
			if diffs := differences(first, inventory(t, conn)); len(diffs) > 0 || len(first) < 60 {
				t.Errorf("%d objects; read again they differ: %s", len(first), diffs)
			}
			// A role without privileges sees the same.
			if diffs := differences(first, inventory(t, postgrestest.Connect(t, target.WithDatabase("d").With("user", "inv_reader")))); len(diffs) > 0 {
				t.Errorf("another role sees: %s", diffs)
			}
			if err := databases.Drop(t.Context(), postgrestest.Connect(t, target), "d", s.Major()*10000); err != nil {
				t.Errorf("drop a database in use: %v", err)
			}
		})
	}
}

func TestNormalizeDefinition(t *testing.T) {
	for name, test := range map[string]struct {
		a, b string
		same bool
	}{
		"casts of elements and of the array": {
			"CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
			"CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))", true,
		},
		"white space":             {"a  =\n1", "a = 1", true},
		"a cast to a named type":  {`'x'::public."My ""type"""(3)[]`, "'x'", true},
		"another constant":        {"a = 'x'", "a = 'y'", false},
		"parentheses in constant": {"a = '(x)'", "a = 'x'", false},
		"space in a constant":     {"a = 'x y'", "a = 'xy'", false},
		"cast in a constant":      {"a = 'x::text'", "a = 'x'", false},
		"space in a name":         {`"a b" = 1`, `"ab" = 1`, false},
		"doubled quotes":          {"a = 'it''s (x)'", "a = 'it''s x'", false},
		"another operator":        {"a < 1", "a > 1", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := snapshot.NormalizeDefinition(test.a), snapshot.NormalizeDefinition(test.b)
			if (a == b) != test.same {
				t.Errorf("%s and %s", a, b)
			}
		})
	}
}

// TestInventoryOfNewer: changes of what PostgreSQL 16 and later brought.
func TestInventoryOfNewer(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		if major < 16 {
			continue
		}
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			s := scratchtest.New(t, scratch.Options{Major: major, Settings: map[string]string{"wal_level": "logical"}})
			target := postgrestest.Parse(t, s.DSN("postgres"))
			conn := postgrestest.Connect(t, target)
			postgrestest.Run(t, conn, "CREATE SCHEMA s; CREATE ROLE a_reader")
			for _, c := range []struct {
				since            int
				has, done, wants string
			}{
				{16, "CREATE TABLE s.t (c text COLLATE \"unicode\")", "ALTER TABLE s.t ALTER c TYPE text COLLATE \"C\"", "column s.t.c changed"},
				{17, "CREATE TABLE s.t (i int)", "GRANT MAINTAIN ON s.t TO a_reader", "relation s.t changed"},
				{17, "CREATE FUNCTION s.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON login EXECUTE FUNCTION s.f()",
					"ALTER EVENT TRIGGER e ENABLE ALWAYS", "event trigger e changed"},
				{17, "CREATE TABLE s.t (i int) PARTITION BY LIST (i)", "ALTER TABLE s.t ADD c int GENERATED ALWAYS AS IDENTITY", "column s.t.c unexpected"},
				{17, "CREATE TABLE s.t (i int) PARTITION BY LIST (i) USING heap", "ALTER TABLE s.t SET ACCESS METHOD DEFAULT", "relation s.t changed"},
				{18, "CREATE TABLE s.t (a int, v int GENERATED ALWAYS AS (a + 1))", "ALTER TABLE s.t ALTER v SET EXPRESSION AS (a + 2)", "column s.t.v changed"},
				{18, "CREATE TABLE s.t (a int, v int GENERATED ALWAYS AS (a + 1))",
					"ALTER TABLE s.t DROP v; ALTER TABLE s.t ADD v int GENERATED ALWAYS AS (a + 1) STORED", "column s.t.v changed"},
				{18, "CREATE TABLE s.t (a int CONSTRAINT n NOT NULL)", "ALTER TABLE s.t RENAME CONSTRAINT n TO m", "constraint n on s.t missing"},
				{18, "CREATE TABLE s.t (a int); ALTER TABLE s.t ADD CONSTRAINT n NOT NULL a NOT VALID", "ALTER TABLE s.t VALIDATE CONSTRAINT n", "constraint n on s.t changed"},
				{18, "CREATE TABLE s.t (a int CONSTRAINT n NOT NULL)", "ALTER TABLE s.t ALTER CONSTRAINT n NO INHERIT", "constraint n on s.t changed"},
				{18, "CREATE TABLE s.t (a int CONSTRAINT c CHECK (a > 0) NOT ENFORCED)",
					"ALTER TABLE s.t DROP CONSTRAINT c; ALTER TABLE s.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "constraint c on s.t changed"},
				{18, "CREATE TABLE s.u (i int PRIMARY KEY); CREATE TABLE s.t (a int CONSTRAINT f REFERENCES s.u NOT ENFORCED)",
					"ALTER TABLE s.t ALTER CONSTRAINT f ENFORCED", "constraint f on s.t changed"},
				{18, "CREATE TABLE s.t (i int4range, d daterange, CONSTRAINT k UNIQUE (i, d WITHOUT OVERLAPS))",
					"ALTER TABLE s.t DROP CONSTRAINT k; ALTER TABLE s.t ADD CONSTRAINT k UNIQUE (i, d)", "constraint k on s.t changed"},
				{18, "CREATE PUBLICATION p WITH (publish_generated_columns = stored)", "ALTER PUBLICATION p SET (publish_generated_columns = none)",
					"publication p generated columns changed"},
				{18, "SELECT", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON LARGE OBJECTS TO a_reader", "default privileges"},
				{18, "CREATE TABLE s.p (a int CONSTRAINT n NOT NULL); CREATE TABLE s.t () INHERITS (s.p)", "COMMENT ON CONSTRAINT n ON s.t IS 'x'",
					"comment table constraint n on s.t unexpected"},
				{18, "CREATE DOMAIN s.d AS int CONSTRAINT n NOT NULL", "ALTER DOMAIN s.d RENAME CONSTRAINT n TO m", "constraint n on s.d missing"},
			} {
				if major < c.since {
					continue
				}
				t.Run(c.done, func(t *testing.T) {
					postgrestest.Run(t, conn, "BEGIN")
					defer postgrestest.Run(t, conn, "ROLLBACK")
					postgrestest.Run(t, conn, c.has)
					before := inventory(t, conn)
					postgrestest.Run(t, conn, c.done)
					diffs := differences(before, inventory(t, conn))
					if !slices.ContainsFunc(diffs, func(d string) bool { return strings.HasPrefix(d, c.wants) }) {
						t.Errorf("want %q among %q", c.wants, diffs)
					}
				})
			}
		})
	}
}
