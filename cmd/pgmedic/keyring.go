package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// addUnencrypted adds the flag of commands that use what is in a backup.
func addUnencrypted(cmd *cobra.Command) {
	addSwitch(cmd, "allow-unencrypted", "backup.allow_unencrypted",
		"use a backup that is not encrypted though this host has keys: nothing shows who wrote it")
	addSwitch(cmd, "allow-unsigned", "backup.allow_unsigned",
		"use a backup that no trusted signer signed: nothing shows who wrote it")
}

// hasMeans reports whether this host is one of those that take or read encrypted
// backups.
func (kr keyring) hasMeans() bool {
	b := kr.cfg.Backup
	return len(b.Recipients) > 0 || len(b.IdentityFiles) > 0 || b.EncryptionKey != ""
}

// refusesUnencrypted reports whether backups that are not encrypted are refused
// here: anyone who can write to the store can put one in the place of another.
func (kr keyring) refusesUnencrypted() bool { return kr.hasMeans() && !kr.cfg.Backup.AllowUnencrypted }

// identities returns the secret keys that this host has.
func (kr keyring) identities() ([]age.Identity, error) {
	all, err := kr.fileIdentities()
	if err != nil {
		return nil, err
	}
	phrase, err := kr.passphraseIdentity()
	if phrase != nil {
		all = append(all, phrase)
	}
	return all, err
}

// fileIdentities are those of backup.identity_files.
func (kr keyring) fileIdentities() ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range kr.cfg.Backup.IdentityFiles {
		f, err := os.Open(path)
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage,
				"correct "+kr.cfg.Origin("backup.identity_files").String()+" (backup.identity_files), or bring the file back: docs/emergency.md, \"Lost key\"",
				"open the file of secret keys: %w", err)
		}
		ids, err := age.ParseIdentities(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "age-keygen writes such files", "%s holds no age secret key", path)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// passphraseIdentity is that of backup.encryption_key, or nil.
func (kr keyring) passphraseIdentity() (age.Identity, error) {
	phrase := kr.cfg.Backup.EncryptionKey.Reveal()
	if phrase == "" {
		return nil, nil
	}
	id, err := seal.PassphraseIdentity(phrase)
	if err != nil {
		return nil, fmt.Errorf("backup.encryption_key: %w", err)
	}
	return id, nil
}

// ownNames are the names under which the wraps are stored that these keys open:
// they are tried first, so that no number of others keeps a backup from being
// opened.
func ownNames(with []age.Identity) []string {
	names := publicNames(with)
	if slices.ContainsFunc(with, func(id age.Identity) bool { _, ok := id.(*age.ScryptIdentity); return ok }) {
		names = append(names, passphraseKey, passphraseKey+"-2", passphraseKey+"-3")
	}
	return names
}

// publicNames are those of wraps for the public keys of identities, which no other key
// has.
func publicNames(with []age.Identity) (names []string) {
	for _, id := range with {
		switch id := id.(type) {
		case *age.X25519Identity:
			names = append(names, recipientName(id.Recipient().String()))
		case *age.HybridIdentity:
			names = append(names, recipientName(id.Recipient().String()))
		}
	}
	return names
}

// errUnencrypted is the error of a backup that this host refuses.
func errUnencrypted(b *pgmedic.Backup) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "find out who wrote it; --allow-unencrypted uses it all the same",
		"backup %s is not encrypted, and this host has keys: nothing shows who wrote it", b.ID)
}

// openKey opens a backup's key with what this host has, and authenticates the
// manifest with it. The key is nil where the backup is not encrypted, and where
// this host has no key at all: such a host can tell whether the stored bytes are
// intact, and no more. A backup that is not encrypted is refused where others are, and
// one that no trusted signer signed where this host names such.
func (kr keyring) openKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (*seal.Key, error) {
	m, err := c.Manifest(ctx, b)
	if err != nil {
		return nil, err
	}
	if err := checkSigned(ctx, kr.job, b, m); err != nil {
		return nil, err
	}
	return kr.openSealed(ctx, c, b, m)
}

// openSealed is openKey whoever signed the manifest.
func (kr keyring) openSealed(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest) (*seal.Key, error) {
	if b.Seal.Encryption == string(seal.EncryptionNone) {
		if kr.refusesUnencrypted() {
			return nil, errUnencrypted(b)
		}
		return nil, nil
	}
	return kr.openManifest(ctx, c, b, m)
}

// openManifest is openKey for an encrypted backup whose manifest was read.
func (kr keyring) openManifest(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest) (*seal.Key, error) {
	switch seal.Encryption(b.Seal.Encryption) {
	case seal.EncryptionAge:
		with, err := kr.identities()
		if err != nil || len(with) == 0 {
			return nil, err
		}
		return kr.unwrap(ctx, c, b, m, with)
	case seal.EncryptionAES256CBC:
		phrase := kr.cfg.Backup.EncryptionKey.Reveal()
		if phrase == "" {
			return nil, nil
		}
		key, err := seal.PassphraseKey(phrase)
		if err == nil {
			err = m.Authenticate(key.CheckMAC)
		}
		return key, err
	case seal.EncryptionNone:
	}
	return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup: `pgmedic list` shows them",
		"backup %s has the unknown encryption %.40q", b.ID, b.Seal.Encryption)
}

// unwrap opens the backup's key with the first wrap that fits: that one of these
// identities opens, and whose key authenticates the manifest. What does not fit is
// passed over, and named: anyone who can write to the store can add wraps.
func (kr keyring) unwrap(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest, with []age.Identity) (*seal.Key, error) {
	problem := fmt.Errorf("open the key of backup %s: %w", b.ID, seal.ErrNotForUs)
	tries := newTries(with)
	var odd []string
	found := false
	for w, err := range c.EachKey(ctx, b, ownNames(with)...) {
		if err != nil {
			return nil, err
		}
		found = true
		key, why, err := tries.fit(w, m)
		if key != nil {
			kr.warnOdd(b, odd)
			return key, nil
		}
		if why == "" && slices.Contains(publicNames(with), w.Name) {
			// It bears the name of a key that this host has.
			why, err = "damaged", pgmedic.Errorf(pgmedic.KindIntegrity, "", "key %s is damaged", w.Name)
		}
		if why != "" {
			odd = append(odd, w.Name+" ("+why+")")
		}
		if err != nil {
			problem = fmt.Errorf("open the key of backup %s: %w", b.ID, err)
		}
	}
	if !found {
		return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "if a copy has its keys, run pgmedic copy from there; else restore another backup",
			"backup %s: %w", b.ID, errNoWraps)
	}
	kr.warnOdd(b, odd)
	hint := "use the identity file or the passphrase that the backup was made for: pgmedic keys list " + b.ID
	if own := pgmedic.HintOf(problem); own != "" {
		hint = own
	}
	kind := pgmedic.KindIntegrity
	if errors.Is(problem, seal.ErrNotForUs) {
		kind = pgmedic.KindUsage // which says nothing about the backup
	}
	return nil, &pgmedic.Error{Kind: kind, Hint: hint, Err: problem}
}

// warnOdd names wraps that no pgmedic wrote for this backup, the first few of them.
func (kr keyring) warnOdd(b *pgmedic.Backup, odd []string) {
	if len(odd) == 0 {
		return
	}
	const most = 3
	names := strings.Join(odd[:min(len(odd), most)], ", ")
	if len(odd) > most {
		names += fmt.Sprintf(" and %d more", len(odd)-most)
	}
	kr.log.Warn("keys were passed over that do not open this backup: find out who can write to the store", "backup", b.ID, "keys", words.Clean(names))
}

// maxPassphrases is how many wraps of a passphrase are tried: each takes a quarter
// of a second.
const maxPassphrases = 4

// tries opens wraps, and bounds what that takes.
type tries struct {
	with        []age.Identity
	passphrases int
}

func newTries(with []age.Identity) *tries { return &tries{with: with} }

// fit opens a wrap and authenticates the manifest with its key. Where it does not
// fit why says what is odd about it, if that is more than that it is for somebody
// else; err is then a problem of the backup.
func (t *tries) fit(w catalog.Wrap, m *catalog.Manifest) (key *seal.Key, why string, err error) {
	if w.Odd != "" {
		return nil, w.Odd, nil
	}
	kind := seal.KindOfWrap(w.Data)
	with := t.with
	switch kind {
	case seal.WrapUnknown:
		return nil, "not a key", pgmedic.Errorf(pgmedic.KindIntegrity, "", "%.80q is not a key", w.Name)
	case seal.WrapPassphrase:
		with = t.passphraseIdentities()
		if len(with) == 0 {
			return nil, "", nil
		}
		if t.passphrases++; t.passphrases > maxPassphrases {
			return nil, fmt.Sprintf("more than %d passphrases", maxPassphrases), nil
		}
	case seal.WrapX25519, seal.WrapPostQuantum:
	}
	key, err = seal.OpenKey(w.Data, with)
	switch {
	case errors.Is(err, seal.ErrNotForUs):
		return nil, "", nil
	case err != nil:
		return nil, "damaged", err
	}
	if err := m.Authenticate(key.CheckMAC); err != nil {
		return nil, "does not fit the manifest", err
	}
	return key, "", nil
}

func (t *tries) passphraseIdentities() []age.Identity {
	var all []age.Identity
	for _, id := range t.with {
		if _, ok := id.(*age.ScryptIdentity); ok {
			all = append(all, id)
		}
	}
	return all
}

// errNoWraps says that a backup can never be opened again.
var errNoWraps = errors.New("no key that opens it is left in the store: this backup can no longer be read")

// readKey is openKey for what can't be done without the key.
func (kr keyring) readKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (*seal.Key, error) {
	key, err := kr.openKey(ctx, c, b)
	if err == nil && key == nil && b.Seal.Encryption != string(seal.EncryptionNone) {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set backup.identity_files (PGMEDIC_IDENTITY_FILES) or backup.encryption_key (BACKUP_ENCRYPTION_KEY)",
			"backup %s is encrypted and this host has no key", b.ID)
	}
	return key, err
}

// wholeBackup reads all of a backup, opens it, and authenticates it as openKey
// does. The backup comes with errNoWraps, too.
func (kr keyring) wholeBackup(ctx context.Context, c *catalog.Catalog, e catalog.Entry) (*pgmedic.Backup, *seal.Key, error) {
	b, err := c.Whole(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	key, err := kr.openKey(ctx, c, b)
	return b, key, err
}

// hasKey reports whether this host has what may open a backup.
func (kr keyring) hasKey(b *pgmedic.Backup) bool {
	if b.Seal.Encryption == string(seal.EncryptionAge) && len(kr.cfg.Backup.IdentityFiles) > 0 {
		return true
	}
	return kr.cfg.Backup.EncryptionKey.Reveal() != ""
}
