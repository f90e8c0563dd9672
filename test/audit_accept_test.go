package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditAccept: after a store was emptied on purpose there is a way back to exit code 0
// that leaves a record, and nothing else can be accepted.
func TestAuditAccept(t *testing.T) {
	b := newBench(t)
	b.ok("backup", "-q")
	b.ok("backup", "-q") // the first run stores no anchor of the log that it begins
	expect := func(code int, words string, args ...string) {
		t.Helper()
		r := b.run(append([]string{"audit"}, args...)...)
		if r.code != code || !strings.Contains(r.stdout+r.stderr, words) {
			t.Errorf("audit %v: exit code %d, want %d:\n%s%s", args, r.code, code, r.stdout, r.stderr)
		}
	}
	accept := func(more ...string) []string {
		return append([]string{"accept", "--store", b.store, "--reason", "emptied after the test"}, more...)
	}
	expect(0, "intact: ", "verify")
	expect(10, "no anchor is gone", accept("--yes")...)
	if err := os.RemoveAll(filepath.Join(b.store, "audit")); err != nil {
		t.Fatal(err)
	}
	expect(11, "is gone: it was stored on", "verify")
	expect(2, "needs a reason", "accept", "--store", b.store)
	expect(2, "not a configured store", "accept", "--store", "/nowhere", "--reason", "x")
	expect(13, "not confirmed", accept()...)
	expect(0, "1 anchor is gone", accept("--yes")...)
	expect(0, "accepted: 1 anchor is gone from ", "verify")
	expect(0, "emptied after the test", "show", "--action", "audit.accept", "--json")
	expect(10, "no anchor is gone", accept("--yes")...)

	// A log that was cut is not accepted.
	log := filepath.Join(b.tmp, ".local", "state", "pgmedic", "audit.jsonl")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(log, []byte(strings.Join(append(lines[:1:1], lines[2:]...), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(11, "nothing was accepted", accept("--yes")...)
}
