package pool_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestSnapshot: the snapshot of a pool that is full names who has the connection, with its
// process and its statement, and who waits; a report reads it, and the metrics, as they are
// meant; and neither has a value.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 1, LeakAfter: time.Hour, AcquireTimeout: time.Minute})
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := tx.QueryRow(t.Context(), "SELECT pg_backend_pid() FROM (SELECT 'Ann') t").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := db.Exec(pool.WithTag(t.Context(), "GET /patients"), "SELECT 'Ben'")
		waited <- err
	}()
	testkit.Eventually(t, time.Minute, "a caller waits", func() bool { return db.Stats().Servers[0].Waiting == 1 && len(db.Snapshot().Servers[0].Waiters) == 1 })
	answer := httptest.NewRecorder()
	db.SnapshotHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/debug/pool", nil))
	var metrics bytes.Buffer
	if err := db.WriteMetrics(&metrics); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}

	var snapshot pool.Snapshot
	if err := json.Unmarshal(answer.Body.Bytes(), &snapshot); err != nil {
		t.Fatal(err)
	}
	server := snapshot.Servers[0]
	if answer.Code != http.StatusOK || snapshot.Format != pool.SnapshotFormat || snapshot.TakenAt.IsZero() || server.InUse != 1 || server.Max != 1 || server.Waiting != 1 ||
		len(server.Holders) != 1 || len(server.Waiters) != 1 {
		t.Fatalf("%d: %+v", answer.Code, snapshot)
	}
	h, w := server.Holders[0], server.Waiters[0]
	if int(h.PID) != pid || h.Running || h.SQL != "SELECT pg_backend_pid() FROM (SELECT ?) t" || !strings.Contains(h.TakenBy, "TestSnapshot") || h.Held <= 0 {
		t.Errorf("%+v", h)
	}
	if w.Tag != "GET /patients" || !strings.Contains(w.CalledBy, "TestSnapshot") || w.Waited <= 0 {
		t.Errorf("%+v", w)
	}
	if n := len(db.Snapshot().Servers[0].Waiters); n != 0 {
		t.Errorf("%d wait after all is done", n)
	}

	read, err := poolstate.Parse(answer.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	of := read.Servers[0]
	if !read.TakenAt.Equal(snapshot.TakenAt) || of.Server != server.Server || of.Role != "primary" || !of.Usable || of.InUse != 1 || of.Waiting != 1 || of.Max != 1 ||
		of.Acquired != server.Acquired || of.AcquireSeconds != server.AcquireTime.Seconds() || of.Opened != server.Opened ||
		of.Holders[0].PID != pid || of.Holders[0].Query != h.SQL || of.Holders[0].TakenBy != h.TakenBy || of.Waiters[0].Tag != w.Tag || of.Waiters[0].CalledBy != w.CalledBy {
		t.Errorf("%+v", read)
	}
	counted, err := poolstate.Parse(metrics.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if of := counted.Servers[0]; of.Server != server.Server || of.Role != "primary" || !of.Usable || of.InUse != 1 || of.Waiting != 1 || of.Max != 1 || of.Acquired != server.Acquired || of.Holders != nil {
		t.Errorf("%+v", counted)
	}
	if text := answer.Body.String() + metrics.String(); strings.Contains(text, "Ann") || strings.Contains(text, "Ben") {
		t.Errorf("a value: %s", text)
	}
}
