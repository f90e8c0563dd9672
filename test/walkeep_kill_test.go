package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// walPrunePoints are the named places in the deletion of WAL.
func walPrunePoints() []string {
	return []string{"wal-prune-marked", "wal-prune-deleted", "wal-prune-epoch", "wal-prune-before-mark-removed"}
}

// oldEpoch stores an epoch of WAL from before the base backup, 40 days ago. It is not what
// the server wrote: nothing reads it any more.
func (b *walBench) oldEpoch() (id string) {
	b.t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: b.store})
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close()
	system, err := strconv.ParseUint(b.status().SystemID, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	at := time.Now().AddDate(0, 0, -40)
	a := archive.New(s, "clinic", system)
	e, err := a.Begin(b.t.Context(), archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: at, SegmentBytes: int64(wal.MinSegmentSize), Timeline: 1, From: wal.LSN(wal.MinSegmentSize)},
		Seal: seal.Options{Compression: seal.CompressionZstd},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	name := wal.MinSegmentSize.Name(wal.Segment{Timeline: 1, Start: wal.LSN(wal.MinSegmentSize)})
	if _, err := s.Put(b.t.Context(), fmt.Sprintf("%s%s/seg/%s/%s-%016x.zst", a.Folder(), e.ID(), name[:16], name, 7), strings.NewReader("of old")); err != nil {
		b.t.Fatal(err)
	}
	for _, file := range storedFiles(b.t, b.store, e.ID()) {
		if err := os.Chtimes(file, at, at); err != nil {
			b.t.Fatal(err)
		}
	}
	return e.ID()
}

// TestWALPruneKilled: killed at each step of a deletion of WAL, prune leaves nothing that a
// base backup lacks, and the next runs finish it.
func TestWALPruneKilled(t *testing.T) {
	testkit.OnlyAll(t, "it builds the program with failpoints")
	b := newWALBench(t, 0)
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 100) FROM generate_series(1, 20000) AS g")
	b.physical(0)
	config := filepath.Join(b.tmp, "retention.yaml")
	if err := os.WriteFile(config, []byte("retention: {days: 30d, grace: 0s}\nbackup: {allow_unencrypted: true}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.env = append(slices.Clone(b.reader), "PGMEDIC_CONFIG="+config)
	prune := []string{"prune", "--only", "backups", "--yes", "--stale-after", "off"}
	plain := b.program
	for _, point := range walPrunePoints() {
		t.Run(point, func(t *testing.T) {
			b.t = t
			id := b.oldEpoch()
			env := b.env
			b.program, b.env = mortal(t), append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
			killed := false
			for range 2 { // the first run marks, the second deletes
				killed = killed || b.run(prune...).code == -1
			}
			b.program, b.env = plain, env
			if !killed {
				t.Errorf("no run was killed at %s", point)
			}
			for range 3 {
				b.ok(prune...)
			}
			if left := storedFiles(t, b.store, id); len(left) != 0 {
				t.Errorf("it does not come to an end: %v", left)
			}
			if left := storedFiles(t, b.store, "@wal"); slices.ContainsFunc(left, func(file string) bool { return strings.Contains(file, "doomed-") }) {
				t.Errorf("a mark is left: %v", left)
			}
			b.ok("verify", "--all", "--deep")
		})
	}
}
