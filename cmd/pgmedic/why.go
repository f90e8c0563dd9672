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
func (r retainer) reasons(ctx context.Context, f catalog.Filter) map[string]retention.Decision {
	stores := r.readStores(ctx, f)
	defer stores.close()
	name := ""
	for _, s := range stores {
		if s.Place == r.cfg.Backup.Place() {
			name = s.Name
		}
	}
	if name == "" {
		other := &heldStore{StoreOf: config.StoreOf{Name: r.cfg.Backup.Store, Retention: r.cfg.Retention}}
		other.catalog, other.closed, other.err = r.stores.openPlace(ctx, r.cfg.Backup.Place(), r.cfg.Backup.Access, true)
		if other.err == nil {
			other.listing, other.err = other.catalog.List(ctx, r.keys.trusting(f))
		}
		name, stores = other.Name, append(stores, other)
		defer retained{other}.close()
	}
	all := map[string]retention.Decision{}
	for _, s := range r.plan(stores, retentionScope{staleAfter: r.flagged("retention.stale_after", r.cfg.Retention.StaleAfter)}) {
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
func (cmd *listCommand) printReasons(listing catalog.Listing, reasons map[string]retention.Decision) {
	paint := cmd.paint(cmd.stdoutTTY)
	for _, e := range listing.Entries {
		if d, ok := reasons[e.Backup.ID]; ok {
			cmd.wrapf("%s  %s  %s\n", verdict(paint, d.Verdict, d.Unmark, false), words.Clean(d.ID), words.Clean(decisionWords(d, cmd.now())))
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
func (cmd *showCommand) verdictWords(d retention.Decision) string {
	if d.ID == "" {
		return "not known: the store could not be read"
	}
	return string(d.Verdict) + ": " + words.Clean(decisionWords(d, cmd.now()))
}
