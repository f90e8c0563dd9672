package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/template"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/hooksign"
	"github.com/pgmedic/pgmedic/internal/sending"
	"github.com/pgmedic/pgmedic/internal/words"
)

// webhook posts an event, or what the channel's template makes of it, signed as Standard
// Webhooks says, https://www.standardwebhooks.com.
func webhook(ch Channel, url string, secrets []string, e Event, now time.Time) (sending.Request, error) {
	r, err := jsonRequest(url, e)
	if err == nil && ch.Body != "" {
		r.Body, err = templated(ch, e)
	}
	if err != nil {
		return sending.Request{}, err
	}
	return r, signed(r, ch, secrets, e.ID, now)
}

// Post sends JSON to a channel that is a webhook, once, and signs it as events are; id tells
// it from all others. Errors are those of the package sending, or of KindUsage if there is no
// such webhook.
func (s *Sender) Post(ctx context.Context, channel, id string, body []byte) error {
	i := slices.IndexFunc(s.o.Channels, func(c Channel) bool { return c.Name == channel && c.Type == TypeWebhook })
	if i < 0 {
		return pgmedic.Errorf(pgmedic.KindUsage, "`pgmedic check` says what is wrong with it", "channel %s is not a webhook that can be used", channel)
	}
	c := s.o.Channels[i]
	secrets, err := s.secrets(ctx, c)
	if err != nil {
		return err
	}
	r, err := jsonRequest(secrets.url, json.RawMessage(body))
	if err == nil {
		err = signed(r, c, secrets.signing, id, s.o.Now())
	}
	if err != nil {
		return err
	}
	return s.http.Post(ctx, c.receiver(), r)
}

// signed adds to a request what shows who sent it.
func signed(r sending.Request, ch Channel, secrets []string, id string, now time.Time) error {
	if err := hooksign.Sign(r.Header, secrets, id, now, r.Body); err != nil {
		return sending.Refused("write whsec_ and base64, or at least 16 characters of any kind", "the secret of channel %s %w", ch.Name, err)
	}
	return nil
}

// parseBody reads a channel's template and tries it with an event whose texts have
// everything that is special in JSON. Errors are of KindUsage and quote nothing of it.
func parseBody(ch Channel) (*template.Template, error) {
	const hint = "write values as {{json .Text}}; docs/notifications.md has the fields"
	t, err := template.New("body").Option("missingkey=zero").Funcs(template.FuncMap{"json": jsonText}).Parse(ch.Body)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "the body of channel %s is not a template", ch.Name)
	}
	for _, name := range Samples() {
		e, err := Sample(name, time.Unix(0, 0))
		if err != nil {
			return nil, err
		}
		e = e.complete(e.At)
		e.Text, e.Summary, e.Hint = e.Text+"\n\"\\", e.Summary+"\n\"\\", e.Hint+"\n\"\\"
		e.Target.Server, e.Target.Database, e.Object = "\"\\", "\"\\", "\"\\"
		if _, err := execute(t, e); err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "the body of channel %s, tried with an event, %w", ch.Name, err)
		}
	}
	return t, nil
}

// templated is the body of an event by the channel's template.
func templated(ch Channel, e Event) ([]byte, error) {
	t, err := parseBody(ch)
	if err != nil {
		return nil, sending.Refused(pgmedic.HintOf(err), "%w", err)
	}
	body, err := execute(t, e)
	if err != nil {
		return nil, sending.Refused("`pgmedic notify test "+ch.Name+"` tries it", "the body of channel %s %w", ch.Name, err)
	}
	return body, nil
}

// execute applies a template. Its error is the rest of a sentence.
func execute(t *template.Template, e Event) ([]byte, error) {
	b := bounded{most: sending.MostSent}
	if err := t.Execute(&b, e); errors.Is(err, tooLongError{}) {
		return nil, fmt.Errorf("has more than %s", words.Size(sending.MostSent))
	} else if err != nil {
		return nil, errors.New("names a field that does not exist")
	}
	if !json.Valid(b.Bytes()) {
		return nil, errors.New("is not JSON")
	}
	return b.Bytes(), nil
}

// jsonText writes a value as JSON.
func jsonText(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("write a value as JSON: %w", err)
	}
	return string(text), nil
}

// tooLongError is what ends a template that writes without end.
type tooLongError struct{}

func (tooLongError) Error() string { return "too long" }

// bounded is a buffer that refuses to grow beyond a size.
type bounded struct {
	bytes.Buffer
	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, tooLongError{}
	}
	return b.Buffer.Write(p) //nolint:wrapcheck // a buffer's own
}
