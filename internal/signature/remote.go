package signature

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"aead.dev/minisign"
	"golang.org/x/crypto/blake2b"

	"github.com/pgmedic/pgmedic"
)

// Remote is an Ed25519 key that does not leave where it is kept. Its errors have a kind and
// hold no secret; calls end by themselves where nothing answers.
type Remote interface {
	// Public returns the public half.
	Public(ctx context.Context) (ed25519.PublicKey, error)
	// Sign returns the signature of a message of less than 4 KiB: Ed25519 over the
	// message itself.
	Sign(ctx context.Context, message []byte) ([]byte, error)
	// String names where it is kept, for people.
	String() string
}

// NewRemoteKey returns the Key that a Remote has, whose public half it asks for now, and
// never again.
//
// minisign makes ids at random, and such a key has nowhere to keep one. The id is therefore
// the first 8 bytes of the SHA-256 of the 32 bytes of the public key, in the order in which
// they are printed: each host finds the same one.
func NewRemoteKey(ctx context.Context, r Remote) (*Key, error) {
	raw, err := r.Public(ctx)
	if err != nil {
		return nil, err
	}
	if len(raw) != ed25519.PublicKeySize {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name a key of the kind Ed25519", "the public key of %s has %d bytes, and one of Ed25519 has %d", r, len(raw), ed25519.PublicKeySize)
	}
	sum := sha256.Sum256(raw)
	text := binary.LittleEndian.AppendUint16(nil, minisign.EdDSA)
	text = binary.LittleEndian.AppendUint64(text, binary.BigEndian.Uint64(sum[:8]))
	k := &Key{remote: r}
	if err := k.public.key.UnmarshalText([]byte(base64.StdEncoding.EncodeToString(append(text, raw...)))); err != nil {
		return nil, fmt.Errorf("write the public key of %s: %w", r, err)
	}
	return k, nil
}

// signThere has the two signatures made of which a file of minisign consists: that of the
// data's BLAKE2b-512 hash, and one of that signature together with the comment.
func (k *Key) signThere(ctx context.Context, data []byte, comment string) ([]byte, error) {
	s := minisign.Signature{
		Algorithm: minisign.HashEdDSA, KeyID: k.public.key.ID(), TrustedComment: comment, UntrustedComment: untrustedComment(k.ID()),
	}
	hash := blake2b.Sum512(data)
	first, err := k.signBytes(ctx, hash[:])
	if err != nil {
		return nil, err
	}
	copy(s.Signature[:], first)
	second, err := k.signBytes(ctx, append(bytes.Clone(first), comment...))
	if err != nil {
		return nil, err
	}
	copy(s.CommentSignature[:], second)
	text, err := s.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("write the signature: %w", err)
	}
	return text, nil
}

func (k *Key) signBytes(ctx context.Context, message []byte) ([]byte, error) {
	signed, err := k.remote.Sign(ctx, message)
	if err == nil && len(signed) != ed25519.SignatureSize {
		err = pgmedic.Errorf(pgmedic.KindIntegrity, "see that the setting names a key of the kind Ed25519",
			"%s answered with %d bytes, and a signature of Ed25519 has %d", k.remote, len(signed), ed25519.SignatureSize)
	}
	return signed, err
}
