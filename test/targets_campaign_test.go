package test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// targetsSeed makes the campaign's transactions and targets; PGMEDIC_TARGETS_SEED is
// another one. How the sessions of a storm interleave is not made by it.
const targetsSeed = 20261130

// TestRandomTargets recovers one history to random targets: storms of concurrent
// transactions with aborts, subtransactions, prepared transactions and definitions; idle
// stretches; restore points; two base backups, one of them taken in a storm; and a failover
// to a standby that lacks a part of it. What each target must give follows from what the
// sessions did and from pg_waldump, not from pgmedic. Each recovered cluster has exactly the
// rows and tables of the predicted commit.
//
// 9 targets are recovered in make test-all, and in make chaos 200.
func TestRandomTargets(t *testing.T) {
	testkit.OnlyAll(t, "three servers and a recovery for each target")
	seed := uint64(targetsSeed)
	if text := os.Getenv("PGMEDIC_TARGETS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("PGMEDIC_TARGETS_SEED: %v", err)
		}
	}
	t.Logf("PGMEDIC_TARGETS_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := newHistory(t, rng)
	h.make(testkit.Amount(0, 10, 40))
	c := h.restoring()
	drawn, lost := map[string]int{}, 0
	for _, e := range h.along[1].ends {
		if e.lsn >= h.fork && e.committed {
			lost++
		}
	}
	if lost == 0 {
		t.Fatal("the failover lost nothing")
	}
	if got := h.lost(); got != lost {
		t.Errorf("wal status counts %d commits that the failover lost, and there are %d", got, lost)
	}
	n := testkit.Amount(0, len(draws()), 200)
	for i := range n {
		d := draws()[i%len(draws())]
		target := h.draw(rng, d)
		drawn[d.name]++
		folder := "again" // what is there is used where it is the same
		args := append(slices.Clone(target.args), "--delta")
		if i%10 == 0 {
			folder, args = "fresh"+strconv.Itoa(i), target.args
		}
		h.check(c, folder, args, target)
		if t.Failed() {
			t.Fatalf("target %d of %d: %s: %q, PGMEDIC_TARGETS_SEED=%d", i, n, d.name, target.args, seed)
		}
	}
	t.Logf("%d targets were recovered, of %v; the failover lost %d commits, in %d bytes of WAL; %d transactions", n, drawn, lost, h.old-h.fork, len(h.along[1].ends)+len(h.along[2].ends))
}

// effect is what a transaction does once it is committed.
type effect struct {
	rows   map[int]*string // nil is a row that is deleted
	tables []string
}

// xactEnd is the end of a transaction by pg_waldump.
type xactEnd struct {
	lsn       wal.LSN
	at        time.Time
	xid       uint64
	committed bool
	server    int
}

// branch is WAL along a timeline, by pg_waldump.
type branch struct {
	records []wal.LSN
	ends    []xactEnd
	points  map[string]wal.LSN // the first of each name
}

// stretch is a time in which nothing happened.
type stretch struct {
	timeline int
	from, to time.Time
}

// targetHistory is a server and its standby, and all that was done on them.
type targetHistory struct {
	*walBench
	rng     *rand.Rand
	standby *scratchtest.Standby
	// effects are those of each server's transactions.
	effects [2]map[uint64]effect
	storms  int
	idle    []stretch
	// from is where the history begins, floor the first position that a target can have,
	// fork the one at which the timelines part, and old the end of the first.
	from, floor, fork, old wal.LSN
	along                  map[int]*branch
	until                  time.Time
}

func newHistory(t *testing.T, rng *rand.Rand) *targetHistory {
	t.Helper()
	b := newWALBench(t, 0, map[string]string{"max_prepared_transactions": "20", "shared_buffers": "4MB", "max_wal_senders": "6"})
	if _, err := os.Stat(filepath.Join(b.server.BinDir(), "pg_waldump")); err != nil {
		testkit.Missing(t, "PostgreSQL "+strconv.Itoa(b.server.Major())+" is here without pg_waldump")
	}
	b.sql("SELECT pg_create_physical_replication_slot('keep', true)")
	return &targetHistory{walBench: b, rng: rng, effects: [2]map[uint64]effect{{}, {}}}
}

// position asks the server where its WAL ends.
func (h *targetHistory) position() wal.LSN {
	h.t.Helper()
	at, err := wal.ParseLSN(h.ask("SELECT pg_current_wal_insert_lsn()::text"))
	if err != nil {
		h.t.Fatal(err)
	}
	return at
}

// clock asks the server for its time.
func (h *targetHistory) clock() time.Time {
	h.t.Helper()
	us, err := strconv.ParseInt(h.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text"), 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return time.UnixMicro(us).UTC()
}

// rest has nothing happen for a while.
func (h *targetHistory) rest(timeline int) {
	h.t.Helper()
	s := stretch{timeline: timeline, from: h.clock()}
	testkit.Eventually(h.t, time.Minute, "the server's clock goes on", func() bool {
		s.to = h.clock()
		return s.to.Sub(s.from) > 200*time.Millisecond
	})
	h.idle = append(h.idle, s)
}

// storm runs concurrent transactions on a server, and something else meanwhile.
func (h *targetHistory) storm(server, transactions int, meanwhile func()) {
	h.t.Helper()
	h.storms++
	url := h.server.DSN("postgres")
	if server == 1 {
		url = h.standby.DSN("postgres")
	}
	const sessions = 4
	done := make(chan error, sessions)
	all := make([]*session, sessions)
	for i := range all {
		conn := testkit.Dial(h.t, url)
		defer testkit.End(conn)
		all[i] = &session{
			conn: conn, rng: rand.New(rand.NewPCG(h.rng.Uint64(), uint64(i))), name: fmt.Sprintf("%d_%d", h.storms, i),
			first: h.storms*1_000_000 + i*100_000, rows: map[int]string{}, effects: map[uint64]effect{},
		}
		go func() { done <- all[i].run(h.t, transactions) }()
	}
	meanwhile()
	for range all {
		if err := <-done; err != nil {
			h.t.Errorf("a session of a storm: %v", err)
		}
	}
	for _, s := range all {
		maps.Copy(h.effects[server], s.effects)
	}
}

// stream has WAL streamed until what is returned is called, when all of it is stored.
func (h *targetHistory) stream() (stop func()) {
	h.t.Helper()
	stream := h.start("wal", "stream", "--max-delay", "1s", "--slot", "ours")
	h.wantStreaming()
	return func() {
		h.t.Helper()
		h.wantStored()
		stream.signal(syscall.SIGTERM)
		if r := stream.wait(time.Minute); r.code != 0 {
			h.t.Fatalf("the stream: exit code %d, %s", r.code, r.stderr)
		}
	}
}

// make makes the history, with so many transactions of a session in each storm.
func (h *targetHistory) make(n int) {
	t := h.t
	t.Helper()
	h.from = h.position()
	stop := h.stream()
	h.physical(0)
	h.storm(0, 2, func() {})
	h.floor = h.position()
	for range 2 {
		h.storm(0, n, func() { h.sql("SELECT pg_create_restore_point('in a storm')") })
		h.sql("SELECT pg_create_restore_point($1)", strings.Repeat("n", wal.MaxRestorePointName))
		h.rest(1)
		h.sql("SELECT pg_switch_wal()")
	}
	h.storm(0, 2*n, func() { h.physical(0) })
	h.sql("SELECT pg_create_restore_point('at the second base backup')")
	h.rest(1)
	h.standby = scratchtest.NewStandby(t, h.server, scratch.StandbyOptions{Settings: map[string]string{"synchronous_commit": "on"}})
	h.storm(0, n, func() {})
	h.standby.CatchUp(t)
	h.standby.Promote(t)
	testkit.Eventually(t, time.Minute, "the standby is a primary", func() bool {
		var recovering bool
		conn, err := pgx.Connect(t.Context(), h.standby.DSN("postgres"))
		if err == nil {
			defer func() { _ = conn.Close(t.Context()) }()
			err = conn.QueryRow(t.Context(), "SELECT pg_is_in_recovery()").Scan(&recovering)
		}
		return err == nil && !recovering
	})
	// What the old primary does now is lost to the new one.
	h.sql("SELECT pg_create_restore_point('on both sides')")
	h.storm(0, n, func() {})
	h.sql("SELECT pg_logical_emit_message(true, 'pgmedic', repeat('y', 1200000))") // more than a segment
	h.sql("INSERT INTO ledger VALUES (-1, 'lost')")
	h.effects[0][h.lastXID()] = effect{rows: map[int]*string{-1: new("lost")}}
	h.rest(1)
	h.sql("INSERT INTO ledger VALUES (-2, 'lost, too')")
	h.effects[0][h.lastXID()] = effect{rows: map[int]*string{-2: new("lost, too")}}
	h.old = h.position()
	stop()

	h.conn = testkit.Connect(t, h.standby.DSN("postgres"))
	h.env = append(slices.DeleteFunc(slices.Clone(h.env), func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") }), "DATABASE_URL="+h.standby.URL("postgres"))
	h.sql("SET synchronous_commit = on")
	h.sql("SELECT pg_create_physical_replication_slot('keep', true)")
	stop = h.stream()
	h.rest(2)
	h.storm(1, n, func() {})
	h.sql("SELECT pg_create_restore_point('on both sides')")
	h.rest(2)
	h.sql("INSERT INTO ledger VALUES (-3, 'last')")
	h.effects[1][h.lastXID()] = effect{rows: map[int]*string{-3: new("last")}}
	last := h.clock()
	stop()
	h.read()
	// Nothing happened from then on to where the time is known.
	if h.until = h.statusUntil(); h.until.After(last) {
		h.idle = append(h.idle, stretch{2, last, h.until})
	}
}

// lastXID is the transaction that the session's last statement was.
func (h *targetHistory) lastXID() uint64 {
	h.t.Helper()
	xid, err := strconv.ParseUint(h.ask("SELECT xmin::text FROM ledger WHERE n < 0 ORDER BY n LIMIT 1"), 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return xid
}

// asReaderStatus is what wal status says where the key is.
func (h *targetHistory) asReaderStatus() (status struct {
	Until    struct{ Time time.Time }
	Branches []struct {
		Lost *struct{ Count int } `json:"lost_transactions"`
	}
}) {
	h.t.Helper()
	var got struct{ Clusters []json.RawMessage }
	r := h.asReader("wal", "status", "--json")
	err := json.Unmarshal([]byte(r.stdout), &got)
	if err == nil && len(got.Clusters) == 1 {
		err = json.Unmarshal(got.Clusters[0], &status)
	}
	if err != nil || len(got.Clusters) != 1 {
		h.t.Fatalf("wal status: exit code %d, %v, %s%s", r.code, err, r.stdout, r.stderr)
	}
	return status
}

func (h *targetHistory) statusUntil() time.Time { h.t.Helper(); return h.asReaderStatus().Until.Time }

// lost is how many commits the failover lost, as pgmedic counts them.
func (h *targetHistory) lost() int {
	h.t.Helper()
	s := h.asReaderStatus()
	if len(s.Branches) != 1 || s.Branches[0].Lost == nil {
		h.t.Fatalf("branches %+v", s.Branches)
	}
	return s.Branches[0].Lost.Count
}

// stateAt is what a cluster has that was recovered along a timeline up to a record.
func (h *targetHistory) stateAt(timeline int, last wal.LSN) (state string, commit wal.LSN) {
	rows, tables := map[int]string{}, []string{}
	for _, e := range h.along[timeline].ends {
		if e.lsn > last || !e.committed {
			continue
		}
		commit = e.lsn
		did := h.effects[e.server][e.xid]
		for n, note := range did.rows {
			if delete(rows, n); note != nil {
				rows[n] = *note
			}
		}
		tables = append(tables, did.tables...)
	}
	var parts []string
	for _, n := range slices.Sorted(maps.Keys(rows)) {
		parts = append(parts, strconv.Itoa(n)+rows[n])
	}
	slices.Sort(tables)
	sum := ""
	if len(parts) > 0 {
		of := md5.Sum([]byte(strings.Join(parts, ",")))
		sum = hex.EncodeToString(of[:])
	}
	return fmt.Sprintf("%d %s %s", len(rows), sum, strings.Join(tables, " ")), commit
}

const historyState = "SELECT (" + ledgerSum + ") || ' ' || coalesce((SELECT string_agg(relname::text, ' ' ORDER BY relname::text COLLATE \"C\") FROM pg_class WHERE relname LIKE 'made%' AND relkind = 'r'), '')"

// check recovers to a target, and compares.
func (h *targetHistory) check(c *clusterBench, folder string, args []string, target historyTarget) {
	h.t.Helper()
	port := c.port()
	done, r := c.restore(0, folder, append(args, "--start", "--start-port", port)...)
	want, commit := h.stateAt(target.timeline, target.last)
	if got := c.asks(port, historyState); got != want {
		h.t.Errorf("recovered %.200s, want %.200s\n%s", got, want, r.stdout)
	}
	if done.Started == nil || !done.Started.Running || done.Plan.WAL.Stop == "lsn" && done.Started.Redone != done.Plan.WAL.LSN {
		h.t.Errorf("recovered to another record than planned: %s", r.stdout)
	}
	// A plan knows the commits since its base backup began.
	if last := done.Plan.WAL.Last; last != nil && last.LSN != commit.String() {
		h.t.Errorf("the plan's last commit is at %s, and pg_waldump's at %v", last.LSN, commit)
	}
	c.stop(done.Started.PID)
}
