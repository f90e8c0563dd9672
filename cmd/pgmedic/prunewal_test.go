package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	walSystem = 7711147204259165944
	walBytes  = wal.LSN(wal.MinSegmentSize)
)

// putCluster stores a physical backup of a server, whose WAL is from one segment's start
// to that of a later one.
func putCluster(t *testing.T, s store.Store, at time.Time, from, to wal.LSN) *pgmedic.Backup {
	t.Helper()
	content := []byte("the list of files")
	sum := sha256.Sum256(content)
	b := &pgmedic.Backup{
		Format: pgmedic.PhysicalFormat, ID: catalog.NewID(at), Method: pgmedic.MethodPhysical, Purpose: pgmedic.PurposeRegular,
		StartedAt: at, SnapshotAt: at, FinishedAt: at, Host: "h",
		Server: pgmedic.Server{Name: "clinic", SystemIdentifier: strconv.Itoa(walSystem), Version: "12.22", VersionNum: 120022},
		Seal:   pgmedic.Seal{Compression: "none", Encryption: "none"},
		Physical: &pgmedic.Physical{
			Kind: pgmedic.PhysicalFull, Timeline: 1, StopTimeline: 1, StartLSN: (from*walBytes + 40).String(), CheckpointLSN: (from*walBytes + 96).String(),
			StopLSN: (to * walBytes).String(), BlockBytes: 8192, SegmentBytes: 1 << 30, WALSegmentBytes: int64(walBytes), Files: 1, PlainBytes: 1,
		},
		Objects: []pgmedic.Object{{Name: "files.ndjson", Role: pgmedic.RoleFiles, StoredBytes: int64(len(content)), PlainBytes: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}},
	}
	if _, err := s.Put(t.Context(), catalog.Key(b, b.Objects[0].Name), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := catalog.New(s).Commit(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// putWAL stores an epoch with segments, the first of them stored at a time and each other
// so much later.
func putWAL(t *testing.T, dir string, s store.Store, segments int, at time.Time, apart time.Duration) *archive.Archive {
	t.Helper()
	a := archive.New(s, "clinic", walSystem)
	e, err := a.Begin(t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: at, SegmentBytes: int64(walBytes), Timeline: 1, From: walBytes},
		Seal: seal.Options{Compression: seal.CompressionZstd},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= segments; i++ {
		name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: wal.LSN(i) * walBytes})
		key := fmt.Sprintf("%s%s/seg/%s/%s-%016x.zst", a.Folder(), e.ID(), name[:16], name, i)
		if _, err := s.Put(t.Context(), key, strings.NewReader("sealed")); err != nil {
			t.Fatal(err)
		}
		when := at.Add(time.Duration(i-1) * apart)
		if err := os.Chtimes(filepath.Join(dir, filepath.FromSlash(key)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// walBench is a store with three base backups, 28, 17 and 1 days old, the oldest first, and
// WAL of 30 days, a segment of each.
type walBench struct {
	t       *testing.T
	dir     string
	store   store.Store
	backups []*pgmedic.Backup
	a       *archive.Archive
}

func newWALBench(t *testing.T) *walBench {
	t.Helper()
	b := &walBench{t: t, dir: t.TempDir()}
	s, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.store = s
	day := 24 * time.Hour
	now := time.Now().Truncate(time.Second)
	for _, c := range []struct {
		age  int
		from wal.LSN
	}{{28, 2}, {17, 13}, {1, 29}} {
		b.backups = append(b.backups, putCluster(t, s, now.Add(-time.Duration(c.age)*day), c.from, c.from+1))
	}
	b.a = putWAL(t, b.dir, s, 30, now.Add(-29*day-time.Hour), day)
	return b
}

// eachBackup does something with the oldest backup of a bench, the middle and the newest one,
// each in a bench of its own.
func eachBackup(t *testing.T, do func(t *testing.T, b *walBench, of *pgmedic.Backup)) {
	t.Helper()
	for i, age := range []string{"oldest", "middle", "newest"} {
		t.Run(age, func(t *testing.T) {
			b := newWALBench(t)
			do(t, b, b.backups[i])
		})
	}
}

// job is a run with a policy.
func (b *walBench) job(policy string, out io.Writer) job {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "pgmedic.yaml")
	text := "server: clinic\nbackup: {store: " + b.dir + "}\nretention: " + policy + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{File: file, Dir: b.dir})
	if err != nil {
		b.t.Fatal(err)
	}
	return job{env: &env{now: time.Now, stdout: out, stderr: io.Discard, rawOut: out}, cfg: cfg, log: slog.New(slog.DiscardHandler)}
}

// prune runs prune with a policy, and returns what it printed.
func (b *walBench) prune(policy string, yes bool) (string, error) {
	b.t.Helper()
	out := &bytes.Buffer{}
	j := b.job(policy, out)
	j.global.yes = yes
	cmd := &pruneCommand{job: j, servers: servers{j}, retainer: newRetainer(j), flags: pruneFlags{only: "backups", maxShare: "50%"}}
	err := cmd.run(b.t.Context())
	return out.String(), err
}

func (b *walBench) count(part string) (n int) {
	b.t.Helper()
	for o, err := range b.store.List(b.t.Context(), "") {
		if err != nil {
			b.t.Fatal(err)
		}
		if strings.Contains(o.Key, part) {
			n++
		}
	}
	return n
}

// TestPruneDeletesWALAfterItsBackups: WAL is marked once no backup is listed that needs it,
// and not before.
func TestPruneDeletesWALAfterItsBackups(t *testing.T) {
	b := newWALBench(t)
	const policy = "{days: 10d, last: 1, grace: 0s}"
	must := func(yes bool) string {
		t.Helper()
		out, err := b.prune(policy, yes)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := must(false)
	if !strings.Contains(out, "WAL of clinic, cluster 7711147204259165944") || !strings.Contains(out, "marks 1 object") || b.count("doomed") != 0 {
		t.Errorf("the plan is\n%s", out)
	}
	out = must(true) // marks two backups, and the segment before all of them
	if b.count("manifest.json") < 3 || b.count("/seg/") != 30 || b.count("doomed") != 3 {
		t.Errorf("marked\n%s", out)
	}
	out = must(true) // deletes the backups and that segment, and marks what the backups needed
	if b.count("/files.ndjson") != 1 || b.count("/seg/") != 29 {
		t.Errorf("deleted backups\n%s", out)
	}
	out = must(true)
	// What was stored in the last seven days stays, whether a known backup needs it or not.
	if b.count("/seg/") != 7 || b.count("doomed") != 0 {
		t.Errorf("deleted WAL, %d segments are left\n%s", b.count("/seg/"), out)
	}
	if out = must(true); strings.Contains(out, "delete") || b.count("/seg/") != 7 {
		t.Errorf("it goes on\n%s", out)
	}
}

// TestPruneKeepsWhatIsLeased: neither the base backup nor the WAL that a recovery reads goes,
// and both go when its lease has ended.
func TestPruneKeepsWhatIsLeased(t *testing.T) {
	b := newWALBench(t)
	const policy = "{days: 10d, last: 1, grace: 0s}"
	must := func() string {
		t.Helper()
		out, err := b.prune(policy, true)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	must() // marks: what is leased may be marked already
	oldest := b.backups[0]
	held := lease.Take(t.Context(), lease.Options{Archive: b.a, Lease: lease.Lease{
		By: "ana", Host: "db2", Purpose: "drill", Backups: []string{oldest.ID}, Spans: []wal.Span{{Timeline: 1, From: 2*walBytes + 40, To: 9*walBytes + 8}},
	}})
	defer held.Release(t.Context())
	out := must()
	if b.count("/"+oldest.ID+"/manifest.json") == 0 || !strings.Contains(out, "unmark") {
		t.Errorf("the base backup that is read\n%s", out)
	}
	for range 3 {
		out = must()
	}
	if plan, _ := b.prune(policy, false); !strings.Contains(plan, oldest.ID) || !strings.Contains(plan, "a drill by ana on db2 reads it, until 20") {
		t.Errorf("the plan does not say what reads it\n%s", plan)
	}
	if n := b.count("/seg/"); b.count("/files.ndjson") != 2 || n <= 7 {
		t.Errorf("%d backups and %d segments are left\n%s", b.count("/files.ndjson"), n, out)
	}
	// The base backup is released, and its WAL is read on, as by a server that replays.
	held.Release(t.Context())
	read := []wal.Span{{Timeline: 1, From: 2*walBytes + 40, To: 9*walBytes + 8}}
	lease.Leave(t.Context(), lease.Options{Archive: b.a, Lease: lease.Lease{By: "ana", Host: "db2", Purpose: "recovery", Spans: read}})
	for range 4 {
		out = must()
	}
	// Of 30 segments 7 are new, and the lease is of those from the second to the ninth.
	if n := b.count("/seg/"); b.count("/files.ndjson") != 1 || n != 7+8 {
		t.Errorf("%d backups and %d segments are left\n%s", b.count("/files.ndjson"), n, out)
	}
	if plan, _ := b.prune(policy, false); !strings.Contains(plan, "8 objects would go and stays: a recovery by ana on db2 reads it") {
		t.Errorf("the plan is\n%s", plan)
	}
	// It ends by itself.
	leases, err := filepath.Glob(filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), "lease-*"))
	if err != nil || len(leases) != 1 {
		t.Fatalf("leases %v, %v", leases, err)
	}
	ended := time.Now().Add(-lease.Recovering - lease.Margin - time.Minute)
	if err := os.Chtimes(leases[0], ended, ended); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out = must()
	}
	if b.count("/seg/") != 7 || b.count("lease-") != 0 {
		t.Errorf("%d segments and %d leases are left\n%s", b.count("/seg/"), b.count("lease-"), out)
	}
}

// TestPruneKeepsWhatIsLeasedMeanwhile: a lease counts that was taken after the plan was made,
// as while its question waited.
func TestPruneKeepsWhatIsLeasedMeanwhile(t *testing.T) {
	b := newWALBench(t)
	const policy = "{days: 10d, last: 1, grace: 0s}"
	if out, err := b.prune(policy, true); err != nil { // marks
		t.Fatalf("%v\n%s", err, out)
	}
	oldest := b.backups[0]
	r := newRetainer(b.job(policy, io.Discard))
	stores := r.readStores(t.Context(), catalog.Filter{Server: "clinic"})
	defer stores.close()
	plan := r.plan(stores, retentionScope{maxShare: 1})
	if !goes(plan, stores[0].Name, oldest.ID) {
		t.Fatalf("the plan is %+v", plan)
	}
	held := lease.Take(t.Context(), lease.Options{Archive: b.a, Lease: lease.Lease{By: "ana", Host: "db2", Purpose: "drill", Backups: []string{oldest.ID}}})
	defer held.Release(t.Context())
	if err := r.apply(t.Context(), stores, plan, nil); err != nil || b.count("/"+oldest.ID+"/manifest.json") == 0 {
		t.Errorf("what is read was deleted: %v", err)
	}
	if i := slices.IndexFunc(plan[0].Decisions, func(d retention.Decision) bool { return d.ID == oldest.ID }); plan[0].Decisions[i].Verdict != retention.Keep ||
		!strings.Contains(plan[0].Decisions[i].Why(), "a drill by ana on db2 reads it") {
		t.Errorf("it says %+v", plan[0].Decisions[i])
	}
	if n := b.count("/files.ndjson"); n != 2 {
		t.Errorf("%d base backups are left, want the one that is kept and the one that is read", n)
	}
}

// TestDeleteRefusesWhatIsLeased: a base backup that a recovery reads is not deleted by hand.
func TestDeleteRefusesWhatIsLeased(t *testing.T) {
	const day = 24 * time.Hour
	b := newWALBench(t)
	oldest := b.backups[0]
	remove := func(ahead time.Duration) error {
		t.Helper()
		j := b.job("{days: 10d}", io.Discard)
		j.now = func() time.Time { return time.Now().Add(ahead) }
		j.global.yes = true
		cmd := &deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: oldest.ID, flags: deleteFlags{reason: "a test"}}
		return cmd.run(t.Context())
	}
	held := lease.Take(t.Context(), lease.Options{Archive: b.a, Lease: lease.Lease{By: "ana", Host: "db2", Purpose: "drill", Backups: []string{oldest.ID}}})
	defer held.Release(t.Context())
	for _, ahead := range []time.Duration{-day, 0, day} { // of the store's clock, which a lease counts by
		if err := remove(ahead); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "a drill by ana on db2 reads it") || b.count("/"+oldest.ID+"/manifest.json") == 0 {
			t.Errorf("while it is read, by a clock that is %v ahead: %v", ahead, err)
		}
	}
	if err := os.Truncate(filepath.Join(b.dir, filepath.FromSlash(catalog.Key(oldest, "manifest.json"))), 10); err != nil {
		t.Fatal(err)
	}
	for _, ahead := range []time.Duration{-day, 0, day} {
		if err := remove(ahead); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "a drill by ana on db2 reads it") || b.count("/"+oldest.ID+"/manifest.json") == 0 {
			t.Errorf("damaged, while it is read, by a clock that is %v ahead: %v", ahead, err)
		}
	}
	held.Release(t.Context())
	if err := remove(0); err != nil || b.count("/"+oldest.ID+"/") != 0 {
		t.Errorf("afterwards: %v, %d objects", err, b.count("/"+oldest.ID+"/"))
	}
}

// TestPruneKeepsPITR: the base backup before the window stays, with all WAL since then.
func TestPruneKeepsPITR(t *testing.T) {
	b := newWALBench(t)
	const policy = "{days: 10d, last: 1, grace: 0s, pitr: 14d}"
	for range 4 {
		if out, err := b.prune(policy, true); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if out, _ := b.prune(policy, false); b.count("/files.ndjson") != 2 || b.count("/seg/") != 18 || !strings.Contains(out, "recovery to any moment of the last 14d begins with it") {
		t.Errorf("%d backups and %d segments are left\n%s", b.count("/files.ndjson"), b.count("/seg/"), out)
	}
}

// TestPruneStopsForDamagedBase: of a damaged base backup it is not known which WAL it needs.
func TestPruneStopsForDamagedBase(t *testing.T) {
	eachBackup(t, func(t *testing.T, b *walBench, spoilt *pgmedic.Backup) {
		if err := os.Truncate(filepath.Join(b.dir, filepath.FromSlash(catalog.Key(spoilt, "manifest.json"))), 10); err != nil {
			t.Fatal(err)
		}
		before := b.count("/seg/")
		for range 3 {
			if _, err := b.prune("{days: 5d, last: 1, grace: 0s}", true); pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "is damaged") {
				t.Errorf("%v", err)
			}
		}
		if b.count("/seg/") != before {
			t.Errorf("%d segments are left", b.count("/seg/"))
		}
	})
}

// TestBrokenChainsAreNotReliedOn: an incremental backup whose parent is bad, or not there, does
// not take the place of an older one from which any moment can be reached.
func TestBrokenChainsAreNotReliedOn(t *testing.T) {
	one := func(id, parent string, start wal.LSN, receipts ...pgmedic.Receipt) catalog.Entry {
		p := &pgmedic.Physical{Kind: pgmedic.PhysicalFull, Timeline: 1, StopTimeline: 1, StartLSN: (start * walBytes).String(), StopLSN: (start*walBytes + 8).String()}
		if parent != "" {
			p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, parent, 1
		}
		return catalog.Entry{Backup: &pgmedic.Backup{ID: id, Server: pgmedic.Server{Name: "clinic"}, Physical: p}, Receipts: receipts}
	}
	bad := pgmedic.Receipt{Kind: pgmedic.ReceiptVerify, Outcome: pgmedic.OutcomeFailed}
	got := map[string]bool{}
	for _, b := range retainedBackups([]catalog.Entry{
		one("full", "", 1), one("child", "full", 2), one("bad", "", 3, bad), one("child of bad", "bad", 4), one("orphan", "gone", 5),
		{Backup: &pgmedic.Backup{ID: "of a database"}},
	}) {
		got[b.ID] = b.Bad
	}
	want := map[string]bool{"full": false, "child": false, "bad": true, "child of bad": true, "orphan": true}
	if !maps.Equal(got, want) {
		t.Errorf("bad are %v, want %v", got, want)
	}
}
