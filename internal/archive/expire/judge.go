package expire

import (
	"context"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// judge decides about single objects.
type judge struct {
	*State
	o      Options
	needed wal.Retention
}

// decision is what becomes of an object. Since is when the wait of what is marked began.
type decision struct {
	verdict Verdict
	reason  string
	since   time.Time
	leased  bool
}

// superseded is why a tail goes without a mark: nothing is lost with it.
const superseded = "its segment is stored whole"

// of decides about a segment or a tail. What is read under a lease is neither marked nor
// deleted; a mark that it has stays, and counts again when the lease has ended.
func (j *judge) of(o archive.Object) decision {
	d := j.unleased(o)
	if d.verdict != Mark && d.verdict != Delete {
		return d
	}
	for _, l := range j.o.Leases {
		if l.OfWAL(o.Timeline, o.From, o.To) && l.Holds(j.o.Now) {
			return decision{verdict: Keep, reason: l.Why(), leased: true}
		}
	}
	return d
}

// unleased decides without leases.
func (j *judge) unleased(o archive.Object) decision {
	if o.Kind == archive.KindTail && j.survey.Whole(o.Segment) {
		if j.o.Now.Sub(o.ModifiedAt) < j.o.Grace {
			return decision{verdict: Wait, reason: superseded, since: o.ModifiedAt}
		}
		return decision{verdict: Delete, reason: superseded}
	}
	if why, needed := j.needed.Why(o.Timeline, o.From, o.To); needed {
		return decision{verdict: Keep, reason: why}
	}
	if !o.ModifiedAt.Before(j.since()) {
		return decision{verdict: Keep, reason: "all that was stored since " + j.since().UTC().Format("2006-01-02 15:04Z") + " stays"}
	}
	const reason = "no backup that is kept needs it, and no moment that is to stay reachable"
	since, marked := j.markedSince(o)
	switch {
	case !marked:
		return decision{verdict: Mark, reason: reason}
	case j.o.Now.Sub(since) < j.o.Grace:
		return decision{verdict: Wait, reason: reason, since: since}
	}
	return decision{verdict: Delete, reason: reason, since: since}
}

// since is the moment since which nothing goes that was stored then, whether a backup that
// is known could use it or not: other programs take base backups, too.
func (j *judge) since() time.Time {
	young := j.o.Now.Add(-Young)
	if !j.o.Since.IsZero() && j.o.Since.Before(young) {
		return j.o.Since
	}
	return young
}

// markedSince is the oldest mark that covers an object.
func (j *judge) markedSince(o archive.Object) (since time.Time, marked bool) {
	for _, m := range j.marks {
		if m.covers(o) && (!marked || m.since().Before(since)) {
			since, marked = m.since(), true
		}
	}
	return since, marked
}

// contradicts reports whether what is needed is marked.
func (j *judge) contradicts(m mark) bool {
	return slices.ContainsFunc(m.Spans, func(s wal.Span) bool {
		_, needed := j.needed.Why(s.Timeline, s.From, s.To)
		return needed
	})
}

// ended reports whether an epoch goes when the WAL has gone that is to go now. What
// was written to lately, or last, does not; and of each history one stays.
func (j *judge) ended(id string) bool {
	e := j.epochs[id]
	if e.other > 0 || e.wal > e.going || id == j.order[len(j.order)-1] || j.o.Now.Sub(e.newestAt) < Young {
		return false
	}
	for _, t := range e.histories {
		if !slices.ContainsFunc(j.order, func(other string) bool { return other > id && slices.Contains(j.epochs[other].histories, t) }) {
			return false
		}
	}
	return true
}

// each calls do with each segment and tail of an epoch, and what becomes of it, and with each
// observation that goes. Of those that say the same the last stays, and of old ones what a
// survey uses.
func (j *judge) each(ctx context.Context, id string, do func(archive.Object, decision) error) error {
	var seen archive.Object
	for o, err := range j.archive.Objects(ctx, id, j.survey.SegmentSize) {
		if err != nil {
			return err
		}
		var d decision
		switch o.Kind {
		case archive.KindSegment, archive.KindTail:
			d = j.of(o)
		case archive.KindObservation:
			before := seen
			seen = o
			old := j.o.Now.Sub(o.ModifiedAt) >= max(j.o.Grace, Young)
			switch {
			case !old || before.Key == "":
				continue
			case before.Timeline == o.Timeline && before.From == o.From:
				d = decision{verdict: Delete, reason: "a later observation says the same"}
			case !j.survey.Counts(before):
				d = decision{verdict: Delete, reason: "of older observations one an hour stays"}
			default:
				continue
			}
			o = before
		case archive.KindHistory, archive.KindBase, archive.KindGap, archive.KindIndex, archive.KindKey, archive.KindEpoch, archive.KindOther:
			continue
		}
		if err := do(o, d); err != nil {
			return err
		}
	}
	return nil
}
