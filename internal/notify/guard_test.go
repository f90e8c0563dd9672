package notify_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestGuardResolves: the guard sees what a name resolves to when it is connected to.
func TestGuardResolves(t *testing.T) {
	svc := newService(t)
	o := options(t, hook(strings.Replace(svc.URL, "127.0.0.1", "localhost", 1)))
	s := sender(t, o)
	if err := s.Check(t.Context(), "own"); err != nil {
		t.Error(err)
	}
	if results, err := s.Send(t.Context(), []notify.Event{failed("")}); err != nil {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	o.AllowPrivate, o.Dir = false, t.TempDir()
	s = sender(t, o)
	results, err := s.Send(t.Context(), []notify.Event{failed("")})
	if outcomes(results) != "own refused" || err == nil || !strings.Contains(err.Error(), "which is a private address") || !strings.Contains(pgmedic.HintOf(err), "allow_private") {
		t.Errorf("%s: %v (%s)", outcomes(results), err, pgmedic.HintOf(err))
	}
	if err := s.Check(t.Context(), "own"); err == nil {
		t.Error("the check lets it through")
	}
	if n := len(svc.all()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestProxy: requests go through the proxy, wherever that is, and not to what it must not
// be asked for.
func TestProxy(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = append(asked, r.URL.Host) }))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"hooks.clinic.invalid": "own sent", "93.184.215.14": "own sent", "metadata.google.internal": "own refused", "METADATA.google.internal.": "own refused",
		"localhost": "own refused",
	} {
		o := options(t, hook("http://"+host+"/x"))
		o.AllowPrivate = false
		o.Proxy = func(*http.Request) (*url.URL, error) { return at, nil }
		if results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("")}); outcomes(results) != want {
			t.Errorf("%s: %s, %v; want %s", host, outcomes(results), err, want)
		}
	}
	if len(asked) != 2 {
		t.Errorf("the proxy was asked for %v", asked)
	}
}

// TestSignature: Standard Webhooks' own verifier accepts what is sent, with either secret,
// and not what was changed; and the id is the same each time that it is sent.
func TestSignature(t *testing.T) {
	svc := newService(t)
	c := hook(svc.URL)
	c.Secrets = []string{"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "another secret, as it is"}
	s := sender(t, options(t, c))
	svc.answer(500)
	_, _ = s.Send(t.Context(), []notify.Event{failed("")})
	svc.answer(200)
	if _, err := s.Send(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range svc.all() {
		ids[r.Header.Get("Webhook-Id")] = true
	}
	if len(svc.all()) != 4 || len(ids) != 1 || ids[""] {
		t.Errorf("%d tries with the ids %v", len(svc.all()), ids)
	}
	first, err := standardwebhooks.NewWebhook(c.Secrets[0])
	if err != nil {
		t.Fatal(err)
	}
	second, err := standardwebhooks.NewWebhookRaw([]byte(c.Secrets[1]))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := standardwebhooks.NewWebhookRaw([]byte("a secret that is wrong"))
	if err != nil {
		t.Fatal(err)
	}
	r := svc.all()[3]
	for name, w := range map[string]*standardwebhooks.Webhook{"first": first, "second": second} {
		if err := w.VerifyIgnoringTimestamp([]byte(r.Body), r.Header); err != nil {
			t.Errorf("with the %s secret: %v", name, err)
		}
		if err := w.VerifyIgnoringTimestamp([]byte(r.Body+" "), r.Header); err == nil {
			t.Errorf("a changed body passes with the %s secret", name)
		}
	}
	if err := wrong.VerifyIgnoringTimestamp([]byte(r.Body), r.Header); err == nil {
		t.Error("a wrong secret passes")
	}
	for _, secret := range []string{"whsec_%", "whsec_", "short"} {
		c.Secrets = []string{secret}
		results, err := sender(t, options(t, c)).Send(t.Context(), []notify.Event{failed("")})
		if outcomes(results) != "own refused" || strings.Contains(err.Error(), secret+" ") {
			t.Errorf("%s: %s, %v", secret, outcomes(results), err)
		}
	}
}

// TestPing: start, success and failure, with the run's id beside whatever parameters the
// address has; and no error has the address.
func TestPing(t *testing.T) {
	svc := newService(t)
	s := sender(t, options(t))
	run := notify.NewRun()
	for _, signal := range []notify.Signal{notify.SignalStart, notify.SignalSuccess, notify.SignalFail} {
		if err := s.Ping(t.Context(), notify.Ping{Job: "backup", URL: svc.URL + "/canary/?create=1", Signal: signal, Run: run, Body: strings.Repeat("x", 20_000)}); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, r := range svc.all() {
		got = append(got, strings.Replace(r.Path, run, "RUN", 1))
		if len(r.Body) > 10_000 {
			t.Errorf("%d bytes", len(r.Body))
		}
	}
	if want := "/canary/start?create=1&rid=RUN /canary/?create=1&rid=RUN /canary/fail?create=1&rid=RUN"; strings.Join(got, " ") != want || len(run) != 36 {
		t.Errorf("pinged %v, want %s", got, want)
	}
	svc.answer(503)
	for signal, tries := range map[notify.Signal]int{notify.SignalStart: 1, notify.SignalFail: 3} {
		before := len(svc.all())
		err := s.Ping(context.WithoutCancel(t.Context()), notify.Ping{Job: "backup", URL: svc.URL + "/canary", Signal: signal, Run: run})
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "dead man's switch of backup") || len(svc.all())-before != tries {
			t.Errorf("%s: %v after %d tries", signal, err, len(svc.all())-before)
		}
	}
	for place, good := range map[string]bool{"https://hc.example/canary": true, "http://169.254.169.254./canary": false, "http://0xa9fea9fe/canary": false, "canary": false} {
		if err := s.CheckPing("backup", place); good != (err == nil) || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", place, err)
		} else if err != nil {
			wantUsage(t, place, err)
		}
	}
	if err := s.Ping(t.Context(), notify.Ping{Job: "backup", URL: "canary\x7f", Run: run}); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}
