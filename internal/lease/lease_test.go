package lease_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const system = 7711147204259165944

// counting is a store that counts what is put, and may refuse it.
type counting struct {
	store.Store
	puts      atomic.Int64
	readOnly  bool
	undeleted bool
	// before is called before each deletion, by who deletes; nil is nothing.
	before func()
	// slow makes deletions wait until their context has ended, and tells of it.
	slow chan struct{}
	// silent makes whatever is put later on wait for an answer, and tells of it.
	silent chan struct{}
}

var errReadOnly = errors.New("access denied")

func (c *counting) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	c.puts.Add(1)
	if c.silent != nil && c.puts.Load() > 1 {
		select {
		case c.silent <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return store.Object{}, context.Cause(ctx)
	}
	if c.readOnly {
		return store.Object{}, errReadOnly
	}
	return c.Store.Put(ctx, key, r)
}

func (c *counting) Delete(ctx context.Context, key string) error {
	if c.before != nil {
		c.before()
	}
	if c.slow != nil {
		select {
		case c.slow <- struct{}{}:
			<-ctx.Done() // of the renewal; the release comes through
			return context.Cause(ctx)
		default:
		}
	}
	if c.undeleted {
		return store.ErrLocked
	}
	return c.Store.Delete(ctx, key)
}

type bench struct {
	t     *testing.T
	dir   string
	store *counting
	a     *archive.Archive
	log   bytes.Buffer
	now   time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), now: time.Now()}
	s, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.store = &counting{Store: s}
	b.a = archive.New(b.store, "clinic", system)
	return b
}

func (b *bench) options() lease.Options {
	return lease.Options{
		Archive: b.a, Every: time.Hour, Now: func() time.Time { return b.now }, Logger: slog.New(slog.NewTextHandler(&b.log, nil)),
		Lease: lease.Lease{By: "ana", Host: "db2", Purpose: "drill", Backups: []string{"one"}, Spans: []wal.Span{{Timeline: 1, From: 100, To: 200}, {Timeline: 1, From: 200, To: 300}}},
	}
}

func (b *bench) read(after time.Duration) []lease.Lease {
	b.t.Helper()
	all, err := lease.Read(b.t.Context(), b.a, b.now.Add(after))
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// files are those of leases.
func (b *bench) files() []string {
	b.t.Helper()
	all, err := filepath.Glob(filepath.Join(b.dir, filepath.FromSlash(b.a.Folder()), "lease-*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// TestLease: what a lease is of counts while it is held, and for a while after its holder was
// killed, but not for ever.
func TestLease(t *testing.T) {
	b := newBench(t)
	h := lease.Take(t.Context(), b.options())
	all := b.read(0)
	if len(all) != 1 || !all[0].OfBackup("one") || all[0].OfBackup("two") || len(all[0].Spans) != 1 {
		t.Fatalf("leases %+v", all)
	}
	for _, tt := range []struct {
		timeline wal.Timeline
		from, to wal.LSN
		want     bool
	}{{1, 0, 100, false}, {1, 0, 101, true}, {1, 150, 160, true}, {1, 299, 400, true}, {1, 300, 400, false}, {2, 150, 160, false}} {
		if got := all[0].OfWAL(tt.timeline, tt.from, tt.to); got != tt.want {
			t.Errorf("WAL %+v: %v", tt, got)
		}
	}
	if why := all[0].Why(); !strings.HasPrefix(why, "a drill by ana on db2 reads it, until 20") {
		t.Errorf("why: %s", why)
	}
	// A holder that is killed leaves it: by the store's clock, with the margin.
	info, err := os.Stat(b.files()[0])
	if err != nil {
		t.Fatal(err)
	}
	left := info.ModTime().Sub(b.now)
	if got := b.read(left + lease.Running + lease.Margin - time.Second); len(got) != 1 {
		t.Error("it ends too early")
	}
	if got := b.read(left + lease.Running + lease.Margin + time.Second); len(got) != 0 {
		t.Errorf("it never ends: %+v", got)
	}
	// To the WAL that it lies beside it is nothing odd.
	if survey, err := b.a.Survey(t.Context()); err != nil || len(survey.Odd) > 0 {
		t.Errorf("the WAL with a lease: %v, %v", survey, err)
	}
	h.Release(t.Context())
	if got := b.files(); len(got) != 0 {
		t.Errorf("after its end there is %v", got)
	}
}

// TestLeaseRenewed: one that is held longer than it counts is renewed, and the last two stay.
func TestLeaseRenewed(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Every = time.Millisecond
	var released atomic.Bool
	var deletions atomic.Int64
	renewed := make(chan struct{})
	b.store.before = func() {
		if released.Load() {
			return
		}
		// The one that goes, and two that stay.
		if n := len(b.files()); n < 3 {
			t.Errorf("%d are there before one is deleted", n)
		}
		if deletions.Add(1) == 4 {
			close(renewed)
		}
	}
	h := lease.Take(t.Context(), o)
	select {
	case <-renewed:
	case <-t.Context().Done():
	}
	released.Store(true)
	h.Release(t.Context())
	if puts := b.store.puts.Load(); len(b.files()) != 0 || puts < 4 {
		t.Errorf("%d were put, and there is %v", puts, b.files())
	}
	if strings.Contains(b.log.String(), "WARN") {
		t.Errorf("log %s", b.log.String())
	}
}

// TestLeaseReleasedWhileRenewed: a store that has gone silent keeps no restore from its end.
func TestLeaseReleasedWhileRenewed(t *testing.T) {
	b := newBench(t)
	b.store.silent = make(chan struct{}, 1)
	o := b.options()
	o.Every = time.Millisecond
	h := lease.Take(t.Context(), o)
	<-b.store.silent
	released := make(chan struct{})
	go func() {
		defer close(released)
		h.Release(t.Context())
	}()
	select {
	case <-released:
	case <-time.After(time.Minute):
		t.Fatal("it waits for a renewal that never ends")
	}
	if got := b.files(); len(got) != 0 || strings.Contains(b.log.String(), "WARN") {
		t.Errorf("there is %v, log %s", got, b.log.String())
	}
}

// TestLeaseReleasedWhileRemoving: what a renewal was removing goes with the release.
func TestLeaseReleasedWhileRemoving(t *testing.T) {
	b := newBench(t)
	b.store.slow = make(chan struct{}, 1)
	o := b.options()
	o.Every = time.Millisecond
	h := lease.Take(t.Context(), o)
	for len(b.store.slow) == 0 {
		runtime.Gosched()
	}
	h.Release(t.Context())
	if got := b.files(); len(got) != 0 {
		t.Errorf("there is %v", got)
	}
}

// TestLeaseUnwritable: a store that can't be written to is warned about, and is no error.
func TestLeaseUnwritable(t *testing.T) {
	b := newBench(t)
	b.store.readOnly = true
	h := lease.Take(t.Context(), b.options())
	h.Release(t.Context())
	if log := b.log.String(); strings.Count(log, "WARN") != 1 || !strings.Contains(log, "no lease can be written") || !strings.Contains(log, "access denied") {
		t.Errorf("log %s", log)
	}
	if err := lease.Renew(t.Context(), b.options(), filepath.Join(t.TempDir(), "note")); err != nil || strings.Count(b.log.String(), "WARN") != 2 {
		t.Errorf("%v, log %s", err, b.log.String())
	}
}

// TestLeaseAppendOnly: where nothing can be deleted, leases are left and end by themselves.
func TestLeaseAppendOnly(t *testing.T) {
	b := newBench(t)
	b.store.undeleted = true
	h := lease.Take(t.Context(), b.options())
	h.Release(t.Context())
	later := 3 * time.Hour
	if err := lease.Sweep(t.Context(), b.a, b.now.Add(later)); err != nil || len(b.files()) != 1 || len(b.read(0)) != 1 || len(b.read(later)) != 0 || strings.Contains(b.log.String(), "WARN") {
		t.Errorf("%v, %v, log %s", err, b.files(), b.log.String())
	}
	b.store.undeleted = false
	if err := lease.Sweep(t.Context(), b.a, b.now); err != nil || len(b.files()) != 1 {
		t.Errorf("swept while it counts: %v, %v", err, b.files())
	}
	if err := lease.Sweep(t.Context(), b.a, b.now.Add(later)); err != nil || len(b.files()) != 0 {
		t.Errorf("swept: %v, %v", err, b.files())
	}
}

// TestLeaseUnreadable: one of which it is not known what it is of keeps everything, but not
// for ever; one that says that it counts for a year does not.
func TestLeaseUnreadable(t *testing.T) {
	for name, text := range map[string]string{
		"damaged": "{", "a newer version": `{"format": 2, "seconds": 60}`, "too large": `{"format": 1, "seconds": 60, "by": "` + strings.Repeat("x", 2<<20) + `"}`,
		"a year": `{"format": 1, "seconds": 31536000, "backups": ["one"], "spans": [{"timeline": 1, "from": "0/1", "to": "0/9"}]}`,
	} {
		b := newBench(t)
		if _, err := b.store.Put(t.Context(), b.a.Folder()+"lease-x.json", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		all := b.read(47 * time.Hour)
		if len(all) != 1 || !all[0].OfBackup("one") || !all[0].OfWAL(1, 2, 3) || all[0].OfBackup("two") == (name == "a year") {
			t.Errorf("%s: %+v", name, all)
		}
		if all := b.read(49 * time.Hour); len(all) != 0 {
			t.Errorf("%s: it never ends", name)
		}
	}
}

// TestRenew: each of many runs may renew a lease, and one an hour does.
func TestRenew(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(t.TempDir(), "note")
	renew := func() {
		t.Helper()
		if err := lease.Renew(t.Context(), b.options(), file); err != nil {
			t.Fatal(err)
		}
	}
	renew()
	renew()
	first := b.files()
	if len(first) != 1 || b.store.puts.Load() != 1 || len(b.read(lease.Recovering)) != 1 {
		t.Fatalf("%d were put, and there is %v", b.store.puts.Load(), first)
	}
	b.now = b.now.Add(lease.RecoveringEvery)
	renew()
	if got := b.files(); len(got) != 1 || got[0] == first[0] {
		t.Errorf("renewed: %v after %v", got, first)
	}
	// A clock that was set back keeps nothing from being renewed.
	b.now = b.now.Add(-2 * time.Hour)
	renew()
	if b.store.puts.Load() != 3 {
		t.Errorf("%d were put", b.store.puts.Load())
	}
	// What the file says is not trusted with anything but a lease of this cluster.
	for _, key := range []string{"clinic/@cluster/one/manifest.json", b.a.Folder() + "lease-/../epoch.json", b.a.Folder() + "doomed-1.json", ""} {
		if key != "" && !strings.Contains(key, "..") {
			if _, err := b.store.Put(t.Context(), key, strings.NewReader("x")); err != nil && !errors.Is(err, store.ErrExists) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(file, []byte(`{"at": "2020-01-01T00:00:00Z", "key": "`+key+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		renew()
		if key != "" && !strings.Contains(key, "..") {
			if _, err := b.store.Stat(t.Context(), key); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	puts := b.store.puts.Load()
	renew()
	if b.store.puts.Load() != puts+1 {
		t.Error("a damaged note keeps it from being renewed")
	}
	// Where nothing can remember it, no run takes one.
	puts = b.store.puts.Load()
	if err := lease.Renew(t.Context(), b.options(), filepath.Join(t.TempDir(), "missing", "note")); err == nil || b.store.puts.Load() != puts {
		t.Errorf("%v, %d were put", err, b.store.puts.Load()-puts)
	}
}
