package inplace_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/inplace"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// numbers are what was done with the rows of a table.
func numbers(t inplace.Table) [3]int64 {
	var n [3]int64
	for i, p := range []*int64{t.Inserted, t.Updated, t.Deleted} {
		if p != nil {
			n[i] = *p
		}
	}
	return n
}

// TestMissingRows puts back what was deleted and keeps what was written since, from both
// kinds of backup, with the triggers as they were and the next identity free.
func TestMissingRows(t *testing.T) {
	for name, method := range fixture.Methods(t, 2) {
		t.Run(name, func(t *testing.T) {
			dsn, c, b := fixture.Ward(t, server, method,
				"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the trigger fires''; END'",
				"CREATE TRIGGER a BEFORE INSERT ON patients FOR EACH ROW EXECUTE FUNCTION no()", "CREATE TRIGGER b AFTER INSERT ON patients EXECUTE FUNCTION no()",
				"ALTER TABLE patients ENABLE ALWAYS TRIGGER a", "CREATE TRIGGER c AFTER INSERT ON patients EXECUTE FUNCTION no()", "ALTER TABLE patients DISABLE TRIGGER c",
				"CREATE TABLE beds (ward int, bed int, patient int REFERENCES patients, PRIMARY KEY (ward, bed))", "INSERT INTO beds SELECT n / 10, n % 10, n FROM generate_series(1, 50) AS n")
			schema, rows := schemaAndRows(t, server, dsn)
			fixture.Exec(t, dsn, "DELETE FROM beds WHERE bed > 3", "DELETE FROM patients WHERE id > 2000", "ALTER TABLE patients DISABLE TRIGGER USER",
				"INSERT INTO patients (name) VALUES ('new since')", "UPDATE patients SET name = 'married' WHERE id = 8", "ALTER SEQUENCE patients_id_seq RESTART",
				"ALTER TABLE patients ENABLE TRIGGER b", "ALTER TABLE patients ENABLE ALWAYS TRIGGER a",
				"CREATE FUNCTION deny() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''the event trigger fires''; END'",
				"CREATE EVENT TRIGGER deny ON ddl_command_start EXECUTE FUNCTION deny()")
			o := options(t, dsn, c, b, "beds", "patients")
			o.MissingRows = true
			var plans []inplace.Plan
			o.Confirm = func(p inplace.Plan) error { plans = append(plans, p); return nil }
			done := mustRun(t, o)
			if len(plans) != 1 || numbers(plans[0].Tables[1]) != [3]int64{1000} || !plans[0].Tables[1].TriggersOff || plans[0].Tables[0].TriggersOff {
				t.Errorf("the plan was %+v", plans)
			}
			if numbers(done.Tables[0]) != [3]int64{numbers(plans[0].Tables[0])[0]} || numbers(done.Tables[1]) != [3]int64{1000} || done.Degraded() != nil {
				t.Errorf("it did %+v", done)
			}
			if got := fixture.Query[string](t, dsn, "SELECT name FROM patients WHERE id = 8 OR name = 'new since' ORDER BY 1"); !slices.Equal(got, []string{"married", "new since"}) {
				t.Errorf("what was written since is %q", got)
			}
			if got := fixture.Query[bool](t, dsn, "SELECT bool_and(id < nextval('patients_id_seq')) FROM patients")[0]; !got {
				t.Error("the next identity is not free")
			}
			fixture.Exec(t, dsn, "DROP EVENT TRIGGER deny", "DROP FUNCTION deny", "DELETE FROM patients WHERE name = 'new since'", "UPDATE patients SET name = '"+fixture.PatientData+"8' WHERE id = 8")
			wantSchema(t, server, dsn, schema, rows)
		})
	}
}

// TestReplacedRows gives damaged and truncated tables the rows of the backup, and keeps
// those that they had. Views and keys stay, and rows to which others refer are not removed.
func TestReplacedRows(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{Jobs: 2}, "CREATE VIEW seen AS SELECT * FROM patients", "CREATE TABLE beds (bed int PRIMARY KEY, patient int REFERENCES patients ON DELETE CASCADE)")
	schema, rows := schemaAndRows(t, server, dsn)
	fixture.Exec(t, dsn, "UPDATE patients SET name = 'wrong' WHERE id % 3 = 0", "TRUNCATE notes", "DELETE FROM patients WHERE id BETWEEN 100 AND 200",
		"INSERT INTO patients (name) VALUES ('added')", "INSERT INTO beds SELECT 1, id FROM patients WHERE name = 'added'")
	// A copy that is dropped before the rows are put back is an error, and nothing else.
	gone := options(t, dsn, c, b, "notes")
	gone.Confirm = func(p inplace.Plan) error {
		fixture.Exec(t, dsn, "DROP SCHEMA "+p.Schema+" CASCADE")
		return nil
	}
	_, err := inplace.Run(t.Context(), gone)
	fixture.WantKind(t, err, pgmedic.KindConflict, "notes", "was dropped meanwhile")
	_, err = inplace.Run(t.Context(), options(t, dsn, c, b, "patients", "notes"))
	fixture.WantKind(t, err, pgmedic.KindConflict, "beds", "beds_patient_fkey")
	if pgmedic.HintOf(err) == "" {
		t.Error("there is no hint")
	}
	fixture.Exec(t, dsn, "DELETE FROM beds")
	// What a rescue brought back before is used again.
	done := mustRun(t, options(t, dsn, c, b, "patients", "notes"))
	notes, patients := done.Tables[0], done.Tables[1]
	if numbers(notes) != [3]int64{100} || notes.KeptAs != "" || numbers(patients) != [3]int64{101, 967, 1} || patients.KeptAs == "" {
		t.Errorf("it did %v with notes and %v with patients: %+v", numbers(notes), numbers(patients), done)
	}
	plan, _, err := rescue.PlanPrune(t.Context(), fixture.Target(t, dsn), "postgres", []string{done.Schema})
	if i := slices.IndexFunc(plan, func(s rescue.PrunedSchema) bool { return s.Schema == done.Schema }); err != nil || i < 0 || plan[i].Replaced != 1 || !strings.Contains(plan[i].Reason, "1 table of it") {
		t.Errorf("prune has %+v: %v", plan, err)
	}
	if got := fixture.Query[int](t, dsn, "SELECT count(*) FROM "+patients.KeptAs+" WHERE name IN ('wrong', 'added')")[0]; got != 968 {
		t.Errorf("%d of the replaced rows are kept", got)
	}
	wantSchema(t, server, dsn, schema, rows)
}

// TestNothingConfirmed leaves everything as it is if the plan is refused.
func TestNothingConfirmed(t *testing.T) {
	testkit.OnlyAll(t, "TestRestoreInPlace does not confirm such a plan")
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	fixture.Exec(t, dsn, "DROP TABLE patients CASCADE", "DELETE FROM notes WHERE patient = 1", "INSERT INTO notes VALUES (9999, 'points nowhere')")
	schema, rows := schemaAndRows(t, server, dsn)
	var plans []inplace.Plan
	o := options(t, dsn, c, b, "patients")
	o.Confirm = func(p inplace.Plan) error {
		if plans = append(plans, p); len(p.LeftOut) > 0 {
			return pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "no")
		}
		return nil
	}
	_, err := inplace.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindNotConfirmed, "as they were")
	if len(plans) != 2 || len(plans[1].LeftOut) != 1 || !strings.Contains(plans[1].LeftOut[0].Object, "notes_patient_fkey") {
		t.Errorf("the plans were %+v", plans)
	}
	wantSchema(t, server, dsn, schema, rows)
	// Accepted, the key is there for new rows, and the result says that it is not valid.
	done := mustRun(t, options(t, dsn, c, b, "patients"))
	fixture.WantKind(t, done.Degraded(), pgmedic.KindDegraded, "notes_patient_fkey")
	if got := fixture.Query[bool](t, dsn, "SELECT convalidated FROM pg_constraint WHERE conname = 'notes_patient_fkey'"); !slices.Equal(got, []bool{false}) {
		t.Errorf("the key is valid: %v", got)
	}
	// No new patient gets the note that points nowhere.
	if got := fixture.Query[int](t, dsn, "INSERT INTO patients (name) VALUES ('next') RETURNING id"); got[0] != 10000 {
		t.Errorf("the next patient has number %d", got[0])
	}
}

// TestLocked gives up after a lock that another session holds, and is interrupted while it
// waits for one: neither changes a row, also of the table that was done before.
func TestLocked(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{}, "ALTER TABLE untouched ADD n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
	fixture.Exec(t, dsn, "DELETE FROM patients WHERE id > 2000", "DELETE FROM untouched WHERE n > 100")
	schema, rows := schemaAndRows(t, server, dsn)
	holder := testkit.Connect(t, dsn)
	// A row of a key that is to be put back: the insertion has to wait for what becomes of it.
	if _, err := holder.Exec(t.Context(), "BEGIN; INSERT INTO untouched (n) OVERRIDING SYSTEM VALUE VALUES (500)"); err != nil {
		t.Fatal(err)
	}
	o := options(t, dsn, c, b, "patients", "untouched")
	o.MissingRows, o.LockTimeout, o.Tries = true, 50*time.Millisecond, 2
	_, err := inplace.Run(t.Context(), o)
	fixture.WantKind(t, err, pgmedic.KindConflict, "as they were")

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ended := make(chan error, 1)
	o.LockTimeout = time.Hour
	go func() { _, err := inplace.Run(ctx, o); ended <- err }()
	testkit.Eventually(t, time.Minute, "the insertion waits", func() bool {
		return fixture.Query[int](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%OVERRIDING%'")[0] > 0
	})
	stop := errors.New("the power button")
	cancel(stop)
	if err := <-ended; !errors.Is(err, stop) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := holder.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	wantSchema(t, server, dsn, schema, rows)
}

// TestWrittenMeanwhile keeps a row that another session inserts while the missing ones are
// put back.
func TestWrittenMeanwhile(t *testing.T) {
	testkit.OnlyAll(t, "TestLocked waits in the same place")
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{}, "ALTER TABLE untouched ADD n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
	fixture.Exec(t, dsn, "DELETE FROM untouched WHERE n > 100")
	holder := testkit.Connect(t, dsn)
	if _, err := holder.Exec(t.Context(), "BEGIN; INSERT INTO untouched (n, t) OVERRIDING SYSTEM VALUE VALUES (500, 'theirs')"); err != nil {
		t.Fatal(err)
	}
	o := options(t, dsn, c, b, "untouched")
	o.MissingRows = true
	type ending struct {
		done *inplace.Result
		err  error
	}
	ended := make(chan ending, 1)
	go func() { done, err := inplace.Run(t.Context(), o); ended <- ending{done, err} }()
	testkit.Eventually(t, time.Minute, "the insertion waits", func() bool {
		return fixture.Query[int](t, dsn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%OVERRIDING%'")[0] > 0
	})
	if _, err := holder.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	e := <-ended
	if e.err != nil {
		t.Fatal(e.err)
	}
	if numbers(e.done.Tables[0]) != [3]int64{1899} {
		t.Errorf("it did %v", numbers(e.done.Tables[0]))
	}
	if got := fixture.Query[string](t, dsn, "SELECT t FROM untouched WHERE n = 500"); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("the row is %q", got)
	}
}

// TestWithoutRows refuses to replace rows by none where the backup has but a definition.
func TestWithoutRows(t *testing.T) {
	testkit.OnlyAll(t, "few backups have tables without rows")
	dsn, _, _ := fixture.Ward(t, server, backup.Parallel{})
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Method, o.Patterns.ExcludeTableData = backup.Parallel{}, []string{"untouched"}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = inplace.Run(t.Context(), options(t, dsn, c, b, "untouched"))
	fixture.WantKind(t, err, pgmedic.KindUsage, "untouched", "replaced by nothing")
	if n := fixture.Query[int](t, dsn, "SELECT count(*) FROM untouched")[0]; n != 2000 {
		t.Errorf("%d rows are left", n)
	}
}

// TestRefused names what can't be done before anything is.
func TestRefused(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Plain{}, "CREATE TABLE named (n int PRIMARY KEY)")
	for _, tt := range []struct {
		name, sql, table string
		missing          bool
		kind             pgmedic.Kind
		words            []string
	}{
		{"no key", "", "notes", true, pgmedic.KindUsage, []string{"primary key"}},
		{"no key and rows", "DELETE FROM notes WHERE patient = 1", "notes", false, pgmedic.KindUsage, []string{"primary key"}},
		{"rules", "CREATE RULE r AS ON INSERT TO untouched DO ALSO NOTHING", "untouched", false, pgmedic.KindUsage, []string{"rules"}},
		{"another kind", "DROP TABLE named; CREATE VIEW named AS SELECT 1 AS n", "named", false, pgmedic.KindConflict, []string{"not a table"}},
		{"definitions of a plain backup", "DROP VIEW named", "named", false, pgmedic.KindUsage, []string{"plain"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.sql != "" {
				for sql := range strings.SplitSeq(tt.sql, "; ") {
					fixture.Exec(t, dsn, sql)
				}
			}
			o := options(t, dsn, c, b, tt.table)
			o.MissingRows = tt.missing
			_, err := inplace.Run(t.Context(), o)
			fixture.WantKind(t, err, tt.kind, tt.words...)
			if tables := fixture.Query[int](t, dsn, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT IN ('patients', 'notes', 'untouched', 'named')"); tables[0] != 0 {
				t.Errorf("%d tables were made", tables[0])
			}
		})
	}
}
