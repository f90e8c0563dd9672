package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// identityName is the file that init writes a secret key to.
const identityName = "pgmedic-identity.txt"

// keyFlags say which key pair init makes.
type keyFlags struct {
	none, postQuantum bool
	identity          string
}

func (k *keyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&k.none, "no-keys", false, "make no key pair: backups are not encrypted until recipients are set")
	f.BoolVar(&k.postQuantum, "post-quantum", false, "make a hybrid key, safe against quantum computers; reading it takes age 1.3 or later")
	f.StringVar(&k.identity, "identity", "", "file to write the secret key to (default: "+identityName+" beside the configuration)")
}

// initialised is what init did.
type initialised struct {
	File         string `json:"file,omitempty"`
	PublicKey    string `json:"public_key,omitempty"`
	IdentityFile string `json:"identity_file,omitempty"`
	RolesSQL     string `json:"roles_sql"`
	// Taken are the settings that the file has from the environment or from .env.
	Taken []string `json:"taken,omitempty"`
}

// writeConfig writes the commented configuration and the key pair that it
// names: both or, on an error, none. Neither is ever written over another.
func (cmd *initCommand) writeConfig() (initialised, error) {
	preset, keys := cmd.flags.preset, cmd.flags.keys
	out := initialised{File: cmd.absolute(cmd.global.config, "pgmedic.yaml")}
	taken := cmd.takenOver(out.File)
	out.Taken = slices.Sorted(maps.Keys(taken))
	data, err := config.ExampleWith(preset, taken)
	if err != nil {
		return out, err
	}
	if keys.none && (keys.postQuantum || keys.identity != "") {
		return out, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--no-keys together with a kind or file of keys")
	}
	text := string(data)
	if !keys.none {
		var secret string
		if out.PublicKey, secret, err = newPair(keys.postQuantum, cmd.now()); err != nil {
			return out, err
		}
		out.IdentityFile = cmd.absolute(keys.identity, filepath.Join(filepath.Dir(out.File), identityName))
		text = withKeys(text, preset, out)
		if err := writeNew(out.IdentityFile, secret, "name another with --identity, or add --no-keys: what it opens may be needed"); err != nil {
			return out, err
		}
	}
	err = writeNew(out.File, text, "name another with --config, or add --roles-only") // a password may be added
	if err != nil && out.IdentityFile != "" {
		err = errors.Join(err, os.Remove(out.IdentityFile)) // nothing is encrypted to it yet
	}
	return out, err
}

// takenOver are the settings of flags, of the environment and of a .env file beside the file that
// is to be written. What is wrong with them is said when they are used.
func (cmd *initCommand) takenOver(file string) map[string]string {
	environ := slices.DeleteFunc(slices.Clone(cmd.environ), func(pair string) bool { return strings.HasPrefix(pair, "PGMEDIC_CONFIG=") })
	cfg, err := config.Load(config.Options{EnvFile: cmd.global.envFile, Environ: environ, Dir: filepath.Dir(file), Flags: cmd.set})
	if err != nil {
		return nil
	}
	return cfg.Taken()
}

// newPair makes an age key pair; secret is the text that age-keygen writes.
func newPair(postQuantum bool, now time.Time) (public, secret string, err error) {
	var identity fmt.Stringer
	if postQuantum {
		i, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", fmt.Errorf("make a key pair: %w", err)
		}
		identity, public = i, i.Recipient().String()
	} else {
		i, err := age.GenerateX25519Identity()
		if err != nil {
			return "", "", fmt.Errorf("make a key pair: %w", err)
		}
		identity, public = i, i.Recipient().String()
	}
	return public, fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", now.UTC().Format(time.RFC3339), public, identity), nil
}

// withKeys enters the public key. On a developer's machine the secret one is
// entered, too: backups there are drilled where they are made.
func withKeys(text, preset string, out initialised) string {
	text = strings.Replace(text, "  #recipients: []\n", "  recipients:\n    - "+out.PublicKey+"\n", 1)
	if preset == "development" {
		file := out.IdentityFile
		if filepath.Dir(file) == filepath.Dir(out.File) {
			file = filepath.Base(file)
		}
		text = strings.Replace(text, "  #identity_files: []\n", "  identity_files:\n    - '"+strings.ReplaceAll(file, "'", "''")+"'\n", 1)
	}
	return text
}

// writeNew writes a file that only its owner can read, durably, and never over
// another.
func writeNew(path, text, hint string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return pgmedic.Errorf(pgmedic.KindConflict, hint, "%s exists already", path)
	}
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "", "write a file: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// printInitialised says what was written, and what to do with it, beside the
// SQL that goes to psql. cfg is nil where it could not be read.
func (cmd *initCommand) printInitialised(out initialised, cfg *config.Config) {
	fmt.Fprintf(cmd.stderr, "wrote %s\n", out.File)
	if len(out.Taken) > 0 {
		fmt.Fprintf(cmd.stderr, "taken over from the environment or .env, which still override it: %s\n", strings.Join(out.Taken, ", "))
	}
	phrase, passphrase := "", cfg != nil && cfg.Backup.EncryptionKey.Reveal() != ""
	if passphrase {
		phrase = fmt.Sprint(cfg.Origin("backup.encryption_key"))
	}
	switch {
	case out.IdentityFile == "" && passphrase:
		fmt.Fprintf(cmd.stderr, "backups are encrypted with the passphrase of %s: keep it in two places\n", phrase)
		return
	case out.IdentityFile == "":
		fmt.Fprintln(cmd.stderr, "backups are not encrypted until backup.recipients names somebody who can read them")
		return
	}
	fmt.Fprintf(cmd.stderr, "wrote %s\npublic key: %s\n", out.IdentityFile, out.PublicKey)
	if cfg != nil && (!slices.Contains(cfg.Backup.Recipients, out.PublicKey) || cfg.Backup.Encryption == "aes-256-cbc") {
		fmt.Fprintln(cmd.stderr, "backups are not encrypted to this key, because the environment or .env sets backup.recipients or backup.encryption otherwise: see pgmedic config")
	}
	if cmd.global.quiet {
		return
	}
	only := "Only the secret key in that file reads\nthem, and it cannot be made again:"
	if passphrase {
		only = "The secret key in that file reads\nthem, and so does the passphrase of " + phrase + ". Neither can be\nmade again:"
	}
	fmt.Fprintf(cmd.stderr, `
Backups are encrypted to the public key. %s
  1. Copy it to two places that do not fail together: a password manager, a printout.
  2. Take it off the hosts that are backed up. Backing up needs the public key only,
     and anyone who breaks into a host that has the secret key can read every backup.
  3. Where backups are restored and drilled, name a copy in backup.identity_files,
     and prove that it opens them: pgmedic drill latest
`, only)
}
