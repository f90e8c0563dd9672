package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// referenceForms are how --password-secret is written.
const referenceForms = "file:/path, env:NAME, credential:NAME, vault://, aws-sm://, azure-kv:// or gcp-sm://"

// passphrase is that of an encrypted dump: as the flags say, or else that of backups.
func (cmd *dumpCommand) passphrase(ctx context.Context) (string, error) {
	file, ref := cmd.dump.passphraseFile, cmd.dump.passwordSecret
	switch {
	case ref != "":
		// What is not a reference may be the passphrase itself, and is not quoted.
		switch cmd.secrets.Scheme(ref) {
		case "":
			return "", pgmedic.Errorf(pgmedic.KindUsage, "write "+referenceForms, "--password-secret is not a reference to a secret; every user of the machine can read a passphrase there")
		case "exec:":
			return "", pgmedic.Errorf(pgmedic.KindUsage, "name the program in backup.encryption_key of pgmedic.yaml, or write its output into a file for --passphrase-file",
				"--password-secret runs no program")
		}
		text, err := cmd.secrets.Resolve(ctx, ref)
		if err != nil {
			return "", fmt.Errorf("--password-secret: %w", err)
		}
		return text, nil
	case file == "":
		return cmd.cfg.Backup.EncryptionKey.Reveal(), nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "check the path and who may read it", "--passphrase-file: %w", err)
	}
	// As openssl's -pass file: does.
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "write the passphrase into its first line", "--passphrase-file: %s holds none", file)
	}
	return line, nil
}
