package notify

import (
	"context"
	"net/mail"
	"net/url"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// The types of channels.
const (
	TypeEmail        = "email"
	TypeSlack        = "slack"
	TypeTeams        = "teams"
	TypeDiscord      = "discord"
	TypePagerDuty    = "pagerduty"
	TypeNtfy         = "ntfy"
	TypeGotify       = "gotify"
	TypeAlertmanager = "alertmanager"
	TypeWebhook      = "webhook"

	// typePing is that of a dead man's switch, which is not a channel.
	typePing = "ping"
)

// Types returns the types of channels.
func Types() []string {
	return []string{TypeEmail, TypeSlack, TypeTeams, TypeDiscord, TypePagerDuty, TypeNtfy, TypeGotify, TypeAlertmanager, TypeWebhook}
}

// Channel is one way by which messages are sent. Which fields it has depends on the type.
// Those that can be secret are resolved when they are used.
type Channel struct {
	// Name is what routes and messages call it.
	Name string
	Type string
	// URL is where to post to. PagerDuty and ntfy have a default.
	URL string
	// To and From are addresses of e-mail, SMTP the server's URL.
	To   []string
	From string
	SMTP string
	// Key is PagerDuty's routing key.
	Key string
	// Token is that of an application of Gotify, or an access token of ntfy.
	Token string
	// Topic is ntfy's.
	Topic string
	// Secrets sign what a webhook receives: one, or two while they are being changed.
	Secrets []string
	// Body is a template of what a webhook receives, or empty for the event itself.
	Body string
	// CAFile is a file of certificates to trust besides the system's, or empty.
	CAFile string
	// SkipResolved is true where the channel is not told that something has ended.
	SkipResolved bool
}

// Resolve returns a secret itself: text is one, or says where it is kept.
type Resolve func(ctx context.Context, text string) (string, error)

// fields are the fields of a type: those that it needs, and those that it may have.
func (c Channel) fields() (needs, may []string) {
	switch c.Type {
	case TypeEmail:
		return []string{"to"}, []string{"from", "smtp", "ca_file", "resolved"}
	case TypePagerDuty: // without its end an incident stays open
		return []string{"key"}, []string{"url", "ca_file"}
	case TypeNtfy:
		return []string{"topic"}, []string{"url", "token", "ca_file", "resolved"}
	case TypeGotify:
		return []string{"url", "token"}, []string{"ca_file", "resolved"}
	case TypeWebhook:
		return []string{"url"}, []string{"secret", "body", "ca_file", "resolved"}
	case TypeAlertmanager:
		return []string{"url"}, []string{"ca_file"}
	}
	return []string{"url"}, []string{"ca_file", "resolved"}
}

// given are the fields that are set.
func (c Channel) given() (names []string) {
	for name, set := range map[string]bool{
		"url": c.URL != "", "to": len(c.To) > 0, "from": c.From != "", "smtp": c.SMTP != "", "key": c.Key != "", "token": c.Token != "",
		"topic": c.Topic != "", "secret": len(c.Secrets) > 0, "body": c.Body != "", "ca_file": c.CAFile != "", "resolved": c.SkipResolved,
	} {
		if set {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Check refuses a channel that can't work: an unknown type, a field that is missing or
// that its type does not have, an address or a template that is not one. Errors are of
// KindUsage and quote no value but names.
func (c Channel) Check() error {
	if !slices.Contains(Types(), c.Type) {
		return pgmedic.Errorf(pgmedic.KindUsage, "the types are "+strings.Join(Types(), ", "), "channel %s has a type that does not exist", c.Name)
	}
	needs, may := c.fields()
	given := c.given()
	for _, name := range needs {
		if !slices.Contains(given, name) {
			return pgmedic.Errorf(pgmedic.KindUsage, "docs/notifications.md has an example of each type", "channel %s (%s) has no %s", c.Name, c.Type, name)
		}
	}
	for _, name := range given {
		if !slices.Contains(needs, name) && !slices.Contains(may, name) {
			return pgmedic.Errorf(pgmedic.KindUsage, "its fields are "+strings.Join(slices.Concat(needs, may), ", "),
				"channel %s (%s) has no use for %s", c.Name, c.Type, name)
		}
	}
	if len(c.Secrets) > 2 {
		return pgmedic.Errorf(pgmedic.KindUsage, "write one, or two while you change it", "channel %s has more than two secrets", c.Name)
	}
	for _, address := range append(slices.Clone(c.To), c.From) {
		if _, err := mail.ParseAddress(address); err != nil && address != "" {
			return pgmedic.Errorf(pgmedic.KindUsage, "write it as dba@clinic.example", "channel %s has an address that is not one", c.Name)
		}
	}
	if c.Type == TypeTeams && hostOf(c.URL) != "" {
		if _, err := KindOfURL(c.URL); err != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, pgmedic.HintOf(err), "channel %s: %w", c.Name, err)
		}
	}
	if c.Body != "" {
		_, err := parseBody(c)
		return err
	}
	return nil
}

// KindOfURL is the type of the channel that a webhook's URL is for, by its host. An error
// is of KindUsage, and quotes nothing.
func KindOfURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "write https://HOST/PATH", "not the URL of a webhook")
	}
	host := strings.ToLower(u.Hostname())
	below := func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }
	switch {
	case below("webhook.office.com"):
		return "", pgmedic.Errorf(pgmedic.KindUsage, "make a Workflow in Teams, and use its URL",
			"the URL is that of an Office 365 connector, and Microsoft ended these in May 2026")
	case below("hooks.slack.com"), below("hooks.slack-gov.com"):
		return TypeSlack, nil
	case (below("discord.com") || below("discordapp.com")) && strings.HasPrefix(u.Path, "/api/webhooks/"):
		return TypeDiscord, nil
	case below("logic.azure.com"), below("api.powerplatform.com"):
		return TypeTeams, nil
	}
	return TypeWebhook, nil
}

// keepsState reports whether the service keeps what is wrong until it is resolved, so
// that it must hear of each event alone and has no use for news.
func (c Channel) keepsState() bool { return c.Type == TypePagerDuty || c.Type == TypeAlertmanager }

// alone reports whether each event is sent by itself.
func (c Channel) alone() bool { return c.keepsState() || c.Type == TypeWebhook }

// receiver is the channel as the package sending knows it.
func (c Channel) receiver() sending.Receiver {
	return sending.Receiver{Service: c.service(), Name: c.Name, CAFile: c.CAFile}
}

// service is what the type is called.
func (c Channel) service() string {
	switch c.Type {
	case TypeEmail:
		return "the mail server"
	case TypeSlack:
		return "Slack"
	case TypeTeams:
		return "Teams"
	case TypeDiscord:
		return "Discord"
	case TypePagerDuty:
		return "PagerDuty"
	case TypeNtfy:
		return "ntfy"
	case TypeGotify:
		return "Gotify"
	case TypeAlertmanager:
		return "Alertmanager"
	case typePing:
		return "the service"
	}
	return "the webhook"
}
