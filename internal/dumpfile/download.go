package dumpfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// SpoolOptions say how a dump that can be read once is kept to be read again, just as
// it came: what is encrypted stays so. Required: Dir.
type SpoolOptions struct {
	// Dir is a private folder; the dump is put into it.
	Dir string
	// Name is what people call the dump, without secrets.
	Name string
	// MaxBytes bounds it; zero means what the folder's disk has room for.
	MaxBytes int64
}

// Spool writes a stream into a file and returns its path. What the disk has no room
// for is an error before the disk is full.
func Spool(ctx context.Context, r io.Reader, o SpoolOptions) (path string, err error) {
	path = filepath.Join(o.Dir, "dump")
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindFailed, "check the folder for temporary files (TMPDIR)", "keep the dump: %w", err)
	}
	_, err = io.Copy(&spool{w: w, o: o}, &cancelled{ctx, r})
	return path, errors.Join(err, w.Close())
}

// spool is a file being filled.
type spool struct {
	w    io.Writer
	o    SpoolOptions
	n    int64
	next int64 // when the disk is asked for room again
}

// askAgain is how many bytes are written until the disk is asked for room again: less
// than what is always left to others.
const askAgain = spare / 2

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.o.MaxBytes > 0 && s.n+int64(len(p)) > s.o.MaxBytes {
		return 0, pgmedic.Errorf(pgmedic.KindFailed, "if it is really that large, allow it: --max-size 500GB", "%s is larger than %s", s.o.Name, words.Size(s.o.MaxBytes))
	}
	if s.n >= s.next {
		if err := refuseFull(s.o.Dir, askAgain); err != nil {
			return 0, fmt.Errorf("keep %s: %w", s.o.Name, err)
		}
		s.next = s.n + askAgain
	}
	n, err := s.w.Write(p)
	s.n += int64(n)
	if err != nil {
		err = pgmedic.Errorf(pgmedic.KindFailed, "free space there, or set TMPDIR to a folder that has it", "keep %s: %w", s.o.Name, err)
	}
	return n, err
}

// DownloadOptions say which dump is fetched by HTTPS. Required: URL and those of
// SpoolOptions; its Name is made of the URL.
type DownloadOptions struct {
	SpoolOptions
	// URL is the dump's. Its query may hold a signature, and is in no message.
	URL string
	// Roots are the authorities that are trusted; nil means the system's.
	Roots *x509.CertPool
	// Tries is how often in a row a broken download is gone on with, and Wait the pause
	// before that. Zero means 4 tries, and 2 seconds. Progress is by how many bytes it
	// must have grown beyond all that was there before for the tries to begin again; zero
	// means 1 MiB.
	Tries    int
	Wait     time.Duration
	Progress int64
	// Loopback allows servers of this machine.
	Loopback bool
	// Proxy says which proxy the environment has for a request. Nil means
	// http.ProxyFromEnvironment. None is used: such a URL is refused.
	Proxy func(*http.Request) (*url.URL, error)
}

// maxBreaks is how often a download may break in all.
const maxBreaks = 1000

// downloadTimeout bounds the wait for a server's answer, and that for its next bytes.
const downloadTimeout = time.Minute

// Download fetches a dump into a file and returns its path and what people call it: the
// URL without its query. A download that breaks is gone on with where it was, if the
// server says that the file is still the same, or else begins again. Redirections are
// not followed, and no address is connected to that only this machine or its cloud's
// metadata service has: a URL that somebody sent must not make pgmedic ask those.
func Download(ctx context.Context, o DownloadOptions) (path, name string, err error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", "", pgmedic.Errorf(pgmedic.KindUsage, "give https://host/path", "that is not an address that a dump can be downloaded from")
	}
	if u.User != nil {
		return "", "", pgmedic.Errorf(pgmedic.KindUsage, "download it with a program that reads passwords from a file, and pipe it into --file -",
			"a URL on the command line must not hold a password: every user of this machine can read it")
	}
	if o.Tries == 0 {
		o.Tries = 4
	}
	if o.Wait == 0 {
		o.Wait = 2 * time.Second
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if proxy, err := o.Proxy(&http.Request{URL: u}); proxy != nil || err != nil {
		return "", "", pgmedic.Errorf(pgmedic.KindUsage, "add the host to NO_PROXY, if it can be reached directly; or download it by other means, check it with sha256sum, and name the file",
			"HTTPS_PROXY names a proxy for %s, and a proxy would connect to addresses that pgmedic does not check", u.Host)
	}
	if o.Progress == 0 {
		o.Progress = 1 << 20
	}
	o.Name = u.Scheme + "://" + u.Host + u.EscapedPath()
	d := &download{o: o, client: guarded(o)}
	path = filepath.Join(o.Dir, "dump")
	if d.file, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		return "", "", pgmedic.Errorf(pgmedic.KindFailed, "check the folder for temporary files (TMPDIR)", "keep the dump: %w", err)
	}
	d.spool = spool{w: d.file, o: o.SpoolOptions}
	err = d.run(ctx)
	d.client.CloseIdleConnections()
	return path, o.Name, errors.Join(err, d.file.Close())
}

// guarded is a client that asks no address which no dump is kept at. It uses no proxy: that
// would look names up itself, and connect to what is refused here.
func guarded(o DownloadOptions) *http.Client {
	dialer := &net.Dialer{Timeout: downloadTimeout, Control: func(_, address string, _ syscall.RawConn) error { return refuseAddress(address, o.Loopback) }}
	transport := &http.Transport{
		DialContext: dialer.DialContext, TLSHandshakeTimeout: downloadTimeout, ResponseHeaderTimeout: downloadTimeout,
		DisableCompression: true, // the file as it lies there
		ForceAttemptHTTP2:  true,
	}
	if o.Roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// addressError is that of an address that is not connected to.
type addressError struct{ address netip.Addr }

// Error implements error.
func (r *addressError) Error() string {
	return r.address.String() + " is not an address that a dump may be downloaded from"
}

// metadata are the addresses at which clouds give their machines' credentials that are
// not link-local.
func metadata() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192")}
}

// refuseAddress refuses what a machine and its network have for themselves: its own
// addresses, link-local ones, where the metadata services of clouds are, and what is
// nobody's. It sees the address after its name was looked up. Private addresses are
// allowed: a dump may be kept on a server beside.
func refuseAddress(address string, loopback bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.IsLoopback() && !loopback || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || slices.Contains(metadata(), ip) {
		return &addressError{ip}
	}
	return nil
}

// download is a download going on.
type download struct {
	o      DownloadOptions
	client *http.Client
	file   *os.File
	spool  spool
	same   string // the validator by which the file is known to be the same
}

func (d *download) run(ctx context.Context) error {
	// Progress is what was never there before: a server that begins again each time, or
	// sends a byte at a time, is not asked without an end.
	var reached int64
	for try, breaks := 1, 0; ; try++ {
		err := d.once(ctx)
		var again *brokenError
		if err == nil || !errors.As(err, &again) {
			return err
		}
		if d.spool.n >= reached+d.o.Progress {
			try, reached = 1, d.spool.n // it goes on, slowly
		}
		if breaks++; try >= d.o.Tries || breaks >= maxBreaks {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "try again later, or download it by other means and name the file", "download %s: %w", d.o.Name, again.err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("download %s: %w", d.o.Name, context.Cause(ctx))
		case <-time.After(d.o.Wait):
		}
	}
}

// brokenError is a failure after which it may go on.
type brokenError struct{ err error }

func (b *brokenError) Error() string { return b.err.Error() }

// once asks for what is missing, and writes what comes.
func (d *download) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.o.URL, nil)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "give https://host/path", "that is not an address that a dump can be downloaded from")
	}
	if d.spool.n > 0 && d.same != "" {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.spool.n))
		request.Header.Set("If-Range", d.same)
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return d.failed(ctx, err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	if err := d.begin(answer); errors.Is(err, errWhole) {
		return nil
	} else if err != nil {
		return err
	}
	// A server that sends nothing more is as good as gone.
	idle := time.AfterFunc(downloadTimeout, func() { cancel(errSilent) })
	defer idle.Stop()
	_, err = io.Copy(&d.spool, &watched{answer.Body, idle})
	var known *pgmedic.Error
	switch {
	case err == nil && answer.ContentLength >= 0 && d.expected(answer) != d.spool.n:
		return &brokenError{io.ErrUnexpectedEOF}
	case err == nil || errors.As(err, &known):
		return err
	}
	return d.failed(ctx, err)
}

var errSilent = errors.New("the server sends nothing more")

// watched puts off the end of a silent connection with each byte.
type watched struct {
	r    io.Reader
	idle *time.Timer
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.idle.Reset(downloadTimeout)
	return n, err
}

// begin looks at an answer, and goes back to the beginning where the server does.
func (d *download) begin(answer *http.Response) error {
	switch code := answer.StatusCode; {
	case code == http.StatusPartialContent && d.spool.n > 0:
		var from int64
		if _, err := fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-", &from); err == nil && from == d.spool.n {
			return nil
		}
		return pgmedic.Errorf(pgmedic.KindUnreachable, "download it by other means and name the file", "download %s: the server sends another part than it was asked for", d.o.Name)
	case code == http.StatusOK:
		return d.restart(answer)
	case code == http.StatusRequestedRangeNotSatisfiable && d.spool.n > 0:
		return d.atEnd(answer)
	case code >= 300 && code < 400:
		hint := "name that address, if you trust it"
		if to, err := answer.Location(); err == nil {
			hint = fmt.Sprintf("name the address at %s that it redirects to, if you trust it", to.Host)
		}
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "download %s: the server redirects elsewhere, which is not followed", d.o.Name)
	case code == http.StatusNotFound || code == http.StatusGone:
		return pgmedic.Errorf(pgmedic.KindNotFound, "check the address", "download %s: the server has no such file (%d)", d.o.Name, code)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
		return &brokenError{fmt.Errorf("the server answers %d", code)}
	default:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "check the address, and whether its signature has expired", "download %s: the server answers %d", d.o.Name, code)
	}
}

// errWhole ends a download of which nothing is missing.
var errWhole = errors.New("nothing is missing")

// atEnd takes the answer of a server that has no byte behind those that came: the
// connection broke behind the last one, or the file is another one now.
func (d *download) atEnd(answer *http.Response) error {
	var total int64
	if _, err := fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes */%d", &total); err == nil && total == d.spool.n {
		return errWhole
	}
	d.same = "" // from the beginning
	return &brokenError{errors.New("the server has no such part of the file")}
}

// restart begins a file, which a server may have begun again.
func (d *download) restart(answer *http.Response) error {
	if err := d.file.Truncate(0); err != nil {
		return fmt.Errorf("keep %s: %w", d.o.Name, err)
	}
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keep %s: %w", d.o.Name, err)
	}
	d.spool.n, d.spool.next, d.same = 0, 0, ""
	if tag := answer.Header.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		d.same = tag
	}
	if answer.ContentLength > 0 {
		if d.o.MaxBytes > 0 && answer.ContentLength > d.o.MaxBytes {
			return pgmedic.Errorf(pgmedic.KindFailed, "if it is really that large, allow it: --max-size 500GB", "%s is larger than %s", d.o.Name, words.Size(d.o.MaxBytes))
		}
		return refuseFull(d.o.Dir, answer.ContentLength)
	}
	return nil
}

// expected is how large the file must be when an answer has come whole.
func (d *download) expected(answer *http.Response) int64 {
	if answer.StatusCode == http.StatusPartialContent {
		var from, to, total int64
		if _, err := fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &total); err == nil {
			return total
		}
		return d.spool.n
	}
	return answer.ContentLength
}

// failed is the error of a request. It holds no URL, which may have a signature.
func (d *download) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSilent) {
		return fmt.Errorf("download %s: %w", d.o.Name, cause)
	}
	var refused *addressError
	if errors.As(err, &refused) {
		return pgmedic.Errorf(pgmedic.KindUsage, "name the server that keeps the dump", "download %s: %w", d.o.Name, refused)
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "check the server's certificate; SSL_CERT_FILE names further authorities", "download %s: its certificate is not trusted", d.o.Name)
	}
	if context.Cause(ctx) != nil {
		err = errSilent
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &brokenError{err}
}
