package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/words"
)

// remoteKey is the signing key that stays in a key manager, which is asked for its public
// half.
func (kr keyring) remoteKey(ctx context.Context) (*signature.Key, error) {
	resolver := kr.secrets
	if resolver == nil {
		resolver = newResolver(kr.cfg, kr.environ)
	}
	remote, err := resolver.SigningKey(kr.cfg.Backup.SigningKey, stores(kr).awsCredentials())
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, pgmedic.HintOf(err), "%s (backup.signing_key): %w", kr.cfg.Origin("backup.signing_key"), err)
	}
	key, err := signature.NewRemoteKey(ctx, remote)
	if err != nil {
		return nil, fmt.Errorf("backup.signing_key: %w", err)
	}
	return key, nil
}

// checkSigning says whether this host signs its backups, and believes its own. A key that
// is kept in a key manager signs something.
func (cmd *checkCommand) checkSigning(ctx context.Context, l *checklist) {
	began := cmd.now()
	key, err := cmd.keys.signingKey(ctx)
	if err == nil && key == nil && len(cmd.cfg.Backup.TrustedSigners) == 0 {
		l.add("signing", pgmedic.OutcomeSkipped, "backups are not signed here, and signatures are not checked",
			"anyone who can write to the store can add a backup of their own: docs/keys.md, \"Signed backups\"")
		return
	}
	trusted, trustErr := trustedSigners(cmd.cfg)
	if err == nil {
		err = trustErr
	}
	if err == nil {
		err = trustsOwn(key, trusted)
	}
	if err == nil {
		err = refusesOwn(cmd.cfg)
	}
	remote := secret.IsSigningKey(cmd.cfg.Backup.SigningKey)
	if err == nil && remote {
		// No manifest begins so.
		_, err = key.Sign(ctx, []byte("pgmedic check: nothing that was signed with this proves anything\n"), "pgmedic check")
	}
	if err != nil {
		l.fail("signing", err)
		return
	}
	signers := words.Plural(len(trusted), "trusted signer")
	switch {
	case key == nil:
		l.ok("signing", "%s; unsigned backups are accepted (backup.allow_unsigned)", signers)
	case len(trusted) == 0:
		l.add("signing", pgmedic.OutcomeWarn, "backups are signed with key "+key.ID()+"; signatures are not checked on this host",
			"put "+key.Public().String()+" into backup.trusted_signers here and where backups are restored")
	default:
		l.ok("signing", "backups are signed with key %s, which is one of %s", key.ID(), signers)
	}
	if remote {
		l.ok("signing", "%s gave the public key and signed in %s", key.Kept(), words.Duration(cmd.now().Sub(began)))
	} else if mode, open := othersRead(cmd.cfg.Backup.SigningKey); key != nil && open {
		l.add("signing", pgmedic.OutcomeWarn, fmt.Sprintf("others on this host may read %s, the signing key (mode %04o)", cmd.cfg.Backup.SigningKey, mode),
			"chmod 600 "+cmd.cfg.Backup.SigningKey)
	}
}

// keysPublicCommand prints the public half of the signing key.
type keysPublicCommand struct {
	job
	keys keyring
}

func keysPublicCLI(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "public",
		Short: "Print the public key of what signs backups here",
		Long: `Prints the public half of the key of backup.signing_key, from its file or from the KMS
that keeps it. Put it into backup.trusted_signers wherever backups are verified, restored,
drilled or copied. minisign -P takes it, too.`,
		Example: `  pgmedic keys public
  PGMEDIC_SIGNING_KEY=aws-kms://eu-central-1/alias/pgmedic-signing pgmedic keys public`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &keysPublicCommand{job: j, keys: keyring{j}}
			return command.run(cmd.Context())
		},
		Annotations: map[string]string{readsNoSecrets: "true"},
	}
}

func (cmd *keysPublicCommand) run(ctx context.Context) error {
	key, err := cmd.keys.signingKey(ctx)
	if err != nil {
		return err
	}
	if key == nil {
		return pgmedic.Errorf(pgmedic.KindUsage, noSigningKeyHint, "no key signs backups here")
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]string{"id": key.ID(), "public_key": key.Public().String()})
	}
	cmd.printf("%s\n", key.Public())
	return nil
}
