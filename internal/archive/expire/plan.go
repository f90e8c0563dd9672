// Package expire deletes the WAL that nothing needs any more: a plan that can be shown,
// marks that wait, and deletions in an order that may be broken off at any point.
package expire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Verdict is what becomes of WAL.
type Verdict string

// The verdicts. What is to go is marked first, and deleted by a run that finds the mark
// older than the grace.
const (
	Keep   Verdict = "keep"
	Mark   Verdict = "mark"
	Wait   Verdict = "wait"
	Delete Verdict = "delete"
)

// Options say what the plan of an archive depends on.
type Options struct {
	// Backups are the base backups of the cluster that are in the same store.
	Backups []wal.RetainedBackup
	// Since is the moment from which on any other stays reachable; zero is that of the
	// oldest backup that is kept.
	Since time.Time
	// Grace is how long what is to go is marked before it is deleted.
	Grace time.Duration
	// Locks is true where objects may be locked: each is asked for its lock before it is
	// deleted, because a place that keeps versions hides what is locked.
	Locks bool
	// Leases keep what is being read.
	Leases []lease.Lease
	// Stop says why nothing may be deleted, and Hint what to do; both empty else.
	Stop, Hint string
	// Now is the time, Host who marks.
	Now  time.Time
	Host string
}

// Young is how new WAL is that a base backup may need which is being taken, and how long
// nothing is written to an epoch before it counts as ended: our choice, the same as for
// what runs without a manifest leave.
const Young = 7 * 24 * time.Hour

// Row is WAL of one timeline with one verdict, and why.
type Row struct {
	Verdict  Verdict      `json:"verdict"`
	Timeline wal.Timeline `json:"timeline"`
	// From and To are where it begins and ends; there may be other WAL between them.
	From    wal.LSN `json:"from"`
	To      wal.LSN `json:"to"`
	Objects int     `json:"objects"`
	Bytes   int64   `json:"bytes"`
	Reason  string  `json:"reason"`
	// DeleteAfter is when what is marked may go.
	DeleteAfter time.Time `json:"delete_after,omitzero"`
}

// Plan is what becomes of the WAL of one cluster in one store.
type Plan struct {
	Store  string `json:"store"`
	Server string `json:"server"`
	System string `json:"system_identifier"`
	Rows   []Row  `json:"rows"`
	// Epochs are those that are deleted with their keys and histories, since nothing else
	// is left of them.
	Epochs []string `json:"epochs"`
	// Unmark is how many marks are to be taken off, because what they mark is needed.
	Unmark int `json:"unmark,omitempty"`
	// Stopped says why nothing is marked and nothing deleted, though it would be, and Hint
	// what to do about that.
	Stopped string `json:"stopped,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Notes are sentences about what is left alone.
	Notes []string `json:"notes"`
	// Done is true where the plan was carried out. Then the rows say what was done: what
	// could not be deleted waits.
	Done bool `json:"done"`

	state *State
	judge *judge
	o     Options
	// toMark is what is to be marked, and held back how much would be marked or deleted if
	// the plan had not stopped.
	toMark   []wal.Span
	heldBack int
	// over is how many marks are of nothing that is left: a deletion broke off.
	over int
}

// Count returns how many objects have a verdict, and their size.
func (p *Plan) Count(v Verdict) (n int, size int64) {
	for _, r := range p.Rows {
		if r.Verdict == v {
			n += r.Objects
			size += r.Bytes
		}
	}
	return n, size
}

// Changes reports whether carrying it out changes anything.
func (p *Plan) Changes() bool {
	marks, _ := p.Count(Mark)
	deletes, _ := p.Count(Delete)
	return p.Stopped == "" && !p.Done && (marks+deletes+p.Unmark+p.over+len(p.Epochs) > 0)
}

// State is what was read of an archive, from which plans are made.
type State struct {
	archive *archive.Archive
	survey  *archive.Survey
	times   []wal.StoredTime
	marks   []mark
	epochs  map[string]*epochState
	// order are the epochs that could be read, oldest first.
	order []string
	notes []string
	// unread is an epoch that has WAL, and can't be read: empty if there is none.
	unread string
}

// epochState is what is known of an epoch beside its WAL.
type epochState struct {
	newestAt  time.Time
	histories []wal.Timeline
	// other counts what this version does not know, wal segments and tails.
	other, wal int
	// going is how many of the segments and tails are to be deleted now.
	going int
}

// Read reads an archive. It lists it twice and holds some 50 bytes a segment.
func Read(ctx context.Context, a *archive.Archive) (*State, error) {
	survey, err := a.Survey(ctx)
	if err != nil {
		return nil, err
	}
	s := &State{archive: a, survey: survey, epochs: map[string]*epochState{}, notes: []string{}}
	if s.marks, err = readMarks(ctx, a); err != nil {
		return nil, err
	}
	return s, s.collect(ctx)
}

// System returns the system identifier of the cluster.
func (s *State) System() uint64 { return s.archive.System() }

func (s *State) inputs(o Options) wal.RetainInputs {
	return wal.RetainInputs{Stored: s.survey.Stored, Backups: o.Backups, Times: s.times, Since: o.Since, Young: o.Now.Add(-Young)}
}

// Anchors returns the backups with which recovery to moments since o.Since begins:
// retention keeps them. Where o.Since is zero there are none.
func (s *State) Anchors(o Options) []wal.Base {
	if o.Since.IsZero() {
		return nil
	}
	return wal.Anchors(s.inputs(o))
}

// Needs returns which segments and tails a store needs that has the backups of o: what is
// copied to it, since all else would be deleted there again.
func (s *State) Needs(o Options) func(archive.Object) bool {
	j := &judge{State: s, o: o, needed: wal.RetainWAL(s.inputs(o))}
	return func(object archive.Object) bool { return j.of(object).verdict == Keep }
}

// Plan makes a plan. It lists the archive once more, and writes nothing.
func (s *State) Plan(ctx context.Context, o Options) (*Plan, error) {
	p := &Plan{System: strconv.FormatUint(s.System(), 10), Notes: slices.Clone(s.notes), Rows: []Row{}, Epochs: []string{}, state: s, o: o}
	p.judge = &judge{State: s, o: o, needed: wal.RetainWAL(s.inputs(o))}
	switch {
	case o.Stop != "":
		p.Stopped, p.Hint = o.Stop, o.Hint
	case len(s.survey.Split) > 0 || len(s.survey.Promoted) > 0:
		p.Stopped = "two servers wrote different WAL or histories under one name"
		p.Hint = "`pgmedic wal status` shows which; give one server a name of its own (server) and delete its objects"
	case s.unread != "":
		// It looks like a gap, behind which nothing would be needed, and is none once it is mended.
		p.Stopped = "epoch " + s.unread + " has WAL, and its epoch.json is missing or damaged: what follows may be needed with it"
		p.Hint = "copy epoch.json from another store that has the epoch; if there is none, move the epoch's folder away"
	}
	if err := p.count(ctx); err != nil {
		return nil, err
	}
	for _, m := range s.marks {
		if p.judge.contradicts(m) {
			p.Unmark++
		}
	}
	if p.Stopped != "" {
		p.Unmark = 0
		if p.heldBack == 0 {
			p.Stopped, p.Hint = "", ""
		}
	}
	return p, nil
}

// collect reads what is in each epoch, and when WAL was stored: for each hour, rounded up,
// the first position of a timeline at which WAL of it is.
func (s *State) collect(ctx context.Context) error {
	type moment struct {
		timeline wal.Timeline
		at       int64
	}
	first := map[moment]wal.LSN{}
	all, err := s.archive.Epochs(ctx)
	if err != nil {
		return err
	}
	for _, id := range all {
		info, err := s.archive.Epoch(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound), pgmedic.KindOf(err) == pgmedic.KindIntegrity:
			if bare, err := s.archive.Bare(ctx, id); err != nil {
				return err
			} else if bare {
				continue // it can't be told from one that is being begun, whose key will be needed
			}
			s.note("epoch %s is left alone: epoch.json is missing or damaged", id)
			if has, err := s.hasWAL(ctx, id); err != nil {
				return err
			} else if has {
				s.unread = id
			}
			continue
		case err != nil:
			return err
		case wal.SegmentSize(info.SegmentBytes) != s.survey.SegmentSize:
			s.note("epoch %s is left alone: its segments have another size than those of the first epoch", id)
			continue
		}
		e := &epochState{}
		s.epochs[id], s.order = e, append(s.order, id)
		for o, err := range s.archive.Objects(ctx, id, s.survey.SegmentSize) {
			if err != nil {
				return err
			}
			if o.ModifiedAt.After(e.newestAt) {
				e.newestAt = o.ModifiedAt
			}
			switch o.Kind {
			case archive.KindSegment, archive.KindTail:
				e.wal++
				at := moment{o.Timeline, o.ModifiedAt.Add(time.Hour - time.Nanosecond).Truncate(time.Hour).Unix()}
				if l, there := first[at]; !there || o.To < l {
					first[at] = o.To
				}
			case archive.KindHistory:
				e.histories = append(e.histories, o.Timeline)
			case archive.KindOther:
				e.other++
			case archive.KindObservation, archive.KindBase, archive.KindGap, archive.KindIndex, archive.KindKey, archive.KindEpoch:
			}
		}
		if e.other > 0 {
			s.note("epoch %s has objects that this version does not know: it stays when its WAL has gone", id)
		}
	}
	for m, l := range first {
		s.times = append(s.times, wal.StoredTime{Timeline: m.timeline, LSN: l, At: time.Unix(m.at, 0)})
	}
	return nil
}

// hasWAL reports whether there is any in an epoch of which it is not known how large its
// segments are.
func (s *State) hasWAL(ctx context.Context, id string) (bool, error) {
	for _, folder := range []string{"seg/", "tail/"} {
		for _, err := range s.archive.Store().List(ctx, s.archive.Folder()+id+"/"+folder) {
			if err != nil {
				return false, fmt.Errorf("list epoch %s of the WAL: %w", id, err)
			}
			return true, nil
		}
	}
	return false, nil
}

// maxNotes is how many sentences a plan has.
const maxNotes = 20

func (s *State) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(s.notes) < maxNotes && !slices.Contains(s.notes, text) {
		s.notes = append(s.notes, text)
	}
}

// count fills in the rows.
func (p *Plan) count(ctx context.Context) error {
	j := p.judge
	left := make([]bool, len(j.marks))
	leased := map[string]int{} // by the reason
	for _, id := range j.order {
		e := j.epochs[id]
		e.going = 0
		err := j.each(ctx, id, func(o archive.Object, d decision) error {
			for i, m := range j.marks {
				left[i] = left[i] || o.Kind != archive.KindObservation && m.covers(o)
			}
			switch {
			case d.leased:
				leased[d.reason]++
			case d.verdict == Keep:
			case p.Stopped != "":
				p.heldBack++
				d = decision{verdict: Keep, reason: "nothing is deleted now; else: " + d.reason}
			case d.verdict == Mark:
				if p.toMark = append(p.toMark, wal.Span{Timeline: o.Timeline, From: o.From, To: o.To}); len(p.toMark)%4096 == 0 {
					p.toMark = wal.MergeSpans(p.toMark)
				}
			case d.verdict == Delete && o.Kind != archive.KindObservation:
				e.going++
			}
			p.add(o, d)
			return nil
		})
		if err != nil {
			return err
		}
		if p.Stopped == "" && j.ended(id) {
			p.Epochs = append(p.Epochs, id)
		}
	}
	for _, there := range left {
		if !there && p.Stopped == "" {
			p.over++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(leased)) {
		if len(p.Notes) < maxNotes {
			p.Notes = append(p.Notes, fmt.Sprintf("%s would go and stays: %s", objects(leased[why]), why))
		}
	}
	p.toMark = wal.MergeSpans(p.toMark)
	p.sort()
	return nil
}

func objects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return pgmedic.Count(n) + " objects"
}

// add adds an object to the row that it belongs to.
func (p *Plan) add(o archive.Object, d decision) {
	i := slices.IndexFunc(p.Rows, func(r Row) bool {
		return r.Verdict == d.verdict && r.Timeline == o.Timeline && r.Reason == d.reason
	})
	if i < 0 {
		i = len(p.Rows)
		p.Rows = append(p.Rows, Row{Verdict: d.verdict, Timeline: o.Timeline, From: math.MaxUint64, Reason: d.reason})
	}
	r := &p.Rows[i]
	r.From, r.To, r.Objects, r.Bytes = min(r.From, o.From), max(r.To, o.To), r.Objects+1, r.Bytes+o.SizeBytes
	if d.verdict == Wait && !d.since.IsZero() {
		if after := d.since.Add(p.o.Grace); after.After(r.DeleteAfter) {
			r.DeleteAfter = after
		}
	}
}

func (p *Plan) sort() {
	order := []Verdict{Keep, Mark, Wait, Delete}
	slices.SortFunc(p.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Verdict), slices.Index(order, b.Verdict)),
			cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.From, b.From), cmp.Compare(a.Reason, b.Reason))
	})
}
