package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// Source is a backup to read from.
type Source struct {
	Catalog *catalog.Catalog
	Backup  *pgmedic.Backup
	// Key opens it; nil where it is not encrypted, or can't be opened.
	Key *seal.Key
}

func (s Source) options() seal.Options {
	return seal.Options{
		Compression: seal.Compression(s.Backup.Seal.Compression),
		Encryption:  seal.Encryption(s.Backup.Seal.Encryption), Key: s.Key,
	}
}

// Open opens one of the backup's objects for reading. The reader returns io.EOF
// only when every byte was there and was the one that was written; it is closed
// by the caller.
func (s Source) Open(ctx context.Context, o pgmedic.Object) (io.ReadCloser, error) {
	src, err := s.OpenStored(ctx, o)
	if err != nil {
		return nil, err
	}
	options := s.options()
	if o.Role == pgmedic.RoleRecovery { // plain text, so that it can be read without a key
		options = seal.Options{Compression: seal.CompressionNone}
	}
	if options.Encryption == seal.EncryptionAES256CBC {
		src = &rewinder{ReadCloser: src, open: func() (io.ReadCloser, error) { return s.OpenStored(ctx, o) }}
	}
	r, err := seal.NewReader(src, SumOf(o), options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", o.Name, err), src.Close())
	}
	return &objectReader{name: o.Name, r: r, src: src}, nil
}

// OpenStored opens one of the backup's objects as it is stored.
func (s Source) OpenStored(ctx context.Context, o pgmedic.Object) (io.ReadCloser, error) {
	src, err := s.Catalog.Store().Open(ctx, catalog.Key(s.Backup, o.Name), 0, -1)
	if err != nil {
		return nil, s.missingObject(ctx, err, o)
	}
	return src, nil
}

// missingObject makes of an object that is not there the damaged backup that
// it is: the manifest says that it was. Where the manifest is gone, too, somebody
// deleted the backup meanwhile, or what held it.
func (s Source) missingObject(ctx context.Context, err error, o pgmedic.Object) error {
	if pgmedic.KindOf(err) != pgmedic.KindNotFound {
		return fmt.Errorf("open %s: %w", o.Name, err)
	}
	there, lookErr := s.Catalog.Exists(ctx, s.Backup)
	switch {
	case lookErr != nil:
		return fmt.Errorf("open %s: %w", o.Name, lookErr)
	case !there:
		return pgmedic.Errorf(pgmedic.KindUnreachable, "pgmedic list shows what is in the store", "backup %s was deleted while it was read", s.Backup.ID)
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s is damaged: %s is missing", s.Backup.ID, o.Name)
}

// SumOf is what the manifest recorded of an object, as the seal checks it.
func SumOf(o pgmedic.Object) seal.Sum {
	return seal.Sum{StoredBytes: o.StoredBytes, SHA256: o.SHA256, PlainBytes: o.PlainBytes, HMAC: o.HMAC}
}

// rewinder is a stored object that can be read again from its beginning.
type rewinder struct {
	io.ReadCloser
	open func() (io.ReadCloser, error)
}

// Seek opens the object again. It can seek to the beginning only.
func (r *rewinder) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekStart {
		return 0, errors.New("a stored object is read from its beginning")
	}
	again, err := r.open()
	if err != nil {
		return 0, err
	}
	err = r.Close()
	r.ReadCloser = again
	return 0, err
}

type objectReader struct {
	name string
	r    io.ReadCloser
	src  io.Closer
}

func (o *objectReader) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: %w", o.name, err)
	}
	return n, err
}

func (o *objectReader) Close() error { return errors.Join(o.r.Close(), o.src.Close()) }

// OpenChunk opens one chunk for reading, from its pack by range. Like
// the reader of Open, it reports a complete chunk only at its end.
func (s Source) OpenChunk(ctx context.Context, chunk pgmedic.Chunk) (*ChunkReader, error) {
	pack := pgmedic.Object{Name: chunk.Pack}
	src, err := s.Catalog.Store().Open(ctx, catalog.Key(s.Backup, chunk.Pack), chunk.Offset, chunk.StoredBytes)
	if err != nil {
		return nil, s.missingObject(ctx, err, pack)
	}
	return s.Chunk(chunk, src)
}

// Chunk opens a chunk whose stored bytes src reads. The reader closes src.
func (s Source) Chunk(chunk pgmedic.Chunk, src io.ReadCloser) (*ChunkReader, error) {
	sum := seal.Sum{StoredBytes: chunk.StoredBytes, SHA256: chunk.SHA256, PlainBytes: chunk.PlainBytes}
	r, err := seal.NewReader(src, sum, s.options())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a chunk of %s: %w", chunk.Pack, err), src.Close())
	}
	return &ChunkReader{objectReader: objectReader{name: chunk.Pack, r: r, src: src}}, nil
}

// ChunkReader reads one chunk, and remembers why it could not. It may be closed
// while it is read: a COPY that is interrupted returns before the goroutine that
// feeds it has ended.
type ChunkReader struct {
	objectReader
	reading sync.Mutex
	closed  bool

	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (r *ChunkReader) Read(p []byte) (int, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.closed {
		return 0, fmt.Errorf("read %s: %w", r.name, os.ErrClosed)
	}
	n, err := r.objectReader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

// Close closes the chunk once no Read is running.
func (r *ChunkReader) Close() error {
	r.reading.Lock()
	defer r.reading.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return r.objectReader.Close()
}

func (r *ChunkReader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
