package seal

import (
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

// maxWriteWindow is the largest distance at which a zstd Writer refers back.
// Every reader of the stream must hold this much.
const maxWriteWindow = 8 << 20

// Writer seals the bytes written to it into another io.Writer.
//
// It compresses in the goroutine that calls Write, starts none of its own, and
// holds at most some 30 MiB (zstd) or 2 MiB (gzip), whatever the length of the
// stream. Parallelism comes from several Writers. A Writer that is abandoned
// without Close holds nothing but memory; that, not Close, is how a caller
// gives up a stream whose source failed.
//
// A Writer is not safe for concurrent use.
type Writer struct {
	opts   Options
	stored storedWriter
	crypt  io.WriteCloser // nil without encryption
	comp   compressor
	plain  int64
	err    error // the first failure; nothing succeeds after it
	closed bool
}

// compressor is what gzip.Writer and zstd.Encoder have in common.
type compressor interface {
	io.WriteCloser
	Reset(io.Writer)
}

// NewWriter returns a Writer that seals into dst. It may already write to dst, and
// then an error of dst is its own.
// It never closes dst. Options that mean nothing are a pgmedic.KindUsage error.
func NewWriter(dst io.Writer, o Options) (*Writer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	comp, err := newCompressor(o)
	if err != nil {
		return nil, fmt.Errorf("start %s compression: %w", o.Compression, err)
	}
	w := &Writer{opts: o, comp: comp}
	return w, w.Reset(dst)
}

// Reset makes the Writer begin a new stream into dst, as NewWriter with the
// same options would, and forgets everything about the one before, finished or
// not. It saves the cost of a new compressor for each of many small streams.
func (w *Writer) Reset(dst io.Writer) error {
	w.stored = storedWriter{dst: dst, hash: sha256.New()}
	w.plain, w.err, w.closed, w.crypt = 0, nil, false, nil
	var under io.Writer = &w.stored
	if err := w.encrypt(); err != nil {
		return w.fail(fmt.Errorf("start encryption: %w", err))
	}
	if w.crypt != nil {
		under = w.crypt
	}
	w.comp.Reset(under)
	return nil
}

// encrypt begins the layer that encrypts, if there is one.
func (w *Writer) encrypt() (err error) {
	switch w.opts.Encryption {
	case EncryptionAge:
		w.crypt, err = age.Encrypt(&w.stored, w.opts.Key.recipient)
		return err
	case EncryptionAES256CBC:
		if w.stored.mac, err = newSaltedMAC(w.opts.Key.phrase); err != nil {
			return err
		}
		cbc, err := newCBCWriter(&w.stored, w.opts.Key.phrase)
		if err == nil {
			w.crypt = cbc
		}
		return err
	case EncryptionNone:
	}
	return nil
}

// Write seals p. It reports fewer bytes than len(p) only with an error. An
// error of dst is returned as it is; every later Write and Close returns it
// again.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.closed {
		return 0, errors.New("write to a sealed stream that is closed")
	}
	n, err := w.comp.Write(p)
	w.plain += int64(n)
	return n, w.fail(err)
}

// Close flushes what is left to dst and ends the stream; it doesn't close dst.
// If any write before failed it writes nothing more and returns that error.
// Closing again returns what Close returned first.
func (w *Writer) Close() error {
	if w.closed || w.err != nil {
		w.closed = true
		return w.err
	}
	w.closed = true
	if err := w.fail(w.comp.Close()); err != nil || w.crypt == nil {
		return err
	}
	return w.fail(w.crypt.Close())
}

// Sum returns what is to be recorded about the stream. It is an error before
// Close and after any failure, so that a truncated stream is never recorded.
func (w *Writer) Sum() (Sum, error) {
	if w.err != nil {
		return Sum{}, fmt.Errorf("no sum of an unfinished stream: %w", w.err)
	}
	if !w.closed {
		return Sum{}, errors.New("no sum of a stream that is not closed")
	}
	sum := Sum{
		StoredBytes: w.stored.n,
		SHA256:      hex.EncodeToString(w.stored.hash.Sum(nil)),
		PlainBytes:  w.plain,
	}
	if w.stored.mac != nil {
		sum.HMAC = w.stored.mac.String()
	}
	return sum, nil
}

// fail remembers the first error, and prefers dst's own to what a compressor
// made of it.
func (w *Writer) fail(err error) error {
	if w.stored.err != nil {
		err = w.stored.err
	}
	if err != nil && w.err == nil {
		w.err = err
	}
	return w.err
}

// storedWriter is the last layer on the way out: it hashes and counts the bytes
// that dst took.
type storedWriter struct {
	dst  io.Writer
	hash hash.Hash
	mac  *saltedMAC // nil where nothing needs one
	n    int64
	err  error
}

func (s *storedWriter) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.dst.Write(p)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.err = err
		return max(0, min(n, len(p))), err
	}
	s.hash.Write(p)
	if s.mac != nil {
		s.mac.Write(p)
	}
	s.n += int64(n)
	return n, nil
}

// newCompressor returns a compressor that has yet to be Reset.
func newCompressor(o Options) (compressor, error) {
	switch o.Compression {
	case CompressionGzip:
		level := gzip.BestSpeed
		switch o.Level {
		case LevelDefault:
			level = gzip.DefaultCompression
		case LevelBetter:
			level = 7 // 9 takes many times longer on table data for 1 %
		}
		return gzip.NewWriterLevel(nil, level)
	case CompressionZstd:
		level, window := zstd.SpeedFastest, maxWriteWindow/2
		switch o.Level {
		case LevelDefault:
			level, window = zstd.SpeedDefault, maxWriteWindow
		case LevelBetter:
			level, window = zstd.SpeedBetterCompression, maxWriteWindow
		}
		return zstd.NewWriter(nil,
			zstd.WithEncoderLevel(level),
			zstd.WithWindowSize(window),
			zstd.WithEncoderConcurrency(1), // in Write's goroutine
			zstd.WithEncoderCRC(true),
			zstd.WithZeroFrames(true)) // an empty stream is a frame, too
	}
	return &uncompressed{}, nil
}

// uncompressed is the compressor of CompressionNone.
type uncompressed struct{ dst io.Writer }

func (u *uncompressed) Write(p []byte) (int, error) { return u.dst.Write(p) }
func (u *uncompressed) Close() error                { return nil }
func (u *uncompressed) Reset(dst io.Writer)         { u.dst = dst }
