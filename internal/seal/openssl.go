package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5" //nolint:gosec // what openssl enc did until version 1.1.0; nothing is written with it
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/pgmedic/pgmedic"
)

// OpenSSLDerivation is how `openssl enc` made the key and the IV of a file out of a
// passphrase. The file does not say: it has a salt and nothing else.
type OpenSSLDerivation struct {
	// Digest is sha256, openssl's default since version 1.1.0, or md5, that of older
	// ones.
	Digest string
	// Iterations is that of -iter, for -pbkdf2. Zero is openssl without -pbkdf2:
	// EVP_BytesToKey, which hashes once.
	Iterations int
}

// OpenSSLDerivations are those in use: pgmedic's own, that of -pbkdf2 alone, and
// openssl's defaults since and before version 1.1.0.
func OpenSSLDerivations() []OpenSSLDerivation {
	return []OpenSSLDerivation{{"sha256", pbkdf2Rounds}, {"sha256", 10_000}, {"sha256", 0}, {"md5", 0}}
}

// String is the arguments that openssl enc takes for it.
func (d OpenSSLDerivation) String() string {
	if d.Iterations > 0 {
		return fmt.Sprintf("-pbkdf2 -iter %d -md %s", d.Iterations, d.Digest)
	}
	return "-md " + d.Digest
}

// OpenSSLHeader is what a file of openssl enc begins with.
const OpenSSLHeader = cbcMagic

// cipher makes the key and the IV of AES-256 in CBC mode.
func (d OpenSSLDerivation) cipher(passphrase string, salt []byte) (cipher.Block, []byte, error) {
	if passphrase == "" {
		return nil, nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	var digest func() hash.Hash
	switch d.Digest {
	case "sha256":
		digest = sha256.New
	case "md5":
		digest = md5.New
	default:
		return nil, nil, fmt.Errorf("derive a key: unknown digest %q", d.Digest)
	}
	const length = 32 + aes.BlockSize
	var derived []byte
	if d.Iterations > 0 {
		var err error
		if derived, err = pbkdf2.Key(digest, passphrase, salt, d.Iterations, length); err != nil {
			return nil, nil, fmt.Errorf("derive a key: %w", err)
		}
	}
	// EVP_BytesToKey: each part is the hash of the part before, the passphrase and
	// the salt.
	for part := []byte(nil); len(derived) < length; derived = append(derived, part...) {
		h := digest()
		h.Write(part)
		h.Write([]byte(passphrase))
		h.Write(salt)
		part = h.Sum(nil)
	}
	block, err := aes.NewCipher(derived[:32])
	return block, derived[32:length], err
}

// Head decrypts the whole blocks at the beginning of a file, which may be cut
// anywhere, to see whether what comes out makes sense. Padding stays.
func (d OpenSSLDerivation) Head(passphrase string, head []byte) ([]byte, error) {
	if len(head) < len(cbcMagic)+cbcSaltBytes || !bytes.HasPrefix(head, []byte(cbcMagic)) {
		return nil, errNotCBC
	}
	salt, rest := head[len(cbcMagic):len(cbcMagic)+cbcSaltBytes], head[len(cbcMagic)+cbcSaltBytes:]
	block, iv, err := d.cipher(passphrase, salt)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(rest)/aes.BlockSize*aes.BlockSize)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, rest[:len(plain)])
	return plain, nil
}

// NewReader decrypts what `openssl enc -aes-256-cbc` wrote. Nothing authenticates
// such a file: a wrong passphrase and changed bytes give other bytes, and most of the
// time, but not always, an error at the end that says so of its padding. An error of
// src is returned as it is.
func (d OpenSSLDerivation) NewReader(src io.Reader, passphrase string) (io.Reader, error) {
	return newDerivedReader(src, func(salt []byte) (cipher.Block, []byte, error) { return d.cipher(passphrase, salt) })
}

// IsNotOpenSSL reports whether an error says that bytes are not a whole file of
// openssl enc under this key.
func IsNotOpenSSL(err error) bool { return errors.Is(err, errNotCBC) }
