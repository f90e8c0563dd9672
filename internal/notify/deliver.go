package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// deliver sends one message once, by e-mail to those who are not in reached. Its errors are
// errors of the package sending.
func (s *Sender) deliver(ctx context.Context, c Channel, d delivery, reached map[string]bool) error {
	secrets, err := s.secrets(ctx, c)
	if err != nil {
		return err
	}
	if c.Type == TypeEmail {
		return s.mail.send(ctx, c, cmp.Or(secrets.smtp, LocalSMTP), d, reached)
	}
	r, err := s.request(c, secrets, d)
	if err != nil {
		return err
	}
	return s.http.Post(ctx, c.receiver(), r)
}

// resolved are the secrets of a channel.
type resolved struct {
	url, smtp, key, token string
	signing               []string
}

func (s *Sender) secrets(ctx context.Context, c Channel) (r resolved, err error) {
	for _, one := range []struct {
		field, text string
		to          *string
	}{{"url", c.URL, &r.url}, {"smtp", c.SMTP, &r.smtp}, {"key", c.Key, &r.key}, {"token", c.Token, &r.token}} {
		if *one.to, err = secretOf(ctx, s.o.Resolve, c, one.field, one.text); err != nil {
			return r, err
		}
	}
	for _, text := range c.Secrets {
		secret, err := secretOf(ctx, s.o.Resolve, c, "secret", text)
		if err != nil {
			return r, err
		}
		r.signing = append(r.signing, secret)
	}
	return r, nil
}

// request is a message as the channel's service takes it.
func (s *Sender) request(c Channel, r resolved, d delivery) (sending.Request, error) {
	m, first := messageOf(d.Events), d.Events[0]
	switch c.Type {
	case TypeSlack:
		return slack(r.url, m)
	case TypeTeams:
		if _, err := KindOfURL(r.url); err != nil {
			return sending.Request{}, sending.Refused(pgmedic.HintOf(err), "channel %s: %w", c.Name, err)
		}
		return teams(r.url, m)
	case TypeDiscord:
		return discord(r.url, m)
	case TypePagerDuty:
		return pagerDuty(cmp.Or(r.url, pagerDutyURL), r.key, first)
	case TypeNtfy:
		return ntfy(c, cmp.Or(r.url, ntfyURL), r.token, m)
	case TypeGotify:
		return gotify(r.url, r.token, m)
	case TypeAlertmanager:
		return alertmanager(r.url, first)
	case TypeWebhook:
		return webhook(c, r.url, r.signing, first, s.o.Now())
	}
	return sending.Request{}, sending.Refused("", "channel %s has a type that does not exist", c.Name)
}

// Check reads the secrets of a channel, and refuses addresses that it could never reach,
// without sending anything.
func (s *Sender) Check(ctx context.Context, name string) error {
	for _, c := range s.o.Channels {
		if c.Name != name {
			continue
		}
		r, err := s.secrets(ctx, c)
		if err != nil {
			return fmt.Errorf("channel %s: %w", name, err)
		}
		return s.checkAddress(ctx, c, r)
	}
	return nil
}

// checkAddress refuses a channel whose server, as its name resolves now, may not be
// reached. A name that does not resolve is an error, too.
func (s *Sender) checkAddress(ctx context.Context, c Channel, r resolved) error {
	var host string
	switch c.Type {
	case TypeEmail:
		server, err := sending.ParseMailServer(cmp.Or(r.smtp, LocalSMTP))
		if err != nil {
			return pgmedic.Errorf(pgmedic.KindUsage, "write smtp://user:password@mail.example:587", "the SMTP server of channel %s %w", c.Name, err)
		}
		host = server.Host
	default:
		host = hostOf(cmp.Or(r.url, map[string]string{TypePagerDuty: pagerDutyURL, TypeNtfy: ntfyURL}[c.Type]))
	}
	if host == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "write https://HOST/PATH", "the URL of channel %s is not one", c.Name)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "check the name, and this machine's resolver", "the host of channel %s is not found", c.Name)
	}
	for _, addr := range addrs {
		if err := s.http.Guard.Check(addr); err != nil {
			return sending.NetworkError("channel "+c.Name, err)
		}
	}
	return nil
}

// hostOf is the host of a URL, or empty for what is not one.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Hostname()
}

// checkLiteral refuses a channel whose URL, or whose server of e-mail, has an address that
// may not be reached.
func (s *Sender) checkLiteral(c Channel) error {
	host := hostOf(c.URL)
	if server, err := sending.ParseMailServer(c.SMTP); c.Type == TypeEmail && err == nil {
		host = server.Host
	}
	err := s.http.Guard.CheckLiteral(host)
	var blocked *egress.BlockedError
	if errors.As(err, &blocked) { // else it is a name, which is resolved when it is used
		return pgmedic.Errorf(pgmedic.KindUsage, sending.BlockedHint(blocked), "channel %s %w", c.Name, err)
	}
	return nil
}

// secretOf resolves a text of a channel.
func secretOf(ctx context.Context, resolve Resolve, ch Channel, field, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	value, err := resolve(ctx, text)
	if err != nil {
		return "", sending.Later(pgmedic.HintOf(err), "read the %s of channel %s: %w", field, ch.Name, err)
	}
	return value, nil
}
