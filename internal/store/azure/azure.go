// Package azure keeps objects in a container of Azure Blob Storage.
package azure

import (
	"context"
	"hash/crc64"
	"log/slog"
	"net/http"
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
	// Scheme is what addresses of containers begin with: azblob://container/prefix.
	Scheme = "azblob"
	// DefaultPartSizeBytes is how large the blocks of an upload begin.
	DefaultPartSizeBytes = 8 << 20
	// MinPartSizeBytes and MaxPartSizeBytes bound Options.PartSizeBytes. Blocks that
	// have grown stay at Azure's 4,000 MiB.
	MinPartSizeBytes = 1 << 20
	// MaxPartSizeBytes is the other bound.
	MaxPartSizeBytes = 250 << 20
	// DefaultConcurrency is how many blocks of one upload are sent at once.
	DefaultConcurrency = 2
)

// Options say where a store keeps its objects at Azure, and how.
type Options struct {
	// Container is the container, which must exist. There is no default.
	Container string
	// Prefix comes before all keys, with a slash between. Empty is none.
	Prefix string
	// Account is the storage account. Empty is that of ConnectionString; one of them or
	// Endpoint is needed.
	Account string
	// Endpoint is the URL of the account's blobs. Empty is that of ConnectionString, or
	// https://ACCOUNT.blob.core.windows.net.
	Endpoint string
	// ConnectionString holds account and credentials, Key is a key of the account,
	// SASToken a shared access signature. The first that is not empty counts. Without
	// any, credentials come from where Azure's SDK looks for them: a service principal
	// in the environment, a workload or managed identity, or the Azure CLI.
	ConnectionString, Key, SASToken string
	// Renew returns the three again where they are kept, whatever is known of them, after
	// the server has refused them. It is called by one goroutine at a time, and not more
	// often than every ten seconds. Account, container and endpoint stay as they are. Nil:
	// they can't have changed.
	Renew func(ctx context.Context) (Secrets, error)
	// AccessTier is that of new objects: Hot, Cool or Cold. Empty is the account's.
	AccessTier string
	// PartSizeBytes is how large the blocks of an upload begin. Smaller objects go in one
	// request. An upload of unknown size has to fit into 50,000 blocks, so blocks grow:
	// the first 10,000 have this size, the next 10,000 eight times as much, the others
	// sixteen times; an object may have 570,000 times this size. Zero is
	// DefaultPartSizeBytes, with which that is 4.3 TiB.
	PartSizeBytes int64
	// Concurrency is how many blocks of one upload are sent at once. A Put holds
	// Concurrency+1 blocks in memory, and two where blocks have grown. Zero is
	// DefaultConcurrency.
	Concurrency int
	// MaxAttempts is how often a request is tried, with growing pauses, where trying
	// again may help. Zero is remote.DefaultAttempts.
	MaxAttempts int
	// Logger receives warnings of requests that are tried again, and of a server that
	// does not answer. Nil disables logging.
	Logger *slog.Logger

	// now tells when credentials were read again; tests have their own. Nil: time.Now.
	now func() time.Time
}

// Secrets are those of Options.
type Secrets struct{ ConnectionString, Key, SASToken string }

// New returns a Store of a container. It sends no request. The caller closes it. An
// option that makes no sense is a pgmedic.KindUsage error.
//
// Put sends a small object in one request, and a larger one in blocks, which become an
// object by one last request; both refuse to replace what is there. Blocks of an upload
// that failed do not make an object, and Azure drops them after a week. Objects have a random
// word as metadata (pgmedicput), by which a Put knows its own where an answer was lost.
//
// Names that Azure would change are escaped: a segment that ends in a dot is followed by
// "__0x2e__", by which it is sorted, too. Blobs that stand for folders in an account
// with a hierarchical namespace are passed over.
func New(o Options) (*remote.Locking, error) { return newStore(o, allBlocks()) }

func newStore(o Options, blocks growth) (*remote.Locking, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	notices := store.NewNotices(o.Logger, o.name())
	client := &http.Client{Transport: notices.Transport()}
	first, err := o.login(client)
	if err != nil {
		return nil, err
	}
	s := &service{o: o, logins: first.renewed(o, client), crc: crc64.MakeTable(crcPolynomial), growth: blocks}
	return remote.NewLocking(s, remote.Options{
		Name: o.name(), Prefix: o.Prefix, Escape: escape, Unescape: unescape, PartSizeBytes: o.PartSizeBytes,
		MaxAttempts: o.MaxAttempts, Credentials: s.logins, Client: client, Notices: notices, Logger: o.Logger,
	}), nil
}

// containerName is Azure's rule.
var containerName = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)

// accountName is Azure's rule, and what is met in front of other servers.
var accountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)

func bad(hint, format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "Azure store: "+format, args...)
}

// complete fills in defaults and refuses what makes no sense.
func (o *Options) complete() error {
	if !containerName.MatchString(o.Container) || len(o.Container) > 63 {
		return bad("write azblob://container/prefix; a container's name has 3 to 63 small letters, digits and single dashes", "%q is not the name of a container", o.Container)
	}
	if o.Prefix != "" {
		if err := store.CheckKey(o.Prefix); err != nil {
			return bad("write azblob://container/prefix without empty parts", "%w", err)
		}
	}
	if err := o.takeConnectionString(); err != nil {
		return err
	}
	if o.Endpoint == "" && o.Account == "" {
		return bad("set AZURE_STORAGE_ACCOUNT or backup.azure.account, or AZURE_STORAGE_CONNECTION_STRING", "no storage account is given for azblob://%s", o.Container)
	}
	if o.Account != "" && !accountName.MatchString(o.Account) {
		return bad("correct AZURE_STORAGE_ACCOUNT or backup.azure.account: 3 to 24 small letters and digits", "the account's name is not one that a storage account can have")
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://" + o.Account + ".blob.core.windows.net"
	} else if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return bad("write it as https://ACCOUNT.blob.core.windows.net", "the endpoint is not a URL")
	} else if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad("put the token into AZURE_STORAGE_SAS_TOKEN", "the endpoint has more than scheme, host, port and path")
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	if o.Key != "" && o.Account == "" {
		return bad("set AZURE_STORAGE_ACCOUNT or backup.azure.account", "a key is given, and no account")
	}
	o.SASToken = strings.TrimPrefix(o.SASToken, "?")
	if q, err := url.ParseQuery(o.SASToken); o.SASToken != "" && (err != nil || q.Get("sig") == "") {
		return bad("look at AZURE_STORAGE_SAS_TOKEN: it is the part of a signed address behind the question mark", "the shared access signature is not one")
	}
	if o.AccessTier != "" {
		tiers := []string{"Hot", "Cool", "Cold"}
		i := slices.IndexFunc(tiers, func(tier string) bool { return strings.EqualFold(tier, o.AccessTier) })
		if i < 0 {
			return bad("what is in Archive can't be read, verified or drilled", "the access tier is Hot, Cool or Cold, not %q", o.AccessTier)
		}
		o.AccessTier = tiers[i]
	}
	return o.completeSizes()
}

func (o *Options) completeSizes() error {
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
		o.MaxAttempts = remote.DefaultAttempts
	}
	if o.Concurrency < 1 || o.Concurrency > 64 || o.MaxAttempts < 1 {
		return bad("", "concurrency is from 1 to 64, and attempts are at least 1")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// takeConnectionString takes a connection string apart, which overrides Key and
// SASToken. Its errors quote nothing of it.
func (o *Options) takeConnectionString() error {
	if o.ConnectionString == "" {
		return nil
	}
	const hint = "copy AZURE_STORAGE_CONNECTION_STRING again from the account's access keys"
	values := map[string]string{}
	for _, part := range strings.Split(strings.TrimRight(o.ConnectionString, "; \n"), ";") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return bad(hint, "the connection string is not of the form Name=Value;…")
		}
		values[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	account := values["accountname"]
	if o.Account != "" && account != "" && o.Account != account {
		return bad("take AZURE_STORAGE_ACCOUNT (backup.azure.account) out, or correct it", "the connection string is of account %q, and account %q is asked for", account, o.Account)
	}
	if o.Account == "" {
		o.Account = account
	}
	o.Key, o.SASToken = values["accountkey"], values["sharedaccesssignature"]
	if o.Key == "" && o.SASToken == "" {
		return bad(hint, "the connection string has neither AccountKey nor SharedAccessSignature")
	}
	if o.Key != "" {
		o.SASToken = ""
	}
	if o.Endpoint == "" {
		o.Endpoint = values["blobendpoint"]
	}
	if o.Endpoint == "" && account != "" {
		scheme, suffix := values["defaultendpointsprotocol"], values["endpointsuffix"]
		if scheme == "" {
			scheme = "https"
		}
		if suffix == "" {
			suffix = "core.windows.net"
		}
		o.Endpoint = scheme + "://" + account + ".blob." + suffix
	}
	return nil
}

// name is the place for people.
func (o *Options) name() string {
	name := Scheme + "://" + o.Container
	if o.Prefix != "" {
		name += "/" + o.Prefix
	}
	return name + " at " + o.Endpoint
}

// dotEnd follows a segment that ends in a dot: Azure drops such dots.
const dotEnd = "__0x2e__"

// escape gives a name without segments that end in a dot. The last segment of a prefix
// may be the beginning of one, and is left as it is.
func escape(key string, partial bool) string {
	if !strings.Contains(key, ".") {
		return key
	}
	segments := strings.Split(key, "/")
	for i, segment := range segments {
		if strings.HasSuffix(segment, ".") && (!partial || i < len(segments)-1) {
			segments[i] = segment + dotEnd
		}
	}
	return strings.Join(segments, "/")
}

// unescape undoes escape.
func unescape(name string) string {
	if !strings.Contains(name, "."+dotEnd) {
		return name
	}
	segments := strings.Split(name, "/")
	for i, segment := range segments {
		if before, ok := strings.CutSuffix(segment, "."+dotEnd); ok {
			segments[i] = before + "."
		}
	}
	return strings.Join(segments, "/")
}
