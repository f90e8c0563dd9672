package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
)

// passphraseKey is the name of the wrap that a passphrase opens.
const passphraseKey = "passphrase"

// sealing says how backups are sealed, the ways to open them, and who signs them. Whoever takes a backup
// needs one, and keyring.sealing makes it.
type sealing struct {
	options seal.Options
	wraps   []seal.Wrap
	// signer is nil where nothing signs.
	signer *signature.Key
}

// sealing refuses settings that this version can't honour and returns how backups are
// sealed here. With an error it is as far as it is known. A signing key that is kept in a
// key manager is asked for.
func (kr keyring) sealing(ctx context.Context) (sealing, error) {
	how, err := kr.unsignedSealing()
	if err == nil {
		how.signer, err = kr.ownSigner(ctx)
	}
	return how, err
}

// unsignedSealing is sealing without what signs.
func (kr keyring) unsignedSealing() (sealing, error) {
	if err := kr.cfg.CheckBackup(); err != nil {
		return sealing{}, err
	}
	options, wraps, err := kr.sealingWays()
	how := sealing{options: options, wraps: wraps}
	if err != nil {
		return how, err
	}
	if encrypted := options.Encryption != "" && options.Encryption != seal.EncryptionNone; !encrypted && kr.refusesUnencrypted() {
		return how, pgmedic.Errorf(pgmedic.KindUsage,
			"set backup.allow_unencrypted (PGMEDIC_ALLOW_UNENCRYPTED), or backup.encryption to age, or take the keys out of the configuration",
			"backup.encryption is %s on a host that has keys, and that would refuse its own backups", seal.EncryptionNone)
	}
	return how, nil
}

// sealingWays returns how backups are sealed here, and the ways to open them. They
// are encrypted if there is any.
func (kr keyring) sealingWays() (seal.Options, []seal.Wrap, error) {
	o := seal.Options{Compression: seal.Compression(kr.cfg.Backup.Compression), Encryption: seal.EncryptionNone}
	if kr.cfg.Backup.Encryption == string(seal.EncryptionNone) {
		return o, nil, nil
	}
	if kr.cfg.Backup.Encryption == string(seal.EncryptionAES256CBC) {
		o, err := kr.cbcSealing(o)
		return o, nil, err
	}
	wraps, err := kr.configuredWraps()
	if err != nil {
		return o, nil, err
	}
	if len(wraps) == 0 && len(kr.cfg.Backup.IdentityFiles) > 0 {
		// This host refuses backups that are not encrypted, and so its own as well.
		if wraps, err = kr.ownWraps(); err != nil {
			return o, nil, err
		}
	}
	if len(wraps) > 0 {
		o.Encryption = seal.EncryptionAge
	}
	to := make([]age.Recipient, 0, len(wraps))
	for _, w := range wraps {
		to = append(to, w.To)
	}
	return o, wraps, seal.CheckRecipients(to...)
}

// configuredWraps are the ways to open backups that the configuration names.
func (kr keyring) configuredWraps() ([]seal.Wrap, error) {
	var wraps []seal.Wrap
	for _, text := range kr.cfg.Backup.Recipients {
		to, err := parseRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("backup.recipients: %w", err)
		}
		wraps = append(wraps, seal.Wrap{Name: recipientName(text), To: to})
	}
	if phrase := kr.cfg.Backup.EncryptionKey.Reveal(); phrase != "" {
		to, err := seal.PassphraseRecipient(phrase)
		if err != nil {
			return nil, fmt.Errorf("backup.encryption_key: %w", err)
		}
		wraps = append(wraps, seal.Wrap{Name: passphraseKey, To: to})
	}
	return wraps, nil
}

// ownWraps are those to the public halves of this host's secret keys, of the
// post-quantum ones alone where there are any.
func (kr keyring) ownWraps() ([]seal.Wrap, error) {
	with, err := kr.identities()
	if err != nil {
		return nil, err
	}
	var classic, hybrid []seal.Wrap
	for _, id := range with {
		switch id := id.(type) {
		case *age.X25519Identity:
			classic = append(classic, seal.Wrap{Name: recipientName(id.Recipient().String()), To: id.Recipient()})
		case *age.HybridIdentity:
			hybrid = append(hybrid, seal.Wrap{Name: recipientName(id.Recipient().String()), To: id.Recipient()})
		}
	}
	if len(hybrid) > 0 {
		return hybrid, nil
	}
	return classic, nil
}

// cbcSealing is sealing with a passphrase, as openssl does it.
func (kr keyring) cbcSealing(o seal.Options) (seal.Options, error) {
	refuse := func(hint, why string) (seal.Options, error) {
		return o, pgmedic.Errorf(pgmedic.KindUsage, hint, "backup.encryption is %s, %s", seal.EncryptionAES256CBC, why)
	}
	switch {
	case pgmedic.Method(kr.cfg.Backup.Method) != pgmedic.MethodPlain:
		return refuse("set backup.method to plain, or backup.encryption to age", "which is for plain backups only")
	case len(kr.cfg.Backup.Recipients) > 0:
		return refuse("take backup.recipients out, or set backup.encryption to age", "which knows no recipients")
	case kr.cfg.Backup.EncryptionKey.Reveal() == "":
		return refuse("set backup.encryption_key (BACKUP_ENCRYPTION_KEY)", "and there is no passphrase")
	}
	key, err := seal.PassphraseKey(kr.cfg.Backup.EncryptionKey.Reveal())
	o.Encryption, o.Key = seal.EncryptionAES256CBC, key
	return o, err
}

// parseRecipient reads a public key. Its error does not repeat it: it may be a
// secret one in the wrong place.
func parseRecipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(text)), "AGE-SECRET-KEY-") {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "take it out of there; treat it as known to others and make a new one (age-keygen); recipients are public keys, which begin with age1",
			"a secret key stands where public keys belong")
	}
	recipients, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(recipients) != 1 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "a public key begins with age1; age-keygen -y prints that of a secret one",
			"not an age public key")
	}
	return recipients[0], nil
}

// recipientPrefix begins the names of wraps for public keys.
const recipientPrefix = "recipient-"

// recipientName is what the wrap for a public key is stored under.
func recipientName(recipient string) string {
	sum := sha256.Sum256([]byte(recipient))
	return recipientPrefix + hex.EncodeToString(sum[:4])
}
