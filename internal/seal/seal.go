// Package seal turns bytes into compressed, encrypted, hashed bytes and back. It knows
// nothing of databases or stores: it is given an io.Writer or an io.Reader.
//
// On the way out bytes pass through these layers, on the way back through the
// same in reverse:
//
//	plain bytes → compress → encrypt → hash and count → stored bytes
//
// The hash is over the bytes as they are stored, so CheckStored works on a host
// that has no key.
//
// Each Writer makes one sealed stream with one Sum. Several sealed streams may
// be written end to end into one object; the reader is then given exactly the
// range of one of them.
//
// A truncated or damaged stream never looks whole. A Writer that failed has no
// Sum, and a Reader reports io.EOF only when everything that was recorded about
// the stream has been found true. What a Reader returns before io.EOF is not
// yet known to be right, so nothing is done with it that can't be undone.
package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"github.com/pgmedic/pgmedic"
)

// Compression names how bytes are compressed. Its text is what a manifest
// records.
type Compression string

// The methods of compression. The zero Compression is none of them and is
// refused: how a stream was compressed is recorded, never guessed.
const (
	// CompressionNone stores bytes as they are.
	CompressionNone Compression = "none"
	// CompressionGzip writes one gzip member, readable with gunzip.
	CompressionGzip Compression = "gzip"
	// CompressionZstd writes one zstd frame with a content checksum and a
	// window of at most 8 MiB, readable with zstd -d.
	CompressionZstd Compression = "zstd"
)

// Level trades time for size. It matters to a Writer only.
type Level string

// The levels of compression. The zero Level is LevelFastest for both methods:
// on table data the output is within 1 % (zstd) or 8 % (gzip) of LevelDefault's
// in size and takes clearly less time, and a backup holds a snapshot open while
// it runs. BenchmarkWriter shows both numbers.
const (
	LevelFastest Level = "fastest"
	// LevelDefault is what the method's authors take for a good balance.
	LevelDefault Level = "default"
	// LevelBetter is for slow links and expensive storage.
	LevelBetter Level = "better"
)

// Options say how a stream is sealed. A Reader needs those that the Writer had,
// except for Level.
type Options struct {
	// Compression has no default; the zero value is refused.
	Compression Compression
	// Level is documented at its constants. Zero means LevelFastest. It is
	// ignored by a Reader and by CompressionNone.
	Level Level
	// Encryption is none where it is zero.
	Encryption Encryption
	// Key is what is encrypted and decrypted with: for EncryptionAge one of
	// NewKey or OpenKey, for EncryptionAES256CBC one of PassphraseKey.
	Key *Key
	// PlainHashed is true where whoever reads compares a hash of the plain bytes with one that
	// was recorded, which no wrong stored byte gets past. A Reader then does not compare the
	// hash of the stored bytes, which takes as long as decrypting them. It is ignored by a
	// Writer and by EncryptionAES256CBC.
	PlainHashed bool
}

// storedHash returns what hashes the stored bytes; nil where their hash is not compared.
func (o Options) storedHash() hash.Hash {
	if o.PlainHashed && o.Encryption != EncryptionAES256CBC {
		return nil
	}
	return sha256.New()
}

// check returns a pgmedic.KindUsage error for options that mean nothing.
func (o Options) check() error {
	switch o.Compression {
	case CompressionNone, CompressionGzip, CompressionZstd:
	default:
		return pgmedic.Errorf(pgmedic.KindUsage,
			"known methods are gzip, zstd and none; a newer pgmedic may know more",
			"unknown compression %q", string(o.Compression))
	}
	switch o.Encryption {
	case "", EncryptionNone:
	case EncryptionAge, EncryptionAES256CBC:
		if o.Key == nil || o.Key.phrase.isSet() != (o.Encryption == EncryptionAES256CBC) {
			return pgmedic.Errorf(pgmedic.KindUsage,
				"give this host a key that opens it: PGMEDIC_IDENTITY_FILES or BACKUP_ENCRYPTION_KEY",
				"the bytes are encrypted and no key is at hand")
		}
	default:
		return pgmedic.Errorf(pgmedic.KindUsage, "update pgmedic on this host", "unknown encryption %q", string(o.Encryption))
	}
	switch o.Level {
	case "", LevelFastest, LevelDefault, LevelBetter:
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "known levels are fastest, default and better",
		"unknown compression level %q", string(o.Level))
}

// Suffix returns what is appended to the name of a file or object that holds a
// stream sealed with these options: ".gz", ".zst" or nothing, and ".age", ".enc"
// or nothing.
func Suffix(o Options) string {
	suffix := ""
	switch o.Compression {
	case CompressionGzip:
		suffix = ".gz"
	case CompressionZstd:
		suffix = ".zst"
	case CompressionNone:
	}
	switch o.Encryption {
	case EncryptionAge:
		suffix += ".age"
	case EncryptionAES256CBC:
		suffix += ".enc"
	case EncryptionNone:
	}
	return suffix
}

// Sum is what is recorded about a sealed stream: enough to know later that
// every byte of it is there and is the one that was written.
type Sum struct {
	// StoredBytes and SHA256 (64 lower-case hex digits) are of the stream as
	// stored: compressed, and later encrypted.
	StoredBytes int64
	SHA256      string
	// PlainBytes is the size of what was written to the Writer.
	PlainBytes int64
	// HMAC authenticates the stored bytes of EncryptionAES256CBC: the salt of
	// its key and the code, in hex, with a colon between them.
	HMAC string
}

// check returns a pgmedic.KindIntegrity error for a Sum that no Writer made.
// Where it came from, most likely a manifest, is damaged.
func (s Sum) check() error {
	raw, err := hex.DecodeString(s.SHA256)
	lower := true
	for _, c := range s.SHA256 {
		lower = lower && (c < 'A' || c > 'F')
	}
	if err != nil || len(raw) != sha256.Size || !lower || s.StoredBytes < 0 || s.PlainBytes < 0 {
		return corrupt("the recorded size or hash is not one (stored %d, plain %d, sha256 %q)",
			s.StoredBytes, s.PlainBytes, s.SHA256)
	}
	return nil
}

// corrupt returns a pgmedic.KindIntegrity error whose message begins with
// "corrupt: ".
func corrupt(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity,
		"use another copy of this backup, or another backup; these bytes are not those that were written",
		"corrupt: "+format, args...)
}
