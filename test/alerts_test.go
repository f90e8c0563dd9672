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

// TestWatchReportsChanges: a watch of a real server prints and sends what fires and what is
// resolved, each once, and people's silences and acknowledgements reach it. An alert takes
// minutes, so between two watches the file that they keep is made older.
func TestWatchReportsChanges(t *testing.T) {
	b := newBench(t, "CREATE TABLE without_a_key AS SELECT i FROM generate_series(1, 5000) AS i", "ANALYZE")
	hook := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+hook.URL+"/canary")
	path := filepath.Join(b.dir, "alerts.json")
	const finding, object = "table-without-primary-key", "public.without_a_key"
	state := func() (s alert.State) {
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &s) != nil {
			t.Errorf("%s", data)
		}
		return s
	}
	of := func() (a alert.Alert) {
		for _, one := range state().Alerts {
			if one.ID == finding && one.Object == object {
				a = one
			}
		}
		return a
	}
	watch := func(until func(c *child) bool) result {
		t.Helper()
		c := b.start("report", "--watch", "5s", "--watch-state", path, "--no-history", "--section", "tables", "--notify")
		testkit.Eventually(t, time.Minute, "what the watch is to see", func() bool { return until(c) })
		c.signal(syscall.SIGINT)
		r := c.wait(time.Minute)
		if r.code != 0 {
			t.Errorf("exit code %d:\n%s", r.code, r.stderr)
		}
		return r
	}
	older := func() {
		t.Helper()
		s := state()
		const by = 2 * time.Hour
		for key, a := range s.Alerts {
			a.Since, a.Looks = a.Since.Add(-by), a.Looks+3
			for _, at := range []*time.Time{&a.FiredAt, &a.Told.At, &a.Told.FiredAt} {
				if !at.IsZero() {
					*at = at.Add(-by)
				}
			}
			s.Alerts[key] = a
		}
		for key, target := range s.Targets {
			target.Waiting = time.Now().Add(-by)
			if target.ToldAt = target.ToldAt.Add(-by); target.ToldAt.Before(time.Unix(0, 0)) {
				target.ToldAt = time.Time{}
			}
			s.Targets[key] = target
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	about := func(name string) int {
		events, _ := hook.taken()
		ids := map[string]bool{} // one whose sending was interrupted is sent again at the end
		for _, e := range events {
			if e.Name == name && e.Object == object && e.Target.Database == b.database && strings.HasPrefix(e.Summary, finding+": ") {
				ids[e.ID] = true
			}
		}
		return len(ids)
	}
	if r := b.run("alerts", "list", "--watch-state", path); r.code != 10 || !strings.Contains(r.stderr, "no watch of ") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	watch(func(*child) bool { return of().Phase == alert.Pending })
	if r := b.run("alerts", "ack", "0", "--watch-state", path); r.code != 10 {
		t.Errorf("what does not fire is acknowledged: exit code %d: %s", r.code, r.stderr)
	}

	// Silenced, it fires and is not reported.
	id := strings.TrimSpace(b.ok("alerts", "silence", "--finding", finding, "--until", "4h", "--reason", "a migration", "-q", "--watch-state", path))
	older()
	r := watch(func(*child) bool { return of().Phase == alert.Firing })
	if n := about("alert.firing"); n != 0 || strings.Contains(r.stdout, finding) {
		t.Errorf("silenced, and sent %d times, and printed:\n%s", n, r.stdout)
	}
	if out := b.ok("alerts", "list", "--watch-state", path); !strings.Contains(out, "silenced: "+id) || !strings.Contains(out, "a migration") {
		t.Errorf("%s", out)
	}
	for want, args := range map[int][]string{
		2:  {"alerts", "silence", "--until", "4h", "--reason", "x"},
		10: {"alerts", "unsilence", "zzzzzz"},
	} {
		if r := b.run(append(args, "--watch-state", path)...); r.code != want {
			t.Errorf("%v: exit code %d, want %d: %s", args, r.code, want, r.stderr)
		}
	}
	if r := b.run("alerts", "silence", "--finding", "no-such-finding", "--until", "4h", "--reason", "x", "--watch-state", path); r.code != 2 {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	if r := b.run("alerts", "silence", "--finding", finding, "--until", "31d", "--reason", "x", "--watch-state", path); r.code != 2 || !strings.Contains(r.stderr, "30 days") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	b.ok("alerts", "unsilence", id, "--watch-state", path)

	// Not silenced any more, it is.
	older()
	// It is printed before it is sent, and one that is interrupted between is sent again.
	r = watch(func(c *child) bool { return strings.Contains(c.stdout.String(), finding) && of().Told.Firing })
	if n := about("alert.firing"); n != 1 || !strings.Contains(r.stdout, "  firing    warn") || !strings.Contains(r.stdout, finding+", "+object) {
		t.Errorf("sent %d times, and printed:\n%s", n, r.stdout)
	}
	b.ok("alerts", "ack", of().Fingerprint[:8], "--watch-state", path)
	if out := b.ok("alerts", "list", "--watch-state", path); !strings.Contains(out, "acknowledged by ") {
		t.Errorf("%s", out)
	}

	// Mended, it is resolved.
	mustExec(t, b.database, "ALTER TABLE without_a_key ADD PRIMARY KEY (i)")
	watch(func(*child) bool { return of().Gone > 0 })
	watch(func(*child) bool { return of().Phase == alert.Resolved })
	older()
	r = watch(func(c *child) bool { return strings.Contains(c.stdout.String(), "resolved") })
	if n := about("alert.resolved"); n != 1 || !strings.Contains(r.stdout, finding+", "+object) || strings.Contains(r.stdout, "firing    warn      "+finding) {
		t.Errorf("sent %d times, and printed:\n%s", n, r.stdout)
	}
	if out := b.ok("audit", "show", "--json", "--action", "alerts"); strings.Count(out, `"alerts.`) < 3 || !strings.Contains(out, "a migration") {
		t.Errorf("the audit log has\n%s", out)
	}
}
