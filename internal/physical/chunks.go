package physical

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
)

// Source reads the objects of a physical backup. It may be used by several goroutines;
// each needs a Chunks of its own.
type Source struct {
	Store  store.Store
	Backup *pgmedic.Backup
	// Key opens the backup; nil for one that is not encrypted.
	Key *seal.Key
	// parts are of a Source that reads from several backups.
	parts Parts
}

// Parts are several backups that are read as one: package merge has them.
type Parts interface {
	// Members are the identifiers of the backups: the newest first, and a full one last.
	Members() []string
	// Files reads the list of what they hold together. Several can read at once.
	Files() *Reader
	// Of returns the backup that a pack of that list is of, and its name there.
	Of(pack string) (Source, string)
}

// WithParts returns a Source of what several backups hold together.
func (s Source) WithParts(p Parts) Source {
	s.parts = p
	return s
}

// Files opens the list of files. The caller closes it.
func (s Source) Files(ctx context.Context) (*Reader, io.Closer, error) {
	if s.parts != nil {
		return s.parts.Files(), io.NopCloser(nil), nil
	}
	r, err := s.Object(ctx, pgmedic.RoleFiles)
	if err != nil {
		return nil, nil, err
	}
	return NewReader(r, s.Backup), r, nil
}

// Object opens a sealed object by its role, which is there once. Its bytes are to be
// believed at its io.EOF. The caller closes it.
func (s Source) Object(ctx context.Context, role pgmedic.ObjectRole) (io.ReadCloser, error) {
	o, ok := s.Backup.Object(role)
	if !ok {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "", "backup %s has no object of role %s", s.Backup.ID, role)
	}
	in, err := s.Store.Open(ctx, catalog.Key(s.Backup, o.Name), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Name, err)
	}
	r, err := seal.NewReader(in, seal.Sum{StoredBytes: o.StoredBytes, SHA256: o.SHA256, PlainBytes: o.PlainBytes}, s.sealed())
	if err != nil {
		_ = in.Close() // nothing was read
		return nil, err
	}
	return &object{r, in, o.Name}, nil
}

// Members returns the identifiers of the backups that it reads from, the newest first: its own,
// and where it has Parts those that it needs.
func (s Source) Members() []string {
	if s.parts == nil {
		return []string{s.Backup.ID}
	}
	return s.parts.Members()
}

// OpenPack opens a range of a pack that a Chunk names, as it is stored. The caller closes it.
func (s Source) OpenPack(ctx context.Context, pack string, offset, n int64) (io.ReadCloser, error) {
	of, name := s.of(pack)
	return of.Store.Open(ctx, catalog.Key(of.Backup, name), offset, n)
}

// of returns the backup that a pack is of, and its name there.
func (s Source) of(pack string) (Source, string) {
	if s.parts == nil {
		return s, pack
	}
	return s.parts.Of(pack)
}

// sealed is how the backup is sealed.
func (s Source) sealed() seal.Options {
	return seal.Options{Compression: seal.Compression(s.Backup.Seal.Compression), Encryption: seal.Encryption(s.Backup.Seal.Encryption), Key: s.Key}
}

// object is an object that is read.
type object struct {
	*seal.Reader
	in   io.Closer
	name string
}

// Read names the object in errors.
func (o *object) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if err != nil && err != io.EOF { // a reader's end is io.EOF itself
		err = fmt.Errorf("read %s: %w", o.name, err)
	}
	return n, err
}

// Close closes the object in the store, too.
func (o *object) Close() error {
	_ = o.Reader.Close() // never fails
	return o.in.Close()
}

// Chunks reads chunks, one after the other. It is not safe for concurrent use.
type Chunks struct {
	s Source
	// r reads chunks of the backup with the id.
	r      *seal.Reader
	id     string
	buffer []byte
	// both is true where the hash of the stored bytes is compared as well.
	both bool
}

// Chunks returns what reads chunks. It holds a chunk and a decompressor, some 30 MiB. Of the
// two hashes of a chunk it checks that of the plain bytes, which no wrong stored byte gets past.
func (s Source) Chunks() *Chunks { return &Chunks{s: s} }

// CheckedChunks is Chunks that checks both hashes, for a verification: a host without the key
// has that of the stored bytes alone.
func (s Source) CheckedChunks() *Chunks { return &Chunks{s: s, both: true} }

// Read returns the plain bytes of a chunk. They are valid until the next Read. A chunk that is
// not as it was recorded is a pgmedic.KindIntegrity error.
func (c *Chunks) Read(ctx context.Context, of Chunk) ([]byte, error) {
	in, err := c.s.OpenPack(ctx, of.Pack, of.Offset, of.StoredBytes)
	if err != nil {
		return nil, fmt.Errorf("open chunk %d in %s: %w", of.ID, of.Pack, err)
	}
	plain, err := c.Open(in, of)
	if closeErr := in.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close chunk %d in %s: %w", of.ID, of.Pack, closeErr)
	}
	return plain, err
}

// Open is Read from bytes that the caller has: exactly those of the chunk as stored.
func (c *Chunks) Open(stored io.Reader, of Chunk) (plain []byte, err error) {
	sum := seal.Sum{StoredBytes: of.StoredBytes, SHA256: of.SHA256, PlainBytes: of.PlainBytes}
	if from, _ := c.s.of(of.Pack); c.r == nil || c.id != from.Backup.ID {
		c.Close() // each backup has a key of its own
		o := from.sealed()
		o.PlainHashed = !c.both
		c.r, err = seal.NewReader(stored, sum, o)
		c.id = from.Backup.ID
	} else {
		err = c.r.Reset(stored, sum)
	}
	if err != nil {
		return nil, err
	}
	if int64(cap(c.buffer)) <= of.PlainBytes {
		c.buffer = make([]byte, min(of.PlainBytes, ChunkBytes)+1)
	}
	plain = c.buffer[:min(of.PlainBytes, ChunkBytes)]
	if _, err := io.ReadFull(c.r, plain); err != nil {
		return nil, fmt.Errorf("read chunk %d in %s: %w", of.ID, of.Pack, err)
	}
	// What is sealed is believed at its end, which ReadFull returns bare.
	if _, err := io.ReadFull(c.r, c.buffer[len(plain):len(plain)+1]); err != io.EOF {
		return nil, fmt.Errorf("read chunk %d in %s: %w", of.ID, of.Pack, noEnd(err))
	}
	if hash := sha256.Sum256(plain); hex.EncodeToString(hash[:]) != of.PlainSHA256 {
		return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
			"chunk %d in %s does not have the hash of its files' bytes", of.ID, of.Pack)
	}
	return plain, nil
}

// noEnd is the error of a stream that went on.
func noEnd(err error) error {
	if err != nil {
		return err
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them", "it holds more than is recorded")
}

// Close lets go of the decompressor.
func (c *Chunks) Close() {
	if c.r != nil {
		_ = c.r.Close() // never fails
		c.r = nil
	}
}
