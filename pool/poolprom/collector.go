// Package poolprom hands the metrics of a pool to Prometheus' client library:
//
//	registry.MustRegister(poolprom.NewCollector(db))
//
// It is a module of its own, so that a service without that library does not get
// it: pool.DB's WriteMetrics writes the same as text.
package poolprom

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgmedic/pgmedic/pool"
)

// Source is a *pool.DB.
type Source interface {
	// Metrics returns all metrics as of now.
	Metrics() []pool.Metric
}

// NewCollector returns a collector of the metrics of a pool. It talks to no
// server. To register those of several pools, wrap the registerer with a label
// (prometheus.WrapRegistererWith).
func NewCollector(source Source) prometheus.Collector { return collector{source} }

type collector struct{ source Source }

// Describe describes the metrics, whether they have values yet or not. All have names that begin
// with pgmedic_pool_.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.source.Metrics() {
		to <- description(m)
	}
}

// Collect collects them.
func (c collector) Collect(to chan<- prometheus.Metric) {
	for _, m := range c.source.Metrics() {
		desc := description(m)
		for _, s := range m.Samples {
			to <- sample(desc, m, s)
		}
	}
}

func description(m pool.Metric) *prometheus.Desc {
	return prometheus.NewDesc(m.Name, m.Help, m.LabelNames, nil)
}

func sample(desc *prometheus.Desc, m pool.Metric, s pool.Sample) prometheus.Metric {
	var values []string
	for pair := range slices.Chunk(s.Labels, 2) {
		values = append(values, pair[1])
	}
	var metric prometheus.Metric
	var err error
	switch m.Type {
	case "histogram":
		metric, err = histogram(desc, s.Histogram, values)
	case "counter":
		metric, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	case "gauge":
		metric, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	default:
		err = fmt.Errorf("%s: unknown type %q", m.Name, m.Type)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return metric
}

func histogram(desc *prometheus.Desc, h *pool.Histogram, values []string) (prometheus.Metric, error) {
	if h == nil {
		return nil, fmt.Errorf("a histogram without a value")
	}
	buckets := map[float64]uint64{}
	var count uint64
	for i, bound := range h.Bounds {
		count += uint64(max(h.Counts[i], 0))
		buckets[bound.Seconds()] = count
	}
	return prometheus.NewConstHistogram(desc, uint64(max(h.Count, 0)), h.Sum.Seconds(), buckets, values...)
}
