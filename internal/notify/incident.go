package notify

import (
	"net/url"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// pagerDutyURL is the Events API of the service region of the United States.
const pagerDutyURL = "https://events.pagerduty.com/v2/enqueue"

// pagerDuty triggers or resolves an incident by PagerDuty's Events API v2. The key by
// which it tells incidents apart is the fingerprint.
func pagerDuty(place, key string, e Event) (sending.Request, error) {
	type payload struct {
		Summary   string            `json:"summary"`
		Source    string            `json:"source"`
		Severity  string            `json:"severity"`
		Timestamp time.Time         `json:"timestamp"`
		Component string            `json:"component,omitempty"`
		Class     string            `json:"class"`
		Details   map[string]string `json:"custom_details,omitempty"`
	}
	type link struct {
		Href string `json:"href"`
		Text string `json:"text"`
	}
	body := struct {
		RoutingKey string   `json:"routing_key"`
		Action     string   `json:"event_action"`
		DedupKey   string   `json:"dedup_key"`
		Client     string   `json:"client"`
		Payload    *payload `json:"payload,omitempty"`
		Links      []link   `json:"links,omitempty"`
	}{RoutingKey: key, Action: "resolve", DedupKey: e.Fingerprint, Client: "pgmedic"}
	if e.State == StateFiring {
		const longest = 1024 // runes of a summary, says PagerDuty's reference
		body.Action = "trigger"
		body.Payload = &payload{
			Summary: limit(e.Text, longest), Source: e.subject(), Severity: alertSeverity(e.Severity), Timestamp: e.At,
			Component: e.Target.Server, Class: e.Name, Details: details(e),
		}
		if e.URL != "" {
			body.Links = []link{{e.URL, "pgmedic"}}
		}
	}
	return jsonRequest(place, body)
}

// details are the rest of what a message says, by name.
func details(e Event) map[string]string {
	m := messageOfOne(e)
	all := map[string]string{"message": m.plain(), "host": e.Host}
	for _, f := range e.Evidence {
		all[f.Name] = f.Value
	}
	return all
}

// alertFor is how long Alertmanager keeps an alert that a job sent: until the job that
// resolves it has run, and that may be weekly. This threshold is our choice.
const alertFor = 8 * 24 * time.Hour

// alertmanager posts an alert to the API v2. It fires until it is resolved, or for
// alertFor.
func alertmanager(server string, e Event) (sending.Request, error) {
	type alert struct {
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		StartsAt     time.Time         `json:"startsAt"`
		EndsAt       time.Time         `json:"endsAt"`
		GeneratorURL string            `json:"generatorURL,omitempty"`
	}
	place, err := url.JoinPath(server, "api/v2/alerts")
	if err != nil {
		return sending.Request{}, sending.Refused("write http://HOST:9093", "the URL of Alertmanager is not one")
	}
	// Labels tell alerts apart, so those of all events about one thing are the same but
	// for the severity, by which people route. It may change: then the alert of the other
	// one ends.
	of := func(severity pgmedic.Severity, ends time.Time) alert {
		a := alert{
			Labels:      map[string]string{"alertname": "pgmedic", "fingerprint": e.Fingerprint, "severity": alertSeverity(severity)},
			Annotations: map[string]string{"summary": e.Text, "description": messageOfOne(e).plain(), "event": e.Name, "host": e.Host},
			StartsAt:    e.Since, EndsAt: ends, GeneratorURL: e.URL,
		}
		for name, value := range map[string]string{"database": e.Target.Database, "server": e.Target.Server, "env": e.Target.Environment()} {
			if value != "" {
				a.Labels[name] = value
			}
		}
		return a
	}
	var alerts []alert
	for _, severity := range []pgmedic.Severity{pgmedic.SeverityCritical, pgmedic.SeverityWarn} {
		ends := e.At
		if e.State == StateFiring && severity == e.Severity {
			ends = e.At.Add(alertFor)
		}
		alerts = append(alerts, of(severity, ends))
	}
	return jsonRequest(place, alerts)
}

// alertSeverity is a severity in the words that rules of Prometheus have.
func alertSeverity(s pgmedic.Severity) string {
	if s == pgmedic.SeverityWarn {
		return "warning"
	}
	return string(s)
}
