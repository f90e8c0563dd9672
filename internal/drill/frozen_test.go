package drill_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/drill"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestFrozenSchema drills a database with an event trigger that refuses all DDL in
// every session, with what a drill changes in its copy: amcheck, foreign servers,
// subscriptions, the assertions' role. The copy's trigger is as it was.
func TestFrozenSchema(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
		"CREATE EXTENSION postgres_fdw", "CREATE FOREIGN DATA WRAPPER own HANDLER public.postgres_fdw_handler",
		"CREATE SUBSCRIPTION asleep CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)", "ALTER SUBSCRIPTION asleep SET (slot_name = NONE)",
		"CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''schema is frozen''; END'",
		"CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION frozen()", "ALTER EVENT TRIGGER frozen ENABLE ALWAYS")
	t.Cleanup(func() {
		fixture.Exec(t, dsn, "ALTER EVENT TRIGGER frozen DISABLE", "DROP SUBSCRIPTION asleep")
	})
	for _, method := range []backup.Method{backup.Plain{}, backup.Parallel{}} {
		c := fixture.NewCatalog(t)
		o := fixture.BackupOptions(t, dsn, c)
		o.Method = method
		b, err := backup.Take(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		d := options(t, c, b)
		d.Assertions = []drill.Assertion{{Name: "frozen", SQL: "SELECT evtenabled::text FROM pg_event_trigger", Expect: []string{"A"}}}
		receipt, err := run(t.Context(), t, d)
		if err != nil || receipt.Outcome != pgmedic.OutcomeOK {
			t.Errorf("%s: %+v, %v", method.Name(), receipt, err)
		}
	}
}
