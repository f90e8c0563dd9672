package pool_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestFailover kills the primary under load and promotes a standby: no write is
// done twice, none that was acknowledged is lost, none that failed is done, and
// writes and reads are back on the other servers soon. docs/pool.md has what this
// test says with -v.
func TestFailover(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	for _, major := range []int{15, 17} {
		t.Run(strconv.Itoa(major), func(t *testing.T) { failover(t, major) })
	}
}

func failover(t *testing.T, major int) {
	c := newCluster(t, major, 2)
	old := testkit.Connect(t, c.primary.DSN(c.name))
	do(t, old, ledgerTable)
	for _, s := range c.standbys {
		s.CatchUp(t)
	}
	// Asynchronous standbys lose what was acknowledged, and no client can help.
	commitsWait(t, old, c.primary.DSN(c.name))
	do(t, old, "ALTER SYSTEM SET synchronous_standby_names = '2 (*)'", "SELECT pg_reload_conf()")
	testkit.Eventually(t, time.Minute, "replication is synchronous", func() bool {
		return ask[int](t, old, "SELECT count(*)::int FROM pg_stat_replication WHERE sync_state = 'sync'") == 2
	})

	const interval = 5 * time.Second
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), HealthInterval: interval})
	load := newLedger(t, db, 8)
	testkit.Eventually(t, time.Minute, "there is load", func() bool { return load.acknowledged() > 200 })
	kill(t, c.primary)

	a, b := testkit.Connect(t, c.standbys[0].DSN(c.name)), testkit.Connect(t, c.standbys[1].DSN(c.name))
	for _, conn := range []struct{ is func() bool }{
		{func() bool { return ask[int](t, a, "SELECT count(*)::int FROM pg_stat_wal_receiver") == 0 }},
		{func() bool { return ask[int](t, b, "SELECT count(*)::int FROM pg_stat_wal_receiver") == 0 }},
	} {
		testkit.Eventually(t, time.Minute, "the standbys have lost their primary", conn.is)
	}
	winner, loser, chosen := c.standbys[0], b, a
	const received = "SELECT pg_last_wal_receive_lsn()::text"
	if ask[bool](t, b, "SELECT pg_last_wal_receive_lsn() > $1::text::pg_lsn", ask[string](t, a, received)) {
		winner, loser, chosen = c.standbys[1], a, b
	}
	do(t, chosen, "SELECT pg_promote()", "SELECT pg_create_physical_replication_slot('follower')")
	promoted := time.Now()
	do(t, loser, "ALTER SYSTEM SET primary_conninfo = '"+conninfo(winner)+"'",
		"ALTER SYSTEM SET primary_slot_name = 'follower'", "SELECT pg_reload_conf()")

	port := strconv.Itoa(winner.Port())
	testkit.Eventually(t, time.Minute, "writes are acknowledged by the new primary", func() bool { return load.acknowledgedOn(port) > 0 })
	took := time.Since(promoted)
	t.Logf("PostgreSQL %d: the first write was acknowledged %s after the promotion", major, took.Round(time.Millisecond))
	// It takes a second in fact; a machine that is busy may take longer.
	if took > interval+time.Second {
		t.Errorf("longer than a health interval and a second")
	}
	testkit.Eventually(t, time.Minute, "all writers have gone on", func() bool { return load.acknowledgedOn(port) > 200 })
	testkit.Eventually(t, time.Minute, "the other standby is read from", func() bool {
		var standby bool
		err := db.Read(t.Context()).QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby)
		return err == nil && standby
	})
	load.check(t, chosen)
	if h := db.Health(t.Context()); h.Status != pool.StatusDegraded || h.Servers[0].Usable {
		t.Errorf("with a dead server health is %+v", h)
	}
}

// commitsWait has commits wait for standbys. First they wait for nobody, because sessions know
// the setting before the checkpointer has them wait, and only one that waits shows it.
func commitsWait(t *testing.T, conn *pgx.Conn, dsn string) {
	t.Helper()
	do(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	writer := testkit.Connect(t, dsn)
	testkit.Eventually(t, time.Minute, "commits wait", func() bool {
		done, waits := make(chan error, 1), false
		go func() {
			_, err := writer.Exec(t.Context(), "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'pgmedic', '')")
			done <- err
		}()
		testkit.Eventually(t, time.Minute, "a commit waits, or does not", func() bool {
			select {
			case err := <-done:
				done <- err
				return true
			default:
			}
			waits = ask[int](t, conn, "SELECT count(pg_cancel_backend(pid))::int FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == 1
			return waits
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return waits
	})
}

// conninfo is how a standby reaches another server, quoted for a setting.
func conninfo(s *scratchtest.Standby) string {
	return "host=127.0.0.1 port=" + strconv.Itoa(s.Port()) + " user=" + s.Superuser() + " password=" + s.Password() + " application_name=follower"
}

// TestFormerPrimary promotes a standby while the primary lives on, and is not
// told: the pool writes to the new one, and to the old one never again.
func TestFormerPrimary(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), HealthInterval: 100 * time.Millisecond})
	const port = "SELECT current_setting('port')"
	if got := one[string](t, db, port); got != strconv.Itoa(c.primary.Port()) {
		t.Fatalf("writes go to %s", got)
	}
	c.standbys[0].Promote(t)
	promoted := strconv.Itoa(c.standbys[0].Port())
	testkit.Eventually(t, time.Minute, "writes go to the promoted server", func() bool { return one[string](t, db, port) == promoted })
	for range 3 {
		seen := db.Health(t.Context()).Servers[0].ProbedAt
		testkit.Eventually(t, time.Minute, "there was another probe", func() bool { return db.Health(t.Context()).Servers[0].ProbedAt.After(seen) })
		for _, q := range []pool.Querier{db, db.Read(t.Context())} {
			if got := one[string](t, q, port); got != promoted {
				t.Fatalf("a former primary is used: port %s", got)
			}
		}
	}
	if h := db.Health(t.Context()); h.Status != pool.StatusDegraded || h.Servers[0].Usable || h.Servers[0].Problem == "" {
		t.Errorf("%+v", h)
	}
}
