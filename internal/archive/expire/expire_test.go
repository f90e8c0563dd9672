package expire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/archive/expire"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	seg    = wal.LSN(wal.MinSegmentSize)
	system = 7711147204259165944
	day    = 24 * time.Hour
)

var began = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// failing is a store that breaks off at a deletion.
type failing struct {
	store.Store
	left atomic.Int64
}

var errKilled = errors.New("killed")

func (f *failing) Delete(ctx context.Context, key string) error {
	if f.left.Add(-1) < 0 {
		return errKilled
	}
	return f.Store.Delete(ctx, key)
}

// bench is an archive in a folder: two epochs, of ten segments each, a day apart.
type bench struct {
	t     *testing.T
	dir   string
	store *failing
	a     *archive.Archive
	now   time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), now: began.Add(40 * day)}
	local, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	b.store = &failing{Store: local}
	b.store.left.Store(1 << 30)
	b.a = archive.New(b.store, "clinic", system)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		at := began.Add(time.Duration(n) * day)
		e, err := b.a.Begin(t.Context(), archive.EpochOptions{
			Info:  archive.EpochInfo{StartedAt: at, SegmentBytes: int64(seg), Timeline: 1, From: seg},
			Seal:  seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge},
			Wraps: []seal.Wrap{{Name: "one", To: identity.Recipient()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			b.put(e, 1, 1+10*n+i)
		}
		if err := errors.Join(
			e.PutTail(t.Context(), wal.Segment{Timeline: 1, Start: wal.LSN(20) * seg}, 0, []byte("the beginning")),
			e.PutSeen(t.Context(), wal.Observation{Time: at, Timeline: 1, LSN: 5}),
			e.PutSeen(t.Context(), wal.Observation{Time: at.Add(time.Minute), Timeline: 1, LSN: 5}),
			e.PutHistory(t.Context(), 2, []byte("1\t0/A00000\tx\n")),
		); err != nil {
			t.Fatal(err)
		}
		b.date(at)
	}
	return b
}

// put stores a segment, by its name: what is in it is never read here.
func (b *bench) put(e *archive.Epoch, t wal.Timeline, i int) {
	b.t.Helper()
	name := wal.MinSegmentSize.Name(wal.Segment{Timeline: t, Start: wal.LSN(i) * seg})
	key := fmt.Sprintf("%s%s/seg/%s/%s-%016x.zst.age", b.a.Folder(), e.ID(), name[:16], name, i)
	if _, err := b.store.Put(b.t.Context(), key, strings.NewReader("sealed")); err != nil {
		b.t.Fatal(err)
	}
}

// date has all objects that were stored since the last call stored at a time.
func (b *bench) date(at time.Time) {
	b.t.Helper()
	recent := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err != nil || info.ModTime().Before(recent) || info.ModTime().After(time.Now().Add(time.Hour)) {
			return err
		}
		return os.Chtimes(path, at, at)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func backupAt(id string, start wal.LSN, at time.Time, kept bool) wal.RetainedBackup {
	return wal.RetainedBackup{Base: wal.Base{ID: id, Timeline: 1, Start: start * seg, Stop: start*seg + seg + 8}, At: at, Kept: kept}
}

// plan plans for an archive with these backups.
func (b *bench) plan(o expire.Options) *expire.Plan {
	b.t.Helper()
	o.Now, o.Grace = b.now, day
	s, err := expire.Read(b.t.Context(), b.a)
	if err != nil {
		b.t.Fatal(err)
	}
	p, err := s.Plan(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

// carry plans and carries out, and has what that wrote stored now.
func (b *bench) carry(o expire.Options) *expire.Plan {
	b.t.Helper()
	p := b.plan(o)
	if err := p.Carry(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.date(b.now)
	return p
}

func (b *bench) names() (all []string) {
	b.t.Helper()
	for o, err := range b.store.List(b.t.Context(), "") {
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(o.Key, b.a.Folder()))
	}
	return all
}

func count(names []string, part string) (n int) {
	for _, name := range names {
		if strings.Contains(name, part) {
			n++
		}
	}
	return n
}

func counts(p *expire.Plan) [4]int {
	var all [4]int
	for i, v := range []expire.Verdict{expire.Keep, expire.Mark, expire.Wait, expire.Delete} {
		all[i], _ = p.Count(v)
	}
	return all
}

func TestWALGoesAfterItsBackups(t *testing.T) {
	b := newBench(t)
	second := []wal.RetainedBackup{backupAt("second", 14, began.Add(day), true)}
	both := append([]wal.RetainedBackup{backupAt("first", 2, began, true)}, second...)

	// The tails of segment 20 go without a mark, and observations that say no more.
	if got := counts(b.plan(expire.Options{Backups: both})); got != [4]int{19, 1, 0, 4} {
		t.Errorf("with both backups %v, want all kept but the segment before the first, two tails and two observations", got)
	}
	if got := counts(b.plan(expire.Options{})); got != [4]int{20, 0, 0, 4} {
		t.Errorf("without a backup %v", got)
	}
	before := len(b.names())
	p := b.carry(expire.Options{Backups: second})
	if got := counts(p); got[1] != 13 || count(b.names(), "/seg/") != 20 || count(b.names(), "doomed-") != 1 {
		t.Errorf("marked %v, and there is %v", got, b.names())
	}
	if want := before - 4 + 1; len(b.names()) != want {
		t.Errorf("%d objects, want %d", len(b.names()), want)
	}
	b.now = b.now.Add(23 * time.Hour)
	if got := counts(b.carry(expire.Options{Backups: second})); got[2] != 13 || got[3] != 0 {
		t.Errorf("before the grace is over: %v", got)
	}
	b.now = b.now.Add(2 * time.Hour)
	p = b.carry(expire.Options{Backups: second})
	names := b.names()
	if got := counts(p); got[3] != 13 || count(names, "/seg/") != 7 || count(names, "doomed-") != 0 {
		t.Errorf("deleted %v, and there is %v", got, names)
	}
	// Nothing is left of the first epoch, and the history stays in the second.
	if len(p.Epochs) != 1 || count(names, p.Epochs[0]) != 0 || count(names, "hist/00000002.history") != 1 || count(names, "keys/") != 1 {
		t.Errorf("epochs %v, and there is %v", p.Epochs, names)
	}
	if p = b.plan(expire.Options{Backups: second}); p.Changes() {
		t.Errorf("the plan does not come to an end: %+v", p)
	}
}

// TestMarkedWALIsNeededAgain: a backup that is held again keeps its WAL, and takes the mark
// off.
func TestMarkedWALIsNeededAgain(t *testing.T) {
	b := newBench(t)
	second := []wal.RetainedBackup{backupAt("second", 14, began.Add(day), true)}
	b.carry(expire.Options{Backups: second})
	b.now = b.now.Add(2 * day)
	both := append([]wal.RetainedBackup{backupAt("first", 2, began, true)}, second...)
	p := b.carry(expire.Options{Backups: both})
	if p.Unmark != 1 || count(b.names(), "/seg/") != 19 || count(b.names(), "doomed-") != 0 {
		// The segment before the first backup is still not needed, and was marked long enough.
		t.Errorf("unmark %d, and there is %v", p.Unmark, b.names())
	}
}

// TestPITRKeepsItsWindow: any moment since a time stays reachable, with the backup before it.
func TestPITRKeepsItsWindow(t *testing.T) {
	b := newBench(t)
	backups := []wal.RetainedBackup{backupAt("first", 2, began, false), backupAt("second", 14, began.Add(day), true)}
	o := expire.Options{Backups: backups, Since: began.Add(12 * time.Hour)}
	s, err := expire.Read(t.Context(), b.a)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.Anchors(o); len(a) != 1 || a[0].ID != "first" {
		t.Errorf("anchors %+v, want the backup before the window", a)
	}
	if got := counts(b.plan(o)); got[0] != 19 {
		t.Errorf("%v, want all WAL since the first backup", got)
	}
	o.Since = began.Add(30 * day)
	if a := s.Anchors(o); len(a) != 1 || a[0].ID != "second" {
		t.Errorf("anchors %+v, want the newest before the window", a)
	}
}

func TestContradictionsStopDeletion(t *testing.T) {
	b := newBench(t)
	e, err := b.a.Begin(t.Context(), archive.EpochOptions{Info: archive.EpochInfo{StartedAt: began.Add(2 * day), SegmentBytes: int64(seg), Timeline: 1, From: seg}})
	if err != nil {
		t.Fatal(err)
	}
	name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: 3 * seg})
	if _, err := b.store.Put(t.Context(), b.a.Folder()+e.ID()+"/seg/"+name[:16]+"/"+name+"-ffffffffffffffff.zst", strings.NewReader("another server's")); err != nil {
		t.Fatal(err)
	}
	b.date(began.Add(2 * day))
	o := expire.Options{Backups: []wal.RetainedBackup{backupAt("second", 14, began.Add(day), true)}}
	before := b.names()
	p := b.carry(o)
	if p.Stopped == "" || p.Changes() || !slices.Equal(before, b.names()) {
		t.Errorf("%+v", p)
	}
	o.Stop = "the store of copies can't be read"
	if p = b.carry(o); p.Stopped != o.Stop || !slices.Equal(before, b.names()) {
		t.Errorf("%+v", p)
	}
}

// TestBrokenOffDeletion breaks the deletion off at each step: what is left can be used,
// and the next run comes to the same end.
func TestBrokenOffDeletion(t *testing.T) {
	var want []string
	for left := 0; ; left += testkit.Amount(4, 1, 1) {
		b := newBench(t)
		o := expire.Options{Backups: []wal.RetainedBackup{backupAt("second", 14, began.Add(day), true)}}
		b.carry(o)
		b.now = b.now.Add(2 * day)
		b.store.left.Store(int64(left))
		p := b.plan(o)
		err := p.Carry(t.Context())
		b.store.left.Store(1 << 30)
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		names := b.names()
		for i := 14; i <= 20; i++ {
			if name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: wal.LSN(i) * seg}); count(names, "/"+name+"-") == 0 {
				t.Fatalf("after %d deletions segment %s is gone", left, name)
			}
		}
		epochs, listErr := b.a.Epochs(t.Context())
		if listErr != nil {
			t.Fatal(listErr)
		}
		for _, id := range epochs {
			if count(names, id+"/seg/") > 0 && (count(names, id+"/keys/") == 0 || count(names, id+"/epoch.json") == 0) {
				t.Fatalf("after %d deletions epoch %s has WAL and no key", left, id)
			}
		}
		if count(names, "hist/00000002.history") == 0 {
			t.Fatalf("after %d deletions a history is gone", left)
		}
		if next := b.plan(o); err != nil && !next.Changes() {
			t.Errorf("after %d deletions the next plan has nothing to do: %+v", left, next)
		}
		b.carry(o)
		names = b.names()
		for i := range names { // ids are random
			names[i] = names[i][strings.IndexByte(names[i], '/')+1:]
		}
		slices.Sort(names)
		if want == nil {
			want = names
		}
		// What is put is sealed to a key of its own, and the names say nothing of that.
		if !slices.Equal(names, want) {
			t.Fatalf("after %d deletions and another run there is %v, want %v", left, names, want)
		}
		if err == nil {
			if left < 15 {
				t.Errorf("%d deletions are all", left)
			}
			return
		}
	}
}

// TestDamagedEpochStopsDeletion: an epoch that can't be read looks like a gap, and the WAL
// behind it is of use again once epoch.json was copied from another store.
func TestDamagedEpochStopsDeletion(t *testing.T) {
	b := newBench(t)
	epochs, err := b.a.Epochs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), epochs[0], "epoch.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o := expire.Options{Backups: []wal.RetainedBackup{backupAt("first", 2, began, true)}}
	for _, damage := range []func() error{
		func() error { return os.Chmod(file, 0o600) },
		func() error { return os.WriteFile(file, []byte("{"), 0o600) },
		func() error { return os.Remove(file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		p := b.carry(o)
		if damaged := p.Stopped != ""; count(b.names(), "/seg/") != 20 || damaged == (p.Done) {
			t.Errorf("%+v, and there is %v", p, b.names())
		}
		b.now = b.now.Add(2 * day)
	}
	if p := b.plan(o); p.Stopped == "" || p.Changes() {
		t.Errorf("without epoch.json: %+v", p)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := b.plan(o); got.Stopped != "" || count(b.names(), "/seg/") != 20 {
		t.Errorf("mended: %+v", got)
	}
}

// TestOldObservationsThin: of observations that are older than a week those stay that a survey
// uses, so that what it says does not change, and a second plan has nothing more to delete.
func TestOldObservationsThin(t *testing.T) {
	b := newBench(t)
	// Not near the time at which the test runs, which date goes by.
	began, n := began.Add(-400*day), 0
	id := ""
	for minute := 0; minute < 10*24*60; minute += 2 {
		at := began.Add(time.Duration(minute) * time.Minute)
		if minute%(24*60) == 0 {
			e, err := b.a.Begin(t.Context(), archive.EpochOptions{Info: archive.EpochInfo{StartedAt: at, SegmentBytes: int64(seg), Timeline: 1, From: seg}})
			if err != nil {
				t.Fatal(err)
			}
			b.put(e, 1, 5) // without WAL that is needed, the whole epoch goes
			id = e.ID()
			b.date(at)
		}
		path := filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), id, "seen", fmt.Sprintf("%s-00000001-%016X.json", at.Format("20060102T150405.000000Z"), uint64(19*seg)+uint64(minute)))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	b.now = began.Add(10*day + time.Minute)
	o := expire.Options{Backups: []wal.RetainedBackup{backupAt("first", 2, began, true)}}
	survey := func() string {
		s, err := b.a.Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var old []wal.Observation
		for _, o := range s.Seen {
			if b.now.Sub(o.At) > expire.Young {
				old = append(old, o)
			}
		}
		return fmt.Sprint(s.Spans, old)
	}
	before := survey()
	b.carry(o)
	// Three days are old: 72 hours, of which each has one, and each epoch's last stays.
	if left := count(b.names(), "/seen/"); left < n-3*24*30 || left > n-3*24*30+2*(72+4) {
		t.Errorf("%d observations are left of %d", left, n)
	}
	if after := survey(); after != before {
		t.Errorf("what a survey uses was\n%s\nand is\n%s", before, after)
	}
	left := count(b.names(), "/seen/")
	if b.carry(o); count(b.names(), "/seen/") != left {
		t.Errorf("a second run deletes more: %d of %d are left", count(b.names(), "/seen/"), left)
	}
}
