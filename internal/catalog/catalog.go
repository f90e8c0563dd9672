// Package catalog knows which backups a store holds and what is proven of
// each. The catalogue is a listing: a backup exists when its manifest does,
// and nothing stored is ever rewritten.
package catalog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	manifestName     = "manifest.json"
	manifestHashName = "manifest.json.sha256"
	manifestMACName  = "manifest.json.hmac"
	keysFolder       = "keys"
	receiptsFolder   = "receipts"
)

// Catalog reads and extends the backups in one store.
type Catalog struct {
	store store.Store
	// anchor is that of WithAnchor.
	anchor Anchor

	mu sync.Mutex
	// sums are the hashes of the manifests that whole backups were read from, as long as
	// those are used.
	sums map[weak.Pointer[pgmedic.Backup]][sha256.Size]byte
}

// New returns the catalogue of a store.
func New(s store.Store) *Catalog { return WithAnchor(s, noAnchor) }

func noAnchor(context.Context) *pgmedic.AuditAnchor { return nil }

// Anchor returns the head of the host's audit log now, or nil where there is none.
type Anchor func(context.Context) *pgmedic.AuditAnchor

// WithAnchor returns the catalogue of a store that writes an anchor into each manifest
// and each receipt.
func WithAnchor(s store.Store, anchor Anchor) *Catalog { return &Catalog{store: s, anchor: anchor} }

// Store returns the store whose catalogue this is.
func (c *Catalog) Store() store.Store { return c.store }

// NewID returns the id of a backup begun at the given time: the time in UTC and
// three random bytes, so that ids sort by time and two hosts that begin in the
// same second do not collide.
func NewID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails: it would end the program instead
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

// clusterFolder is that of physical backups, beside those of databases, whose names never
// have an @.
const clusterFolder = "@cluster"

// Folder is where a backup's objects live: server/database/id, with names
// percent-escaped, or server/@cluster/id where there is no database: a physical backup.
func Folder(server, database, id string) string {
	return EscapeName(server) + "/" + databaseFolder(database) + "/" + id
}

func databaseFolder(database string) string {
	if database == "" {
		return clusterFolder
	}
	return EscapeName(database)
}

// Key is the key of one of a backup's objects.
func Key(b *pgmedic.Backup, name string) string {
	return Folder(b.Server.Name, b.Database.Name, b.ID) + "/" + name
}

// EscapeName makes any name one segment of a key: everything but letters,
// digits and "_", "-", and "." inside is percent-escaped, byte by byte.
func EscapeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' ||
			c == '.' && i > 0
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// backupKey matches the keys of a backup's objects: folder, id and name.
var backupKey = regexp.MustCompile(`^([^/]+/[^/]+/(\d{8}T\d{6}Z-[0-9a-f]{6}))/(.+)$`)

// backupFolder matches a backup's folder, with the slash at its end.
var backupFolder = regexp.MustCompile(`^[^/]+/[^/]+/\d{8}T\d{6}Z-[0-9a-f]{6}/$`)

func damaged(id, what string) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s is damaged: %s", id, what)
}

// errTooLarge is found in the error of read where an object has more bytes than
// one of its kind can have.
var errTooLarge = errors.New("too large for what it is")

// read returns a small object. One that is larger than the limit is an error of
// KindIntegrity, and not read further.
func (c *Catalog) read(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := c.store.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err == nil && int64(len(data)) > limit {
		return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is larger than %d bytes: %w", key, limit, errTooLarge)
	}
	return data, err
}
