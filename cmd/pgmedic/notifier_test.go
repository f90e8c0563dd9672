package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestStoresReadOnce: a store that can't be read is asked once, whatever is reported, and
// both messages go out.
func TestStoresReadOnce(t *testing.T) {
	var mu sync.Mutex
	var names []string
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e notify.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		mu.Lock()
		defer mu.Unlock()
		names = append(names, e.Name)
	}))
	defer hook.Close()
	dir := t.TempDir()
	state := filepath.Join(dir, "notify")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(state, "reported.json"), []byte(`{"format":1,"alarms":{},"digests":{"main":"2026-01-01T00:00:00Z"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{Dir: dir, Environ: []string{
		"BACKUP_DIR=" + filepath.Join(dir, "gone"), "PGMEDIC_SERVER=main", "PGMEDIC_NOTIFY_DIR=" + state, "PGMEDIC_NOTIFY_DIGEST=0 8 * * *",
		"NOTIFICATION_WEBHOOK=" + hook.URL, "DATABASE_URL=postgres://db.invalid/clinic",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	now := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	n, err := newNotifier(job{env: &env{now: func() time.Time { return now }}, cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil))}, "backup")
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("the disk is full")
	if err := n.finish(t.Context(), failure); !errors.Is(err, failure) {
		t.Error(err)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "backup.failed digest" {
		t.Errorf("reported %q", got)
	}
	if asked := strings.Count(log.String(), "a store could not be read"); asked != 1 {
		t.Errorf("the store was asked %d times\n%s", asked, log.String())
	}
}

// TestJobScopes: which successes end which failures.
func TestJobScopes(t *testing.T) {
	cfg := &config.Config{Server: "main"}
	of := func(name string, scope jobScope) *notifier {
		return &notifier{job: job{env: &env{now: time.Now}, cfg: cfg}, name: name, scope: scope, outcomes: &outcomes{}}
	}
	damage := pgmedic.Errorf(pgmedic.KindIntegrity, "h", "damaged")
	other := errors.New("not reached")
	for name, tt := range map[string]struct {
		failed  *notifier
		failure outcome
		good    *notifier
		success outcome
		ends    bool
	}{
		"a backup":              {of("backup", jobScope{}), outcome{database: "a", err: other}, of("backup", jobScope{}), outcome{database: "a"}, true},
		"of another database":   {of("backup", jobScope{}), outcome{database: "a", err: other}, of("backup", jobScope{}), outcome{database: "b"}, false},
		"could not begin":       {of("backup", jobScope{}), outcome{database: "a", whole: true, err: other}, of("backup", jobScope{}), outcome{database: "b", whole: true}, false},
		"begun for one of all":  {of("backup", jobScope{}), outcome{database: "a", whole: true, err: other}, of("backup", jobScope{}), outcome{database: "a"}, true},
		"a partial backup":      {of("backup", jobScope{}), outcome{database: "a", err: other}, of("backup", jobScope{part: "u", asked: "u"}), outcome{database: "a"}, false},
		"another backup":        {of("verify", jobScope{}), outcome{database: "a", backup: "x", err: damage}, of("verify", jobScope{}), outcome{database: "a", backup: "y"}, false},
		"the same backup":       {of("verify", jobScope{}), outcome{database: "a", backup: "x", err: damage}, of("verify", jobScope{}), outcome{database: "a", backup: "x"}, true},
		"a sample of it":        {of("verify", jobScope{}), outcome{database: "a", backup: "x", err: damage}, of("verify", jobScope{part: "5%"}), outcome{database: "a", backup: "x"}, false},
		"not reached":           {of("drill", jobScope{}), outcome{database: "a", backup: "x", err: other}, of("drill", jobScope{}), outcome{database: "a", backup: "y"}, true},
		"a drill of another":    {of("drill", jobScope{}), outcome{database: "a", backup: "x", err: damage}, of("drill", jobScope{}), outcome{database: "a", backup: "y"}, false},
		"all copies":            {of("copy", jobScope{one: true}), outcome{whole: true, err: other}, of("copy", jobScope{}), outcome{whole: true}, true},
		"one copy":              {of("copy", jobScope{}), outcome{whole: true, err: other}, of("copy", jobScope{one: true}), outcome{whole: true}, false},
		"a report of another":   {of("report", jobScope{}), outcome{database: "a", whole: true, err: other}, of("report", jobScope{}), outcome{database: "b", whole: true}, false},
		"verified one, not all": {of("verify", jobScope{asked: "all"}), outcome{whole: true, err: damage}, of("verify", jobScope{}), outcome{whole: true}, false},
	} {
		ended := []string{tt.good.event(t.Context(), tt.success).Fingerprint}
		for _, e := range tt.good.ends(tt.success) {
			ended = append(ended, e.Fingerprint)
		}
		if got := slices.Contains(ended, tt.failed.fingerprint(tt.failure)); got != tt.ends {
			t.Errorf("%s: ended %v, want %v", name, got, tt.ends)
		}
	}
}

// TestEventsOfJobsAreDocumented: each name that an event about a job can have is in the table of
// docs/notifications.md.
func TestEventsOfJobsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	var events strings.Builder // the first column
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			events.WriteString(cells[1])
		}
	}
	names := []string{pruneDeleted, storeNearlyFull, storeHasRoom, storeUnreachable, storeReached, backupShrunk, backupNotShrunk}
	for _, name := range []string{"backup", "copy", "verify", "drill", "prune", "report", checkJob, walJob, watchJob} {
		n := &notifier{job: job{env: &env{now: time.Now}, cfg: &config.Config{Server: "main"}}, name: name, outcomes: &outcomes{}}
		for _, err := range []error{
			nil, errors.New("it fails"), pgmedic.Errorf(pgmedic.KindDegraded, "", "something beside it failed"), pgmedic.Errorf(pgmedic.KindIntegrity, "", "it is damaged"),
		} {
			names = append(names, n.event(t.Context(), outcome{err: err}).Name)
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if !strings.Contains(events.String(), "`"+name+"`") {
			t.Errorf("docs/notifications.md has no row of the event %s", name)
		}
	}
}
