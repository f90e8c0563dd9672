// Package prometheus writes the numbers of a report in the text format of Prometheus.
package prometheus

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
)

// Options say whose metrics they are.
type Options struct {
	// Server is the value of the label server of every series: a name that stays
	// the same whether or not the server answers. Empty is the server's system
	// identifier.
	Server string
	// Version is pgmedic's own.
	Version string
}

// Metric is one line of the table of metrics. Every series also has the labels
// server and database, the database that was looked at; without those, the
// files of two looks could not lie in one folder.
type Metric struct {
	Name string
	// Counter is true for what only ever grows until the server's statistics are
	// reset; everything else is a gauge.
	Counter bool
	// Section is the section of the reading that it is from, or empty for what
	// is of the report itself.
	Section string
	// Labels are those besides server and database.
	Labels []string
	Help   string
}

// Type is the metric's type as Prometheus names it.
func (m Metric) Type() string {
	if m.Counter {
		return "counter"
	}
	return "gauge"
}

// Metrics returns every metric that Prometheus writes, in the order in which
// they are written.
func Metrics() []Metric {
	all := []Metric{}
	for _, row := range metricTable() {
		all = append(all, row.Metric)
	}
	return all
}

// metricRow is a metric and where its values come from.
type metricRow struct {
	Metric
	// read puts each series. It puts nothing for what was not read: an absent
	// series is unknown, a zero would be a lie.
	read func(s source, put put)
	// once is true of what must not be put again for each other database.
	once bool
}

// put takes one series: its value, and its labels' values in the order of the
// metric's Labels.
type put func(value float64, labels ...string)

// source is what metrics are read from.
type source struct {
	report  render.Report
	reading *reading.Reading
	opts    Options
}

// Write writes the report's numbers in Prometheus's text format: at most
// the largest of each kind of object, and no statements. The same report always
// gives the same text.
func Write(w io.Writer, report render.Report, opts Options) error {
	report = report.Visible()
	opts.Server = cmp.Or(opts.Server, report.Reading.Server.SystemIdentifier, "unknown")
	families := []*dto.MetricFamily{}
	for _, row := range metricTable() {
		f := newFamily(row.Metric)
		for i, got := range append([]*reading.Reading{report.Reading}, report.Reading.Databases...) {
			if i > 0 && row.once {
				break
			}
			row.read(source{report: report, reading: got, opts: opts}, f.put(opts.Server, got.Database))
		}
		families = append(families, f.family())
	}
	return writeFamilies(w, families)
}

// WriteDown writes the metrics of a server that could not be looked at:
// that it could not, and nothing else.
func WriteDown(w io.Writer, database string, opts Options) error {
	families := []*dto.MetricFamily{}
	for _, row := range metricTable() {
		f := newFamily(row.Metric)
		switch row.Name {
		case metricUp:
			f.put(opts.Server, database)(0)
		case metricBuild:
			f.put(opts.Server, database)(1, opts.Version)
		}
		families = append(families, f.family())
	}
	return writeFamilies(w, families)
}

// writeFamilies leaves out families without a series.
func writeFamilies(w io.Writer, families []*dto.MetricFamily) error {
	var b bytes.Buffer
	for _, f := range families {
		if len(f.GetMetric()) == 0 {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return fmt.Errorf("write the metrics: %w", err)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the metrics: %w", err)
	}
	return nil
}

// family gathers the series of one metric.
type family struct {
	Metric
	names   []string
	samples []sample
	at      map[string]int
}

type sample struct {
	labels []string
	value  float64
}

func newFamily(m Metric) *family {
	return &family{Metric: m, names: append([]string{"server", "database"}, m.Labels...), at: map[string]int{}}
}

// put returns what takes the series of one database. What is not a number is not
// known. Objects that can't be told apart by their labels, such as standbys of
// one name or names in no encoding, are one series: a counter's sum, else the
// largest.
func (f *family) put(server, database string) put {
	return func(value float64, labels ...string) {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return
		}
		all := append([]string{server, database}, labels...)
		for i := range all {
			all[i] = labelValue(all[i])
		}
		key := strings.Join(all, "\x00")
		i, seen := f.at[key]
		switch {
		case !seen:
			f.at[key] = len(f.samples)
			f.samples = append(f.samples, sample{labels: all, value: value})
		case f.Counter:
			f.samples[i].value += value
		default:
			f.samples[i].value = max(f.samples[i].value, value)
		}
	}
}

// family returns the series as the encoder wants them, sorted by their labels.
func (f *family) family() *dto.MetricFamily {
	slices.SortFunc(f.samples, func(a, b sample) int { return slices.Compare(a.labels, b.labels) })
	kind := dto.MetricType_GAUGE
	if f.Counter {
		kind = dto.MetricType_COUNTER
	}
	out := &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: &kind}
	for _, s := range f.samples {
		m := &dto.Metric{}
		for i := range s.labels {
			m.Label = append(m.Label, &dto.LabelPair{Name: &f.names[i], Value: &s.labels[i]})
		}
		if f.Counter {
			m.Counter = &dto.Counter{Value: &s.value}
		} else {
			m.Gauge = &dto.Gauge{Value: &s.value}
		}
		out.Metric = append(out.Metric, m)
	}
	return out
}

// labelValue returns a name as a label can hold it, which must be UTF-8: bytes
// that are not, such as a database in SQL_ASCII can hold, become \x and their
// value. The encoder escapes what else the format needs.
func labelValue(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// other is the value of a label for what is in no series of its own.
const other = "other"

// known puts a number that may not be known.
func known[N int | int64 | float64](put put, n *N, labels ...string) {
	if n != nil {
		put(float64(*n), labels...)
	}
}

// moment puts a time that may not be known.
func moment(put put, at *time.Time, labels ...string) {
	if at != nil && !at.IsZero() {
		put(float64(at.UnixMilli())/1000, labels...)
	}
}

// flag puts a fact.
func flag(put put, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	put(value, labels...)
}

// word is a fact as a label.
func word(is bool) string {
	if is {
		return "true"
	}
	return "false"
}

// first bounds a list of series.
func first[T any](all []T, n int) []T { return all[:min(len(all), n)] }
