package backup_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestRescuedSchemas: what a rescue left behind, as another role, neither keeps the
// nightly backup from being taken nor is in it, and the backup is a whole one.
func TestRescuedSchemas(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	role := "owner_" + fixture.Target(t, dsn).Database()
	rescued := postgres.RescueSchema("20260102T030405Z-0a1b2c")
	fixture.Exec(t, dsn, "CREATE ROLE "+role+" LOGIN", "CREATE TABLE claims (id int PRIMARY KEY)", "INSERT INTO claims SELECT generate_series(1, 10)",
		"ALTER TABLE claims OWNER TO "+role,
		// One that only looks like it is the user's.
		"CREATE SCHEMA pgmedic_rescue_mine AUTHORIZATION "+role, "CREATE TABLE pgmedic_rescue_mine.kept (id int)", "INSERT INTO pgmedic_rescue_mine.kept VALUES (1)",
		"ALTER TABLE pgmedic_rescue_mine.kept OWNER TO "+role,
		"CREATE SCHEMA "+rescued, "COMMENT ON SCHEMA "+rescued+" IS 'x'", "CREATE TABLE "+rescued+".claims (id serial PRIMARY KEY CHECK (id > 0))",
		"COMMENT ON TABLE "+rescued+".claims IS 'x'", "INSERT INTO "+rescued+".claims DEFAULT VALUES", "CREATE VIEW "+rescued+".v AS SELECT * FROM "+rescued+".claims",
		"ALTER DEFAULT PRIVILEGES IN SCHEMA "+rescued+" GRANT SELECT ON TABLES TO "+role,
	)
	t.Cleanup(func() { fixture.Exec(t, dsn, "DROP OWNED BY "+role+" CASCADE", "DROP ROLE "+role) })
	for _, method := range fixture.Methods(t, 2) {
		t.Run(string(method.Name()), func(t *testing.T) {
			o := fixture.BackupOptions(t, dsn, fixture.NewCatalog(t))
			o.Method, o.Target, o.ServerName = method, o.Target.With("user", role), "clinic"
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if b.Partial() || len(b.Tables) != 2 || b.Rows() != 11 {
				t.Errorf("partial %v, %d tables, %d rows", b.Partial(), len(b.Tables), b.Rows())
			}
			entry, err := o.Catalog.Get(t.Context(), b.ID, catalog.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			name := fixture.Name(t, server)
			done, err := restore.Into(t.Context(), fixture.RestoreOptions(t, server, o.Catalog, entry.Backup, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range done.Checks {
				if c.Outcome != pgmedic.OutcomeOK {
					t.Errorf("%s: %s %s", c.Name, c.Outcome, c.Detail)
				}
			}
			if n := fixture.Query[int](t, server.DSN(name), "SELECT count(*) FROM pg_namespace WHERE nspname = '"+rescued+"'")[0]; n != 0 {
				t.Error("the rescue's schema is in the copy")
			}
		})
	}
}
