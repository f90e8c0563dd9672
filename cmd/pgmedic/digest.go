package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// mostDigested bounds the databases that a digest lists, and the problems; it counts all.
const mostDigested = 50

// digest is the summary of all databases, if it is due or was asked for. It is sent after the
// events of the run, which it takes into account.
func (n *notifier) digest(ctx context.Context, sent []notify.Event) ([]notify.Event, error) {
	after, due, err := n.digestDue(ctx)
	if err != nil || !due {
		return nil, err
	}
	e := notify.Event{At: n.now(), Target: n.target(""), Severity: pgmedic.SeverityInfo, Fingerprint: notify.Fingerprint("digest", n.target("").Server), Command: "pgmedic list"}
	open, err := n.openProblems(ctx, sent)
	if err != nil {
		return nil, err
	}
	got := n.listed(ctx, "")
	recoveries, unread := map[string]*notify.Recovery{}, len(got.unread)
	for database, entries := range got.entries {
		recoveries[database] = recoverable(entries)
	}
	proven := 0
	for i, database := range slices.Sorted(maps.Keys(recoveries)) {
		r := recoveries[database]
		if r.Proof == pgmedic.ProofProven {
			proven++
		}
		if i < mostDigested {
			e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: database, Value: digestWords(r)})
		}
	}
	for _, o := range open[:min(len(open), mostDigested)] {
		e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: "open since " + o.Since.UTC().Format("2006-01-02"), Value: problemWords(o)})
	}
	if more := len(open) - mostDigested; more > 0 {
		e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: "open", Value: words.Plural(more, "more problem")})
	}
	e.Summary = fmt.Sprintf("%d of %s can be recovered to a proven backup; %s", proven, words.Plural(len(recoveries), "database"), openWords(len(open)))
	if unread > 0 {
		e.Summary += "; " + words.Plural(unread, "store") + " could not be read"
	}
	head, whole := n.auditHead(ctx)
	e.Evidence = append(e.Evidence, head...)
	if len(open) > 0 || unread > 0 || !whole || proven < len(recoveries) || len(recoveries) == 0 {
		e.Severity = pgmedic.SeverityWarn
	}
	return []notify.Event{notify.Digest(e, after)}, nil
}

// digestDue reports whether a digest is to be sent, and when the last one was.
func (n *notifier) digestDue(ctx context.Context) (after time.Time, due bool, err error) {
	server := n.target("").Server
	if n.digestNow {
		after, err = n.sender.LastDigest(ctx, server)
		return after, true, err
	}
	if n.cfg.Notifications.Digest == "" {
		return after, false, nil
	}
	times, err := schedule.ParseTimes(n.cfg.Notifications.Digest, time.UTC)
	if err != nil {
		return after, false, fmt.Errorf("notifications.digest: %w", err)
	}
	return n.sender.DigestDue(ctx, server, times.Next)
}

// openProblems are what has been reported to be wrong and not to have ended, when the events
// of the run are sent.
func (n *notifier) openProblems(ctx context.Context, sent []notify.Event) ([]notify.Event, error) {
	open, err := n.sender.Open(ctx, "", n.target("").Server)
	if err != nil {
		return nil, err
	}
	// A channel that can't be sent by is not of a server.
	broken, err := n.sender.Open(ctx, notify.ChannelEvents, "")
	if err != nil {
		return nil, err
	}
	open = append(open, broken...)
	for _, e := range sent {
		i := slices.IndexFunc(open, func(o notify.Event) bool { return o.Fingerprint == e.Fingerprint })
		switch {
		case e.State == notify.StateFiring && i < 0:
			e.Since = e.At
			open = append(open, e)
		case e.State == notify.StateResolved && i >= 0, e.State == notify.StateInfo && !e.Due && i >= 0: // a success ends what was wrong
			open = slices.Delete(open, i, i+1)
		}
	}
	return open, nil
}

// auditHead is the head of the audit log, of which a digest is a copy elsewhere: nothing where
// there is no log. It is not whole if there is one that can't be read.
func (n *notifier) auditHead(ctx context.Context) (head []pgmedic.Evidence, whole bool) {
	if n.cfg.Audit.File == config.AuditOff {
		return nil, true
	}
	log, err := n.auditLog()
	var a pgmedic.AuditAnchor
	begun := false
	if err == nil {
		a, begun, err = log.Head(ctx, "")
	}
	switch {
	case err == nil && !begun, noPlace(n.cfg.Audit, err):
		return nil, true
	case err != nil:
		n.log.Warn("the head of the audit log is not in the digest", "error", words.OneLine(err.Error()), "hint", "`pgmedic audit verify` says more")
		return []pgmedic.Evidence{{Name: notify.DigestAudit, Value: "can't be read: run pgmedic audit verify"}}, false
	}
	return []pgmedic.Evidence{{
		Name: notify.DigestAudit, Value: fmt.Sprintf("record %d of log %s has the hash %s, at %s", a.Seq, a.Log, a.Hash, a.At.UTC().Format("2006-01-02 15:04:05Z")),
	}}, true
}

// problemWords says what is open: of a finding which one.
func problemWords(o notify.Event) string {
	about := strings.TrimSpace(o.Target.Database + " " + o.Object)
	if strings.HasPrefix(o.Name, findingEvent) {
		return about + ": " + o.Summary
	}
	return strings.TrimSpace(o.Name + " " + about)
}

func openWords(open int) string {
	if open == 0 {
		return "no problem is open"
	}
	return words.Plural(open, "problem is open", "problems are open")
}

func digestWords(r *notify.Recovery) string {
	if !r.Recoverable {
		return "no good backup"
	}
	text := "recoverable to " + r.To.UTC().Format("2006-01-02 15:04") + " UTC, " + string(r.Proof)
	if r.Claimed {
		text += " by receipts that this host can't check"
	}
	return text
}
