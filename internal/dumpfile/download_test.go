package dumpfile_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// download fetches from a server of the test's.
func download(t *testing.T, s *httptest.Server, change ...func(*dumpfile.DownloadOptions)) (content []byte, name string, err error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	o := dumpfile.DownloadOptions{SpoolOptions: dumpfile.SpoolOptions{Dir: t.TempDir()}, URL: s.URL + "/x.sql?sig=SECRET", Roots: roots, Wait: time.Millisecond, Loopback: true}
	for _, c := range change {
		c(&o)
	}
	file, name, err := dumpfile.Download(t.Context(), o)
	if err != nil {
		return nil, name, err
	}
	content, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content, name, nil
}

func TestDownload(t *testing.T) {
	want := bytes.Repeat([]byte("a row of a dump\n"), 100_000)
	for name, tt := range map[string]struct {
		tag    func(request int64) string
		ranges bool
	}{
		"goes on":                     {func(int64) string { return `"one"` }, true},
		"weak tags say nothing":       {func(int64) string { return `W/"one"` }, true},
		"without tags":                {func(int64) string { return "" }, true},
		"the file was changed":        {func(n int64) string { return fmt.Sprintf(`"%d"`, min(n, 3)) }, true},
		"a server that knows no part": {func(int64) string { return `"one"` }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var requests, resumed atomic.Int64
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := requests.Add(1)
				if tag := tt.tag(n); tag != "" {
					w.Header().Set("ETag", tag)
				}
				if !tt.ranges {
					r.Header.Del("Range")
				}
				if r.Header.Get("Range") != "" {
					resumed.Add(1)
				}
				if n < 3 { // it breaks twice
					w = &breaking{ResponseWriter: w, left: len(want) / 3}
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
			}))
			defer s.Close()
			got, called, err := download(t, s)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if strings.Contains(called, "SECRET") || !strings.HasSuffix(called, "/x.sql") {
				t.Errorf("called %s", called)
			}
			if name == "goes on" && resumed.Load() != 2 {
				t.Errorf("%d requests for a part", resumed.Load())
			}
		})
	}
}

// breaking ends a connection in the middle.
type breaking struct {
	http.ResponseWriter
	left int
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left < len(p) {
		_, _ = b.ResponseWriter.Write(p[:max(b.left, 0)])
		panic(http.ErrAbortHandler)
	}
	b.left -= len(p)
	return b.ResponseWriter.Write(p)
}

// TestDownloadEnds: a server that breaks again and again is given up, whatever it sends.
func TestDownloadEnds(t *testing.T) {
	all := bytes.Repeat([]byte("x"), 10_000)
	for name, tt := range map[string]struct {
		tag  string
		sent func(request int) int
	}{
		"a byte at a time":        {`"one"`, func(int) int { return 1 }},
		"sometimes a byte more":   {"", func(n int) int { return 500 + n%2 }},
		"from the beginning":      {"", func(int) int { return 700 }},
		"a byte more each time":   {"", func(n int) int { return 500 + n }},
		"nothing after a request": {`"one"`, func(n int) int { return 900 / n }},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := requests.Add(1)
				if tt.tag != "" {
					w.Header().Set("ETag", tt.tag)
				}
				http.ServeContent(&breaking{ResponseWriter: w, left: tt.sent(int(n))}, r, "", time.Time{}, bytes.NewReader(all))
			}))
			defer s.Close()
			_, _, err := download(t, s, func(o *dumpfile.DownloadOptions) { o.Tries = 4 })
			fixture.WantKind(t, err, pgmedic.KindUnreachable, "download ")
			if n := requests.Load(); n > 5 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestDownloadAtEnd: a connection that breaks behind the last byte has brought all, and a
// file that has become shorter is fetched again.
func TestDownloadAtEnd(t *testing.T) {
	for name, now := range map[string]string{"the same": "0123456789", "a shorter one": "abc"} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"one"`)
				if requests.Add(1) == 1 { // in chunks, without the last
					_, _ = w.Write([]byte("0123456789"))
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
				http.ServeContent(w, r, "", time.Time{}, strings.NewReader(now))
			}))
			defer s.Close()
			got, _, err := download(t, s)
			if err != nil || string(got) != now {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestDownloadRefused(t *testing.T) {
	answer := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		change  func(*dumpfile.DownloadOptions)
		kind    pgmedic.Kind
		words   string
	}{
		"redirected":    {answer(302, "Location", "http://169.254.169.254/latest/meta-data/SECRET"), nil, pgmedic.KindUsage, "redirects elsewhere"},
		"not there":     {answer(404), nil, pgmedic.KindNotFound, "no such file (404)"},
		"not allowed":   {answer(403), nil, pgmedic.KindUnreachable, "answers 403"},
		"down":          {answer(503), nil, pgmedic.KindUnreachable, "answers 503"},
		"too large":     {answer(200), func(o *dumpfile.DownloadOptions) { o.MaxBytes = 999 }, pgmedic.KindFailed, "larger than"},
		"not trusted":   {answer(200), func(o *dumpfile.DownloadOptions) { o.Roots = x509.NewCertPool() }, pgmedic.KindUnreachable, "not trusted"},
		"another part":  {answer(206, "Content-Range", "bytes 5-9/10"), nil, pgmedic.KindUnreachable, "answers 206"},
		"not encrypted": {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "http://127.0.0.1/SECRET" }, pgmedic.KindUsage, "not an address that a dump"},
		"with password": {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://me:SECRET@127.0.0.1/" }, pgmedic.KindUsage, "must not hold a password"},
		"metadata":      {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://169.254.169.254/SECRET" }, pgmedic.KindUsage, "not an address that a dump"},
		"mapped":        {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://[::ffff:169.254.169.254]/x" }, pgmedic.KindUsage, "not an address that a dump"},
		"unique local":  {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://[fd00:ec2::254]/x" }, pgmedic.KindUsage, "not an address that a dump"},
		"of no one":     {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://0.0.0.0/x" }, pgmedic.KindUsage, "not an address that a dump"},
		"this machine":  {answer(200), func(o *dumpfile.DownloadOptions) { o.Loopback = false }, pgmedic.KindUsage, "127.0.0.1 is not an address that a dump may be downloaded from"},
		"mapped to it":  {answer(200), func(o *dumpfile.DownloadOptions) { o.Loopback, o.URL = false, "https://[::ffff:127.0.0.1]/x" }, pgmedic.KindUsage, "not an address that a dump"},
		"by a proxy": {answer(200), func(o *dumpfile.DownloadOptions) {
			o.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://me:SECRET@proxy") }
		}, pgmedic.KindUsage, "HTTPS_PROXY names a proxy"},
		"nobody answers": {answer(200), func(o *dumpfile.DownloadOptions) { o.URL = "https://127.0.0.1:1/x?sig=SECRET" }, pgmedic.KindUnreachable, "download https://127.0.0.1:1/x"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewTLSServer(tt.handler)
			s.Config.ErrorLog = nil
			defer s.Close()
			if tt.change == nil {
				tt.change = func(*dumpfile.DownloadOptions) {}
			}
			_, _, err := download(t, s, tt.change)
			fixture.WantKind(t, err, tt.kind, tt.words)
			if err != nil && strings.Contains(err.Error()+pgmedic.HintOf(err), "SECRET") && name != "metadata" {
				t.Errorf("the message holds the signature: %v, %s", err, pgmedic.HintOf(err))
			}
		})
	}
}

func TestSpool(t *testing.T) {
	o := dumpfile.SpoolOptions{Dir: t.TempDir(), Name: "standard input", MaxBytes: 10}
	path, err := dumpfile.Spool(t.Context(), strings.NewReader("0123456789"), o)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 10 {
		t.Errorf("%v, %v", info, err)
	}
	o.Dir = t.TempDir()
	_, err = dumpfile.Spool(t.Context(), strings.NewReader("0123456789x"), o)
	fixture.WantKind(t, err, pgmedic.KindFailed, "larger than")
}
