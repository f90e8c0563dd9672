package pool_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestLag holds up two standbys in turn and in different ways: reads go where
// they are fresh, and a token is kept to everywhere.
func TestLag(t *testing.T) { onMajors(t, lag) }

// onMajors runs a test on PostgreSQL 15 in make test, and on 17 in make test-all.
func onMajors(t *testing.T, test func(t *testing.T, major int)) {
	for _, major := range []int{15, 17} {
		if major == 15 && testkit.Rest() {
			continue
		}
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			if major != 15 {
				testkit.OnlyAll(t, "it takes long")
			}
			t.Parallel()
			test(t, major)
		})
	}
}

func lag(t *testing.T, major int) {
	c := newCluster(t, major, 2)
	db := open(t, pool.Config{
		PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), HealthInterval: 50 * time.Millisecond,
		MaxLag: 10 * time.Second, MaxLagBytes: 1 << 20,
	})
	exec(t, db, "CREATE TABLE t (n int)")
	exec(t, db, "CREATE TABLE bulk (b text)")
	ports := []string{strconv.Itoa(c.standbys[0].Port()), strconv.Itoa(c.standbys[1].Port()), strconv.Itoa(c.primary.Port())}
	// readsGoTo waits until of many reads each went to one of these.
	readsGoTo := func(t *testing.T, wanted ...string) {
		t.Helper()
		testkit.Eventually(t, time.Minute, "reads go to all of, and only to, "+wanted[0], func() bool {
			seen := map[string]bool{}
			for range 40 {
				seen[one[string](t, db.Read(t.Context()), "SELECT current_setting('port')")] = true
			}
			for _, port := range wanted {
				if !seen[port] {
					return false
				}
			}
			return len(seen) == len(wanted)
		})
	}
	// holds writes, and reads with the token of it.
	holds := func(t *testing.T) {
		t.Helper()
		for range 20 {
			n := one[int](t, db, "INSERT INTO t SELECT count(*) FROM t RETURNING n")
			token, err := db.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := one[int](t, db.Read(pool.WithToken(t.Context(), token)), "SELECT max(n) FROM t"); got != n {
				t.Fatalf("a read with a token saw %d and not %d", got, n)
			}
		}
	}
	const bulk = "INSERT INTO bulk SELECT repeat(md5(n::text), 30) FROM generate_series(1, 4000) AS n"

	readsGoTo(t, ports[0], ports[1])
	holds(t)
	c.standbys[0].Pause(t)
	// Not behind yet as far as the limits go, and stale all the same.
	holds(t)
	exec(t, db, bulk)
	readsGoTo(t, ports[1])
	holds(t)
	if h := db.Health(t.Context()); h.Status != pool.StatusDegraded || h.Servers[1].Problem == "" || h.Servers[1].LagBytes < 1<<20 {
		t.Errorf("%+v", h)
	}

	// The other one is cut off from the primary: it has replayed all that it
	// received, and thinks that it is up to date.
	cut := testkit.Connect(t, c.standbys[1].DSN(c.name))
	way := ask[string](t, cut, "SHOW primary_conninfo")
	do(t, cut, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	testkit.Eventually(t, time.Minute, "the link is dead", func() bool { return ask[int](t, cut, "SELECT count(*)::int FROM pg_stat_wal_receiver") == 0 })
	exec(t, db, bulk)
	readsGoTo(t, ports[2])
	holds(t)

	do(t, cut, "ALTER SYSTEM SET primary_conninfo = '"+doubled(way)+"'", "SELECT pg_reload_conf()")
	c.standbys[0].Resume(t)
	readsGoTo(t, ports[0], ports[1])
	holds(t)
}

// TestStandbyBegunAnew: a standby that was started again may be further back than it
// said before. A token holds all the same.
func TestStandbyBegunAnew(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 2)
	fresh, stale := ":"+strconv.Itoa(c.standbys[0].Port()), ":"+strconv.Itoa(c.standbys[1].Port())
	var moved atomic.Bool
	db := open(t, pool.Config{
		PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas()[:1], HealthInterval: time.Hour, MaxLag: -1, TokenWait: 2 * time.Second,
		// What answers at this address from some time on is another standby, held up.
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			if host, isFresh := strings.CutSuffix(address, fresh); isFresh && moved.Load() {
				address = host + stale
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	})
	exec(t, db, "CREATE TABLE t (n int)")
	for _, s := range c.standbys {
		s.CatchUp(t)
	}
	c.standbys[1].Pause(t)
	exec(t, db, "INSERT INTO t VALUES (1)")
	token, err := db.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := pool.WithToken(t.Context(), token)
	testkit.Eventually(t, time.Minute, "the standby is read", func() bool { return one[bool](t, db.Read(ctx), "SELECT pg_is_in_recovery()") })
	rows, err := db.Read(ctx).Query(ctx, "SELECT generate_series(1, 1000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() // the next read needs another connection
	moved.Store(true)
	if n := one[int](t, db.Read(ctx), "SELECT count(*) FROM t"); n != 1 {
		t.Error("a read with a token did not see its write")
	}
	// Without a token that is the standby's to answer.
	if n := one[int](t, db.Read(t.Context()), "SELECT count(*) FROM t"); n != 0 {
		t.Error("nothing was shown")
	}
}

func doubled(s string) string {
	var b []byte
	for i := range len(s) {
		if b = append(b, s[i]); s[i] == '\'' {
			b = append(b, '\'')
		}
	}
	return string(b)
}

// TestRename swaps the database by rename under the sessions of a standby, as a
// restore does: they stay in the old one, and the pool leaves them.
func TestRename(t *testing.T) { onMajors(t, rename) }

func rename(t *testing.T, major int) {
	c := newCluster(t, major, 1)
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), HealthInterval: 100 * time.Millisecond})
	exec(t, db, "CREATE TABLE t AS SELECT 'old' AS what")
	c.standbys[0].CatchUp(t)
	read := func() (what string, standby bool) {
		err := db.Read(t.Context()).QueryRow(t.Context(), "SELECT what, pg_is_in_recovery() FROM t").Scan(&what, &standby)
		if err != nil {
			t.Fatal(err)
		}
		return what, standby
	}
	testkit.Eventually(t, time.Minute, "the standby is read", func() bool {
		what, standby := read()
		return standby && what == "old"
	})
	swap(t, c)
	// Without a fault a read on the old database is bounded by the probes; from
	// the first that sees the new one on, none may see the old.
	testkit.Eventually(t, time.Minute, "the standby's new database is read", func() bool {
		what, standby := read()
		return standby && what == "new"
	})
	for range 100 {
		if what, _ := read(); what != "new" {
			t.Fatalf("a session is still in the %s database", what)
		}
	}
	testkit.Eventually(t, time.Minute, "all is well again", func() bool { return db.Health(t.Context()).Status == pool.StatusOK })
}

// swap puts another database in the place of the cluster's.
func swap(t *testing.T, c *cluster) {
	t.Helper()
	do(t, testkit.Connect(t, c.primary.DSN("postgres")), "CREATE DATABASE swapped TEMPLATE template0")
	fresh := testkit.Connect(t, c.primary.DSN("swapped"))
	do(t, fresh, "CREATE TABLE t AS SELECT 'new' AS what")
	if err := fresh.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := testkit.Connect(t, c.primary.DSN("postgres"))
	do(t, conn, "ALTER DATABASE "+c.name+" ALLOW_CONNECTIONS false")
	testkit.Eventually(t, time.Minute, "nobody is in the old database", func() bool {
		do(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+c.name+"'")
		return ask[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = $1", c.name) == 0
	})
	do(t, conn, "ALTER DATABASE "+c.name+" RENAME TO outdated", "ALTER DATABASE swapped RENAME TO "+c.name)
	c.standbys[0].CatchUp(t)
}
