package notify_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
)

func decode(t *testing.T, body string) (e notify.Event) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return e
}

// TestRefusedSettings: channels and routes that can't work are refused when they are
// read, and no secret of them is in the error.
func TestRefusedSettings(t *testing.T) {
	slack := notify.Channel{Name: "chat", Type: notify.TypeSlack, URL: "https://hooks.slack.example/hunter2"}
	for name, o := range map[string]notify.Options{
		"unknown type":                   {Channels: []notify.Channel{{Name: "a", Type: "hunter2"}}},
		"no URL":                         {Channels: []notify.Channel{{Name: "a", Type: notify.TypeSlack}}},
		"a field of another type":        {Channels: []notify.Channel{{Name: "a", Type: notify.TypeSlack, URL: "https://x.example", Topic: "hunter2"}}},
		"no address":                     {Channels: []notify.Channel{{Name: "a", Type: notify.TypeEmail}}},
		"an address that is none":        {Channels: []notify.Channel{{Name: "a", Type: notify.TypeEmail, To: []string{"hunter2"}}}},
		"header in an address":           {Channels: []notify.Channel{{Name: "a", Type: notify.TypeEmail, To: []string{"a@b.example\r\nBcc: hunter2@x.example"}}}},
		"three secrets":                  {Channels: []notify.Channel{{Name: "a", Type: notify.TypeWebhook, URL: "https://x.example", Secrets: []string{"hunter2", "b", "c"}}}},
		"two of one name":                {Channels: []notify.Channel{slack, slack}},
		"a connector of Office":          {Channels: []notify.Channel{{Name: "a", Type: notify.TypeTeams, URL: "https://clinic.webhook.office.com/hunter2"}}},
		"a metadata address":             {AllowPrivate: true, Channels: []notify.Channel{{Name: "a", Type: notify.TypeWebhook, URL: "http://169.254.169.254/hunter2"}}},
		"a metadata address for e-mail":  {AllowPrivate: true, Channels: []notify.Channel{{Name: "a", Type: notify.TypeEmail, To: []string{"a@b.example"}, SMTP: "smtp://hunter2@169.254.169.254"}}},
		"a metadata address as a number": {AllowPrivate: true, Channels: []notify.Channel{{Name: "a", Type: notify.TypeWebhook, URL: "http://2852039166/hunter2"}}},
		"a private address":              {Channels: []notify.Channel{{Name: "a", Type: notify.TypeWebhook, URL: "http://10.1.2.3/hunter2"}}},
		"a route to no channel":          {Channels: []notify.Channel{slack}, Routes: []notify.Route{{To: []string{"hunter3"}}}},
		"no last route":                  {Channels: []notify.Channel{slack}, Routes: []notify.Route{{Match: map[string][]string{"env": {"x"}}, To: []string{"chat"}}}},
		"a route behind the last":        {Channels: []notify.Channel{slack}, Routes: []notify.Route{{To: []string{"chat"}}, {To: []string{"chat"}}}},
		"a step to no channel":           {Channels: []notify.Channel{slack}, Routes: []notify.Route{{Escalate: []notify.Step{{After: 1, To: []string{"hunter3"}}}}}},
		"a step to no one":               {Channels: []notify.Channel{slack}, Routes: []notify.Route{{Escalate: []notify.Step{{After: 1}}}}},
		"steps out of order":             {Channels: []notify.Channel{slack}, Routes: []notify.Route{{Escalate: []notify.Step{{After: 2, To: []string{"chat"}}, {After: 2, To: []string{"chat"}}}}}},
		"an incident without its end":    {Channels: []notify.Channel{{Name: "a", Type: notify.TypePagerDuty, Key: "hunter2", SkipResolved: true}}},
		"a severity that is none":        {Channels: []notify.Channel{slack}, Routes: []notify.Route{{Match: map[string][]string{"severity": {"hunter2"}}, To: []string{"chat"}}, {}}},
	} {
		_, err := notify.New(o)
		wantUsage(t, name, err)
		if err != nil && strings.Contains(err.Error()+pgmedic.HintOf(err), "hunter2") {
			t.Errorf("%s: the error quotes a value: %v", name, err)
		}
	}
}

// TestUsable: what can't work takes nothing else with it, and is said.
func TestUsable(t *testing.T) {
	own, mail := hook("https://x.example/hunter2"), notify.Channel{Name: "dba", Type: notify.TypeEmail, To: []string{"hunter2", "a@b.example"}}
	nobody := notify.Channel{Name: "nobody", Type: notify.TypeEmail, To: []string{"hunter2"}}
	gone := notify.Channel{Name: "gone", Type: notify.TypeTeams, URL: "https://x.webhook.office.com/hunter2"}
	last := notify.Route{To: []string{"own"}}
	critical := map[string][]string{"severity": {"critical"}}
	for name, tt := range map[string]struct {
		o                notify.Options
		channels, routes string
		wrong            int
	}{
		"all is well":           {notify.Options{Channels: []notify.Channel{own}, Routes: []notify.Route{last}}, "own", "[own]", 0},
		"one receiver":          {notify.Options{Channels: []notify.Channel{mail}}, "dba", "", 1},
		"a channel":             {notify.Options{Channels: []notify.Channel{gone, own, nobody, own}}, "own", "", 3},
		"a route's only one":    {notify.Options{Channels: []notify.Channel{gone, own}, Routes: []notify.Route{{Match: critical, To: []string{"gone"}}, {}}}, "own", "[own] []", 1},
		"a route to no channel": {notify.Options{Channels: []notify.Channel{own}, Routes: []notify.Route{{Match: critical, To: []string{"x", "own"}}, last}}, "own", "[own] [own]", 1},
		"no last route":         {notify.Options{Channels: []notify.Channel{own}, Routes: []notify.Route{{Match: critical, To: []string{"own"}}}}, "own", "", 1},
	} {
		o, wrong := tt.o.Usable()
		var routes []string
		for _, r := range o.Routes {
			routes = append(routes, fmt.Sprint(r.To))
		}
		if got := strings.Join(names(o.Channels), " "); got != tt.channels || strings.Join(routes, " ") != tt.routes || len(wrong) != tt.wrong {
			t.Errorf("%s: channels %q, routes %q, %v", name, got, routes, wrong)
		}
		for _, err := range wrong {
			wantUsage(t, name, err)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: the error quotes a value: %v", name, err)
			}
		}
		if _, err := notify.New(o); err != nil {
			t.Errorf("%s: what is usable is refused: %v", name, err)
		}
	}
}

func TestKindOfURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://hooks.slack.com/services/T/B/x":                                notify.TypeSlack,
		"https://hooks.slack.com.evil.example/services/T/B/x":                   notify.TypeWebhook,
		"https://discord.com/api/webhooks/1/x":                                  notify.TypeDiscord,
		"https://discord.com/other":                                             notify.TypeWebhook,
		"https://prod-1.westeurope.logic.azure.com:443/workflows":               notify.TypeTeams,
		"https://x.environment.api.powerplatform.com/powerautomate/automations": notify.TypeTeams,
		"https://clinic.example/hook":                                           notify.TypeWebhook,
		"http://10.0.0.7:8065/hooks/x":                                          notify.TypeWebhook,
		"https://clinic.webhook.office.com/webhookb2/x":                         "",
		"ftp://clinic.example":                                                  "",
		"hunter2":                                                               "",
	} {
		got, err := notify.KindOfURL(url)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", url, got, err, want)
		}
		if err != nil {
			wantUsage(t, url, err)
		}
	}
}

func TestRoutes(t *testing.T) {
	svc := newService(t)
	channel := func(name string) notify.Channel {
		return notify.Channel{Name: name, Type: notify.TypeWebhook, URL: svc.URL}
	}
	routes := []notify.Route{
		{Match: map[string][]string{"env": {"development"}}, To: nil},
		{Match: map[string][]string{"severity": {"critical"}, "env": {"prod*"}}, To: []string{"pager", "ops"}},
		{Match: map[string][]string{"event": {"copy.*", "verify.failed"}}, To: []string{"ops"}},
		{Match: map[string][]string{"database": {"a/b[c]?"}, "server": {"main"}, "team": {"red", "blue"}}, To: []string{"pager"}},
		{To: []string{"dba"}},
	}
	for name, tt := range map[string]struct {
		change func(*notify.Event)
		want   string
	}{
		"critical in production": {func(*notify.Event) {}, "ops sent, pager sent"},
		"in development":         {func(e *notify.Event) { e.Target.Labels["env"] = "development" }, ""},
		"a warning":              {func(e *notify.Event) { e.Severity = pgmedic.SeverityWarn }, "dba sent"},
		"an event by pattern":    {func(e *notify.Event) { e.Name, e.Severity = "copy.failed", pgmedic.SeverityWarn }, "ops sent"},
		"names and labels": {func(e *notify.Event) {
			e.Severity, e.Target.Database, e.Target.Labels["team"] = pgmedic.SeverityWarn, "a/b[c]?", "blue"
		}, "pager sent"},
		"a pattern is not a range": {func(e *notify.Event) {
			e.Severity, e.Target.Database, e.Target.Labels["team"] = pgmedic.SeverityWarn, "a/bcx", "blue"
		}, "dba sent"},
	} {
		o := options(t, channel("dba"), channel("ops"), channel("pager"))
		o.Routes = routes
		e := failed("")
		tt.change(&e)
		results, err := sender(t, o).Send(t.Context(), []notify.Event{e})
		if err != nil || outcomes(results) != tt.want {
			t.Errorf("%s: %v: %q, want %q", name, err, outcomes(results), tt.want)
		}
	}
}

// TestAbsent: a channel that can't be used now is no reason to refuse its route, and what
// waits for it stays.
func TestAbsent(t *testing.T) {
	svc := newService(t)
	svc.answer(503)
	o := options(t, hook(svc.URL))
	o.Routes = []notify.Route{{To: []string{"own"}}}
	_, _ = sender(t, o).Send(t.Context(), []notify.Event{failed("evt_1")})
	svc.answer(200)
	absent := o
	absent.Channels, absent.Absent = nil, []string{"own"}
	if results, err := sender(t, absent).Send(t.Context(), nil); len(results) > 0 || err != nil {
		t.Errorf("%s: %v", outcomes(results), err)
	}
	if results, err := sender(t, o).Send(t.Context(), nil); outcomes(results) != "own sent" || err != nil {
		t.Errorf("%s: %v", outcomes(results), err)
	}
}
