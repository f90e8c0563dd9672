package pool_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

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
