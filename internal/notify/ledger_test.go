package notify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// TestRefusedIsNotTold: a channel that refused a message has not heard of it: the next run
// tells it, and it hears of the end only if it heard of the beginning.
func TestRefusedIsNotTold(t *testing.T) {
	good, bad := newService(t), newService(t)
	o := options(t, notify.Channel{Name: "bad", Type: notify.TypeSlack, URL: bad.URL}, notify.Channel{Name: "pager", Type: notify.TypePagerDuty, URL: good.URL, Key: "k"})
	send := func(status int, want string, e notify.Event) {
		t.Helper()
		bad.answer(status)
		results, _ := sender(t, o).Send(t.Context(), []notify.Event{e})
		var got []string
		for _, r := range results {
			if r.Channel == "bad" || r.Events[0] != "channel.broken" && r.Events[0] != "channel.mended" {
				got = append(got, r.Channel+" "+string(r.Outcome))
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("with %d: %v, want %s", status, got, want)
		}
	}
	send(403, "bad refused, pager sent", failed("1"))
	send(403, "bad refused", failed("2"))
	send(200, "bad sent", failed("3"))
	send(200, "", failed("4"))
	send(200, "bad sent, pager sent", succeeded("5", time.Hour))
	send(403, "bad refused, pager sent", failed("6"))
	send(200, "pager sent", succeeded("7", time.Hour))
}

// TestFuture: what a clock that was wrong has noted silences nothing.
func TestFuture(t *testing.T) {
	svc := newService(t)
	o := options(t, hook(svc.URL))
	later := o
	later.Now = func() time.Time { return at().AddDate(50, 0, 0) }
	e := failed("1")
	e.At = later.Now()
	if results, err := sender(t, later).Send(t.Context(), []notify.Event{e}); err != nil || outcomes(results) != "own sent" {
		t.Fatalf("%s: %v", outcomes(results), err)
	}
	daily := func(after time.Time) time.Time { return after.Truncate(24 * time.Hour).Add(24 * time.Hour) }
	if _, _, err := sender(t, later).DigestDue(t.Context(), "main", daily); err != nil {
		t.Fatal(err)
	}
	results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("2")})
	if err != nil || outcomes(results) != "own sent" {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	if got := svc.all(); len(got) != 2 || decode(t, got[1].Body).Since.After(at()) {
		t.Errorf("%+v", got)
	}
	_, due, err := sender(t, o).DigestDue(t.Context(), "main", daily)
	o.Now = func() time.Time { return at().Add(24 * time.Hour) }
	_, dueNext, errNext := sender(t, o).DigestDue(t.Context(), "main", daily)
	if due || !dueNext || err != nil || errNext != nil {
		t.Errorf("a digest is due %v, a day later %v: %v, %v", due, dueNext, err, errNext)
	}
}

// TestShared: two configurations that share a folder neither drop each other's messages nor
// use up each other's digests.
func TestShared(t *testing.T) {
	svc := newService(t)
	svc.answer(503)
	first := options(t, hook(svc.URL))
	second := first
	second.Channels = []notify.Channel{{Name: "chat", Type: notify.TypeSlack, URL: svc.URL}}
	_, _ = sender(t, first).Send(t.Context(), []notify.Event{failed("evt_1")})
	svc.answer(200)
	if results, err := sender(t, second).Send(t.Context(), nil); len(results) > 0 || err != nil {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	if results, err := sender(t, first).Send(t.Context(), nil); outcomes(results) != "own sent" || err != nil {
		t.Errorf("the other configuration dropped it: %s: %v", outcomes(results), err)
	}
	data := fmt.Sprintf(`{"format":1,"alarms":{},"digests":{"main":%q,"other":%q}}`, "2026-01-01T00:00:00Z", at().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(first.Dir, "reported.json"), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	daily := func(after time.Time) time.Time { return after.Truncate(24 * time.Hour).Add(24 * time.Hour) }
	for server, want := range map[string]bool{"main": true, "other": false} {
		if _, due, err := sender(t, first).DigestDue(t.Context(), server, daily); due != want || err != nil {
			t.Errorf("%s: due %v, %v", server, due, err)
		}
	}
}

// TestToken: a line break at the end of a token that a file has is not part of it.
func TestToken(t *testing.T) {
	svc := newService(t)
	o := options(t, notify.Channel{Name: "push", Type: notify.TypeGotify, URL: svc.URL, Token: "vault://token"})
	o.Resolve = func(_ context.Context, text string) (string, error) {
		if text == "vault://token" {
			return "t0ken\r\n", nil
		}
		return text, nil
	}
	results, err := sender(t, o).Send(t.Context(), []notify.Event{failed("")})
	if err != nil || outcomes(results) != "push sent" || svc.all()[0].Header.Get("X-Gotify-Key") != "t0ken" {
		t.Errorf("%s: %v", outcomes(results), err)
	}
}
