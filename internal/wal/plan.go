package wal

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
)

// PlanTarget plans the recovery to a target. It does no I/O but for what the functions of
// its inputs do.
//
// A time is turned into a position by PostgreSQL's own rule (recoveryStopsBefore in
// xlogrecovery.c): the recovery ends before the first transaction that ended, by commit
// or abort, later than that time. The plan names the last end of a transaction before
// that one. So a time after the last commit of a server that did nothing since is
// reached, of which PostgreSQL says "recovery ended before configured recovery target was
// reached". Times can run back; the rule is applied from the base backup's start on, as
// PostgreSQL does.
//
// The base backup is the newest from which the target can be reached. One that may hold
// transactions that ended after a target's time is not used for it.
//
// An error is an *OutsideError where the target can't be reached, a pgmedic.KindUsage
// error for one that is not valid, or that of reading.
func PlanTarget(in PlanInputs, target Target) (Plan, error) {
	if err := target.check(); err != nil {
		return Plan{}, err
	}
	target.Time = target.Time.Truncate(time.Microsecond)
	p := planner{in: in, target: target, timeline: target.Timeline}
	if p.timeline == 0 {
		p.timeline = in.latest()
	}
	p.history = in.history(p.timeline)
	return p.plan()
}

func (t Target) check() error {
	switch t.Kind {
	case TargetTime:
		if t.Time.IsZero() {
			return usage("a time is missing")
		}
	case TargetLSN:
		if t.LSN == 0 {
			return usage("0/0 is not a position of a record")
		}
	case TargetName:
		if t.Name == "" || len(t.Name) > MaxRestorePointName {
			return usage("a restore point's name has 1 to %d bytes", MaxRestorePointName)
		}
	case TargetEnd, TargetBackup:
	default:
		return usage("%.20q is not a kind of target", t.Kind)
	}
	return nil
}

func usage(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "", format, args...)
}

// latest returns the highest timeline of which WAL or a history is stored.
func (s Stored) latest() (t Timeline) {
	for _, span := range s.Spans {
		t = max(t, span.Timeline)
	}
	for _, h := range s.Histories {
		t = max(t, h.Timeline)
	}
	return t
}

// planner plans one target.
type planner struct {
	in       PlanInputs
	target   Target
	timeline Timeline
	history  History
	// learned is what the WAL that was read says besides, for the error.
	learned []Mark
	// toEnd is true where only what is stored ends before the target.
	toEnd bool
}

// plan tries the base backups, the newest first.
func (p *planner) plan() (Plan, error) {
	bases, err := p.bases()
	if err != nil {
		return Plan{}, err
	}
	why, ended := "", LSN(0)
	for _, b := range bases {
		if p.target.Kind == TargetLSN && p.target.LSN < b.Stop {
			why = cmp.Or(why, "the base backup ended after it")
			continue
		}
		// What is behind the end of the WAL, or damaged before it, is so from each of them.
		reach := p.in.Reach(p.timeline, b.Start)
		if ended == reach && (p.target.Kind == TargetLSN || p.target.Kind == TargetEnd) {
			continue
		}
		ended = reach
		plan, reason, err := p.from(b, reach)
		if err != nil {
			return Plan{}, err
		}
		if reason == "" {
			return plan, nil
		}
		why = cmp.Or(why, reason)
	}
	return Plan{}, p.outside(why)
}

// bases returns the base backups that the target can begin with, in the order in which
// they are tried.
func (p *planner) bases() ([]Base, error) {
	var all []Base
	named := false
	for _, b := range p.in.Bases {
		if p.target.Base != "" && b.ID != p.target.Base {
			continue
		}
		named = true
		end, ok := p.history.End(b.Timeline)
		if ok && b.Start <= b.Stop && b.Stop <= end && p.in.Reach(p.timeline, b.Start) >= b.Stop {
			all = append(all, b)
		}
	}
	switch {
	case len(p.in.Bases) == 0:
		return nil, p.outside("there is no base backup")
	case !named:
		return nil, p.outside("the base backup is not there")
	case len(all) == 0 && p.target.Base != "":
		return nil, p.outside("the WAL of the base backup is not all stored, or it is of another timeline")
	case len(all) == 0:
		return nil, p.outside("there is no base backup on it whose own WAL is all stored")
	}
	slices.SortFunc(all, func(a, b Base) int {
		return cmp.Or(-cmp.Compare(a.Stop, b.Stop), -cmp.Compare(a.Start, b.Start), cmp.Compare(a.ID, b.ID))
	})
	if p.target.Kind == TargetName {
		slices.Reverse(all) // the first of the name
	}
	return all, nil
}

// outside returns the error, with what can be reached instead.
func (p *planner) outside(why string) error {
	e := &OutsideError{Target: p.target, Timeline: p.timeline, ToEnd: p.toEnd, Why: why}
	in := p.in.Inputs
	in.Marks = slices.Concat(in.Marks, p.learned)
	for _, w := range Windows(in) {
		if w.Timeline != p.timeline {
			continue
		}
		for _, point := range []Point{w.From, w.Until} {
			var order int
			switch p.target.Kind {
			case TargetTime:
				if point.Time.IsZero() {
					continue
				}
				order = point.Time.Compare(p.target.Time)
			case TargetLSN:
				order = cmp.Compare(point.LSN, p.target.LSN)
			case TargetName, TargetEnd, TargetBackup:
				continue
			}
			if order <= 0 && (e.Before == nil || point.LSN > e.Before.LSN) {
				e.Before = &point
			}
			if order >= 0 && (e.After == nil || point.LSN < e.After.LSN) {
				e.After = &point
			}
		}
	}
	return e
}

// from plans the target from one base backup. A reason why it can't be reached from there
// is not empty.
func (p *planner) from(b Base, reach LSN) (plan Plan, reason string, err error) {
	s := &scan{p: p, base: b, files: p.files(b.Start, reach)}
	if err := s.run(); err != nil {
		return plan, "", err
	}
	plan = Plan{
		Base: b, Timeline: p.timeline, Stop: StopAtLSN, Last: s.commit, Next: s.next, Commits: s.commits,
		Tablespaces: s.spaces, Others: s.others, Unread: s.unread,
	}
	switch p.target.Kind {
	case TargetTime:
		reason, err = p.atTime(&plan, s, reach)
	case TargetLSN:
		reason = p.atLSN(&plan, s, reach)
	case TargetName:
		plan.LSN, plan.End = s.last, s.end
		switch {
		case !s.hit:
			reason = cmp.Or(s.broken, "there is no restore point of this name")
		case s.last < b.Stop:
			reason = "the restore point was made before the base backup ended"
		}
	case TargetEnd:
		plan.Stop, plan.End, reason = StopAtEnd, max(s.end, b.Stop), s.broken
		if len(s.unread) > 0 {
			plan.End = reach
		}
	case TargetBackup:
		plan.Stop, plan.End = StopImmediate, b.Stop
		if !s.hit {
			reason = s.broken
		}
	}
	if reason != "" || err != nil {
		return Plan{}, reason, err
	}
	// What was read behind the last record is not replayed.
	plan.Tablespaces = slices.DeleteFunc(plan.Tablespaces, func(n Note) bool { return n.LSN >= plan.End })
	for _, f := range s.files {
		to := min(f.to, plan.End)
		if n := len(plan.Ranges) - 1; n >= 0 && plan.Ranges[n].Timeline == f.Timeline && f.Start < plan.End {
			plan.Ranges[n].To = to
		} else if f.Start < plan.End {
			plan.Ranges = append(plan.Ranges, Span{f.Timeline, f.Start, to})
		}
	}
	if t := p.history.At(plan.End - 1); s.preparedBefore(plan, t) {
		return p.along(t, plan, reach)
	}
	return plan, "", nil
}

// preparedBefore reports whether PostgreSQL would look for a transaction that was prepared,
// and is perhaps still so, in a segment that it does not have. When a recovery ends it reads
// such a transaction's record again from the segment of the timeline t on which it ended
// (XlogReadTwoPhaseData in twophase.c), and gives up where that is not there: a segment in
// which timelines part was recovered from the file of the newer one.
func (s *scan) preparedBefore(plan Plan, t Timeline) bool {
	n := len(plan.Ranges)
	if n == 0 || plan.Ranges[n-1].Timeline == t || plan.Stop == StopAtEnd {
		return false
	}
	start := s.p.in.SegmentSize.Start(plan.End - 1)
	return slices.ContainsFunc(s.prepares, func(end LSN) bool { return start < end && end <= plan.End })
}

// along returns a plan for what another one ends with, along an older timeline, which has the
// same WAL up to there. Where that is not stored, it returns the plan as it is.
func (p *planner) along(t Timeline, plan Plan, reach LSN) (Plan, string, error) {
	older := planner{in: p.in, timeline: t, history: p.in.history(t), target: Target{Kind: TargetLSN, LSN: plan.LSN}}
	if plan.Stop == StopImmediate {
		older.target = Target{Kind: TargetBackup}
	}
	other, reason, err := older.from(plan.Base, min(reach, p.in.Reach(t, plan.Base.Start)))
	if err != nil {
		return Plan{}, "", err
	}
	if reason != "" || other.Stop != plan.Stop || other.LSN != plan.LSN || other.End != plan.End {
		return plan, "", nil
	}
	other.Next, other.Others = plan.Next, plan.Others // those of the timeline that was asked for
	return other, "", nil
}

// atTime completes a plan for a time.
func (p *planner) atTime(plan *Plan, s *scan, reach LSN) (reason string, err error) {
	b, t := s.base, p.target.Time
	if s.broken != "" {
		reach = s.cut
	}
	if s.next == nil {
		// All that ended did so by then. Whether that is all there was must be known.
		until := p.in.at(p.history, reach).Time
		if s.latest.After(until) {
			until = s.latest
		}
		if t.After(until) {
			p.noteEnd(s.ended, s.latest)
			p.toEnd = p.toEnd || s.broken == ""
			return cmp.Or(s.broken, "WAL is not known to be stored up to then"), nil
		}
	}
	switch {
	case s.ended != nil && s.ended.LSN >= b.Stop:
		plan.LSN, plan.End = s.ended.LSN, s.ended.End
		return "", nil
	case s.next != nil && s.next.LSN < b.Stop:
		return "the base backup ended after it", nil
	case s.ended == nil:
		// Does the base backup hold what ended later?
		if known, err := p.begunBy(b, cmp.Or(s.next, &Ended{LSN: reach}).LSN); err != nil || !known {
			if s.next != nil {
				p.noteEnd(s.next, s.next.Time)
			}
			return "the base backup may hold transactions that ended after it", err
		}
	}
	plan.Stop, plan.End = StopImmediate, b.Stop
	return "", nil
}

// noteEnd remembers that all transactions up to the end of one had ended at a time: what
// was read of the WAL says more of what can be reached than observations do.
func (p *planner) noteEnd(e *Ended, latest time.Time) {
	if e != nil && !latest.IsZero() {
		p.learned = append(p.learned, Mark{Timeline: p.history.At(e.LSN), LSN: e.End, Time: latest})
	}
}

// begunBy reports whether all transactions that ended before a base backup's start are
// known to have ended by the target's time, where none ended between its start and the
// given position.
func (p *planner) begunBy(b Base, to LSN) (bool, error) {
	last, err := p.lastBefore(b)
	if err != nil || last != nil {
		return err == nil && !last.Time.After(p.target.Time), err
	}
	// When the backup was asked for says nothing: its checkpoint may have come later.
	return slices.ContainsFunc(p.in.Seen, func(o Observation) bool {
		end, ok := p.history.End(o.Timeline)
		return ok && o.LSN <= min(end, to) && o.LSN >= b.Start && !o.Time.After(p.target.Time)
	}), nil
}

// atLSN completes a plan for a position.
func (p *planner) atLSN(plan *Plan, s *scan, reach LSN) (reason string) {
	l := p.target.LSN
	switch {
	case s.hit:
		plan.LSN, plan.End = s.last, s.end
	case s.broken != "":
		return s.broken
	case len(s.unread) > 0 && l < reach:
		plan.LSN, plan.End = l, reach
	case l > s.end && (s.end%PageSize != 0 || l > s.end+longHeader):
		return "WAL is stored up to " + reach.String()
	case s.last >= s.base.Stop:
		// It is the end of the last record, behind which none begins.
		plan.LSN, plan.End = s.last, s.end
	default:
		plan.Stop, plan.End = StopImmediate, max(s.end, s.base.Stop)
	}
	return ""
}
