package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
)

var update = flag.Bool("update", false, "write golden files")

// httpChannels are one of each type that is sent by HTTP, at a server.
func httpChannels(url string) []notify.Channel {
	return []notify.Channel{
		{Name: "slack", Type: notify.TypeSlack, URL: url + "/services/T0/B0/x"},
		{Name: "teams", Type: notify.TypeTeams, URL: url + "/workflows/1?sig=x"},
		{Name: "discord", Type: notify.TypeDiscord, URL: url + "/api/webhooks/1/x"},
		{Name: "pagerduty", Type: notify.TypePagerDuty, URL: url + "/v2/enqueue", Key: "key"},
		{Name: "ntfy", Type: notify.TypeNtfy, URL: url, Topic: "clinic", Token: "tk_1"},
		{Name: "gotify", Type: notify.TypeGotify, URL: url + "/gotify", Token: "A1"},
		{Name: "alertmanager", Type: notify.TypeAlertmanager, URL: url},
		{Name: "webhook", Type: notify.TypeWebhook, URL: url + "/hook", Secrets: []string{"sixteen letters!"}},
	}
}

// TestBodies: what each service is sent, of one event, of two, and of the end of one. The
// shapes are those of the services' references; the services themselves are not asked.
func TestBodies(t *testing.T) {
	for i, name := range names(httpChannels("")) {
		t.Run(name, func(t *testing.T) {
			svc := newService(t)
			o := options(t, httpChannels(svc.URL)[i])
			o.Link = "https://runbook.example/pgmedic"
			s := sender(t, o)
			var b strings.Builder
			for _, events := range [][]notify.Event{
				{failed("evt_1")}, {succeeded("evt_2", 52*time.Minute)}, {failed("evt_3"), other("evt_4")},
			} {
				results, err := s.Send(t.Context(), events)
				if err != nil {
					t.Fatal(err, outcomes(results))
				}
			}
			for _, r := range svc.all() {
				fmt.Fprintf(&b, "%s %s\n", r.Method, r.Path)
				for _, name := range []string{"Content-Type", "Authorization", "X-Gotify-Key", "Webhook-Id", "Webhook-Timestamp"} {
					if v := r.Header.Get(name); v != "" {
						fmt.Fprintf(&b, "%s: %s\n", name, v)
					}
				}
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, []byte(r.Body), "", "  "); err != nil {
					t.Fatalf("%v: %s", err, r.Body)
				}
				fmt.Fprintf(&b, "%s\n\n", pretty.String())
			}
			golden(t, name+".txt", b.String())
		})
	}
}

func names(channels []notify.Channel) (all []string) {
	for _, c := range channels {
		all = append(all, c.Name)
	}
	return all
}

// TestAnonymous: without names no message has one, whatever field it was in.
func TestAnonymous(t *testing.T) {
	svc := newService(t)
	o := options(t, httpChannels(svc.URL)...)
	o.Anonymous = true
	s := sender(t, o)
	e := failed("")
	e.Target.Labels["team"] = "canary"
	e.Target.Server, e.Target.Database, e.Object, e.Summary, e.Hint, e.Command = "canary", "canary", "canary", "canary", "canary", "canary"
	e.Evidence[0].Name, e.Evidence[0].Value = "canary", "canary"
	e.Backup, e.Unknown = "canary", "canary"
	end := succeeded("", time.Hour)
	end.Target, end.Summary = e.Target, "canary"
	for _, events := range [][]notify.Event{{e}, {end}, {e, other("")}} {
		if _, err := s.Send(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	got := svc.all()
	for _, r := range got {
		if strings.Contains(r.Body, "canary") || strings.Contains(r.Body, "billing") || strings.Contains(r.Body, "production") {
			t.Errorf("%s has a name: %s", r.Path, r.Body)
		}
		if !strings.Contains(r.Body, "backup") && !strings.Contains(r.Body, `"event_action":"resolve"`) {
			t.Errorf("%s does not say what happened: %s", r.Path, r.Body)
		}
	}
	if len(got) < 3*len(o.Channels)-4 {
		t.Errorf("only %d messages", len(got))
	}
}

// TestTemplate: a webhook's own body, and the templates that are refused when they are
// read.
func TestTemplate(t *testing.T) {
	svc := newService(t)
	c := notify.Channel{Name: "own", Type: notify.TypeWebhook, URL: svc.URL, Body: `{"msg": {{json .Text}}, "db": {{json .Target.Database}}{{if .Recovery}}, "to": {{json .Recovery.To}}{{end}}}`}
	s := sender(t, options(t, c))
	if _, err := s.Send(t.Context(), []notify.Event{failed("evt_1")}); err != nil {
		t.Fatal(err)
	}
	var got struct{ Msg, DB, To string }
	if err := json.Unmarshal([]byte(svc.all()[0].Body), &got); err != nil || !strings.HasPrefix(got.Msg, "CRITICAL clinic") || got.To != "2026-11-27T02:10:22Z" {
		t.Errorf("%v: %+v", err, got)
	}
	for name, body := range map[string]string{
		"no template": `{"a": {{.Text`, "no such field": `{"a": {{json .Rows}}}`, "not JSON": `hello {{.Name}}`, "quotes by hand": `{"a": "{{.Text}}"}`,
		"no end": `{"a": "{{range $i := .Target.Labels}}{{end}}{{template "body" .}}"}`, "no such function": `{{env "HOME"}}`,
	} {
		c.Body = body
		_, err := notify.New(options(t, c))
		wantUsage(t, name, err)
		if err != nil && strings.Contains(err.Error(), "Text") {
			t.Errorf("%s: the error quotes the template: %v", name, err)
		}
	}
}

// TestGroup: of many events in one message the rest is counted.
func TestGroup(t *testing.T) {
	svc := newService(t)
	s := sender(t, options(t, notify.Channel{Name: "chat", Type: notify.TypeSlack, URL: svc.URL}, notify.Channel{Name: "own", Type: notify.TypeWebhook, URL: svc.URL + "/own"}))
	var events []notify.Event
	for i := range 25 {
		e := other("")
		e.Fingerprint, e.Object = strconv.Itoa(i), "public.t"+strconv.Itoa(i)
		events = append(events, e)
	}
	if _, err := s.Send(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	got := svc.all()
	if len(got) != 26 {
		t.Fatalf("%d requests, want one to the chat and 25 to the webhook", len(got))
	}
	i := slices.IndexFunc(got, func(r received) bool { return r.Path == "/" })
	if !strings.Contains(got[i].Body, "1 of 2 (public.t7).") {
		t.Errorf("an object is not named: %s", got[i].Body)
	}
	if !strings.Contains(got[i].Body, "25 WARNING") || !strings.Contains(got[i].Body, "And 5 more.") {
		t.Errorf("%s", got[i].Body)
	}
}

// TestResolveRefs: secrets are read when they are used, and one that can't be read keeps
// the message.
func TestResolveRefs(t *testing.T) {
	svc := newService(t)
	c := notify.Channel{Name: "pager", Type: notify.TypePagerDuty, URL: "vault://url", Key: "vault://key"}
	o := options(t, c)
	down := true
	o.Resolve = func(_ context.Context, text string) (string, error) {
		if down {
			return "", fmt.Errorf("vault is sealed")
		}
		return map[string]string{"vault://url": svc.URL, "vault://key": "r0uting"}[text], nil
	}
	s := sender(t, o)
	results, err := s.Send(t.Context(), []notify.Event{failed("evt_1")})
	if err == nil || outcomes(results) != "pager kept" || !strings.Contains(err.Error(), "read the url of channel pager: vault is sealed") {
		t.Errorf("%v, %s", err, outcomes(results))
	}
	down = false
	if results, err = s.Send(t.Context(), nil); err != nil || outcomes(results) != "pager sent" {
		t.Errorf("%v, %s", err, outcomes(results))
	}
	if got := svc.all(); len(got) != 1 || !strings.Contains(got[0].Body, `"routing_key":"r0uting"`) {
		t.Errorf("%+v", got)
	}
}
