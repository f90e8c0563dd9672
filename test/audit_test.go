package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestAuditKilled kills a restore with SIGKILL between its intent and its outcome: the
// log says that it is not finished, and takes further records.
func TestAuditKilled(t *testing.T) {
	b := newBench(t, "CREATE TABLE patients AS SELECT generate_series(1, 30) AS id")
	b.ok("backup", "-q")
	// The safety backup waits for this lock until it is killed.
	conn := testkit.Connect(t, server.DSN(b.database))
	for _, statement := range []string{"BEGIN", "LOCK TABLE patients IN ACCESS EXCLUSIVE MODE"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(b.tmp, ".local", "state", "pgmedic", "audit.jsonl")
	c := b.start("restore", "latest", "--swap", "--yes")
	testkit.Eventually(t, time.Minute, "the intent is in the log", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), `"outcome":"intended"`)
	})
	c.signal(syscall.SIGKILL)
	<-c.done
	if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Records []struct {
			Action, Outcome string
			PID             int
			Unfinished      bool
		}
	}
	show := func(action string) {
		t.Helper()
		if err := json.Unmarshal([]byte(b.ok("audit", "show", "--action", action, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
	}
	show("restore")
	if r := shown.Records; len(r) != 1 || !r[0].Unfinished || r[0].Outcome != "intended" || r[0].PID != c.cmd.Process.Pid {
		t.Errorf("%+v", r)
	}
	if out := b.ok("audit", "show"); !strings.Contains(out, "not finished") {
		t.Error(out)
	}
	if out := b.ok("audit", "verify"); !strings.Contains(out, "intact: ") || !strings.Contains(out, "not finished: record ") {
		t.Error(out)
	}
	// What comes later has its outcome.
	b.ok("hold", "latest", "--reason", "it was needed")
	b.ok("release", "latest")
	show("release")
	if r := shown.Records; len(r) != 2 || r[0].Unfinished || r[1].Unfinished || r[1].Outcome != "done" {
		t.Errorf("%+v", r)
	}
}
