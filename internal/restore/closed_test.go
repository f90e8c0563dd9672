package restore_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestClosedWhileLoading: rows are there long before row-level security covers
// them, and nobody else may connect until it does. Then who might before may.
func TestClosedWhileLoading(t *testing.T) {
	admin := server.DSN("postgres")
	fixture.Exec(t, admin, "CREATE ROLE closed_nurse", "CREATE ROLE closed_guest")
	t.Cleanup(func() { fixture.Exec(t, admin, "DROP ROLE closed_nurse", "DROP ROLE closed_guest") })
	for name, tt := range testkit.Some(t, 1, map[string]struct {
		access []string
		after  []bool // nurse, guest
	}{
		"as PostgreSQL has it": {nil, []bool{true, true}},
		"a list of its own":    {[]string{"REVOKE CONNECT ON DATABASE %I FROM PUBLIC", "GRANT CONNECT ON DATABASE %I TO closed_nurse"}, []bool{true, false}},
	}) {
		for _, method := range fixture.Methods(t, 2) {
			t.Run(name+" "+string(method.Name()), func(t *testing.T) {
				dsn := scratchtest.Database(t, server)
				fixture.Exec(t, dsn, "CREATE TABLE patients (id int)", "INSERT INTO patients VALUES (1)", "GRANT SELECT ON patients TO closed_nurse",
					"ALTER TABLE patients ENABLE ROW LEVEL SECURITY")
				for _, sql := range tt.access {
					fixture.Exec(t, dsn, "DO $$ BEGIN EXECUTE format('"+sql+"', current_database()); END $$")
				}
				t.Cleanup(func() { fixture.Exec(t, dsn, "DROP OWNED BY closed_nurse") })
				c := fixture.NewCatalog(t)
				o := fixture.BackupOptions(t, dsn, c)
				o.Method = method
				b, err := backup.Take(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				into := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
				may := func() []bool {
					return fixture.Query[bool](t, admin, "SELECT has_database_privilege(r, $1, 'CONNECT') FROM unnest(ARRAY['closed_nurse', 'closed_guest']) AS r", into.Into)
				}
				var during []bool
				into.Progress = func(e pgmedic.Event) {
					if e.Step == "analyze" && !e.Finished {
						during = may()
					}
				}
				if _, err := restore.Into(t.Context(), into); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(during, []bool{false, false}) || !slices.Equal(may(), tt.after) {
					t.Errorf("during the load %v, after it %v, want %v", during, may(), tt.after)
				}
				fixture.Exec(t, server.DSN(into.Into), "DROP OWNED BY closed_nurse")
			})
		}
	}
}
