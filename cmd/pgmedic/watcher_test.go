package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// looking plays looks, 30 seconds apart unless every says otherwise, by a clock that stands still in between, and collects
// what was sent.
type looking struct {
	t       *testing.T
	looks   []string // of each, the ids of critical conditions, or an error
	every   time.Duration
	now     time.Time
	sent    []string
	refuses int // how many times sending fails
	log     bytes.Buffer
	// send and idle replace those that collect, if they are set.
	send func(context.Context, []alert.Change) ([]alert.Change, error)
	idle func(context.Context)
	// routes are those of reporting, and steps those of its watch.
	routes []notify.Route
	steps  func(alert.Alert) int
	// looked is called in each look. Nil does nothing.
	looked func()
}

func newLooking(t *testing.T, looks ...string) *looking {
	return &looking{t: t, looks: looks, every: 30 * time.Second, now: time.Date(2026, time.November, 29, 2, 0, 0, 0, time.UTC)}
}

func slogTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// run watches until there are no more looks.
func (l *looking) run(path string) error {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	log := slogTo(&l.log)
	clock := func() time.Time { return l.now }
	file, err := openAlerts(path, clock, log)
	if err != nil {
		return err
	}
	defer file.close()
	at := 0
	w := &watcher{
		every: l.every, file: file, now: clock, log: log, steps: l.steps,
		look: func(context.Context) (alert.Observation, error) {
			o := alert.Observation{Target: "main/clinic", Every: l.every}
			if l.looked != nil {
				l.looked()
			}
			seen := l.looks[at]
			if at++; at == len(l.looks) {
				cancel() // in the middle of the look
			}
			switch seen {
			case "unreachable", "usage":
				kind := map[string]pgmedic.Kind{"unreachable": pgmedic.KindUnreachable, "usage": pgmedic.KindUsage}[seen]
				o.Failed = true
				return o, pgmedic.Errorf(kind, "", "it is %s", seen)
			}
			for id := range strings.FieldsSeq(seen) {
				o.Seen = append(o.Seen, alert.Condition{ID: id, Object: "x", Severity: pgmedic.SeverityCritical, Summary: "Bad."})
			}
			return o, nil
		},
		send: func(ctx context.Context, changes []alert.Change) ([]alert.Change, error) {
			if l.send != nil {
				return l.send(ctx, changes)
			}
			if l.refuses > 0 {
				l.refuses--
				return nil, errors.New("no route to host")
			}
			for _, c := range changes {
				l.sent = append(l.sent, string(c.Kind)+" "+c.Alert.ID)
			}
			return changes, nil
		},
		idle: func(ctx context.Context) {
			if l.idle != nil {
				l.idle(ctx)
			}
		},
		wait: func(_ context.Context, d time.Duration) {
			if d != l.every {
				l.t.Errorf("waits for %s", d)
			}
			l.now = l.now.Add(d)
		},
	}
	return w.run(ctx)
}

func TestWatcher(t *testing.T) {
	for name, test := range map[string]struct {
		looks   []string
		refuses int
		want    string
		kind    string // of the error, or empty
	}{
		"fires and is resolved":          {append([]string{"a", "a", "a"}, make([]string, 15)...), 0, "firing a; resolved a", ""},
		"what can't be sent comes later": {append([]string{"a", "a", "a", "a", "a"}, make([]string, 15)...), 2, "firing a; resolved a", ""},
		"the last look is interrupted":   {[]string{"a", "a"}, 0, "", ""},
		"a server that goes away":        {[]string{"", "unreachable", "unreachable", "unreachable", "unreachable", "unreachable", "unreachable", "unreachable"}, 0, "firing target-unwatched", ""},
		"wrong usage ends it":            {[]string{"usage", "a"}, 0, "", "usage"},
		"but not later":                  {[]string{"a", "usage", "a", "a", "a"}, 0, "firing a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLooking(t, test.looks...)
			l.refuses = test.refuses
			err := l.run(filepath.Join(t.TempDir(), "state", "alerts.json"))
			if kind := ""; err != nil && pgmedic.KindOf(err).String() != test.kind || err == nil && test.kind != kind {
				t.Errorf("error %v", err)
			}
			if got := strings.Join(l.sent, "; "); got != test.want {
				t.Errorf("sent %q, want %q", got, test.want)
			}
			if failed := strings.Contains(l.log.String(), "could not be reported"); failed != (test.refuses > 0) {
				t.Errorf("log: %s", &l.log)
			}
		})
	}
}

// TestWatcherEvery: a critical condition is reported by the look that decides it where looks
// are half a minute apart or more; shorter ones wait for others.
func TestWatcherEvery(t *testing.T) {
	for every, decided := range map[time.Duration]int{5 * time.Second: 13, 10 * time.Second: 7, 30 * time.Second: 2, time.Minute: 2, time.Hour: 2} {
		for _, looks := range []int{decided, decided - 1} {
			l := newLooking(t, slices.Repeat([]string{"a"}, looks+1)...) // the last is interrupted
			l.every = every
			if err := l.run(filepath.Join(t.TempDir(), "alerts.json")); err != nil {
				t.Fatal(err)
			}
			if reported := strings.Join(l.sent, "; ") == "firing a"; reported != (looks == decided) {
				t.Errorf("every %s, %d looks: sent %q", every, looks, l.sent)
			}
		}
	}
}

// TestWatcherRestarts: another run goes on where the first one ended, and tells nothing twice.
func TestWatcherRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alerts.json")
	l := newLooking(t, "a", "a", "a", "a")
	if err := l.run(path); err != nil {
		t.Fatal(err)
	}
	if l.looks = append([]string{"a", "a", "a"}, make([]string, 15)...); l.run(path) != nil {
		t.Fatal("it does not start again")
	}
	if got := strings.Join(l.sent, "; "); got != "firing a; resolved a" {
		t.Errorf("sent %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

func TestAlertsFile(t *testing.T) {
	const one = `{"format":1,"alerts":{},"targets":{}}`
	for name, test := range map[string]struct {
		text  string
		aside bool
		kind  string
	}{
		"good":          {one, false, ""},
		"empty":         {"", true, ""},
		"cut":           {one[:20], true, ""},
		"another thing": {`[1]`, true, ""},
		"contradicts":   {`{"format":1,"alerts":{"x":{"fingerprint":"y"}}}`, true, ""},
		"newer":         {`{"format":2}`, false, "usage"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "alerts.json")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := openAlerts(path, time.Now, slog.New(slog.DiscardHandler))
			if test.kind == "" && err != nil || test.kind != "" && pgmedic.KindOf(err).String() != test.kind {
				t.Fatalf("%v", err)
			}
			if err == nil {
				f.close()
			}
			if found, _ := filepath.Glob(path + ".damaged-*"); len(found) > 0 != test.aside {
				t.Errorf("aside: %q", found)
			}
		})
	}
}

// TestAlertsFileDamagedAgain: no damaged file replaces another, not even one of the same second.
func TestAlertsFileDamagedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alerts.json")
	at := time.Date(2026, 11, 30, 14, 0, 0, 0, time.UTC)
	var kept []string
	for _, text := range []string{"first", "second", "third"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openAlerts(path, func() time.Time { return at }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		f.close()
	}
	found, _ := filepath.Glob(path + ".damaged-*")
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, string(text))
	}
	if slices.Sort(kept); !slices.Equal(kept, []string{"first", "second", "third"}) {
		t.Errorf("kept: %q", kept)
	}
}

func TestAlertsFileHasOneWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alerts.json")
	log := slog.New(slog.DiscardHandler)
	f, err := openAlerts(path, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAlerts(path, time.Now, log); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("a second watch: %v", err)
	}
	f.close()
	again, err := openAlerts(path, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	again.close()
}

func TestPrintChanges(t *testing.T) {
	at := time.Date(2026, time.November, 29, 2, 10, 0, 0, time.UTC)
	a := alert.Alert{
		Target: "main/clinic", FiredAt: at, ResolvedAt: at.Add(4 * time.Minute), LastChecked: at.Add(time.Minute),
		Condition: alert.Condition{
			ID: "archiver-failing", Object: "server\x1b[2J", Severity: pgmedic.SeverityCritical,
			Summary: "The server could not archive its WAL for some time, and its disk fills until it can.",
		},
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: io.Discard, stdoutWidth: func() int { return 0 }}
	kinds := []alert.Kind{alert.KindFiring, alert.KindWorse, alert.KindRepeat, alert.KindResolved, alert.KindPassed, alert.KindFlapping, alert.KindStale, alert.KindEscalated}
	var changes []alert.Change
	for _, kind := range kinds {
		changes = append(changes, alert.Change{Kind: kind, At: at.Add(5 * time.Minute), Alert: a})
	}
	if err := e.printChanges(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, line := range lines {
		if len(line) > 80 && !strings.HasPrefix(line, "2026") || strings.ContainsRune(line, '\x1b') {
			t.Errorf("%q", line)
		}
	}
	want := "2026-11-29T02:15:00Z  firing    critical  archiver-failing, server\\x1b[2J\n" +
		"    The server could not archive its WAL for some time, and its disk fills until\n    it can."
	if got := strings.Join(lines[:3], "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(out.String(), "resolved  critical  archiver-failing, server\\x1b[2J\n    It fired from 2026-11-29T02:10:00Z to 2026-11-29T02:14:00Z.\n") {
		t.Errorf("%s", &out)
	}
	out.Reset()
	e.global.json = true
	if err := e.printChanges(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
		var c alert.Change
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Kind != kinds[i] || c.Alert.ID != a.ID || c.Alert.Object != a.Object || strings.ContainsRune(line, '\x1b') {
			t.Errorf("%q: %v", line, err)
		}
	}
	if err := (&env{stdout: failing{}, stdoutWidth: func() int { return 0 }}).printChanges(t.Context(), changes); err == nil {
		t.Error("what could not be printed counts as reported")
	}
}

// failing is an output that can't be written to.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestCheckWatch(t *testing.T) {
	for name, test := range map[string]struct {
		flags reportFlags
		want  string
	}{
		"good":           {reportFlags{watch: 30 * time.Second, format: "text"}, ""},
		"json":           {reportFlags{watch: time.Hour, format: "json"}, ""},
		"too short":      {reportFlags{watch: 5*time.Second - 1, format: "text"}, "out of range"},
		"too long":       {reportFlags{watch: time.Hour + 1, format: "text"}, "out of range"},
		"negative":       {reportFlags{watch: -1, format: "text"}, "out of range"},
		"input":          {reportFlags{watch: time.Minute, format: "text", input: "x"}, "for one report"},
		"output":         {reportFlags{watch: time.Minute, format: "text", output: "x"}, "for one report"},
		"save":           {reportFlags{watch: time.Minute, format: "text", save: true}, "for one report"},
		"html":           {reportFlags{watch: time.Minute, format: "html"}, "not html"},
		"metrics":        {reportFlags{watch: time.Minute, format: "prometheus"}, "not prometheus"},
		"fail-on":        {reportFlags{watch: time.Minute, format: "text", failOn: "warn"}, "for one report"},
		"short interval": {reportFlags{watch: time.Minute, format: "text", interval: 59 * time.Second}, ""},
		"interval":       {reportFlags{watch: time.Minute, format: "text", interval: time.Minute}, "does not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := reportCommand{job: job{cfg: defaults(t)}, flags: test.flags}
			err := cmd.checkWatch()
			if test.want == "" && err != nil || test.want != "" && (pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v", err)
			}
		})
	}
	cfg := defaults(t)
	cfg.Report.History = historyOff
	cmd := reportCommand{job: job{cfg: cfg}, flags: reportFlags{watch: time.Minute, format: "text"}}
	if err := cmd.checkWatch(); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("without a history: %v", err)
	}
	if cmd.flags.watchState = "x"; cmd.checkWatch() != nil {
		t.Error("with a file: refused")
	}
}

// defaults is the configuration where nothing is configured.
func defaults(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Load(config.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestCachedListing: a store is listed once in five minutes, and again after an error.
func TestCachedListing(t *testing.T) {
	now, asked := time.Date(2026, time.November, 29, 2, 0, 0, 0, time.UTC), 0
	var fails error
	list := cachedListing(func(context.Context, catalog.Filter) (catalog.Listing, error) {
		asked++
		return catalog.Listing{Entries: make([]catalog.Entry, asked)}, fails
	}, func() time.Time { return now })
	get := func(database string) int {
		l, err := list(t.Context(), catalog.Filter{Database: database})
		if !errors.Is(err, fails) {
			t.Errorf("%v", err)
		}
		return len(l.Entries)
	}
	for i, step := range []struct {
		database string
		after    time.Duration
		fails    error
		want     int
	}{
		{"a", 0, nil, 1},
		{"a", storeEvery - 1, nil, 1},
		{"b", 0, nil, 2},
		{"b", storeEvery, io.ErrUnexpectedEOF, 3},
		{"b", 0, nil, 4},
		{"b", 0, nil, 4},
		{"b", -time.Hour, nil, 5}, // the clock went back
	} {
		now, fails = now.Add(step.after), step.fails
		if got := get(step.database); got != step.want {
			t.Errorf("step %d: listing %d, want %d", i, got, step.want)
		}
	}
}

// TestScopes: what a store was read for is apart from all else, and goals are what nothing
// inhibits.
func TestScopes(t *testing.T) {
	got := conditions([]pgmedic.Finding{
		{ID: "backup-old", Section: reading.SectionBackups, Severity: pgmedic.SeverityWarn}, {ID: "backup-shrunk", Section: reading.SectionBackups},
		{ID: "lock-wait", Section: reading.SectionLocks, Database: "d", Object: "o", Summary: "S.", Fix: "f"},
	})
	if got[0].Scope != alert.ScopeBackups || !got[0].Goal || got[1].Scope != alert.ScopeBackups || got[1].Goal {
		t.Errorf("%+v", got)
	}
	if want := (alert.Condition{ID: "lock-wait", Database: "d", Object: "o", Summary: "S.", Fix: "f", Scope: scopeServer}); got[2] != want {
		t.Errorf("%+v", got[2])
	}
	skipped := skips([]reading.Skipped{{Section: reading.SectionBackups, Query: "store"}, {Section: reading.SectionTrends, Query: "history"}})
	if skipped[0] != (alert.Skip{Scope: alert.ScopeBackups, What: "backups store"}) || skipped[1] != (alert.Skip{Scope: scopeServer, What: "trends history"}) {
		t.Errorf("%+v", skipped)
	}
}

// TestWatcherHears: what people say is read before each report, and a file that is damaged
// undoes nothing.
func TestWatcherHears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "alerts.json")
	l := newLooking(t, strings.Split(strings.Repeat("a b,", 40)+"a b", ",")...)
	answer := func(text string) {
		if err := os.WriteFile(answersPath(path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	quiet, err := json.Marshal(alert.Answers{Format: alert.AnswersFormat, Silences: []alert.Silence{{
		ID: "1", By: "ana", Reason: "x", From: l.now.Add(-time.Hour), Until: l.now.Add(10 * time.Minute), Matchers: []alert.Matcher{{Label: "id", Value: "a"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	answer(string(quiet))
	look := 0
	l.looked = func() {
		if look++; look == 5 {
			answer("{")
		}
	}
	if err := l.run(path); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.sent, "; "); got != "firing b; firing a" {
		t.Errorf("sent %q", got)
	}
	if !strings.Contains(l.log.String(), "those from before still count") {
		t.Errorf("it says nothing of the damaged file: %s", &l.log)
	}
}
