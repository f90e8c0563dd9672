package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestReportWatch: a watch looks at a real server, keeps what it knows in a file, and ends with
// 0 when it is interrupted. What it reports then is tested by a clock of its own, in
// cmd/pgmedic: an alert takes minutes. With --notify a watch that ends by itself is
// reported, and so is the next one.
func TestReportWatch(t *testing.T) {
	b := newBench(t)
	b.backup()
	hook := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+hook.URL+"/canary")
	failed := b.run("report", "nowhere", "--watch", "5s", "--watch-state", filepath.Join(b.dir, "other.json"), "--notify")
	if _, line := hook.taken(); failed.code != 10 || line != "watch.failed firing" {
		t.Errorf("exit code %d, reported %q: %s", failed.code, line, failed.stderr)
	}
	path := filepath.Join(b.dir, "alerts.json")
	state := func() (s alert.State) {
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &s) != nil {
			t.Errorf("%s", data)
		}
		return s
	}
	for run := range testkit.Amount(1, 2, 2) {
		c := b.start("report", "--watch", "5s", "--watch-state", path, "--no-history", "--json", "--notify")
		testkit.Eventually(t, time.Minute, "a look that saw something", func() bool {
			for _, a := range state().Alerts {
				if a.ID == "backup-unproven" && a.Phase != alert.Resolved && a.Looks > run {
					return true
				}
			}
			return false
		})
		c.signal(syscall.SIGINT)
		r := c.wait(time.Minute)
		if r.code != 0 {
			t.Errorf("exit code %d:\n%s", r.code, r.stderr)
		}
		want := ""
		if run == 0 {
			want = "watch.running resolved"
		}
		if _, line := hook.taken(); line != want {
			t.Errorf("run %d reported %q, want %q", run, line, want)
		}
		if !strings.Contains(r.stderr, "watching ") || r.stdout != "" {
			t.Errorf("it says %q and prints %q", r.stderr, r.stdout)
		}
	}
	if err := state().Check(); err != nil {
		t.Error(err)
	}
}
