package restore_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestPublicationOfAnOrdinaryRole restores, as a role that is no superuser, what its
// owner may own only with a privilege on the database.
func TestPublicationOfAnOrdinaryRole(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	name := fixture.Target(t, dsn).Database()
	fixture.Exec(t, server.DSN("postgres"), "CREATE ROLE pub_owner", "CREATE ROLE pub_app", "CREATE ROLE pub_restorer LOGIN CREATEDB IN ROLE pub_owner, pub_app",
		"ALTER DATABASE "+name+" OWNER TO pub_owner", "GRANT CREATE ON DATABASE "+name+" TO pub_app")
	t.Cleanup(func() {
		fixture.Exec(t, dsn, "DROP OWNED BY pub_app CASCADE", "REASSIGN OWNED BY pub_owner TO CURRENT_USER")
		fixture.Exec(t, server.DSN("postgres"), "DROP ROLE pub_restorer", "DROP ROLE pub_app", "DROP ROLE pub_owner")
	})
	fixture.Exec(t, dsn, "SET ROLE pub_app", "CREATE SCHEMA app", "CREATE TABLE app.t (id int PRIMARY KEY)", "INSERT INTO app.t VALUES (1)", "CREATE PUBLICATION changes FOR TABLE app.t")
	for method, how := range fixture.Methods(t, 1) {
		t.Run(method, func(t *testing.T) {
			c := fixture.NewCatalog(t)
			o := fixture.BackupOptions(t, dsn, c)
			o.Method = how
			b, err := backup.Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			r := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
			r.Target = r.Target.With("user", "pub_restorer")
			if _, err := restore.Into(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if got := fixture.Query[string](t, server.DSN(r.Into), "SELECT pg_get_userbyid(pubowner)::text FROM pg_publication"); len(got) != 1 || got[0] != "pub_app" {
				t.Errorf("publications of %q", got)
			}
		})
	}
}
