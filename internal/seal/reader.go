package seal

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// readBuffer is how much is asked of a source at a time.
	readBuffer = 256 << 10
	// maxReadWindow bounds what a zstd frame may make the Reader hold, because anyone
	// who can write to the store can ask for more: many Readers work at once.
	maxReadWindow = maxWriteWindow
	// maxEmptyReads is how often in a row a source may return neither bytes
	// nor an error. It is less than bufio's limit, so that giving up counts
	// as a failure to read and not as corruption.
	maxEmptyReads = 50
)

// Reader returns the plain bytes of a sealed stream, checked.
//
// Read returns io.EOF only after the last stored byte was read, the stored size
// and hash (but for Options.PlainHashed) were those of the Sum, the decompressor
// had ended cleanly with nothing behind it, and the plain size was that of the
// Sum. Everything else ends in an error:
//
//   - pgmedic.KindIntegrity, with a message that begins with "corrupt: ", where
//     the bytes are wrong: damaged, too few (the source ended early), too many,
//     or those of another stream. More plain bytes than recorded are never
//     returned, which bounds what a decompression bomb can do.
//   - The source's own error, unchanged, where reading failed. It says nothing
//     about the bytes and is never called corruption. A source that knows that
//     it was cut off returns io.ErrUnexpectedEOF and falls under this, and so
//     does an error that wraps io.EOF: it becomes one that wraps
//     io.ErrUnexpectedEOF, lest errors.Is take it for a clean end.
//
// After an error, io.EOF included, every Read returns the same error. What was
// read before io.EOF is not yet known to be right: the caller of a Reader must
// read to io.EOF before it believes anything.
//
// A Reader starts no goroutine, holds at most some 20 MiB and is not safe for
// concurrent use.
type Reader struct {
	opts   Options
	sum    Sum
	stored storedReader
	buf    *bufio.Reader // of the stored bytes
	in     *bufio.Reader // what the decompressor reads: buf, or what age makes of it
	plain  int64
	err    error // what every later Read returns
	dec    io.Reader
	gzip   *gzip.Reader
	zstd   *zstd.Decoder
	closed bool
}

// NewReader returns a Reader of the stream that src holds from its first byte
// to its io.EOF. It reads nothing yet and never closes src. Options that mean
// nothing are a pgmedic.KindUsage error, a Sum that can't be one a
// pgmedic.KindIntegrity error.
func NewReader(src io.Reader, sum Sum, o Options) (*Reader, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &Reader{opts: o, buf: bufio.NewReaderSize(nil, readBuffer)}
	if err := r.Reset(src, sum); err != nil {
		return nil, err
	}
	return r, nil
}

// Reset makes the Reader begin with another stream, as NewReader with the same
// options would, and forgets the one before. It saves the cost of a new
// decompressor for each of many small streams. It is an error after Close.
func (r *Reader) Reset(src io.Reader, sum Sum) error {
	if r.closed {
		return errReaderClosed()
	}
	if err := sum.check(); err != nil {
		r.err = err
		return err
	}
	r.sum = sum
	r.stored = storedReader{src: src, sum: sum, hash: r.opts.storedHash()}
	r.buf.Reset(&r.stored)
	r.in = r.buf
	r.plain, r.err, r.dec = 0, nil, nil
	return nil
}

// Read returns the next plain bytes, as described at Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.dec == nil {
		if err := r.start(); err != nil {
			r.err = r.classify(err)
			return 0, r.err
		}
	}
	// One byte more than is left shows a stream that holds too much.
	left := r.sum.PlainBytes - r.plain
	if int64(len(p)) > left {
		p = p[:left+1]
	}
	n, err := r.dec.Read(p)
	if int64(n) > left {
		n, err = int(left), corrupt("holds more than the recorded %d plain bytes", r.sum.PlainBytes)
		r.err = err
	}
	r.plain += int64(n)
	switch {
	case r.err != nil, err == nil:
	case err == io.EOF:
		r.err = r.finish()
	default:
		r.err = r.classify(err)
	}
	return n, r.err
}

// Close lets go of the decompressor. It may be called at any time, also more
// than once, and never fails; a Read after it is an error unless the stream had
// ended before. It doesn't close the source.
func (r *Reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.zstd != nil {
		r.zstd.Close()
	}
	if r.err == nil {
		r.err = errReaderClosed()
	}
	r.dec, r.gzip, r.zstd = nil, nil, nil
	return nil
}

// start makes the decompressor ready. For gzip it reads the header.
func (r *Reader) start() error {
	if err := r.decrypt(); err != nil {
		return err
	}
	switch r.opts.Compression {
	case CompressionGzip:
		if r.gzip == nil {
			r.gzip = new(gzip.Reader)
		}
		if err := r.gzip.Reset(r.in); err != nil {
			return noEOF(err)
		}
		// A Writer makes one member. What follows it is found by finish.
		r.gzip.Multistream(false)
		r.dec = r.gzip
		return nil
	case CompressionZstd:
		if r.zstd == nil {
			d, err := zstd.NewReader(nil,
				zstd.WithDecoderConcurrency(1), // in Read's goroutine
				zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxReadWindow),
				zstd.WithDecoderMaxMemory(maxReadWindow),
				zstd.WithDecodeBuffersBelow(0))
			if err != nil {
				return err
			}
			r.zstd = d
		}
		r.dec = r.zstd
		return r.zstd.Reset(r.in)
	}
	r.dec = r.in
	return nil
}

// decrypt begins the layer that decrypts, if there is one.
func (r *Reader) decrypt() error {
	switch r.opts.Encryption {
	case EncryptionAge:
		if r.opts.Key.identity == nil {
			return errSealOnly
		}
		plain, err := age.Decrypt(r.buf, r.opts.Key.identity)
		if err != nil {
			return noEOF(err)
		}
		r.in = bufio.NewReaderSize(plain, readBuffer)
	case EncryptionAES256CBC:
		if err := r.authenticate(); err != nil {
			return err
		}
		plain, err := newCBCReader(r.buf, r.opts.Key.phrase)
		if err != nil {
			return noEOF(err)
		}
		r.in = bufio.NewReaderSize(plain, readBuffer)
	case EncryptionNone:
	}
	return nil
}

// finish is called when the decompressor has ended cleanly, and returns io.EOF
// if everything else is as recorded, too.
func (r *Reader) finish() error {
	if r.opts.Compression == CompressionZstd && r.stored.n == 0 {
		return r.classify(io.ErrUnexpectedEOF) // not even an empty frame
	}
	// age says io.EOF only once its last chunk is authenticated.
	if r.in != r.buf {
		if _, err := r.in.ReadByte(); err == nil {
			return r.classify(errors.New("more bytes follow the end of the compressed stream"))
		} else if err != io.EOF {
			return r.classify(err)
		}
	}
	// The stored layer says io.EOF only once size and hash matched.
	if _, err := r.buf.ReadByte(); err == nil {
		return r.classify(errors.New("more bytes follow the end of the compressed stream"))
	} else if r.stored.err != io.EOF {
		return r.classify(err)
	}
	if r.plain != r.sum.PlainBytes && !r.stored.unrecorded {
		return corrupt("holds %d plain bytes, recorded are %d", r.plain, r.sum.PlainBytes)
	}
	return io.EOF
}

// classify returns what the stored layer found if it found anything, because
// what a decompressor makes of that says less; else the decompressor's error as
// corruption.
func (r *Reader) classify(err error) error {
	if r.stored.err != nil && r.stored.err != io.EOF {
		return r.stored.err
	}
	return corrupt("%w", noEOF(err))
}

// noEOF keeps an early end from looking like a clean one to errors.Is.
func noEOF(err error) error {
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%v: %w", err, io.ErrUnexpectedEOF) //nolint:errorlint // err must not be found: it wraps io.EOF
	}
	return err
}

func errReaderClosed() error { return errors.New("read of a sealed stream after it was closed") }

// CheckStored reads src to its end and returns nil if its size and hash are
// those of the Sum: the stream is intact. It needs no key and decompresses
// nothing, so it says nothing about PlainBytes. Errors are those of Reader.
func CheckStored(src io.Reader, sum Sum) error {
	s, err := NewStoredReader(src, sum)
	if err != nil {
		return err
	}
	buf := make([]byte, readBuffer)
	for {
		if _, err := s.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// NewStoredReader returns a reader of stored bytes as they are, which returns
// io.EOF only where CheckStored would return nil.
func NewStoredReader(src io.Reader, sum Sum) (io.Reader, error) {
	if err := sum.check(); err != nil {
		return nil, err
	}
	return &storedReader{src: src, sum: sum, hash: sha256.New()}, nil
}

// storedReader is the first layer on the way back: it hashes and counts stored
// bytes, and returns io.EOF only if both came out as recorded. Its errors are
// already sorted: integrity, or the source's own.
type storedReader struct {
	src io.Reader
	sum Sum
	// hash is nil where it is not compared.
	hash  hash.Hash
	n     int64
	empty int
	err   error
	// unrecorded is true where the sum is a limit, and not what was recorded.
	unrecorded bool
}

func (s *storedReader) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	n, err := s.src.Read(p)
	if n < 0 || n > len(p) {
		s.err = fmt.Errorf("source returned %d bytes for a read of %d", n, len(p))
		return 0, s.err
	}
	if s.n+int64(n) > s.sum.StoredBytes {
		s.err = corrupt("holds more than the recorded %d stored bytes", s.sum.StoredBytes)
		return 0, s.err
	}
	if s.hash != nil {
		s.hash.Write(p[:n])
	}
	s.n += int64(n)
	s.empty++
	if n > 0 {
		s.empty = 0
	}
	switch {
	case err == io.EOF:
		s.err = s.end()
	case err != nil:
		s.err = noEOF(err)
	case s.empty >= maxEmptyReads:
		s.err = io.ErrNoProgress
	}
	return n, s.err
}

// end compares what was read with what was recorded.
func (s *storedReader) end() error {
	if s.unrecorded {
		return io.EOF
	}
	if s.n < s.sum.StoredBytes {
		return corrupt("ends after %d of the recorded %d stored bytes", s.n, s.sum.StoredBytes)
	}
	if s.hash == nil {
		return io.EOF
	}
	if got := hex.EncodeToString(s.hash.Sum(nil)); got != s.sum.SHA256 {
		return corrupt("the SHA-256 of the stored bytes is %s, recorded is %s", got, s.sum.SHA256)
	}
	return io.EOF
}
