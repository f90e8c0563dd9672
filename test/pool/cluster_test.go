package pool_test

import (
	"context"
	"net"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// ask reads one value past the pool.
func ask[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// do runs statements past the pool.
func do(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// cluster is a primary with streaming standbys, and a database on it.
type cluster struct {
	primary  *scratch.Server
	standbys []*scratchtest.Standby
	name     string
}

// newCluster starts one. A commit that was acknowledged survives its server.
func newCluster(t *testing.T, major, standbys int) *cluster {
	t.Helper()
	c := &cluster{primary: scratchtest.New(t, scratch.Options{Major: major, TCP: true, Settings: map[string]string{"synchronous_commit": "on"}})}
	c.name = nameOf(t, scratchtest.Database(t, c.primary))
	for i := range standbys {
		c.standbys = append(c.standbys, scratchtest.NewStandby(t, c.primary, scratch.StandbyOptions{Name: "standby" + strconv.Itoa(i)}))
	}
	return c
}

// replicas are the connection strings of the standbys.
func (c *cluster) replicas() (urls []string) {
	for _, s := range c.standbys {
		urls = append(urls, s.URL(c.name))
	}
	return urls
}

// kill ends a server at once, as a crash of its machine would: no session is
// told, no checkpoint is written.
func kill(t *testing.T, server *scratch.Server) {
	t.Helper()
	if err := syscall.Kill(server.PID(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
}

// wire is a way to a server that faults can be put on.
type wire struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	// url is the connection string by this way.
	url string
}

func newWire(t *testing.T, server *scratch.Server, database string) *wire {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	port := strconv.Itoa(server.Port())
	proxy := toxiproxy.NewProxy(api, "postgres", "127.0.0.1:0", net.JoinHostPort("127.0.0.1", port))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return &wire{t: t, proxy: proxy, url: strings.Replace(server.URL(database), ":"+port+"/", proxy.Listen[strings.LastIndexByte(proxy.Listen, ':'):]+"/", 1)}
}

// poison puts a toxic on both directions.
func (w *wire) poison(kind, attributes string) {
	w.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		toxic := `{"name": "` + kind + stream + `", "type": "` + kind + `", "stream": "` + stream + `", "attributes": {` + attributes + `}}`
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// heal has the wire be as new.
func (w *wire) heal() {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.WithoutCancel(w.t.Context()))
	if err := w.proxy.Start(); err != nil && !strings.Contains(err.Error(), "already started") {
		w.t.Fatal(err)
	}
}

// noGoroutines waits until no goroutine runs code of the pool any more.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left string
	defer func() {
		if t.Failed() {
			t.Log(left)
		}
	}()
	testkit.Eventually(t, time.Minute, "all goroutines of the pool have ended", func() bool {
		var b strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		left = b.String()
		return !strings.Contains(left, "pgmedic/pgmedic/pool.") && !strings.Contains(left, "/pgxpool.") && !strings.Contains(left, "/pgconn") && !strings.Contains(left, "database/sql.")
	})
}
