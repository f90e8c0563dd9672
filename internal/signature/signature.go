// Package signature signs the manifests of backups and says who signed them:
// Ed25519, with keys and signatures in minisign's format, so that they can be checked
// with minisign alone (https://jedisct1.github.io/minisign/).
package signature

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"

	"github.com/pgmedic/pgmedic"
)

// Key signs: a secret key that was read, or one that stays where it is kept. It has no
// form that can be printed.
type Key struct {
	secret minisign.PrivateKey
	// remote signs in the place of secret, where it is not nil, and public is its public
	// half.
	remote Remote
	public Signer
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	_, secret, err := minisign.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return &Key{secret: secret}, nil
}

// ParseKey reads the file of a secret key, as `minisign -G -W` and Key.File write it.
// What is not one, or is protected with a passphrase, is an error of KindUsage that
// does not repeat the text.
//
// minisign derives the key of a protected file by scrypt with 1 GiB of memory, which a
// backup does not have to spare, and the passphrase would lie beside the file.
func ParseKey(file []byte) (*Key, error) {
	const how = "make one with `pgmedic keys new --signing`, or with minisign -G -W"
	if minisign.IsEncrypted(bytes.TrimSpace(file)) {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "take the passphrase off with minisign -C -W -s FILE, or "+how+"; keep the file readable for its owner only",
			"the signing key is protected with a passphrase, which would take 1 GiB of memory for each backup")
	}
	key := &Key{}
	err := key.secret.UnmarshalText(bytes.TrimSpace(file))
	if err == nil {
		// The file has the public half, too. One that is not that of the secret half makes
		// signatures that nothing verifies.
		const probe = "pgmedic"
		if !minisign.Verify(key.Public().key, []byte(probe), key.signHere([]byte(probe), "probe")) {
			err = errors.New("its two halves do not fit")
		}
	}
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, how, "not a secret key of minisign")
	}
	return key, nil
}

// File is the key as ParseKey reads it: a secret, for a file that its owner alone can
// read. A key that stays where it is kept has none, which is an error.
func (k *Key) File() ([]byte, error) {
	if k.remote != nil {
		return nil, errors.New("write the signing key: it does not leave where it is kept")
	}
	text, err := k.secret.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("write the signing key: %w", err)
	}
	return append(text, '\n'), nil
}

// ID is the key's id, which its public half has, too.
func (k *Key) ID() string { return k.Public().ID() }

// Public is the half by which signatures are checked.
func (k *Key) Public() Signer {
	if k.remote != nil {
		return k.public
	}
	public, ok := k.secret.Public().(minisign.PublicKey)
	if !ok { // the library's own type
		return Signer{}
	}
	return Signer{public}
}

// Sign returns the signature of data as a file of minisign. The comment, one line, is
// signed with it. The signature has been verified by the key's public half. An error is a
// SignError.
func (k *Key) Sign(ctx context.Context, data []byte, comment string) ([]byte, error) {
	var file []byte
	var err error
	if k.remote != nil {
		file, err = k.signThere(ctx, data, comment)
	} else {
		file = k.signHere(data, comment)
	}
	if err == nil && !minisign.Verify(k.Public().key, data, file) {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "see that the setting still names the same key, and run it again", "%s made a signature that its public key %s does not verify", k.Kept(), k.ID())
	}
	if err != nil {
		return nil, &SignError{err}
	}
	return file, nil
}

// Kept names where the key is kept, for people.
func (k *Key) Kept() string {
	if k.remote != nil {
		return k.remote.String()
	}
	return "the signing key"
}

// SignError is every error of Key.Sign: nothing was signed. It reads as the error that it
// wraps.
type SignError struct{ Err error }

func (e *SignError) Error() string { return e.Err.Error() }

func (e *SignError) Unwrap() error { return e.Err }

// signHere signs with a secret key.
func (k *Key) signHere(data []byte, comment string) []byte {
	// Of the hash, as minisign itself has done since 2021.
	r := minisign.NewReader(bytes.NewReader(data))
	var sink bytes.Buffer
	_, _ = sink.ReadFrom(r) // memory to memory
	return r.SignWithComments(k.secret, comment, untrustedComment(k.ID()))
}

func untrustedComment(id string) string { return "signature of pgmedic by " + id }

// Signer is a public key: of somebody whose signatures are believed.
type Signer struct{ key minisign.PublicKey }

// ParseSigner reads a public key: the one line that begins with RW, or the file of two
// lines that minisign writes. What is not one is an error of KindUsage that does not
// repeat the text, which may be a secret key in the wrong place.
func ParseSigner(text string) (Signer, error) {
	text = strings.TrimSpace(text)
	const hint = "a public key is one line that begins with RW; `pgmedic keys new --signing` prints it, and minisign -R -s FILE writes it again"
	var s Signer
	if err := new(minisign.PrivateKey).UnmarshalText([]byte(text)); err == nil || minisign.IsEncrypted([]byte(text)) {
		return s, pgmedic.Errorf(pgmedic.KindUsage, "take it out of there; treat it as known to others and make a new one; "+hint,
			"a secret key stands where public keys belong")
	}
	if err := s.key.UnmarshalText([]byte(text)); err != nil {
		return s, pgmedic.Errorf(pgmedic.KindUsage, hint, "not a public key of minisign")
	}
	return s, nil
}

// ID is the key's id: 16 hex digits, in upper case.
func (s Signer) ID() string { return idText(s.key.ID()) }

// String is the public key in one line.
func (s Signer) String() string { return s.key.String() }

// Signers are the public keys whose signatures are believed.
type Signers []Signer

// IDs are those of the keys, each once.
func (s Signers) IDs() []string {
	ids := make([]string, 0, len(s))
	seen := map[string]bool{}
	for _, signer := range s {
		if id := signer.ID(); !seen[id] {
			ids, seen[id] = append(ids, id), true
		}
	}
	return ids
}

// Has reports whether a public key is among them.
func (s Signers) Has(one Signer) bool {
	for _, signer := range s {
		if signer.key.Equal(one.key) {
			return true
		}
	}
	return false
}

// Verifies reports whether a signature file is that of one of the keys over data.
func (s Signers) Verifies(data, signature []byte) bool {
	for _, signer := range s {
		if minisign.Verify(signer.key, data, signature) {
			return true
		}
	}
	return false
}

func idText(id uint64) string { return fmt.Sprintf("%016X", id) }
