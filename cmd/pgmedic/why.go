package main

import (
	"context"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/words"
)

// reasons are what retention does with each backup in the chosen store, by id. Of a
// store that is not configured the first one's policy is taken.
func (a *app) reasons(ctx context.Context, f catalog.Filter) map[string]retention.Decision {
	stores := a.readStores(ctx, f)
	defer stores.close()
	name := ""
	for _, s := range stores {
		if s.Place == a.cfg.Backup.Place() {
			name = s.Name
		}
	}
	if name == "" {
		other := &heldStore{StoreOf: config.StoreOf{Name: a.cfg.Backup.Store, Retention: a.cfg.Retention}}
		other.catalog, other.closed, other.err = a.openPlace(ctx, a.cfg.Backup.Place(), a.cfg.Backup.S3, true)
		if other.err == nil {
			other.listing, other.err = other.catalog.List(ctx, a.trusting(f))
		}
		name, stores = other.Name, append(stores, other)
		defer retained{other}.close()
	}
	all := map[string]retention.Decision{}
	for _, s := range a.planRetention(stores, retentionScope{staleAfter: a.flagged("retention.stale_after", a.cfg.Retention.StaleAfter)}) {
		if s.Store != name {
			continue
		}
		for _, d := range s.Decisions {
			all[d.ID] = d
		}
	}
	return all
}

// printReasons prints what retention does with each backup.
func (a *app) printReasons(listing catalog.Listing, reasons map[string]retention.Decision) {
	for _, e := range listing.Entries {
		if d, ok := reasons[e.Backup.ID]; ok {
			a.printf("%s  %s  %s\n", a.verdict(d.Verdict, d.Unmark, false), words.Clean(d.ID), words.Clean(a.decisionWords(d)))
		}
	}
}

// keepingWords say that a backup is held, or marked for deletion, for a table.
func keepingWords(e catalog.Entry, now time.Time) string {
	text := ""
	if len(e.Held(now)) > 0 {
		text += ", held"
	}
	if e.Mark != nil {
		text += ", marked"
	}
	return text
}

// heldWords say what holds a backup, those that have ended included.
func heldWords(e catalog.Entry, now time.Time) string {
	var text []string
	for _, h := range e.Holds {
		one := h.Name + " by " + h.By + " " + words.Ago(now, h.At) + ": " + h.Reason
		if h.Odd != "" {
			one = h.Name + ", of which nothing else is known: " + h.Odd
		}
		switch {
		case h.Until.IsZero():
		case h.Holds(now):
			one += ", until " + h.Until.UTC().Format("2006-01-02 15:04Z")
		default:
			one += ", ended " + words.Ago(now, h.Until)
		}
		text = append(text, words.Clean(one))
	}
	return strings.Join(text, "; ")
}

// markWords say since when a backup is marked for deletion, and why.
func markWords(e catalog.Entry, now time.Time) string {
	if e.Mark == nil {
		return ""
	}
	text := "for deletion, " + words.Ago(now, e.Mark.Since())
	if e.Mark.Reason != "" {
		text += ": " + words.Clean(e.Mark.Reason)
	}
	return text
}

// verdictWords say in one line what retention does with a backup, and why.
func (a *app) verdictWords(d retention.Decision) string {
	if d.ID == "" {
		return "not known: the store could not be read"
	}
	return string(d.Verdict) + ": " + words.Clean(a.decisionWords(d))
}
