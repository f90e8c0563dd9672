package test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestAuditForward: a webhook receives each record as it is in the log, signed; one that does
// not take it costs exit code 15 and no act, and its address is not told.
func TestAuditForward(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	var lines []string
	status := http.StatusOK
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if status == http.StatusOK && strings.HasPrefix(r.Header.Get("Webhook-Id"), "audit_") && r.Header.Get("Webhook-Signature") != "" {
			lines = append(lines, string(body))
		}
		w.WriteHeader(status)
	}))
	defer hook.Close()
	b.write("pgmedic.yaml", `
audit: {forward: ['webhook:siem']}
notifications:
  channels: [{name: siem, type: webhook, url: '`+hook.URL+`/canary', secret: 0123456789abcdef-canary}]
  routes: [{to: []}]
`)
	b.ok("backup", "-q")
	b.ok("hold", "latest", "--reason", "x")
	log := filepath.Join(b.tmp, ".local", "state", "pgmedic", "audit.jsonl")
	written := func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	mu.Lock()
	if got := strings.Join(lines, "\n") + "\n"; got != written() || len(lines) < 3 {
		t.Errorf("forwarded\n%swritten\n%s", got, written())
	}
	status = http.StatusInternalServerError
	mu.Unlock()
	r := b.run("release", "latest")
	if r.code != 15 || !strings.Contains(r.stderr, "not forwarded: forward to webhook:siem") || strings.Contains(r.stderr, "canary") || !strings.Contains(written(), `"release"`) {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	b.write("pgmedic.yaml", "audit: {forward: ['webhook:other']}\n")
	if r := b.run("release", "latest"); r.code != 2 || !strings.Contains(r.stderr, "a channel that is not a webhook") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}
