package pool_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// overtaken holds a statement back until a request to cancel it has come and gone.
type overtaken struct {
	statement []byte
	cancelled chan struct{}
	once      sync.Once
}

// cancelCode is what a request to cancel has in the place of a protocol's version.
var cancelCode = []byte{0x04, 0xd2, 0x16, 0x2e}

type overtakenConn struct {
	net.Conn
	o         *overtaken
	cancelled bool
}

func (c *overtakenConn) Write(b []byte) (int, error) {
	if len(b) >= 8 && bytes.Equal(b[4:8], cancelCode) {
		c.cancelled = true
	} else if bytes.Contains(b, c.o.statement) {
		<-c.o.cancelled
		_ = c.SetWriteDeadline(time.Time{})
	}
	return c.Conn.Write(b)
}

func (c *overtakenConn) Close() error {
	err := c.Conn.Close()
	if c.cancelled {
		c.o.once.Do(func() { close(c.o.cancelled) })
	}
	return err
}

// TestCancelOvertakes has the request to cancel arrive before the statement: it
// is asked for again, and the connection is kept.
func TestCancelOvertakes(t *testing.T) {
	o := &overtaken{statement: []byte("pg_sleep(600)"), cancelled: make(chan struct{})}
	db := open(t, pool.Config{
		MaxConns: 1, CancelGrace: time.Minute,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &overtakenConn{Conn: conn, o: o}, nil
		},
	})
	var before, after int
	if err := db.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&before); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := db.Exec(ctx, "SELECT pg_sleep(600)")
	if class := pool.Classify(err); class != pool.ClassCanceled {
		t.Errorf("%s: %v", class, err)
	}
	if err := db.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&after); err != nil || after != before {
		t.Errorf("the connection was not kept: %v", err)
	}
}

// lateConn delivers a request to cancel late, and even if the client has given up on
// it meanwhile, as a slow link does.
type lateConn struct {
	net.Conn
	cancel              bool
	delivered, givingUp chan struct{}
	once                sync.Once
}

func (c *lateConn) Write(b []byte) (int, error) {
	if len(b) < 8 || !bytes.Equal(b[4:8], cancelCode) {
		return c.Conn.Write(b)
	}
	c.cancel = true
	late := bytes.Clone(b)
	time.AfterFunc(400*time.Millisecond, func() {
		defer close(c.delivered)
		_, _ = c.Conn.Write(late)
		_, _ = io.Copy(io.Discard, c.Conn)
		_ = c.Conn.Close()
	})
	return len(b), nil
}

func (c *lateConn) Read(b []byte) (int, error) {
	if !c.cancel {
		return c.Conn.Read(b)
	}
	select {
	case <-c.delivered:
		return 0, io.EOF
	case <-c.givingUp:
		return 0, os.ErrDeadlineExceeded
	}
}

// SetDeadline is how pgx gives up.
func (c *lateConn) SetDeadline(d time.Time) error {
	if err := c.Conn.SetDeadline(d); d.IsZero() || d.After(time.Now()) {
		return err
	}
	c.once.Do(func() { close(c.givingUp) })
	return c.Conn.SetDeadline(time.Time{})
}

func (c *lateConn) Close() error {
	if c.cancel {
		return nil // when it is delivered
	}
	return c.Conn.Close()
}

// TestCancelLate has the request to cancel arrive after its statement has ended by
// itself: it does not hit the next one.
func TestCancelLate(t *testing.T) {
	t.Parallel()
	db := open(t, pool.Config{
		MaxConns: 1, CancelGrace: time.Minute,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &lateConn{Conn: conn, delivered: make(chan struct{}), givingUp: make(chan struct{})}, nil
		},
	})
	exec(t, db, "SELECT 1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _ = db.Exec(ctx, "SELECT pg_sleep(0.2)") // whether it ends in time is not the point
	if _, err := db.Exec(t.Context(), "SELECT pg_sleep(1)"); err != nil {
		t.Errorf("the next statement: %v", err)
	}
}

// TestCancelledByOthers has somebody else cancel a statement that has no limit: it
// was not too long.
func TestCancelledByOthers(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	db := open(t, pool.Config{PrimaryURL: dsn, QueryTimeout: -1})
	conn := testkit.Connect(t, dsn)
	done := make(chan error, 1)
	go func() {
		_, err := db.Exec(t.Context(), "SELECT pg_sleep(600)")
		done <- err
	}()
	testkit.Eventually(t, time.Minute, "the statement runs, and is cancelled", func() bool {
		return ask[int](t, conn, "SELECT count(pg_cancel_backend(pid))::int FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == 1
	})
	if err := <-done; err == nil || errors.Is(err, pool.ErrQueryTimeout) {
		t.Errorf("%v", err)
	}
}
