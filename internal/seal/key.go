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
	"slices"
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
// is not kept. It is stored wrapped, once for each way to open the backup, so
// that ways can be added and removed without touching what is sealed.
type Key struct {
	identity  age.Identity
	recipient age.Recipient
	secret    string // the identity as text
	hybrid    bool
	phrase    passphrase // in place of all the others, for EncryptionAES256CBC
}

// NewKey makes the key of a new backup that is to be wrapped to the given
// recipients. It is post-quantum where they are: with one age1pq recipient, all
// other public keys must be of that kind, else the backup would be no safer than
// the weakest of them, and mixing is a pgmedic.KindUsage error. A passphrase goes
// with both kinds. Without recipients the key is X25519.
func NewKey(to ...age.Recipient) (*Key, error) {
	if err := CheckRecipients(to...); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(to, isHybrid) {
		identity, err := age.GenerateHybridIdentity()
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		return hybridKey(identity), nil
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return classicKey(identity), nil
}

// CheckRecipients refuses, with a pgmedic.KindUsage error, recipients that can't
// open the same backup.
func CheckRecipients(to ...age.Recipient) error {
	if slices.ContainsFunc(to, isHybrid) && slices.ContainsFunc(to, isClassic) {
		return errMixed()
	}
	return nil
}

func hybridKey(i *age.HybridIdentity) *Key {
	return &Key{identity: i, recipient: i.Recipient(), secret: i.String(), hybrid: true}
}

func classicKey(i *age.X25519Identity) *Key {
	return &Key{identity: i, recipient: i.Recipient(), secret: i.String()}
}

func isHybrid(r age.Recipient) bool {
	_, ok := r.(*age.HybridRecipient)
	return ok
}

// isClassic reports whether a recipient's wrap can be opened by anyone who breaks
// X25519. A passphrase's can't.
func isClassic(r age.Recipient) bool {
	_, scrypt := r.(*age.ScryptRecipient)
	return !isHybrid(r) && !scrypt
}

func errMixed() error {
	return pgmedic.Errorf(pgmedic.KindUsage, "use age1pq… recipients only, or age1… recipients only",
		"post-quantum and classic recipients can't open the same backup: it would be as weak as the classic ones")
}

// PostQuantum reports whether the key is one of age's hybrid keys, which age
// knows from version 1.3 on.
func (k *Key) PostQuantum() bool { return k.hybrid }

// errSealOnly is that of what a PublicKey can't do.
var errSealOnly = errors.New("the secret half of the key is not here")

// parseKey reads a key's text. Its error holds nothing of it.
func parseKey(text string) (*Key, error) {
	if i, err := age.ParseHybridIdentity(text); err == nil {
		return hybridKey(i), nil
	}
	if i, err := age.ParseX25519Identity(text); err == nil {
		return classicKey(i), nil
	}
	return nil, corrupt("a wrapped key holds none")
}

// Wrap returns the key, encrypted to a recipient: an age file that holds the
// identity as age-keygen writes it, so that `age -d` opens it and `age -d -i`
// takes what comes out. A recipient of the other kind than the key is a
// pgmedic.KindUsage error.
func (k *Key) Wrap(to age.Recipient) ([]byte, error) {
	if k.phrase.isSet() {
		return nil, errors.New("a passphrase is not wrapped")
	}
	if k.secret == "" {
		return nil, errSealOnly
	}
	if k.hybrid && isClassic(to) || !k.hybrid && isHybrid(to) {
		return nil, errMixed()
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	if _, err = io.WriteString(w, k.secret+"\n"); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	return b.Bytes(), nil
}

// WrapKind is what opens a wrap.
type WrapKind string

// The kinds of wraps.
const (
	WrapX25519      WrapKind = "X25519"
	WrapPostQuantum WrapKind = "post-quantum"
	WrapPassphrase  WrapKind = "passphrase"
	// WrapUnknown is a wrap of a kind that is not pgmedic's, or a damaged one.
	WrapUnknown WrapKind = "unknown"
)

// KindOfWrap reads from a wrap's header what opens it. It needs no key, and so
// can't tell whether the wrap is whole.
func KindOfWrap(wrapped []byte) WrapKind {
	header, ok := bytes.CutPrefix(wrapped, []byte("age-encryption.org/v1\n-> "))
	if !ok {
		return WrapUnknown
	}
	name, _, _ := bytes.Cut(header, []byte(" "))
	switch string(name) {
	case "X25519":
		return WrapX25519
	case "mlkem768x25519":
		return WrapPostQuantum
	case "scrypt":
		return WrapPassphrase
	}
	return WrapUnknown
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
	return parseKey(strings.TrimSpace(string(text)))
}

// MAC authenticates a manifest: HMAC-SHA256 in hex, under a key that HKDF-SHA256
// derives from the backup's identity. Only who can open the backup can make it.
// For a PassphraseKey the key is that of PBKDF2, and its salt stands before a
// colon.
func (k *Key) MAC(data []byte) (string, error) {
	if k.phrase.isSet() {
		mac, err := newSaltedMAC(k.phrase)
		if err != nil {
			return "", err
		}
		mac.Write(data)
		return mac.String(), nil
	}
	if k.secret == "" {
		return "", errSealOnly
	}
	key, err := hkdf.Key(sha256.New, []byte(k.secret), nil, "pgmedic manifest v1", sha256.Size)
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
	if k.phrase.isSet() {
		made, code, err := parseSaltedMAC(k.phrase, mac)
		if err != nil {
			return err
		}
		if made.Write(data); !hmac.Equal(made.Sum(nil), code) {
			return errNotAuthentic()
		}
		return nil
	}
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

// ReceiptMAC authenticates the receipts of one backup, under a key of their own.
type ReceiptMAC struct{ key []byte }

// ReceiptMAC derives the key by which the receipts of a backup are authenticated:
// with HKDF-SHA256 from the backup's identity; for a PassphraseKey with PBKDF2 and
// the backup's id as salt, which takes a moment. Only who can open the backup can
// make it.
func (k *Key) ReceiptMAC(backupID string) (*ReceiptMAC, error) {
	const label = "pgmedic receipt v1"
	if k.phrase.isSet() {
		key, err := k.phrase.derive([]byte(label+" "+backupID), sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive the receipts' key: %w", err)
		}
		return &ReceiptMAC{key}, nil
	}
	key, err := hkdf.Key(sha256.New, []byte(k.secret), nil, label, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the receipts' key: %w", err)
	}
	return &ReceiptMAC{key}, nil
}

// Sum returns the code of a receipt as it is stored, in hex.
func (m *ReceiptMAC) Sum(receipt []byte) (string, error) {
	mac := hmac.New(sha256.New, m.key)
	mac.Write(receipt)
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// Check returns a pgmedic.KindIntegrity error unless code is what Sum makes of the
// receipt.
func (m *ReceiptMAC) Check(receipt []byte, code string) error {
	want, err := m.Sum(receipt)
	if err == nil && !hmac.Equal([]byte(want), []byte(code)) {
		err = corrupt("the receipt was not written by who can open the backup")
	}
	return err
}

// scryptWork is the cost of a passphrase, as a power of two: 64 MiB and about a
// fifth of a second. age's own default takes 256 MiB.
const scryptWork = 16

// maxScryptWork bounds what a wrap may ask for, because anyone who can write to the
// store can ask: 128 MiB. The age program's own, 18, would take 256 MiB.
const maxScryptWork = 17

// PassphraseRecipient wraps to a passphrase.
func PassphraseRecipient(text string) (age.Recipient, error) {
	r, err := age.NewScryptRecipient(text)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	r.SetWorkFactor(scryptWork)
	return r, nil
}

// PassphraseIdentity opens what was wrapped to a passphrase.
func PassphraseIdentity(text string) (age.Identity, error) {
	i, err := age.NewScryptIdentity(text)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set one that is not empty", "not a passphrase")
	}
	i.SetMaxWorkFactor(maxScryptWork)
	return i, nil
}

// Recipient returns the public half of a key as text: what PublicKey reads.
func (k *Key) Recipient() string {
	if r, ok := k.recipient.(fmt.Stringer); ok {
		return r.String()
	}
	return ""
}

// PublicKey reads the public half of a key: such a key seals, and opens, wraps and
// authenticates nothing. What is not a recipient of age is a pgmedic.KindUsage error.
func PublicKey(recipient string) (*Key, error) {
	if r, err := age.ParseHybridRecipient(recipient); err == nil {
		return &Key{recipient: r, hybrid: true}, nil
	}
	r, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "", "not a public key of age")
	}
	return &Key{recipient: r}, nil
}
