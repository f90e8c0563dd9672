package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// prunePoints are the named places in the deletion of backups.
func prunePoints() []string {
	return []string{
		"prune-marked", "prune-unmarked", "prune-before-manifest", "prune-manifest-deleted", "prune-data-deleted",
		"prune-before-mark-removed", "prune-orphan",
	}
}

// prunable is a store in which the next prune has something to do at each of its places.
type prunable struct {
	*bench
	template string
	// keeps are the backups that it must leave, goes those that it deletes at last.
	keeps, goes []string
}

func newPrunable(t *testing.T) *prunable {
	t.Helper()
	p := &prunable{bench: newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")}
	p.env = append(p.env, "PGMEDIC_CONFIG="+filepath.Join(p.dir, "retention.yaml"))
	if err := os.WriteFile(filepath.Join(p.dir, "retention.yaml"), []byte("retention:\n  days: 30\n  grace: 0s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newest, old := p.history(1, 2, 3, 33, 34, 35)
	p.prune() // marks what is too old
	p.ok("hold", old[5], "--reason", "as evidence")
	// What a run left that died before it came far, and that an earlier prune marked.
	dead, err := older(p.store, newest, 24*50)
	if err != nil {
		t.Fatal(err)
	}
	folder := folderOf(t, p.store, dead)
	for _, name := range []string{"manifest.json", "manifest.json.sha256", "recover.sh", "RECOVER.md"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	mark, err := os.ReadFile(filepath.Join(folderOf(t, p.store, old[3]), "doomed.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "doomed.json"), mark, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	unmarked, err := older(p.store, newest, 24*40)
	if err != nil {
		t.Fatal(err)
	}
	p.keeps = append([]string{newest, old[5]}, old[:3]...)
	p.goes = append(slices.Clone(old[3:5]), unmarked)
	slices.Sort(p.keeps)
	p.template = p.store
	return p
}

func (p *prunable) prune() { p.t.Helper(); p.ok(pruneArgs()...) }

func pruneArgs() []string {
	return []string{"prune", "--yes", "--only", "backups", "--all-servers", "--max-share", "100%"}
}

// fresh gives the next kill a store of its own.
func (p *prunable) fresh(t *testing.T) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(store, os.DirFS(p.template)); err != nil {
		t.Fatal(err)
	}
	p.t = t
	p.store = store
	p.env = append(slices.DeleteFunc(slices.Clone(p.env), func(kv string) bool { return strings.HasPrefix(kv, "BACKUP_DIR=") }), "BACKUP_DIR="+store)
}

// sound checks that every backup that is listed can be read whole, and that none is
// called damaged. It returns their ids.
func (p *prunable) sound() []string {
	p.t.Helper()
	var l struct {
		Backups []struct{ ID string }
		Damaged []struct{ Reason string }
	}
	if err := json.Unmarshal([]byte(p.ok("list", "--json")), &l); err != nil {
		p.t.Fatal(err)
	}
	for _, d := range l.Damaged {
		p.t.Errorf("damaged: %s", d.Reason)
	}
	var ids []string
	for _, b := range l.Backups {
		ids = append(ids, b.ID)
	}
	p.ok("verify", "--all")
	slices.Sort(ids)
	return ids
}

// killPrunes kills a prune at each of its places: every backup that is listed is whole,
// and the next run finishes.
func killPrunes(t *testing.T) {
	points := prunePoints()
	if !testkit.All() {
		points = []string{"prune-data-deleted"}
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			p := newPrunable(t)
			for i := range testkit.Amount(1, 3, 100) {
				t.Run("", func(t *testing.T) {
					p.killAndFinish(t, point)
					if i == 0 {
						p.ok("restore", p.keeps[0], "--into", p.database+"_copy")
					}
				})
			}
		})
	}
}

func (p *prunable) killAndFinish(t *testing.T, point string) {
	p.fresh(t)
	p.program = mortal(t)
	env := p.env
	p.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=kill:"+point)
	r := p.run(pruneArgs()...)
	p.env = env
	if r.code != -1 {
		t.Fatalf("exit code %d instead of death\n%s%s", r.code, r.stdout, r.stderr)
	}
	after := p.sound()
	for _, id := range p.keeps {
		if !slices.Contains(after, id) {
			t.Errorf("%s is gone", id)
		}
	}
	p.prune() // finishes what was marked, and marks the rest
	p.prune()
	if ids := p.sound(); !slices.Equal(ids, p.keeps) {
		t.Errorf("in the end there are %q, want %q", ids, p.keeps)
	}
	folders, err := filepath.Glob(filepath.Join(p.store, "*", "*", "*T*Z-*")) // and not the audit log's anchors
	if err != nil || len(folders) != len(p.keeps) {
		t.Errorf("folders are %q", folders)
	}
	if left, _ := filepath.Glob(filepath.Join(p.store, "*", "*", "*", "doomed.json")); len(left) > 0 {
		t.Errorf("marks are left: %q", left)
	}
}

// TestInterruptPrune: so it is with an interrupt, after which the exit code says so.
func TestInterruptPrune(t *testing.T) {
	testkit.OnlyAll(t, "TestKillAtEveryPoint has the worse case")
	p := newPrunable(t)
	for _, point := range prunePoints() {
		t.Run(point, func(t *testing.T) {
			p.fresh(t)
			p.program = mortal(t)
			env := p.env
			p.env = append(slices.Clone(env), "PGMEDIC_FAILPOINT=interrupt:"+point)
			if r := p.run(pruneArgs()...); r.code != 130 {
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			}
			p.env = env
			p.sound()
			p.prune()
			p.prune()
			if ids := p.sound(); !slices.Equal(ids, p.keeps) {
				t.Errorf("in the end there are %q, want %q", ids, p.keeps)
			}
		})
	}
}
