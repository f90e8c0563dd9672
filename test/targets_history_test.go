package test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// session runs transactions on rows of its own, and remembers what each has done.
type session struct {
	conn    *pgx.Conn
	rng     *rand.Rand
	name    string
	first   int // of its rows
	next    int
	rows    map[int]string
	effects map[uint64]effect
}

// run runs so many transactions, of each kind some.
func (s *session) run(t *testing.T, transactions int) error {
	ctx := t.Context()
	for n := range transactions {
		did := effect{rows: map[int]*string{}}
		var xid uint64
		steps := []func() error{
			s.exec(ctx, "BEGIN"),
			func() error { return s.conn.QueryRow(ctx, "SELECT txid_current()").Scan(&xid) },
			s.change(ctx, did),
		}
		committed := true
		switch kind := s.rng.IntN(10); kind {
		case 0:
			steps, committed = append(steps, s.exec(ctx, "ROLLBACK")), false
		case 1: // what is rolled back to a savepoint has not happened
			steps = append(steps, s.exec(ctx, "SAVEPOINT one"), s.change(ctx, effect{rows: map[int]*string{}}), s.exec(ctx, "ROLLBACK TO one"), s.change(ctx, did),
				s.exec(ctx, "SAVEPOINT two"), s.change(ctx, did), s.exec(ctx, "RELEASE two"), s.exec(ctx, "COMMIT"))
		case 2, 3: // prepared, and decided upon after another transaction
			id := fmt.Sprintf("%s_%d", s.name, n)
			committed = kind == 2
			end := map[bool]string{true: "COMMIT PREPARED '", false: "ROLLBACK PREPARED '"}[committed]
			steps = append(steps, s.exec(ctx, "PREPARE TRANSACTION '"+id+"'"), func() error { return s.alone(ctx) }, s.exec(ctx, end+id+"'"))
		case 4:
			name := fmt.Sprintf("made_%s_%d", s.name, n)
			did.tables = append(did.tables, name)
			steps = append(steps, s.exec(ctx, "CREATE TABLE "+name+" (n int PRIMARY KEY, note text)"), s.exec(ctx, "COMMIT"))
		case 5: // large, over several pages
			steps = append(steps, s.insert(ctx, did, 60, 500), s.exec(ctx, "COMMIT"))
		default:
			steps = append(steps, s.exec(ctx, "COMMIT"))
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		if committed {
			s.effects[xid] = did
			s.keep(did)
		}
	}
	return nil
}

// alone is a transaction of one statement.
func (s *session) alone(ctx context.Context) error {
	var xid uint64
	s.next++
	n, note := s.first+s.next, "alone"
	err := s.conn.QueryRow(ctx, "INSERT INTO ledger VALUES ($1, $2) RETURNING txid_current()", n, note).Scan(&xid)
	did := effect{rows: map[int]*string{n: &note}}
	s.effects[xid] = did
	s.keep(did)
	return err
}

// keep takes account of what is committed.
func (s *session) keep(did effect) {
	for n, note := range did.rows {
		if delete(s.rows, n); note != nil {
			s.rows[n] = *note
		}
	}
}

func (s *session) exec(ctx context.Context, sql string) func() error {
	return func() error {
		_, err := s.conn.Exec(ctx, sql)
		return err
	}
}

// change inserts rows, and updates or deletes one that was there.
func (s *session) change(ctx context.Context, did effect) func() error {
	inserts := s.insert(ctx, did, 1+s.rng.IntN(3), 20)
	return func() error {
		if err := inserts(); err != nil || len(s.rows) == 0 {
			return err
		}
		n := slices.Sorted(maps.Keys(s.rows))[s.rng.IntN(len(s.rows))]
		if _, changed := did.rows[n]; changed {
			return nil
		}
		if s.rng.IntN(3) == 0 {
			did.rows[n] = nil
			_, err := s.conn.Exec(ctx, "DELETE FROM ledger WHERE n = $1", n)
			return err
		}
		note := fmt.Sprintf("changed %x", s.rng.Uint64())
		did.rows[n] = &note
		_, err := s.conn.Exec(ctx, "UPDATE ledger SET note = $2 WHERE n = $1", n, note)
		return err
	}
}

// insert inserts rows that were never there.
func (s *session) insert(ctx context.Context, did effect, rows, size int) func() error {
	return func() error {
		for range rows {
			s.next++
			n, note := s.first+s.next, strings.Repeat("x", s.rng.IntN(size))
			did.rows[n] = &note
			if _, err := s.conn.Exec(ctx, "INSERT INTO ledger VALUES ($1, $2)", n, note); err != nil {
				return err
			}
		}
		return nil
	}
}

var (
	dumpedRecord = regexp.MustCompile(`^rmgr: (\S+) .* tx: +(\d+), lsn: ([0-9A-F/]+), prev [0-9A-F/]+, desc: (.*)`)
	dumpedEnd    = regexp.MustCompile(`^(COMMIT|ABORT)(?:_PREPARED)? (?:(\d+): )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC`)
)

// dump reads the WAL of a server with pg_waldump.
func (h *targetHistory) dump(server int, dir string, timeline int, from, to wal.LSN) *branch {
	h.t.Helper()
	b := &branch{points: map[string]wal.LSN{}}
	cmd := exec.CommandContext(h.t.Context(), filepath.Join(h.server.BinDir(), "pg_waldump"),
		"--path", filepath.Join(dir, "pg_wal"), "--timeline", strconv.Itoa(timeline), "--start", from.String(), "--end", to.String())
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("pg_waldump: %v\n%.500s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		m := dumpedRecord.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue // that the first record begins behind the start
		}
		lsn, err := wal.ParseLSN(m[3])
		if err != nil {
			h.t.Fatal(err)
		}
		b.records = append(b.records, lsn)
		if name, ok := strings.CutPrefix(m[4], "RESTORE_POINT "); ok && m[1] == "XLOG" && b.points[name] == 0 {
			b.points[name] = lsn
		}
		end := dumpedEnd.FindStringSubmatch(m[4])
		if m[1] != "Transaction" || end == nil {
			continue
		}
		e := xactEnd{lsn: lsn, committed: end[1] == "COMMIT", server: server}
		if e.at, err = time.Parse("2006-01-02 15:04:05.999999", end[3]); err != nil {
			h.t.Fatal(err)
		}
		xid := m[2]
		if end[2] != "" {
			xid = end[2]
		}
		if e.xid, err = strconv.ParseUint(xid, 10, 64); err != nil {
			h.t.Fatal(err)
		}
		b.ends = append(b.ends, e)
	}
	return b
}

// read reads what happened on both timelines, and that it is all that was done.
func (h *targetHistory) read() {
	h.t.Helper()
	dir := h.standby.DataDir()
	text := string(readFile(h.t, filepath.Join(dir, "pg_wal", "00000002.history")))
	var err error
	if h.fork, err = wal.ParseLSN(strings.Fields(text)[1]); err != nil {
		h.t.Fatal(err)
	}
	old := h.dump(0, h.server.DataDir(), 1, h.from, h.old)
	end, err := wal.ParseLSN(h.ask("SELECT pg_current_wal_flush_lsn()::text"))
	if err != nil {
		h.t.Fatal(err)
	}
	later := h.dump(1, dir, 2, h.fork, end)
	both := &branch{points: map[string]wal.LSN{}}
	before := func(lsn wal.LSN) bool { return lsn < h.fork }
	for _, lsn := range old.records {
		if before(lsn) {
			both.records = append(both.records, lsn)
		}
	}
	for _, e := range old.ends {
		if before(e.lsn) {
			both.ends = append(both.ends, e)
		}
	}
	both.records, both.ends = append(both.records, later.records...), append(both.ends, later.ends...)
	maps.Copy(both.points, later.points)
	for name, lsn := range old.points {
		if before(lsn) {
			both.points[name] = lsn
		}
	}
	h.along = map[int]*branch{1: old, 2: both}
	// Each transaction that committed is there, once.
	for server, b := range []*branch{old, later} {
		found := map[uint64]int{}
		for _, e := range b.ends {
			if e.committed {
				found[e.xid]++
			}
		}
		for xid := range h.effects[server] {
			if found[xid] != 1 {
				h.t.Fatalf("pg_waldump has %d commits of transaction %d of server %d", found[xid], xid, server)
			}
		}
	}
}

// historyTarget is a target, and what must come of it: the last record that is replayed
// along a timeline.
type historyTarget struct {
	args     []string
	timeline int
	last     wal.LSN
}

// draw is a way to draw targets.
type draw struct {
	name string
	of   func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool)
}

// draws are all ways.
func draws() []draw {
	byCommit := func(shift time.Duration) func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
		return func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			ends := h.along[timeline].ends
			return h.atTime(timeline, ends[rng.IntN(len(ends))].at.Add(shift))
		}
	}
	return []draw{
		{"the time of a commit or an abort", byCommit(0)},
		{"1 µs before one", byCommit(-time.Microsecond)},
		{"1 µs after one", byCommit(time.Microsecond)},
		{"any time", func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			ends := h.along[timeline].ends
			first, last := ends[0].at, ends[len(ends)-1].at
			return h.atTime(timeline, first.Add(time.Duration(rng.Int64N(int64(last.Sub(first))))))
		}},
		{"an idle time", func(h *targetHistory, rng *rand.Rand, _ int) (historyTarget, bool) {
			s := h.idle[rng.IntN(len(h.idle))]
			return h.atTime(s.timeline, s.from.Add(time.Duration(rng.Int64N(int64(s.to.Sub(s.from))))))
		}},
		{"a position", func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			records := h.along[timeline].records
			at := records[rng.IntN(len(records))]
			if rng.IntN(2) == 0 { // not where a record begins
				at += wal.LSN(rng.Int64N(100))
			}
			return h.atLSN(timeline, at)
		}},
		{"a restore point", func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			points := h.along[timeline].points
			name := slices.Sorted(maps.Keys(points))[rng.IntN(len(points))]
			return historyTarget{[]string{"--to-name", name, "--timeline", strconv.Itoa(timeline)}, timeline, points[name]}, true
		}},
		{"the first record of a segment", func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			const size = wal.LSN(wal.MinSegmentSize)
			records := h.along[timeline].records
			at := records[rng.IntN(len(records))] / size * size
			i := slices.IndexFunc(records, func(lsn wal.LSN) bool { return lsn >= at })
			if rng.IntN(2) == 0 { // not the border, but where the record begins
				at = records[i]
			}
			return h.atLSN(timeline, at)
		}},
		{"within a segment of the fork", func(h *targetHistory, rng *rand.Rand, timeline int) (historyTarget, bool) {
			records := slices.DeleteFunc(slices.Clone(h.along[timeline].records), func(at wal.LSN) bool {
				return at+wal.LSN(wal.MinSegmentSize) < h.fork || at >= h.fork+wal.LSN(wal.MinSegmentSize)
			})
			at := records[rng.IntN(len(records))]
			if rng.IntN(2) == 0 {
				return h.atLSN(timeline, at)
			}
			// The time of the first transaction that ended from there on.
			ends := h.along[timeline].ends
			i := slices.IndexFunc(ends, func(e xactEnd) bool { return e.lsn >= at })
			if i < 0 || ends[i].lsn >= h.fork+wal.LSN(wal.MinSegmentSize) {
				return historyTarget{}, false
			}
			return h.atTime(timeline, ends[i].at)
		}},
	}
}

// draw draws a target that can be reached.
func (h *targetHistory) draw(rng *rand.Rand, d draw) historyTarget {
	h.t.Helper()
	for range 10_000 {
		if target, ok := d.of(h, rng, 1+rng.IntN(2)); ok && target.last >= h.floor {
			return target
		}
	}
	h.t.Fatalf("%s: none can be reached", d.name)
	return historyTarget{}
}

// atTime is PostgreSQL's rule: replay stops before the first transaction that ended later.
func (h *targetHistory) atTime(timeline int, at time.Time) (historyTarget, bool) {
	target := historyTarget{timeline: timeline, args: []string{"--to-time", at.Format("2006-01-02 15:04:05.000000+00"), "--timeline", strconv.Itoa(timeline)}}
	ends := h.along[timeline].ends
	i := slices.IndexFunc(ends, func(e xactEnd) bool { return e.at.After(at) })
	if i == 0 {
		return target, false
	}
	if i < 0 {
		// It can be reached where it is known that nothing ended since.
		latest := slices.MaxFunc(ends, func(a, b xactEnd) int { return a.at.Compare(b.at) }).at
		if i = len(ends); at.After(latest) && (timeline == 1 || at.After(h.until)) {
			return target, false
		}
	}
	target.last = ends[i-1].lsn
	return target, true
}

// atLSN is PostgreSQL's rule: the first record that begins there or later is the last one.
func (h *targetHistory) atLSN(timeline int, at wal.LSN) (historyTarget, bool) {
	records := h.along[timeline].records
	i := slices.IndexFunc(records, func(lsn wal.LSN) bool { return lsn >= at })
	if i < 0 {
		return historyTarget{}, false
	}
	return historyTarget{[]string{"--to-lsn", at.String(), "--timeline", strconv.Itoa(timeline)}, timeline, records[i]}, true
}
