package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/words"
)

// signingKeyName is the file that keys new writes a secret key to.
const signingKeyName = "pgmedic-signing.key"

// noSigningKeyHint is for where backup.signing_key is not set.
const noSigningKeyHint = "set backup.signing_key (PGMEDIC_SIGNING_KEY); pgmedic keys new --signing makes one"

func keysNewCLI(e *env) *cobra.Command {
	var signing bool
	cmd := &cobra.Command{
		Use:   "new --signing [FILE]",
		Short: "Make a key that signs backups",
		Long: `Makes a key pair of minisign. The secret key, without a passphrase, goes into FILE
(pgmedic-signing.key), readable by its owner only; the public key into the same name
with .pub, and is printed. An existing file is never overwritten.

Name the secret key in backup.signing_key on hosts that back up, and the public key
in backup.trusted_signers wherever backups are verified, restored, drilled or copied.
A key can also stay in a KMS (docs/keys.md); pgmedic keys public prints its public half.
pgmedic init makes the other kind of key, which opens backups.`,
		Example: "  pgmedic keys new --signing /etc/pgmedic/signing.key",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !signing {
				return pgmedic.Errorf(pgmedic.KindUsage, "add --signing; `pgmedic init` makes a key that opens backups", "say which kind of key to make")
			}
			path := signingKeyName
			if len(args) > 0 {
				path = args[0]
			}
			command := &keysNewCommand{env: e, path: e.absolute(path, "")}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&signing, "signing", false, "make a key that signs backups")
	return cmd
}

// keysNewCommand makes a key that signs backups.
type keysNewCommand struct {
	*env
	path string
}

func (cmd *keysNewCommand) run(context.Context) error {
	path := cmd.path
	key, err := signature.NewKey()
	if err != nil {
		return err
	}
	secret, err := key.File()
	if err != nil {
		return err
	}
	const hint = "name another file: what it signed may be needed"
	if err := writeNew(path, string(secret), hint); err != nil {
		return err
	}
	public := publicName(path)
	if err := writeNew(public, publicFile(key.Public()), hint); err != nil {
		return errors.Join(err, os.Remove(path)) // it has signed nothing yet
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]string{"id": key.ID(), "public_key": key.Public().String(), "secret_file": path, "public_file": public})
	}
	if cmd.global.quiet {
		cmd.printf("%s\n", key.Public())
		return nil
	}
	cmd.printf("public key: %s\n", key.Public())
	fmt.Fprintf(cmd.stderr, "wrote %s (secret) and %s\nset backup.signing_key to the first, and put the public key into backup.trusted_signers\n", path, public)
	return nil
}

// signedRow is what keys sign did with one backup.
type signedRow struct {
	ID       string `json:"id"`
	Database string `json:"database"`
	// Signed is true where a signature was added now, Signer is the key's id.
	Signed bool   `json:"signed"`
	Signer string `json:"signer"`
	// Authenticated is true where a key of this host opens the backup and
	// authenticates its manifest.
	Authenticated bool   `json:"authenticated"`
	Error         string `json:"error,omitempty"`
}

func keysSignCLI(e *env) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "sign [ID|latest]",
		Short: "Sign backups that are there already",
		Long: `Adds a signature of this host's key (backup.signing_key) to backups that were taken
before signing was configured, or that another key signed. Nothing that is stored is
changed. Where this host has a key that opens the backup, its manifest is
authenticated first. No other bytes are read: run verify or drill before. Your
signature says that the backup is genuine; nothing in an unsigned one shows who wrote it.`,
		Example: `  pgmedic keys sign 20261122T020000Z-7f3a9c
  pgmedic keys sign --all --yes`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &keysSignCommand{job: j, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, all: all}
			return command.run(cmd.Context())
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every backup in the store")
	return cmd
}

// keysSignCommand signs backups that are there.
type keysSignCommand struct {
	job
	stores  stores
	keys    keyring
	backups backups

	args []string
	all  bool
}

func (cmd *keysSignCommand) run(ctx context.Context) error {
	if cmd.all == (len(cmd.args) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a backup, or latest, or give --all", "say which backups are meant, once")
	}
	key, err := cmd.keys.signingKey(ctx)
	if err != nil {
		return err
	}
	if key == nil {
		return pgmedic.Errorf(pgmedic.KindUsage, noSigningKeyHint, "there is no key to sign with")
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, problem, err := cmd.backups.choose(ctx, c, cmd.args, cmd.all)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		question := fmt.Sprintf("Sign %s with key %s? Only sign backups whose origin you have checked.", words.Plural(len(entries), "backup"), key.ID())
		if err := cmd.confirm(ctx, question, "sign"); err != nil {
			return err
		}
	}
	rows := []signedRow{}
	for _, e := range entries {
		row, err := cmd.sign(ctx, c, e, key)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			row.Error = words.OneLine(err.Error())
			problem = worse(problem, err)
		}
		rows = append(rows, row)
		var sign *signature.SignError
		if errors.As(err, &sign) {
			break // nor does it sign the others
		}
	}
	if err := cmd.print(rows); err != nil {
		return err
	}
	return problem
}

func (cmd *keysSignCommand) sign(ctx context.Context, c *catalog.Catalog, e catalog.Entry, key *signature.Key) (signedRow, error) {
	row := signedRow{ID: e.Backup.ID, Database: e.Backup.Database.Name, Signer: key.ID()}
	b, err := c.Whole(ctx, e)
	if err != nil {
		return row, err
	}
	m, err := c.Manifest(ctx, b)
	if err != nil {
		return row, err
	}
	opened, err := cmd.keys.openSealed(ctx, c, b, m)
	if err != nil {
		return row, err // edited, or nothing that this host may use
	}
	row.Authenticated = opened != nil && b.Seal.Encryption != string(seal.EncryptionNone)
	row.Signed, err = m.Add(ctx, key)
	return row, err
}

func (cmd *keysSignCommand) print(rows []signedRow) error {
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"backups": rows})
	}
	for _, r := range rows {
		authenticated := "manifest authenticated"
		if !r.Authenticated {
			authenticated = "manifest not authenticated: this host has no key of it"
		}
		switch {
		case r.Error != "":
			cmd.printf("%s  %s: %s\n", r.ID, cmd.paint(cmd.stdoutTTY).bad("failed"), r.Error)
		case cmd.global.quiet:
		case r.Signed:
			cmd.printf("%s  signed with %s, %s\n", r.ID, r.Signer, authenticated)
		default:
			cmd.printf("%s  was signed with %s already\n", r.ID, r.Signer)
		}
	}
	return nil
}
