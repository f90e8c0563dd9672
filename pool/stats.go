package pool

import "time"

// Stats are counts since the pool was opened, and of now.
type Stats struct {
	// Retries are the calls that were tried again, RetriesRefused those that
	// were not since the budget was spent, and Fallbacks the reads that went to
	// the primary after a standby had failed them.
	Retries, RetriesRefused, Fallbacks int64
	// SlowStatements are those that took longer than Config.SlowQuery.
	SlowStatements int64
	// Servers are the primary's and the replicas' of the configuration, in that
	// order.
	Servers []ServerStats
}

// ServerStats are those of one server.
type ServerStats struct {
	// Server is its host and port, and Role is primary, standby or unknown.
	Server, Role string
	// Usable says whether it is used, and CircuitOpen whether calls to it fail
	// at once.
	Usable, CircuitOpen bool
	// InUse, Idle and Waiting are connections in use, idle ones, and callers that
	// wait, now; Max is how many connections there may be.
	InUse, Idle, Waiting, Max int
	// Lag is how far a standby is behind the primary, if LagKnown.
	Lag      time.Duration
	LagBytes int64
	LagKnown bool

	// Opened counts connections opened, AcquireTimeouts callers that got an
	// ErrPoolTimeout, and Rejected those that got an ErrOverloaded.
	Opened, AcquireTimeouts, Rejected int64
	// QueryTimeouts counts statements that the pool cancelled for their length;
	// those that the server was first to cancel are not among them.
	QueryTimeouts int64
	// CircuitOpened counts how often the breaker opened, and Leaks connections
	// that were held for longer than Config.LeakAfter.
	CircuitOpened, Leaks int64

	// Acquire is how long callers waited for a connection that they got.
	Acquire Histogram
	// Durations are those of statements by operation and outcome, and of whole
	// transactions; only those that there have been.
	Durations []DurationStats
}

// DurationStats are the durations of one operation with one outcome.
type DurationStats struct {
	// Operation is query, exec, batch, copy or transaction. Statements in a
	// transaction are queries.
	Operation string
	// Outcome is ok, error, timeout, canceled or unavailable.
	Outcome string
	Histogram
}

// Stats returns the counts. It talks to no server.
func (db *DB) Stats() Stats {
	t, _ := db.monitor.snapshot()
	s := Stats{
		Retries: db.retries.done.Load(), RetriesRefused: db.retries.exhausted.Load(), Fallbacks: db.retries.fallbacks.Load(),
		SlowStatements: db.slow.count(), Servers: make([]ServerStats, len(db.endpoints)),
	}
	for i, e := range db.endpoints {
		s.Servers[i] = e.stats(&t.views[i])
	}
	return s
}

func (e *endpoint) stats(v *view) ServerStats {
	h := e.health(v)
	s := ServerStats{
		Server: e.name, Role: h.Role, Usable: h.Usable, CircuitOpen: h.CircuitOpen,
		InUse: h.InUse, Idle: h.Idle, Waiting: h.Waiting, Max: h.Max, Lag: v.lag, LagBytes: v.lagBytes, LagKnown: v.lagKnown,
		Opened: e.pool.Stat().NewConnsCount(), AcquireTimeouts: e.timeouts.Load(), Rejected: e.rejected.Load(),
		QueryTimeouts: e.overdue.Load(), CircuitOpened: e.breaker.count(), Leaks: e.leaks.Load(), Acquire: e.waits.snapshot(),
	}
	for op := range operations {
		for out := range outcomes {
			if h := e.durations[op][out].snapshot(); h.Count > 0 {
				s.Durations = append(s.Durations, DurationStats{operationNames[op], outcomeNames[out], h})
			}
		}
	}
	return s
}
