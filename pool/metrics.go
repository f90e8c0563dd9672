package pool

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Metric is one metric with all its samples, as WriteMetrics writes them and
// package poolprom hands them to Prometheus.
type Metric struct {
	// Name is its full name, Help what it means.
	Name, Help string
	// Type is counter, gauge or histogram.
	Type string
	// LabelNames are the names of the labels of every sample, in their order.
	LabelNames []string
	// Samples are its values.
	Samples []Sample
}

// Sample is a value of a metric.
type Sample struct {
	// Labels are names and values in turn.
	Labels []string
	// Value is that of a counter or a gauge.
	Value float64
	// Histogram is that of a histogram, else nil. In seconds, as all durations.
	Histogram *Histogram
}

// Metrics returns the statistics as metrics, always in the same order. Labels
// are names of servers and of operations, never of statements.
func (db *DB) Metrics() []Metric { return metricsOf(db.Stats()) }

// WriteMetrics writes the metrics in Prometheus' text format (version 0.0.4), so
// that a service needs no client library to be scraped.
func (db *DB) WriteMetrics(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, m := range db.Metrics() {
		writeMetric(out, m)
	}
	return out.Flush()
}

func metricsOf(s Stats) []Metric {
	total := func(name, help string, value int64) Metric {
		return Metric{Name: name, Help: help, Type: "counter", Samples: []Sample{{Value: float64(value)}}}
	}
	server := func(kind, name, help string, value func(ServerStats) (float64, bool)) Metric {
		m := Metric{Name: name, Help: help, Type: kind, LabelNames: []string{"server"}}
		for _, one := range s.Servers {
			if v, ok := value(one); ok {
				m.Samples = append(m.Samples, Sample{Labels: []string{"server", one.Server}, Value: v})
			}
		}
		return m
	}
	counted := func(n int64) (float64, bool) { return float64(n), true }
	flag := func(is bool) (float64, bool) {
		if is {
			return 1, true
		}
		return 0, true
	}
	return []Metric{
		server("gauge", "pgmedic_pool_server_usable", "Whether the server is used (1) or has a problem (0).", func(s ServerStats) (float64, bool) { return flag(s.Usable) }),
		server("gauge", "pgmedic_pool_server_primary", "Whether the server is the primary (1).", func(s ServerStats) (float64, bool) { return flag(s.Role == "primary") }),
		server("gauge", "pgmedic_pool_circuit_open", "Whether calls to the server fail at once (1).", func(s ServerStats) (float64, bool) { return flag(s.CircuitOpen) }),
		server("gauge", "pgmedic_pool_connections_max", "How many connections there may be.", func(s ServerStats) (float64, bool) { return counted(int64(s.Max)) }),
		server("gauge", "pgmedic_pool_connections_in_use", "Connections in use.", func(s ServerStats) (float64, bool) { return counted(int64(s.InUse)) }),
		server("gauge", "pgmedic_pool_connections_idle", "Connections that are open and not in use.", func(s ServerStats) (float64, bool) { return counted(int64(s.Idle)) }),
		server("gauge", "pgmedic_pool_waiting", "Callers that wait for a connection.", func(s ServerStats) (float64, bool) { return counted(int64(s.Waiting)) }),
		server("gauge", "pgmedic_pool_replica_lag_seconds", "How far a standby is behind the primary, at most; absent where it is not known.", func(s ServerStats) (float64, bool) { return s.Lag.Seconds(), s.LagKnown }),
		server("gauge", "pgmedic_pool_replica_lag_bytes", "How much WAL a standby is behind the primary.", func(s ServerStats) (float64, bool) { return float64(s.LagBytes), s.LagKnown }),
		server("counter", "pgmedic_pool_connections_opened_total", "Connections opened, or tried to be.", func(s ServerStats) (float64, bool) { return counted(s.Opened) }),
		server("counter", "pgmedic_pool_acquire_timeouts_total", "Callers that got no connection in time.", func(s ServerStats) (float64, bool) { return counted(s.AcquireTimeouts) }),
		server("counter", "pgmedic_pool_rejected_total", "Callers turned away since too many waited.", func(s ServerStats) (float64, bool) { return counted(s.Rejected) }),
		server("counter", "pgmedic_pool_query_timeouts_total", "Statements that the pool cancelled for their length.", func(s ServerStats) (float64, bool) { return counted(s.QueryTimeouts) }),
		server("counter", "pgmedic_pool_circuit_opened_total", "How often the circuit breaker opened.", func(s ServerStats) (float64, bool) { return counted(s.CircuitOpened) }),
		server("counter", "pgmedic_pool_leaks_total", "Connections that were held for too long.", func(s ServerStats) (float64, bool) { return counted(s.Leaks) }),
		total("pgmedic_pool_retries_total", "Calls that were tried again.", s.Retries),
		total("pgmedic_pool_retries_refused_total", "Calls that were not, since the retry budget was spent.", s.RetriesRefused),
		total("pgmedic_pool_read_fallbacks_total", "Reads that went to the primary after a standby had failed them.", s.Fallbacks),
		total("pgmedic_pool_slow_statements_total", "Statements that took longer than the threshold.", s.SlowStatements),
		acquireMetric(s),
		durationMetric(s),
	}
}

func acquireMetric(s Stats) Metric {
	m := Metric{Name: "pgmedic_pool_acquire_seconds", Help: "How long callers waited for the connection that they got.", Type: "histogram", LabelNames: []string{"server"}}
	for _, one := range s.Servers {
		m.Samples = append(m.Samples, Sample{Labels: []string{"server", one.Server}, Histogram: &one.Acquire})
	}
	return m
}

func durationMetric(s Stats) Metric {
	m := Metric{Name: "pgmedic_pool_operation_seconds", Help: "How long operations took, by what they were and how they ended.", Type: "histogram", LabelNames: []string{"server", "operation", "outcome"}}
	for _, one := range s.Servers {
		for _, d := range one.Durations {
			labels := []string{"server", one.Server, "operation", d.Operation, "outcome", d.Outcome}
			m.Samples = append(m.Samples, Sample{Labels: labels, Histogram: &d.Histogram})
		}
	}
	return m
}

func writeMetric(w *bufio.Writer, m Metric) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Type)
	for _, s := range m.Samples {
		if s.Histogram == nil {
			fmt.Fprintf(w, "%s%s %s\n", m.Name, labels(s.Labels), decimal(s.Value))
			continue
		}
		var count int64
		for i, n := range s.Histogram.Counts {
			count += n
			bound := "+Inf"
			if i < len(s.Histogram.Bounds) {
				bound = decimal(s.Histogram.Bounds[i].Seconds())
			}
			fmt.Fprintf(w, "%s_bucket%s %d\n", m.Name, labels(s.Labels, "le", bound), count)
		}
		fmt.Fprintf(w, "%s_sum%s %s\n", m.Name, labels(s.Labels), decimal(s.Histogram.Sum.Seconds()))
		fmt.Fprintf(w, "%s_count%s %d\n", m.Name, labels(s.Labels), s.Histogram.Count)
	}
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// labels writes names and values in turn as Prometheus wants them.
func labels(pairs []string, more ...string) string {
	all := make([]string, 0, (len(pairs)+len(more))/2)
	for _, list := range [][]string{pairs, more} {
		for i := 0; i+1 < len(list); i += 2 {
			all = append(all, list[i]+`="`+escapeLabel(list[i+1])+`"`)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "{" + strings.Join(all, ",") + "}"
}

func escapeLabel(v string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(v)
}
