package notify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// jsonRequest is a request with a body of JSON. HTML is not escaped: none of these is
// shown in a page as it is.
func jsonRequest(url string, body any) (sending.Request, error) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return sending.Request{}, sending.Refused("", "write the message as JSON: %w", err)
	}
	return sending.Request{URL: url, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(strings.TrimSuffix(b.String(), "\n"))}, nil
}

// slack is an incoming webhook of Slack, Mattermost or Rocket.Chat: a bar in the colour
// of the state beside a text. It is an attachment, and not blocks, because all three
// show those.
func slack(url string, m message) (sending.Request, error) {
	const longest = 3000 // runes; Slack cuts longer ones
	type attachment struct {
		Color    string   `json:"color"`
		Fallback string   `json:"fallback"`
		Text     string   `json:"text"`
		Markdown []string `json:"mrkdwn_in"`
	}
	return jsonRequest(url, struct {
		Text        string       `json:"text"`
		Markdown    bool         `json:"mrkdwn"`
		Attachments []attachment `json:"attachments"`
	}{
		Text:        slackEscape(m.title),
		Attachments: []attachment{{m.color(), slackEscape(m.title), slackEscape(limit(m.plain(), longest)), []string{}}},
	})
}

// slackEscape writes the three characters that control Slack's texts as it asks for, and
// breaks the words by which Mattermost calls everybody.
func slackEscape(text string) string {
	text = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	return regexp.MustCompile(`(?i)@(channel|all|here|everyone)\b`).ReplaceAllString(text, "@\u200b$1")
}

// teams is a Workflow of Teams, "When a Teams webhook request is received", with an
// Adaptive Card of version 1.2, which all of its clients show.
func teams(url string, m message) (sending.Request, error) {
	type fact struct {
		Title string `json:"title"`
		Value string `json:"value"`
	}
	type element struct {
		Type   string `json:"type"`
		Text   string `json:"text,omitempty"`
		Weight string `json:"weight,omitempty"`
		Size   string `json:"size,omitempty"`
		Color  string `json:"color,omitempty"`
		Wrap   bool   `json:"wrap,omitempty"`
		Facts  []fact `json:"facts,omitempty"`
	}
	type action struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		URL   string `json:"url"`
	}
	type card struct {
		Schema  string            `json:"$schema"`
		Type    string            `json:"type"`
		Version string            `json:"version"`
		MSTeams map[string]string `json:"msteams"`
		Body    []element         `json:"body"`
		Actions []action          `json:"actions,omitempty"`
	}
	color := "Attention"
	switch {
	case m.state != StateFiring:
		color = "Good"
	case m.severity != pgmedic.SeverityCritical:
		color = "Warning"
	}
	body := []element{{Type: "TextBlock", Text: markdownEscape(m.title), Weight: "Bolder", Size: "Medium", Color: color, Wrap: true}}
	for _, line := range m.lines {
		body = append(body, element{Type: "TextBlock", Text: markdownEscape(line), Wrap: true})
	}
	var facts []fact
	for _, f := range m.facts {
		facts = append(facts, fact{markdownEscape(f.Name), markdownEscape(f.Value)})
	}
	if do := m.next(); do != "" {
		facts = append(facts, fact{"Do", markdownEscape(do)})
	}
	if len(facts) > 0 {
		body = append(body, element{Type: "FactSet", Facts: facts})
	}
	var actions []action
	if m.link != "" {
		actions = []action{{Type: "Action.OpenUrl", Title: "Open", URL: m.link}}
	}
	type attachment struct {
		ContentType string  `json:"contentType"`
		ContentURL  *string `json:"contentUrl"`
		Content     card    `json:"content"`
	}
	return jsonRequest(url, struct {
		Type        string       `json:"type"`
		Attachments []attachment `json:"attachments"`
	}{"message", []attachment{{
		ContentType: "application/vnd.microsoft.card.adaptive",
		Content: card{
			Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.2",
			MSTeams: map[string]string{"width": "full"}, Body: body, Actions: actions,
		},
	}}})
}

// markdownEscape keeps the names in a text from being read as Markdown: as links,
// mentions or headings.
func markdownEscape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune("\\`*_{}[]()<>#+!|~@&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// discord is a webhook of Discord, with one embed that mentions no one.
func discord(url string, m message) (sending.Request, error) {
	const longestTitle, longestText = 256, 4096 // runes, says Discord's reference
	type embed struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		URL         string `json:"url,omitempty"`
		Color       int    `json:"color"`
	}
	var color int
	if _, err := fmt.Sscanf(m.color(), "#%06x", &color); err != nil {
		return sending.Request{}, sending.Refused("", "read a colour: %w", err)
	}
	return jsonRequest(url, struct {
		Embeds          []embed             `json:"embeds"`
		AllowedMentions map[string][]string `json:"allowed_mentions"`
	}{
		Embeds: []embed{{
			Title: limit(markdownEscape(m.title), longestTitle), Description: limit(markdownEscape(m.plain()), longestText),
			URL: m.link, Color: color,
		}},
		AllowedMentions: map[string][]string{"parse": {}},
	})
}
