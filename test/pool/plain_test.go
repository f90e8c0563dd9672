package pool_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestPlain: a plain pgxpool follows the primary and its ended sessions, and nothing of
// it counts as the pool's.
func TestPlain(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), HealthInterval: 100 * time.Millisecond})
	plain, err := db.NewPlain(t.Context(), pool.PlainOptions{MaxConns: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if got := plain.Config().MaxConns; got != 3 {
		t.Errorf("%d connections", got)
	}
	inRecovery := func() bool {
		t.Helper()
		var standby bool
		if err := plain.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
			t.Fatal(err)
		}
		return standby
	}
	if inRecovery() {
		t.Error("it leads to the standby")
	}
	if stats := db.Stats().Servers[0]; stats.InUse != 0 {
		t.Errorf("%+v", stats)
	}
	all := make([]*pgxpool.Conn, 3)
	for i := range all {
		if all[i], err = plain.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, conn := range all {
		conn.Release()
	}
	endAll(t, testkit.Connect(t, c.primary.DSN(c.name)))
	inRecovery()

	const port = "SELECT inet_server_port()"
	c.standbys[0].Promote(t)
	testkit.Eventually(t, time.Minute, "it follows the primary", func() bool {
		var got int
		return plain.QueryRow(t.Context(), port).Scan(&got) == nil && got == c.standbys[0].Port()
	})
}

// TestPlainNeedsPrimary: without a primary there is none, and of nonsense neither.
func TestPlainNeedsPrimary(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{PrimaryURL: "postgres://u@127.0.0.1:1/d?sslmode=disable", StartDegraded: true})
	if _, err := db.NewPlain(t.Context(), pool.PlainOptions{}); pool.Classify(err) != pool.ClassUnavailable {
		t.Errorf("%v", err)
	}
	healthy := open(t, pool.Config{PrimaryURL: scratchtest.Database(t, server)})
	if _, err := healthy.NewPlain(t.Context(), pool.PlainOptions{MaxConns: -1}); err == nil || pool.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}
