package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
}

// writeConfig writes the commented configuration and the key pair that it
// names: both or, on an error, none. Neither is ever written over another.
func (a *app) writeConfig(preset string, keys keyFlags) (initialised, error) {
	out := initialised{File: a.absolute(a.global.config, "pgmedic.yaml")}
	data, err := config.Example(preset)
	if err != nil {
		return out, err
	}
	if keys.none && (keys.postQuantum || keys.identity != "") {
		return out, pgmedic.Errorf(pgmedic.KindUsage, "leave out one of them", "--no-keys together with a kind or file of keys")
	}
	text := string(data)
	if !keys.none {
		var secret string
		if out.PublicKey, secret, err = newPair(keys.postQuantum, a.now()); err != nil {
			return out, err
		}
		out.IdentityFile = a.absolute(keys.identity, filepath.Join(filepath.Dir(out.File), identityName))
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

// absolute makes a path of the command line absolute.
func (a *app) absolute(path, otherwise string) string {
	if path == "" {
		path = otherwise
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.dir, path)
	}
	return path
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
// SQL that goes to psql.
func (a *app) printInitialised(out initialised) {
	fmt.Fprintf(a.stderr, "wrote %s\n", out.File)
	if out.IdentityFile == "" {
		fmt.Fprintln(a.stderr, "backups are not encrypted until backup.recipients names somebody who can read them")
		return
	}
	fmt.Fprintf(a.stderr, "wrote %s\npublic key: %s\n", out.IdentityFile, out.PublicKey)
	if a.global.quiet {
		return
	}
	fmt.Fprint(a.stderr, `
Backups are encrypted to the public key. Only the secret key in that file reads
them, and nobody can make it again:
  1. Copy it to two places that do not fail together: a password manager, a printout.
  2. Take it off the hosts that are backed up. Backing up needs the public key only,
     and who breaks into a host that has the secret key reads every backup.
  3. Where backups are restored and drilled, name a copy in backup.identity_files,
     and prove that it opens them: pgmedic drill latest

`)
}
