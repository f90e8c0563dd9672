package main

import (
	"context"
	"errors"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
)

// trust tells a listing what was written by who has the keys that this host has.
type trust struct {
	keys keyring
	// files are identities that open fast; phrase is one that does not.
	files  []age.Identity
	phrase age.Identity
	// signers are those whose signatures count.
	signers signature.Signers
}

var _ catalog.Trust = (*trust)(nil)

// trusting adds to a filter what tells claims from proofs, and the clock. Without
// the keys that it names this host can list all the same: what is proven is then a
// claim.
func (kr keyring) trusting(f catalog.Filter) catalog.Filter {
	files, err := kr.fileIdentities()
	phrase, phraseErr := kr.passphraseIdentity()
	if err = errors.Join(err, phraseErr); err != nil {
		kr.log.Warn("secret keys can't be read: what is proven of encrypted backups is a claim here", "error", err)
	}
	signers, err := trustedSigners(kr.cfg)
	if err != nil {
		kr.log.Warn("trusted signers can't be read: no backup counts as signed here", "error", err)
		signers = signature.Signers{} // which no signature is of
	}
	f.Trust, f.Now = &trust{keys: kr, files: files, phrase: phrase, signers: signers}, kr.now()
	return f
}

// unreadTrust is why this host can't tell what is proven though its configuration names
// the keys for that, or nil.
func (kr keyring) unreadTrust() error {
	_, fileErr := kr.fileIdentities()
	_, phraseErr := kr.passphraseIdentity()
	_, signersErr := trustedSigners(kr.cfg)
	return errors.Join(signersErr, fileErr, phraseErr)
}

// RefusesUnencrypted implements catalog.Trust.
func (t *trust) RefusesUnencrypted() bool { return t.keys.refusesUnencrypted() }

// Signers implements catalog.Trust.
func (t *trust) Signers() signature.Signers { return t.signers }

// RefusesUnsigned implements catalog.Trust.
func (t *trust) RefusesUnsigned() bool {
	return t.signers != nil && !t.keys.cfg.Backup.AllowUnsigned
}

// Open implements catalog.Trust. That this host has no key for a backup is no
// error: what is said of it is then a claim.
func (t *trust) Open(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest, costly bool) (catalog.CheckReceipt, error) {
	key, err := t.key(ctx, c, b, m, costly)
	if err != nil || key == nil {
		return nil, err
	}
	mac, err := key.ReceiptMAC(b.ID)
	if err != nil {
		return nil, err
	}
	return mac.Check, nil
}

func (t *trust) key(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest, costly bool) (*seal.Key, error) {
	if seal.Encryption(b.Seal.Encryption) == seal.EncryptionAES256CBC {
		phrase := t.keys.cfg.Backup.EncryptionKey.Reveal()
		if phrase == "" {
			return nil, nil
		}
		if !costly {
			return nil, catalog.ErrCostly
		}
		key, err := seal.PassphraseKey(phrase)
		if err != nil {
			return nil, err
		}
		return key, m.Authenticate(key.CheckMAC)
	}
	with := t.files
	if costly && t.phrase != nil {
		with = append(with[:len(with):len(with)], t.phrase)
	}
	var notFitting error
	if len(with) > 0 {
		tries := newTries(with)
		for w, err := range c.EachKey(ctx, b, ownNames(with)...) {
			if err != nil {
				return nil, err
			}
			key, why, err := tries.fit(w, m)
			if key != nil {
				return key, nil
			}
			if err != nil && why == "does not fit the manifest" {
				notFitting = err
			}
		}
	}
	switch {
	case t.phrase != nil && !costly:
		return nil, catalog.ErrCostly
	case notFitting != nil:
		return nil, notFitting
	}
	return nil, nil
}
