package pool

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMetricsText(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{50 * time.Microsecond, time.Millisecond, 20 * time.Millisecond, time.Hour} {
		h.observe(d)
	}
	s := Stats{Retries: 7, Servers: []ServerStats{
		{
			Server: "a:1", Role: "primary", Usable: true, InUse: 2, Max: 10, Acquire: h.snapshot(),
			Durations: []DurationStats{{"exec", "ok", h.snapshot()}},
		},
		{Server: `b"\:2`, Role: "standby", Lag: 1500 * time.Millisecond, LagKnown: true, Acquire: (&histogram{}).snapshot()},
	}}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	for _, m := range metricsOf(s) {
		writeMetric(w, m)
	}
	_ = w.Flush()
	for _, want := range []string{
		"# TYPE pgmedic_pool_connections_in_use gauge\npgmedic_pool_connections_in_use{server=\"a:1\"} 2\n",
		"pgmedic_pool_server_primary{server=\"a:1\"} 1\n",
		`pgmedic_pool_server_usable{server="b\"\\:2"} 0` + "\n",
		"# TYPE pgmedic_pool_replica_lag_seconds gauge\npgmedic_pool_replica_lag_seconds{server=\"b\\\"\\\\:2\"} 1.5\n",
		"# TYPE pgmedic_pool_retries_total counter\npgmedic_pool_retries_total 7\n",
		`pgmedic_pool_operation_seconds_bucket{server="a:1",operation="exec",outcome="ok",le="0.0001"} 1` + "\n",
		`pgmedic_pool_operation_seconds_bucket{server="a:1",operation="exec",outcome="ok",le="0.001"} 2` + "\n",
		`pgmedic_pool_operation_seconds_bucket{server="a:1",operation="exec",outcome="ok",le="0.025"} 3` + "\n",
		`pgmedic_pool_operation_seconds_bucket{server="a:1",operation="exec",outcome="ok",le="+Inf"} 4` + "\n",
		`pgmedic_pool_operation_seconds_sum{server="a:1",operation="exec",outcome="ok"} 3600.02105` + "\n",
		`pgmedic_pool_operation_seconds_count{server="a:1",operation="exec",outcome="ok"} 4` + "\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("missing %s", want)
		}
	}
	if strings.Count(out.String(), "# TYPE") != len(metricsOf(s)) {
		t.Errorf("%s", out.String())
	}
}
