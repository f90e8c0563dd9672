package notify_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// fault is what a service or the network does, and what becomes of a message then.
type fault struct {
	url   string
	want  notify.Outcome
	tries int
	words string
	// patience bounds the run where it is not zero.
	patience time.Duration
}

// TestFaultsOfEachType: each type of channel that is sent by HTTP takes an answer, none,
// a bad certificate and a refused connection alike: sent, kept for the next run, which sends it,
// or refused for good; and no error has the URL, the secrets or the answer.
func TestFaultsOfEachType(t *testing.T) {
	insecure := httptest.NewUnstartedServer(http.NotFoundHandler())
	insecure.Config.ErrorLog = log.New(io.Discard, "", 0)
	insecure.StartTLS()
	t.Cleanup(insecure.Close)
	nobody := fmt.Sprintf("http://127.0.0.1:%d", testkit.ClosedPort(t))
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it noticed that the client goes away
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	faults := map[string]func(*service) fault{
		"a bad certificate": func(*service) fault {
			return fault{url: insecure.URL, want: notify.OutcomeKept, words: "has a certificate that is not trusted: it is not signed by a known authority"}
		},
		"nothing listens": func(*service) fault {
			return fault{url: nobody, want: notify.OutcomeKept, words: "can't be reached: connect"}
		},
		"does not answer": func(*service) fault {
			return fault{url: silent.URL, want: notify.OutcomeKept, words: "did not answer in time", patience: time.Second}
		},
	}
	for status, f := range map[int]fault{
		200: {want: notify.OutcomeSent, tries: 1},
		400: {want: notify.OutcomeRefused, tries: 1, words: "refuses the message (400)"},
		404: {want: notify.OutcomeRefused, tries: 1, words: "says that this address is gone (404)"},
		429: {want: notify.OutcomeKept, tries: 3, words: "could not take the message (429)"},
		503: {want: notify.OutcomeKept, tries: 3, words: "could not take the message (503)"},
	} {
		faults[strconv.Itoa(status)] = func(svc *service) fault {
			svc.answer(status)
			return fault{url: svc.URL, want: f.want, tries: f.tries, words: f.words}
		}
	}
	types := []string{notify.TypeEmail} // which has tests of its own
	for i, c := range httpChannels("") {
		types = append(types, c.Type)
		for name, of := range faults {
			t.Run(c.Type+"/"+name, func(t *testing.T) {
				svc := newService(t)
				svc.body = "canary"
				f := of(svc)
				testFault(t, f, secretive(httpChannels(f.url + "/canary")[i]), secretive(httpChannels(svc.URL + "/canary")[i]), svc)
			})
		}
	}
	slices.Sort(types)
	if all := notify.Types(); !slices.Equal(slices.Compact(types), slices.Sorted(slices.Values(all))) {
		t.Errorf("faults of %q, and there are %q", types, all)
	}
}

// secretive is a channel with words in its secrets that no error may have.
func secretive(c notify.Channel) notify.Channel {
	if c.Key != "" {
		c.Key = "canary-key"
	}
	if c.Token != "" {
		c.Token = "canary-token"
	}
	if len(c.Secrets) > 0 {
		c.Secrets = []string{"canary-canary-canary"}
	}
	return c
}

// testFault sends by a channel that has a fault, and then by the same channel once svc,
// where that leads to, is well.
func testFault(t *testing.T, f fault, faulty, well notify.Channel, svc *service) {
	o := options(t, faulty)
	ctx := t.Context()
	if f.patience > 0 {
		short, cancel := context.WithTimeout(ctx, f.patience)
		defer cancel()
		ctx = short
	}
	results, err := sender(t, o).Send(ctx, []notify.Event{failed("evt_1")})
	if len(results) != 1 || results[0].Outcome != f.want || (err == nil) != (f.want == notify.OutcomeSent) {
		t.Fatalf("%s, %v; want %s", outcomes(results), err, f.want)
	}
	if tries := len(svc.all()); tries != f.tries {
		t.Errorf("%d tries, want %d", tries, f.tries)
	}
	if text := fmt.Sprint(err, pgmedic.HintOf(err), results[0].Err); strings.Contains(text, "canary") || strings.Contains(text, "127.0.0.1") {
		t.Errorf("the error quotes the URL, a secret or the answer: %s", text)
	}
	if err != nil && (pgmedic.KindOf(err) != pgmedic.KindDegraded || pgmedic.HintOf(err) == "" ||
		!strings.Contains(err.Error(), f.words) || !strings.Contains(err.Error(), "channel "+faulty.Name)) {
		t.Errorf("%v (%v, hint %q), want %q", err, pgmedic.KindOf(err), pgmedic.HintOf(err), f.words)
	}
	sent := svc.all()
	for _, r := range sent[min(1, len(sent)):] {
		if r.Body != sent[0].Body || r.Path != sent[0].Path {
			t.Errorf("tried again with another message: %s %s, first %s %s", r.Path, r.Body, sent[0].Path, sent[0].Body)
		}
	}
	svc.answer(http.StatusOK)
	o.Channels = []notify.Channel{well}
	results, err = sender(t, o).Send(t.Context(), nil)
	want := ""
	if f.want == notify.OutcomeKept {
		want = well.Name + " sent"
	}
	if err != nil || outcomes(results) != want {
		t.Errorf("the next run: %q, %v; want %q", outcomes(results), err, want)
	}
	if again := svc.all()[len(sent):]; want != "" && (len(again) != 1 || len(sent) > 0 && again[0].Body != sent[0].Body) {
		t.Errorf("the next run sent %v, want one like %v", again, sent)
	}
}
