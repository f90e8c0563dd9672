package drill_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestSoundBackupsAreProven drills databases of which every backup was called bad:
// what is in the catalogue and in no dump, what must be made in an order that no
// entry of an archive names, and rows that go in only after others.
func TestSoundBackupsAreProven(t *testing.T) {
	for name, statements := range testkit.Some(t, 4, map[string][]string{
		"an operator that another names": {
			"CREATE FUNCTION eq(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2'",
			"CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = eq, COMMUTATOR = ===, NEGATOR = !==)",
			"DROP OPERATOR === (int, int)",
		},
		"a dropped language": {"DROP EXTENSION plpgsql", "CREATE TABLE t (a int)"},
		"a comment on an inherited check of a partition": {
			"CREATE TABLE m (id int PRIMARY KEY, at int NOT NULL, CHECK (at > 0)) PARTITION BY RANGE (id)",
			"ALTER TABLE m ADD CONSTRAINT named CHECK (at < 1000000)", "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100)",
			"COMMENT ON CONSTRAINT named ON m1 IS 'on the leaf'", "COMMENT ON CONSTRAINT m1_pkey ON m1 IS 'kept'",
		},
		"a comment on a foreign key of a partition": {
			"CREATE TABLE r (id int PRIMARY KEY)", "CREATE TABLE m (id int, r int REFERENCES r) PARTITION BY RANGE (id)",
			"CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100)", "COMMENT ON CONSTRAINT m_r_fkey ON m1 IS 'on the leaf'",
		},
		"a comment on a trigger of a partition": {
			"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
			"CREATE TABLE m (id int) PARTITION BY RANGE (id)", "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100)",
			"CREATE TRIGGER tr BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION f()", "COMMENT ON TRIGGER tr ON m1 IS 'on the leaf'",
			"COMMENT ON TRIGGER tr ON m IS 'kept'",
		},
		"a comment on an index that is not valid": {
			"CREATE TABLE u (a int)", "CREATE INDEX u_a ON u (a)", "COMMENT ON INDEX u_a IS 'left behind'",
			"UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'u_a'::regclass",
		},
		"an index of a partitioned table that lacks a partition's": {
			"CREATE TABLE m (id int) PARTITION BY RANGE (id)", "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100)",
			"CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200)", "CREATE INDEX m_id ON ONLY m (id)", "CREATE INDEX m1_id ON m1 (id)",
			"ALTER INDEX m_id ATTACH PARTITION m1_id",
		},
		"a comment on an inherited check of a child": {
			"CREATE TABLE p (a int, CONSTRAINT pos CHECK (a > 0))", "CREATE TABLE k () INHERITS (p)", "COMMENT ON CONSTRAINT pos ON k IS 'on the child'",
			"COMMENT ON CONSTRAINT pos ON p IS 'kept'", "COMMENT ON COLUMN k.a IS 'x'",
		},
		"a trigger of a partition of a partition that is off": {
			"CREATE TABLE m (id int, at date NOT NULL) PARTITION BY RANGE (at)",
			"CREATE TABLE m_2025 PARTITION OF m FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (id)",
			"CREATE TABLE m_2025_0 PARTITION OF m_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
			"CREATE TABLE m_2025_1 PARTITION OF m_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
			"CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
			"CREATE TRIGGER audit BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION audit()", "ALTER TABLE m_2025_0 DISABLE TRIGGER audit",
			"COMMENT ON TRIGGER audit ON m IS 'TRIGGER of all'", "INSERT INTO m SELECT n, date '2025-01-01' + n FROM generate_series(1, 300) AS n",
		},
		"checks that read tables which others keep empty": {
			"CREATE TABLE c (code text PRIMARY KEY)",
			"CREATE FUNCTION known_c(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.c WHERE code = $1)'",
			"CREATE TABLE b (code text PRIMARY KEY, c text CHECK (known_c(c)))",
			"CREATE FUNCTION known_b(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.b WHERE code = $1)'",
			"CREATE TABLE a (code text PRIMARY KEY, b text CHECK (known_b(b)))",
			"CREATE FUNCTION known_a(text) RETURNS bool LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.a WHERE code = $1)'",
			"CREATE TABLE z (id int, a text CHECK (known_a(a)), note text)",
			"INSERT INTO c SELECT 'c' || n FROM generate_series(1, 10) AS n", "INSERT INTO b SELECT 'b' || n, 'c' || n % 10 + 1 FROM generate_series(1, 100) AS n",
			"INSERT INTO a SELECT 'a' || n, 'b' || n % 100 + 1 FROM generate_series(1, 200) AS n",
			"INSERT INTO z SELECT n, 'a' || n % 200 + 1, repeat('x', 2000) FROM generate_series(1, 600) AS n",
		},
		"a column that needs the database's search path": {
			"CREATE SCHEMA extensions", "CREATE FUNCTION extensions.fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'",
			"CREATE FUNCTION folded(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN fold($1); END $$",
			"DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET search_path = \"$user\", public, extensions'; END $$",
			"SET search_path = public, extensions",
			"CREATE TABLE documents (id int, title text, folded text GENERATED ALWAYS AS (folded(title)) STORED)",
			"INSERT INTO documents (id, title) SELECT n, 'Title ' || n FROM generate_series(1, 50) AS n",
		},
		"privileges that were granted and taken back": {
			"CREATE SEQUENCE s", "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY)", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TYPE y AS (a int)", "CREATE SCHEMA n",
			"GRANT SELECT ON s, t, t_id_seq TO PUBLIC", "REVOKE SELECT ON s, t, t_id_seq FROM PUBLIC", "GRANT EXECUTE ON FUNCTION f() TO pg_monitor", "REVOKE EXECUTE ON FUNCTION f() FROM pg_monitor",
			"GRANT USAGE ON TYPE y TO pg_monitor", "REVOKE USAGE ON TYPE y FROM pg_monitor", "GRANT USAGE ON SCHEMA n TO PUBLIC", "REVOKE USAGE ON SCHEMA n FROM PUBLIC",
		},
		"an enum": {
			"CREATE TYPE mood AS ENUM ('sad', 'ok', 'héureux')", "CREATE TABLE moods (id int, m mood, ms mood[])",
			"INSERT INTO moods VALUES (1, 'ok', '{sad}'), (2, 'héureux', NULL)", "CREATE TABLE plain_moods (m mood)", "INSERT INTO plain_moods VALUES ('sad'), ('héureux'), (NULL)",
		},
	}) {
		t.Run(name, func(t *testing.T) {
			for method, how := range fixture.MethodsOf(name, 2) {
				dsn := scratchtest.Database(t, server)
				fixture.Exec(t, dsn, statements...)
				c, b, _ := take(t, dsn, how)
				o := options(t, c, b)
				o.SkipAmcheck, o.Jobs = "not what this is about", 4
				receipt, err := run(t.Context(), t, o)
				if err != nil || receipt.Proof != pgmedic.ProofProven {
					t.Errorf("%s: %+v, %v", method, receipt, err)
				}
			}
		})
	}
}

// TestEnumsAreBinary: a label says the same everywhere, so that a table with one is
// cut by ranges and copied as it is.
func TestEnumsAreBinary(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE moods (m mood)", "CREATE TABLE listed (m mood[])")
	_, b, _ := take(t, dsn, backup.Parallel{Jobs: 1})
	for _, table := range b.Tables {
		want := map[string]pgmedic.CopyFormat{"moods": pgmedic.CopyBinary, "listed": pgmedic.CopyText}[table.Name]
		if table.Format != want {
			t.Errorf("%s is copied as %s, want %s", table.Name, table.Format, want)
		}
	}
}
