package pitr_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	size   = wal.MinSegmentSize
	seg    = wal.LSN(size)
	system = 7713000000000000000
)

// bench is an archive of segments whose content does not matter.
type bench struct {
	t        *testing.T
	store    store.Store
	epoch    *archive.Epoch
	identity *age.X25519Identity
	now      time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Now().UTC().Truncate(time.Microsecond)}
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.store = s
	if b.identity, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	b.epoch, err = archive.New(s, "clinic", system).Begin(t.Context(), archive.EpochOptions{
		Info:  archive.EpochInfo{StartedAt: b.now, SegmentBytes: int64(size), Timeline: 1, From: seg, MaxDelaySeconds: 1},
		Seal:  seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge},
		Wraps: []seal.Wrap{{Name: "one", To: b.identity.Recipient()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// segments stores segments, and an index of those that have a commit.
func (b *bench) segments(commits map[wal.LSN]time.Time, starts ...wal.LSN) {
	b.t.Helper()
	plain := bytes.Repeat([]byte{7}, int(size))
	var lines []wal.Summary
	for _, at := range starts {
		b.must(b.epoch.PutSegment(b.t.Context(), wal.Segment{Timeline: 1, Start: at}, plain))
		line := wal.Summary{Segment: size.Name(wal.Segment{Timeline: 1, Start: at}), Start: at, SHA256: archive.SegmentSum(plain)}
		if when, ok := commits[at]; ok {
			line.Add(wal.Event{Kind: wal.Commit, Start: at + 100, End: at + 200, Time: when})
			line.LastStart, line.End = at+100, at+200
		}
		lines = append(lines, line)
	}
	b.must(b.epoch.PutIndex(b.t.Context(), int(starts[0]/seg), lines))
}

func (b *bench) seen(at wal.LSN, ago time.Duration) {
	b.t.Helper()
	b.must(b.epoch.PutSeen(b.t.Context(), wal.Observation{Time: b.now.Add(-ago), Timeline: 1, LSN: at}))
}

func entry(id string, start, stop wal.LSN) catalog.Entry {
	return catalog.Entry{Backup: &pgmedic.Backup{
		ID: id, Server: pgmedic.Server{Name: "clinic", SystemIdentifier: strconv.Itoa(system)},
		Physical: &pgmedic.Physical{Kind: pgmedic.PhysicalFull, Timeline: 1, StopTimeline: 1, StartLSN: start.String(), StopLSN: stop.String()},
	}}
}

// read reads the only cluster, with or without the key.
func (b *bench) read(key bool, entries ...catalog.Entry) pitr.Cluster {
	b.t.Helper()
	o := pitr.Options{Store: b.store, Server: "clinic", Entries: entries, Now: b.now}
	if key {
		o.Open = func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
			return seal.OpenKey(wraps[0].Data, []age.Identity{b.identity})
		}
	}
	all, err := pitr.Read(b.t.Context(), o)
	if err != nil || len(all) != 1 || all[0].SystemIdentifier != system {
		b.t.Fatalf("clusters %+v, %v", all, err)
	}
	return all[0]
}

// readFirst reads the cluster of the bench where there is another one, without WAL.
func (b *bench) readFirst(_ bool, entries ...catalog.Entry) pitr.Cluster {
	b.t.Helper()
	all, err := pitr.Read(b.t.Context(), pitr.Options{Store: b.store, Server: "clinic", Entries: entries, Now: b.now})
	if err != nil || len(all) != 2 || all[0].SystemIdentifier != system || len(all[1].Proofs) != 0 {
		b.t.Fatalf("clusters %+v, %v", all, err)
	}
	return all[0]
}

// TestRecoverable: from when until when, with and without the key, and with base backups
// that count and others.
func TestRecoverable(t *testing.T) {
	b := newBench(t)
	commit := b.now.Add(-30 * time.Second)
	b.segments(map[wal.LSN]time.Time{2 * seg: b.now.Add(-time.Hour), 3 * seg: commit}, seg, 2*seg, 3*seg)
	b.seen(seg+500, 2*time.Hour)
	b.seen(4*seg+8, time.Second) // a little more than is stored
	base := entry("one", seg+64, seg+128)
	c := b.read(true, base)
	w, ok := c.Current()
	if c.State != wal.StateOK || !ok || w.Until.LSN != 4*seg || !w.Until.Time.Equal(commit) || !c.CommitTimes || c.LagBytes != 8 || c.Bases != 1 || len(c.Problems) != 0 {
		t.Errorf("with the key: %+v, %+v", c, w)
	}
	if !w.From.Time.Equal(b.now.Add(-2*time.Hour)) || w.From.LSN != seg+128 {
		t.Errorf("from %+v", w.From)
	}
	c = b.read(false, base)
	if w, ok := c.Current(); !ok || c.CommitTimes || !w.Until.Time.Equal(b.now.Add(-2*time.Hour)) {
		t.Errorf("without the key: %+v, %+v", c, w)
	}
	marked, other, unknown, damaged := entry("m", seg+64, seg+128), entry("o", seg+64, seg+128), entry("u", seg+64, seg+128), entry("d", seg+64, seg+128)
	marked.Mark = &catalog.Mark{}
	other.Backup.Server.SystemIdentifier = "no number"
	unknown.Backup.Physical.Kind = "incremental"
	damaged.Backup.Physical.StopLSN = "x"
	logical := entry("l", seg+64, seg+128)
	logical.Backup.Physical = nil
	ahead := entry("a", 3*seg, 5*seg) // its own WAL is not stored
	bad := entry("b", seg+64, seg+128)
	bad.Receipts = []pgmedic.Receipt{{Kind: pgmedic.ReceiptVerify, Outcome: pgmedic.OutcomeFailed}}
	c = b.read(true, marked, other, unknown, damaged, logical, ahead, bad)
	if w, ok := c.Current(); ok || len(c.Windows) != 0 || len(c.Elsewhere) != 0 {
		t.Errorf("from nothing that counts: %+v, %+v", w, c)
	}
	// One of which only the WAL says that it was taken.
	b.must(b.epoch.PutBase(t.Context(), wal.Base{Timeline: 1, Start: 2*seg + 8, Stop: 2*seg + 16}))
	c = b.read(true)
	if _, ok := c.Current(); ok || len(c.Windows) != 0 || len(c.Elsewhere) != 1 || c.Elsewhere[0].Until.LSN != 4*seg {
		t.Errorf("from one that is not in the store: %+v", c)
	}
	// With both, only the one of the store is promised.
	c = b.read(true, entry("two", 3*seg+8, 3*seg+16))
	if w, ok := c.Current(); !ok || w.From.LSN != 3*seg+16 || len(w.Bases) != 1 || w.Bases[0].ID != "two" {
		t.Errorf("from both: %+v, %+v", c, w)
	}
	// Behind a gap.
	b.segments(nil, 6*seg)
	b.seen(7*seg, 0)
	c = b.read(true, base)
	if w, ok := c.Current(); c.State != wal.StateBroken || !ok || w.Until.LSN != 4*seg || c.Until.LSN != 7*seg {
		t.Errorf("behind a gap: %+v, %+v", c, w)
	}
	// A base backup during which a transaction ended: from then on all can be reached, which
	// no observation says.
	c = b.read(true, entry("during", 2*seg+8, 2*seg+16))
	if w, ok := c.Current(); !ok || !w.From.Time.Equal(b.now.Add(-time.Hour)) || !w.Until.Time.Equal(commit) {
		t.Errorf("of a base backup during which a transaction ended: %+v, %+v", c, w)
	}
	// Another key opens nothing: times are those of observations, and it is said.
	o := pitr.Options{Store: b.store, Server: "clinic", Entries: []catalog.Entry{base}, Now: b.now, System: system}
	o.Open = func(context.Context, string, []archive.StoredWrap) (*seal.Key, error) { return nil, seal.ErrNotForUs }
	all, err := pitr.Read(t.Context(), o)
	if err != nil || len(all) != 1 || all[0].CommitTimes || len(all[0].Problems) == 0 {
		t.Errorf("with another key: %+v, %v", all, err)
	}
	if all, err := pitr.Read(t.Context(), pitr.Options{Store: b.store, Server: "clinic", System: 5}); err != nil || len(all) != 0 {
		t.Errorf("of another cluster: %+v, %v", all, err)
	}
}
