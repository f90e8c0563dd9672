package test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestDeedsAreReported: that a live database was replaced, and who can read backups, is
// reported when it is done, whoever did it; what only shows a plan, and what was refused
// before it began, is not.
func TestDeedsAreReported(t *testing.T) {
	b := newBench(t, patients("50")...)
	r := newReceiver(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(b.dir, "identity.txt")
	if err := os.WriteFile(identity, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL+"/canary", "BACKUP_RECIPIENTS="+id.Recipient().String(), "PGMEDIC_IDENTITY_FILES="+identity)
	expect := func(want string, code int, args ...string) []notify.Event {
		t.Helper()
		got := b.run(args...)
		events, line := r.taken()
		if got.code != code || line != want {
			t.Errorf("pgmedic %s: exit code %d, want %d; reported %q, want %q\n%s", strings.Join(args, " "), got.code, code, line, want, got.stderr)
		}
		for _, e := range events {
			if data, err := json.Marshal(e); err != nil || strings.Contains(string(data), "canary") || strings.Contains(string(data), "AGE-SECRET") {
				t.Errorf("%v: a secret in %s", err, data)
			}
		}
		return events
	}
	expect("", 0, "backup")
	expect("", 0, "restore", "latest", "--swap", "--dry-run")
	expect("", 13, "restore", "latest", "--swap")
	expect("", 2, "restore", "latest", "--swap", "--into", "x")

	events := expect("restore.started info, restore.swapped info", 0, "restore", "latest", "--swap", "--yes", "--skip-safety-backup", "a test")
	if len(events) == 2 {
		e := events[1]
		if e.Target.Database != b.database || e.Severity != "warn" || e.Command != "pgmedic rollback "+b.database || len(e.Evidence) != 1 || !strings.Contains(e.Summary, "with data as of ") {
			t.Errorf("%+v", e)
		}
	}
	// A restore beside it is a success like any other, and a failure is one.
	expect("", 0, "restore", "latest", "--into", b.database+"_copy")
	expect("restore.failed info", 14, "restore", "latest", "--into", b.database+"_copy")

	// Services that keep incidents would never hear of an end.
	r.answer(http.StatusServiceUnavailable)
	if got := b.run("rollback", b.database, "--yes"); got.code != 15 || !strings.Contains(got.stderr, "the rollback is done, and not everything was reported") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	r.answer(http.StatusOK)
	events = expect("rollback.started info, rollback.rolled_back info, keys.changed info", 0, "keys", "add", "latest", "--recipient", other.Recipient().String())
	if len(events) == 3 {
		e := events[2]
		if e.Target.Database != b.database || e.Severity != "warn" || len(e.Evidence) != 1 || !strings.HasPrefix(e.Evidence[0].Value, "recipient-") {
			t.Errorf("%+v", e)
		}
	}
	expect("", 0, "keys", "add", "latest", "--recipient", id.Recipient().String()) // which it has
	expect("keys.failed info", 10, "keys", "remove", "latest", "recipient-00000000", "--yes")
}

// TestCheckNotify: a check tries the channels with a quiet message, reports what fails once,
// and its end. A channel that refuses is a check that failed.
func TestCheckNotify(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL+"/canary")
	b.ok("backup")
	expect := func(want string, code int) []notify.Event {
		t.Helper()
		got := b.run("check", "--notify")
		events, line := r.taken()
		if got.code != code || line != want {
			t.Errorf("exit code %d, want %d; reported %q, want %q\n%s%s", got.code, code, line, want, got.stdout, got.stderr)
		}
		return events
	}
	if r := b.run("check"); r.code != 0 {
		t.Fatal(r.stdout)
	}
	events := expect("check.made info", 0)
	if len(events) == 1 && (!events[0].Test || events[0].Severity != "info") {
		t.Errorf("%+v", events[0])
	}
	whole := b.env
	b.env = slices.Concat(b.env, []string{"BACKUP_DIR=" + filepath.Join(b.dir, "none", "of", "it")})
	blocked := filepath.Join(b.dir, "none")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := b.run("check", "--notify", "--json")
	events, line := r.taken()
	if got.code == 0 || !strings.HasPrefix(line, "check.made info, ") || len(events) < 2 || events[1].Object != "store" || events[1].State != notify.StateFiring {
		t.Errorf("exit code %d, reported %q\n%s", got.code, line, got.stdout)
	}
	b.run("check", "--notify")
	if _, line := r.taken(); line != "check.made info" { // the rest was reported
		t.Errorf("reported %q", line)
	}
	b.env = whole
	b.run("check", "--notify")
	events, line = r.taken()
	if !slices.ContainsFunc(events, func(e notify.Event) bool { return e.Object == "store" && e.State == notify.StateResolved }) {
		t.Errorf("reported %q", line)
	}
	r.answer(http.StatusNotFound)
	got = b.run("check", "--notify")
	if got.code != 15 || !strings.Contains(got.stdout, "channel webhook (webhook): ") {
		t.Errorf("exit code %d\n%s", got.code, got.stdout)
	}
}
