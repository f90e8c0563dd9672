package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDelete: one chosen backup goes from every store at once, and nothing that is held, or
// the newest of something, goes unless that is said; if a store can't be read, nothing goes.
func TestDelete(t *testing.T) {
	b := newBench(t, patients("50")...)
	hook := newReceiver(t)
	copies := filepath.Join(b.dir, "copies")
	b.write("pgmedic.yaml", "copies:\n  - {name: second, store: "+copies+"}\n")
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+hook.URL+"/canary")
	for range 3 {
		b.ok("backup")
	}
	ids := strings.Fields(b.ok("list", "-q")) // the newest first
	newest, middle, oldest := ids[0], ids[1], ids[2]
	refused := func(code int, words string, args ...string) {
		t.Helper()
		r := b.run(append([]string{"delete"}, args...)...)
		if r.code != code || !strings.Contains(r.stderr, words) {
			t.Errorf("delete %v: exit code %d, want %d: %s", args, r.code, code, r.stderr)
		}
		if got := strings.Fields(b.ok("list", "-q")); len(got) != len(ids) {
			t.Fatalf("delete %v: %d of %d backups are left", args, len(got), len(ids))
		}
	}
	refused(2, "needs a reason", middle)
	refused(2, "id of one backup", "latest", "--reason", "x")
	refused(10, "no backup", "000000", "--reason", "x", "--yes")
	refused(2, "names 3 backups", middle[:4], "--reason", "x", "--yes")
	refused(13, "not confirmed", middle, "--reason", "x")
	refused(14, "is kept: newest", newest, "--reason", "x", "--yes")
	b.ok("hold", middle, "--reason", "case 118")
	refused(14, "case 118", middle, "--reason", "x", "--yes", "--newest")
	b.ok("release", middle)
	if out := b.ok("delete", middle, "--reason", "x", "--dry-run", "--yes"); !strings.Contains(out, "nothing was deleted") || strings.Count(out, "  delete  ") != 2 {
		t.Errorf("%s", out)
	}
	if err := os.Rename(copies, copies+".gone"); err != nil {
		t.Fatal(err)
	}
	refused(10, "nothing was deleted", middle, "--reason", "x", "--yes")
	if err := os.Rename(copies+".gone", copies); err != nil {
		t.Fatal(err)
	}
	hook.taken()

	if out := b.ok("delete", middle, "--reason", "erasure request 118", "--yes"); strings.Count(out, "deleted "+middle) != 2 {
		t.Errorf("%s", out)
	}
	events, line := hook.taken()
	if line != "backup.deleted info" || events[0].Target.Database != b.database || !strings.Contains(events[0].Summary, "erasure request 118") {
		t.Errorf("reported %q: %+v", line, events)
	}
	for _, dir := range []string{b.store, copies} {
		if left, err := filepath.Glob(filepath.Join(dir, "*", "*", middle)); err != nil || len(left) > 0 {
			t.Errorf("%v, %v is left", err, left)
		}
	}
	b.ok("delete", oldest, "--reason", "y", "--store", "second", "--yes", "-q")
	if left, err := filepath.Glob(filepath.Join(copies, "*", "*", oldest, "manifest.json")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v is left", err, left)
	}
	if got := strings.Fields(b.ok("list", "-q")); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
	b.ok("verify", oldest, newest)
	b.ok("delete", newest, "--reason", "z", "--newest", "--yes", "-q")
	if out := b.ok("audit", "show", "--json", "--action", "delete"); !strings.Contains(out, "erasure request 118") || !strings.Contains(out, `"intended"`) {
		t.Errorf("the audit log has\n%s", out)
	}
}
