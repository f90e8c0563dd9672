package judge

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// servicePools judges the connection pools of services. A pool that is full while callers
// wait has no threshold: these callers wait for nothing else.
func (a *analysis) servicePools() {
	for _, s := range a.reading.Services {
		if !s.Current {
			continue // it is of another time
		}
		for _, p := range s.Servers {
			if p.Waiting > 0 && p.Max > 0 && p.InUse >= p.Max {
				a.add(sessionWide, a.exhausted(s, p))
			}
		}
	}
}

// exhausted is the finding of one pool that is full. Its fix ends what it waits for if
// that is a session that idles in a transaction.
func (a *analysis) exhausted(s reading.Service, p reading.ServicePool) pgmedic.Finding {
	f := pgmedic.Finding{
		ID: "pool-exhausted", Section: reading.SectionServices, Severity: pgmedic.SeverityWarn,
		Object: fmt.Sprintf("service %s, server %s", cmp.Or(s.Application, s.Source), p.Server),
		Summary: fmt.Sprintf("All %s of the service's pool are in use, and %s for one.",
			words.Plural(p.Max, "connection"), words.Plural(p.Waiting, "caller waits", "callers wait")),
		Evidence: []pgmedic.Evidence{
			evidenceText("source", s.Source), evidence("waiting", p.Waiting), evidence("in_use", p.InUse),
			evidence("max", p.Max), evidence("acquire_timeouts", p.AcquireTimeouts), evidence("rejected", p.Rejected),
		},
	}
	if len(p.Holders) == 0 {
		return f
	}
	longest := p.Holders[0]
	f.Evidence = append(f.Evidence, evidenceSeconds("longest_held_seconds", longest.HeldSeconds), evidenceText("longest_statement", longest.Query))
	idle, behind := a.idler(p.Holders)
	if idle == nil {
		return f
	}
	if behind {
		f.Summary += fmt.Sprintf(" One of them waits for a lock of process %d, which has been idle in a transaction for %s.", idle.PID, words.LongSeconds(idle.StateSeconds))
	} else {
		f.Summary += fmt.Sprintf(" Its process %d has been idle in a transaction for %s.", idle.PID, words.LongSeconds(idle.StateSeconds))
	}
	if idle.BackendStart != nil && idle.TransactionStart != nil {
		f.Fix, f.Risk = endIdle(idle.PID, *idle.BackendStart, *idle.TransactionStart), endIdleRisk
	}
	return f
}

// idler is the session that idles in a transaction and keeps a pool's connection: one that
// a holder waits for, if it idles for as long as a wait for a lock may take, or else a
// holder's own, if it idles for longer than a transaction may. Those of backups hold theirs
// on purpose.
func (a *analysis) idler(holders []reading.ServiceHolder) (idle *reading.Session, behind bool) {
	idles := func(s *reading.Session, limit time.Duration) bool {
		return s != nil && strings.HasPrefix(s.State, "idle in transaction") && !isBackup(s.Application) && s.StateSeconds >= limit.Seconds()
	}
	for i := range holders {
		for j := range holders[i].Blockers {
			if b := &holders[i].Blockers[j]; idles(b, a.limits.LockWaitWarn) {
				return b, true
			}
		}
	}
	for i := range holders {
		if h := &holders[i]; !h.Running && idles(h.Session, a.limits.IdleInTransaction) {
			return h.Session, false
		}
	}
	return nil, false
}
