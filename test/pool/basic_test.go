package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// open opens a pool that ends with the test.
func open(t *testing.T, config pool.Config) *pool.DB {
	t.Helper()
	if config.PrimaryURL == "" {
		config.PrimaryURL = scratchtest.Database(t, server)
	}
	db, err := pool.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := db.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return db
}

// openTight opens a pool whose acquire timeout is short. It bounds Open, too, which
// on a busy machine takes its time.
func openTight(t *testing.T, config pool.Config) *pool.DB {
	t.Helper()
	config.StartDegraded = true
	db := open(t, config)
	testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Health(t.Context()).Status == pool.StatusOK && db.Ping(t.Context()) == nil })
	return db
}

// asked is one for pools with a short limit, which on a busy machine also a statement that
// does nothing may run into: it is asked again.
func asked[T any](t *testing.T, q pool.Querier, sql string) (value T) {
	t.Helper()
	testkit.Eventually(t, time.Minute, "there is an answer within the limit: "+sql, func() bool {
		err := q.QueryRow(t.Context(), sql).Scan(&value)
		if err != nil && !errors.Is(err, pool.ErrQueryTimeout) {
			t.Fatalf("%s: %v", sql, err)
		}
		return err == nil
	})
	return value
}

func one[T any](t *testing.T, q pool.Querier, sql string, args ...any) (value T) {
	t.Helper()
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func exec(t *testing.T, q pool.Querier, sql string, args ...any) {
	t.Helper()
	if _, err := q.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestFeelsLikePgx: all that pgxpool does is done the same way.
func TestFeelsLikePgx(t *testing.T) {
	db := open(t, pool.Config{})
	ctx := t.Context()
	exec(t, db, "CREATE TABLE t (n int PRIMARY KEY, name text)")
	tag, err := db.Exec(ctx, "INSERT INTO t VALUES ($1, $2), ($3, $4)", 1, "one", 2, "two")
	if err != nil || tag.RowsAffected() != 2 {
		t.Fatalf("%v, %v", tag, err)
	}
	rows, err := db.Query(ctx, "SELECT n, name FROM t ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	type item struct {
		N    int
		Name string
	}
	items, err := pgx.CollectRows(rows, pgx.RowToStructByPos[item])
	if err != nil || len(items) != 2 || items[1] != (item{2, "two"}) {
		t.Fatalf("%v, %v", items, err)
	}
	n, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n", "name"}, pgx.CopyFromRows([][]any{{3, "three"}, {4, "four"}}))
	if err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	batch := &pgx.Batch{}
	batch.Queue("INSERT INTO t VALUES (5, 'five')")
	batch.Queue("SELECT count(*) FROM t").QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	if err := db.SendBatch(ctx, batch).Close(); err != nil || n != 5 {
		t.Fatalf("%d, %v", n, err)
	}
	if err := db.QueryRow(ctx, "SELECT n FROM t WHERE n = 100").Scan(&n); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("%v", err)
	}
	err = db.InTx(ctx, pool.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM t WHERE n > 2")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	err = db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error {
		exec(t, tx, "DELETE FROM t")
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	if got := one[int](t, db.Read(ctx), "SELECT count(*) FROM t"); got != 2 {
		t.Errorf("%d rows", got)
	}
	var std int
	if err := db.Stdlib().QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&std); err != nil || std != 2 {
		t.Errorf("%d, %v", std, err)
	}
	if h := db.Health(ctx); h.Status != pool.StatusOK || h.Servers[0].Role != "primary" || h.Servers[0].InUse != 0 {
		t.Errorf("%+v", h)
	}
}

// TestReplica: a read goes to the standby, a token waits for it, and a write
// does not go there.
func TestReplica(t *testing.T) {
	t.Parallel()
	primary := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, primary)
	name := nameOf(t, dsn)
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	db := open(t, pool.Config{PrimaryURL: primary.URL(name), ReplicaURLs: []string{standby.URL(name)}, HealthInterval: 200 * time.Millisecond})
	exec(t, db, "CREATE TABLE t AS SELECT 1 AS n")
	token, err := db.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx := pool.WithToken(t.Context(), token)
	if got := one[int](t, db.Read(ctx), "SELECT n FROM t"); got != 1 {
		t.Error(got)
	}
	// On a busy machine its first probe may come after Open.
	testkit.Eventually(t, time.Minute, "reads go to the standby", func() bool { return one[bool](t, db.Read(t.Context()), "SELECT pg_is_in_recovery()") })
	if one[bool](t, db, "SELECT pg_is_in_recovery()") {
		t.Error("a write went to the standby")
	}
}

func nameOf(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config.Database
}
