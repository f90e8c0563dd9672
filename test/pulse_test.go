package test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// pulse asks the server all the time for something that nothing holds up: the longest that it
// waits is how long the machine keeps everybody waiting, and no fault of what is tested.
type pulse struct {
	dsn           string
	longest, last atomic.Int64 // the one in nanoseconds, the other since 1970
	quit, done    chan struct{}
}

// startPulse begins to ask, by new sessions with the database postgres.
func startPulse() *pulse {
	p := &pulse{dsn: server.DSN("postgres"), quit: make(chan struct{}), done: make(chan struct{})}
	p.last.Store(time.Now().UnixNano())
	go func() {
		defer close(p.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			p.beat()
			select {
			case <-p.quit:
				return
			case <-tick.C:
			}
		}
	}()
	return p
}

func (p *pulse) beat() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.dsn)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	var one int
	if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err == nil {
		p.longest.Store(int64(p.stalled()))
		p.last.Store(time.Now().UnixNano())
	}
}

// stalled is how long the machine has kept everybody waiting at most, until now.
func (p *pulse) stalled() time.Duration {
	if p == nil {
		return 0
	}
	return time.Duration(max(p.longest.Load(), time.Now().UnixNano()-p.last.Load()))
}

func (p *pulse) stop() {
	close(p.quit)
	<-p.done
}

// TestPulse: what is taken for the machine's fault is what the pulse itself waited, and no more.
func TestPulse(t *testing.T) {
	p := startPulse()
	first := p.last.Load()
	testkit.Eventually(t, time.Minute, "the pulse beats", func() bool { return p.last.Load() > first })
	p.stop()
	p.longest.Store(0)
	p.last.Store(time.Now().Add(-time.Hour).UnixNano())
	if got := p.stalled(); got < time.Hour || got > 2*time.Hour {
		t.Errorf("a machine that has stood still for an hour has for %v", got)
	}
	p.dsn = server.DSN("nosuch")
	if p.beat(); p.longest.Load() != 0 {
		t.Error("a beat that fails ends a stall")
	}
	p.dsn = server.DSN("postgres")
	if p.beat(); p.stalled() < time.Hour {
		t.Error("a stall is forgotten at its end")
	}
	if (*pulse)(nil).stalled() != 0 {
		t.Error("without a pulse there is a stall")
	}
}
