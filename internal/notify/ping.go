package notify

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sending"
)

// Signal is what a ping says.
type Signal string

// The signals, which healthchecks.io and what is like it understand.
const (
	SignalStart   Signal = "start"
	SignalSuccess Signal = ""
	SignalFail    Signal = "fail"
)

// Ping is a ping of a dead man's switch: a service that raises the alarm where pings stay
// away. It is sent whether or not there are channels.
type Ping struct {
	// Job names it in errors.
	Job string
	// URL is the address of the check; it is a secret.
	URL    string
	Signal Signal
	// Run is the same of the start and the end of one run, as NewRun makes it.
	Run string
	// Body is at most 10 kB, and has no names.
	Body string
}

// mostPinged bounds a ping's body.
const mostPinged = 10_000

// NewRun returns the id of a run: a random UUID.
func NewRun() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Ping sends a ping: that of a start once, since the job waits for it, and the others up
// to three times. Errors quote no URL.
func (s *Sender) Ping(ctx context.Context, p Ping) error {
	c := Channel{Name: "pings." + p.Job, Type: typePing}
	place, err := pingURL(p)
	if err != nil {
		return sending.Refused("write https://HOST/PATH", "the URL of pings.%s is not one", p.Job)
	}
	body := p.Body
	if len(body) > mostPinged {
		body = body[:mostPinged]
	}
	r := sending.Request{URL: place, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte(body)}
	if p.Signal == SignalStart {
		err = s.http.Post(ctx, c.receiver(), r)
	} else {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err = s.again(ctx, func() error { return s.http.Post(ctx, c.receiver(), r) })
	}
	if err != nil {
		return fmt.Errorf("ping the dead man's switch of %s: %w", p.Job, err)
	}
	return nil
}

// CheckPing refuses the address of a ping that could never be reached, if it is written out:
// one that is not an address, or that no message may go to. Errors are of KindUsage and
// quote no URL.
func (s *Sender) CheckPing(job, place string) error {
	host := hostOf(place)
	if host == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "write https://HOST/PATH", "the URL of pings.%s is not one", job)
	}
	if err := s.http.Guard.CheckLiteral(host); err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "write another address", "the address of pings.%s %w", job, err)
	}
	return nil
}

// pingURL adds signal and run to the address, whatever parameters that has.
func pingURL(p Ping) (string, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return "", err //nolint:wrapcheck // not printed: it quotes the address
	}
	if p.Signal != SignalSuccess {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/" + string(p.Signal)
		u.RawPath = ""
	}
	q := u.Query()
	q.Set("rid", p.Run)
	u.RawQuery = q.Encode()
	return u.String(), nil
}
