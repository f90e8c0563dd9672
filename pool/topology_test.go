package pool

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

func primaryAt(seconds float64, lsn LSN, timeline int64) probe {
	return probe{at: at(seconds), clock: at(seconds), lsn: lsn, timeline: timeline, database: "app", oid: 1}
}

func standbyAt(seconds float64, lsn LSN) probe {
	return probe{at: at(seconds), clock: at(seconds), standby: true, lsn: lsn, database: "app", oid: 1}
}

func deadAt(seconds float64) probe { return probe{at: at(seconds), err: errors.New("no answer")} }

// story feeds probes to a topology.
type story struct {
	topology
	change
}

func (s *story) probe(server int, p probe) *story {
	s.topology, s.change = s.with(server, p, lagPolicy{time: 10 * time.Second})
	return s
}

func TestFailover(t *testing.T) {
	s := &story{topology: newTopology(3)}
	s.probe(1, standbyAt(0, 100))
	if s.primary != -1 || s.views[1].readable() {
		t.Fatal("without a primary nobody knows how far behind a standby is")
	}
	s.probe(0, primaryAt(0, 100, 1)).probe(2, standbyAt(0, 100))
	if s.primary != 0 || !s.views[1].readable() || !s.views[2].readable() {
		t.Fatalf("%+v", s.topology)
	}
	// The primary dies: it stays, since nobody else is one; standbys are read.
	s.probe(0, deadAt(30)).probe(1, standbyAt(30, 100)).probe(2, standbyAt(30, 90))
	if s.primary != 0 || s.views[0].healthy() || !s.views[1].readable() {
		t.Fatalf("%+v", s.topology)
	}
	// The first standby is promoted.
	s.probe(1, primaryAt(31, 110, 2))
	if s.primary != 1 || !s.newPrimary || s.timeline != 2 || s.views[1].readable() {
		t.Fatalf("%+v", s.topology)
	}
	// The old one comes back, as a primary of the old timeline: it is not used.
	s.probe(0, primaryAt(32, 200, 1))
	if s.primary != 1 || s.views[0].problem != problemLeftBehind {
		t.Fatalf("%+v", s.topology)
	}
	// Not even while the new one can't be reached.
	s.probe(1, deadAt(33)).probe(0, primaryAt(33, 300, 1))
	if s.primary != 1 || s.views[0].healthy() {
		t.Fatalf("%+v", s.topology)
	}
	// It is made a standby of the new one.
	s.probe(1, primaryAt(34, 120, 2)).probe(0, standbyAt(34, 120))
	if s.primary != 1 || !s.views[0].readable() || !slices.Equal(s.reset, []int{0}) {
		t.Fatalf("%+v", s)
	}
}

func TestDemotion(t *testing.T) {
	s := &story{topology: newTopology(1)}
	s.probe(0, primaryAt(0, 100, 1)).probe(0, standbyAt(1, 100))
	if s.primary != -1 || !s.newPrimary || !slices.Equal(s.reset, []int{0}) {
		t.Fatalf("%+v", s)
	}
}

// TestAnotherServer: the name of the primary leads to another server, or that was
// started again: what is open is closed. Behind a name for several standbys it changes
// all the time, and nothing is.
func TestAnotherServer(t *testing.T) {
	s := &story{topology: newTopology(2)}
	started := func(p probe, hour float64) probe { p.started = at(-3600 * hour); return p }
	s.probe(0, started(primaryAt(0, 100, 1), 3)).probe(1, started(standbyAt(0, 100), 2))
	s.probe(0, started(primaryAt(1, 100, 1), 3)).probe(1, started(standbyAt(1, 100), 1))
	if len(s.reset) != 0 {
		t.Errorf("another standby: %v", s.reset)
	}
	if s.probe(0, started(primaryAt(2, 100, 1), 1)); !slices.Equal(s.reset, []int{0}) {
		t.Errorf("another primary: %v", s.reset)
	}
	if s.probe(0, deadAt(3)).probe(0, started(primaryAt(4, 100, 1), 1)); len(s.reset) != 0 {
		t.Errorf("the same after a pause: %v", s.reset)
	}
}

// TestUnopened: a server to which no connection can be had is not used, and stays the
// primary.
func TestUnopened(t *testing.T) {
	s := &story{topology: newTopology(2)}
	s.probe(0, primaryAt(0, 100, 1)).probe(1, standbyAt(0, 100))
	refused := func(p probe) probe { p.unopened = errors.New("no type"); return p }
	s.probe(0, refused(primaryAt(1, 100, 1))).probe(1, refused(standbyAt(1, 100)))
	if s.primary != 0 || s.views[0].healthy() || s.views[1].readable() || s.views[0].problem != problemUnopened || usable(s.topology) {
		t.Errorf("%+v", s.topology)
	}
	if s.probe(0, primaryAt(2, 100, 1)).probe(1, standbyAt(2, 100)); !s.views[0].healthy() || !s.views[1].readable() || !usable(s.topology) {
		t.Errorf("%+v", s.topology)
	}
}

func TestSecondPrimary(t *testing.T) {
	s := &story{topology: newTopology(2)}
	s.probe(1, primaryAt(0, 100, 1)).probe(0, primaryAt(0, 100, 1))
	if s.primary != 1 || s.views[0].problem != problemSecond || s.views[0].readable() {
		t.Fatalf("%+v", s.topology)
	}
}

// TestOtherDatabase: after a swap by rename, a standby's session is still in the
// old database.
// TestTwoNames: of two names of one server the first is the primary, whichever answers
// first. The other may be a reader's, which leads elsewhere tomorrow.
func TestTwoNames(t *testing.T) {
	started := func(p probe, hour float64) probe { p.started = at(-3600 * hour); return p }
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		s := &story{topology: newTopology(2)}
		for _, server := range order {
			s.probe(server, started(primaryAt(0, 100, 1), 3))
		}
		if s.primary != 0 || s.views[1].problem != problemSecond {
			t.Errorf("in the order %v: %+v", order, s.topology)
		}
		s.probe(0, deadAt(1))
		if s.primary != 1 {
			t.Errorf("the first name leads nowhere, and the other is not the primary: %+v", s.topology)
		}
		s.probe(0, started(primaryAt(2, 100, 1), 3))
		if s.primary != 0 {
			t.Errorf("the first name leads to it again: %+v", s.topology)
		}
		// Two servers that both say so: whoever is the primary stays.
		s.probe(1, started(primaryAt(3, 100, 1), 2)).probe(0, deadAt(4)).probe(0, started(primaryAt(5, 100, 1), 3))
		if s.primary != 1 {
			t.Errorf("another server that says so, too, took over: %+v", s.topology)
		}
	}
}

func TestOtherDatabase(t *testing.T) {
	s := &story{topology: newTopology(2)}
	s.probe(0, primaryAt(0, 100, 1)).probe(1, standbyAt(0, 100))
	swapped := primaryAt(1, 200, 1)
	swapped.oid = 2
	s.probe(0, swapped)
	if s.views[1].readable() || !slices.Equal(s.reset, []int{0}) {
		t.Errorf("a session in the old database is used: %+v", s)
	}
	s.probe(1, standbyAt(2, 200))
	if s.views[1].problem != problemDatabase || !slices.Equal(s.reset, []int{1}) {
		t.Errorf("%+v", s)
	}
	renamed := standbyAt(3, 200)
	renamed.database, renamed.oid = "app_old", 2
	if s.probe(1, renamed); s.views[1].problem != problemDatabase {
		t.Errorf("another name: %+v", s)
	}
	fresh := standbyAt(4, 200)
	fresh.oid = 2
	if s.probe(1, fresh); !s.views[1].readable() || !slices.Equal(s.reset, []int{1}) {
		t.Errorf("%+v", s)
	}
	if s.probe(1, fresh); len(s.reset) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestOtherDatabaseAfterABlip: the probe has a new session, in the new database; the
// pool's sessions are older than that.
func TestOtherDatabaseAfterABlip(t *testing.T) {
	s := &story{topology: newTopology(2)}
	s.probe(0, primaryAt(0, 100, 1)).probe(1, standbyAt(0, 100)).probe(1, deadAt(1))
	primary, standby := primaryAt(2, 200, 1), standbyAt(2, 200)
	primary.oid, standby.oid = 2, 2
	if s.probe(0, primary); !slices.Equal(s.reset, []int{0}) {
		t.Errorf("the primary's: %v", s.reset)
	}
	if s.probe(1, standby); !slices.Equal(s.reset, []int{1}) {
		t.Errorf("the standby's: %v", s.reset)
	}
}

// TestLag: a standby that has stopped receiving or replaying is found out at the
// next probe, and one that keeps up is not suspected.
func TestLag(t *testing.T) {
	marks := []mark{{at: at(0), clock: at(0), lsn: 100}, {at: at(30), clock: at(30), lsn: 200}}
	replayed := func(p probe, when float64) probe { p.replayed = at(when); return p }
	for name, test := range map[string]struct {
		probe probe
		marks []mark
		lag   time.Duration
		bytes int64
		known bool
	}{
		"has it all":                     {standbyAt(30, 200), marks, 0, 0, true},
		"has more":                       {standbyAt(31, 250), marks, 0, 0, true},
		"idle for long":                  {replayed(standbyAt(30, 200), -3600), marks, 0, 0, true},
		"busy, a moment behind":          {replayed(standbyAt(30, 199), 29.5), marks, 500 * time.Millisecond, 1, true},
		"stuck since before the last":    {replayed(standbyAt(30, 110), 1), marks, 29 * time.Second, 90, true},
		"stuck, no transaction replayed": {standbyAt(30, 110), marks, 30 * time.Second, 90, true},
		"stuck, and time goes on":        {standbyAt(50, 110), marks, 50 * time.Second, 90, true},
		"behind all that is known":       {standbyAt(30, 10), marks, 0, 190, false},
		"no primary yet":                 {standbyAt(30, 10), nil, 0, 0, false},
	} {
		lag, bytes, known := lagOf(test.probe, test.marks)
		if known != test.known || known && lag != test.lag || bytes != test.bytes {
			t.Errorf("%s: %s, %d bytes, known %v", name, lag, bytes, known)
		}
	}
	// The standby's clock is an hour ahead: only the primary's counts.
	ahead := replayed(standbyAt(30, 199), 29)
	ahead.clock = at(3630)
	if lag, _, _ := lagOf(ahead, marks); lag != time.Second {
		t.Errorf("by the standby's clock: %s", lag)
	}
}

func TestLagPolicy(t *testing.T) {
	base := newTopology(2)
	base, _ = base.with(0, primaryAt(0, 100, 1), lagPolicy{})
	base, _ = base.with(0, primaryAt(30, 200, 1), lagPolicy{})
	for name, test := range map[string]struct {
		policy  lagPolicy
		problem string
	}{
		"no limit":         {lagPolicy{}, ""},
		"within the time":  {lagPolicy{time: time.Minute}, ""},
		"beyond the time":  {lagPolicy{time: time.Second}, problemLag},
		"within the bytes": {lagPolicy{bytes: 100}, ""},
		"beyond the bytes": {lagPolicy{bytes: 10}, problemLag},
	} {
		after, _ := base.with(1, standbyAt(30, 150), test.policy)
		if after.views[1].problem != test.problem {
			t.Errorf("%s: %q", name, after.views[1].problem)
		}
	}
}

func TestMarks(t *testing.T) {
	var marks []mark
	for i := range 10000 {
		marks = addMark(marks, mark{at: at(float64(i) / 10), lsn: LSN(i)}, time.Second)
	}
	if len(marks) > maxMarks || marks[len(marks)-1].lsn != 9999 {
		t.Fatalf("%d marks, the last %v", len(marks), marks[len(marks)-1])
	}
	if reach := marks[len(marks)-1].at.Sub(marks[0].at); reach < 50*time.Second {
		t.Errorf("they reach back %s", reach)
	}
}

// TestTopologyIsAValue: what a reader holds does not change under it.
func TestTopologyIsAValue(t *testing.T) {
	before := newTopology(2)
	before, _ = before.with(0, primaryAt(0, 100, 1), lagPolicy{})
	held := before
	_, _ = before.with(0, deadAt(1), lagPolicy{})
	_, _ = before.with(0, primaryAt(1, 300, 1), lagPolicy{})
	if held.views[0].err != nil || held.marks[0].lsn != 100 || len(held.marks) != 1 {
		t.Errorf("%+v", held)
	}
}

// TestForked: a standby that got more from the former primary than the promoted one
// is not read, although its place in the log is beyond the new primary's.
func TestForked(t *testing.T) {
	s := &story{topology: newTopology(3)}
	s.probe(0, primaryAt(0, 100, 1)).probe(1, standbyAt(0, 100)).probe(2, standbyAt(0, 100))
	s.probe(0, deadAt(1)).probe(1, standbyAt(1, 105)).probe(2, standbyAt(1, 110))
	s.probe(1, primaryAt(2, 106, 2))
	if s.views[2].readable() || s.views[2].problem != problemForked {
		t.Fatalf("%+v", s.views[2])
	}
	// The primary passes it, and it comes and goes: that changes nothing.
	s.probe(1, primaryAt(3, 200, 2)).probe(2, deadAt(3)).probe(2, standbyAt(4, 109)).probe(1, primaryAt(5, 210, 2)).probe(2, standbyAt(5, 110))
	if s.views[2].problem != problemForked {
		t.Fatalf("%+v", s.views[2])
	}
	rejoined := standbyAt(6, 220)
	rejoined.checkpointed = 2
	after, _ := s.with(2, rejoined, lagPolicy{})
	if !after.views[2].readable() {
		t.Errorf("on the new timeline: %+v", after.views[2])
	}
	if s.probe(2, standbyAt(6, 106)); s.views[2].problem == problemForked {
		t.Errorf("rewound: %+v", s.views[2])
	}
	// One that answers after the primary may have more by then.
	s.probe(2, standbyAt(7, 300)).probe(1, primaryAt(7, 290, 2))
	if !s.views[2].readable() {
		t.Errorf("at the same time: %+v", s.views[2])
	}
	// It is found even if the primary was asked first, and the former primary too.
	s.probe(1, primaryAt(8, 295, 2)).probe(0, standbyAt(8, 400)).probe(1, primaryAt(9, 296, 2))
	if s.views[2].problem != problemForked || s.views[0].problem != problemForked || !s.views[1].healthy() {
		t.Errorf("%+v", s.views)
	}
}

func of(system int64, p probe) probe { p.system = system; return p }

// TestOtherCluster: a server of another cluster is neither written to nor read,
// whatever its timeline and whoever answers first.
func TestOtherCluster(t *testing.T) {
	s := &story{topology: newTopology(3)}
	s.probe(0, of(7, primaryAt(0, 100, 1))).probe(1, of(9, primaryAt(0, 500, 3))).probe(2, of(9, standbyAt(0, 500)))
	if s.primary != 0 || s.views[1].problem != problemCluster || s.views[2].problem != problemCluster || !s.views[0].healthy() {
		t.Fatalf("%+v", s.topology)
	}
	s = &story{topology: newTopology(3)}
	s.probe(1, of(9, primaryAt(0, 500, 3))).probe(0, of(7, primaryAt(0, 100, 1))).probe(2, of(7, standbyAt(0, 100)))
	if s.primary != 0 || s.views[1].healthy() || !s.views[2].readable() || s.timeline != 1 {
		t.Fatalf("the other one came first: %+v", s.topology)
	}
	// After a failover the first server is set up anew.
	s.probe(0, deadAt(1)).probe(2, of(7, primaryAt(2, 110, 2))).probe(0, of(8, primaryAt(3, 900, 5)))
	if s.primary != 2 || s.views[0].problem != problemCluster {
		t.Fatalf("it has taken the writes: %+v", s.topology)
	}
	// PrimaryURL's cluster is replaced, as by a major upgrade.
	s = &story{topology: newTopology(2)}
	s.probe(0, of(7, primaryAt(0, 100, 4))).probe(1, of(7, standbyAt(0, 100))).probe(0, deadAt(1)).probe(0, of(8, primaryAt(2, 50, 1)))
	if s.primary != 0 || !s.views[0].healthy() || s.views[1].readable() {
		t.Fatalf("after an upgrade: %+v", s.topology)
	}
	// Whoever does not tell is taken as he is.
	s = &story{topology: newTopology(2)}
	s.probe(0, primaryAt(0, 100, 1)).probe(1, of(7, standbyAt(0, 100)))
	if s.primary != 0 || !s.views[1].readable() {
		t.Fatalf("unknown: %+v", s.topology)
	}
}

// TestNoPrimaryAtStart: what is to be done is about what is wrong.
func TestNoPrimaryAtStart(t *testing.T) {
	for want, views := range map[string][]view{
		"check that the server runs ":     {{probe: probe{err: errors.New("connection refused")}, probed: true}, {probe: probe{standby: true}, probed: true}},
		"check that sslrootcert names ":   {{probe: probe{err: fmt.Errorf("connect: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}})}, probed: true}},
		"name the primary as PrimaryURL ": {{probe: probe{standby: true}, probed: true}},
	} {
		err := noPrimaryAtStart(topology{primary: -1, views: views})
		if !errors.Is(err, ErrNoPrimary) || !strings.HasPrefix(Hint(err), want) {
			t.Errorf("%v (%s)", err, Hint(err))
		}
	}
}

// TestShutdownErrorNames: who was cut off is in the text.
func TestShutdownErrorNames(t *testing.T) {
	held := Holder{Held: time.Second, SQL: "select ?", Running: true}
	for want, cut := range map[string][]Holder{
		`shutdown: 1 connection was cut while in use: late; held longest by: (1) 1s, running "select ?"`: {held},
		`shutdown: 4 connections were cut while in use: late; held longest by: (1) 1s, running "select ?" (2) 1s, running "select ?" (3) 1s, running "select ?"`: {
			held, held, held, held},
	} {
		err := &ShutdownError{Cut: cut, Err: errors.New("late")}
		if err.Error() != want || Hint(err) == "" {
			t.Errorf("%v (%s)", err, Hint(err))
		}
	}
}
