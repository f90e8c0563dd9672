package merge_test

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/physical/merge"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestDeltaOfKept restores each member of a chain over each other one's folder, in which files were
// changed, too: it then has that member's files and no others, whichever backup their bytes are in.
func TestDeltaOfKept(t *testing.T) {
	s, chain := newStore(t), keptChain()
	var members []physical.Source // the newest first
	for i, m := range chain {
		maps.Copy(m.files, map[string][]byte{"PG_VERSION": []byte("17\n"), "global/pg_control": binary.NativeEndian.AppendUint64(nil, 77), "postgresql.conf": []byte("port = 1\n")})
		members = append([]physical.Source{m.put(t, s, rand.New(rand.NewPCG(uint64(i), 4)), i)}, members...)
	}
	start := wal.LSN(5) << 20
	restore := func(dir string, n int) cluster.Done {
		t.Helper()
		merged, closer, err := merge.Chain(t.Context(), t.TempDir(), members[len(members)-1-n:])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = closer.Close() }()
		done, err := cluster.Restore(t.Context(), cluster.Options{
			Source: merged, Dir: dir, Delta: true, Jobs: 2, RestoreCommand: "false",
			Plan: &recovery.Plan{
				Format: recovery.PlanFormat, Backup: madeID(n), Server: "clinic", SystemIdentifier: "77", Major: 17, SegmentBytes: 1 << 20, Through: start + 0x200,
				WAL: wal.Plan{Base: wal.Base{Timeline: 1, Start: start, Stop: start + 0x100}, Timeline: 1, Stop: wal.StopAtLSN, LSN: start + 0x180, End: start + 0x200},
			},
		})
		if err != nil {
			t.Fatalf("restore member %d: %v", n, err)
		}
		return done
	}
	for from := range chain {
		for to := range chain {
			if !testkit.All() && (from != 0 || to != 2) {
				continue
			}
			dir := filepath.Join(t.TempDir(), "data")
			restore(dir, from)
			for name, text := range map[string]string{"base/5/100": "spoilt", "base/5/999": "of nothing"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if done := restore(dir, to); done.State != cluster.Existing {
				t.Errorf("%d over %d: the folder was %q", to, from, done.State)
			}
			got := map[string][]byte{}
			err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				relative, err := filepath.Rel(dir, name)
				if err == nil {
					got[relative], err = os.ReadFile(name)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, made := range []string{"postgresql.auto.conf", "recovery.signal", recovery.FileName} {
				if _, there := got[made]; !there {
					t.Errorf("%d over %d: there is no %s", to, from, made)
				}
				delete(got, made)
			}
			if !maps.EqualFunc(got, chain[to].files, bytes.Equal) {
				t.Errorf("%d over %d: there is %q, want %q", to, from, got, chain[to].files)
			}
		}
	}
}
