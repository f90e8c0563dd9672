// Package s3 keeps objects in a bucket of Amazon S3, or of a server that speaks the same
// protocol.
package s3

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// DefaultPartSizeBytes is how large the parts of an upload begin.
	DefaultPartSizeBytes = 8 << 20
	// MinPartSizeBytes is the least that Options.PartSizeBytes may be, by S3's
	// own rule.
	MinPartSizeBytes = 5 << 20
	// MaxPartSizeBytes is the most: parts that have grown stay below S3's 5 GiB.
	MaxPartSizeBytes = 256 << 20
	// DefaultConcurrency is how many parts of one upload are sent at once.
	DefaultConcurrency = 2

	// defaultAttempts with maxBackoff wait some ten seconds before they give up
	// on a request.
	defaultAttempts = 6
	maxBackoff      = 10 * time.Second
	// cleanUpWithin bounds what is done after the caller's context has ended.
	cleanUpWithin = 15 * time.Second
)

// Options say where an S3 keeps its objects and how.
type Options struct {
	// Credentials are used by this store alone. Nil finds what the AWS SDK does: variables,
	// profiles, web identities, and the roles of containers and instances.
	Credentials *awsenv.Credentials
	// Bucket is the bucket, which must exist. There is no default.
	Bucket string
	// Prefix comes before all keys, with a slash between. Empty is none.
	Prefix string
	// Region is the bucket's. Empty leaves it to the environment and the shared
	// configuration; with Endpoint it is then us-east-1, which most servers
	// other than Amazon's take for theirs.
	Region string
	// Endpoint is the URL of a server other than Amazon's. Empty is Amazon's.
	Endpoint string
	// PathStyle puts the bucket into the path of requests rather than into the
	// host's name, which servers without wildcard names need.
	PathStyle bool
	// CACertFile is a file of PEM certificates that are trusted beside the
	// system's. Empty is none.
	CACertFile string
	// StorageClass is that of new objects, such as STANDARD_IA. Empty is the
	// bucket's. Classes that must be thawed before they can be read defeat
	// verification and drills.
	StorageClass string
	// ServerSideEncryption is AES256 or aws:kms. Empty is the bucket's default.
	ServerSideEncryption string
	// KMSKeyID is the key of aws:kms. Empty is the account's.
	KMSKeyID string
	// PartSizeBytes is how large the parts of an upload begin. Smaller objects
	// go in one request. An upload of unknown size has to fit into 10,000 parts,
	// so parts grow: the first 1,000 have this size, the next 1,000 eight times
	// as much, the others sixteen times; an object may have 137,000 times this
	// size. Zero is DefaultPartSizeBytes, with which that is 1.04 TiB.
	PartSizeBytes int64
	// Concurrency is how many parts of one upload are sent at once. A Put holds
	// Concurrency+1 parts in memory, and two where parts have grown. Zero is
	// DefaultConcurrency.
	Concurrency int
	// MaxAttempts is how often a request is tried, with growing pauses, where
	// trying again may help. Zero is 6.
	MaxAttempts int
	// Logger receives a warning for requests that are tried again, and within seconds for a
	// server that does not answer. Nil discards it.
	Logger *slog.Logger
}

// Store is a store.Store of the objects in a bucket of Amazon S3, or of a server that
// speaks the same protocol. The server must heed If-None-Match in PutObject and
// in CompleteMultipartUpload; `pgmedic check` tells.
//
// Put sends a small object in one request and a larger one in parts, which
// become an object by one last request. It gives each object a random word as
// metadata, so that it knows its own: when an answer is lost it looks, and says
// truthfully whether its object is there. What has failed is aborted, also after
// ctx has ended. A process that is killed leaves parts behind that are no object
// and are paid for: have the bucket abort incomplete uploads after some days.
//
// A reader that is cut off goes on with a new request, a bounded number of
// times, and never with another object of the same name.
//
// A key with the Prefix before it must fit into S3's 1024 bytes. "../" within a
// key, as in "x../y", is stored as "x..__0x2f__y", by which it is sorted,
// too.
type Store struct {
	client *awss3.Client
	o      Options
	prefix string // of all names in the bucket: empty, or ending in a slash
	name   string
	log    *slog.Logger
	idle   func()
	// spares are buffers of a part's usual size, from uploads that have ended.
	spares chan []byte
	// locks is true once it is known that the bucket can lock objects.
	locks atomic.Bool
}

// maxSpares is how many buffers wait for another upload.
const maxSpares = 16

var _ store.Store = (*Store)(nil)

// New returns a Store of a bucket. It sends no request. The caller closes it.
// An option that makes no sense is a pgmedic.KindUsage error.
func New(ctx context.Context, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	w := store.NewNotices(o.Logger, o.String())
	client, err := o.httpClient(w)
	if err != nil {
		return nil, err
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			o.Logger.Debug("the S3 client says", "message", fmt.Sprintf(format, v...))
		})),
		config.WithRetryer(func() aws.Retryer {
			return retryer{retry.NewStandard(func(s *retry.StandardOptions) {
				s.MaxAttempts, s.MaxBackoff = o.MaxAttempts, maxBackoff
			}), w}
		}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	cfg, err := o.Credentials.Load(ctx, load...)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "look at AWS_PROFILE and the files ~/.aws/config and ~/.aws/credentials",
			"read the AWS configuration: %w", err)
	}
	if cfg.Region == "" && o.Endpoint == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set AWS_REGION in the environment or .env, or backup.s3.region", "no region is given for %s", o.String())
	} else if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	s := &Store{o: o, log: o.Logger, name: o.String(), idle: func() {}, spares: make(chan []byte, maxSpares)}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = c.Freeze() // with what AWS_CA_BUNDLE added
	}
	if c, ok := cfg.HTTPClient.(interface{ CloseIdleConnections() }); ok {
		s.idle = c.CloseIdleConnections
	}
	if o.Prefix != "" {
		s.prefix = o.Prefix + "/"
	}
	s.client = awss3.NewFromConfig(cfg, func(c *awss3.Options) {
		c.UsePathStyle = o.PathStyle
		c.APIOptions = append(c.APIOptions, watchRequests(w))
		c.DisableLogOutputChecksumValidationSkipped = true
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	return s, nil
}

// complete fills in defaults and refuses what makes no sense.
func (o *Options) complete() error {
	bad := func(hint, format string, args ...any) error {
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "S3 store: "+format, args...)
	}
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/?#@: ") {
		return bad("write s3://bucket/prefix", "%q is not the name of a bucket", o.Bucket)
	}
	if o.Prefix != "" {
		if err := store.CheckKey(o.Prefix); err != nil {
			return bad("write s3://bucket/prefix without empty parts", "%w", err)
		}
	}
	if u, err := url.Parse(o.Endpoint); o.Endpoint != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		return bad("write it as https://host:port", "the endpoint is not a URL")
	} else if o.Endpoint != "" && (u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return bad("put credentials into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile", "the endpoint has more than scheme, host, port and path")
	}
	switch o.ServerSideEncryption {
	case "", "AES256", "aws:kms":
	default:
		return bad("", "server-side encryption is AES256 or aws:kms, not %q", o.ServerSideEncryption)
	}
	if o.KMSKeyID != "" && o.ServerSideEncryption != "aws:kms" {
		return bad("set server-side encryption to aws:kms", "a KMS key is given but not used")
	}
	if o.PartSizeBytes == 0 {
		o.PartSizeBytes = DefaultPartSizeBytes
	}
	if o.PartSizeBytes < MinPartSizeBytes || o.PartSizeBytes > MaxPartSizeBytes {
		return bad("", "the part size in bytes is from %d to %d", MinPartSizeBytes, MaxPartSizeBytes)
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = defaultAttempts
	}
	if o.Concurrency < 1 || o.Concurrency > 64 || o.MaxAttempts < 1 {
		return bad("", "concurrency is from 1 to 64, and attempts are at least 1")
	}
	o.Credentials = cmp.Or(o.Credentials, awsenv.NewCredentials(awsenv.CredentialsOptions{}))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// String names the place as a URL, and the server where it isn't Amazon's.
func (o Options) String() string {
	name := "s3://" + o.Bucket
	if o.Prefix != "" {
		name += "/" + o.Prefix
	}
	if o.Endpoint != "" {
		name += " at " + o.Endpoint
	}
	return name
}

// httpClient returns a client that gives up on connections that stall, and
// trusts CACertFile.
func (o *Options) httpClient(w *store.Notices) (*awshttp.BuildableClient, error) {
	var pool *x509.CertPool // nil is the system's
	if o.CACertFile != "" {
		pem, err := os.ReadFile(o.CACertFile)
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "look at backup.s3.ca_file", "read the certificates to trust: %w", err)
		}
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "look at backup.s3.ca_file", "%s holds no PEM certificate", o.CACertFile)
		}
	}
	return awshttp.NewBuildableClient().WithReadTimeout(0).WithTransportOptions(func(t *http.Transport) {
		w.Limit(t)
		t.TLSClientConfig.RootCAs = pool
	}), nil
}

// Close ends idle connections. No method may be called afterwards.
func (s *Store) Close() error {
	s.idle()
	return nil
}

// String names the bucket, the prefix and the server.
func (s *Store) String() string { return s.name }

// begin checks what every method checks first, and returns the name of key in
// the bucket.
func (s *Store) begin(ctx context.Context, op, key string) (name string, err error) {
	if err := store.CheckKey(key); err != nil {
		return "", fmt.Errorf("%s: %w", op, err)
	}
	if err := store.Ended(ctx); err != nil {
		return "", fmt.Errorf("%s %s: %w", op, key, err)
	}
	if len(s.prefix)+len(key) > store.MaxKeyBytes {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "use a shorter prefix", "%s: with its prefix, key %.100q… is longer than 1024 bytes", op, key)
	}
	return escapeDots(s.prefix + key), nil
}

// escapeDots gives a name without "../", which S3's clients and some servers take for a
// way up.
func escapeDots(name string) string { return strings.ReplaceAll(name, "../", escapedDots) }

// unescapeDots undoes escapeDots.
func unescapeDots(name string) string { return strings.ReplaceAll(name, escapedDots, "../") }

const escapedDots = "..__0x2f__"
