// Package poolstate reads what the connection pool of a service says of itself: the JSON
// of its Snapshot, or its metrics, from a URL or a file.
package poolstate

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// The bounds of what is taken of a description: a service is not trusted to be brief.
const (
	mostServers = 100
	mostListed  = 100
	longestText = 8192
	mostCounted = 1 << 53 // what a metric has exactly
)

const hint = "give what db.Snapshot() returns as JSON, or the metrics of the service"

// format is the newest format of a snapshot that is read.
const format = 1

// Parse reads a description: JSON, or metrics in Prometheus' text format.
func Parse(data []byte) (reading.Service, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseSnapshot(data)
	}
	return parseMetrics(data)
}

// snapshot is pool.Snapshot of the pool's module, which this one does not import.
type snapshot struct {
	Format         int        `json:"format"`
	TakenAt        time.Time  `json:"taken_at"`
	Application    string     `json:"application"`
	Retries        int64      `json:"retries"`
	RetriesRefused int64      `json:"retries_refused"`
	Fallbacks      int64      `json:"read_fallbacks"`
	SlowStatements int64      `json:"slow_statements"`
	Servers        []ofServer `json:"servers"`
}

type ofServer struct {
	Server          string        `json:"server"`
	Role            string        `json:"role"`
	Usable          bool          `json:"usable"`
	CircuitOpen     bool          `json:"circuit_open"`
	Pooler          bool          `json:"pooler"`
	InUse           int           `json:"in_use"`
	Idle            int           `json:"idle"`
	Waiting         int           `json:"waiting"`
	Max             int           `json:"max"`
	Acquired        int64         `json:"acquired"`
	AcquireTime     time.Duration `json:"acquire_ns"`
	Opened          int64         `json:"opened"`
	AcquireTimeouts int64         `json:"acquire_timeouts"`
	Rejected        int64         `json:"rejected"`
	QueryTimeouts   int64         `json:"query_timeouts"`
	CircuitOpened   int64         `json:"circuit_opened"`
	Leaks           int64         `json:"leaks"`
	Holders         []holder      `json:"holders"`
	Waiters         []waiter      `json:"waiters"`
}

type holder struct {
	PID     uint32        `json:"pid"`
	Held    time.Duration `json:"held_ns"`
	SQL     string        `json:"sql"`
	Running bool          `json:"running"`
	TakenBy string        `json:"taken_by"`
}

type waiter struct {
	Waited   time.Duration `json:"waited_ns"`
	Tag      string        `json:"tag"`
	CalledBy string        `json:"called_by"`
}

func parseSnapshot(data []byte) (reading.Service, error) {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		// The text of the error can quote what was read.
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it is not the JSON of a pool's snapshot")
	}
	switch {
	case s.Format > format:
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, "install a newer pgmedic", "its format is %d, and this version reads up to %d", s.Format, format)
	case s.Format < 1 || s.TakenAt.IsZero() || len(s.Servers) == 0:
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it is not the JSON of a pool's snapshot")
	}
	for _, of := range s.Servers {
		if min(of.InUse, of.Idle, of.Waiting, of.Max) < 0 || of.Acquired < 0 || of.AcquireTime < 0 {
			return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it has a count of connections that is less than nothing")
		}
	}
	at := s.TakenAt.UTC()
	service := reading.Service{
		Application: cut(s.Application), TakenAt: &at,
		Retries: s.Retries, RetriesRefused: s.RetriesRefused, Fallbacks: s.Fallbacks, SlowStatements: s.SlowStatements,
		Servers: []reading.ServicePool{},
	}
	for _, of := range s.Servers[:min(mostServers, len(s.Servers))] {
		service.Servers = append(service.Servers, of.pool())
	}
	return service, nil
}

// pool is the part of a snapshot on one server. Statements lose their literals once more,
// because the service may be any program.
func (s *ofServer) pool() reading.ServicePool {
	p := reading.ServicePool{
		Server: cut(s.Server), Role: cut(s.Role), Usable: s.Usable, CircuitOpen: s.CircuitOpen, Pooler: s.Pooler,
		InUse: s.InUse, Idle: s.Idle, Waiting: s.Waiting, Max: s.Max,
		Acquired: s.Acquired, AcquireSeconds: s.AcquireTime.Seconds(), Opened: s.Opened, AcquireTimeouts: s.AcquireTimeouts,
		Rejected: s.Rejected, QueryTimeouts: s.QueryTimeouts, CircuitOpened: s.CircuitOpened, Leaks: s.Leaks,
		Holders: []reading.ServiceHolder{}, Waiters: []reading.ServiceWaiter{},
	}
	for _, h := range s.Holders[:min(mostListed, len(s.Holders))] {
		p.Holders = append(p.Holders, reading.ServiceHolder{
			PID: int(h.PID), HeldSeconds: h.Held.Seconds(), Query: sqltext.Form{}.Normalise(cut(h.SQL)), Running: h.Running, TakenBy: cut(h.TakenBy),
		})
	}
	for _, w := range s.Waiters[:min(mostListed, len(s.Waiters))] {
		p.Waiters = append(p.Waiters, reading.ServiceWaiter{WaitedSeconds: w.Waited.Seconds(), Tag: cut(w.Tag), CalledBy: cut(w.CalledBy)})
	}
	return p
}

// cut bounds a text.
func cut(s string) string {
	return strings.ToValidUTF8(s[:min(longestText, len(s))], "")
}

// The metrics of the pool that are read; docs/pool.md lists all.
const (
	metricPrefix  = "pgmedic_pool_"
	metricMax     = metricPrefix + "connections_max"
	metricAcquire = "acquire_seconds"
)

func parseMetrics(data []byte) (reading.Service, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it is neither the JSON of a pool's snapshot nor metrics")
	}
	sizes := families[metricMax].GetMetric()
	if len(sizes) == 0 {
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it has no metric %s", metricMax)
	}
	if err := checkSizes(sizes); err != nil {
		return reading.Service{}, err
	}
	all := metrics{families: families}
	total := func(name string) int64 {
		for _, m := range families[metricPrefix+name].GetMetric() {
			return int64(all.number(name, value(m)))
		}
		return 0
	}
	service := reading.Service{
		Retries: total("retries_total"), RetriesRefused: total("retries_refused_total"),
		Fallbacks: total("read_fallbacks_total"), SlowStatements: total("slow_statements_total"),
		Servers: []reading.ServicePool{},
	}
	for _, m := range sizes[:min(mostServers, len(sizes))] {
		service.Servers = append(service.Servers, all.of(serverOf(m)))
	}
	if all.wrong != "" {
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "its metric %s%s has a value that it can't have", metricPrefix, all.wrong)
	}
	return service, nil
}

// checkSizes refuses metrics that are not those of one pool now: those of several, and
// those with times of their own, as another program has them that has collected them.
func checkSizes(sizes []*dto.Metric) error {
	const hint = "give the URL of the metrics of one service itself"
	seen := map[string]bool{}
	for _, m := range sizes {
		if m.TimestampMs != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, hint, "its metrics have times of their own, so they may not be true now")
		}
		if seen[serverOf(m)] {
			return pgmedic.Errorf(pgmedic.KindUsage, hint, "it has the metrics of several pools")
		}
		seen[serverOf(m)] = true
	}
	return nil
}

// metrics are those of a pool, and the name of one whose value it can't have.
type metrics struct {
	families map[string]*dto.MetricFamily
	wrong    string
}

// number is a value that is a count or a length of time.
func (x *metrics) number(name string, v float64) float64 {
	if v >= 0 && v <= mostCounted {
		return v
	}
	x.wrong = name
	return 0
}

// of are the metrics of one server.
func (x *metrics) of(server string) reading.ServicePool {
	of := func(name string) *dto.Metric {
		for _, m := range x.families[metricPrefix+name].GetMetric() {
			if serverOf(m) == server {
				return m
			}
		}
		return nil
	}
	count := func(name string) int64 { return int64(x.number(name, value(of(name)))) }
	p := reading.ServicePool{
		Server: cut(server), Role: "unknown", Usable: count("server_usable") == 1, CircuitOpen: count("circuit_open") == 1,
		InUse: int(count("connections_in_use")), Idle: int(count("connections_idle")), Waiting: int(count("waiting")), Max: int(count("connections_max")),
		Opened: count("connections_opened_total"), AcquireTimeouts: count("acquire_timeouts_total"), Rejected: count("rejected_total"),
		QueryTimeouts: count("query_timeouts_total"), CircuitOpened: count("circuit_opened_total"), Leaks: count("leaks_total"),
	}
	if count("server_primary") == 1 {
		p.Role = "primary"
	}
	if h := of(metricAcquire).GetHistogram(); h != nil {
		p.Acquired, p.AcquireSeconds = int64(x.number(metricAcquire, float64(h.GetSampleCount()))), x.number(metricAcquire, h.GetSampleSum())
	}
	return p
}

// serverOf is the label that says which server a sample is of.
func serverOf(m *dto.Metric) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == "server" {
			return l.GetValue()
		}
	}
	return ""
}

// value is that of a counter, a gauge, or a sample whose type is not stated.
func value(m *dto.Metric) float64 {
	switch {
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	case m.GetGauge() != nil:
		return m.GetGauge().GetValue()
	}
	return m.GetUntyped().GetValue()
}
