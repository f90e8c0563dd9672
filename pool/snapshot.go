package pool

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"
)

// SnapshotFormat is the format number of a Snapshot's JSON. Fields may be added without
// raising it; their meaning may not change.
const SnapshotFormat = 1

// Snapshot is the state of a pool at one moment, as JSON for `pgmedic report --pool`: who
// has a connection, with which statement, and who waits for one. It has no value of a
// statement and no row.
type Snapshot struct {
	Format int `json:"format"`
	// TakenAt is the moment, in UTC.
	TakenAt time.Time `json:"taken_at"`
	// Application is the application_name of the pool's sessions, or empty.
	Application string `json:"application"`
	// Retries, RetriesRefused, Fallbacks and SlowStatements are those of Stats.
	Retries        int64 `json:"retries"`
	RetriesRefused int64 `json:"retries_refused"`
	Fallbacks      int64 `json:"read_fallbacks"`
	SlowStatements int64 `json:"slow_statements"`
	// Servers are the primary's and the replicas' of the configuration, in that order.
	Servers []ServerSnapshot `json:"servers"`
}

// ServerSnapshot is the state of the connections to one server.
type ServerSnapshot struct {
	// Server is its host and port, and Role is primary, standby or unknown.
	Server string `json:"server"`
	Role   string `json:"role"`
	// Usable says whether it is used, CircuitOpen whether calls to it fail at once, and
	// Pooler whether a pooler such as PgBouncer is in between.
	Usable      bool `json:"usable"`
	CircuitOpen bool `json:"circuit_open"`
	Pooler      bool `json:"pooler"`
	// InUse, Idle and Waiting are connections in use, idle ones, and callers that wait;
	// Max is how many connections there may be.
	InUse   int `json:"in_use"`
	Idle    int `json:"idle"`
	Waiting int `json:"waiting"`
	Max     int `json:"max"`
	// Acquired counts connections that callers got, and AcquireTime is how long they
	// waited in all. The other counts are those of ServerStats.
	Acquired        int64         `json:"acquired"`
	AcquireTime     time.Duration `json:"acquire_ns"`
	Opened          int64         `json:"opened"`
	AcquireTimeouts int64         `json:"acquire_timeouts"`
	Rejected        int64         `json:"rejected"`
	QueryTimeouts   int64         `json:"query_timeouts"`
	CircuitOpened   int64         `json:"circuit_opened"`
	Leaks           int64         `json:"leaks"`
	// Holders are those that have a connection, the longest first.
	Holders []Holder `json:"holders"`
	// Waiters are those that wait for one, the longest first, at most 100.
	Waiters []Waiter `json:"waiters"`
}

// Waiter is somebody who waits for a connection.
type Waiter struct {
	// Waited is for how long.
	Waited time.Duration `json:"waited_ns"`
	// Tag is the one of WithTag, or empty.
	Tag string `json:"tag,omitempty"`
	// CalledBy is as Holder.TakenBy, empty unless Config.LeakAfter is set.
	CalledBy string `json:"called_by,omitempty"`
}

// waitersShown bounds the waiters of a Snapshot.
const waitersShown = 100

// Snapshot returns the state of the pool. It talks to no server.
func (db *DB) Snapshot() Snapshot {
	stats := db.Stats()
	s := Snapshot{
		Format: SnapshotFormat, TakenAt: time.Now().UTC(), Application: db.endpoints[0].application(),
		Retries: stats.Retries, RetriesRefused: stats.RetriesRefused, Fallbacks: stats.Fallbacks, SlowStatements: stats.SlowStatements,
		Servers: make([]ServerSnapshot, len(stats.Servers)),
	}
	for i, e := range db.endpoints {
		of := stats.Servers[i]
		s.Servers[i] = ServerSnapshot{
			Server: of.Server, Role: of.Role, Usable: of.Usable, CircuitOpen: of.CircuitOpen, Pooler: e.pooled.Load() == pooledYes,
			InUse: of.InUse, Idle: of.Idle, Waiting: of.Waiting, Max: of.Max,
			Acquired: of.Acquire.Count, AcquireTime: of.Acquire.Sum, Opened: of.Opened, AcquireTimeouts: of.AcquireTimeouts,
			Rejected: of.Rejected, QueryTimeouts: of.QueryTimeouts, CircuitOpened: of.CircuitOpened, Leaks: of.Leaks,
			Holders: append([]Holder{}, e.holders()...), Waiters: e.queue.list(e.clock()),
		}
	}
	return s
}

// SnapshotHandler answers with Snapshot as JSON. Serve it where only administrators
// reach it, as pprof: it has the texts of statements, without values, and places in the
// code.
func (db *DB) SnapshotHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// Who asked may be gone.
		_ = json.NewEncoder(w).Encode(db.Snapshot())
	})
}

// application is the application_name of the sessions with the server.
func (e *endpoint) application() string {
	return e.pool.Config().ConnConfig.RuntimeParams["application_name"]
}

// queue is who waits for a connection.
type queue struct {
	mu  sync.Mutex
	all map[*queued]struct{}
}

// queued is one who waits.
type queued struct {
	since time.Duration
	tag   string
	stack []uintptr
}

// join notes that the caller waits since then, with the stack or without, until the
// function that it returns is called.
func (q *queue) join(ctx context.Context, since time.Duration, withStack bool) (leave func()) {
	w := &queued{since: since, tag: tagOf(ctx)}
	if withStack {
		w.stack = make([]uintptr, 32)
		w.stack = w.stack[:runtime.Callers(3, w.stack)]
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all == nil {
		q.all = map[*queued]struct{}{}
	}
	q.all[w] = struct{}{}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.all, w)
	}
}

// list returns who waits, the longest first.
func (q *queue) list(now time.Duration) []Waiter {
	q.mu.Lock()
	all := make([]*queued, 0, len(q.all))
	for w := range q.all {
		all = append(all, w)
	}
	q.mu.Unlock()
	slices.SortFunc(all, func(a, b *queued) int { return cmp.Compare(a.since, b.since) })
	list := []Waiter{}
	for _, w := range all[:min(waitersShown, len(all))] {
		list = append(list, Waiter{Waited: now - w.since, Tag: w.tag, CalledBy: frames(w.stack)})
	}
	return list
}
