package poolprom_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pgmedic/pgmedic/pool"
	"github.com/pgmedic/pgmedic/pool/poolprom"
)

// unreachable is a pool whose servers are not there: it has metrics all the same.
func unreachable(t *testing.T) *pool.DB {
	t.Helper()
	db, err := pool.Open(t.Context(), pool.Config{
		PrimaryURL:    "postgres://someone@127.0.0.1:1/clinic",
		ReplicaURLs:   []string{"postgres://someone@127.0.0.1:1/other"},
		StartDegraded: true, MaxRetries: -1, AcquireTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Shutdown(context.WithoutCancel(t.Context())) })
	return db
}

// TestLint: the collector keeps to all that it describes, and the metrics to
// Prometheus' conventions, as promtool check metrics sees them.
func TestLint(t *testing.T) {
	db := unreachable(t)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(poolprom.NewCollector(db)); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	n, err := testutil.GatherAndCount(registry, "pgmedic_pool_server_usable", "pgmedic_pool_acquire_seconds")
	if err != nil || n != 4 {
		t.Errorf("%d samples, %v", n, err)
	}
}

// TestSameAsText: Prometheus' client writes what the pool itself writes.
func TestSameAsText(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	s := fixed{}
	registry.MustRegister(poolprom.NewCollector(s))
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`# HELP pool_a A gauge.
# TYPE pool_a gauge
pool_a{server="a:1"} 1
pool_a{server="b:\"2"} 0.5
# HELP pool_b_total A counter.
# TYPE pool_b_total counter
pool_b_total 3
# HELP pool_c_seconds A histogram.
# TYPE pool_c_seconds histogram
pool_c_seconds_bucket{server="a:1",le="0.001"} 2
pool_c_seconds_bucket{server="a:1",le="1"} 5
pool_c_seconds_bucket{server="a:1",le="+Inf"} 9
pool_c_seconds_sum{server="a:1"} 7
pool_c_seconds_count{server="a:1"} 9
`)); err != nil {
		t.Error(err)
	}
	// The names are those of the text.
	db := unreachable(t)
	var text bytes.Buffer
	if err := db.WriteMetrics(&text); err != nil {
		t.Fatal(err)
	}
	own := prometheus.NewPedanticRegistry()
	own.MustRegister(poolprom.NewCollector(db))
	families, err := own.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) == 0 {
		t.Fatal("no metrics")
	}
	for _, f := range families {
		if !slices.Contains(strings.Split(text.String(), "\n"), "# HELP "+f.GetName()+" "+f.GetHelp()) {
			t.Errorf("%s is not in the text", f.GetName())
		}
	}
}

// fixed has metrics of every type.
type fixed struct{}

func (fixed) Metrics() []pool.Metric {
	return []pool.Metric{
		{Name: "pool_a", Help: "A gauge.", Type: "gauge", LabelNames: []string{"server"}, Samples: []pool.Sample{
			{Labels: []string{"server", "a:1"}, Value: 1}, {Labels: []string{"server", `b:"2`}, Value: 0.5},
		}},
		{Name: "pool_b_total", Help: "A counter.", Type: "counter", Samples: []pool.Sample{{Value: 3}}},
		{Name: "pool_c_seconds", Help: "A histogram.", Type: "histogram", LabelNames: []string{"server"}, Samples: []pool.Sample{
			{Labels: []string{"server", "a:1"}, Histogram: &pool.Histogram{
				Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []int64{2, 3, 4}, Count: 9, Sum: 7 * time.Second,
			}},
		}},
		{Name: "pool_d_seconds", Help: "One without samples.", Type: "histogram", LabelNames: []string{"server"}},
	}
}

// TestWrong: a metric that can't be is an error of the scrape, no panic.
func TestWrong(t *testing.T) {
	for name, m := range map[string]pool.Metric{
		"no histogram":   {Name: "x_seconds", Type: "histogram", Samples: []pool.Sample{{}}},
		"unknown type":   {Name: "x", Type: "summary", Samples: []pool.Sample{{}}},
		"missing labels": {Name: "x", Type: "gauge", LabelNames: []string{"server"}, Samples: []pool.Sample{{}}},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			registry.MustRegister(poolprom.NewCollector(wrong{m}))
			if _, err := registry.Gather(); err == nil {
				t.Errorf("%v", err)
			}
		})
	}
}

type wrong struct{ metric pool.Metric }

func (w wrong) Metrics() []pool.Metric { return []pool.Metric{w.metric} }
