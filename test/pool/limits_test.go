package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestTimeoutOfEachCall: a statement that takes too long ends, whatever call it
// is of and whoever ends it, with one error, and its connection stays.
func TestTimeoutOfEachCall(t *testing.T) {
	for name, config := range map[string]pool.Config{
		"by the server": {QueryTimeout: 300 * time.Millisecond, CancelGrace: time.Minute},
		// Behind a pooler the server is not told.
		"by the client": {QueryTimeout: 300 * time.Millisecond, CancelGrace: time.Minute, Pooler: pool.PoolerTransaction},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.MaxConns = 1
			db := open(t, config)
			pid := asked[int](t, db, "SELECT pg_backend_pid()")
			sleeps := map[string]func() error{
				"Exec": func() error { _, err := db.Exec(t.Context(), "SELECT pg_sleep(100)"); return err },
				"QueryRow": func() error {
					var n string
					return db.QueryRow(t.Context(), "SELECT pg_sleep(100)::text").Scan(&n)
				},
				"Query": func() error {
					rows, err := db.Query(t.Context(), "SELECT pg_sleep(100)")
					for err == nil && rows.Next() {
					}
					return errors.Join(err, rows.Err())
				},
				"InTx": func() error {
					return db.InTx(t.Context(), pool.TxOptions{}, func(tx pgx.Tx) error {
						_, err := tx.Exec(t.Context(), "SELECT pg_sleep(100)")
						return err
					})
				},
			}
			for call, sleep := range sleeps {
				err := sleep()
				if !errors.Is(err, pool.ErrQueryTimeout) || pool.Classify(err) != pool.ClassTimeout || pool.Hint(err) == "" {
					t.Errorf("%s: %v", call, err)
				}
			}
			if got := asked[int](t, db, "SELECT pg_backend_pid()"); got != pid {
				t.Error("the connection is another one")
			}
			sleepLonger(t, db)
			if got := asked[string](t, db, "SHOW statement_timeout"); (got == "300ms") != (name == "by the server") {
				t.Errorf("afterwards statement_timeout is %s", got)
			}
		})
	}
}

// TestCancel: a call whose context ends returns that error, and its connection
// stays.
func TestCancel(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{MaxConns: 1})
	pid := one[int](t, db, "SELECT pg_backend_pid()")
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec(ctx, "SELECT pg_sleep(100)")
		done <- err
	}()
	other := open(t, pool.Config{})
	testkit.Eventually(t, time.Minute, "the statement runs", func() bool {
		return one[bool](t, other, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep')", pid)
	})
	cancel(why)
	if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, why) || pool.Classify(err) != pool.ClassCanceled {
		t.Errorf("%v", err)
	}
	if got := one[int](t, db, "SELECT pg_backend_pid()"); got != pid {
		t.Error("the connection is another one")
	}
}

// TestNoConnection: who waits in vain is told who has the connections, and who
// comes when too many wait is sent away.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	db := openTight(t, pool.Config{MaxConns: 1, MaxWaiting: 1, AcquireTimeout: 3 * time.Second})
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SELECT 'Jane Doe'"); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- db.Ping(t.Context()) }()
	testkit.Eventually(t, time.Minute, "somebody waits", func() bool { return db.Stats().Servers[0].Waiting == 1 })
	if err := db.Ping(t.Context()); !errors.Is(err, pool.ErrOverloaded) || pool.Classify(err) != pool.ClassOverload || pool.Hint(err) == "" {
		t.Errorf("the second who waits: %v", err)
	}
	err = <-waited
	var timeout *pool.AcquireTimeoutError
	if !errors.As(err, &timeout) || !errors.Is(err, pool.ErrPoolTimeout) || pool.Classify(err) != pool.ClassOverload || pool.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	if timeout.InUse != 1 || timeout.Max != 1 || len(timeout.Holders) != 1 || timeout.Holders[0].SQL != "SELECT ?" || timeout.Holders[0].Running {
		t.Errorf("%+v", timeout)
	}
	if strings.Contains(err.Error(), "Jane") {
		t.Error(err)
	}
	if s := db.Stats().Servers[0]; s.AcquireTimeouts != 1 || s.Rejected != 1 {
		t.Errorf("%+v", s)
	}
	conn.Release()
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestLogs: slow statements and connections held for long are logged, without
// any value, and each statement once in a while.
func TestLogs(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	db := open(t, pool.Config{
		Logger: slog.New(slog.NewJSONHandler(&log, nil)), SlowQuery: time.Millisecond, SlowQueryEvery: time.Hour, LeakAfter: 500 * time.Millisecond,
	})
	ctx := pool.WithTag(t.Context(), "patients.list")
	for range 3 {
		if _, err := db.Exec(ctx, "SELECT pg_sleep(0.02), 'Jane Doe', $1::text", "123-45-6789"); err != nil {
			t.Fatal(err)
		}
	}
	// random() keeps the planner from dividing before anybody sleeps.
	if _, err := db.Exec(ctx, "SELECT pg_sleep(0.02), 1/(length($1) - 11 + floor(random())::int)", "123-45-6789"); err == nil {
		t.Fatal("no error")
	}
	conn, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, "the leak is logged", func() bool { return strings.Contains(log.String(), "held for long") })
	conn.Release()
	text := log.String()
	for _, secret := range []string{"Jane", "45-6789", "division"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q:\n%s", secret, text)
		}
	}
	var slow []map[string]any
	for line := range strings.Lines(text) {
		entry := map[string]any{}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		switch entry["msg"] {
		case "slow statement":
			slow = append(slow, entry)
		case "a connection is held for long":
			if by, _ := entry["taken_by"].(string); !strings.HasPrefix(by, "github.com/pgmedic/pgmedic/test/pool_test.TestLogs:") {
				t.Errorf("taken by %s", by)
			}
		}
	}
	if len(slow) != 2 || slow[0]["tag"] != "patients.list" || slow[0]["statement"] != "SELECT pg_sleep(?), ?, $1::text" ||
		slow[1]["sqlstate"] != "22012" || slow[1]["outcome"] != "invalid" {
		t.Errorf("%v", slow)
	}
	if s := db.Stats(); s.SlowStatements < 4 || s.Servers[0].Leaks < 1 {
		t.Errorf("%+v", s)
	}
}

// lockedBuffer is written to by several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
