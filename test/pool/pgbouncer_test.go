package pool_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// bouncer starts a PgBouncer in transaction mode, with two server sessions, in
// front of the server, and returns the connection string to a database by it.
func bouncer(t *testing.T, database string) (url string) {
	t.Helper()
	return scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "transaction", PoolSize: 2, Database: database})(database)
}

// TestPgBouncer puts PgBouncer in transaction mode in between, found out or told
// of: nothing relies on a session, and nothing stays in one.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]pool.Config{"found": {}, "told": {Pooler: pool.PoolerTransaction}} {
		t.Run(name, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)")
			config.PrimaryURL = bouncer(t, nameOf(t, dsn))
			db := open(t, config)
			config.QueryTimeout = time.Second
			hurried := open(t, config)
			if h := db.Health(t.Context()); !h.Servers[0].Pooler {
				t.Errorf("%+v", h)
			}
			var crowd sync.WaitGroup
			for n := range 10 {
				crowd.Go(func() { throughBouncer(t, db, n) })
			}
			crowd.Wait()
			if got, want := ask[int](t, conn, "SELECT count(*)::int FROM t"), 10*20; got != want {
				t.Errorf("%d rows instead of %d", got, want)
			}
			// The limit is kept to from here, over whichever session it is.
			if _, err := hurried.Exec(t.Context(), "SELECT pg_sleep(60)"); pool.Classify(err) != pool.ClassTimeout {
				t.Errorf("%v", err)
			}
			err := db.InTx(t.Context(), pool.TxOptions{StatementTimeout: 50 * time.Millisecond}, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "SELECT pg_sleep(60)")
				return err
			})
			if pool.Classify(err) != pool.ClassTimeout {
				t.Errorf("%v", err)
			}
			for range 10 {
				if got := one[string](t, db, "SELECT current_setting('statement_timeout')"); got != "0" {
					t.Errorf("a limit has stayed in the session: %s", got)
				}
				if got := one[int](t, db, "SELECT count(*) FROM pg_prepared_statements"); got != 0 {
					t.Errorf("%d prepared statements have stayed", got)
				}
			}
		})
	}
}

func throughBouncer(t *testing.T, db *pool.DB, n int) {
	for i := range 20 {
		var got int
		// The same text over and over is what would be prepared.
		if err := db.QueryRow(t.Context(), "SELECT $1::int + $2::int", n, i).Scan(&got); err != nil || got != n+i {
			t.Errorf("%d: %v", got, err)
		}
		err := db.InTx(t.Context(), pool.TxOptions{StatementTimeout: time.Minute}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "INSERT INTO t VALUES ($1)", i)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// newerBouncers are the releases whose PgBouncer (1.24 and 1.26 when this was written)
// keeps track of prepared statements, by the PostgreSQL that comes with them.
var newerBouncers = []int{17, 18}

// TestPgBouncerPrepared has PgBouncer keep track of prepared statements, which the
// sessions of a crowd share; found out it works as well, without them.
func TestPgBouncerPrepared(t *testing.T) {
	t.Parallel()
	for _, newer := range newerBouncers {
		for name, pooler := range map[string]pool.Pooler{"prepared": pool.PoolerPrepared, "found": pool.PoolerAuto} {
			t.Run(strconv.Itoa(newer)+" "+name, func(t *testing.T) {
				t.Parallel()
				dsn := scratchtest.Database(t, server)
				conn := testkit.Connect(t, dsn)
				do(t, conn, "CREATE TABLE t (n int)", "CREATE TABLE kept (j jsonb)")
				url := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{
					Mode: "transaction", PoolSize: 2, Database: nameOf(t, dsn), Newer: newer, Settings: []string{"max_prepared_statements = 100"},
				})(nameOf(t, dsn))
				db := open(t, pool.Config{PrimaryURL: url, Pooler: pooler, QueryTimeout: 30 * time.Second})
				if h := db.Health(t.Context()); !h.Servers[0].Pooler {
					t.Errorf("%+v", h)
				}
				var crowd sync.WaitGroup
				for n := range 10 {
					crowd.Go(func() { throughBouncer(t, db, n) })
				}
				crowd.Wait()
				if got, want := ask[int](t, conn, "SELECT count(*)::int FROM t"), 10*20; got != want {
					t.Errorf("%d rows instead of %d", got, want)
				}
				// What it is for: values whose type the server has to say.
				_, err := db.Exec(t.Context(), "INSERT INTO kept VALUES ($1)", struct{ A int }{5})
				if (err == nil) != (pooler == pool.PoolerPrepared) {
					t.Errorf("a struct as jsonb: %v", err)
				}
				if _, err := db.Exec(t.Context(), "INSERT INTO kept VALUES ($1)", `{"a": 5}`); err != nil {
					t.Errorf("text as jsonb: %v", err)
				}
				for range 10 {
					if got := one[string](t, db, "SELECT current_setting('statement_timeout')"); got != "0" {
						t.Errorf("a limit has stayed in the session: %s", got)
					}
				}
			})
		}
	}
}

// TestPgBouncerKeepsPlans: after a change of a table, PgBouncer prepares the same text
// no second time, so that the plan never fits. The pool does not go on for ever, and
// RECONNECT mends it, as docs/pool.md says.
func TestPgBouncerKeepsPlans(t *testing.T) {
	t.Parallel()
	for _, newer := range newerBouncers {
		t.Run(strconv.Itoa(newer), func(t *testing.T) {
			t.Parallel()
			dsn := scratchtest.Database(t, server)
			conn := testkit.Connect(t, dsn)
			do(t, conn, "CREATE TABLE t (n int)")
			url := scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{
				Mode: "transaction", PoolSize: 1, Database: nameOf(t, dsn), Newer: newer, Settings: []string{"max_prepared_statements = 100"},
			})(nameOf(t, dsn))
			db := open(t, pool.Config{PrimaryURL: url, Pooler: pool.PoolerPrepared, MaxConns: 2})
			const query = "SELECT * FROM t WHERE n = $1"
			exec(t, db, query, 1)
			do(t, conn, "ALTER TABLE t ADD COLUMN c int")
			_, err := db.Exec(t.Context(), query, 1)
			t.Logf("after ADD COLUMN: %v, %d retries", err, db.Stats().Retries)
			if n := db.Stats().Retries; n > 3 {
				t.Errorf("%d retries", n)
			}
			// A session of the server's that is new has no plans.
			endAll(t, conn)
			testkit.Eventually(t, time.Minute, "it is mended", func() bool { _, err := db.Exec(t.Context(), query, 1); return err == nil })
		})
	}
}

// TestPrismaThroughPgBouncer: a connection string as Prisma has them is understood
// behind PgBouncer, which refuses most parameters.
func TestPrismaThroughPgBouncer(t *testing.T) {
	t.Parallel()
	url := bouncer(t, nameOf(t, scratchtest.Database(t, server)))
	for _, more := range []string{"&pgbouncer=true&schema=public", "&schema=public", "&statement_cache_size=0&socket_timeout=10"} {
		db := open(t, pool.Config{PrimaryURL: url + more, AcquireTimeout: time.Minute})
		if got := one[int](t, db, "SELECT $1::int", 1); got != 1 {
			t.Errorf("%s: %d", more, got)
		}
	}
	db := open(t, pool.Config{PrimaryURL: server.URL(nameOf(t, scratchtest.Database(t, server))) + "&statement_cache_size=0&schema=public"})
	if got := one[string](t, db, "SELECT current_setting('search_path') WHERE $1::int = 1", 1); got != `"public"` {
		t.Errorf("without PgBouncer: %s", got)
	}
}

// TestPgBouncerRefuses: what somebody has to mend is said at once, and not tried again
// until the acquire timeout.
func TestPgBouncerRefuses(t *testing.T) {
	t.Parallel()
	url := bouncer(t, nameOf(t, scratchtest.Database(t, server)))
	for name, url := range map[string]string{
		"parameter": url + "&work_mem=1MB",
		"database":  strings.Replace(url, "?", "x?", 1),
	} {
		db, err := pool.Open(patience(t), pool.Config{PrimaryURL: url, AcquireTimeout: time.Hour})
		if err == nil {
			err = db.Shutdown(t.Context())
			t.Errorf("%s: opened; %v", name, err)
		} else if !errors.Is(err, pool.ErrNoPrimary) || !strings.Contains(pool.Hint(err), "database") || strings.Contains(err.Error(), "deadline") {
			t.Errorf("%s: %v (%s)", name, err, pool.Hint(err))
		}
	}
}

// TestPgBouncerLosesServer ends the server's session behind PgBouncer: it is a
// connection that was lost, so that a transaction is run again and a statement
// whose outcome nobody knows is reported as that.
func TestPgBouncerLosesServer(t *testing.T) {
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	db := open(t, pool.Config{PrimaryURL: bouncer(t, nameOf(t, dsn)), RetryDelay: 10 * time.Millisecond})
	tries := 0
	err := db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
		var pid int
		if err := tx.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			return err
		}
		if tries++; tries == 1 {
			do(t, conn, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
			testkit.Eventually(t, time.Minute, "the session has ended", func() bool {
				return ask[int](t, conn, "SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1", pid) == 0
			})
		}
		_, err := tx.Exec(t.Context(), "SELECT 1")
		return err
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries: %v", tries, err)
	}
	if _, err := db.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())"); pool.Classify(err) != pool.ClassOutcomeUnknown {
		t.Errorf("%v", err)
	}
}

// TestBackupSessionByPooler: the sessions of backups begin with their timeouts off,
// which PgBouncer refuses. It is noticed, and the session begins without.
func TestBackupSessionByPooler(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	dsn := scratchtest.Database(t, server)
	target, err := postgres.ParseTarget(dsn)
	if err != nil {
		t.Fatal(err)
	}
	by, err := postgres.ParseTarget(scratchtest.Bouncer(t, server, scratchtest.BouncerOptions{Mode: "session", PoolSize: 2})(target.Database()))
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		target postgres.Target
		pooler bool
	}{"the server": {target, false}, "PgBouncer": {by, true}} {
		conn, err := postgres.Connect(t.Context(), tt.target)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer postgres.Close(t.Context(), conn)
		if got := tt.target.As(conn).ThroughPooler(); got != tt.pooler {
			t.Errorf("%s is taken for a pooler: %t", what, got)
		}
	}
}
