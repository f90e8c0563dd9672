package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/signature"
)

// maxSigningFile is the size above which a file is not a key of minisign but a mistake.
const maxSigningFile = 16 << 10

// readSigningFile reads a file of a key, which is small.
func readSigningFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSigningFile+1))
	if err = errors.Join(err, f.Close()); err == nil && len(data) > maxSigningFile {
		err = fmt.Errorf("%s is larger than a key", path)
	}
	return data, err
}

// signingKey is the key that signs what this host backs up, or nil. One that is kept in a
// key manager is asked for its public half, so that a wrong setting is known before
// anything is backed up.
func (kr keyring) signingKey(ctx context.Context) (*signature.Key, error) {
	cfg, path := kr.cfg, kr.cfg.Backup.SigningKey
	switch {
	case path == "":
		return nil, nil
	case secret.IsSigningKey(path):
		return kr.remoteKey(ctx)
	}
	data, err := readSigningFile(path)
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "correct "+cfg.Origin("backup.signing_key").String()+" (backup.signing_key), or make a key: pgmedic keys new --signing",
			"read the signing key: %w", err)
	}
	key, err := signature.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("backup.signing_key, %s: %w", path, err)
	}
	return key, nil
}

// trustedSigners are the public keys whose signatures this host believes. They are nil
// where it names none, and checks nothing.
func trustedSigners(cfg *config.Config) (signature.Signers, error) {
	var all signature.Signers
	for _, item := range cfg.Backup.TrustedSigners {
		text := item
		if filepath.IsAbs(item) {
			data, err := readSigningFile(item)
			if err != nil {
				return nil, pgmedic.Errorf(pgmedic.KindUsage, "correct "+cfg.Origin("backup.trusted_signers").String()+" (backup.trusted_signers)",
					"read a trusted signer's public key: %w", err)
			}
			text = string(data)
		}
		signer, err := signature.ParseSigner(text)
		if err != nil {
			return nil, fmt.Errorf("backup.trusted_signers: %w", err)
		}
		all = append(all, signer)
	}
	return all, nil
}

// ownSigner is what signs the backups of this host, or nil. A key that this host does
// not trust itself is refused.
func (kr keyring) ownSigner(ctx context.Context) (*signature.Key, error) {
	trusted, err := trustedSigners(kr.cfg)
	if err != nil {
		return nil, err
	}
	key, err := kr.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	return key, trustsOwn(key, trusted)
}

// trustsOwn returns an error where this host would refuse what its key signs.
func trustsOwn(key *signature.Key, trusted signature.Signers) error {
	if key != nil && trusted != nil && !trusted.Has(key.Public()) {
		return pgmedic.Errorf(pgmedic.KindUsage, "add "+key.Public().String()+" to backup.trusted_signers",
			"the key of backup.signing_key, %s, is not among backup.trusted_signers: this host would refuse its own backups", key.ID())
	}
	return nil
}

// refusesOwn returns an error on a host that trusts signers, has no key to sign with, and
// so would refuse the backups that it takes.
func refusesOwn(cfg *config.Config) error {
	if cfg.Backup.SigningKey != "" || len(cfg.Backup.TrustedSigners) == 0 || cfg.Backup.AllowUnsigned {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "set backup.signing_key (PGMEDIC_SIGNING_KEY), or backup.allow_unsigned (PGMEDIC_ALLOW_UNSIGNED) to go without",
		"this host trusts only signed backups (backup.trusted_signers), has no key to sign with, and would refuse its own")
}

// warnUnsignedSafety warns on such a host of a safety backup. It is not a reason not to
// restore, nor to accept an unsigned backup in its stead.
func warnUnsignedSafety(cfg *config.Config, log *slog.Logger) {
	if refusesOwn(cfg) != nil {
		log.Warn("the safety backup is not signed, since backup.signing_key is not set: using it takes --allow-unsigned, or keys sign on a host that can")
	}
}

// checkSigned refuses a backup that none of this host's trusted signers signed. With
// backup.allow_unsigned it warns instead, unless a signature that names a trusted key
// does not fit, which is useless.
func checkSigned(ctx context.Context, j job, b *pgmedic.Backup, m *catalog.Manifest) error {
	trusted, err := trustedSigners(j.cfg)
	if err != nil || trusted == nil {
		return err
	}
	s, err := m.Signing(ctx, trusted)
	if err != nil {
		return err
	}
	refused := errUnsigned(b, s)
	if refused != nil && j.cfg.Backup.AllowUnsigned && s.State != signature.Invalid {
		j.log.Warn("using a backup that no trusted signer signed: nothing shows who wrote it", "backup", b.ID)
		return nil
	}
	return refused
}

// errUnsigned is the error of a backup that no trusted signer signed, or nil.
func errUnsigned(b *pgmedic.Backup, s signature.Signing) error {
	const hint = "find out who wrote it; if you know that it is yours, sign it with pgmedic keys sign, or use it all the same with --allow-unsigned"
	switch s.State {
	case signature.None:
		return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "backup %s is not signed, and this host trusts only signed ones (backup.trusted_signers)", b.ID)
	case signature.Untrusted:
		return pgmedic.Errorf(pgmedic.KindIntegrity, hint, "backup %s is signed, and by no key of backup.trusted_signers", b.ID)
	case signature.Invalid:
		return pgmedic.Errorf(pgmedic.KindIntegrity, "find out who can write to the store, and use another backup; if the backup is yours, remove the signature and sign again with pgmedic keys sign",
			"backup %s has a signature that names the trusted key %s and does not fit its manifest: it is of another backup, or one of the two was changed", b.ID, s.Signer)
	case signature.Trusted, signature.NotChecked:
	}
	return nil
}

// signingWords say who signed a backup.
func signingWords(s signature.Signing) string {
	switch s.State {
	case signature.Trusted:
		return "signed by " + s.Signer
	case signature.None:
		return "not signed"
	case signature.Untrusted:
		return "signed by no trusted key"
	case signature.Invalid:
		return "its signature does not fit"
	case signature.NotChecked:
	}
	if s.Stored > 0 {
		return "signed; who signed it is not checked here (backup.trusted_signers is empty)"
	}
	return "not signed"
}

// unsignedWords are what a table adds to a backup that no trusted signer signed, where
// that is checked.
func unsignedWords(s signature.Signing) string {
	if s.State == signature.Trusted || s.State == signature.NotChecked {
		return ""
	}
	return ", " + signingWords(s)
}

// keySuffix tells the file of a public key from that of its secret half.
var keySuffix = regexp.MustCompile(`\.key$`)

// publicName is the file of the public half of a key.
func publicName(secret string) string { return keySuffix.ReplaceAllString(secret, "") + ".pub" }

// publicFile is a public key as minisign writes one.
func publicFile(s signature.Signer) string {
	return strings.Join([]string{"untrusted comment: minisign public key " + s.ID(), s.String(), ""}, "\n")
}
