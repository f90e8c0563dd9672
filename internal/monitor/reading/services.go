package reading

import "time"

// Service is the connection pool of a service, as it described itself, with what the
// server says of the sessions that it has.
type Service struct {
	// Source is where the description came from: a URL without what follows its path, or
	// the name of a file.
	Source string `json:"source"`
	// Application is the application_name of the pool's sessions, empty where it is not
	// known.
	Application string `json:"application"`
	// TakenAt is when the service described itself, nil for metrics in a file, which do not
	// say.
	TakenAt *time.Time `json:"taken_at"`
	// Current is true where TakenAt was near the moment at which the description was read:
	// only then it is judged, and its sessions are looked for.
	Current bool `json:"current"`
	// Retries counts calls that were tried again, RetriesRefused those that were not
	// because the budget was spent, Fallbacks reads that went to the primary after a
	// standby had failed them, and SlowStatements those over the service's threshold. They
	// and all other counts are since the service started.
	Retries        int64 `json:"retries"`
	RetriesRefused int64 `json:"retries_refused"`
	Fallbacks      int64 `json:"read_fallbacks"`
	SlowStatements int64 `json:"slow_statements"`
	// Servers are the servers that the pool has connections to.
	Servers []ServicePool `json:"servers"`
}

// ServicePool is the connections of a service's pool to one server.
type ServicePool struct {
	// Server is the host and port by which the service knows it, and Role is primary,
	// standby or unknown, as the service found it.
	Server string `json:"server"`
	Role   string `json:"role"`
	// Usable is false while the service does not use the server, CircuitOpen is true while
	// its calls fail at once.
	Usable      bool `json:"usable"`
	CircuitOpen bool `json:"circuit_open"`
	// Pooler is true where a pooler such as PgBouncer is in between, so that no process is
	// known.
	Pooler bool `json:"pooler"`
	// InUse and Idle count connections, of at most Max; Waiting counts callers that wait
	// for one.
	InUse   int `json:"in_use"`
	Idle    int `json:"idle"`
	Waiting int `json:"waiting"`
	Max     int `json:"max"`
	// Acquired counts connections that callers got, and AcquireSeconds is how long these
	// callers waited in all.
	Acquired       int64   `json:"acquired"`
	AcquireSeconds float64 `json:"acquire_seconds"`
	// Opened counts connections that were opened or tried, AcquireTimeouts callers that
	// got none in time, Rejected callers that were turned away because too many waited,
	// QueryTimeouts statements that the pool cancelled, CircuitOpened how often the
	// circuit breaker opened, and Leaks connections that were held for too long.
	Opened          int64 `json:"opened"`
	AcquireTimeouts int64 `json:"acquire_timeouts"`
	Rejected        int64 `json:"rejected"`
	QueryTimeouts   int64 `json:"query_timeouts"`
	CircuitOpened   int64 `json:"circuit_opened"`
	Leaks           int64 `json:"leaks"`
	// Holders have a connection, the longest first, and Waiters wait for one, the longest
	// first; both are bounded to 100, and nil where the source does not say, as metrics do
	// not.
	Holders []ServiceHolder `json:"holders"`
	Waiters []ServiceWaiter `json:"waiters"`
	// Joined is true where the server was asked for the sessions of Holders.
	Joined bool `json:"joined"`
}

// snapshotAge is how far from the moment at which it is read a description of a pool may be
// for its sessions to be those of the server. A statement rarely takes longer, and process ids are used again; this
// threshold is our choice.
const snapshotAge = time.Minute

// Of reports whether the description is of that moment, so that it says what is now, and
// its processes are those of the server's sessions.
func (s *Service) Of(at time.Time) bool {
	return s.TakenAt != nil && at.Sub(*s.TakenAt).Abs() <= snapshotAge
}

// MeanWaitSeconds is how long a caller waited for a connection on average.
func (p *ServicePool) MeanWaitSeconds() float64 {
	if p.Acquired == 0 {
		return 0
	}
	return p.AcquireSeconds / float64(p.Acquired)
}

// ServiceHolder is a caller that has a connection.
type ServiceHolder struct {
	// PID is the server's process, or 0 where it is not known.
	PID         int     `json:"pid"`
	HeldSeconds float64 `json:"held_seconds"`
	// Query is the statement that runs or ran last, without literals, as the service has
	// it, and Running says which.
	Query   string `json:"query"`
	Running bool   `json:"running"`
	// TakenBy are the functions that called for the connection, with lines, the nearest
	// first, or empty where the service does not keep them.
	TakenBy string `json:"taken_by"`
	// Session is what the server says of the process, shortly after, nil where it was not
	// asked (see Joined) or has no such process of this application.
	Session *Session `json:"session"`
	// BlockedBy are the process ids that the session waits for; 0 is a prepared
	// transaction. Blockers are those that are sessions.
	BlockedBy []int     `json:"blocked_by"`
	Blockers  []Session `json:"blockers"`
}

// ServiceWaiter is a caller that waits for a connection.
type ServiceWaiter struct {
	WaitedSeconds float64 `json:"waited_seconds"`
	// Tag is what the service calls the work, CalledBy as ServiceHolder.TakenBy. Both may
	// be empty.
	Tag      string `json:"tag"`
	CalledBy string `json:"called_by"`
}

// Statement returns what pg_stat_statements has counted for a session's last statement in
// its database and for its role, or nil.
func (r *Reading) Statement(s *Session) *Statement {
	if r.Statements == nil || s == nil || s.QueryID == "" {
		return nil
	}
	for i := range r.Statements.Items {
		item := &r.Statements.Items[i]
		if item.QueryID == s.QueryID && item.Database == s.Database && item.User == s.User {
			return item
		}
	}
	return nil
}
