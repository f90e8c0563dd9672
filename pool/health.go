package pool

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Status sums Health up.
type Status string

// The statuses of a pool.
const (
	// StatusOK: all servers can be used.
	StatusOK Status = "ok"
	// StatusDegraded: the primary can be used, a replica can't.
	StatusDegraded Status = "degraded"
	// StatusDown: there is no primary to write to. Replicas may still be read.
	StatusDown Status = "down"
)

// Health is what the last probes found out.
type Health struct {
	Status Status `json:"status"`
	// Servers are the primary's and the replicas' of the configuration, in that
	// order.
	Servers []ServerHealth `json:"servers"`
}

// ServerHealth is what the last probe of one server found out.
type ServerHealth struct {
	// Server is its host and port.
	Server string `json:"server"`
	// Role is primary, standby or unknown.
	Role string `json:"role"`
	// Usable says whether it is used, and Problem why it is not.
	Usable  bool   `json:"usable"`
	Problem string `json:"problem,omitempty"`
	// ErrorClass is the class of the probe's error, if it failed, or of why no
	// connection could be opened.
	ErrorClass string `json:"error_class,omitempty"`
	// ProbedAt is when the probe ended; zero if there was none yet. Latency is
	// how long its round trip took.
	ProbedAt time.Time     `json:"probed_at"`
	Latency  time.Duration `json:"latency_ns"`
	// Lag is how far a standby is behind the primary at most, and LagBytes by
	// how much WAL, if LagKnown.
	Lag      time.Duration `json:"lag_ns"`
	LagBytes int64         `json:"lag_bytes"`
	LagKnown bool          `json:"lag_known"`
	// CircuitOpen says whether calls to it fail at once.
	CircuitOpen bool `json:"circuit_open"`
	// Pooler says whether a pooler such as PgBouncer is in between.
	Pooler bool `json:"pooler"`
	// InUse, Idle and Waiting are connections in use, idle ones, and callers that
	// wait, now; Max is how many connections there may be.
	InUse   int `json:"in_use"`
	Idle    int `json:"idle"`
	Waiting int `json:"waiting"`
	Max     int `json:"max"`
}

// Health returns what is known of the servers. It talks to none of them: probes
// do, once per Config.HealthInterval, and more often while something is wrong.
// So it may be called as often as one likes. Only if a server has not been
// probed for three intervals, as when the process was stopped, does it wait for
// the next probe, at most until the context ends or the pool is shut down.
func (db *DB) Health(ctx context.Context) Health {
	t, changed := db.monitor.snapshot()
	if db.stale(t) && !db.closed.Load() {
		db.monitor.kick()
		select {
		case <-changed:
			t, _ = db.monitor.snapshot()
		case <-db.monitor.stopped:
		case <-ctx.Done():
		}
	}
	h := Health{Status: StatusOK, Servers: make([]ServerHealth, len(t.views))}
	for i := range t.views {
		h.Servers[i] = db.endpoints[i].health(&t.views[i])
		if !h.Servers[i].Usable {
			h.Status = StatusDegraded
		}
	}
	if t.primary < 0 || !h.Servers[t.primary].Usable || db.closed.Load() {
		h.Status = StatusDown
	}
	return h
}

func (db *DB) stale(t topology) bool {
	for _, v := range t.views {
		if v.probed && time.Since(v.at) > 3*db.config.HealthInterval {
			return true
		}
	}
	return false
}

func (e *endpoint) health(v *view) ServerHealth {
	s := ServerHealth{
		Server: e.name, Role: "unknown", Usable: v.healthy(), Problem: v.problem, ProbedAt: v.at, Latency: v.latency,
		Lag: v.lag, LagBytes: v.lagBytes, LagKnown: v.lagKnown, CircuitOpen: e.breaker.open(time.Now),
		Pooler: e.pooled.Load() == pooledYes, Max: e.config.MaxConns,
	}
	switch {
	case v.primary:
		s.Role = "primary"
	case v.standby:
		s.Role = "standby"
	}
	if err := cmp.Or(v.err, v.unopened); err != nil {
		s.ErrorClass = Classify(err).String()
	}
	if !v.probed {
		s.Problem = "not probed yet"
	}
	s.InUse, s.Idle, s.Waiting = e.counts()
	return s
}

// counts returns how many connections are in use and idle, and how many callers
// wait.
func (e *endpoint) counts() (inUse, idle, waiting int) {
	_, waiting = e.gate.load()
	inUse = int(e.held.Load())
	return inUse, max(0, int(e.open.Load())-inUse), waiting
}

// HealthHandler answers with Health as JSON: 200 while there is a primary to
// write to, else 503. It suits a readiness check. For a liveness check use
// nothing of the database: a restart of the service does not mend the server.
func (db *DB) HealthHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		health := db.Health(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if health.Status == StatusDown {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		// Who asked may be gone.
		_ = encoder.Encode(health)
	})
}
