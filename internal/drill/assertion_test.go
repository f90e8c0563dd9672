package drill_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/test/fixture"
)

func bound(n float64) *float64 { return &n }

// TestAssertions asks each kind of question of one copy, one drill for those
// that hold and one for each that does not.
func TestAssertions(t *testing.T) {
	dsn := patients(t, "CREATE SCHEMA clinic", "CREATE TABLE clinic.visits AS SELECT 12.50::numeric AS fee",
		"CREATE FUNCTION scribble() RETURNS int LANGUAGE sql AS 'DELETE FROM public.patients; SELECT 1'")
	name := fixture.Query[string](t, dsn, "SELECT current_database()::text")[0]
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+name+" SET search_path = clinic, public")
	c, b, _ := take(t, dsn, backup.Plain{})

	o := options(t, c, b)
	o.AssertionTimeout = time.Minute
	o.Assertions = []drill.Assertion{
		{Name: "true by default", SQL: "SELECT count(*) > 2000 FROM patients"},
		{Name: "a boolean", SQL: "SELECT count(*) > 5000 FROM patients", Expect: []string{"false"}},
		{Name: "a number", SQL: "SELECT count(*) FROM patients", Expect: []string{"3000"}},
		{Name: "the same number", SQL: "SELECT fee FROM visits", Expect: []string{"12.5"}},
		{Name: "a text", SQL: "SELECT name FROM patients WHERE id = 7", Expect: []string{patientData + "7"}},
		{Name: "rows", SQL: "SELECT id FROM patients ORDER BY id LIMIT 3", Expect: []string{"1", "2", "3"}},
		{Name: "bounds", SQL: "SELECT count(*) FROM patients", Min: bound(3000), Max: bound(3000)},
		{Name: "one bound", SQL: "SELECT avg(id) FROM patients", Min: bound(1)},
	}
	receipt, err := run(t.Context(), t, o)
	if err != nil || receipt.Proof != pgmedic.ProofProven {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if receipt.Counted.Assertions != len(o.Assertions) {
		t.Errorf("%d assertions were counted", receipt.Counted.Assertions)
	}

	wrong := []struct {
		a    drill.Assertion
		want string
	}{
		{drill.Assertion{SQL: "SELECT count(*) > 5000 FROM patients"}, "is false, not what is expected"},
		{drill.Assertion{SQL: "SELECT count(*) FROM patients", Expect: []string{"3001"}}, "is 3000, not what is expected"},
		{drill.Assertion{SQL: "SELECT count(*) FROM patients", Min: bound(3001)}, "is 3000, expected at least 3001"},
		{drill.Assertion{SQL: "SELECT count(*) FROM patients", Max: bound(2999.5)}, "is 3000, expected at most 2999.5"},
		{drill.Assertion{SQL: "SELECT name FROM patients WHERE id = 7", Expect: []string{"Joe"}}, "differs from what is expected"},
		{drill.Assertion{SQL: "SELECT name FROM patients WHERE id = 7", Min: bound(1)}, "is not a number, which min and max need"},
		{drill.Assertion{SQL: "SELECT max(id) FROM patients WHERE false", Min: bound(1)}, "is null, expected a number"},
		{drill.Assertion{SQL: "SELECT name FROM patients", Expect: []string{"a", "b"}}, "returns 3,000 rows, expected 2"},
		{drill.Assertion{SQL: "SELECT id FROM patients ORDER BY id LIMIT 2", Expect: []string{"1", "3"}}, "row 2 differs from what is expected"},
		{drill.Assertion{SQL: "SELECT true FROM patients WHERE false"}, "returns 0 rows, expected 1"},
		{drill.Assertion{SQL: "SELECT id, name FROM patients WHERE id = 7"}, "returns 2 columns, expected 1"},
		{drill.Assertion{SQL: "SELECT null::boolean"}, "is null, not what is expected"},
		{drill.Assertion{SQL: "SELECT no_such FROM patients"}, `could not be run: column "no_such" does not exist (SQLSTATE 42703)`},
		{drill.Assertion{SQL: "SELECT name::int FROM patients"}, "could not be run: invalid text representation (SQLSTATE 22P02)"},
		{drill.Assertion{SQL: "SELECT scribble()"}, "writes, and an assertion may only read"},
		{drill.Assertion{SQL: "COMMIT"}, "returns 0 rows, expected 1"},
		{drill.Assertion{SQL: "SELECT pg_sleep(100)"}, "took longer than 3.0 s (drill.assertion_timeout)"},
	}
	o = onServer(t, options(t, c, b), pgmedic.ScratchOnServer)
	o.AssertionTimeout = 3 * time.Second
	o.SkipAmcheck = "it is another test's"
	for i, w := range wrong {
		w.a.Name = strconv.Itoa(i)
		o.Assertions = append(o.Assertions, w.a)
	}
	receipt, err = run(t.Context(), t, o)
	failedDetail(t, receipt, err)
	wantProof(t, c, b, pgmedic.ProofFailed, 2)
	for i, w := range wrong {
		got := check(t, receipt, "assertion "+strconv.Itoa(i))
		if got.Outcome != pgmedic.OutcomeFailed || got.Detail != w.want || got.Hint == "" {
			t.Errorf("%s: %s %q, want %q", w.a.SQL, got.Outcome, got.Detail, w.want)
		}
		if strings.Contains(got.Detail, "Patient") || strings.Contains(got.Detail, "Joe") {
			t.Errorf("%s: the receipt holds a row: %s", w.a.SQL, got.Detail)
		}
	}
}

// TestAssertionIsNoSQL finds it out before anything is loaded, and blames nobody
// but the configuration.
func TestAssertionIsNoSQL(t *testing.T) {
	c, b, _ := clinic(t)
	for _, sql := range []string{"SELEKT 1", "SELECT 1; DROP TABLE patients", ""} {
		o := options(t, c, b)
		o.Assertions = []drill.Assertion{{Name: "typo", SQL: sql}}
		loaded := false
		at(&o, "create", func() { loaded = true })
		receipt, err := run(t.Context(), t, o)
		if sql == "" { // PostgreSQL takes it, and it returns nothing
			failedDetail(t, receipt, err)
			continue
		}
		if receipt != nil || loaded {
			t.Errorf("%s: receipt %+v, loaded %t", sql, receipt, loaded)
		}
		fixture.WantKind(t, err, pgmedic.KindUsage, `"typo"`)
	}
}
