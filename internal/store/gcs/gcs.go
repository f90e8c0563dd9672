// Package gcs keeps objects in a bucket of Google Cloud Storage.
package gcs

import (
	"cmp"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

const (
	// Scheme is what addresses of buckets begin with: gs://bucket/prefix.
	Scheme = "gs"
	// DefaultPartSizeBytes is how much of an upload is sent in one request.
	DefaultPartSizeBytes = 16 << 20
	// MinPartSizeBytes and MaxPartSizeBytes bound Options.PartSizeBytes.
	MinPartSizeBytes = 1 << 20
	// MaxPartSizeBytes is the other bound.
	MaxPartSizeBytes = 256 << 20
	// partUnit is what Google wants parts to be multiples of.
	partUnit = 256 << 10
)

// Options say where a store keeps its objects at Google, and how.
type Options struct {
	// Bucket is the bucket, which must exist. There is no default.
	Bucket string
	// Prefix comes before all keys, with a slash between. Empty is none.
	Prefix string
	// Endpoint is the URL of a server other than https://storage.googleapis.com, such as
	// a private endpoint. Empty is that.
	Endpoint string
	// CredentialsFile is a file of credentials, such as the key of a service account.
	// Empty leaves it to Google's library: GOOGLE_APPLICATION_CREDENTIALS, those that
	// gcloud keeps, or the identity of the machine. A file that has changed when Google
	// refuses what it had before is read again, at most every ten seconds.
	CredentialsFile string
	// UserProject pays for the requests, where the bucket wants that. Empty is the
	// bucket's own.
	UserProject string
	// StorageClass is that of new objects: STANDARD, NEARLINE, COLDLINE or ARCHIVE, all
	// of which can be read at once. Empty is the bucket's.
	StorageClass string
	// PartSizeBytes is how much of an object is sent in one request, a multiple of 256
	// KiB. A Put holds two of them in memory: the one that is sent, and the next. There is no limit on their number. Zero is
	// DefaultPartSizeBytes.
	PartSizeBytes int64
	// MaxAttempts is how often a request is tried, with growing pauses, where trying
	// again may help. Zero is remote.DefaultAttempts.
	MaxAttempts int
	// Logger receives warnings of requests that are tried again, and of a server that
	// does not answer. Nil disables logging.
	Logger *slog.Logger

	// now tells when credentials were read again; tests have their own. Nil: time.Now.
	now func() time.Time
}

// New returns a Store of a bucket. It sends no request. The caller closes it. An option
// that makes no sense is a pgmedic.KindUsage error.
//
// Put sends a small object in one request, and a larger one in a resumable upload, part
// after part; both refuse to replace what is there, and Google compares the sum of all
// bytes before it makes the object. An upload that failed is not an object; Google drops it
// after a week. Objects have a random word as metadata (pgmedic-put), by which a Put
// knows its own where an answer was lost.
func New(o Options) (*remote.Locking, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	notices := store.NewNotices(o.Logger, o.name())
	transport := notices.Transport()
	first, err := o.login(transport)
	if err != nil {
		return nil, err
	}
	logins := first.renewed(o, transport)
	service := &service{o: o, api: &api{
		logins: logins, plain: client(transport),
		endpoint: cmp.Or(o.Endpoint, googleEndpoint), bucket: o.Bucket, userProject: o.UserProject,
	}}
	return remote.NewLocking(service, remote.Options{
		Name: o.name(), Prefix: o.Prefix, PartSizeBytes: o.PartSizeBytes,
		MaxAttempts: o.MaxAttempts, Credentials: logins, Client: service.api.plain, Notices: notices, Logger: o.Logger,
	}), nil
}

// bucketName is Google's rule, and that of domains.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)

func bad(hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "Google Cloud Storage: "+format, args...)
}

// complete fills in defaults and refuses what makes no sense.
func (o *Options) complete() error {
	if !bucketName.MatchString(o.Bucket) {
		return bad("write gs://bucket/prefix", "%q is not the name of a bucket", o.Bucket)
	}
	if o.Prefix != "" {
		if err := store.CheckKey(o.Prefix); err != nil {
			return bad("write gs://bucket/prefix without empty parts", "%w", err)
		}
	}
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return bad("write it as https://host", "the endpoint is not a URL")
	} else if o.Endpoint != "" && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return bad("put credentials into GOOGLE_APPLICATION_CREDENTIALS", "the endpoint has more than scheme, host, port and path")
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if o.StorageClass != "" {
		o.StorageClass = strings.ToUpper(o.StorageClass)
		if classes := []string{"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"}; !slices.Contains(classes, o.StorageClass) {
			return bad("", "the storage class is one of %s, not %q", strings.Join(classes, ", "), o.StorageClass)
		}
	}
	if o.PartSizeBytes == 0 {
		o.PartSizeBytes = DefaultPartSizeBytes
	}
	if o.PartSizeBytes < MinPartSizeBytes || o.PartSizeBytes > MaxPartSizeBytes || o.PartSizeBytes%partUnit != 0 {
		return bad("", "the part size in bytes is from %d to %d, and a multiple of %d", MinPartSizeBytes, MaxPartSizeBytes, partUnit)
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = remote.DefaultAttempts
	}
	if o.MaxAttempts < 1 {
		return bad("", "attempts are at least 1")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// name is the place for people.
func (o *Options) name() string {
	name := Scheme + "://" + o.Bucket
	if o.Prefix != "" {
		name += "/" + o.Prefix
	}
	if o.Endpoint != "" {
		name += " at " + o.Endpoint
	}
	return name
}
