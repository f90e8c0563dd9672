package databases_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// cutter passes connections on to the server, until a client sends a statement
// that begins with the trigger: then that client's connection is cut.
type cutter struct {
	listener net.Listener
	trigger  []byte
	// forward is whether the server still gets the statement; otherwise its
	// side stays open, as when a host vanishes without a word.
	forward bool
	// close is whether nobody gets through any more.
	close bool
	mu    sync.Mutex
	conns []net.Conn
	cut   bool
}

func newCutter(t *testing.T, c *cutter) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.listener = listener
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())))
			if err != nil {
				_ = client.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, client, upstream)
			c.mu.Unlock()
			group.Go(func() { c.pass(client, upstream) })
		}
	})
	t.Cleanup(func() {
		c.closeAll()
		group.Wait()
	})
	return c
}

func (c *cutter) closeAll() {
	_ = c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// pass copies both ways, but the first trigger's answer never arrives.
func (c *cutter) pass(client, upstream net.Conn) {
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		_, _ = io.Copy(client, upstream)
		_ = client.Close()
	}()
	chunk := make([]byte, 64<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			break
		}
		c.mu.Lock()
		now := !c.cut && bytes.Contains(chunk[:n], c.trigger)
		c.cut = c.cut || now
		c.mu.Unlock()
		if now {
			if c.close { // first: who loses the link looks again at once
				_ = c.listener.Close()
			}
			_ = client.Close()
			if c.forward {
				_, _ = upstream.Write(chunk[:n])
			}
			return // upstream stays open to the end of the test
		}
		if _, err := upstream.Write(chunk[:n]); err != nil {
			break
		}
	}
	_ = upstream.Close()
	<-answers
}

// TestSwapLosesItsConnection cuts the link at each moment of a swap that makes a
// difference, without the server being told.
func TestSwapLosesItsConnection(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	for name, tt := range map[string]struct {
		cutter  *cutter
		swapped bool
		kind    pgmedic.Kind
		words   []string
		unknown bool
	}{
		"the commit's answer is lost": {&cutter{trigger: []byte("COMMIT\x00"), forward: true}, true, 0, nil, false},
		"the commit never arrives":    {&cutter{trigger: []byte("COMMIT\x00")}, false, pgmedic.KindUnreachable, []string{"did not take place"}, false},
		"between the renames":         {&cutter{trigger: []byte("ALLOW_CONNECTIONS false")}, false, pgmedic.KindUnreachable, []string{"swap the databases"}, false},
		"the server is out of reach":  {&cutter{trigger: []byte("COMMIT\x00"), forward: true, close: true}, true, pgmedic.KindUnreachable, []string{"unknown", "list the databases"}, true},
		"out of reach, and no commit": {&cutter{trigger: []byte("COMMIT\x00"), close: true}, false, pgmedic.KindUnreachable, []string{"unknown"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			o, conn := pair(t, "swap_cut", "swap_cut_new")
			c := newCutter(t, tt.cutter)
			through := o
			_, port, _ := net.SplitHostPort(c.listener.Addr().String())
			through.Target = o.Target.With("host", "127.0.0.1").With("port", port).With("password", server.Password())
			var log bytes.Buffer
			through.Logger = slog.New(slog.NewTextHandler(&log, nil))
			_, err := databases.Swap(t.Context(), through)
			if tt.words == nil {
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Contains(log.Bytes(), []byte("it took place")) {
					t.Errorf("it does not say that the answer was lost: %s", &log)
				}
			} else {
				postgrestest.WantError(t, err, tt.kind, tt.words...)
			}
			if errors.Is(err, databases.ErrOutcomeUnknown) != tt.unknown {
				t.Errorf("unknown: %v", err)
			}
			if tt.unknown && !tt.swapped {
				// Nobody could end the session; the server does by itself.
				testkit.Eventually(t, time.Minute, "the names are free again", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					defer cancel()
					_, err := ask(ctx, o.Target.WithDatabase(o.Live))
					return err == nil
				})
			}
			if tt.swapped {
				testkit.Eventually(t, time.Minute, "the commit that was on its way has taken place", func() bool {
					exists, err := databases.Exists(t.Context(), conn, o.Kept)
					return exists && err == nil
				})
				if got := who(t, o.Target, o.Live); got != "new" {
					t.Errorf("live is %s", got)
				}
				return
			}
			unchanged(t, o, conn)
		})
	}
}
