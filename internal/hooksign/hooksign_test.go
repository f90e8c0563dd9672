package hooksign_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/hooksign"
)

// TestSign: each secret signs, in its order, over id, time and body; one that is too short or
// not base64 is refused without being quoted. That the signatures are those of Standard
// Webhooks is tested with its own verifier, in notify.
func TestSign(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	sign := func(id, body string, at time.Time, secrets ...string) []string {
		t.Helper()
		h := http.Header{}
		if err := hooksign.Sign(h, secrets, id, at, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if len(secrets) > 0 && (h.Get("Webhook-Id") != id || h.Get("Webhook-Timestamp") == "") {
			t.Errorf("%v", h)
		}
		return strings.Fields(h.Get("Webhook-Signature"))
	}
	old, fresh := strings.Repeat("a", 16), strings.Repeat("b", 16)
	both := sign("1", "{}", at, fresh, old)
	if len(both) != 2 || both[0] == both[1] || both[1] != sign("1", "{}", at, old)[0] {
		t.Errorf("%q", both)
	}
	for name, other := range map[string][]string{
		"id": sign("2", "{}", at, old), "body": sign("1", "{ }", at, old), "time": sign("1", "{}", at.Add(time.Second), old),
	} {
		if other[0] == both[1] {
			t.Errorf("the signature does not depend on the %s", name)
		}
	}
	if got := sign("1", "{}", at); len(got) != 0 {
		t.Errorf("signed without a secret: %q", got)
	}
	for _, bad := range []string{"short-canary", "whsec_", "whsec_!canary!canary!"} {
		if err := hooksign.Sign(http.Header{}, []string{bad}, "1", at, nil); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v", err)
		}
	}
}
