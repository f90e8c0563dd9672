package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
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
	a.seal, a.wraps, err = a.sealing()
	return err
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
	var wraps []backup.Wrap
	for _, text := range a.cfg.Backup.Recipients {
		to, err := parseRecipient(text)
		if err != nil {
			return o, nil, fmt.Errorf("backup.recipients: %w", err)
		}
		wraps = append(wraps, backup.Wrap{Name: recipientName(text), To: to})
	}
	if phrase := a.cfg.Backup.EncryptionKey.Reveal(); phrase != "" {
		to, err := seal.PassphraseRecipient(phrase)
		if err != nil {
			return o, nil, fmt.Errorf("backup.encryption_key: %w", err)
		}
		wraps = append(wraps, backup.Wrap{Name: passphraseKey, To: to})
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
	recipients, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(recipients) != 1 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "a public key begins with age1; age-keygen -y prints that of a secret one",
			"not an age public key")
	}
	return recipients[0], nil
}

// recipientName is what the wrap for a public key is stored under.
func recipientName(recipient string) string {
	sum := sha256.Sum256([]byte(recipient))
	return "recipient-" + hex.EncodeToString(sum[:4])
}

// identities returns the secret keys that this host has.
func (a *app) identities() ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range a.cfg.Backup.IdentityFiles {
		f, err := os.Open(path)
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "see backup.identity_files", "open a file of secret keys: %w", err)
		}
		ids, err := age.ParseIdentities(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "age-keygen writes such files", "%s holds no age secret key", path)
		}
		all = append(all, ids...)
	}
	if phrase := a.cfg.Backup.EncryptionKey.Reveal(); phrase != "" {
		id, err := seal.PassphraseIdentity(phrase)
		if err != nil {
			return nil, fmt.Errorf("backup.encryption_key: %w", err)
		}
		all = append(all, id)
	}
	return all, nil
}

// openKey opens a backup's key with what this host has, and authenticates the
// manifest with it. The key is nil where the backup is not encrypted, and where
// this host has no key at all: such a host can tell whether the stored bytes are
// intact, and no more.
func (a *app) openKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (*seal.Key, error) {
	switch seal.Encryption(b.Seal.Encryption) {
	case seal.EncryptionAge:
	case seal.EncryptionAES256CBC:
		phrase := a.cfg.Backup.EncryptionKey.Reveal()
		if phrase == "" {
			return nil, nil
		}
		key, err := seal.PassphraseKey(phrase)
		if err == nil {
			err = c.Authenticate(ctx, b, key.CheckMAC)
		}
		return key, err
	default:
		if len(a.cfg.Backup.Recipients) > 0 || a.cfg.Backup.EncryptionKey != "" {
			// Who can write to the store can put a backup of their own in the
			// place of an encrypted one, and only those are authenticated.
			a.log.Warn("backups are encrypted here and this one is not: nothing shows who wrote it", "backup", b.ID)
		}
		return nil, nil
	}
	with, err := a.identities()
	if err != nil || len(with) == 0 {
		return nil, err
	}
	wraps, err := c.Keys(ctx, b)
	if err != nil {
		return nil, err
	}
	if len(wraps) == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "if a copy has its keys, run pgmedic copy from there; else restore another backup",
			"backup %s: %w", b.ID, errNoWraps)
	}
	problem := error(nil)
	for _, name := range slices.Sorted(maps.Keys(wraps)) {
		key, err := seal.OpenKey(wraps[name], with)
		switch {
		case err == nil:
			return key, c.Authenticate(ctx, b, key.CheckMAC)
		case !errors.Is(err, seal.ErrNotForUs):
			problem = err
		}
	}
	if problem == nil {
		problem = seal.ErrNotForUs
	}
	return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "use the identity file or the passphrase that the backup was made for: pgmedic keys list "+b.ID,
		"open the key of backup %s: %w", b.ID, problem)
}

// errNoWraps is that nobody can open a backup again.
var errNoWraps = errors.New("no way to open it is left in the store: nobody can read this backup again")

// readKey is openKey for what can't be done without the key.
func (a *app) readKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (*seal.Key, error) {
	key, err := a.openKey(ctx, c, b)
	if err == nil && key == nil && b.Seal.Encryption != string(seal.EncryptionNone) {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set backup.identity_files (PGMEDIC_IDENTITY_FILES) or backup.encryption_key (BACKUP_ENCRYPTION_KEY)",
			"backup %s is encrypted and this host has no key", b.ID)
	}
	return key, err
}
