package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/spool"
)

// The choices of which successes are reported.
const (
	// SuccessNever reports none, except that a reported problem is resolved.
	SuccessNever = "never"
	// SuccessFirst reports to all channels the first one after a failure.
	SuccessFirst = "first"
	// SuccessAlways reports each.
	SuccessAlways = "always"
)

// repeatAfter is how long something that stays wrong is not reported again. A nightly job
// that fails every night is reported every night, even if it starts a little earlier; an
// hourly one is not reported every hour. These thresholds are our choice.
func repeatAfter(s pgmedic.Severity) time.Duration {
	if s == pgmedic.SeverityCritical {
		return 4*time.Hour - 15*time.Minute
	}
	return 20 * time.Hour
}

// alarm is something that is wrong and was reported.
type alarm struct {
	Name     string           `json:"event"`
	Severity pgmedic.Severity `json:"severity"`
	Since    time.Time        `json:"since"`
	ToldAt   time.Time        `json:"reported_at"`
	// SeenAt is when it was last found to be wrong.
	SeenAt time.Time `json:"seen_at"`
	Count  int       `json:"count"`
	// Channels are those that were told.
	Channels []string `json:"channels"`
	Target   Target   `json:"target"`
	Object   string   `json:"object,omitempty"`
	// Section is as that of an Event.
	Section string `json:"section,omitempty"`
	Summary string `json:"summary"`
}

// ledger is what is wrong, by fingerprint, and what else is remembered from run to run.
type ledger struct {
	Format int               `json:"format"`
	Alarms map[string]*alarm `json:"alarms"`
	// Digests is when the last digest of each server was sent, or when they began.
	Digests map[string]time.Time `json:"digests,omitempty"`
}

const (
	ledgerName   = "reported.json"
	ledgerFormat = 1
)

// newLedger is one that remembers nothing.
func newLedger() *ledger {
	return &ledger{Format: ledgerFormat, Alarms: map[string]*alarm{}, Digests: map[string]time.Time{}}
}

// readLedger reads what is remembered. What can't be read is forgotten, with an error.
// Times after now are of a clock that was wrong: what was reported then may be reported
// again.
func readLedger(f spool.Folder, now time.Time) (*ledger, error) {
	l := newLedger()
	data, err := os.ReadFile(filepath.Join(f.Dir, ledgerName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	var read ledger
	if err == nil {
		err = json.Unmarshal(data, &read)
	}
	if err == nil && read.Format != ledgerFormat {
		err = fmt.Errorf("it has format %d", read.Format)
	}
	if err != nil {
		return l, fmt.Errorf("read what was reported before: %w", err)
	}
	for fingerprint, a := range read.Alarms {
		if a == nil {
			continue
		}
		if a.ToldAt.After(now) {
			a.ToldAt = time.Time{}
		}
		for _, t := range []*time.Time{&a.Since, &a.SeenAt} {
			if t.After(now) {
				*t = now
			}
		}
		l.Alarms[fingerprint] = a
	}
	for server, at := range read.Digests {
		if !at.After(now) { // else they begin again
			l.Digests[server] = at
		}
	}
	return l, nil
}

// forgetAfter is how long something is remembered that no job finds wrong any more and
// none finds right, such as of a database that was dropped. This threshold is our choice.
const forgetAfter = 90 * 24 * time.Hour

func writeLedger(f spool.Folder, l *ledger, now time.Time) error {
	maps.DeleteFunc(l.Alarms, func(_ string, a *alarm) bool { return now.Sub(a.SeenAt) > forgetAfter })
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("write down what was reported: %w", err)
	}
	return f.Write(ledgerName, append(data, '\n'))
}

// verdict is what becomes of an event.
type verdict struct {
	event Event
	// tell is false where nothing is sent, but to channels that were not told yet where
	// untold is true.
	tell, untold bool
	// told are channels that hear of it besides those of its route; with onlyTold those
	// alone do.
	told     []string
	onlyTold bool
}

// apply notes an event, and says what is to be sent of it.
func (l *ledger) apply(e Event, onSuccess string) verdict {
	if e.Name == DigestName {
		due := l.Digests[e.Target.Server].Equal(e.digestAfter) // else another job has sent it meanwhile
		if due {
			l.Digests[e.Target.Server] = e.At
		}
		return verdict{event: e, tell: due}
	}
	a := l.Alarms[e.Fingerprint]
	if e.Due {
		return l.due(e, a, onSuccess)
	}
	if e.State != StateFiring {
		if a == nil {
			return verdict{event: e, tell: e.State == StateInfo && onSuccess == SuccessAlways && !e.Once}
		}
		delete(l.Alarms, e.Fingerprint)
		e.State, e.Since, e.Count = StateResolved, a.Since, a.Count
		return verdict{event: e, tell: true, told: a.Channels, onlyTold: onSuccess == SuccessNever}
	}
	fresh := a == nil
	if fresh {
		a = &alarm{Since: e.At}
		l.Alarms[e.Fingerprint] = a
	}
	a.Count++
	tell := fresh || e.Severity.Rank() > a.Severity.Rank() || !e.Once && e.At.Sub(a.ToldAt) >= repeatAfter(e.Severity)
	a.Name, a.Severity, a.Target, a.Object, a.Section, a.Summary = e.Name, e.Severity, e.Target, e.Object, e.Section, e.Summary
	e.Since, e.Count, a.SeenAt = a.Since, a.Count, e.At
	if tell {
		a.ToldAt = e.At
	}
	return verdict{event: e, tell: tell, untold: !fresh && !tell, told: a.Channels}
}

// due notes an event that is sent whatever was sent before. Its end goes to the channels
// that received its beginning, and to those of its route where that is not known.
func (l *ledger) due(e Event, a *alarm, onSuccess string) verdict {
	v := verdict{event: e, tell: true}
	if a != nil {
		v.told = a.Channels
	}
	switch e.State {
	case StateFiring:
		if a == nil {
			a = &alarm{Since: e.Since}
			l.Alarms[e.Fingerprint] = a
		}
		a.Count++
		a.Name, a.Severity, a.Target, a.Object, a.Section, a.Summary = e.Name, e.Severity, e.Target, e.Object, e.Section, e.Summary
		a.SeenAt, a.ToldAt = e.At, e.At
	case StateResolved:
		v.onlyTold = a != nil && onSuccess == SuccessNever
		delete(l.Alarms, e.Fingerprint)
	case StateInfo:
	}
	return v
}

// tell notes which channels hear of an event.
func (l *ledger) tell(e Event, channels []Channel) {
	a := l.Alarms[e.Fingerprint]
	if a == nil {
		return
	}
	for _, c := range channels {
		if !slices.Contains(a.Channels, c.Name) {
			a.Channels = append(a.Channels, c.Name)
		}
	}
	slices.Sort(a.Channels)
}

// notTold takes back that channels heard of what was refused or lost, so that the next run
// that finds it wrong tells them. It does nothing where all were reached.
func (s *Sender) notTold(ctx context.Context, results []Result) error {
	missed := slices.DeleteFunc(slices.Clone(results), func(r Result) bool {
		return r.Outcome != OutcomeRefused && r.Outcome != OutcomeLost
	})
	if len(missed) == 0 || s.spool.Create() != nil { // the latter is said by prepare
		return nil
	}
	unlock, err := s.spool.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l, err := readLedger(s.spool, s.o.Now())
	if err != nil {
		return err
	}
	for _, r := range missed {
		for _, fingerprint := range r.Fingerprints {
			if a := l.Alarms[fingerprint]; a != nil {
				a.Channels = slices.DeleteFunc(a.Channels, func(name string) bool { return name == r.Channel })
			}
		}
	}
	return writeLedger(s.spool, l, s.o.Now())
}

// Open returns what has been reported to be wrong and not to have ended: the last event
// of each, by the beginning of its name, on one server, in the order of fingerprints.
func (s *Sender) Open(ctx context.Context, prefix, server string) (open []Event, err error) {
	if _, err := os.Stat(s.o.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unlock, err := s.spool.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := readLedger(s.spool, s.o.Now())
	if err != nil {
		return nil, err
	}
	for _, fingerprint := range slices.Sorted(maps.Keys(l.Alarms)) {
		a := l.Alarms[fingerprint]
		if strings.HasPrefix(a.Name, prefix) && a.Target.Server == server {
			open = append(open, Event{
				Name: a.Name, Severity: a.Severity, State: StateFiring, Fingerprint: fingerprint, Since: a.Since, Count: a.Count,
				Target: a.Target, Object: a.Object, Section: a.Section, Summary: a.Summary,
			})
		}
	}
	return open, nil
}

// DigestName is that of the event that sums up all databases.
const DigestName = "digest"

// DigestAudit is the name of a digest's evidence that has the head of the audit log. It names
// nothing, and is also in messages without names.
const DigestAudit = "audit log"

// DigestDue reports whether a digest is to be sent, by when the next one is after a time.
// Then after is to be given to Digest. Each server has its own, and the first one is due a
// period after its digests began.
func (s *Sender) DigestDue(ctx context.Context, server string, next func(after time.Time) time.Time) (after time.Time, due bool, err error) {
	if err := s.spool.Create(); err != nil {
		return after, false, err
	}
	unlock, err := s.spool.Lock(ctx)
	if err != nil {
		return after, false, err
	}
	defer unlock()
	l, err := readLedger(s.spool, s.o.Now())
	if err != nil {
		return after, false, err
	}
	after = l.Digests[server]
	if after.IsZero() {
		l.Digests[server] = s.o.Now().UTC().Truncate(time.Second)
		return after, false, writeLedger(s.spool, l, s.o.Now())
	}
	slot := next(after)
	return after, !slot.IsZero() && !slot.After(s.o.Now()), nil
}

// LastDigest returns when the last digest of a server was sent, or when its digests began;
// zero if neither is known. It is to be given to Digest for one that is sent whether it is
// due or not.
func (s *Sender) LastDigest(ctx context.Context, server string) (time.Time, error) {
	if err := s.spool.Create(); err != nil {
		return time.Time{}, err
	}
	unlock, err := s.spool.Lock(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	l, err := readLedger(s.spool, s.o.Now())
	if err != nil {
		return time.Time{}, err
	}
	return l.Digests[server], nil
}

// Digest makes an event the digest that DigestDue found due. If another job sends it
// first, Send leaves this one out.
func Digest(e Event, after time.Time) Event {
	e.Name, e.State, e.digestAfter = DigestName, StateInfo, after
	return e
}
