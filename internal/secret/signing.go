package secret

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/awsenv"
)

// signer uses one kind of Ed25519 key that does not leave its manager. Its errors are
// problems.
type signer interface {
	// public returns the public half.
	public(ctx context.Context) (ed25519.PublicKey, error)
	// sign returns the signature of a message.
	sign(ctx context.Context, message []byte) ([]byte, error)
	// place is where the manager is; it is named in errors.
	place() string
	// form shows how a reference is written, permission names what signing takes, and
	// making how such a key is made.
	form() string
	permission() string
	making() string
}

// SigningKey is an Ed25519 key of AWS KMS, Google Cloud KMS, or the transit engine of
// Vault or OpenBao. It may be used by several goroutines. A call takes at most ten
// seconds, and is made once more where the first one may have met a bad moment.
//
// Errors name the scheme and the place. They are of KindUnreachable where the manager
// can't be reached or refuses, and of KindUsage where there is no such key, or it is not
// one that signs with Ed25519.
type SigningKey struct {
	scheme string
	signer signer
}

// IsSigningKey reports whether the name of a key is a reference to one that is kept
// elsewhere, of a scheme that SigningKey knows or not.
func IsSigningKey(text string) bool { return strings.Contains(text, "://") }

// SigningKey returns the key that a reference names: aws-kms://region/key,
// gcp-kms://project/location/ring/key/version or vault-transit://mount/key. Nothing is
// asked yet. AWS is asked with the credentials, which may be nil for other references.
func (r *Resolver) SigningKey(ref string, credentials *awsenv.Credentials) (*SigningKey, error) {
	scheme, rest, _ := strings.Cut(ref, "://")
	k := &SigningKey{scheme: scheme}
	var err error
	switch scheme {
	case "aws-kms":
		k.signer, err = newAWSKey(r.o, credentials, rest)
	case "gcp-kms":
		k.signer, err = newGoogleKey(r.o, rest)
	case "vault-transit":
		k.signer, err = newTransitKey(r.vault, rest)
	default:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "write aws-kms://…, gcp-kms://…, vault-transit://… or the path of a file", "no signing key is kept at a place of that scheme")
	}
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "write "+k.signer.form(), "the reference %s://… %w", scheme, err)
	}
	return k, nil
}

// String names where the key is kept, without its name.
func (k *SigningKey) String() string {
	if place := k.signer.place(); place != "" {
		return k.scheme + " (" + place + ")"
	}
	return k.scheme
}

// Public returns the public half.
func (k *SigningKey) Public(ctx context.Context) (public ed25519.PublicKey, err error) {
	err = twice(ctx, callTimeout, func(ctx context.Context) (err error) {
		public, err = k.signer.public(ctx)
		return err
	})
	if err != nil {
		return nil, k.describe(ctx, "give the public key", err)
	}
	return public, nil
}

// Sign returns the Ed25519 signature of a message of less than 4 KiB. It is as the manager
// gave it: the caller verifies it.
func (k *SigningKey) Sign(ctx context.Context, message []byte) (signed []byte, err error) {
	err = twice(ctx, callTimeout, func(ctx context.Context) (err error) {
		signed, err = k.signer.sign(ctx, message)
		return err
	})
	if err != nil {
		return nil, k.describe(ctx, "sign", err)
	}
	return signed, nil
}

// describe makes the one line of an error.
func (k *SigningKey) describe(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("have %s %s: %w", k, what, context.Cause(ctx))
	}
	p, detail := problemOf(err)
	switch p.what {
	case refused:
		return pgmedic.Errorf(pgmedic.KindUnreachable, or(p.hint, k.signer.permission()), "%s refuses to %s%s", k, what, detail)
	case notFound, noField:
		return pgmedic.Errorf(pgmedic.KindUsage, or(p.hint, "check the name of the key in the reference: "+k.signer.form()), "%s has no such key%s", k, detail)
	case malformed:
		return pgmedic.Errorf(pgmedic.KindUsage, or(p.hint, "name a key of the kind Ed25519: "+k.signer.making()), "the key of %s %s", k, p.detail)
	case misconfigured:
		return pgmedic.Errorf(pgmedic.KindUsage, p.hint, "%s can't be asked%s", k, detail)
	case damaged:
		return pgmedic.Errorf(pgmedic.KindUnreachable, or(p.hint, "try again; if it stays so, see what lies between this host and the manager"), "%s could not %s: %s", k, what, p.detail)
	case unreachable:
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, or(p.hint, "see that this host can reach it, and try again"), "%s can't be reached%s", k, detail)
}
