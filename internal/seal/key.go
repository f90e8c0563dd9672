package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
)

// Encryption names how bytes are encrypted. Its text is what a manifest
// records.
type Encryption string

// The methods of encryption. The zero Encryption is EncryptionNone.
const (
	// EncryptionNone stores compressed bytes as they are.
	EncryptionNone Encryption = "none"
	// EncryptionAge is the age format, version 1, to one recipient.
	EncryptionAge Encryption = "age"
)

// Key is what one backup is encrypted to: an age identity of its own, which
// nobody keeps. It is stored wrapped, once for each way to open the backup, so
// that ways can be added and removed without touching what is sealed.
type Key struct{ identity *age.X25519Identity }

// NewKey makes the key of a new backup.
func NewKey() (*Key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &Key{identity: identity}, nil
}

// Wrap returns the key, encrypted to a recipient: an age file that holds the
// identity as age-keygen writes it, so that `age -d` opens it and `age -d -i`
// takes what comes out.
func (k *Key) Wrap(to age.Recipient) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	if _, err = io.WriteString(w, k.identity.String()+"\n"); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	return b.Bytes(), nil
}

// ErrNotForUs is found in the error of OpenKey where none of the identities
// opens the wrap. It says nothing about others.
var ErrNotForUs = errors.New("none of the keys on this host opens it")

// OpenKey opens a wrap with one of the identities. A wrap that is damaged, or
// holds no key, is a pgmedic.KindIntegrity error.
func OpenKey(wrapped []byte, with []age.Identity) (*Key, error) {
	var none *age.NoIdentityMatchError
	r, err := age.Decrypt(bytes.NewReader(wrapped), with...)
	if errors.As(err, &none) {
		return nil, ErrNotForUs
	}
	if err != nil {
		return nil, corrupt("a wrapped key: %w", noEOF(err))
	}
	text, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return nil, corrupt("a wrapped key: %w", noEOF(err))
	}
	identity, err := age.ParseX25519Identity(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, corrupt("a wrapped key holds none") // err quotes what it is given
	}
	return &Key{identity: identity}, nil
}

// MAC authenticates a manifest: HMAC-SHA256 in hex, under a key that HKDF-SHA256
// derives from the backup's identity. Only who can open the backup can make it.
func (k *Key) MAC(data []byte) (string, error) {
	key, err := hkdf.Key(sha256.New, []byte(k.identity.String()), nil, "pgmedic manifest v1", sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive the manifest's key: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// CheckMAC returns a pgmedic.KindIntegrity error unless mac is what MAC makes of
// data.
func (k *Key) CheckMAC(data []byte, mac string) error {
	want, err := k.MAC(data)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(want), []byte(strings.TrimSpace(mac))) {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup, and find out who can write to the store",
			"corrupt: the manifest was not written by who sealed the backup")
	}
	return nil
}

// scryptWork is the cost of a passphrase, as a power of two: 64 MiB and about a
// fifth of a second. age's own default takes 256 MiB.
const scryptWork = 16

// PassphraseRecipient wraps to a passphrase.
func PassphraseRecipient(passphrase string) (age.Recipient, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	r.SetWorkFactor(scryptWork)
	return r, nil
}

// PassphraseIdentity opens what was wrapped to a passphrase.
func PassphraseIdentity(passphrase string) (age.Identity, error) {
	i, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	i.SetMaxWorkFactor(22)
	return i, nil
}
