package notify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
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
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func wantUsage(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
		t.Errorf("%s: %v (%v, hint %q), want an error of usage with a hint", name, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
	}
}

func hook(url string) notify.Channel {
	return notify.Channel{Name: "own", Type: notify.TypeWebhook, URL: url}
}

// TestStatus: what an answer means: sent, to be tried again, or refused for good; and
// that no error has the URL or the answer.
func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		status, tries int
		want          notify.Outcome
		words         string
	}{
		{200, 1, notify.OutcomeSent, ""},
		{202, 1, notify.OutcomeSent, ""},
		{301, 1, notify.OutcomeRefused, "redirect (301), which is not followed"},
		{400, 1, notify.OutcomeRefused, "refuses the message (400)"},
		{401, 1, notify.OutcomeRefused, "refuses the credentials (401)"},
		{403, 1, notify.OutcomeRefused, "refuses the credentials (403)"},
		{404, 1, notify.OutcomeRefused, "Slack says that this address is gone (404)"},
		{410, 1, notify.OutcomeRefused, "is gone (410)"},
		{408, 3, notify.OutcomeKept, "could not take the message (408)"},
		{429, 3, notify.OutcomeKept, "could not take the message (429)"},
		{500, 3, notify.OutcomeKept, "could not take the message (500)"},
		{503, 3, notify.OutcomeKept, "could not take the message (503)"},
	} {
		svc := newService(t)
		elsewhere := newService(t)
		svc.answer(tt.status)
		svc.header.Set("Location", elsewhere.URL)
		svc.body = "canary"
		s := sender(t, options(t, notify.Channel{Name: "chat", Type: notify.TypeSlack, URL: svc.URL + "/canary?canary=canary"}))
		results, err := s.Send(t.Context(), []notify.Event{failed("")})
		if len(results) != 1 || results[0].Outcome != tt.want || len(svc.all()) != tt.tries {
			t.Errorf("%d: %s after %d tries, want %s after %d", tt.status, outcomes(results), len(svc.all()), tt.want, tt.tries)
		}
		if (err == nil) != (tt.want == notify.OutcomeSent) {
			t.Errorf("%d: %v", tt.status, err)
		}
		if err != nil && (pgmedic.KindOf(err) != pgmedic.KindDegraded || pgmedic.HintOf(err) == "" || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "channel chat")) {
			t.Errorf("%d: %v (%v, %q)", tt.status, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
		}
		if text := fmt.Sprint(err, pgmedic.HintOf(err)); strings.Contains(text, "canary") || strings.Contains(text, "127.0.0.1") {
			t.Errorf("%d: the error quotes the URL or the answer: %s", tt.status, text)
		}
		if len(elsewhere.all()) > 0 {
			t.Errorf("%d: a redirect was followed", tt.status)
		}
	}
}

// TestRetryAfter: the service says how long to wait; what does not fit into the time that
// a run gives it is left to the next.
func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		value string
		waits []time.Duration
	}{
		{"", []time.Duration{time.Second, 5 * time.Second}},
		{"7", []time.Duration{7 * time.Second, 7 * time.Second}},
		{at().Add(9 * time.Second).Format(http.TimeFormat), []time.Duration{9 * time.Second, 9 * time.Second}},
		{"-3", []time.Duration{time.Second, 5 * time.Second}},
		{"nonsense", []time.Duration{time.Second, 5 * time.Second}},
		{"99999999999", nil},
		{"3600", nil},
	} {
		svc := newService(t)
		svc.answer(429)
		svc.header.Set("Retry-After", tt.value)
		o := options(t, hook(svc.URL))
		var waits []time.Duration
		o.Wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		results, _ := sender(t, o).Send(t.Context(), []notify.Event{failed("")})
		if !slices.Equal(waits, tt.waits) || outcomes(results) != "own kept" {
			t.Errorf("Retry-After %q: waited %v, want %v; %s", tt.value, waits, tt.waits, outcomes(results))
		}
	}
}

// TestNetwork: what the network can do; each is kept for the next run, and said without
// the address.
func TestNetwork(t *testing.T) {
	nobody := fmt.Sprintf("http://127.0.0.1:%d", testkit.ClosedPort(t))
	// Of a label of 64 letters no machine asks its name server.
	unknown := "http://canary" + strings.Repeat("n", 58) + ".invalid"
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	secure.Config.ErrorLog = nil
	plain := newService(t)
	hangsUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(hangsUp.Close)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the client goes away
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	for name, tt := range map[string]struct{ url, want string }{
		"nothing listens":   {nobody, "can't be reached: connect"},
		"no such host":      {unknown, "the host of the webhook is not found"},
		"a bad certificate": {secure.URL, "a certificate that is not trusted: it is not signed by a known authority"},
		"no TLS":            {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"hangs up":          {hangsUp.URL, "can't be reached, or hung up"},
		"does not answer":   {silent.URL, "did not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if name == "does not answer" {
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				ctx = short
			}
			results, err := sender(t, options(t, hook(tt.url+"/canary"))).Send(ctx, []notify.Event{failed("")})
			if outcomes(results) != "own kept" || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %v", outcomes(results), err)
			}
		})
	}
}

// TestSpool: what could not be sent is kept for its owner alone, and is sent by the next
// run, first and with the same id.
func TestSpool(t *testing.T) {
	svc := newService(t)
	svc.answer(503)
	o := options(t, hook(svc.URL))
	s := sender(t, o)
	results, _ := s.Send(t.Context(), []notify.Event{failed("evt_a")})
	if outcomes(results) != "own kept" {
		t.Fatal(outcomes(results))
	}
	files := 0
	err := filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable for others: %v", path, info.Mode())
		}
		if strings.HasSuffix(path, ".message.json") {
			files++
		}
		return nil
	})
	if err != nil || files != 1 {
		t.Errorf("%v: %d messages are kept, want 1", err, files)
	}
	if n, err := s.Waiting(); n != 1 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	// One that can't be sent keeps the next, so that they stay in order.
	tries := len(svc.all())
	results, _ = s.Send(t.Context(), []notify.Event{other("evt_b")})
	if outcomes(results) != "own kept, own kept" || len(svc.all()) != tries+3 {
		t.Errorf("%s, after %d tries more", outcomes(results), len(svc.all())-tries)
	}
	svc.answer(200)
	svc.mu.Lock()
	svc.got = nil
	svc.mu.Unlock()
	results, err = sender(t, o).Send(t.Context(), []notify.Event{succeeded("evt_c", time.Minute)})
	if err != nil || outcomes(results) != "own sent, own sent, own sent" {
		t.Errorf("%v: %s", err, outcomes(results))
	}
	if got := strings.Join(svc.ids(t), " "); got != "evt_a evt_b evt_c" {
		t.Errorf("sent in the order %s", got)
	}
	if n, err := s.Waiting(); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

// TestSpoolEnds: what is kept too long, or for a channel that is gone, is not kept for
// ever; and what is damaged does not stop the rest. None of it is silent.
func TestSpoolEnds(t *testing.T) {
	svc := newService(t)
	svc.answer(503)
	o := options(t, hook(svc.URL), notify.Channel{Name: "old", Type: notify.TypeSlack, URL: svc.URL})
	if results, _ := sender(t, o).Send(t.Context(), []notify.Event{failed("evt_a")}); outcomes(results) != "own kept, old kept" {
		t.Fatal(outcomes(results))
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "evt_0-own.message.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Channels = o.Channels[:1]
	o.Now = func() time.Time { return at().Add(8 * 24 * time.Hour) }
	svc.answer(200)
	results, err := sender(t, o).Send(t.Context(), []notify.Event{other("evt_b")})
	if outcomes(results) != "own lost, own sent" || err == nil || !strings.Contains(err.Error(), "could not be sent for 7 d and is dropped") || !strings.Contains(err.Error(), "read a kept message, which is dropped") {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	results, err = sender(t, o).Send(t.Context(), nil)
	if len(results) != 0 || err != nil {
		t.Errorf("%s: %v", outcomes(results), err)
	}
}

// TestNoFolder: a message goes out although nothing can be kept, and that is said.
func TestNoFolder(t *testing.T) {
	svc := newService(t)
	o := options(t, hook(svc.URL))
	if err := os.WriteFile(o.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("")})
	if outcomes(results) != "own sent" || pgmedic.KindOf(err) != pgmedic.KindDegraded || !strings.Contains(err.Error(), "what can't be sent is lost") {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	o.Dir = ""
	if results, err = sender(t, o).Send(t.Context(), []notify.Event{failed("")}); outcomes(results) != "own sent" || err == nil || !strings.Contains(err.Error(), "no folder for messages is known") {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	svc.answer(500)
	if results, _ = sender(t, o).Send(t.Context(), []notify.Event{failed("")}); outcomes(results) != "own lost" {
		t.Errorf("%s", outcomes(results))
	}
}

// TestTold: what is told again, and what ends.
func TestTold(t *testing.T) {
	warn := func(id string, after time.Duration) notify.Event {
		e := failed(id)
		e.Severity, e.At = pgmedic.SeverityWarn, at().Add(after)
		return e
	}
	critical := func(id string, after time.Duration) notify.Event {
		e := failed(id)
		e.At = at().Add(after)
		return e
	}
	for name, tt := range map[string]struct {
		onSuccess string
		events    []notify.Event
		want      string
	}{
		"a failure and its end":       {"never", []notify.Event{critical("1", 0), succeeded("2", time.Hour)}, "1 firing 1, 2 resolved 1"},
		"successes are not told":      {"never", []notify.Event{succeeded("1", 0), critical("2", 1), succeeded("3", 2), succeeded("4", 3)}, "2 firing 1, 3 resolved 1"},
		"all successes are":           {"always", []notify.Event{succeeded("1", 0), critical("2", 1), succeeded("3", 2), succeeded("4", 3)}, "1 info 1, 2 firing 1, 3 resolved 1, 4 info 1"},
		"the first is":                {"first", []notify.Event{succeeded("1", 0), critical("2", 1), succeeded("3", 2), succeeded("4", 3)}, "2 firing 1, 3 resolved 1"},
		"an hourly one is not nagged": {"never", []notify.Event{critical("1", 0), critical("2", time.Hour), critical("3", 2*time.Hour), critical("4", 4*time.Hour)}, "1 firing 1, 4 firing 4"},
		"a nightly one is":            {"never", []notify.Event{warn("1", 0), warn("2", 24*time.Hour-10*time.Minute)}, "1 firing 1, 2 firing 2"},
		"worse is told at once":       {"never", []notify.Event{warn("1", 0), critical("2", time.Minute), warn("3", 2*time.Minute)}, "1 firing 1, 2 firing 2"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			o := options(t, hook(svc.URL))
			o.OnSuccess = tt.onSuccess
			for _, e := range tt.events {
				o.Now = func() time.Time { return e.At }
				if _, err := sender(t, o).Send(t.Context(), []notify.Event{e}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, r := range svc.all() {
				e := decode(t, r.Body)
				got = append(got, fmt.Sprintf("%s %s %d", e.ID, e.State, e.Count))
				if e.State == notify.StateResolved && e.Since.After(e.At) {
					t.Errorf("%s: resolved at %v, since %v", e.ID, e.At, e.Since)
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("told %v, want %s", got, tt.want)
			}
		})
	}
}

// TestAudience: the end goes to those that heard of the beginning, wherever routes lead
// now; and services that keep what is wrong hear of no news.
func TestAudience(t *testing.T) {
	svc := newService(t)
	pager := notify.Channel{Name: "pager", Type: notify.TypePagerDuty, URL: svc.URL + "/pager", Key: "k"}
	o := options(t, hook(svc.URL+"/own"), pager)
	o.OnSuccess = notify.SuccessAlways
	send := func(want string, events ...notify.Event) {
		t.Helper()
		if results, err := sender(t, o).Send(t.Context(), events); err != nil || outcomes(results) != want {
			t.Errorf("%v: %q, want %q", err, outcomes(results), want)
		}
	}
	send("own sent", succeeded("1", 0))
	send("own sent, pager sent", failed("2"))
	o.Routes = []notify.Route{{To: []string{"own"}}}
	send("own sent, pager sent", succeeded("3", time.Hour))
	o.Routes = []notify.Route{{To: nil}}
	send("", failed("4"))
	o.OnSuccess = notify.SuccessNever
	send("", succeeded("5", time.Hour))
}

// TestOnceInOrder: while a channel goes up and down, and several runs send at once, each
// event arrives once, and in order.
func TestOnceInOrder(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		svc := newService(t)
		o := options(t, hook(svc.URL))
		var want []string
		for i := range 30 {
			status := 200
			if random.IntN(2) == 0 {
				status = 503
			}
			svc.answer(status)
			id := fmt.Sprintf("evt_%03d", i)
			e := failed(id)
			if e.At = at().Add(time.Duration(i) * 24 * time.Hour / 10); i%2 == 1 {
				e = succeeded(id, e.At.Sub(at()))
			}
			want = append(want, id)
			_, _ = sender(t, o).Send(t.Context(), []notify.Event{e})
		}
		svc.answer(200)
		_, _ = sender(t, o).Send(t.Context(), nil)
		var came []string
		for _, r := range svc.all() {
			if r.Status == 200 {
				came = append(came, decode(t, r.Body).ID)
			}
		}
		if !slices.Equal(came, want) {
			t.Errorf("seed %d: came %v, want %v", seed, came, want)
		}
	}
}

// TestTogether: of many runs that send what waits at once, one sends each message.
func TestTogether(t *testing.T) {
	svc := newService(t)
	svc.answer(503)
	o := options(t, hook(svc.URL))
	for i := range 20 {
		e := other(fmt.Sprintf("evt_%03d", i))
		e.Fingerprint = e.ID
		_, _ = sender(t, o).Send(t.Context(), []notify.Event{e})
	}
	before := len(svc.all())
	svc.answer(200)
	var group sync.WaitGroup
	for range 8 {
		s := sender(t, o)
		group.Go(func() {
			if results, err := s.Send(t.Context(), nil); err != nil {
				t.Errorf("%s: %v", outcomes(results), err)
			}
		})
	}
	group.Wait()
	seen := map[string]int{}
	for _, r := range svc.all()[before:] {
		seen[decode(t, r.Body).ID]++
	}
	if len(seen) != 20 || len(svc.all())-before != 20 {
		t.Errorf("%v", seen)
	}
}

// TestBroken: the other channels hear of one that refuses messages or has failed for too
// long, once, and when it works again; it is not told about itself.
func TestBroken(t *testing.T) {
	good, bad := newService(t), newService(t)
	o := options(t, notify.Channel{Name: "bad", Type: notify.TypeSlack, URL: bad.URL}, hook(good.URL))
	now := at()
	o.Now = func() time.Time { return now }
	send := func(status int, later time.Duration, want string) {
		t.Helper()
		bad.answer(status)
		now = now.Add(later)
		before := len(good.all())
		e := other("")
		e.Fingerprint = now.String()
		e.At = now
		_, _ = sender(t, o).Send(t.Context(), []notify.Event{e})
		var got []string
		for _, r := range good.all()[before:] {
			if e := decode(t, r.Body); e.Object == "bad" {
				got = append(got, e.Name+" "+string(e.State))
				if e.State == notify.StateFiring && (!strings.Contains(e.Summary, "channel bad: Slack") || e.Command != "pgmedic notify test bad") {
					t.Errorf("%+v", e)
				}
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("with %d: %v, want %s", status, got, want)
		}
	}
	send(404, time.Minute, "channel.broken firing")
	send(404, time.Minute, "")
	send(200, time.Minute, "channel.mended resolved")
	send(503, time.Minute, "")
	send(503, time.Minute, "")
	send(503, 20*time.Minute, "channel.broken firing")
	send(200, time.Minute, "channel.mended resolved")
	for _, r := range bad.all() {
		if strings.Contains(r.Body, "not delivered by channel") {
			t.Errorf("it is told about itself: %s", r.Body)
		}
	}
}

// TestTest: a test goes out whatever was told, keeps nothing, and leaves no incident open.
func TestTest(t *testing.T) {
	svc := newService(t)
	o := options(t, httpChannels(svc.URL)...)
	s := sender(t, o)
	e, err := notify.Sample("backup-failed", at())
	if err != nil {
		t.Fatal(err)
	}
	results, err := s.Test(t.Context(), []string{"slack", "pagerduty"}, e)
	if err != nil || outcomes(results) != "slack sent, pagerduty sent, pagerduty sent" {
		t.Errorf("%v: %s", err, outcomes(results))
	}
	actions := ""
	for _, r := range svc.all() {
		switch {
		case strings.Contains(r.Body, `"event_action":"trigger"`):
			actions += "trigger "
		case strings.Contains(r.Body, `"event_action":"resolve"`):
			actions += "resolve "
		case !strings.Contains(r.Body, "TEST CRITICAL"):
			t.Errorf("not marked as a test: %s", r.Body)
		}
	}
	if actions != "trigger resolve " {
		t.Errorf("PagerDuty got %s", actions)
	}
	svc.answer(500)
	if results, err = s.Test(t.Context(), []string{"slack"}, e); err == nil || outcomes(results) != "slack lost" {
		t.Errorf("%v: %s", err, outcomes(results))
	}
	if hint := pgmedic.HintOf(err); hint != "mend the channel, then run pgmedic notify test again" {
		t.Errorf("hint: %q", hint)
	}
	svc.answer(401)
	if _, err = s.Test(t.Context(), []string{"slack"}, e); pgmedic.HintOf(err) != "check the token, key or URL of the channel slack" {
		t.Errorf("%v; hint: %q", err, pgmedic.HintOf(err))
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a test kept something: %v", err)
	}
	_, err = s.Test(t.Context(), []string{"slak"}, e)
	wantUsage(t, "a channel that does not exist", err)
	_, err = notify.Sample("nonsense", at())
	wantUsage(t, "an event that does not exist", err)
}
