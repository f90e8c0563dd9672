package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// passphraseKey is the name of the wrap that a passphrase opens.
const passphraseKey = "passphrase"

// prepareBackup refuses settings that this version can't honour and sets how
// backups are sealed. Every command that takes one calls it first.
func (a *app) prepareBackup() (err error) {
	if err := a.cfg.CheckBackup(); err != nil {
		return err
	}
	if a.seal, a.wraps, err = a.sealing(); err != nil {
		return err
	}
	if encrypted := a.seal.Encryption != "" && a.seal.Encryption != seal.EncryptionNone; !encrypted && a.refusesUnencrypted() {
		return pgmedic.Errorf(pgmedic.KindUsage,
			"set backup.allow_unencrypted (PGMEDIC_ALLOW_UNENCRYPTED), or backup.encryption to age, or take the keys out of the configuration",
			"backup.encryption is %s on a host that has keys, and that would refuse its own backups", seal.EncryptionNone)
	}
	return nil
}

// sealing returns how backups are sealed here, and the ways to open them. They
// are encrypted if there is any.
func (a *app) sealing() (seal.Options, []backup.Wrap, error) {
	o := seal.Options{Compression: seal.Compression(a.cfg.Backup.Compression), Encryption: seal.EncryptionNone}
	if a.cfg.Backup.Encryption == string(seal.EncryptionNone) {
		return o, nil, nil
	}
	if a.cfg.Backup.Encryption == string(seal.EncryptionAES256CBC) {
		o, err := a.cbcSealing(o)
		return o, nil, err
	}
	wraps, err := a.configuredWraps()
	if err != nil {
		return o, nil, err
	}
	if len(wraps) == 0 && len(a.cfg.Backup.IdentityFiles) > 0 {
		// This host refuses backups that are not encrypted, and so its own as well.
		if wraps, err = a.ownWraps(); err != nil {
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
func (a *app) configuredWraps() ([]backup.Wrap, error) {
	var wraps []backup.Wrap
	for _, text := range a.cfg.Backup.Recipients {
		to, err := parseRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("backup.recipients: %w", err)
		}
		wraps = append(wraps, backup.Wrap{Name: recipientName(text), To: to})
	}
	if phrase := a.cfg.Backup.EncryptionKey.Reveal(); phrase != "" {
		to, err := seal.PassphraseRecipient(phrase)
		if err != nil {
			return nil, fmt.Errorf("backup.encryption_key: %w", err)
		}
		wraps = append(wraps, backup.Wrap{Name: passphraseKey, To: to})
	}
	return wraps, nil
}

// ownWraps are those to the public halves of this host's secret keys, of the
// post-quantum ones alone where there are any.
func (a *app) ownWraps() ([]backup.Wrap, error) {
	with, err := a.identities()
	if err != nil {
		return nil, err
	}
	var classic, hybrid []backup.Wrap
	for _, id := range with {
		switch id := id.(type) {
		case *age.X25519Identity:
			classic = append(classic, backup.Wrap{Name: recipientName(id.Recipient().String()), To: id.Recipient()})
		case *age.HybridIdentity:
			hybrid = append(hybrid, backup.Wrap{Name: recipientName(id.Recipient().String()), To: id.Recipient()})
		}
	}
	if len(hybrid) > 0 {
		return hybrid, nil
	}
	return classic, nil
}

// cbcSealing is sealing with a passphrase, as openssl does it.
func (a *app) cbcSealing(o seal.Options) (seal.Options, error) {
	refuse := func(hint, why string) (seal.Options, error) {
		return o, pgmedic.Errorf(pgmedic.KindUsage, hint, "backup.encryption is %s, %s", seal.EncryptionAES256CBC, why)
	}
	switch {
	case pgmedic.Method(a.cfg.Backup.Method) != pgmedic.MethodPlain:
		return refuse("set backup.method to plain, or backup.encryption to age", "which is for plain backups only")
	case len(a.cfg.Backup.Recipients) > 0:
		return refuse("take backup.recipients out, or set backup.encryption to age", "which knows no recipients")
	case a.cfg.Backup.EncryptionKey.Reveal() == "":
		return refuse("set backup.encryption_key (BACKUP_ENCRYPTION_KEY)", "and there is no passphrase")
	}
	key, err := seal.PassphraseKey(a.cfg.Backup.EncryptionKey.Reveal())
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
