package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"weak"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

const (
	// maxManifestBytes and maxManifestMemory bound a manifest as it is stored and
	// as it is held in memory: some 60,000 tables of ten columns.
	maxManifestBytes  = 64 << 20
	maxManifestMemory = 128 << 20
	// maxIndented is how large a manifest may be that is written for people.
	maxIndented = 8 << 20
)

// Commit makes a backup exist: it holds the manifest against itself, checks that
// every object is stored at its size and that the store can list them, for else the
// backup could not be found again, then writes the manifest's hash, its
// authentication if mac is not nil, the signatures of signers, and, last, the manifest.
// None is ever overwritten, so an id that exists is an error of KindConflict.
func (c *Catalog) Commit(ctx context.Context, b *pgmedic.Backup, mac func(manifest []byte) (string, error), signers ...*signature.Key) error {
	if err := b.Check(); err != nil {
		return pgmedic.Errorf(pgmedic.KindFailed, "this is a fault of pgmedic: please report it, and back up with --method plain meanwhile",
			"the backup is not committed: %w", err)
	}
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
	for object, err := range c.store.List(ctx, Key(b, "")) {
		if err != nil {
			return fmt.Errorf("list the backup's objects before the manifest is written: %w", err)
		}
		if object.Key == Key(b, markName) {
			return errMarked(b, c)
		}
	}
	b.Audit = c.anchor(ctx)
	manifest, err := encodeManifest(b)
	if err != nil {
		return err
	}
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
	for _, signer := range signers {
		if err := signable(c, Folder(b.Server.Name, b.Database.Name, b.ID), b.ID, manifest).Put(ctx, signer); err != nil {
			return err
		}
	}
	if _, err := c.store.Put(ctx, Key(b, manifestName), bytes.NewReader(manifest)); err != nil {
		return fmt.Errorf("store the manifest: %w", err)
	}
	return nil
}

// encodeManifest writes a manifest, and refuses one that no reader would take.
func encodeManifest(b *pgmedic.Backup) ([]byte, error) {
	manifest, err := marshalManifest(b)
	if err == nil && len(manifest) < maxIndented {
		var indented bytes.Buffer
		err = json.Indent(&indented, manifest, "", "  ")
		manifest = indented.Bytes()
	}
	if err != nil {
		return nil, fmt.Errorf("write the manifest: %w", err)
	}
	if manifest = append(manifest, '\n'); len(manifest) > maxManifestBytes || measure(manifest, manifestWeights()).memory > maxManifestMemory {
		return nil, pgmedic.Errorf(pgmedic.KindFailed, "back up parts of the database, by schemas: --schema NAME",
			"a database of %s tables is too large for one manifest", pgmedic.Count(len(b.Tables)))
	}
	return manifest, nil
}

// readManifest reads a manifest and checks it against its hash, its place and
// itself. It returns the bytes, too.
func (c *Catalog) readManifest(ctx context.Context, folder, id string) (*pgmedic.Backup, []byte, error) {
	data, err := c.read(ctx, folder+"/"+manifestName, maxManifestBytes)
	if errors.Is(err, errTooLarge) {
		return nil, nil, damaged(id, "the manifest is larger than any that pgmedic writes")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the manifest of backup %s: %w", id, err)
	}
	line, err := c.read(ctx, folder+"/"+manifestHashName, 1024)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil, damaged(id, "the manifest's hash is missing")
	case errors.Is(err, errTooLarge):
		return nil, nil, damaged(id, "the manifest's hash is larger than one")
	case err != nil:
		return nil, nil, fmt.Errorf("read the manifest's hash of backup %s: %w", id, err)
	}
	sum := sha256.Sum256(data)
	if want, _, _ := strings.Cut(string(line), " "); want != hex.EncodeToString(sum[:]) {
		return nil, nil, damaged(id, "the manifest does not have its recorded hash")
	}
	b, err := decodeManifest(data, id)
	if err != nil {
		return nil, nil, err
	}
	if b.ID != id || Folder(b.Server.Name, b.Database.Name, b.ID) != folder {
		return nil, nil, damaged(id, fmt.Sprintf("the manifest is that of backup %.40s of database %.63q of server %.63q, which has another folder",
			b.ID, b.Database.Name, b.Server.Name))
	}
	switch err := b.Check(); {
	case pgmedic.KindOf(err) == pgmedic.KindUsage && err != nil: // of a later version
		return nil, nil, fmt.Errorf("backup %s: %w", id, err)
	case err != nil:
		return nil, nil, damaged(id, err.Error())
	}
	return b, data, nil
}

// decodeManifest decodes a manifest once it is known how much memory that takes.
func decodeManifest(data []byte, id string) (*pgmedic.Backup, error) {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, damaged(id, "the manifest is not valid JSON")
	}
	if head.Format > pgmedic.LatestFormat {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host",
			"backup %s has format %d; this version reads up to %d", id, head.Format, pgmedic.LatestFormat)
	}
	m := measure(data, manifestWeights())
	if m.memory > maxManifestMemory {
		return nil, damaged(id, "the manifest lists more than any that pgmedic writes")
	}
	b := &pgmedic.Backup{}
	// A slice that grows takes twice its size.
	if n := m.elements["tables"]; n > 0 {
		b.Tables = make([]pgmedic.Table, 0, n)
	}
	if n := m.elements["chunks"]; n > 0 {
		b.Chunks = make([]pgmedic.Chunk, 0, n)
	}
	if n := m.elements["objects"]; n > 0 {
		b.Objects = make([]pgmedic.Object, 0, n)
	}
	if err := json.Unmarshal(data, b); err != nil || head.Format < 1 {
		return nil, damaged(id, "the manifest is not one")
	}
	if bytes.Contains(data, []byte(`"\u0000`)) {
		replaceText(reflect.ValueOf(b).Elem(), pgmedic.UnescapeBytes)
	}
	return b, nil
}

// Manifest is a manifest as it is stored, with its authentication and signatures.
type Manifest struct {
	signature.Manifest
	mac string
	// missing is true where the authentication is not there.
	missing bool
}

// Authenticate has check compare the manifest with its authentication. check is
// seal.Key.CheckMAC. A manifest without one is an error of KindIntegrity.
func (m *Manifest) Authenticate(check func(manifest []byte, mac string) error) error {
	if m.missing {
		return damaged(m.ID, "the manifest's authentication is missing")
	}
	if err := check(m.Data, m.mac); err != nil {
		return fmt.Errorf("backup %s: %w", m.ID, err)
	}
	return nil
}

// Manifest reads the manifest that b was read from again, to be authenticated. One
// that has changed since is an error of KindIntegrity.
func (c *Catalog) Manifest(ctx context.Context, b *pgmedic.Backup) (*Manifest, error) {
	data, err := c.read(ctx, Key(b, manifestName), maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of backup %s: %w", b.ID, err)
	}
	if !c.unchanged(b, data) {
		return nil, damaged(b.ID, "the manifest changed while it was used")
	}
	return c.signed(ctx, Folder(b.Server.Name, b.Database.Name, b.ID), b.ID, data)
}

// signable is a manifest that is or will be stored.
func signable(c *Catalog, folder, id string, data []byte) signature.Manifest {
	return signature.Manifest{Store: c.store, Folder: folder, ID: id, Data: data}
}

// signed adds a manifest's authentication to its bytes.
func (c *Catalog) signed(ctx context.Context, folder, id string, data []byte) (*Manifest, error) {
	m := &Manifest{Manifest: signable(c, folder, id, data)}
	mac, err := c.read(ctx, folder+"/"+manifestMACName, 1024)
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errTooLarge):
		m.missing = true
	case err != nil:
		return nil, fmt.Errorf("read the manifest's authentication of backup %s: %w", id, err)
	}
	m.mac = string(mac)
	return m, nil
}

// Exists reports whether a backup's manifest is still there.
func (c *Catalog) Exists(ctx context.Context, b *pgmedic.Backup) (bool, error) {
	_, err := c.store.Stat(ctx, Key(b, manifestName))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// remember notes from which bytes a backup was read, until nothing uses the backup.
func (c *Catalog) remember(b *pgmedic.Backup, data []byte) {
	key := weak.Make(b)
	c.mu.Lock()
	if c.sums == nil {
		c.sums = map[weak.Pointer[pgmedic.Backup]][sha256.Size]byte{}
	}
	c.sums[key] = sha256.Sum256(data)
	c.mu.Unlock()
	runtime.AddCleanup(b, func(key weak.Pointer[pgmedic.Backup]) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.sums, key)
	}, key)
}

// unchanged reports whether a backup was read from these bytes, or, where it was
// not read here, is what they say.
func (c *Catalog) unchanged(b *pgmedic.Backup, data []byte) bool {
	c.mu.Lock()
	sum, known := c.sums[weak.Make(b)]
	c.mu.Unlock()
	if known {
		return sum == sha256.Sum256(data)
	}
	again, err := decodeManifest(data, b.ID)
	if err != nil {
		return false
	}
	if reflect.DeepEqual(b, again) {
		return true
	}
	// As JSON: the backup may be one that was just taken, and not read from it.
	want, err := marshalManifest(b)
	if err != nil {
		return false
	}
	have, err := marshalManifest(again)
	return err == nil && bytes.Equal(have, want)
}
