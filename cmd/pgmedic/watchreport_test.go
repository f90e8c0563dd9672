package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// hooks is a chat and a webhook; each answers with its status.
type hooks struct {
	mu     sync.Mutex
	status map[string]int
	got    map[string][]string // by path: what was taken
	events []notify.Event
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if status := h.status[r.URL.Path]; status != 0 {
		w.WriteHeader(status)
		return
	}
	h.got[r.URL.Path] = append(h.got[r.URL.Path], string(body))
	var e notify.Event
	if r.URL.Path == "/hook" && json.Unmarshal(body, &e) == nil {
		h.events = append(h.events, e)
	}
	w.WriteHeader(http.StatusOK)
}

func (h *hooks) answer(path string, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status[path] = status
}

// names are the events that the webhook has taken, in their order.
func (h *hooks) names() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, e := range h.events {
		all = append(all, e.Name+" "+strings.Split(e.Summary, ":")[0])
	}
	return strings.Join(all, ", ")
}

// reporting is a watch that sends to hooks, with its messages kept in dir.
func (l *looking) reporting(dir string, channels ...string) (*hooks, *watchReporter, *bytes.Buffer) {
	l.t.Helper()
	h := &hooks{status: map[string]int{}, got: map[string][]string{}}
	server := httptest.NewServer(h)
	l.t.Cleanup(server.Close)
	clock := func() time.Time { return l.now }
	o := notify.Options{
		Routes: l.routes, Dir: dir, AllowPrivate: true, Now: clock, Host: "backup-1",
		Wait:    func(context.Context, time.Duration) error { return nil },
		Resolve: func(_ context.Context, text string) (string, error) { return text, nil },
	}
	for _, name := range channels {
		kind := map[string]string{"chat": notify.TypeSlack, "hook": notify.TypeWebhook}[name]
		o.Channels = append(o.Channels, notify.Channel{Name: name, Type: kind, URL: server.URL + "/" + name})
	}
	sender, err := notify.New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	var out bytes.Buffer
	j := job{
		env: &env{now: clock, stdout: &out, stdoutWidth: func() int { return 80 }},
		cfg: &config.Config{Server: "main"}, log: slogTo(&l.log),
	}
	j.notifier = &notifier{job: j, sender: sender, name: watchJob, outcomes: &outcomes{}}
	r := &watchReporter{job: j, database: "clinic", printed: map[string]bool{}}
	l.send, l.idle, l.steps = r.report, r.sendKept, r.steps
	return h, r, &out
}

// TestWatchNotifies: what a watch prints is sent, together and once, and a restart does not
// send it again.
func TestWatchNotifies(t *testing.T) {
	l := newLooking(t, append([]string{"a b", "a b", "a b", "a b"}, make([]string, 15)...)...)
	dir, path := filepath.Join(t.TempDir(), "notify"), filepath.Join(t.TempDir(), "alerts.json")
	h, _, out := l.reporting(dir, "chat", "hook")
	for range 2 {
		if err := l.run(path); err != nil {
			t.Fatal(err)
		}
		l.looks = make([]string, 20)
	}
	if got := h.names(); got != "alert.firing a, alert.firing b, alert.resolved a, alert.resolved b" {
		t.Errorf("sent %q; %s", got, &l.log)
	}
	chat := h.got["/chat"]
	if len(chat) != 2 || !strings.Contains(chat[0], "2 CRITICAL") || !strings.Contains(chat[0], "A: Bad (x).") || !strings.Contains(chat[0], "B: Bad (x).") || !strings.Contains(chat[1], "2 RESOLVED") || strings.Contains(chat[1], "Do:") {
		t.Errorf("the chat got %d messages: %q", len(chat), chat)
	}
	e := h.events[0]
	if e.State != notify.StateFiring || e.Severity != "critical" || e.Target.Server != "main" || e.Target.Database != "clinic" || e.Object != "x" || e.Command != "pgmedic report clinic" {
		t.Errorf("%+v", e)
	}
	if end := h.events[2]; end.State != notify.StateResolved || end.Fingerprint != e.Fingerprint || end.Severity != "info" {
		t.Errorf("%+v", end)
	}
	if n := strings.Count(out.String(), "\n"); n != 8 {
		t.Errorf("printed:\n%s", out)
	}
}

// TestWatchSendsAgain: what no channel has taken is due again, and what was kept for one is
// sent from there; nothing is printed twice, and nothing is sent twice to a channel that has it.
func TestWatchSendsAgain(t *testing.T) {
	for name, test := range map[string]struct {
		status   map[string]int
		lostDir  bool // no message can be kept
		hook     string
		chat     int
		warning  string
		answerAt int // the look before which all answer well
	}{
		"refused by the only one":  {map[string]int{"/hook": http.StatusNotFound}, false, "alert.firing a", 0, "changes could not be reported", 8},
		"kept":                     {map[string]int{"/hook": http.StatusServiceUnavailable}, false, "alert.firing a", 0, "not every channel was reached", 8},
		"neither taken nor kept":   {map[string]int{"/hook": http.StatusServiceUnavailable}, true, "alert.firing a", 0, "changes could not be reported", 8},
		"another one has taken it": {map[string]int{"/hook": http.StatusServiceUnavailable}, true, "", 1, "not every channel was reached", 8},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLooking(t, strings.Split(strings.Repeat("a,", 16)+"a", ",")...)
			dir := filepath.Join(t.TempDir(), "notify")
			if test.lostDir {
				if err := os.WriteFile(dir, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			channels := []string{"hook"}
			if test.chat > 0 {
				channels = append(channels, "chat")
			}
			h, _, out := l.reporting(dir, channels...)
			h.status = test.status
			looks := 0
			l.looked = func() {
				if looks++; looks == test.answerAt {
					h.answer("/hook", 0)
				}
			}
			if err := l.run(filepath.Join(t.TempDir(), "alerts.json")); err != nil {
				t.Fatal(err)
			}
			if got := h.names(); got != test.hook {
				t.Errorf("the webhook got %q, want %q; %s", got, test.hook, &l.log)
			}
			if n := strings.Count(strings.Join(h.got["/chat"], "\n"), "A: Bad"); n != test.chat {
				t.Errorf("the chat got it %d times: %q", n, h.got["/chat"])
			}
			if !strings.Contains(l.log.String(), test.warning) {
				t.Errorf("log: %s", &l.log)
			}
			if n := strings.Count(out.String(), "firing"); n != 1 {
				t.Errorf("printed %d times:\n%s", n, out)
			}
		})
	}
}

// TestWatchBeginsAgain: that a watch runs is news only where the last one ended by itself.
func TestWatchBeginsAgain(t *testing.T) {
	l := newLooking(t)
	h, r, _ := l.reporting(filepath.Join(t.TempDir(), "notify"), "hook")
	end := r.notifier.event(t.Context(), outcome{whole: true, err: os.ErrClosed})
	if _, err := r.notifier.sender.Send(t.Context(), []notify.Event{end}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.begun(t.Context())
	}
	if got := h.names(); !strings.HasPrefix(got, "watch.failed the watch has ended, watch.running") || strings.Count(got, ",") != 1 {
		t.Errorf("sent %q; %s", got, &l.log)
	}
	if events := r.notifier.events(t.Context(), nil); len(events) != 0 {
		t.Errorf("a watch that was ended reports %v", events)
	}
}

// TestWatchKinds: each kind of change is sent when the watch says so, whatever was sent
// before, and none but an end is one.
func TestWatchKinds(t *testing.T) {
	l := newLooking(t)
	h, r, _ := l.reporting(filepath.Join(t.TempDir(), "notify"), "hook")
	kinds := []alert.Kind{
		alert.KindPassed, alert.KindFiring, alert.KindRepeat, alert.KindWorse, alert.KindStale, alert.KindFlapping, alert.KindFlapping, alert.KindResolved, alert.KindPassed,
	}
	for _, kind := range kinds {
		a := alert.Alert{Fingerprint: "f", Condition: alert.Condition{ID: "a", Database: "other", Severity: "warn", Summary: "Bad."}, FiredAt: l.now}
		changes := []alert.Change{{Kind: kind, At: l.now, Alert: a}}
		if reported, err := r.report(t.Context(), changes); err != nil || len(reported) != 1 {
			t.Fatal(kind, reported, err)
		}
	}
	if len(h.events) != len(kinds) {
		t.Fatalf("%d of %d were sent: %s", len(h.events), len(kinds), h.names())
	}
	for i, e := range h.events {
		want := notify.StateFiring
		switch kinds[i] {
		case alert.KindResolved:
			want = notify.StateResolved
		case alert.KindPassed:
			want = notify.StateInfo
		}
		if e.Name != "alert."+string(kinds[i]) || e.State != want || e.Target.Database != "other" || e.Count != 1 {
			t.Errorf("%s: %+v", kinds[i], e)
		}
	}
}

// TestWatchEscalates: what nobody has acknowledged also goes to the channels of a step.
func TestWatchEscalates(t *testing.T) {
	l := newLooking(t, strings.Split(strings.Repeat("a,", 20)+strings.Repeat(",", 15), ",")...)
	l.routes = []notify.Route{{To: []string{"chat"}, Escalate: []notify.Step{{After: 5 * time.Minute, To: []string{"hook"}}}}}
	h, _, out := l.reporting(filepath.Join(t.TempDir(), "notify"), "chat", "hook")
	if err := l.run(filepath.Join(t.TempDir(), "alerts.json")); err != nil {
		t.Fatal(err)
	}
	if got := h.names(); got != "alert.escalated a, alert.resolved a" || len(h.got["/chat"]) != 2 {
		t.Errorf("sent %q, %d to the chat; %s", got, len(h.got["/chat"]), &l.log)
	}
	if !strings.Contains(out.String(), "  escalated  critical  a, x\n    Since ") {
		t.Errorf("printed %s", out)
	}
}

// TestWatchWithoutOutput: a closed standard output keeps nothing from being sent.
func TestWatchWithoutOutput(t *testing.T) {
	l := newLooking(t, "a", "a", "a", "a")
	h, r, _ := l.reporting(filepath.Join(t.TempDir(), "notify"), "hook")
	closed, err := os.CreateTemp(t.TempDir(), "")
	if err != nil || closed.Close() != nil {
		t.Fatal(err)
	}
	r.stdout = closed
	if err := l.run(filepath.Join(t.TempDir(), "alerts.json")); err != nil {
		t.Fatal(err)
	}
	if got := h.names(); got != "alert.firing a" || !strings.Contains(l.log.String(), "a change could not be printed") {
		t.Errorf("sent %q; %s", got, &l.log)
	}
}
