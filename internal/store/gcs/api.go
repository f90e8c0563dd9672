package gcs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/pgmedic/pgmedic/internal/rotation"
)

const (
	// googleEndpoint is where Google's own service is.
	googleEndpoint = "https://storage.googleapis.com"
	// scope is what a token allows: to read, write and delete objects. To change locks
	// takes a token with lockScope.
	scope     = "https://www.googleapis.com/auth/devstorage.read_write"
	lockScope = "https://www.googleapis.com/auth/devstorage.full_control"
	// maxAnswerBytes bounds an answer in memory: a page of a thousand objects, whose names
	// have a kilobyte each, with room for their metadata.
	maxAnswerBytes = 16 << 20
	// maxErrorBytes bounds what is read of an answer that is an error.
	maxErrorBytes = 64 << 10
)

// api is the part of Google's JSON API that a store needs
// (https://docs.cloud.google.com/storage/docs/json_api/v1/objects).
type api struct {
	// logins are what requests are sent with that need a token; plain sends none along.
	logins      *rotation.Credential[login]
	plain       *http.Client
	endpoint    string // without a slash at its end
	bucket      string
	userProject string
}

// object is what Google says of an object. Numbers of 64 bits are text in its JSON.
type object struct {
	Name           string            `json:"name,omitempty"`
	Size           int64             `json:"size,omitempty,string"`
	TimeCreated    string            `json:"timeCreated,omitempty"`
	TimeDeleted    string            `json:"timeDeleted,omitempty"`
	SoftDeleteTime string            `json:"softDeleteTime,omitempty"`
	Generation     int64             `json:"generation,omitempty,string"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	ContentType    string            `json:"contentType,omitempty"`
	StorageClass   string            `json:"storageClass,omitempty"`
	Crc32c         string            `json:"crc32c,omitempty"`

	// Of locks.
	Metageneration          int64      `json:"metageneration,omitempty,string"`
	Retention               *retention `json:"retention,omitempty"`
	RetentionExpirationTime string     `json:"retentionExpirationTime,omitempty"`
	TemporaryHold           bool       `json:"temporaryHold,omitempty"`
	EventBasedHold          bool       `json:"eventBasedHold,omitempty"`
}

// retention is until when an object is kept by a time of its own.
type retention struct {
	Mode            string    `json:"mode,omitempty"`
	RetainUntilTime time.Time `json:"retainUntilTime,omitzero"`
}

// listing is a page of a listing.
type listing struct {
	Items         []object `json:"items"`
	Prefixes      []string `json:"prefixes"`
	NextPageToken string   `json:"nextPageToken"`
}

// client is that of one request which needs a token.
func (a *api) client() *http.Client {
	l, _ := a.logins.Current()
	return l.client
}

// locking is that of one request which changes a lock.
func (a *api) locking() (*http.Client, error) {
	l, _ := a.logins.Current()
	return l.locking()
}

// objects is the address of the bucket's objects, object that of one of them.
func (a *api) objects(query url.Values) string {
	return a.address("/storage/v1/b/"+url.PathEscape(a.bucket)+"/o", query)
}

func (a *api) object(name string, query url.Values) string {
	return a.address("/storage/v1/b/"+url.PathEscape(a.bucket)+"/o/"+url.PathEscape(name), query)
}

// bucketItself is the address of the bucket.
func (a *api) bucketItself(query url.Values) string {
	return a.address("/storage/v1/b/"+url.PathEscape(a.bucket), query)
}

// upload is the address at which objects are made.
func (a *api) upload(query url.Values) string {
	return a.address("/upload/storage/v1/b/"+url.PathEscape(a.bucket)+"/o", query)
}

func (a *api) address(path string, query url.Values) string {
	if a.userProject != "" {
		query.Set("userProject", a.userProject)
	}
	return a.endpoint + path + "?" + query.Encode()
}

// send sends a request, and returns the answer unless that is an error, of which a
// *googleapi.Error tells. The caller closes the answer's body.
func (a *api) send(client *http.Client, r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", "pgmedic")
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 || answer.StatusCode == http.StatusPermanentRedirect && answer.Header.Get("Location") == "" {
		return answer, nil
	}
	body := answer.Body
	answer.Body = io.NopCloser(io.LimitReader(body, maxErrorBytes))
	failed := googleapi.CheckResponse(answer)
	_ = body.Close() // of an answer that is an error anyway
	return nil, failed
}

// call sends a request without a body, and reads the JSON of its answer into into,
// unless that is nil.
func (a *api) call(ctx context.Context, method, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	_, _, err = a.ask(a.client(), r, into)
	return err
}

// ask sends a request, and reads the JSON of its answer into into, unless that is nil or
// the answer says that more is to be sent (308).
func (a *api) ask(client *http.Client, r *http.Request, into any) (status int, header http.Header, err error) {
	answer, err := a.send(client, r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	case len(text) > maxAnswerBytes:
		return 0, nil, errNotGoogle
	case into == nil, answer.StatusCode == http.StatusPermanentRedirect:
	case json.Unmarshal(text, into) != nil:
		return 0, nil, errNotGoogle // what is in it is nothing for a message
	}
	return answer.StatusCode, answer.Header, nil
}

// notGoogleError is that of an answer which is not one of the API.
type notGoogleError struct{}

func (notGoogleError) Error() string { return "the server's answer is not one of Google Cloud Storage" }

var errNotGoogle error = notGoogleError{}

// sameHost reports whether address leads to the endpoint's host in the same way.
func (a *api) sameHost(address string) bool {
	return strings.HasPrefix(address, a.origin()+"/")
}

// origin is scheme, host and port of the endpoint.
func (a *api) origin() string {
	u, err := url.Parse(a.endpoint)
	if err != nil { // Options were checked
		return a.endpoint
	}
	return u.Scheme + "://" + u.Host
}
