package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// LocalSMTP is the server that e-mail goes to where none is named: this machine's, as the
// command mail uses it.
const LocalSMTP = "smtp://localhost:25?tls=off"

// mailer sends e-mail.
type mailer struct {
	guard *egress.Guard
	// host is what this machine calls itself.
	host string
}

// send sends a message to the receivers that reached does not have yet, and adds to it
// those whose server took it; or it says why not. One receiver that is refused keeps the
// message from no other: then each is sent its own. The Message-ID is made of the delivery's
// id, so that one that is sent twice is one message to whoever receives it.
func (ml mailer) send(ctx context.Context, ch Channel, serverURL string, d delivery, reached map[string]bool) error {
	server, err := sending.ParseMailServer(serverURL)
	if err != nil {
		return sending.Refused("write smtp://user:password@mail.example:587", "the SMTP server of channel %s %w", ch.Name, err)
	}
	to := slices.DeleteFunc(slices.Clone(ch.To), func(one string) bool { return reached[one] })
	m, err := ml.message(ch, d, to...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sending.Timeout)
	defer cancel()
	client, err := ml.client(ctx, ch, server)
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return smtpError(ch, err)
	}
	err = taken(m, client.Send(m))
	var failed *mail.SendError
	switch {
	case errors.As(err, &failed) && failed.Reason == mail.ErrSMTPRcptTo && len(to) > 1:
		err = ml.sendEach(client, ch, d, to, reached)
	case err != nil:
		err = smtpError(ch, err)
	default:
		for _, one := range to {
			reached[one] = true
		}
	}
	_ = client.Close() // a message that was taken is taken, however the session ends
	return err
}

// sendEach sends each receiver its own message. Its error is one that can be over the next
// time, if there is such a one.
func (ml mailer) sendEach(client *mail.Client, ch Channel, d delivery, to []string, reached map[string]bool) (err error) {
	for _, one := range to {
		m, failed := ml.message(ch, d, one)
		if failed == nil {
			if failed = taken(m, client.Send(m)); failed != nil {
				failed = smtpError(ch, failed)
			}
		}
		if failed == nil {
			reached[one] = true
		} else if err == nil || sending.Permanent(err) {
			err = failed
		}
	}
	return err
}

// taken is what the sending of a message came to: a server that took the message has it,
// whatever it answers to RSET after that.
func taken(m *mail.Msg, err error) error {
	if m.IsDelivered() {
		return nil
	}
	return err
}

// client is one whose waiting ends with ctx, also for what is read from the server.
func (ml mailer) client(ctx context.Context, ch Channel, s sending.MailServer) (*mail.Client, error) {
	roots, err := sending.Trusted(ch.CAFile)
	if err != nil {
		return nil, err
	}
	patience := sending.Timeout
	if deadline, limited := ctx.Deadline(); limited {
		patience = max(min(patience, time.Until(deadline)), time.Millisecond)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: s.Host}
	options := []mail.Option{
		mail.WithPort(s.Port), mail.WithTimeout(patience), mail.WithTLSConfig(conf), mail.WithTLSPolicy(mail.TLSMandatory),
	}
	dial := ml.guard.Dial
	switch {
	case s.Off:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	case s.Implicit:
		options = append(options, mail.WithSSL())
		dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := ml.guard.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, conf)
			if err := secure.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				return nil, err //nolint:wrapcheck // networkError does
			}
			return secure, nil
		}
	}
	options = append(options, mail.WithDialContextFunc(dial))
	if ml.host != "" {
		options = append(options, mail.WithHELO(ml.host))
	}
	if s.User != "" {
		// The session is encrypted, or does not leave this machine.
		ways := []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthPlain, mail.SMTPAuthLogin, mail.SMTPAuthCramMD5}
		if s.Off {
			ways = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc, mail.SMTPAuthCramMD5}
		}
		options = append(options, mail.WithUsername(s.User), mail.WithPassword(s.Password), mail.WithOpportunisticSMTPAuth(ways...))
	}
	client, err := mail.NewClient(s.Host, options...)
	if err != nil {
		return nil, sending.Refused("check the SMTP server's URL", "the SMTP server of channel %s can't be used: its URL is not complete", ch.Name)
	}
	return client, nil
}

// message is the e-mail of a delivery: text, and the same as HTML.
func (ml mailer) message(ch Channel, d delivery, to ...string) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	from := ch.From
	if from == "" {
		from = "pgmedic@" + ml.domain()
	}
	if err := m.From(from); err != nil {
		return nil, sending.Refused("set from of the channel "+ch.Name, "the sender of channel %s is not an address", ch.Name)
	}
	if err := m.To(to...); err != nil {
		return nil, sending.Refused("correct to of the channel "+ch.Name, "a receiver of channel %s is not an address", ch.Name)
	}
	msg := messageOf(d.Events)
	first := d.Events[0]
	m.Subject(msg.title)
	m.SetDateWithValue(first.At)
	m.SetMessageIDWithValue(d.ID + "@" + ml.domain())
	// One thread for all that is sent about one thing.
	m.SetGenHeader(mail.HeaderReferences, fmt.Sprintf("<%s.%d@pgmedic>", first.Fingerprint, first.Since.Unix()))
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetUserAgent("pgmedic")
	if msg.severity == pgmedic.SeverityCritical && msg.state == StateFiring {
		m.SetImportance(mail.ImportanceHigh)
	}
	m.SetBodyString(mail.TypeTextPlain, msg.title+"\n\n"+msg.plain())
	page, err := mailHTML(msg)
	if err != nil {
		return nil, sending.Refused("", "write the message as HTML: %w", err)
	}
	m.AddAlternativeString(mail.TypeTextHTML, page)
	return m, nil
}

// domain is this machine's name as it may stand in an address.
func (ml mailer) domain() string {
	if ml.host == "" || strings.ContainsAny(ml.host, " <>@\"") {
		return "localhost"
	}
	return ml.host
}

// mailPage is what mailHTML fills in. Its style is inline, as clients of e-mail need it,
// and it loads nothing.
const mailPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title></head>
<body style="margin:0;padding:16px;font-family:sans-serif;font-size:15px;line-height:1.5;color:#222;background:#fff">
<div style="border-left:6px solid {{.Color}};padding:4px 16px;max-width:640px">
<h1 style="font-size:18px;margin:0 0 8px">{{.Title}}</h1>
{{range .Lines}}<p style="margin:0 0 8px">{{.}}</p>
{{end}}{{if .Facts}}<table style="border-collapse:collapse;margin:0 0 8px">{{range .Facts}}
<tr><th style="text-align:left;padding:2px 16px 2px 0;font-weight:normal;color:#555">{{.Name}}</th><td style="padding:2px 0">{{.Value}}</td></tr>{{end}}
</table>
{{end}}{{if .Do}}<p style="margin:0 0 8px">{{.Do}}</p>
{{end}}{{if .Command}}<p style="margin:0 0 8px"><code style="background:#f3f3f3;padding:2px 6px">{{.Command}}</code></p>
{{end}}{{if .Link}}<p style="margin:0"><a href="{{.Link}}">{{.Link}}</a></p>
{{end}}</div>
</body></html>
`

// mailHTML is a message as a page.
func mailHTML(m message) (string, error) {
	t, err := template.New("mail").Parse(mailPage)
	if err != nil {
		return "", fmt.Errorf("read the template: %w", err)
	}
	var b strings.Builder
	do := m.do
	if do != "" {
		do = sentence(do)
	}
	err = t.Execute(&b, map[string]any{
		"Title": m.title, "Color": m.color(), "Lines": m.lines, "Facts": m.facts, "Do": do, "Command": m.command, "Link": m.link,
	})
	if err != nil {
		return "", fmt.Errorf("fill in the template: %w", err)
	}
	return b.String(), nil
}

// smtpError says what of a session failed, by its code alone.
func smtpError(ch Channel, err error) error {
	code := 0
	var answer *textproto.Error
	var send *mail.SendError
	if errors.As(err, &answer) {
		code = answer.Code
	}
	if errors.As(err, &send) && send.ErrorCode() != 0 {
		code = send.ErrorCode()
	}
	who := ch.service()
	switch {
	case code == 530 || code == 534 || code == 535 || code == 538:
		return sending.Refused("check user and password of the SMTP server of channel "+ch.Name, "%s refuses the credentials (%d)", who, code)
	case code == 550 || code == 551 || code == 553 || code == 554:
		return sending.Refused("check from and to of channel "+ch.Name, "%s refuses the sender, a receiver or the message (%d)", who, code)
	case code >= 500:
		return sending.Refused("`pgmedic notify test "+ch.Name+"` sends another", "%s refuses the message (%d)", who, code)
	case code >= 400:
		return sending.Later(sending.HintKept, "%s could not take the message (%d)", who, code)
	case network(err):
		return sending.NetworkError(who, err)
	case errors.As(err, &send): // an error without a code, once the session was agreed on
		return sending.Later(sending.HintKept, "%s did not answer in time, or hung up", who)
	}
	return sending.Later("use smtps:// if the server has TLS from the start; without user and password none are sent",
		"%s can't be used: it does not offer STARTTLS, or no way to log in that is known here", who)
}

// network reports whether the network failed, or TLS, or the guard said no, rather than
// what the two sides agreed on.
func network(err error) bool {
	var (
		fails   net.Error
		blocked *egress.BlockedError
	)
	return errors.As(err, &fails) || errors.As(err, &blocked) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || sending.CertificateError(err)
}
