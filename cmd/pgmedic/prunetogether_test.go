package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// putChild stores an incremental backup that needs another one.
func putChild(t *testing.T, s store.Store, parent *pgmedic.Backup, at time.Time, from, to wal.LSN) *pgmedic.Backup {
	t.Helper()
	b, p := *parent, *parent.Physical
	b.StartedAt, b.SnapshotAt, b.FinishedAt = at, at, at
	b.ID, b.Physical, b.Server.Version, b.Server.VersionNum = catalog.NewID(at), &p, "17.6", 170006
	p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, parent.ID, p.Depth+1
	p.StartLSN, p.CheckpointLSN, p.StopLSN = (from*walBytes + 40).String(), (from*walBytes + 96).String(), (to * walBytes).String()
	if parent.Physical.Kind == pgmedic.PhysicalFull {
		manifest := b.Objects[0]
		manifest.Name, manifest.Role, p.ServerManifestSHA256 = "pg_manifest.json", pgmedic.RoleServerManifest, manifest.SHA256
		b.Objects = append(slices.Clone(b.Objects), manifest)
	}
	for _, o := range b.Objects {
		if _, err := s.Put(t.Context(), catalog.Key(&b, o.Name), strings.NewReader("the list of files")); err != nil {
			t.Fatal(err)
		}
	}
	if err := catalog.New(s).Commit(t.Context(), &b, nil); err != nil {
		t.Fatal(err)
	}
	return &b
}

// newChainsBench is a store with chains of three base backups, one that began each ten days, the
// oldest so many days ago, and WAL of all of these days, a segment of each.
func newChainsBench(t *testing.T, days int) *walBench {
	t.Helper()
	b := &walBench{t: t, dir: t.TempDir()}
	s, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.store = s
	const day = 24 * time.Hour
	begin := time.Now().Truncate(time.Second).Add(-time.Duration(days) * day)
	for first := 1; first < days-2; first += 10 {
		at := func(n int) (time.Time, wal.LSN) {
			return begin.Add(time.Duration(first+n) * day), wal.LSN(first + n + 1)
		}
		when, segment := at(0)
		last := putCluster(t, s, when, segment, segment+1)
		b.backups = append(b.backups, last)
		for n := 1; n < 3; n++ {
			when, segment = at(n)
			last = putChild(t, s, last, when, segment, segment+1)
			b.backups = append(b.backups, last)
		}
	}
	b.a = putWAL(t, b.dir, s, days, begin.Add(-time.Hour), day)
	return b
}

// whole sees that each backup that is listed has all of its chain, its objects and its WAL, and
// that nothing is listed as damaged. It returns how many there are.
func (b *walBench) whole() int {
	b.t.Helper()
	l, err := catalog.New(b.store).List(b.t.Context(), catalog.Filter{})
	if err != nil || len(l.Damaged) > 0 {
		b.t.Fatalf("%v, damaged %+v", err, l.Damaged)
	}
	var all []*pgmedic.Backup
	for _, e := range l.Entries {
		all = append(all, e.Backup)
	}
	if whole := chain.Whole(all); len(whole) != len(all) {
		b.t.Errorf("of %d backups %d have all that they need", len(all), len(whole))
	}
	for _, one := range all {
		e, err := catalog.New(b.store).Get(b.t.Context(), one.ID, catalog.Filter{})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, o := range e.Backup.Objects {
			if _, err := b.store.Stat(b.t.Context(), catalog.Key(e.Backup, o.Name)); err != nil {
				b.t.Errorf("backup %s: %v", one.ID, err)
			}
		}
		start, _ := wal.ParseLSN(one.Physical.StartLSN)
		name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: wal.MinSegmentSize.Start(start)})
		if b.count("/"+name+"-") != 1 {
			b.t.Errorf("backup %s: its WAL, %s, has gone", one.ID, name)
		}
	}
	return len(all)
}

// TestPruneTogether: several prunes at once of a store with chains and WAL end well, leave nothing
// listed that can't be restored, and go on to what one alone leaves.
func TestPruneTogether(t *testing.T) {
	const policy = "{days: 12d, last: 1, grace: 0s}"
	run := func(b *walBench) error {
		j := b.job(policy, io.Discard)
		j.global.yes = true
		cmd := &pruneCommand{job: j, servers: servers{j}, retainer: newRetainer(j), flags: pruneFlags{only: "backups", maxShare: "100%"}}
		return cmd.run(t.Context())
	}
	left := func(b *walBench) string {
		var all bytes.Buffer
		err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
			if rel, _ := filepath.Rel(b.dir, path); err == nil && !d.IsDir() && !strings.Contains(rel, "doomed") {
				all.WriteString(rel + "\n")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all.String()
	}
	for n := range testkit.Amount(1, 30, 200) {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			b := newChainsBench(t, 55)
			b.t = t
			had := b.whole()
			for round := range 8 {
				errs := make([]error, 3)
				var running sync.WaitGroup
				for i := range errs {
					running.Go(func() { errs[i] = run(b) })
				}
				running.Wait()
				if err := errors.Join(errs...); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				b.whole()
			}
			together := left(b)
			for range 3 {
				if err := run(b); err != nil {
					t.Fatal(err)
				}
			}
			// The newest chain and, since that was not proven, the one before it.
			if now := b.whole(); had != 18 || now != 6 {
				t.Errorf("of %d backups there are %d", had, now)
			}
			if alone := left(b); alone != together {
				t.Errorf("one alone goes on from\n%s\nto\n%s", together, alone)
			}
		})
	}
}
