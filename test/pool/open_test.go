package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// TestImpossible: what can't be is refused before anything is connected, with
// the field and what to do.
func TestImpossible(t *testing.T) {
	const url = "postgres://someone@127.0.0.1:1/clinic"
	for name, test := range map[string]struct {
		config pool.Config
		field  string
	}{
		"no url":               {pool.Config{}, "PrimaryURL"},
		"no url of a replica":  {pool.Config{PrimaryURL: url, ReplicaURLs: []string{""}}, "ReplicaURLs[0]"},
		"primary as replica":   {pool.Config{PrimaryURL: url, ReplicaURLs: []string{url}}, "ReplicaURLs[0]"},
		"negative limit":       {pool.Config{PrimaryURL: url, MaxConns: -1}, "MaxConns"},
		"more idle than all":   {pool.Config{PrimaryURL: url, MaxConns: 2, MinConns: 3}, "MinConns"},
		"nobody may wait":      {pool.Config{PrimaryURL: url, MaxWaiting: -1}, "MaxWaiting"},
		"timeouts upside down": {pool.Config{PrimaryURL: url, QueryTimeout: time.Minute, SocketTimeout: time.Second}, "SocketTimeout"},
		"budget above all":     {pool.Config{PrimaryURL: url, RetryBudget: 2}, "RetryBudget"},
		"backoff that shrinks": {pool.Config{PrimaryURL: url, RetryBackoff: 0.5}, "RetryBackoff"},
		"negative interval":    {pool.Config{PrimaryURL: url, HealthInterval: -1}, "HealthInterval"},
		"unknown parameter":    {pool.Config{PrimaryURL: url + "?shiny=1"}, "PrimaryURL"},
		"dangerous parameter":  {pool.Config{PrimaryURL: url + "?options=-c%20fsync%3Doff"}, "PrimaryURL"},
		"impossible parameter": {pool.Config{PrimaryURL: url + "?connection_limit=0"}, "PrimaryURL"},
		"limit in the url":     {pool.Config{PrimaryURL: url + "?connection_limit=2", MinConns: 5}, "MinConns"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Open(t.Context(), test.config)
			var wrong *pool.ConfigError
			if !errors.Is(err, pool.ErrConfig) || !errors.As(err, &wrong) || wrong.Field != test.field || pool.Hint(err) == "" || wrong.Problem == "" {
				t.Errorf("%v (%s)", err, pool.Hint(err))
			}
		})
	}
}

// TestUnreachablePrimary: Open fails within its time, or starts degraded and
// recovers by itself.
func TestUnreachablePrimary(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	w := newWire(t, server, nameOf(t, dsn))
	w.proxy.Stop()
	config := pool.Config{
		PrimaryURL: w.url, AcquireTimeout: 300 * time.Millisecond, HealthInterval: 50 * time.Millisecond,
		RetryDelay: time.Millisecond, MaxRetries: 1,
	}
	if _, err := pool.Open(t.Context(), config); !errors.Is(err, pool.ErrNoPrimary) || pool.Classify(err) != pool.ClassUnavailable || pool.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	noGoroutines(t)
	config.StartDegraded = true
	db := open(t, config)
	if _, err := db.Exec(t.Context(), "SELECT 1"); pool.Classify(err) != pool.ClassUnavailable || pool.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if h := db.Health(t.Context()); h.Status != pool.StatusDown || h.Servers[0].Problem == "" {
		t.Errorf("%+v", h)
	}
	if status, h := askHealth(t, db); status != http.StatusServiceUnavailable || h.Status != pool.StatusDown {
		t.Errorf("%d, %+v", status, h)
	}
	w.heal()
	testkit.Eventually(t, time.Minute, "the pool has recovered", func() bool { return db.Ping(t.Context()) == nil })
	testkit.Eventually(t, time.Minute, "that is told", func() bool {
		status, h := askHealth(t, db)
		return status == http.StatusOK && h.Status == pool.StatusOK
	})
}

// askHealth asks the handler.
func askHealth(t *testing.T, db *pool.DB) (status int, h pool.Health) {
	t.Helper()
	r := httptest.NewRecorder()
	db.HealthHandler().ServeHTTP(r, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if err := json.Unmarshal(r.Body.Bytes(), &h); err != nil {
		t.Fatal(err)
	}
	return r.Code, h
}

// TestUnreachableReplica: a replica that is not there keeps nothing from
// working.
func TestUnreachableReplica(t *testing.T) {
	db := open(t, pool.Config{PrimaryURL: scratchtest.Database(t, server), ReplicaURLs: []string{"postgres://someone@127.0.0.1:1/clinic"}})
	exec(t, db, "CREATE TABLE t ()")
	for range 20 {
		if got := one[int](t, db.Read(t.Context()), "SELECT count(*) FROM t"); got != 0 {
			t.Error(got)
		}
	}
	testkit.Eventually(t, time.Minute, "the replica was probed", func() bool { return db.Health(t.Context()).Servers[1].ErrorClass != "" })
	if status, h := askHealth(t, db); status != http.StatusOK || h.Status != pool.StatusDegraded || h.Servers[1].Usable {
		t.Errorf("%d, %+v", status, h)
	}
}

// TestOnlyStandbys: standbys alone are no primary, and can be read all the same.
func TestOnlyStandbys(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	primary := scratchtest.New(t, scratch.Options{TCP: true})
	name := nameOf(t, scratchtest.Database(t, primary))
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
	config := pool.Config{PrimaryURL: standby.URL(name), AcquireTimeout: 5 * time.Second, HealthInterval: 50 * time.Millisecond}
	if _, err := pool.Open(t.Context(), config); !errors.Is(err, pool.ErrNoPrimary) || !strings.Contains(err.Error(), "standby") || !strings.HasPrefix(pool.Hint(err), "name the primary ") {
		t.Errorf("%v", err)
	}
	config.StartDegraded, config.MaxLag, config.MaxRetries = true, -1, -1
	db := open(t, config)
	if _, err := db.Exec(t.Context(), "SELECT 1"); !errors.Is(err, pool.ErrNoPrimary) {
		t.Errorf("%v", err)
	}
	standby.Promote(t)
	testkit.Eventually(t, time.Minute, "it is written to", func() bool { _, err := db.Exec(t.Context(), "CREATE TABLE t ()"); return err == nil })
}

// seen is a log that tells of the first message with these words.
type seen struct {
	words string
	once  sync.Once
	told  chan struct{}
}

func (s *seen) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.words)) {
		s.once.Do(func() { close(s.told) })
	}
	return len(p), nil
}

// TestOpenFormerPrimary: a former primary that answers first is not taken for the
// primary, as long as the others may still answer.
func TestOpenFormerPrimary(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	c := newCluster(t, 15, 1)
	c.standbys[0].Promote(t)
	port := strconv.Itoa(c.standbys[0].Port())
	// Open waits for a second: of a machine that is so slow nothing can be said.
	for range 10 {
		log := &seen{words: "writes go to this primary", told: make(chan struct{})}
		began := time.Now()
		db := open(t, pool.Config{
			PrimaryURL: c.primary.URL(c.name), ReplicaURLs: c.replicas(), Logger: slog.New(slog.NewTextHandler(log, nil)),
			DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":"+port) {
					<-log.told // the other one was found
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		})
		if time.Since(began) >= time.Second {
			continue
		}
		if got := one[string](t, db, "SELECT current_setting('port')"); got != port {
			t.Errorf("writes go to the server that a promotion has left behind, %s", got)
		}
		return
	}
	t.Fatal("ten times Open took its whole second: this machine is too busy to say anything")
}

// TestOpenCanceled: who gives up on Open finds that in its error.
func TestOpenCanceled(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := pool.Open(ctx, pool.Config{PrimaryURL: "postgres://someone@127.0.0.1:1/clinic"})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || !errors.Is(err, pool.ErrNoPrimary) || pool.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	noGoroutines(t)
}
