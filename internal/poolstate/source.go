package poolstate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Timeout bounds how long one service is waited for.
const Timeout = 10 * time.Second

// longestAnswer bounds what is read of one service. The pool's metrics are some KiB, those
// of everything else in the service may be a few hundred.
const longestAnswer = 8 << 20

// Source is where a pool is described.
type Source struct {
	url  *url.URL // nil of a file
	path string
}

// ParseSource reads the URL or the name of a file of a source.
func ParseSource(text string) (Source, error) {
	if text == "" {
		return Source{}, pgmedic.Errorf(pgmedic.KindUsage, "give a URL or a file", "the source of a pool is empty")
	}
	if !strings.Contains(text, "://") {
		return Source{path: text}, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // whose text has the URL, and that may have a secret
		return Source{}, pgmedic.Errorf(pgmedic.KindUsage, "give one such as http://clinic:8080/debug/pool", "the URL of a pool is not valid")
	case u.User != nil:
		return Source{}, pgmedic.Errorf(pgmedic.KindUsage, "other users of this machine can read arguments: save the answer into a file, and give that", "the URL of a pool has a user or a password")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return Source{}, pgmedic.Errorf(pgmedic.KindUsage, "give one such as http://clinic:8080/debug/pool", "the URL of a pool must begin with http:// or https:// and name a host")
	}
	if err := egress.New(true).CheckLiteral(u.Hostname()); err != nil {
		return Source{}, pgmedic.Errorf(pgmedic.KindUsage, hintAddress, "the host of the pool %s %w", Source{url: u}.Name(), err)
	}
	return Source{url: u}, nil
}

// hintAddress is what to do about an address that is refused.
const hintAddress = "give the address of the service"

// Name is what to call the source: a file's name, or a URL without its query, which may
// have a token.
func (s Source) Name() string {
	if s.url == nil {
		return s.path
	}
	return (&url.URL{Scheme: s.url.Scheme, Host: s.url.Host, Path: s.url.Path}).String()
}

// Check reads a source that is a file, so that one that can't be read is known before a
// server is asked for anything. Of a service it checks nothing.
func (s Source) Check(ctx context.Context) error {
	if s.Live() {
		return nil
	}
	if _, err := s.Read(ctx); err != nil {
		return pgmedic.Errorf(pgmedic.KindOf(err), pgmedic.HintOf(err), "read the pool %s: %w", s.path, err)
	}
	return nil
}

// Live reports whether it is a service, which says what is now, and not a file.
func (s Source) Live() bool { return s.url != nil }

// Read reads the description. It sends nothing but the request, follows no redirect, uses
// no proxy, and connects to no link-local address and to none by which clouds hand out
// credentials.
func (s Source) Read(ctx context.Context) (reading.Service, error) {
	data, err := s.load(ctx)
	if err != nil {
		return reading.Service{}, err
	}
	if len(data) > longestAnswer {
		return reading.Service{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "it is longer than %s", words.Size(longestAnswer))
	}
	service, err := Parse(data)
	service.Source = s.Name()
	return service, err
}

func (s Source) load(ctx context.Context) ([]byte, error) {
	if s.url != nil {
		return s.fetch(ctx)
	}
	// To open a pipe would wait for somebody who writes into it.
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, hint, "it is not a regular file")
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, longestAnswer+1))
	if err != nil {
		return nil, unreadable(err)
	}
	return data, nil
}

// unreadable is the error of a file that can't be opened or read, without its name, which
// the caller says.
func unreadable(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		err = of.Err
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "check the path and that this user may read it", "the file can't be read: %w", err)
}

func (s Source) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "the URL can't be asked")
	}
	request.Header.Set("Accept", "application/json, text/plain;version=0.0.4")
	// A service is in a private network: those are let through.
	transport := &http.Transport{
		DialContext: egress.New(true).Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the service: %w", withoutURL(err))
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "", "the service answered with status %d", answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of the service: %w", withoutURL(err))
	}
	return data, nil
}

// withoutURL returns what an error of net/http wraps, because its text has the URL with its
// query.
func withoutURL(err error) error {
	var of *url.Error
	if !errors.As(err, &of) {
		return err
	}
	var blocked *egress.BlockedError
	if errors.As(err, &blocked) {
		return pgmedic.Errorf(pgmedic.KindUsage, hintAddress, "its host %w", blocked)
	}
	if of.Timeout() {
		return fmt.Errorf("no answer within %s", words.Duration(Timeout))
	}
	return of.Err
}
