package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// EncryptionAES256CBC is what
//
//	openssl enc -aes-256-cbc -pbkdf2 -iter 600000 -md sha256
//
// writes: "Salted__", a salt of 8 bytes, and AES-256 in CBC mode with PKCS #7
// padding under a key and an IV that PBKDF2-HMAC-SHA256 derives from a
// passphrase. It is for people who must be able to read backups with openssl
// alone; age is better in every other way.
//
// CBC authenticates nothing, so the Sum of such a stream has an HMAC-SHA256 over
// the stored bytes, under a key derived from the passphrase with a salt of its
// own. A Reader compares it before it decrypts anything, for which it reads the
// source twice: the source must be an io.Seeker.
const EncryptionAES256CBC Encryption = "aes-256-cbc"

const (
	// pbkdf2Rounds is what OWASP recommends for PBKDF2-HMAC-SHA256.
	pbkdf2Rounds = 600_000
	cbcMagic     = "Salted__"
	cbcSaltBytes = 8
	macSaltBytes = 16
	// cbcPiece is how much is encrypted at a time.
	cbcPiece = 64 << 10
)

// PassphraseKey returns the key of streams with EncryptionAES256CBC.
func PassphraseKey(text string) (*Key, error) {
	if text == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	return &Key{phrase: passphrase{text: text, rounds: pbkdf2Rounds}}, nil
}

// passphrase is what keys are derived from, and the work that this takes. The zero
// passphrase is none.
type passphrase struct {
	text string
	// rounds is pbkdf2Rounds, except in tests of this package: nothing outside it can
	// set another number.
	rounds int
}

func (p passphrase) isSet() bool { return p.text != "" }

// derive returns a key of the given length in bytes.
func (p passphrase) derive(salt []byte, length int) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, p.text, salt, p.rounds, length)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return key, nil
}

// newMAC returns an HMAC under a key that is derived with the salt.
func (p passphrase) newMAC(salt []byte) (hash.Hash, error) {
	key, err := p.derive(salt, sha256.Size)
	if err != nil {
		return nil, err
	}
	return hmac.New(sha256.New, key), nil
}

// saltedMAC is an HMAC with the salt of its key.
type saltedMAC struct {
	hash.Hash
	salt []byte
}

func newSaltedMAC(p passphrase) (*saltedMAC, error) {
	salt := make([]byte, macSaltBytes)
	_, _ = rand.Read(salt) // never fails: it would end the program instead
	mac, err := p.newMAC(salt)
	return &saltedMAC{Hash: mac, salt: salt}, err
}

// String is the salt and the code, in hex, with a colon between them.
func (m *saltedMAC) String() string {
	return hex.EncodeToString(m.salt) + ":" + hex.EncodeToString(m.Sum(nil))
}

// parseSaltedMAC returns the HMAC that a text of String was made by, and the
// code that it has to give.
func parseSaltedMAC(p passphrase, text string) (mac hash.Hash, code []byte, err error) {
	saltText, codeText, _ := strings.Cut(strings.TrimSpace(text), ":")
	salt, err := hex.DecodeString(saltText)
	if err == nil {
		code, err = hex.DecodeString(codeText)
	}
	if err != nil || len(salt) != macSaltBytes || len(code) != sha256.Size {
		return nil, nil, corrupt("the recorded authentication is not one")
	}
	mac, err = p.newMAC(salt)
	return mac, code, err
}

// errNotAuthentic is what a wrong passphrase and changed bytes look like: they
// can't be told apart.
func errNotAuthentic() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity,
		"check BACKUP_ENCRYPTION_KEY; if it is the right one, use another copy of this backup",
		"corrupt: the stored bytes were not written with this passphrase, or have changed since")
}

// cbcCipher derives the key and the IV as openssl does.
func cbcCipher(p passphrase, salt []byte) (block cipher.Block, iv []byte, err error) {
	derived, err := p.derive(salt, 32+aes.BlockSize)
	if err != nil {
		return nil, nil, err
	}
	block, err = aes.NewCipher(derived[:32])
	return block, derived[32:], err
}

// cbcWriter encrypts into dst.
type cbcWriter struct {
	dst  io.Writer
	mode cipher.BlockMode
	buf  []byte
}

func newCBCWriter(dst io.Writer, p passphrase) (*cbcWriter, error) {
	salt := make([]byte, cbcSaltBytes)
	_, _ = rand.Read(salt) // never fails: it would end the program instead
	block, iv, err := cbcCipher(p, salt)
	if err != nil {
		return nil, err
	}
	if _, err := dst.Write(append([]byte(cbcMagic), salt...)); err != nil {
		return nil, err
	}
	return &cbcWriter{dst: dst, mode: cipher.NewCBCEncrypter(block, iv), buf: make([]byte, 0, cbcPiece)}, nil
}

func (w *cbcWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(cap(w.buf)-len(w.buf), len(p))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return total - len(p) - n, err
			}
		}
	}
	return total, nil
}

func (w *cbcWriter) flush() error {
	w.mode.CryptBlocks(w.buf, w.buf)
	_, err := w.dst.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// Close pads and writes what is left.
func (w *cbcWriter) Close() error {
	pad := aes.BlockSize - len(w.buf)%aes.BlockSize
	w.buf = append(w.buf, bytes.Repeat([]byte{byte(pad)}, pad)...)
	return w.flush()
}

// cbcReader decrypts what is known to be authentic.
type cbcReader struct {
	src   io.Reader
	mode  cipher.BlockMode
	buf   []byte // read and not decrypted
	plain []byte // decrypted and not returned
	err   error
}

var errNotCBC = errors.New("not what openssl enc writes")

func newCBCReader(src io.Reader, p passphrase) (*cbcReader, error) {
	return newDerivedReader(src, func(salt []byte) (cipher.Block, []byte, error) { return cbcCipher(p, salt) })
}

// newDerivedReader decrypts under the key and the IV that derive makes of the salt.
func newDerivedReader(src io.Reader, derive func(salt []byte) (cipher.Block, []byte, error)) (*cbcReader, error) {
	header := make([]byte, len(cbcMagic)+cbcSaltBytes)
	if _, err := io.ReadFull(src, header); err != nil {
		return nil, noEOF(err)
	}
	if !bytes.HasPrefix(header, []byte(cbcMagic)) {
		return nil, errNotCBC
	}
	block, iv, err := derive(header[len(cbcMagic):])
	if err != nil {
		return nil, err
	}
	return &cbcReader{src: src, mode: cipher.NewCBCDecrypter(block, iv)}, nil
}

func (r *cbcReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.fill()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	if len(r.plain) > 0 || n > 0 {
		return n, nil
	}
	return 0, r.err
}

// fill decrypts the next piece, all but the block that may be the last one:
// that one is padded.
func (r *cbcReader) fill() error {
	piece := make([]byte, cbcPiece+aes.BlockSize)
	held := copy(piece, r.buf)
	n, err := io.ReadFull(r.src, piece[held:])
	piece = piece[:held+n]
	switch {
	case err == nil:
		cut := len(piece) - aes.BlockSize
		r.buf = append(r.buf[:0], piece[cut:]...)
		r.plain = piece[:cut]
		r.mode.CryptBlocks(r.plain, r.plain)
		return nil
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	if len(piece) == 0 || len(piece)%aes.BlockSize != 0 {
		return errNotCBC
	}
	r.mode.CryptBlocks(piece, piece)
	pad := int(piece[len(piece)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(piece[len(piece)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return errNotCBC
	}
	r.plain = piece[:len(piece)-pad]
	return io.EOF
}

// authenticate reads the source to its end and back to its beginning, and
// returns nil if it is all that was written with the passphrase. What is wrong is
// left in r.stored, where classify looks for it.
func (r *Reader) authenticate() error {
	err := r.compareHMAC()
	if err != nil {
		r.stored.err = err
		return err
	}
	r.stored = storedReader{src: r.stored.src, sum: r.sum, hash: r.opts.storedHash()}
	r.buf.Reset(&r.stored)
	return nil
}

func (r *Reader) compareHMAC() error {
	seeker, ok := r.stored.src.(io.Seeker)
	if !ok {
		return fmt.Errorf("the source of a stream with %s can't be read twice", EncryptionAES256CBC)
	}
	mac, code, err := parseSaltedMAC(r.opts.Key.phrase, r.sum.HMAC)
	if err != nil {
		return err
	}
	r.stored.hash = teeHash{r.stored.hash, mac}
	for buf := make([]byte, readBuffer); err == nil; {
		_, err = r.stored.Read(buf)
	}
	if err != io.EOF {
		return err
	}
	if !hmac.Equal(mac.Sum(nil), code) {
		return errNotAuthentic()
	}
	if _, err := seeker.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the stored bytes again: %w", noEOF(err))
	}
	return nil
}

// teeHash writes to a second hash what the first one gets.
type teeHash struct {
	hash.Hash
	also hash.Hash
}

func (t teeHash) Write(p []byte) (int, error) {
	t.also.Write(p)
	return t.Hash.Write(p)
}
