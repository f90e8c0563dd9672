package pool_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestProbeByAnyone: a role without privileges is enough for a probe, and so is one
// that may not see the control file.
func TestProbeByAnyone(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	s := scratchtest.New(t, scratch.Options{TCP: true})
	dsn := scratchtest.Database(t, s)
	conn := testkit.Connect(t, dsn)
	do(t, conn, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
	url := strings.Replace(s.URL(nameOf(t, dsn)), s.Superuser()+":"+s.Password()+"@", "plain:plain@", 1)
	if !ask[bool](t, conn, "SELECT has_function_privilege('plain', 'pg_control_system()', 'EXECUTE')") {
		t.Error("not everyone may see the control file")
	}
	for _, name := range []string{"as it comes", "forbidden"} {
		if name == "forbidden" {
			do(t, conn, "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC")
		}
		db := open(t, pool.Config{PrimaryURL: url, AcquireTimeout: time.Minute})
		if got := one[string](t, db, "SELECT current_user::text"); got != "plain" {
			t.Errorf("%s: it is %s who asks", name, got)
		}
		if h := db.Health(t.Context()); h.Status != pool.StatusOK || h.Servers[0].Role != "primary" {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

// flights counts the round trips over connections: each begins when the client sends
// something after it has received something.
type flights struct{ n, dials atomic.Int64 }

func (f *flights) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	f.dials.Add(1)
	c := &flight{Conn: conn, of: f}
	c.received.Store(true)
	return c, nil
}

type flight struct {
	net.Conn
	of       *flights
	received atomic.Bool
}

func (c *flight) Write(p []byte) (int, error) {
	if c.received.Swap(false) {
		c.of.n.Add(1)
	}
	return c.Conn.Write(p)
}

func (c *flight) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.received.Store(true)
	}
	return n, err
}

// TestProbeCost: a probe is one round trip, whatever the server is: as many of them
// as the server counts statements.
func TestProbeCost(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	primary := scratchtest.New(t, scratch.Options{TCP: true, Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	dsn := scratchtest.Database(t, primary)
	do(t, testkit.Connect(t, dsn), "CREATE EXTENSION pg_stat_statements")
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	for name, s := range map[string]*scratch.Server{"primary": primary, "standby": standby.Server} {
		t.Run(name, func(t *testing.T) {
			if name == "standby" {
				standby.CatchUp(t)
			}
			conn := testkit.Connect(t, s.DSN(nameOf(t, dsn)))
			var wire flights
			open(t, pool.Config{
				PrimaryURL: s.URL(nameOf(t, dsn)), StartDegraded: true, HealthInterval: 5 * time.Millisecond, DialFunc: wire.dial, Pooler: pool.PoolerNone,
			})
			probes := func() int64 {
				return ask[int64](t, conn, "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements WHERE query LIKE '%pg_control_checkpoint%' AND query NOT LIKE '%pg_stat_statements%'")
			}
			testkit.Eventually(t, time.Minute, "the first probe is over", func() bool { return probes() > 1 })
			before := probes()
			sent, dials := wire.n.Load(), wire.dials.Load()
			var now int64
			testkit.Eventually(t, time.Minute, "there were many more", func() bool {
				now = wire.n.Load() - sent
				return probes() >= before+50
			})
			// The statements are counted first and last, so that there are at least as
			// many of them as round trips, but for the one under way, and for those that
			// open a session: without a primary, that is one each second.
			const opening = 8
			if asked := probes() - before; now > asked+1+opening*(wire.dials.Load()-dials) {
				t.Errorf("%d round trips for %d probes", now, asked)
			} else if name == "primary" && wire.dials.Load() > dials {
				t.Errorf("%d new sessions", wire.dials.Load()-dials)
			} else if now == 0 {
				t.Error("no round trip was seen")
			}
		})
	}
}
