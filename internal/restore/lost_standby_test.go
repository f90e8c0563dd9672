package restore_test

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestSwapWithoutSynchronousStandby loses the standby that every commit waits for,
// once the copy is loaded: a swap and a rollback end all the same, and nobody has
// to look what became of their commit.
func TestSwapWithoutSynchronousStandby(t *testing.T) {
	primary := scratchtest.New(t, scratch.Options{})
	admin := primary.DSN("postgres")
	dsn := scratchtest.Database(t, primary)
	live := fixture.Target(t, dsn).Database()
	t.Cleanup(func() { fixture.DropAll(t, primary, live+"__") })
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY)", "INSERT INTO patients SELECT generate_series(1, 30)")
	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	fixture.Exec(t, dsn, "INSERT INTO patients VALUES (31)")

	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{Name: "mirror"})
	fixture.Exec(t, admin, "ALTER SYSTEM SET synchronous_standby_names = 'mirror'", "SELECT pg_reload_conf()")
	t.Cleanup(func() {
		fixture.Exec(t, admin, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	})
	var said fixture.Said
	o := restore.SwapOptions{
		Options: fixture.RestoreOptions(t, primary, c, b, ""), Live: live, SkipSafety: "a test",
		Replicas: []postgres.Target{fixture.Target(t, standby.DSN("postgres"))},
	}
	o.Logger = said.Logger()
	o.Progress = func(e pgmedic.Event) {
		if e.Step != "compare" || e.Finished || e.Failed {
			return
		}
		fixture.Exec(t, standby.DSN("postgres"), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
		fixture.Eventually(t, "the primary has no standby", func() bool {
			return fixture.Query[int64](t, admin, "SELECT count(*) FROM pg_stat_replication")[0] == 0
		})
	}
	done, err := restore.Replace(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// It has not replayed the swap, and that is told.
	if err := done.Degraded(); pgmedic.KindOf(err) != pgmedic.KindDegraded {
		t.Errorf("the standby that is gone: %v", err)
	}
	if n := fixture.Query[int64](t, dsn, "SELECT count(*) FROM patients")[0]; n != 30 {
		t.Errorf("%d patients", n)
	}
	o.Replicas = nil
	if _, err := restore.Rollback(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if n := fixture.Query[int64](t, dsn, "SELECT count(*) FROM patients")[0]; n != 31 {
		t.Errorf("%d patients after the rollback", n)
	}
	if strings.Contains(said.String(), "commit") {
		t.Errorf("somebody had to look:\n%s", said.String())
	}
}
