package swap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/restore/swap"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestWithoutSynchronousStandby loses the standby that every commit of the server
// waits for: a swap, a rollback and a rescue do their work all the same, and nobody
// has to look what became of the swap's commit.
func TestWithoutSynchronousStandby(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	primary := scratchtest.New(t, scratch.Options{})
	admin := primary.DSN("postgres")
	dsn := scratchtest.Database(t, primary)
	live := fixture.Target(t, dsn).Database()
	fixture.Exec(t, dsn, "CREATE TABLE patients (id int PRIMARY KEY)", "INSERT INTO patients SELECT generate_series(1, 30)",
		"CREATE SUBSCRIPTION asleep CONNECTION '' PUBLICATION p WITH (connect = false, slot_name = NONE)")
	c := fixture.NewCatalog(t)
	b := fixture.TakeBackup(t, dsn, c)
	fixture.Exec(t, dsn, "DROP SUBSCRIPTION asleep", "INSERT INTO patients VALUES (31)")

	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{Name: "mirror"})
	fixture.Exec(t, admin, "ALTER SYSTEM SET synchronous_standby_names = 'mirror'", "SELECT pg_reload_conf()")
	t.Cleanup(func() {
		fixture.Exec(t, admin, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	})
	fixture.Exec(t, standby.DSN("postgres"), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	testkit.Eventually(t, time.Minute, "the primary has no standby, and waits for one", func() bool {
		return fixture.Query[int64](t, admin, "SELECT count(*) FROM pg_stat_replication")[0] == 0 &&
			fixture.Query[string](t, admin, "SHOW synchronous_standby_names")[0] == "mirror"
	})

	var said fixture.Said
	o := swap.Options{Options: fixture.RestoreOptions(t, primary, c, b, ""), Live: live, SkipSafety: "a test"}
	o.Logger = said.Logger()
	patients := func() int64 { return fixture.Query[int64](t, dsn, "SELECT count(*) FROM patients")[0] }
	if _, err := swap.Replace(t.Context(), o); err != nil || patients() != 30 {
		t.Fatalf("%d patients: %v", patients(), err)
	}
	if _, err := swap.Rollback(t.Context(), o); err != nil || patients() != 31 {
		t.Fatalf("%d patients after the rollback: %v", patients(), err)
	}
	if strings.Contains(said.String(), "commit") {
		t.Errorf("somebody had to look:\n%s", said.String())
	}
	ro := rescue.Options{Options: o.Options, Tables: []string{"patients"}}
	ro.Target = fixture.Target(t, dsn)
	if _, err := rescue.Run(t.Context(), ro); err != nil {
		t.Error(err)
	}
}
