package inplace_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRowsOfOtherTablesStay has foreign keys that cascade on the tables whose rows are
// replaced, by ways that are easily missed: no row of a table that is not named goes.
func TestRowsOfOtherTablesStay(t *testing.T) { rowsOfOtherTablesStay(t, server) }

func rowsOfOtherTablesStay(t *testing.T, server *scratch.Server) {
	t.Helper()
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn,
		"CREATE TABLE days (at date, k int, PRIMARY KEY (at, k)) PARTITION BY RANGE (at)", "CREATE TABLE days_2025 PARTITION OF days FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
		"INSERT INTO days VALUES ('2025-01-02', 1)",
		"CREATE TABLE by_root (at date, k int, FOREIGN KEY (at, k) REFERENCES days ON DELETE CASCADE)", "CREATE TABLE by_part (at date, k int, FOREIGN KEY (at, k) REFERENCES days_2025 ON DELETE CASCADE)",
		"CREATE TABLE patients (id int PRIMARY KEY)", "CREATE TABLE visits (id int PRIMARY KEY, patient int REFERENCES patients ON DELETE CASCADE)",
		"CREATE TABLE notes (visit int REFERENCES visits ON DELETE CASCADE)", "INSERT INTO patients VALUES (1)", "INSERT INTO visits VALUES (1, 1), (2, 1)", "INSERT INTO notes VALUES (1)",
		"CREATE TABLE staff (id int PRIMARY KEY, chief int REFERENCES staff ON DELETE CASCADE)", "CREATE TABLE shifts (staff int REFERENCES staff ON DELETE CASCADE)",
		"INSERT INTO staff VALUES (1, 1), (2, 1)", "INSERT INTO shifts VALUES (2)",
		"CREATE TABLE wards (id int PRIMARY KEY)", "CREATE TABLE beds (id int PRIMARY KEY, ward int REFERENCES wards)", "INSERT INTO wards VALUES (1)", "INSERT INTO beds VALUES (1, 1)",
	)
	c := fixture.NewCatalog(t)
	taken := fixture.BackupOptions(t, dsn, c)
	taken.Method, taken.Tools.Dirs = backup.Parallel{}, []string{programs(server)}
	b, err := backup.Take(t.Context(), taken)
	if err != nil {
		t.Fatal(err)
	}
	fixture.Exec(t, dsn, "INSERT INTO days VALUES ('2025-01-02', 2), ('2025-01-02', 3)",
		"INSERT INTO patients VALUES (2)", "UPDATE visits SET patient = 2 WHERE id = 1",
		"INSERT INTO staff VALUES (3, 3), (4, 3)", "UPDATE staff SET chief = 3 WHERE id = 2",
		"INSERT INTO wards VALUES (2)", "UPDATE beds SET ward = 2", "DELETE FROM wards WHERE id = 1")
	count := func(table string) int { return fixture.Query[int](t, dsn, "SELECT count(*) FROM "+table)[0] }
	// Each key is read alone.
	for _, tt := range []struct{ by, named string }{{"by_root", "days_2025"}, {"by_root", "days"}, {"by_part", "days"}, {"by_part", "days_2025"}} {
		fixture.Exec(t, dsn, "INSERT INTO "+tt.by+" VALUES ('2025-01-02', 2)")
		_, err := inplace.Run(t.Context(), options(t, dsn, c, b, tt.named))
		fixture.WantKind(t, err, pgmedic.KindConflict, tt.by)
		if count(tt.by) != 1 || count("days") != 3 {
			t.Errorf("%s of %s: %d rows are left, and %d of days", tt.by, tt.named, count(tt.by), count("days"))
		}
		fixture.Exec(t, dsn, "DELETE FROM "+tt.by)
	}
	// A row that stays refers to one that is removed, and others refer to it.
	for _, tt := range []struct {
		named   []string
		others  string
		numbers [][3]int64
		rows    string
	}{
		{[]string{"patients", "visits"}, "notes", [][3]int64{{0, 0, 1}, {0, 1, 0}}, "SELECT id || ' ' || patient FROM visits ORDER BY 1"},
		{[]string{"staff"}, "shifts", [][3]int64{{0, 1, 2}}, "SELECT id || ' ' || chief FROM staff ORDER BY 1"},
		// By one that does not cascade the server would refuse it.
		{[]string{"beds", "wards"}, "beds", [][3]int64{{0, 1, 0}, {1, 0, 1}}, "SELECT id || ' ' || ward FROM beds"},
	} {
		done := mustRun(t, options(t, dsn, c, b, tt.named...))
		for i, table := range done.Tables {
			if numbers(table) != tt.numbers[i] || table.KeptAs == "" {
				t.Errorf("it did %+v with %s, want %v", numbers(table), table.Table, tt.numbers[i])
			}
		}
		if count(tt.others) != 1 {
			t.Errorf("%d rows of %s are left, want 1", count(tt.others), tt.others)
		}
		if got := fixture.Query[string](t, dsn, tt.rows); !slices.Equal(got, []string{"1 1", "2 1"}[:len(got)]) || len(got) == 0 {
			t.Errorf("%v has %q", tt.named, got)
		}
	}
}

// TestReferredToMeanwhile has another session refer to a row that is to be removed, and
// commit after the plan was made: its row stays, and so does the one that it refers to.
func TestReferredToMeanwhile(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{}, "CREATE TABLE beds (patient int REFERENCES patients ON DELETE CASCADE)")
	fixture.Exec(t, dsn, "INSERT INTO patients (name) VALUES ('new')")
	holder := testkit.Connect(t, dsn)
	if _, err := holder.Exec(t.Context(), "BEGIN; INSERT INTO beds SELECT id FROM patients WHERE name = 'new'"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := inplace.Run(t.Context(), options(t, dsn, c, b, "patients")); ended <- err }()
	testkit.Eventually(t, time.Minute, "it waits for the other session", func() bool {
		return fixture.Query[int](t, dsn, "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_blocking_pids(pid) @> ARRAY[$1::int]", holder.PgConn().PID())[0] > 0
	})
	if _, err := holder.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	fixture.WantKind(t, <-ended, pgmedic.KindConflict, "beds_patient_fkey")
	if n := fixture.Query[int](t, dsn, "SELECT count(*) FROM beds JOIN patients ON id = patient"); n[0] != 1 {
		t.Errorf("%d of the other session's rows are left", n[0])
	}
}

// TestLivedOnMeanwhile has the application write, and make the table again, while the plan is
// being read: what is lost by that is asked for, and no trigger of another table fires.
func TestLivedOnMeanwhile(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	fixture.Exec(t, dsn, "DELETE FROM notes", "DELETE FROM patients")
	o := options(t, dsn, c, b, "patients")
	refused := pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "no")
	var plans []inplace.Plan
	o.Confirm = func(p inplace.Plan) error {
		if plans = append(plans, p); len(plans) > 1 {
			return refused
		}
		fixture.Exec(t, dsn, "INSERT INTO patients (name) VALUES ('since')")
		return nil
	}
	_, err := inplace.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotConfirmed)
	if len(plans) != 2 || numbers(plans[0].Tables[0]) != [3]int64{3000} || numbers(plans[1].Tables[0]) != [3]int64{3000, 0, 1} || plans[1].LosesMore(plans[1]) {
		t.Errorf("the plans were %+v", plans)
	}
	if got := fixture.Query[string](t, dsn, "SELECT name FROM patients"); !slices.Equal(got, []string{"since"}) {
		t.Errorf("the rows are %q", got)
	}
	o.MissingRows = true
	o.Confirm = func(inplace.Plan) error {
		fixture.Exec(t, dsn, "DROP TABLE patients CASCADE", "CREATE TABLE patients (id int PRIMARY KEY, name text, born date)")
		return nil
	}
	_, err = inplace.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, "made again")
}

// TestAllKindsOfColumns corrects rows whose columns or keys are of kinds that need other
// statements.
func TestAllKindsOfColumns(t *testing.T) {
	testkit.OnlyAll(t, "few tables are like that")
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn,
		"CREATE TYPE feeling AS ENUM ('well', 'ill')", "CREATE FUNCTION alike(feeling) RETURNS text LANGUAGE sql AS 'SELECT ''x''::text'", "CREATE CAST (feeling AS text) WITH FUNCTION alike(feeling)",
		"CREATE TABLE numbered (id uuid PRIMARY KEY, no bigint GENERATED ALWAYS AS IDENTITY, x text)", "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, x text)",
		"CREATE TABLE felt (id int PRIMARY KEY, x feeling)", "CREATE TABLE felt_twice (x feeling)",
		"INSERT INTO numbered (id, x) VALUES ('00000000-0000-0000-0000-000000000001', 'a')", "INSERT INTO late VALUES (1, 'a'), (2, 'b')",
		"INSERT INTO felt VALUES (1, 'well'), (2, NULL), (3, 'ill')", "INSERT INTO felt_twice VALUES ('well'), ('well'), (NULL)")
	c, b := fixture.TakeBy(t, dsn, backup.Parallel{})
	schema, rows := schemaAndRows(t, server, dsn)
	fixture.Exec(t, dsn, "UPDATE numbered SET x = 'wrong'", "UPDATE late SET x = 'wrong'", "DELETE FROM late WHERE id = 2",
		"UPDATE felt SET x = 'ill' WHERE id < 3", "TRUNCATE felt_twice")
	done := mustRun(t, options(t, dsn, c, b, "felt", "felt_twice", "late", "numbered"))
	for i, want := range [][3]int64{{0, 2, 0}, {3, 0, 0}, {1, 1, 0}, {0, 1, 0}} {
		if got := numbers(done.Tables[i]); got != want {
			t.Errorf("it did %v with %s, want %v", got, done.Tables[i].Table, want)
		}
	}
	wantSchema(t, server, dsn, schema, rows)
}
