package inplace_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func options(t *testing.T, dsn string, c *catalog.Catalog, b *pgmedic.Backup, tables ...string) inplace.Options {
	t.Helper()
	o := fixture.RestoreOptions(t, server, c, b, "")
	o.Target, o.Jobs = fixture.Target(t, dsn), 2
	return inplace.Options{Options: rescue.Options{Options: o, Tables: tables}}
}

func mustRun(t *testing.T, o inplace.Options) *inplace.Result {
	t.Helper()
	done, err := inplace.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// schemaAndRows drops the schemas that rescues made, and returns what is left.
func schemaAndRows(t *testing.T, server *scratch.Server, dsn string) (schema string, rows []string) {
	t.Helper()
	for _, name := range fixture.Query[string](t, dsn, "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'pgmedic%'") {
		fixture.Exec(t, dsn, `DROP SCHEMA "`+name+`" CASCADE`)
	}
	for _, table := range fixture.Query[string](t, dsn, "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1") {
		sum := fixture.Query[string](t, dsn, "SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, ',' ORDER BY r::text)), '') FROM ONLY "+table+" AS r")
		rows = append(rows, table+" "+sum[0])
	}
	dump := exec.CommandContext(t.Context(), filepath.Join(programs(server), "pg_dump"), "--schema-only", "--restrict-key=pgmedic", "-d", dsn)
	text, err := dump.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	return string(text), rows
}

// programs is where the client programs for a server are: its own, or those of the oldest
// that has some.
func programs(of *scratch.Server) string {
	if _, err := os.Stat(filepath.Join(of.BinDir(), "pg_dump")); err != nil {
		return server.BinDir()
	}
	return of.BinDir()
}

func wantSchema(t *testing.T, server *scratch.Server, dsn, schema string, rows []string) {
	t.Helper()
	gotSchema, gotRows := schemaAndRows(t, server, dsn)
	fixture.WantSame(t, "the definitions", strings.Split(schema, "\n"), strings.Split(gotSchema, "\n"))
	fixture.WantSame(t, "the rows", rows, gotRows)
}

// hospital is a database in which much hangs on one table.
func hospital(t *testing.T, server *scratch.Server) (dsn string, c *catalog.Catalog, b *pgmedic.Backup) {
	t.Helper()
	dsn = scratchtest.Database(t, server)
	role := fixture.Name(t, server) + "_nurse"
	fixture.Exec(t, server.DSN("postgres"), `CREATE ROLE "`+role+`"`)
	t.Cleanup(func() {
		fixture.Exec(t, dsn, `DROP OWNED BY "`+role+`" CASCADE`)
		fixture.Exec(t, server.DSN("postgres"), `DROP ROLE "`+role+`"`)
	})
	fixture.Exec(t, dsn,
		"CREATE TYPE kind AS ENUM ('in', 'out', 'day')",
		"CREATE TABLE wards (id int PRIMARY KEY, name text)", "INSERT INTO wards SELECT n, 'w' || n FROM generate_series(1, 5) AS n",
		`CREATE TABLE "Stays" (id bigint GENERATED ALWAYS AS IDENTITY (START 1000) PRIMARY KEY, no serial, ward int NOT NULL REFERENCES wards, k kind,
			"what ""it"" is" text COLLATE "C" DEFAULT 'x', twice int GENERATED ALWAYS AS (ward * 2) STORED, CHECK (ward > 0))`,
		`INSERT INTO "Stays" (ward, k) SELECT 1 + n % 5, (ARRAY['in', 'out', 'day']::kind[])[1 + n % 3] FROM generate_series(1, 200) AS n`,
		`CREATE UNIQUE INDEX stays_no ON "Stays" (no) INCLUDE (ward)`, `CREATE INDEX ON "Stays" (lower("what ""it"" is")) WHERE ward > 2`,
		`CREATE STATISTICS stays_stat ON ward, k FROM "Stays"`, `ALTER TABLE "Stays" ALTER COLUMN ward SET STATISTICS 500`,
		`COMMENT ON TABLE "Stays" IS 'the stays'`, `COMMENT ON COLUMN "Stays".k IS 'what kind'`, `COMMENT ON INDEX stays_no IS 'by number'`,
		`CREATE TABLE bills (stay bigint, amount numeric, CONSTRAINT "to stays" FOREIGN KEY (stay) REFERENCES "Stays" ON DELETE CASCADE)`,
		`COMMENT ON CONSTRAINT "to stays" ON bills IS 'a key with a comment'`,
		`INSERT INTO bills SELECT id, id * 1.5 FROM "Stays" WHERE no < 100`,
		"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the trigger fires''; END'",
		`CREATE TRIGGER noted BEFORE INSERT OR UPDATE ON "Stays" FOR EACH ROW EXECUTE FUNCTION note()`,
		`CREATE TRIGGER off AFTER DELETE ON "Stays" FOR EACH STATEMENT EXECUTE FUNCTION note()`, `ALTER TABLE "Stays" DISABLE TRIGGER off`,
		`CREATE POLICY seen ON "Stays" FOR SELECT USING (ward < 4)`, `ALTER TABLE "Stays" ENABLE ROW LEVEL SECURITY`,
		`CREATE VIEW stay_names AS SELECT s.id, w.name FROM "Stays" s JOIN wards w ON w.id = s.ward`, "CREATE VIEW names_only AS SELECT name FROM stay_names",
		`CREATE MATERIALIZED VIEW stay_count AS SELECT k, count(*) FROM "Stays" GROUP BY k`, "CREATE UNIQUE INDEX ON stay_count (k)",
		`GRANT SELECT, UPDATE (k) ON "Stays" TO "`+role+`"`, `GRANT SELECT ON names_only TO PUBLIC`, `ALTER TABLE "Stays" REPLICA IDENTITY USING INDEX stays_no`,
		`CREATE PUBLICATION stays_out FOR TABLE "Stays", wards`,
		// Given since the backup's tables were made: what is made again must not get it.
		`ALTER DEFAULT PRIVILEGES GRANT DELETE ON TABLES TO "`+role+`"`,
		"CREATE TABLE \"it's\n; Type: VIEW; \"\"x\"\"\" (\"a\nb\" int PRIMARY KEY)", "INSERT INTO \"it's\n; Type: VIEW; \"\"x\"\"\" VALUES (7)",
		"CREATE TABLE events (at date, k kind, note text, PRIMARY KEY (at, k)) PARTITION BY RANGE (at)",
		"CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY HASH (k)",
		"CREATE TABLE events_2025_0 PARTITION OF events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "CREATE TABLE events_2025_1 PARTITION OF events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
		"CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')", "CREATE INDEX ON events (note)",
		"INSERT INTO events SELECT '2025-06-01'::date + n, (ARRAY['in', 'out', 'day']::kind[])[1 + n % 3], 'n' || n FROM generate_series(1, 400) AS n",
	)
	c = fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Method, o.Tools.Dirs = backup.Parallel{Jobs: 2}, []string{programs(server)}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return dsn, c, b
}

// TestDroppedTable has tables that were dropped with all that hung on them come back as
// they were: the definitions are the same text, and the rows the same by their values.
func TestDroppedTable(t *testing.T) { droppedTable(t, server) }

// TestOnEveryMajor does that on the other versions.
func TestOnEveryMajor(t *testing.T) {
	testkit.OnlyAll(t, "a server of each version")
	for _, major := range []int{12, 13, 14} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := scratchtest.New(t, scratch.Options{Major: major, Settings: map[string]string{"wal_level": "logical"}})
			droppedTable(t, server)
			rowsOfOtherTablesStay(t, server)
		})
	}
	for _, major := range []int{17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := scratchtest.New(t, scratch.Options{BinDir: scratchtest.Complete(t, major).BinDir, Settings: map[string]string{"wal_level": "logical"}})
			droppedTable(t, server)
			rowsOfOtherTablesStay(t, server)
		})
	}
}

func droppedTable(t *testing.T, server *scratch.Server) {
	t.Helper()
	dsn, c, b := hospital(t, server)
	schema, rows := schemaAndRows(t, server, dsn)
	type drop struct {
		name, sql string
		tables    []string
	}
	for _, tt := range testkit.SomeOf(t, 1, []drop{
		{"one", `DROP TABLE "Stays" CASCADE`, []string{`"Stays"`}},
		{"a strange name", "DROP TABLE \"it's\n; Type: VIEW; \"\"x\"\"\"", []string{"\"it's\n; Type: VIEW; \"\"x\"\"\""}},
		{"a partition", "DROP TABLE events_2026", []string{"events_2026"}},
		{"both ends of a key", `DROP TABLE "Stays", bills CASCADE`, []string{`"Stays"`, "bills"}},
		{"partitioned", "DROP TABLE events", []string{"events"}},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			fixture.Exec(t, dsn, tt.sql)
			seen := options(t, dsn, c, b, tt.tables...)
			seen.Tools.Dirs = []string{programs(server)}
			run := seen
			seen.DryRun = true
			before, _ := schemaAndRows(t, server, dsn)
			if plan := mustRun(t, seen); len(plan.LeftOut) > 0 || len(plan.Made) == 0 {
				t.Errorf("the plan makes %q and leaves out %+v", plan.Made, plan.LeftOut)
			}
			if after, _ := schemaAndRows(t, server, dsn); after != before {
				t.Error("a dry run changed the definitions")
			}
			done := mustRun(t, run)
			if err := done.Degraded(); err != nil {
				t.Errorf("%v: %+v", err, done.LeftOut)
			}
			for _, table := range done.Tables {
				if table.Action != inplace.ActionMake || table.Compared != pgmedic.ComparedValues || *table.Inserted != table.Rows {
					t.Errorf("it says %+v", table)
				}
			}
			wantSchema(t, server, dsn, schema, rows)
		})
	}
	// Rows of living tables, with triggers on the partitions in several states.
	fixture.Exec(t, dsn, "CREATE TRIGGER noted AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION note()", "ALTER TABLE events_2025_1 DISABLE TRIGGER noted",
		"ALTER TABLE events_2026 ENABLE ALWAYS TRIGGER noted", "DELETE FROM events WHERE k = 'in'")
	states := "SELECT string_agg(tgrelid::regclass::text || tgname || tgenabled::text, ' ' ORDER BY tgrelid::regclass::text, tgname) FROM pg_trigger"
	before := fixture.Query[string](t, dsn, states)
	o := options(t, dsn, c, b, "events")
	o.MissingRows, o.Tools.Dirs = true, []string{programs(server)}
	if done := mustRun(t, o); *done.Tables[0].Inserted == 0 || !done.Tables[0].TriggersOff {
		t.Errorf("it did %+v", done)
	}
	fixture.WantSame(t, "the triggers", before, fixture.Query[string](t, dsn, states))
	fixture.Exec(t, dsn, "DROP TRIGGER noted ON events")
	wantSchema(t, server, dsn, schema, rows)
	// The next rows get values that are free.
	fixture.Exec(t, dsn, `ALTER TABLE "Stays" DISABLE TRIGGER noted`, `INSERT INTO "Stays" (ward) VALUES (1)`)
}
