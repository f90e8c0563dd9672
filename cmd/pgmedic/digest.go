package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/words"
)

// mostDigested bounds the databases that a digest lists; it counts all.
const mostDigested = 50

// digest is the summary of all databases, if it is due.
func (n *notifier) digest(ctx context.Context) ([]notify.Event, error) {
	if n.cfg.Notifications.Digest == "" {
		return nil, nil
	}
	times, err := schedule.ParseTimes(n.cfg.Notifications.Digest, time.UTC)
	if err != nil {
		return nil, fmt.Errorf("notifications.digest: %w", err)
	}
	after, due, err := n.sender.DigestDue(ctx, n.target("").Server, times.Next)
	if err != nil || !due {
		return nil, err
	}
	e := notify.Event{At: n.now(), Target: n.target(""), Severity: pgmedic.SeverityInfo, Fingerprint: notify.Fingerprint("digest", n.target("").Server), Command: "pgmedic list"}
	open, err := n.sender.Open(ctx, "", e.Target.Server)
	if err != nil {
		return nil, err
	}
	// A channel that can't be sent by is not of a server.
	broken, err := n.sender.Open(ctx, notify.ChannelEvents, "")
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
	open = append(open, broken...)
	for _, o := range open {
		about := strings.TrimSpace(o.Target.Database + " " + o.Object)
		e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: "open since " + o.Since.UTC().Format("2006-01-02"), Value: strings.TrimSpace(o.Name + " " + about)})
	}
	e.Summary = fmt.Sprintf("%d of %s can be recovered to a proven backup; %s", proven, words.Plural(len(recoveries), "database"), openWords(len(open)))
	if unread > 0 {
		e.Summary += "; " + words.Plural(unread, "store") + " could not be read"
	}
	if len(open) > 0 || unread > 0 || proven < len(recoveries) || len(recoveries) == 0 {
		e.Severity = pgmedic.SeverityWarn
	}
	return []notify.Event{notify.Digest(e, after)}, nil
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
