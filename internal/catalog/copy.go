package catalog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
)

// CopyOptions say what is copied where. Required: To, Backup.
type CopyOptions struct {
	// To is the catalogue that the backup is copied into.
	To *Catalog
	// Backup is one of the catalogue that is copied from.
	Backup *pgmedic.Backup
	// Trusted are the signers that this host believes, or nil. Their signatures are
	// copied before others.
	Trusted signature.Signers
	// Jobs is how many objects are copied at once. Zero is 4. Each holds what a
	// Put of To's store holds: for S3 some parts.
	Jobs     int
	Progress func(pgmedic.Event)
}

// Copied says what a copy came to.
type Copied struct {
	// Copied and Kept count objects: those that were written, and those that
	// were there already and are the same.
	Copied      int   `json:"copied"`
	Kept        int   `json:"kept"`
	CopiedBytes int64 `json:"copied_bytes"`
}

// copyStep is the name of the step in progress.
const copyStep = "copy"

// notEncrypted and sealedByAge are what a manifest says of its encryption.
const (
	notEncrypted = "none"
	sealedByAge  = "age"
)

// CopyTo copies a backup, sealed as it is, into another catalogue: its objects,
// then the ways to open it, then the manifest, by which the copy exists. No key is needed. Sizes and hashes are checked on the way, so
// that what is damaged is not copied (KindIntegrity).
//
// It goes on where an earlier one stopped: an object that is there is read and
// kept if it is the same; where the manifest is there, too, its size suffices.
// Another one of the same name is an error of KindConflict, and never
// overwritten. Two at once do no harm. Where the manifest is there already what
// is missing beside it is added: objects, ways to open it and receipts.
//
// Signatures that can't all be copied don't keep the rest from it: the copy is made, and
// the error is of KindConflict where something is in their way, or of KindIntegrity where
// there are more than a backup has.
//
// Receipts of a verification that failed are not copied: they tell of the bytes
// in one place.
func (c *Catalog) CopyTo(ctx context.Context, o CopyOptions) (Copied, error) {
	k := &copier{from: c, to: o.To, backup: o.Backup, folder: Folder(o.Backup.Server.Name, o.Backup.Database.Name, o.Backup.ID), progress: o.Progress}
	err := k.run(ctx, o)
	if err != nil {
		err = fmt.Errorf("copy backup %s to %s: %w", o.Backup.ID, o.To.store, err)
	}
	k.report(pgmedic.Event{Step: copyStep, DoneBytes: k.done, TotalBytes: k.total, Finished: err == nil, Failed: err != nil})
	return k.result, err
}

// copier is one CopyTo.
type copier struct {
	from, to *Catalog
	backup   *pgmedic.Backup
	folder   string
	// there are the sizes of what the copy has, by key; committed is true where
	// it has the manifest.
	there     map[string]int64
	committed bool

	mu          sync.Mutex
	result      Copied
	progress    func(pgmedic.Event)
	done, shown int64
	total       int64
}

func (k *copier) run(ctx context.Context, options CopyOptions) error {
	manifest, err := k.manifest(ctx)
	if err != nil {
		return err
	}
	if err := k.look(ctx, manifest); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(cmp.Or(max(options.Jobs, 0), 4))
	for _, o := range k.backup.Objects {
		k.total += o.StoredBytes
	}
	for _, o := range k.backup.Objects {
		group.Go(func() error { return k.object(groupCtx, o) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := k.keys(ctx); err != nil {
		return err
	}
	// Before the manifest: a copy that is listed is known as well as this one.
	if err := k.receipts(ctx); err != nil {
		return err
	}
	if err := k.holds(ctx); err != nil {
		return err
	}
	unsigned := k.signatures(ctx, options.Trusted, manifest)
	if kind := pgmedic.KindOf(unsigned); unsigned != nil && kind != pgmedic.KindConflict && kind != pgmedic.KindIntegrity {
		return unsigned
	}
	return errors.Join(k.commit(ctx, manifest), unsigned)
}

// signatures copies the signatures that the copy has not.
func (k *copier) signatures(ctx context.Context, trusted signature.Signers, manifest []byte) error {
	return signable(k.from, k.folder, k.backup.ID, manifest).Copy(ctx, signature.CopyOptions{
		To: k.to.store, Trusted: trusted,
		Put: func(name string, data []byte) error {
			_, err := k.to.store.Put(ctx, k.folder+"/"+name, bytes.NewReader(data))
			if err == nil {
				k.count(1, 0, int64(len(data)))
			}
			return err
		},
	})
}

// commit copies the manifest, by which the copy exists, after what is read with it.
func (k *copier) commit(ctx context.Context, manifest []byte) error {
	for _, name := range []string{manifestHashName, manifestMACName} {
		data, err := k.from.read(ctx, k.folder+"/"+name, 1024)
		switch missing := errors.Is(err, store.ErrNotFound); {
		case missing && name == manifestMACName && k.backup.Seal.Encryption == notEncrypted:
			continue
		case missing:
			return damaged(k.backup.ID, name+" is missing")
		case err != nil:
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := k.small(ctx, name, data); err != nil {
			return err
		}
	}
	if k.committed { // it may be gone by now, by a prune, and must not come back
		k.count(0, 1, 0)
		return nil
	}
	if err := k.whole(ctx); err != nil {
		return err
	}
	return k.small(ctx, manifestName, manifest)
}

// whole refuses a copy of which a prune took something away meanwhile.
func (k *copier) whole(ctx context.Context) error {
	there := map[string]bool{}
	for object, err := range k.to.store.List(ctx, k.folder+"/") {
		if err != nil {
			return fmt.Errorf("list the copy before its manifest is written: %w", err)
		}
		there[object.Key] = true
	}
	if there[k.folder+"/"+markName] {
		return errMarked(k.backup, k.to)
	}
	for _, o := range k.backup.Objects {
		if !there[k.folder+"/"+o.Name] {
			return pgmedic.Errorf(pgmedic.KindConflict, "copy it again", "%s was deleted while the backup was copied", o.Name)
		}
	}
	return nil
}

// errMarked is the error of what would write a manifest where a prune deletes.
func errMarked(b *pgmedic.Backup, in *Catalog) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "run `pgmedic prune --yes`, which deletes the rest of it, then try again",
		"what is in %s of backup %s without a manifest is marked for deletion", in.store, b.ID)
}

// holds copies the holds that the copy has not.
func (k *copier) holds(ctx context.Context) error {
	for object, err := range k.from.store.List(ctx, k.folder+"/hold-") {
		if err != nil {
			return fmt.Errorf("list the holds: %w", err)
		}
		name := strings.TrimPrefix(object.Key, k.folder+"/")
		if _, there := k.there[object.Key]; there || holdName(name) == "" || object.SizeBytes > maxNoteBytes {
			continue
		}
		data, err := k.from.read(ctx, object.Key, maxNoteBytes)
		if kind := pgmedic.KindOf(err); kind == pgmedic.KindIntegrity || kind == pgmedic.KindNotFound {
			continue // released meanwhile
		} else if err != nil {
			return fmt.Errorf("read a hold: %w", err)
		}
		if err := k.small(ctx, name, data); err != nil {
			return err
		}
	}
	return nil
}

// manifest returns the bytes of the backup's manifest, which must be those that
// the backup was read from.
func (k *copier) manifest(ctx context.Context) ([]byte, error) {
	_, data, err := k.from.readManifest(ctx, k.folder, k.backup.ID) // its hash, and what it says
	if err != nil {
		return nil, err
	}
	if !k.from.unchanged(k.backup, data) {
		return nil, damaged(k.backup.ID, "the manifest changed while it was used")
	}
	return data, nil
}

// look lists what the copy has, and refuses another backup of the same id.
func (k *copier) look(ctx context.Context, manifest []byte) error {
	k.there = map[string]int64{}
	for object, err := range k.to.store.List(ctx, k.folder+"/") {
		if err != nil {
			return fmt.Errorf("list what is there: %w", err)
		}
		k.there[object.Key] = object.SizeBytes
	}
	if _, k.committed = k.there[k.folder+"/"+manifestName]; !k.committed {
		if _, marked := k.there[k.folder+"/"+markName]; marked {
			return errMarked(k.backup, k.to)
		}
		return nil
	}
	have, err := k.to.read(ctx, k.folder+"/"+manifestName, maxManifestBytes)
	if err != nil {
		return fmt.Errorf("read the manifest that is there: %w", err)
	}
	if !bytes.Equal(have, manifest) {
		return k.conflict(manifestName)
	}
	return nil
}

func (k *copier) conflict(name string) error {
	return pgmedic.Errorf(pgmedic.KindConflict, "nothing is overwritten: find out what wrote it, or copy to another place",
		"%s is there already and is not the one to copy", name)
}

// object copies one of the manifest's objects, unless it is there.
func (k *copier) object(ctx context.Context, o pgmedic.Object) error {
	key := k.folder + "/" + o.Name
	size, there := k.there[key]
	if there {
		return k.keep(ctx, o, size)
	}
	src, err := k.from.store.Open(ctx, key, 0, -1)
	if errors.Is(err, store.ErrNotFound) {
		return damaged(k.backup.ID, o.Name+" is missing")
	} else if err != nil {
		return fmt.Errorf("open %s: %w", o.Name, err)
	}
	r := &checkedReader{src: src, object: o, hash: sha256.New(), read: func(n int) { k.advance(o.Name, n) }}
	_, err = k.to.store.Put(ctx, key, r)
	if closeErr := src.Close(); err == nil {
		err = closeErr
	}
	switch {
	case errors.Is(err, store.ErrExists): // another run's, since we looked
		stored, statErr := k.to.store.Stat(ctx, key)
		if statErr != nil {
			return fmt.Errorf("look at %s: %w", o.Name, statErr)
		}
		k.advance(o.Name, -int(r.n))
		return k.keep(ctx, o, stored.SizeBytes)
	case err != nil:
		return fmt.Errorf("copy %s: %w", o.Name, err)
	}
	k.count(1, 0, o.StoredBytes)
	return nil
}

// keep compares an object that is there with the one to copy.
func (k *copier) keep(ctx context.Context, o pgmedic.Object, size int64) error {
	if size != o.StoredBytes {
		return k.conflict(o.Name)
	}
	if !k.committed {
		src, err := k.to.store.Open(ctx, k.folder+"/"+o.Name, 0, -1)
		if err != nil {
			return fmt.Errorf("open %s, which is there: %w", o.Name, err)
		}
		_, err = io.Copy(io.Discard, &checkedReader{src: src, object: o, hash: sha256.New(), read: func(n int) { k.advance(o.Name, n) }})
		err = errors.Join(err, src.Close())
		if pgmedic.KindOf(err) == pgmedic.KindIntegrity {
			return k.conflict(o.Name)
		} else if err != nil {
			return fmt.Errorf("read %s, which is there: %w", o.Name, err)
		}
	} else {
		k.advance(o.Name, int(size))
	}
	k.count(0, 1, 0)
	return nil
}

// small puts an object that was read whole, unless it is there.
func (k *copier) small(ctx context.Context, name string, data []byte) error {
	key := k.folder + "/" + name
	_, err := k.to.store.Put(ctx, key, bytes.NewReader(data))
	if err == nil {
		k.count(1, 0, int64(len(data)))
		return nil
	}
	if !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	have, err := k.to.read(ctx, key, int64(len(data)))
	if kind := pgmedic.KindOf(err); err != nil && kind != pgmedic.KindIntegrity {
		return fmt.Errorf("read %s, which is there: %w", name, err)
	} else if err != nil || !bytes.Equal(have, data) {
		return k.conflict(name)
	}
	k.count(0, 1, 0)
	return nil
}

// keys copies the ways to open the backup. A copy that exists may have ways of
// its own: the same one is wrapped to other bytes each time.
func (k *copier) keys(ctx context.Context) error {
	wraps, err := k.from.Keys(ctx, k.backup)
	if err != nil {
		return err
	}
	for _, w := range wraps {
		if w.Odd != "" {
			continue // no way to open it
		}
		name := keysFolder + "/" + w.Name + ".age"
		if _, there := k.there[k.folder+"/"+name]; there && k.committed {
			k.count(0, 1, 0)
			continue
		}
		if err := k.small(ctx, name, w.Data); err != nil {
			return err
		}
	}
	return nil
}

// staysBehind reports whether a receipt is of the bytes here alone: a failed
// verify is, and, once the copy has been listed, all that is good, for it could
// take back what was found there.
func staysBehind(r pgmedic.Receipt, listed bool) bool {
	failed := r.Outcome == pgmedic.OutcomeFailed
	return r.Kind == pgmedic.ReceiptVerify && (failed || listed) || r.Kind == pgmedic.ReceiptDrill && listed && !failed
}

// receipts copies the receipts that the copy has not.
func (k *copier) receipts(ctx context.Context) error {
	for object, err := range k.from.store.List(ctx, k.folder+"/"+receiptsFolder+"/") {
		if err != nil {
			return fmt.Errorf("list the receipts: %w", err)
		}
		if !isReceipt(strings.TrimPrefix(object.Key, k.folder+"/")) || object.SizeBytes > maxReceiptBytes {
			continue
		}
		if _, there := k.there[object.Key]; there {
			k.result.Kept++
			continue
		}
		data, err := k.from.read(ctx, object.Key, maxReceiptBytes)
		if kind := pgmedic.KindOf(err); kind == pgmedic.KindIntegrity || kind == pgmedic.KindNotFound {
			continue // as none
		} else if err != nil {
			return fmt.Errorf("read a receipt: %w", err)
		}
		var r pgmedic.Receipt
		if measure(data, receiptWeights()).memory > maxReceiptMemory || json.Unmarshal(data, &r) != nil || r.BackupID != k.backup.ID || staysBehind(r, k.committed) {
			continue
		}
		if err := k.small(ctx, strings.TrimPrefix(object.Key, k.folder+"/"), data); err != nil {
			return err
		}
	}
	return nil
}

func (k *copier) count(copied, kept int, size int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.result.Copied += copied
	k.result.Kept += kept
	k.result.CopiedBytes += size
}

// advance tells of bytes that were read, at most once in each 4 MiB.
func (k *copier) advance(name string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done += int64(n)
	if k.progress != nil && (k.done-k.shown >= 4<<20 || k.shown == 0) {
		k.shown = k.done
		k.progress(pgmedic.Event{Step: copyStep, Object: name, DoneBytes: k.done, TotalBytes: k.total})
	}
}

func (k *copier) report(e pgmedic.Event) {
	if k.progress != nil {
		k.progress(e)
	}
}

// checkedReader reads an object as it is stored, and says io.EOF only where its
// size and hash are those that the manifest has: nothing else may be put.
type checkedReader struct {
	src    io.Reader
	object pgmedic.Object
	hash   hash.Hash
	n      int64
	read   func(n int)
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	r.hash.Write(p[:n])
	r.n += int64(n)
	if n > 0 {
		r.read(n)
	}
	switch {
	case r.n > r.object.StoredBytes || err == io.EOF && r.n < r.object.StoredBytes:
		return n, r.corrupt("has not the %d bytes that the manifest says", r.object.StoredBytes)
	case err == io.EOF:
		if hex.EncodeToString(r.hash.Sum(nil)) != r.object.SHA256 {
			return n, r.corrupt("does not have its recorded hash")
		}
	}
	return n, err
}

func (r *checkedReader) corrupt(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "copy another backup, or this one from a place where it is whole: pgmedic verify tells",
		"corrupt: "+r.object.Name+" "+format, args...)
}
