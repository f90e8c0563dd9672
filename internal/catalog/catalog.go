// Package catalog knows which backups a store holds and what is proven of
// each. The catalogue is a listing: a backup exists when its manifest does,
// and nothing stored is ever rewritten.
package catalog

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	manifestName     = "manifest.json"
	manifestHashName = "manifest.json.sha256"
	manifestMACName  = "manifest.json.hmac"
	keysFolder       = "keys"
	receiptsFolder   = "receipts"
	// A manifest of 100,000 tables is some 20 MB.
	maxManifestBytes = 256 << 20
)

// Catalog reads and extends the backups in one store.
type Catalog struct {
	store store.Store
}

// New returns the catalogue of a store.
func New(s store.Store) *Catalog { return &Catalog{store: s} }

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

// Folder is where a backup's objects live: server/database/id, with names
// percent-escaped.
func Folder(server, database, id string) string {
	return EscapeName(server) + "/" + EscapeName(database) + "/" + id
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

// Commit makes a backup exist: it checks that every object is stored at its
// size, then writes the manifest's hash, its authentication if mac is not nil,
// and, last, the manifest. None is ever overwritten, so an id that exists is an
// error of KindConflict.
func (c *Catalog) Commit(ctx context.Context, b *pgmedic.Backup, mac func(manifest []byte) (string, error)) error {
	for _, o := range b.Objects {
		stored, err := c.store.Stat(ctx, Key(b, o.Name))
		if err != nil {
			return fmt.Errorf("look at %s before the manifest is written: %w", o.Name, err)
		}
		if stored.SizeBytes != o.StoredBytes {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "run the backup again; is something else writing into the store?",
				"%s is %d bytes in the store, %d were written", o.Name, stored.SizeBytes, o.StoredBytes)
		}
	}
	manifest, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	manifest = append(manifest, '\n')
	sum := sha256.Sum256(manifest)
	line := hex.EncodeToString(sum[:]) + "  " + manifestName + "\n"
	if _, err := c.store.Put(ctx, Key(b, manifestHashName), strings.NewReader(line)); err != nil {
		return fmt.Errorf("store the manifest's hash: %w", err)
	}
	if mac != nil {
		code, err := mac(manifest)
		if err != nil {
			return err
		}
		if _, err := c.store.Put(ctx, Key(b, manifestMACName), strings.NewReader(code+"\n")); err != nil {
			return fmt.Errorf("store the manifest's authentication: %w", err)
		}
	}
	if _, err := c.store.Put(ctx, Key(b, manifestName), bytes.NewReader(manifest)); err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	return nil
}

// Authenticate has check compare the manifest of an encrypted backup with its
// authentication. The bytes that it is given are those that b was read from: a
// manifest that has changed since is an error of KindIntegrity, too.
func (c *Catalog) Authenticate(ctx context.Context, b *pgmedic.Backup, check func(manifest []byte, mac string) error) error {
	data, err := c.read(ctx, Key(b, manifestName), maxManifestBytes)
	if err != nil {
		return fmt.Errorf("read the manifest of backup %s: %w", b.ID, err)
	}
	mac, err := c.read(ctx, Key(b, manifestMACName), 1024)
	if errors.Is(err, store.ErrNotFound) {
		return damaged(b.ID, "the manifest's authentication is missing")
	}
	if err != nil {
		return fmt.Errorf("read the manifest's authentication of backup %s: %w", b.ID, err)
	}
	if err := check(data, string(mac)); err != nil {
		return fmt.Errorf("backup %s: %w", b.ID, err)
	}
	var again pgmedic.Backup
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(*b, again) {
		return damaged(b.ID, "the manifest changed while it was used")
	}
	return nil
}

// AddKey stores one wrap of a backup's key under a name.
func (c *Catalog) AddKey(ctx context.Context, b *pgmedic.Backup, name string, wrapped []byte) error {
	if _, err := c.store.Put(ctx, Key(b, keysFolder+"/"+EscapeName(name)+".age"), bytes.NewReader(wrapped)); err != nil {
		return fmt.Errorf("store key %q of backup %s: %w", name, b.ID, err)
	}
	return nil
}

// Keys returns the wraps of a backup's key, by name.
func (c *Catalog) Keys(ctx context.Context, b *pgmedic.Backup) (map[string][]byte, error) {
	wraps := map[string][]byte{}
	for object, err := range c.store.List(ctx, Key(b, keysFolder+"/")) {
		if err != nil {
			return nil, fmt.Errorf("list the keys of backup %s: %w", b.ID, err)
		}
		name, ok := strings.CutSuffix(path.Base(object.Key), ".age")
		if !ok {
			continue
		}
		data, err := c.read(ctx, object.Key, 64<<10)
		if err != nil {
			return nil, fmt.Errorf("read key %q of backup %s: %w", name, b.ID, err)
		}
		wraps[name] = data
	}
	return wraps, nil
}

// RemoveKey removes the wrap that Keys returns under a name. It is the caller's
// to keep another one: without any, nobody opens the backup again.
func (c *Catalog) RemoveKey(ctx context.Context, b *pgmedic.Backup, name string) error {
	if name == "" || strings.ContainsAny(name, "/\\") {
		return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic keys list shows the names", "%q is no key's name", name)
	}
	if err := c.store.Delete(ctx, Key(b, keysFolder+"/"+name+".age")); err != nil {
		return fmt.Errorf("remove key %q of backup %s: %w", name, b.ID, err)
	}
	return nil
}

// RestoreKey stores a wrap again that RemoveKey removed, under the name that Keys
// returned.
func (c *Catalog) RestoreKey(ctx context.Context, b *pgmedic.Backup, name string, wrapped []byte) error {
	if _, err := c.store.Put(ctx, Key(b, keysFolder+"/"+name+".age"), bytes.NewReader(wrapped)); err != nil {
		return fmt.Errorf("store key %q of backup %s again: %w", name, b.ID, err)
	}
	return nil
}

// AddReceipt stores a receipt beside its backup.
func (c *Catalog) AddReceipt(ctx context.Context, b *pgmedic.Backup, r *pgmedic.Receipt) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the receipt: %w", err)
	}
	// Nanoseconds keep two receipts of one second apart.
	name := r.At.UTC().Format("20060102T150405.000000000Z") + "-" + string(r.Kind) + ".json"
	if _, err := c.store.Put(ctx, Key(b, receiptsFolder+"/"+name), bytes.NewReader(append(data, '\n'))); err != nil {
		return fmt.Errorf("store the receipt: %w", err)
	}
	return nil
}

// backupKey matches the keys of a backup's objects: folder, id and name.
var backupKey = regexp.MustCompile(`^([^/]+/[^/]+/(\d{8}T\d{6}Z-[0-9a-f]{6}))/(.+)$`)

// readManifest reads a manifest and checks it against its hash and its place.
func (c *Catalog) readManifest(ctx context.Context, folder, id string) (*pgmedic.Backup, error) {
	data, err := c.read(ctx, folder+"/"+manifestName, maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of backup %s: %w", id, err)
	}
	line, err := c.read(ctx, folder+"/"+manifestHashName, 1024)
	if errors.Is(err, store.ErrNotFound) {
		return nil, damaged(id, "the manifest's hash is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("read the manifest's hash of backup %s: %w", id, err)
	}
	sum := sha256.Sum256(data)
	if want, _, _ := strings.Cut(string(line), " "); want != hex.EncodeToString(sum[:]) {
		return nil, damaged(id, "the manifest does not have its recorded hash")
	}
	var head struct {
		Format int `json:"format"`
	}
	var b pgmedic.Backup
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, damaged(id, "the manifest is not valid JSON")
	}
	if head.Format > pgmedic.ManifestFormat {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host",
			"backup %s has format %d; this version reads up to %d", id, head.Format, pgmedic.ManifestFormat)
	}
	if err := json.Unmarshal(data, &b); err != nil || head.Format < 1 {
		return nil, damaged(id, "the manifest is not one")
	}
	if b.ID != id || Folder(b.Server.Name, b.Database.Name, b.ID) != folder {
		return nil, damaged(id, "the manifest is that of backup "+b.ID)
	}
	return &b, nil
}

func damaged(id, what string) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s is damaged: %s", id, what)
}

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
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "", "%s is larger than %d bytes", key, limit)
	}
	return data, err
}
