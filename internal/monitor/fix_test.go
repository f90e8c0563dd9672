package monitor_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// odd is a schema whose name needs every kind of quoting.
const (
	oddName = "Odd \"S\"; drop table x; --'\\"
	odd     = `"Odd ""S""; drop table x; --'\"`
	// bell names a table with characters that a terminal obeys; U& is how SQL
	// writes it in print.
	bell        = "\"ring\a\x1b[31m ↯\""
	bellInPrint = `U&"ring\0007\001b[31m ↯"`
)

func testADeadTableIsFoundAndVacuumed(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	table := odd + `."Blo""at"`
	exec(t, conn, "CREATE SCHEMA "+odd,
		"CREATE TABLE "+table+" (id int PRIMARY KEY) WITH (autovacuum_enabled = off)",
		"INSERT INTO "+table+" SELECT generate_series(1, 5000)",
		"DELETE FROM "+table+" WHERE id <= 3000")
	flushed(t, conn, table, 3000)
	f := mustFind(t, judgeNow(t, conn), "table-dead-tuples", table)
	if !strings.Contains(f.Summary, "60 %") || !strings.Contains(f.Summary, "switched off for this table") {
		t.Errorf("summary: %s", f.Summary)
	}
	paste(t, conn, f.Fix)
	testkit.Eventually(t, time.Minute, "the finding goes", func() bool {
		_, there := find(judgeNow(t, conn), "table-dead-tuples", table)
		return !there
	})
}

func testForeignKeysWithoutIndexAreFoundAndMended(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd,
		`CREATE TABLE parent (id int PRIMARY KEY, b int NOT NULL, UNIQUE (id, b))`,
		`CREATE TABLE "Ch""ild" (id int PRIMARY KEY, "Par ent" int REFERENCES parent, x int, y int, FOREIGN KEY (x, y) REFERENCES parent (id, b))`,
		"CREATE TABLE "+bell+" (id int PRIMARY KEY, p int REFERENCES parent)")
	findings := judgeNow(t, conn)
	for _, object := range []string{
		odd + `."Ch""ild" ("Par ent")`, odd + `."Ch""ild" (x, y)`, odd + "." + bellInPrint + " (p)",
	} {
		paste(t, conn, mustFind(t, findings, "foreign-key-without-index", object).Fix)
		mustNotFind(t, judgeNow(t, conn), "foreign-key-without-index", object)
	}
}

func testForeignKeysOfPartitionsAreOneFinding(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd,
		`CREATE TABLE parent (id int PRIMARY KEY)`,
		`CREATE TABLE "Part" (d int NOT NULL, "P" int REFERENCES parent) PARTITION BY RANGE (d)`,
		`CREATE TABLE "Part 1" PARTITION OF "Part" FOR VALUES FROM (1) TO (2)`,
		// The columns of this one have other numbers.
		`CREATE TABLE "Part 2" (junk int, "P" int, d int NOT NULL)`, `ALTER TABLE "Part 2" DROP COLUMN junk`,
		`ALTER TABLE "Part" ATTACH PARTITION "Part 2" FOR VALUES FROM (2) TO (3)`,
		`CREATE TABLE "Part 3" PARTITION OF "Part" FOR VALUES FROM (3) TO (9) PARTITION BY RANGE (d)`,
		`CREATE TABLE "Part 3a" PARTITION OF "Part 3" FOR VALUES FROM (3) TO (4)`)
	object := odd + `."Part" ("P")`
	findings := judgeNow(t, conn)
	f := mustFind(t, findings, "foreign-key-without-index", object)
	if n := strings.Count(names(findings), "foreign-key-without-index"); n != 1 {
		t.Errorf("%d findings for one key: %s", n, names(findings))
	}
	if n := strings.Count(f.Fix, "CONCURRENTLY"); n != 3 {
		t.Errorf("%d of 3 partitions: %s", n, f.Fix)
	}
	paste(t, conn, f.Fix)
	mustNotFind(t, judgeNow(t, conn), "foreign-key-without-index", object)
	// Each partition has one index more and the parent adopted it.
	var indexes, attached int
	if err := conn.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE c.relispartition) FROM pg_index i
		JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
		WHERE t.relname LIKE 'Part%' AND t.relkind = 'r' AND i.indisvalid`).Scan(&indexes, &attached); err != nil {
		t.Fatal(err)
	}
	if indexes != 3 || attached != 3 {
		t.Errorf("%d indexes on partitions, %d attached", indexes, attached)
	}
}

func TestWhatSupportsAForeignKey(t *testing.T) {
	conn := connect(t, scratchtest.Database(t, shared))
	exec(t, conn, `CREATE TABLE parent (id int PRIMARY KEY, b int NOT NULL, UNIQUE (id, b))`, `CREATE TABLE names (n text PRIMARY KEY)`)
	tests := []struct {
		name, index string
		supported   bool
	}{
		{"none", "", false},
		{"same order", "CREATE INDEX i ON child (x, y)", true},
		{"other order", "CREATE INDEX i ON child (y, x)", true},
		{"more behind", "CREATE INDEX i ON child (y, x, z)", true},
		{"more before", "CREATE INDEX i ON child (z, x, y)", false},
		{"one missing", "CREATE INDEX i ON child (x)", false},
		{"only included", "CREATE INDEX i ON child (x) INCLUDE (y)", false},
		{"descending", "CREATE INDEX i ON child (x DESC, y)", true},
		{"expression", "CREATE INDEX i ON child ((x + 0), y)", false},
		{"partial on null", "CREATE INDEX i ON child (x, y) WHERE x IS NOT NULL AND y IS NOT NULL", true},
		{"partial on one null", "CREATE INDEX i ON child (x, y) WHERE (y IS NOT NULL)", true},
		{"partial on another column", "CREATE INDEX i ON child (x, y) WHERE z IS NOT NULL", false},
		{"partial on a value", "CREATE INDEX i ON child (x, y) WHERE x > 0", false},
		{"partial on null of odd", "CREATE INDEX i ON child (x, y) WHERE x IS NOT NULL OR y IS NOT NULL", false},
		{"brin", "CREATE INDEX i ON child USING brin (x, y)", false},
		{"invalid", "CREATE INDEX i ON child (x, y); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass", false},
		{"unique", "CREATE UNIQUE INDEX i ON child (x, y)", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exec(t, conn, "CREATE TABLE child (id int PRIMARY KEY, x int, y int, z int, FOREIGN KEY (x, y) REFERENCES parent (id, b))")
			defer exec(t, conn, "DROP TABLE child")
			if tt.index != "" {
				exec(t, conn, tt.index)
			}
			if _, found := find(judgeNow(t, conn), "foreign-key-without-index", "public.child (x, y)"); found == tt.supported {
				t.Errorf("found: %t", found)
			}
		})
	}
	t.Run("one column", func(t *testing.T) {
		exec(t, conn,
			"CREATE TABLE hashed (id int PRIMARY KEY, n text REFERENCES names)", "CREATE INDEX ON hashed USING hash (n)",
			`CREATE TABLE collated (id int PRIMARY KEY, n text REFERENCES names)`, `CREATE INDEX ON collated (n COLLATE "POSIX")`)
		findings := judgeNow(t, conn)
		mustNotFind(t, findings, "foreign-key-without-index", "public.hashed (n)")
		mustFind(t, findings, "foreign-key-without-index", "public.collated (n)")
	})
}

func testTablesWithoutPrimaryKeyAreFoundAndMended(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd,
		`CREATE TABLE "No Key" (id text, t text)`, `INSERT INTO "No Key" VALUES ('a', 'b'), ('a', 'b')`,
		"CREATE TABLE "+bell+" ()", `CREATE TABLE nearly (n text NOT NULL)`, `CREATE UNIQUE INDEX "Al most" ON nearly (n)`,
		`CREATE TABLE formal (n text NOT NULL UNIQUE)`, `CREATE TABLE lazy (n text)`, `CREATE UNIQUE INDEX ON lazy (n)`,
		`CREATE TABLE part (d int) PARTITION BY RANGE (d)`, `CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (2)`,
		`CREATE TABLE keyed (d int) PARTITION BY RANGE (d)`,
		`CREATE TABLE keyed1 PARTITION OF keyed (PRIMARY KEY (d)) FOR VALUES FROM (1) TO (2)`,
		"CREATE TEMP TABLE passing (i int)", "CREATE EXTENSION IF NOT EXISTS plpgsql")
	const id = "table-without-primary-key"
	findings := judgeNow(t, conn)
	for object, severity := range map[string]pgmedic.Severity{
		`."No Key"`: pgmedic.SeverityWarn, "." + bellInPrint: pgmedic.SeverityWarn, ".lazy": pgmedic.SeverityWarn,
		".nearly": pgmedic.SeverityInfo,
	} {
		f := mustFind(t, findings, id, odd+object)
		if f.Severity != severity {
			t.Errorf("%s is %s", object, f.Severity)
		}
		paste(t, conn, f.Fix)
		mustNotFind(t, judgeNow(t, conn), id, odd+object)
	}
	if f := mustFind(t, findings, id, odd+".formal"); f.Severity != pgmedic.SeverityInfo || f.Fix != "" {
		t.Errorf("formal: %+v", f)
	}
	mustFind(t, findings, id, odd+".part")
	for _, object := range []string{".part1", ".keyed", ".keyed1"} {
		mustNotFind(t, findings, id, odd+object)
	}
	if n := strings.Count(names(findings), id); n != 6 {
		t.Errorf("%d tables without a key: %s", n, names(findings))
	}
}

func testASessionIdleInTransactionIsFoundAndEnded(t *testing.T, dsn string) {
	conn, idler, dump := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	exec(t, idler, "SET application_name = 'O''Brien; --'", "BEGIN", "SELECT 1")
	exec(t, dump, "SET application_name = 'pg_dump'", "BEGIN", "SELECT 1")
	limits := reading.DefaultThresholds()
	limits.IdleInTransaction = time.Millisecond
	object := func(c *pgx.Conn) string {
		return fmt.Sprintf("process %d (role postgres)", c.PgConn().PID())
	}
	seen := func(c *pgx.Conn) (pgmedic.Finding, bool) {
		findings := judge.Analyse(look(t, conn, collect.Options{}), nil, limits)
		return find(findings, "idle-in-transaction", object(c))
	}
	var stale pgmedic.Finding
	testkit.Eventually(t, time.Minute, "it idles long enough", func() bool {
		var there bool
		stale, there = seen(idler)
		return there
	})
	if f, _ := seen(dump); f.Fix != "" || f.Severity != pgmedic.SeverityInfo {
		t.Errorf("a backup is to be ended: %+v", f)
	}
	// The session goes on: the old advice must not touch the new transaction.
	exec(t, idler, "COMMIT", "BEGIN", "SELECT 1")
	paste(t, conn, stale.Fix)
	exec(t, idler, "SELECT 1")

	var f pgmedic.Finding
	testkit.Eventually(t, time.Minute, "the new transaction is seen", func() bool {
		var there bool
		f, there = seen(idler)
		return there && f.Fix != stale.Fix
	})
	paste(t, conn, f.Fix)
	testkit.Eventually(t, time.Minute, "the session ends", func() bool {
		_, there := seen(idler)
		return !there
	})
	if _, err := idler.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session lives")
	}
}

func TestManyPartitionsPrintTheirStatements(t *testing.T) {
	conn := connect(t, scratchtest.Database(t, shared))
	exec(t, conn, "CREATE SCHEMA "+odd, "SET search_path = "+odd, "CREATE TABLE parent (id int PRIMARY KEY)",
		"CREATE TABLE "+bell+" (d int, \"O'P\" int REFERENCES parent) PARTITION BY RANGE (d)")
	for i := range 13 {
		exec(t, conn, fmt.Sprintf("CREATE TABLE \"P %d\" PARTITION OF %s FOR VALUES FROM (%d) TO (%d)", i, bell, i, i+1))
	}
	object := odd + "." + bellInPrint + ` ("O'P")`
	f := mustFind(t, judgeNow(t, conn), "foreign-key-without-index", object)
	rows, err := conn.Query(t.Context(), f.Fix)
	if err != nil {
		t.Fatal(err)
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(statements) != 13 {
		t.Fatalf("%v: %v", statements, err)
	}
	exec(t, conn, statements...)
	mustNotFind(t, judgeNow(t, conn), "foreign-key-without-index", object)
}
