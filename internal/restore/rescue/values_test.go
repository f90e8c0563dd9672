package rescue_test

import (
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescueComparesValues: rows that came back are those that were read, by their values,
// also with a domain and a generated column, and of partitions together; one value that
// differs, with as many rows, is an integrity error, and nothing is left.
func TestRescueComparesValues(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{Jobs: 2},
		"CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE < 101)", "CREATE TYPE mood AS ENUM ('well', 'ill')",
		"CREATE TABLE odd (id int, m mood, p percent, twice numeric GENERATED ALWAYS AS (p * 2) STORED, doc jsonb, raw bytea)",
		`INSERT INTO odd (id, m, p, doc, raw) VALUES (1, 'ill', 7, '{"a": null}', '\x00ff'), (2, NULL, 8.10, NULL, '')`,
		"CREATE TABLE parted (n int, note text) PARTITION BY LIST (n)",
		"CREATE TABLE one PARTITION OF parted FOR VALUES IN (1)", "CREATE TABLE two (note text, n int)", "ALTER TABLE parted ATTACH PARTITION two FOR VALUES IN (2)",
		"CREATE TABLE alike (n int) PARTITION BY LIST (n)", "CREATE TABLE alike_1 PARTITION OF alike FOR VALUES IN (1)", "CREATE TABLE alike_2 PARTITION OF alike FOR VALUES IN (2)",
		"INSERT INTO parted VALUES (1, 'a'), (2, 'b')", "INSERT INTO alike VALUES (1), (2)", "CREATE TABLE bare ()", "INSERT INTO bare DEFAULT VALUES",
	)
	o := rescueOptions(t, dsn, c, b, "odd", "parted", "alike", "bare", "patients")
	o.CompareValues = true
	done := mustRescue(t, o)
	for _, table := range done.Tables {
		if table.Compared != pgmedic.ComparedValues || table.NotByValue != "" {
			t.Errorf("%s: compared by %q: %s", table.Table, table.Compared, table.NotByValue)
		}
	}
	fixture.Exec(t, dsn, done.CleanUp)

	var once sync.Once
	o.Progress = func(e pgmedic.Event) {
		if e.Step == "compare" && e.Object == `"public"."odd"` {
			once.Do(func() { fixture.Exec(t, dsn, "UPDATE "+rescueSchemas(t, dsn)[0]+".odd SET p = 9 WHERE id = 1") })
		}
	}
	_, err := rescue.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindIntegrity, `the rows of "public"."odd" that came back are not those that were read`)
	if left := rescueSchemas(t, dsn); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
}

// TestNotByValue: sums that can't be compared with the rows of one table say why.
func TestNotByValue(t *testing.T) {
	of := func(index int, columns ...string) digest.Table {
		return digest.Table{Index: index, Format: pgmedic.CopyText, Columns: columns}
	}
	sums := &digest.Database{Tables: []digest.Table{of(0, "a", "b"), of(1, "b", "a"), of(2, "a", "b"), {Index: 3, Format: pgmedic.CopyBinary, Columns: []string{"a", "b"}}}}
	for want, tables := range map[string][]int{
		"": {0, 2}, "partitions have their columns in different orders or forms": {0, 3}, "the backup has no sum of the rows": {0, 4},
	} {
		if got := rescue.NotByValue(sums, tables); got != want {
			t.Errorf("%v: %q, want %q", tables, got, want)
		}
	}
	if rescue.NotByValue(sums, []int{2, 1}) == "" || rescue.NotByValue(nil, []int{0}) == "" {
		t.Error("columns in another order, or no sums at all, are taken for comparable")
	}
}
