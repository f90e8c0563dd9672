package notify

import (
	"net/url"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// ntfyURL is where ntfy's own server is.
const ntfyURL = "https://ntfy.sh"

// ntfy publishes a message as JSON, to the server's root.
func ntfy(ch Channel, server, token string, m message) (sending.Request, error) {
	r, err := jsonRequest(strings.TrimSuffix(server, "/")+"/", struct {
		Topic    string   `json:"topic"`
		Title    string   `json:"title"`
		Message  string   `json:"message"`
		Priority int      `json:"priority"`
		Tags     []string `json:"tags"`
		Click    string   `json:"click,omitempty"`
	}{ch.Topic, m.title, m.plain(), ntfyPriority(m), []string{ntfyTag(m)}, m.link})
	if err == nil && token != "" {
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	return r, err
}

// ntfyPriority is from 1, the least, to 5.
func ntfyPriority(m message) int {
	switch {
	case m.state != StateFiring:
		return 2
	case m.severity == pgmedic.SeverityCritical:
		return 5
	case m.severity == pgmedic.SeverityWarn:
		return 4
	}
	return 3
}

func ntfyTag(m message) string {
	switch {
	case m.state != StateFiring:
		return "white_check_mark"
	case m.severity == pgmedic.SeverityCritical:
		return "rotating_light"
	}
	return "warning"
}

// gotify posts a message of an application.
func gotify(server, token string, m message) (sending.Request, error) {
	type click struct {
		URL string `json:"url"`
	}
	extras := map[string]any{}
	if m.link != "" {
		extras["client::notification"] = map[string]click{"click": {m.link}}
	}
	place, err := url.JoinPath(server, "message")
	if err != nil {
		return sending.Request{}, sending.Refused("write https://HOST", "the URL of Gotify is not one")
	}
	// Gotify's clients ring from 8 on, and stay silent below 4.
	r, err := jsonRequest(place, struct {
		Title    string         `json:"title"`
		Message  string         `json:"message"`
		Priority int            `json:"priority"`
		Extras   map[string]any `json:"extras,omitempty"`
	}{m.title, m.plain(), 2 * (ntfyPriority(m) - 1), extras})
	if err == nil {
		r.Header.Set("X-Gotify-Key", strings.TrimSpace(token))
	}
	return r, err
}
