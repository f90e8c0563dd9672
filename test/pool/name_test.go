package pool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// name is a way to one of several servers, as a DNS name, a virtual address or a
// load balancer is: what is connected stays where it is when it leads elsewhere.
type name struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu     sync.Mutex
	to     string
	conns  map[net.Conn]struct{}
	closed bool
	// silent is set for the connections of now when they fall silent.
	silent *atomic.Bool
}

// mutable is one end of a connection, which loses what is written once it is silent.
type mutable struct {
	net.Conn
	silent *atomic.Bool
}

func (m mutable) Write(p []byte) (int, error) {
	if m.silent.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

func newName(t *testing.T, to *scratch.Server) *name {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &name{listener: listener, conns: map[net.Conn]struct{}{}, silent: &atomic.Bool{}}
	n.lead(to)
	n.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.serving.Go(func() { n.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		n.mu.Lock()
		n.closed = true
		n.mu.Unlock()
		n.cut()
		n.serving.Wait()
	})
	return n
}

func (n *name) serve(client net.Conn) {
	n.mu.Lock()
	to, silent := n.to, n.silent
	n.mu.Unlock()
	server, err := net.Dial("tcp4", to)
	if err != nil {
		_ = client.Close()
		return
	}
	n.mu.Lock()
	n.conns[client], n.conns[server] = struct{}{}, struct{}{}
	closed := n.closed
	n.mu.Unlock()
	end := func() { _, _ = client.Close(), server.Close() }
	if closed {
		end()
	}
	n.serving.Go(func() {
		defer end()
		_, _ = io.Copy(mutable{server, silent}, client)
	})
	_, _ = io.Copy(mutable{client, silent}, server)
	end()
	n.mu.Lock()
	delete(n.conns, client)
	delete(n.conns, server)
	n.mu.Unlock()
}

// lead has new connections go to that server.
func (n *name) lead(to *scratch.Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = net.JoinHostPort("127.0.0.1", strconv.Itoa(to.Port()))
}

// cut breaks all connections.
func (n *name) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for conn := range n.conns {
		_ = conn.Close()
	}
}

// mute has all connections fall silent, as a firewall does that forgets them.
func (n *name) mute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent.Store(true)
	n.silent = &atomic.Bool{}
}

// url is the connection string by the name.
func (n *name) url(server *scratch.Server, database string) string {
	return strings.Replace(server.URL(database), ":"+strconv.Itoa(server.Port())+"/", n.listener.Addr().String()[len("127.0.0.1"):]+"/", 1)
}

// write tries to write until the deadline, and fails the test if it can't.
func write(t *testing.T, db *pool.DB, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		_, err := db.Exec(ctx, "INSERT INTO t VALUES (1)")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no write within %s: %v", within, err)
		}
	}
}

// TestNameLeadsAstray: connections that were opened while the name led to a standby
// are not written to, and their refusal costs no call.
func TestNameLeadsAstray(t *testing.T) { onMajors(t, nameLeadsAstray) }

func nameLeadsAstray(t *testing.T, major int) {
	c := newCluster(t, major, 1)
	n := newName(t, c.primary)
	do(t, testkit.Connect(t, c.primary.DSN(c.name)), "CREATE TABLE t (n int)")
	c.standbys[0].CatchUp(t)
	db := open(t, pool.Config{PrimaryURL: n.url(c.primary, c.name), MaxConns: 4, HealthInterval: 500 * time.Millisecond})
	busy, err := db.Acquire(t.Context()) // the one that is open already
	if err != nil {
		t.Fatal(err)
	}
	n.lead(c.standbys[0].Server)
	var astray []*pool.Conn
	for range 3 {
		conn, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !one[bool](t, conn, "SELECT pg_is_in_recovery()") {
			t.Fatal("it does not lead to the standby")
		}
		astray = append(astray, conn)
	}
	// One that is refused a write says so.
	if _, err := astray[0].Exec(t.Context(), "INSERT INTO t VALUES (0)"); pool.Classify(err) != pool.ClassReadOnly {
		t.Errorf("%v", err)
	}
	n.lead(c.primary)
	busy.Release()
	for _, conn := range astray {
		conn.Release()
	}
	var crowd sync.WaitGroup
	for range 4 {
		crowd.Go(func() {
			for range 10 {
				if _, err := db.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
					t.Error(err)
				}
				var standby bool
				if err := db.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); err != nil || standby {
					t.Errorf("read from a standby: %t, %v", standby, err)
				}
			}
		})
	}
	crowd.Wait()
}

// TestNameComesBack: the name leads to a standby, and all sessions with it. As soon as
// it is right again, writes are back within a health interval and a second, although
// the sessions with the standby stay.
func TestNameComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 15, 1)
	n := newName(t, c.primary)
	do(t, testkit.Connect(t, c.primary.DSN(c.name)), "CREATE TABLE t (n int)")
	c.standbys[0].CatchUp(t)
	const interval = 5 * time.Second
	db := open(t, pool.Config{PrimaryURL: n.url(c.primary, c.name), MaxConns: 4, MinIdleConns: 2, HealthInterval: interval})
	write(t, db, interval)
	n.lead(c.standbys[0].Server)
	n.cut()
	testkit.Eventually(t, time.Minute, "there is no primary", func() bool {
		h := db.Health(t.Context())
		return h.Status == pool.StatusDown && h.Servers[0].Role == "standby"
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.Exec(ctx, "INSERT INTO t VALUES (1)"); err == nil {
		t.Error("written to a standby")
	}
	n.lead(c.primary)
	write(t, db, interval+time.Second)
	testkit.Eventually(t, time.Minute, "all is well", func() bool { return db.Health(t.Context()).Status == pool.StatusOK })
}

// TestReaderNameFindsStandby: a reader's name that led to the primary at first is read
// from when it leads to a standby, and the primary goes on meanwhile.
func TestReaderNameFindsStandby(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 15, 1)
	n := newName(t, c.primary)
	db := open(t, pool.Config{PrimaryURL: c.primary.URL(c.name), ReplicaURLs: []string{n.url(c.primary, c.name)}, HealthInterval: 200 * time.Millisecond})
	standby := func() bool { return one[bool](t, db.Read(t.Context()), "SELECT pg_is_in_recovery()") }
	if standby() {
		t.Error("read from the standby already")
	}
	n.lead(c.standbys[0].Server)
	testkit.Eventually(t, time.Minute, "the standby is read", standby)
	if h := db.Health(t.Context()); h.Status != pool.StatusOK {
		t.Errorf("%+v", h)
	}
}

// TestNameWrongWhileConnected: while new connections lead to a standby, those that
// are open work, and the primary stays one.
func TestNameWrongWhileConnected(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	n := newName(t, c.primary)
	do(t, testkit.Connect(t, c.primary.DSN(c.name)), "CREATE TABLE t (n int)")
	c.standbys[0].CatchUp(t)
	db := open(t, pool.Config{PrimaryURL: n.url(c.primary, c.name), MaxConns: 4, HealthInterval: 100 * time.Millisecond, MaxRetries: -1})
	exec(t, db, "INSERT INTO t VALUES (1)")
	n.lead(c.standbys[0].Server)
	held, err := db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Nobody reads what the standby has in place of what the primary has.
	var standby bool
	if err := db.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&standby); pool.Classify(err) != pool.ClassUnavailable {
		t.Errorf("%t, %v", standby, err)
	}
	probed := db.Health(t.Context()).Servers[0].ProbedAt
	testkit.Eventually(t, time.Minute, "it was probed some times", func() bool { return db.Health(t.Context()).Servers[0].ProbedAt.Sub(probed) > 3*time.Second })
	if _, err := held.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
		t.Error(err)
	}
	held.Release()
	exec(t, db, "INSERT INTO t VALUES (1)")
	if h := db.Health(t.Context()); h.Servers[0].Role != "primary" || errors.Is(err, pool.ErrNoPrimary) {
		t.Errorf("%+v", h)
	}
}
