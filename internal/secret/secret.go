// Package secret reads secrets from where they are kept: files, variables, systemd's
// credentials, programs, and the secret managers of AWS, Azure, Google and HashiCorp
// (OpenBao is the same); and it has the key managers of AWS, Google and HashiCorp sign with
// keys that do not leave them. It is the only package with their clients. No error of it
// holds a secret, or the path of one, or the name of a key.
package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// callTimeout bounds one try of a manager, execTimeout one run of a program, which
	// may ask a manager itself.
	callTimeout = 10 * time.Second
	execTimeout = 30 * time.Second
	// keepFor is how long a value is used before it is read again.
	keepFor = 5 * time.Minute
	// maxBytes is the size above which what was read is not a secret but a mistake.
	maxBytes = 64 << 10
)

// Options say where a Resolver looks. All are optional.
type Options struct {
	// Getenv returns a variable, or empty. The managers' clients find credentials by it
	// that the environment of the process does not have. Nil: there are none.
	Getenv func(name string) string
	// Environ is the environment of programs that exec: runs.
	Environ []string
	// Now tells how old a value is. Nil: time.Now.
	Now func() time.Time
	// HTTP calls the managers. Nil: a client that uses the system's proxy and
	// certificates, and VAULT_CACERT for vault. To Google it brings its own credentials.
	HTTP *http.Client
	// Azure is who asks Azure. Nil: azidentity's default chain.
	Azure azcore.TokenCredential
}

// Resolver reads secrets by their references. It may be used by several goroutines.
type Resolver struct {
	o       Options
	sources map[string]source
	vault   *vaultSource

	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	value string
	at    time.Time
}

// source reads one kind of reference. Its errors are problems.
type source interface {
	// parse checks the part of a reference after the scheme. The error is the rest of a
	// sentence, and quotes nothing of it.
	parse(rest string) (reference, error)
	// read returns the secret, whole.
	read(ctx context.Context, r reference) ([]byte, error)
	// timeout bounds one read.
	timeout() time.Duration
	// form shows how a reference is written, and permission names what reading takes.
	form() string
	permission() string
}

// reference is a reference that was parsed.
type reference struct {
	// place is where the manager is: a region, a vault, a project, an address. It is
	// named in errors.
	place string
	// path is what is read there, version which one, field the key in a JSON object.
	path, version, field string
	argv                 []string
}

// New returns a Resolver.
func New(o Options) *Resolver {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	r := &Resolver{o: o, kept: map[string]kept{}, vault: &vaultSource{o: o}}
	r.sources = map[string]source{
		"file:": fileSource{}, "env:": envSource{o.Getenv}, "credential:": credentialSource{o.Getenv},
		"exec:": execSource{o.Environ}, "vault://": r.vault,
		"aws-sm://": awsSource{o}, "azure-kv://": azureSource{o}, "gcp-sm://": googleSource{o},
	}
	return r
}

// Scheme returns the scheme of a reference with its colon or slashes, or empty for what
// is not one.
func (r *Resolver) Scheme(ref string) string {
	for scheme := range r.sources {
		if strings.HasPrefix(ref, scheme) {
			return scheme
		}
	}
	return ""
}

// Resolve returns the secret that a reference names. A value of the last five minutes is
// not read again. Errors name the scheme and the place and are of KindUnreachable where
// the manager can't be reached or refuses, and of KindUsage for everything that the
// reference itself has wrong: its form, a secret or a field that is not there, one that
// is empty or has more than one line.
func (r *Resolver) Resolve(ctx context.Context, ref string) (string, error) {
	r.mu.Lock()
	have, ok := r.kept[ref]
	r.mu.Unlock()
	if ok && r.o.Now().Sub(have.at) < keepFor {
		return have.value, nil
	}
	return r.Fresh(ctx, ref)
}

// Fresh is Resolve for a value that has proven wrong: it is read whatever is known.
func (r *Resolver) Fresh(ctx context.Context, ref string) (string, error) {
	scheme := r.Scheme(ref)
	s, ok := r.sources[scheme]
	if !ok {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "", "not a reference to a secret")
	}
	parsed, err := s.parse(strings.TrimPrefix(ref, scheme))
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "write "+s.form(), "the reference %s… %w", scheme, err)
	}
	value, err := r.readTwice(ctx, s, parsed)
	if err != nil {
		return "", describe(ctx, scheme, s, parsed, err)
	}
	text, err := pick(value, parsed.field)
	if err != nil {
		return "", describe(ctx, scheme, s, parsed, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[ref] = kept{text, r.o.Now()}
	return text, nil
}

// readTwice reads, and once more where the first try may have met a bad moment.
func (r *Resolver) readTwice(ctx context.Context, s source, ref reference) (value []byte, err error) {
	err = twice(ctx, s.timeout(), func(ctx context.Context) (err error) {
		value, err = s.read(ctx, ref)
		return err
	})
	return value, err
}

// twice asks, and once more where the first try may have met a bad moment. Each try ends
// after the timeout.
func twice(ctx context.Context, timeout time.Duration, ask func(ctx context.Context) error) (err error) {
	for range 2 {
		err = func() error {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return ask(ctx)
		}()
		var p *problem
		if err == nil || ctx.Err() != nil || errors.As(err, &p) && p.what != unreachable && p.what != damaged {
			return err
		}
	}
	return err
}

// pick takes the one line that a secret is out of what was read.
func pick(value []byte, field string) (string, error) {
	if len(value) > maxBytes {
		return "", &problem{what: malformed, detail: "is larger than " + words.Size(maxBytes)}
	}
	text := string(value)
	if field != "" {
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil || object == nil {
			return "", &problem{what: malformed, detail: "is not a JSON object, and the reference names a field of one"}
		}
		raw, ok := object[field]
		if !ok {
			return "", &problem{what: noField}
		}
		if json.Unmarshal(raw, &text) != nil {
			return "", &problem{what: malformed, detail: "has a field of that name that is not a text"}
		}
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return "", &problem{what: malformed, detail: "is empty"}
	case strings.ContainsAny(text, "\n\r\x00"):
		return "", &problem{what: malformed, detail: "has more than one line"}
	}
	return text, nil
}

// trouble is what kept a secret from being read.
type trouble int

const (
	unreachable trouble = iota // and everything that may pass
	damaged                    // an answer came, and is not one
	refused
	notFound
	noField
	malformed
	misconfigured
)

// problem is an error of a source. It holds nothing of what was read, nor of where.
type problem struct {
	what trouble
	// detail is for people: the rest of a sentence for malformed, a sentence without its
	// stop else.
	detail, hint string
}

func (p *problem) Error() string { return p.detail }

// problemOf returns what is wrong, and its detail as it follows a sentence.
func problemOf(err error) (p *problem, detail string) {
	if !errors.As(err, &p) {
		return &problem{what: unreachable}, ""
	}
	if p.detail != "" {
		detail = ": " + p.detail
	}
	return p, detail
}

// describe makes the one line of an error.
func describe(ctx context.Context, scheme string, s source, ref reference, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("read a secret from %s: %w", scheme, context.Cause(ctx))
	}
	where := strings.TrimRight(scheme, ":/")
	if ref.place != "" {
		where += " (" + ref.place + ")"
	}
	p, detail := problemOf(err)
	switch p.what {
	case refused:
		return pgmedic.Errorf(pgmedic.KindUnreachable, or(p.hint, s.permission()), "%s refuses to give the secret%s", where, detail)
	case notFound:
		return pgmedic.Errorf(pgmedic.KindUsage, or(p.hint, "check the name in the reference: "+s.form()), "%s has no such secret%s", where, detail)
	case noField:
		return pgmedic.Errorf(pgmedic.KindUsage, "check what follows # in the reference: "+s.form(), "the secret of %s has no field of the name that the reference gives", where)
	case malformed:
		return pgmedic.Errorf(pgmedic.KindUsage, or(p.hint, "store the secret alone, as one line of text"), "the secret of %s %s", where, p.detail)
	case misconfigured:
		return pgmedic.Errorf(pgmedic.KindUsage, p.hint, "%s can't be asked%s", where, detail)
	case unreachable, damaged:
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, or(p.hint, "see that this host can reach it, and try again"), "%s can't be reached%s", where, detail)
}

func or(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// named splits place/path[/version][#field]. Without versions all that comes after the
// place is the path.
func named(rest string, versions bool) (r reference, err error) {
	rest, r.field, _ = strings.Cut(rest, "#")
	r.place, r.path, _ = strings.Cut(rest, "/")
	if versions {
		r.path, r.version, _ = strings.Cut(r.path, "/")
	}
	bad := func(s string) bool { return strings.ContainsAny(s, " \t\r\n?\\@:") }
	switch {
	case r.place == "" || r.path == "":
		return r, errors.New("is not complete")
	case bad(r.place) || strings.ContainsAny(r.path, " \t\r\n?\\") || bad(r.version) || strings.Contains(r.version, "/") ||
		strings.HasSuffix(r.path, "/") || strings.Contains("/"+r.path+"/", "/../") || strings.Contains(r.path, "//"):
		return r, errors.New("has characters that do not belong there")
	}
	return r, nil
}

// client is the HTTP client of the options, which follows no redirect: what is asked
// carries credentials.
func (o Options) client(transport http.RoundTripper) *http.Client {
	c := &http.Client{Transport: transport}
	if o.HTTP != nil {
		*c = *o.HTTP
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}
