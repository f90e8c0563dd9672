package azuretest

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/pgmedic/pgmedic/internal/store/azure"
)

// Locks is a front of a Server that knows what Azure documents of version-level
// immutability policies and legal holds, of which Azurite knows nothing: who may delete and
// lengthen what, and the answers where that is refused. It holds nothing but locks, and does
// not check the signatures of the requests that it answers itself.
// (https://learn.microsoft.com/rest/api/storageservices/set-blob-immutability-policy)
type Locks struct {
	// Endpoint is the URL of the account behind the front.
	Endpoint string

	server *Server
	back   *url.URL

	mu         sync.Mutex
	apart      time.Duration   // of the server's clock
	containers map[string]bool // that have version-level immutability
	blobs      map[string]blobLock
	intercept  func(http.ResponseWriter, *http.Request) bool
}

// blobLock is what keeps a blob.
type blobLock struct {
	mode  string // unlocked or locked, or empty
	until time.Time
	held  bool
}

const (
	untilHeader = "X-Ms-Immutability-Policy-Until-Date"
	modeHeader  = "X-Ms-Immutability-Policy-Mode"
	holdHeader  = "X-Ms-Legal-Hold"
)

// Locks starts a front, and stops it at the end of the test.
func (s *Server) Locks() *Locks {
	s.tb.Helper()
	back, err := url.Parse(s.Endpoint)
	if err != nil {
		s.tb.Fatal(err)
	}
	l := &Locks{server: s, back: back, containers: map[string]bool{}, blobs: map[string]blobLock{}}
	proxy := &httputil.ReverseProxy{
		ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = back.Scheme, back.Host, back.Host
		},
		ModifyResponse: l.after,
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.before(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	s.tb.Cleanup(front.Close)
	l.Endpoint = front.URL + back.Path
	return l
}

// Container makes a container of a new name that has version-level immutability.
func (l *Locks) Container() string {
	l.server.tb.Helper()
	name := l.server.Container()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.containers[name] = true
	return name
}

// Options returns those that reach a container through the front.
func (l *Locks) Options(name string) azure.Options {
	o := l.server.Options(name)
	o.Endpoint = l.Endpoint
	return o
}

// ConnectionString is that of the account behind the front.
func (l *Locks) ConnectionString() string {
	return strings.Replace(l.server.ConnectionString(), l.server.Endpoint, l.Endpoint, 1)
}

// Apart has the server's clock be so far from this host's, in its answers about containers
// and for locks.
func (l *Locks) Apart(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apart = d
}

// Intercept has f see each request first; where it returns true, it has answered it. Nil
// ends that.
func (l *Locks) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.intercept = f
}

// Delete deletes a blob, with every permission but that to take locks off.
func (l *Locks) Delete(name, blob string) error {
	if l.refusesDeletion(name + "/" + blob) {
		return errors.New("the blob is locked")
	}
	_, err := l.server.Client(name).NewBlobClient(blob).Delete(context.Background(), nil)
	return err
}

func (l *Locks) refusesDeletion(blob string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	has := l.blobs[blob]
	return has.held || l.now().Before(has.until)
}

func (l *Locks) now() time.Time { return time.Now().Add(l.apart) }

// blobOf returns container/blob of a request.
func (l *Locks) blobOf(r *http.Request) string {
	return strings.TrimPrefix(r.URL.Path, l.back.Path+"/")
}

// lockIn reads the lock that a request sets.
func lockIn(h http.Header) (has blobLock, err error) {
	has.mode, has.held = strings.ToLower(h.Get(modeHeader)), h.Get(holdHeader) == "true"
	if text := h.Get(untilHeader); text != "" {
		has.until, err = time.Parse(time.RFC1123, text)
	}
	return has, err
}

// before answers a request that is about locks, or refuses it.
func (l *Locks) before(w http.ResponseWriter, r *http.Request) (answered bool) {
	l.mu.Lock()
	intercept := l.intercept
	l.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return true
	}
	comp := r.URL.Query().Get("comp")
	if r.Method == http.MethodPut && (comp == "immutabilityPolicies" || comp == "legalhold") {
		l.set(w, r, comp == "legalhold")
		return true
	}
	if r.Method == http.MethodDelete && l.refusesDeletion(l.blobOf(r)) {
		refuse(w, http.StatusConflict, bloberror.BlobImmutableDueToPolicy)
		return true
	}
	want, err := lockIn(r.Header)
	l.mu.Lock()
	defer l.mu.Unlock()
	container, _, _ := strings.Cut(l.blobOf(r), "/")
	if err != nil || want != (blobLock{}) && !l.containers[container] || !want.until.IsZero() && !want.until.After(l.now()) {
		refuse(w, http.StatusBadRequest, bloberror.InvalidHeaderValue)
		return true
	}
	return false
}

// set sets a policy or a hold of a blob that is there.
func (l *Locks) set(w http.ResponseWriter, r *http.Request, hold bool) {
	blob := l.blobOf(r)
	container, name, _ := strings.Cut(blob, "/")
	_, err := l.server.Client(container).NewBlobClient(name).GetProperties(context.Background(), nil)
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		refuse(w, answer.StatusCode, bloberror.BlobNotFound)
		return
	}
	want, err := lockIn(r.Header)
	l.mu.Lock()
	defer l.mu.Unlock()
	has := l.blobs[blob]
	switch {
	case err != nil, !l.containers[container], !hold && !want.until.After(l.now()):
		refuse(w, http.StatusBadRequest, bloberror.InvalidHeaderValue)
		return
	case hold:
		has.held = want.held
	case has.mode == "locked" && (want.mode != "locked" || want.until.Before(has.until)):
		refuse(w, http.StatusConflict, bloberror.BlobImmutableDueToPolicy)
		return
	default:
		has.mode, has.until = want.mode, want.until
	}
	l.blobs[blob] = has
	has.show(w.Header())
	w.WriteHeader(http.StatusOK)
}

// show puts a lock into an answer.
func (has blobLock) show(h http.Header) {
	if has.mode != "" {
		h.Set(modeHeader, has.mode)
		h.Set(untilHeader, has.until.UTC().Format(http.TimeFormat))
	}
	h.Set(holdHeader, strconv.FormatBool(has.held))
}

// after notes what a request made, and adds what is known of locks to its answer.
func (l *Locks) after(answer *http.Response) error {
	r := answer.Request
	blob := l.blobOf(r)
	q := r.URL.Query()
	l.mu.Lock()
	defer l.mu.Unlock()
	container, name, _ := strings.Cut(blob, "/")
	switch {
	case name == "" && q.Get("restype") == "container" && q.Get("comp") == "" && answer.StatusCode == http.StatusOK:
		answer.Header.Set("X-Ms-Immutable-Storage-With-Versioning-Enabled", strconv.FormatBool(l.containers[container]))
		answer.Header.Set("Date", l.now().UTC().Format(http.TimeFormat))
	case name == "":
	case r.Method == http.MethodPut && answer.StatusCode == http.StatusCreated && q.Get("comp") != "block":
		made, err := lockIn(r.Header)
		if err != nil {
			return err
		}
		l.blobs[blob] = made
	case r.Method == http.MethodHead && answer.StatusCode == http.StatusOK:
		l.blobs[blob].show(answer.Header)
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, code bloberror.Code) {
	w.Header().Set("X-Ms-Error-Code", string(code))
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>`+string(code)+`</Code><Message>refused</Message></Error>`)
}
