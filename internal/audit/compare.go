package audit

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

func sortBySeq(all []Record) {
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
}

// compare holds a log that was read against the anchors of it, and the anchors that it says
// were stored against those that are there.
func (l *Log) compare(w *walk, o VerifyOptions) {
	l.compareAnchors(w, o.Anchors)
	l.compareStored(w, o)
}

// compareAnchors holds a log against its anchors: whether each is of a record that is there.
func (l *Log) compareAnchors(w *walk, anchors []FoundAnchor) {
	r := w.report
	// Of many that show the same, one is named: the last that is cut off, and the first
	// that is another.
	var cut, rewritten *FoundAnchor
	for _, a := range anchors {
		switch hash := w.hashes[a.Seq]; {
		case r.Log == "":
			// Nothing of the log is proven, and the report says so.
		case a.Log != r.Log && l.isOfFile(a):
			r.problem("", 0, "another log was in this file until %s at least, and is gone: %s has an anchor of its record %d", timeText(a.At), a.Where, a.Seq)
		case a.Log != r.Log:
			r.Others++
		case !w.key.authenticates(a.AuditAnchor):
			r.problem("", 0, "the anchor in %s was changed, or was not made with this log's key", a.Where)
		case a.Seq < r.FirstSeq:
			r.Older++
		case hash == "" && w.stopped:
			// After the first problem nothing is known.
		case hash == "":
			if cut == nil || a.Seq > cut.Seq {
				cut = &a
			}
		case hash != a.Hash:
			if rewritten == nil || a.Seq < rewritten.Seq {
				rewritten = &a
			}
		default:
			r.Anchors++
			if a.Seq > r.AnchoredSeq {
				r.AnchoredSeq, r.AnchoredAt, r.AnchoredIn = a.Seq, a.At, a.Where
			}
		}
	}
	if cut != nil {
		r.problem("", 0, "the log ends with record %d, and %s has an anchor of its record %d, of %s: its end was cut off", r.LastSeq, cut.Where, cut.Seq, timeText(cut.At))
	}
	if rewritten != nil {
		r.problem("", 0, "record %d is not the one that is anchored in %s: the log was written again from there on, or before", rewritten.Seq, rewritten.Where)
	}
}

// compareStored reports which anchors a log says were stored and are gone. What was accepted
// is listed with how many anchors it explains.
func (l *Log) compareStored(w *walk, o VerifyOptions) {
	r := w.report
	// Records have cleaned texts.
	read, there := map[string]bool{}, map[StoredName]bool{}
	for _, place := range o.Stores {
		read[clean(place)] = true
	}
	for _, s := range o.Stored {
		s.Place = clean(s.Place)
		there[s] = true
	}
	accepted := map[StoredName]int{} // which acceptance
	for i, rec := range w.accepted {
		r.Accepted = append(r.Accepted, Acceptance{At: rec.At, By: rec.Actor, Store: rec.Object, Reason: rec.Reason})
		for param, list := range rec.Params {
			for _, text := range strings.Fields(list) {
				if seq, err := strconv.ParseInt(text, 10, 64); err == nil && ListName(param) == acceptedList {
					accepted[StoredName{Place: rec.Params["place"], Log: r.Log, Seq: seq}] = i
				}
			}
		}
	}
	for _, rec := range w.stored {
		seq, err := strconv.ParseInt(rec.Params["seq"], 10, 64)
		name := StoredName{Place: rec.Params["place"], Log: r.Log, Seq: seq}
		if err != nil || !read[name.Place] || rec.Host != clean(l.o.Host) || !o.ReadAt.IsZero() && !rec.At.Before(o.ReadAt) || there[name] {
			continue
		}
		if i, known := accepted[name]; known {
			r.Accepted[i].Anchors++
			continue
		}
		r.Lost = append(r.Lost, LostAnchor{Seq: seq, Store: rec.Object, Place: name.Place, At: rec.At})
		r.problem("", 0, "the anchor of record %d in %s is gone: it was stored on %s", seq, rec.Object, timeText(rec.At))
	}
	r.Accepted = slices.DeleteFunc(r.Accepted, func(a Acceptance) bool { return a.Anchors == 0 })
}

// LostAnchor is a stored anchor that is gone.
type LostAnchor struct {
	Seq int64 `json:"seq"`
	// Store is what the configuration called its store, Place where that was.
	Store string    `json:"store"`
	Place string    `json:"place"`
	At    time.Time `json:"at"`
}

// Acceptance is that somebody accepted that anchors are gone.
type Acceptance struct {
	At     time.Time `json:"at"`
	By     Actor     `json:"by"`
	Store  string    `json:"store"`
	Reason string    `json:"reason"`
	// Anchors counts those that are gone and were accepted then.
	Anchors int `json:"anchors"`
}

// acceptedList is the name of the list of anchors that a record accepts to be gone.
const acceptedList = "anchors"

// Accept records that anchors are gone, all of one place, and that this is known. The
// entry has the reason, and who says so. Verify finds no problem in these any more, and
// names the acceptance; any other anchor that goes later is a problem as before.
func (l *Log) Accept(ctx context.Context, e Entry, lost []LostAnchor) error {
	if len(lost) == 0 {
		return nil
	}
	var seqs []string
	for _, a := range lost {
		seqs = append(seqs, strconv.FormatInt(a.Seq, 10))
	}
	e.Action, e.Object, e.Outcome = ActionAccept, lost[0].Store, OutcomeDone
	for _, params := range Pack(map[string]string{"place": lost[0].Place}, map[string][]string{acceptedList: seqs}) {
		e.Params = params
		if _, err := l.Append(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
