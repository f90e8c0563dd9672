package pool

import (
	"slices"
	"time"
)

// probe is what a server said of itself, or why it said nothing.
type probe struct {
	at      time.Time
	err     error
	latency time.Duration

	standby bool
	// lsn is what a primary has written or a standby has replayed.
	lsn LSN
	// timeline is that of a primary; it grows with each promotion.
	timeline int64
	// checkpointed is the timeline of its last checkpoint, which on a standby is
	// some minutes old, or 0 if the server does not tell.
	checkpointed int64
	// clock is the server's, and replayed the commit time, by the primary's
	// clock, of the last transaction that a standby has replayed, or zero.
	clock, replayed time.Time
	// system identifies the cluster: a server and its standbys have the same, or 0
	// if the server does not tell.
	system int64
	// database and oid are those that the session is in.
	database string
	oid      uint32
	pooled   bool
	// started is when the server was started: another time, another server.
	started time.Time
	// unopened is why no connection of the pool can be had, or nil.
	unopened error
}

// view is what is known of a server: its last probe and what follows from it.
type view struct {
	probe
	probed  bool // at least once
	primary bool
	// forked is where the primary was when this server turned out to be beyond it,
	// or 0: what it has from there on is not the primary's, and comparing places in
	// the log says nothing.
	forked LSN
	// lag is how far a standby is behind, at most; lagBytes the same in WAL.
	// They count only if lagKnown.
	lag      time.Duration
	lagBytes int64
	lagKnown bool
	// problem is why the server is not used, or empty.
	problem string
}

// healthy says whether the server may be used for what it is.
func (v *view) healthy() bool { return v.probed && v.problem == "" }

// readable says whether it may be read from as a standby.
func (v *view) readable() bool { return v.healthy() && !v.primary && v.standby }

// mark is where the primary was at some time.
type mark struct {
	at    time.Time
	clock time.Time // the primary's
	lsn   LSN
}

// lagPolicy is how far behind a standby may be. Zero means no limit.
type lagPolicy struct {
	time  time.Duration
	bytes int64
}

// maxMarks bounds the marks that are kept.
const maxMarks = 64

// topology is what is known of all servers. It is a value: with returns the next
// one.
type topology struct {
	views []view
	// primary is the index of the primary, or -1.
	primary int
	// system is the cluster that the servers belong to, or 0 while that is not
	// known; anchored says that the first server, PrimaryURL's, has said so.
	system   int64
	anchored bool
	// timeline is the highest that a primary has had. One with a lower timeline
	// was left behind by a failover, and must not be written to.
	timeline int64
	// marks are where the primary was, oldest first.
	marks []mark
	// database and oid are those of the primary's session.
	database string
	oid      uint32
}

func newTopology(servers int) topology {
	return topology{views: make([]view, servers), primary: -1}
}

// change is what has to be done about what a probe found.
type change struct {
	// reset are the servers whose open sessions must not be used any more.
	reset []int
	// newPrimary says that there is another primary, or none any more.
	newPrimary bool
}

// with returns the topology after one more probe of a server.
func (t topology) with(server int, p probe, policy lagPolicy) (topology, change) {
	var c change
	old := t.views[server]
	t.views = slices.Clone(t.views)
	v := &t.views[server]
	if p.err != nil {
		// What it said before is kept, for people to see.
		v.at, v.err, v.latency = p.at, p.err, p.latency
	} else {
		v.probe = p
	}
	v.probed = true
	if p.err == nil && (p.lsn <= v.forked || p.checkpointed > 0 && p.checkpointed >= t.timeline) {
		v.forked = 0 // rewound, or made anew
	}
	if p.err == nil && old.probed && p.outdates(old) {
		c.reset = append(c.reset, server)
	}

	before := t.primary
	if p.err == nil {
		t.identify(server, p)
	}
	t.primary = t.choosePrimary()
	c.newPrimary = t.primary != before
	if c.newPrimary {
		t.marks = nil
	}
	if t.primary == server && p.err == nil {
		t.timeline = max(t.timeline, p.timeline)
		t.database, t.oid = p.database, p.oid
		t.marks = addMark(t.marks, mark{at: p.at, clock: p.clock, lsn: p.lsn}, policy.time/16)
	} else if c.newPrimary && t.primary >= 0 {
		now := t.views[t.primary]
		t.timeline = max(t.timeline, now.timeline)
		t.database, t.oid = now.database, now.oid
		t.marks = []mark{{at: now.at, clock: now.clock, lsn: now.lsn}}
	}
	if t.primary >= 0 && (c.newPrimary || t.primary == server) {
		t.findForked()
	}
	for i := range t.views {
		t.judge(i, policy)
	}
	if v.problem == problemDatabase && (t.primary < 0 || t.views[t.primary].err == nil) {
		c.reset = append(c.reset, server)
	}
	return t, c
}

// outdates says whether what was opened before this probe must not be used any more.
func (p probe) outdates(old view) bool {
	switch {
	case old.err == nil && !old.standby && p.standby:
		return true
	case !old.started.IsZero() && !old.started.Equal(p.started) && (!old.standby || !p.standby):
		// The name leads to another server, or this one was started again. One that
		// leads to any of several standbys may change all the time.
		return true
	}
	// The probe's session is a new one, in another database than before.
	return old.oid != 0 && (old.oid != p.oid || old.database != p.database)
}

// findForked finds the servers that have what the primary has not: they were beyond
// it before it was asked. After a failover such a standby got more from the former
// primary than the one that was promoted.
func (t *topology) findForked() {
	primary := t.views[t.primary]
	if primary.err != nil {
		return
	}
	asked := primary.at.Add(-primary.latency)
	for i := range t.views {
		v := &t.views[i]
		if i == t.primary {
			v.forked = 0
		} else if v.probed && !t.foreign(v) && v.at.Before(asked) && v.lsn > primary.lsn && (v.checkpointed == 0 || v.checkpointed < t.timeline) {
			v.forked = primary.lsn
		}
	}
}

// identify keeps which cluster the servers belong to: PrimaryURL's, or until that
// server has answered, the first primary's. Later another identity of that server
// counts only if no other server is the primary, as after a major upgrade: a server that
// is set up anew after a failover takes no writes from its successor.
func (t *topology) identify(server int, p probe) {
	wins := t.system == 0 && !p.standby || server == 0 && (!t.anchored || t.primary <= 0)
	if p.system == 0 || !wins {
		return
	}
	if t.system != p.system {
		t.timeline, t.marks = 0, nil // those of another cluster
	}
	t.system, t.anchored = p.system, t.anchored || server == 0
}

// sameServer says whether two probes were answered by one server, started once.
func (p probe) sameServer(other probe) bool {
	return !p.started.IsZero() && p.started.Equal(other.started) && p.system == other.system
}

// foreign says whether a server is of another cluster. Not everyone tells.
func (t *topology) foreign(v *view) bool {
	return v.system != 0 && t.system != 0 && v.system != t.system
}

// The problems that keep a server from being used.
const (
	problemUnreachable = "unreachable"
	problemCluster     = "of another cluster"
	problemLeftBehind  = "a primary that a failover has left behind"
	problemSecond      = "a second primary"
	problemDatabase    = "its session is in another database than the primary's"
	problemForked      = "it has what the primary has not, from before a failover"
	problemLag         = "too far behind the primary"
	problemLagUnknown  = "not known how far behind the primary"
	problemUnopened    = "it answers, but no connection of the pool can be opened"
)

// judge works out a server's lag and whether it may be used.
func (t *topology) judge(i int, policy lagPolicy) {
	v := &t.views[i]
	if !v.probed {
		return
	}
	v.primary, v.problem = i == t.primary, ""
	v.lag, v.lagBytes, v.lagKnown = 0, 0, false
	if v.standby {
		v.lag, v.lagBytes, v.lagKnown = lagOf(v.probe, t.marks)
	}
	switch {
	case v.err != nil:
		v.problem = problemUnreachable
	case t.foreign(v):
		v.problem = problemCluster
	case v.unopened != nil:
		v.problem = problemUnopened
	case v.primary:
	case !v.standby && v.timeline < t.timeline:
		v.problem = problemLeftBehind
	case !v.standby:
		v.problem = problemSecond
	case t.oid != 0 && (v.oid != t.oid || v.database != t.database):
		v.problem = problemDatabase
	case v.forked > 0:
		v.problem = problemForked
	case !v.lagKnown && (policy.time > 0 || policy.bytes > 0):
		v.problem = problemLagUnknown
	case policy.time > 0 && v.lag > policy.time, policy.bytes > 0 && v.lagBytes > policy.bytes:
		v.problem = problemLag
	}
}

// choosePrimary returns the index of the server to write to, or -1. It is one
// that says so, of the right cluster and the highest timeline, and not of a lower one
// than was ever seen; of several equal ones the present one, but of several names of
// one server the first, so that no caller writes by a name that is for readers and may
// lead elsewhere tomorrow. While the present one can't be reached and no other server is
// the primary, it stays: it may come back, and whatever is sent to it meanwhile fails.
func (t *topology) choosePrimary() int {
	best := -1
	for i := range t.views {
		v := &t.views[i]
		if !v.probed || v.err != nil || v.standby || v.timeline < t.timeline || t.foreign(v) {
			continue
		}
		if best < 0 || v.timeline > t.views[best].timeline ||
			v.timeline == t.views[best].timeline && i == t.primary && !v.sameServer(t.views[best].probe) {
			best = i
		}
	}
	if best < 0 && t.primary >= 0 && t.views[t.primary].err != nil && !t.foreign(&t.views[t.primary]) {
		return t.primary
	}
	return best
}

// addMark adds where the primary is now. Older marks are kept apart from each
// other, so that they reach far enough back.
func addMark(marks []mark, m mark, apart time.Duration) []mark {
	n := len(marks)
	if n > 1 && marks[n-1].at.Sub(marks[n-2].at) < apart {
		marks = marks[:n-1]
	}
	marks = append(slices.Clone(marks), m)
	return marks[max(0, len(marks)-maxMarks):]
}

// lagOf says how far behind the primary a standby is, at most. What a standby
// itself knows is not enough: cut off from the primary, it has replayed all that
// it received and believes that it is not behind at all. So it is compared with
// where the primary was: if it has replayed that, it is not behind; else it is
// as old as the last place of the primary that it has passed, or as the last
// transaction that it has replayed, whichever is later.
func lagOf(p probe, marks []mark) (lag time.Duration, bytes int64, known bool) {
	if len(marks) == 0 {
		return 0, 0, false
	}
	last := marks[len(marks)-1]
	if p.lsn >= last.lsn {
		return 0, 0, true
	}
	bytes = int64(last.lsn - p.lsn)
	for _, m := range slices.Backward(marks) {
		if m.lsn <= p.lsn {
			lag, known = max(p.at.Sub(m.at), last.at.Sub(m.at)), true
			break
		}
	}
	if !p.replayed.IsZero() {
		// By the primary's clock alone: the standby's may be wrong.
		now := last.clock.Add(p.at.Sub(last.at))
		if age := max(now.Sub(p.replayed), 0); !known || age < lag {
			lag, known = age, true
		}
	}
	return lag, bytes, known
}
