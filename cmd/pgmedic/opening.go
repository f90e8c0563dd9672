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
}

// hasMeans reports whether this host is one of those that take or read encrypted
// backups.
func (a *app) hasMeans() bool {
	b := a.cfg.Backup
	return len(b.Recipients) > 0 || len(b.IdentityFiles) > 0 || b.EncryptionKey != ""
}

// refusesUnencrypted reports whether backups that are not encrypted are refused
// here: anyone who can write to the store can put one in the place of another.
func (a *app) refusesUnencrypted() bool { return a.hasMeans() && !a.cfg.Backup.AllowUnencrypted }

// identities returns the secret keys that this host has.
func (a *app) identities() ([]age.Identity, error) {
	all, err := a.fileIdentities()
	if err != nil {
		return nil, err
	}
	phrase, err := a.passphraseIdentity()
	if phrase != nil {
		all = append(all, phrase)
	}
	return all, err
}

// fileIdentities are those of backup.identity_files.
func (a *app) fileIdentities() ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range a.cfg.Backup.IdentityFiles {
		f, err := os.Open(path)
		if err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindUsage,
				"correct "+a.cfg.Origin("backup.identity_files").String()+" (backup.identity_files), or bring the file back: docs/emergency.md, \"Lost key\"",
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
func (a *app) passphraseIdentity() (age.Identity, error) {
	phrase := a.cfg.Backup.EncryptionKey.Reveal()
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
// intact, and no more. A backup that is not encrypted is refused where others are.
func (a *app) openKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (*seal.Key, error) {
	if b.Seal.Encryption == string(seal.EncryptionNone) {
		if a.refusesUnencrypted() {
			return nil, errUnencrypted(b)
		}
		return nil, nil
	}
	m, err := c.Manifest(ctx, b)
	if err != nil {
		return nil, err
	}
	return a.openManifest(ctx, c, b, m)
}

// openManifest is openKey for an encrypted backup whose manifest was read.
func (a *app) openManifest(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest) (*seal.Key, error) {
	switch seal.Encryption(b.Seal.Encryption) {
	case seal.EncryptionAge:
		with, err := a.identities()
		if err != nil || len(with) == 0 {
			return nil, err
		}
		return a.unwrap(ctx, c, b, m, with)
	case seal.EncryptionAES256CBC:
		phrase := a.cfg.Backup.EncryptionKey.Reveal()
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
func (a *app) unwrap(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, m *catalog.Manifest, with []age.Identity) (*seal.Key, error) {
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
			a.warnOdd(b, odd)
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
	a.warnOdd(b, odd)
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
func (a *app) warnOdd(b *pgmedic.Backup, odd []string) {
	if len(odd) == 0 {
		return
	}
	const most = 3
	names := strings.Join(odd[:min(len(odd), most)], ", ")
	if len(odd) > most {
		names += fmt.Sprintf(" and %d more", len(odd)-most)
	}
	a.log.Warn("keys were passed over that do not open this backup: find out who can write to the store", "backup", b.ID, "keys", words.Clean(names))
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

// trust tells a listing what was written by who has the keys that this host has.
type trust struct {
	app *app
	// files are identities that open fast; phrase is one that does not.
	files  []age.Identity
	phrase age.Identity
}

var _ catalog.Trust = (*trust)(nil)

// trusting adds to a filter what tells claims from proofs, and the clock. Without
// the keys that it names this host can list all the same: what is proven is then a
// claim.
func (a *app) trusting(f catalog.Filter) catalog.Filter {
	files, err := a.fileIdentities()
	phrase, phraseErr := a.passphraseIdentity()
	if err = errors.Join(err, phraseErr); err != nil {
		a.log.Warn("secret keys can't be read: what is proven of encrypted backups is a claim here", "error", err)
	}
	f.Trust, f.Now = &trust{app: a, files: files, phrase: phrase}, a.now()
	return f
}

// RefusesUnencrypted implements catalog.Trust.
func (t *trust) RefusesUnencrypted() bool { return t.app.refusesUnencrypted() }

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
		phrase := t.app.cfg.Backup.EncryptionKey.Reveal()
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
