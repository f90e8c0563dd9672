package rescue_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescueEventTrigger brings a table back into a database in which event triggers
// refuse that. From PostgreSQL 17 on a session can do without them; before, the one
// that fires in every session is named, and left as it is.
func TestRescueEventTrigger(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{}, "CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''schema is frozen''; END'")
	for _, test := range []struct {
		name, trigger string
		named         bool
	}{
		{"ordinary", "EXECUTE FUNCTION frozen()", false},
		{"for schemas", "WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION frozen()", true},
		{"for tables", "WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION frozen()", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			fixture.Exec(t, dsn, `CREATE EVENT TRIGGER "Frozen" ON ddl_command_start `+test.trigger, "CREATE EVENT TRIGGER other ON sql_drop EXECUTE FUNCTION frozen()",
				"CREATE EVENT TRIGGER silent ON ddl_command_start EXECUTE FUNCTION frozen()") // it does not fire for a rescue, and is not to blame
			if test.named {
				fixture.Exec(t, dsn, `ALTER EVENT TRIGGER "Frozen" ENABLE ALWAYS`)
			}
			defer fixture.Exec(t, dsn, `DROP EVENT TRIGGER "Frozen"`, "DROP EVENT TRIGGER other", "DROP EVENT TRIGGER silent")
			done, err := rescue.Run(t.Context(), rescueOptions(t, dsn, c, b, "notes"))
			if !test.named || server.Major() >= 17 {
				if err != nil {
					t.Fatal(err)
				}
				fixture.Exec(t, dsn, `ALTER EVENT TRIGGER "Frozen" DISABLE`, "ALTER EVENT TRIGGER other DISABLE", "ALTER EVENT TRIGGER silent DISABLE", "DROP SCHEMA "+sqltext.QuoteIdent(done.Schema)+" CASCADE")
				return
			}
			fixture.WantKind(t, err, pgmedic.KindConflict, `event trigger "Frozen", which fires in every session, refuses it`)
			if hint := pgmedic.HintOf(err); !strings.Contains(hint, `ALTER EVENT TRIGGER "Frozen" DISABLE;`) {
				t.Errorf("the hint is %q", hint)
			}
			if left := rescueSchemas(t, dsn); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if state := fixture.Query[string](t, dsn, "SELECT evtenabled::text FROM pg_event_trigger WHERE evtname = 'Frozen'")[0]; state != "A" {
				t.Errorf("the trigger's state is %s", state)
			}
		})
	}
}
