package render

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// ServiceName is what to call a service's pool.
func ServiceName(s reading.Service) string {
	if s.Application == "" {
		return s.Source
	}
	return s.Application + " (" + s.Source + ")"
}

// ServiceFacts are what a service says of its calls since it started.
func ServiceFacts(s reading.Service) []string {
	facts := []string{
		words.Plural(s.Retries, "call") + " tried again", words.Count(s.RetriesRefused) + " refused by the retry budget",
		words.Plural(s.Fallbacks, "read") + " moved to the primary", words.Plural(s.SlowStatements, "slow statement"),
	}
	if s.TakenAt != nil {
		facts = append(facts, "read "+s.TakenAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return facts
}

// PoolFacts are the connections of a pool to one server.
func PoolFacts(p reading.ServicePool) []string {
	facts := []string{
		fmt.Sprintf("%s of %s in use", words.Count(int64(p.InUse)), words.Count(int64(p.Max))),
		words.Count(int64(p.Idle)) + " idle", words.Count(int64(p.Waiting)) + " waiting",
		"callers waited " + words.Seconds(p.MeanWaitSeconds()) + " on average",
		words.Count(p.AcquireTimeouts) + " got none in time", words.Count(p.Rejected) + " turned away",
		words.Plural(p.QueryTimeouts, "statement") + " timed out", words.Count(p.Leaks) + " held too long",
	}
	if !p.Usable {
		facts = append(facts, "not used by the service now")
	}
	if p.CircuitOpen {
		facts = append(facts, "circuit breaker open")
	}
	return facts
}

// OnServer is what the server says of a holder's session: what it does, what it waits for
// and behind which sessions.
func OnServer(p reading.ServicePool, h reading.ServiceHolder) string {
	s := h.Session
	if !p.Joined {
		return "not checked"
	}
	if s == nil {
		return "no session of it was found on this server"
	}
	parts := []string{fmt.Sprintf("%s for %s", words.OrDash(s.State), words.Seconds(s.StateSeconds))}
	if s.State == "" {
		parts[0] = "its state is hidden from this role"
	}
	if s.WaitEvent != "" && s.State == "active" {
		parts = append(parts, "waits for "+s.WaitEvent)
	}
	if len(h.BlockedBy) > 0 {
		parts = append(parts, "blocked by process "+PIDs(h.BlockedBy))
	}
	for _, b := range h.Blockers {
		parts = append(parts, fmt.Sprintf("process %d (%s): %s for %s", b.PID, words.OrDash(strings.TrimSpace(b.User+" "+b.Application)), words.OrDash(b.State), words.Seconds(b.StateSeconds)))
	}
	return strings.Join(parts, ", ")
}

// Counted is what pg_stat_statements says of a holder's statement, or nothing.
func Counted(r *reading.Reading, h reading.ServiceHolder) string {
	s := r.Statement(h.Session)
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%s, %s on average, longest %s", words.Plural(s.Calls, "call"), words.Seconds(s.MeanSeconds()), words.Seconds(s.MaxSeconds))
}
