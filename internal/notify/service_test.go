package notify_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// at is the clock of these tests.
func at() time.Time { return time.Date(2026, 11, 28, 3, 10, 22, 0, time.UTC) }

// received is one request that a service got.
type received struct {
	Method, Path string
	Header       http.Header
	Body         string
	Status       int
}

// service is a server of HTTP in the place of one on the internet. It answers with
// status, and remembers what it got.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	status int
	header http.Header
	body   string
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{status: http.StatusOK, header: http.Header{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, received{r.Method, r.URL.RequestURI(), r.Header, string(body), s.status})
	for name, values := range s.header {
		w.Header()[name] = values
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, s.body)
}

func (s *service) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *service) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// ids are the ids of the events that a webhook got.
func (s *service) ids(t *testing.T) (ids []string) {
	t.Helper()
	for _, r := range s.all() {
		var e notify.Event
		if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
			t.Fatalf("%v: %s", err, r.Body)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// options are those that most tests have: a folder of their own, a clock that stands, and
// no waiting.
func options(t *testing.T, channels ...notify.Channel) notify.Options {
	t.Helper()
	return notify.Options{
		Channels: channels, Dir: filepath.Join(t.TempDir(), "notify"), AllowPrivate: true, Host: "backup-1", Now: at,
		Resolve: func(_ context.Context, text string) (string, error) { return text, nil },
		Wait:    func(context.Context, time.Duration) error { return nil },
		Proxy:   nil,
	}
}

func sender(t *testing.T, o notify.Options) *notify.Sender {
	t.Helper()
	s, err := notify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// failed is an event of a backup that failed; the names in it are hostile.
func failed(id string) notify.Event {
	return notify.Event{
		ID: id, Name: "backup.failed", State: notify.StateFiring, Severity: pgmedic.SeverityCritical, At: at(),
		Fingerprint: notify.Fingerprint("job", "backup", "main", "clinic"),
		Target:      notify.Target{Server: "main", Database: "clinic\x1b[31m", Labels: map[string]string{"env": "production"}},
		Summary:     "the backup failed: table <!channel> @everyone [x](http://evil.example)\r\nBcc: evil@evil.example",
		Object:      `public."a*b_c"`, Evidence: []pgmedic.Evidence{{Name: "tables", Value: "2 of 213"}},
		Exit: 12, Hint: "check that the server is running", Command: "pgmedic check clinic",
		Recovery: &notify.Recovery{Recoverable: true, To: at().Add(-25 * time.Hour), Backup: "20261127T020000Z-7f3a9c", Proof: pgmedic.ProofProven, Seconds: 41},
	}
}

// other is a warning about another database.
func other(id string) notify.Event {
	e := failed(id)
	e.Name, e.Severity, e.Summary, e.Object, e.Evidence, e.Hint = "copy.failed", pgmedic.SeverityWarn, "copies are not complete: 1 of 2", "", nil, ""
	e.Target.Database, e.Fingerprint, e.Command, e.Recovery = "billing", notify.Fingerprint("copy"), "pgmedic copy --all", nil
	return e
}

// succeeded ends failed.
func succeeded(id string, later time.Duration) notify.Event {
	e := failed(id)
	e.Name, e.State, e.Severity, e.Summary, e.At = "backup.succeeded", notify.StateInfo, pgmedic.SeverityInfo, "the backup succeeded", at().Add(later)
	e.Exit, e.Object, e.Evidence, e.Hint, e.Command, e.Recovery = 0, "", nil, "", "", nil
	return e
}

// outcomes are what became of messages, by channel.
func outcomes(results []notify.Result) string {
	var all []string
	for _, r := range results {
		all = append(all, r.Channel+" "+string(r.Outcome))
	}
	return strings.Join(all, ", ")
}

// golden compares a text with a file, which -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	testkit.Golden(t, filepath.Join("testdata", name), got, *update)
}
