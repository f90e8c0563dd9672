package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// newKey is a key that opens backups, which is not in its file yet.
type newKey struct {
	Public string `json:"public_key"`
	File   string `json:"identity_file"`
	secret string
}

// makeKey makes a key of the kind that the configuration has: age refuses both kinds together.
func makeKey(cfg *config.Config, file string, now time.Time) (newKey, error) {
	public, secret, err := newPair(slices.ContainsFunc(cfg.Backup.Recipients, func(text string) bool { return strings.HasPrefix(text, "age1pq1") }), now)
	return newKey{public, file, secret}, err
}

// write writes the file, before anything is encrypted to it. Where a run that failed has made
// it, use says how its key is used.
func (k newKey) write(use string) error {
	return writeNew(k.File, k.secret, "name another file; if an earlier run made it, "+use+" its public key, which its second line has")
}

// say says what is to be done with the key.
func (k newKey) say(e *env) {
	if !e.global.quiet {
		fmt.Fprintf(e.stderr, "wrote %s\npublic key: %s\n", k.File, k.Public)
		fmt.Fprintln(e.stderr, "copy the file to two safe places, and put the public key into backup.recipients: later backups need it there")
	}
}

// useNewKey makes a key for this run: it is one of those that open what is backed up, and the
// one by which it is read back. The files that the configuration names are of lost keys.
func (j job) useNewKey(file string) error {
	b := &j.cfg.Backup
	if file == "" {
		return nil
	}
	if encryption := b.Encryption; encryption != "" && encryption != "age" {
		return pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--new-key makes a key of age, and backup.encryption is %s", encryption)
	}
	k, err := makeKey(j.cfg, j.absolute(file, ""), j.now())
	if err != nil {
		return err
	}
	if err := k.write("leave --new-key out, set PGMEDIC_IDENTITY_FILES to it and BACKUP_RECIPIENTS to"); err != nil {
		return err
	}
	b.Recipients, b.IdentityFiles = append(slices.Clone(b.Recipients), k.Public), []string{k.File}
	k.say(j.env)
	return nil
}

// freshWay is a key that keys add is to make and to add.
func freshWay(j job, file string) (*newKey, *newWay, error) {
	k, err := makeKey(j.cfg, j.absolute(file, ""), j.now())
	if err != nil {
		return nil, nil, err
	}
	to, err := parseRecipient(k.Public)
	if err != nil {
		return nil, nil, err
	}
	return &k, &newWay{name: recipientName(k.Public), to: to}, nil
}

// writeFresh writes the file of the key that is to be added, unless this host opens none of
// the backups: a key that nothing was encrypted to is not one to keep.
func (cmd *keysChangeCommand) writeFresh(ctx context.Context, c *catalog.Catalog, entries []catalog.Entry, epochs int) error {
	if cmd.change.fresh == nil {
		return nil
	}
	refused, opens := error(nil), false
	for _, e := range entries {
		if e.Backup.Seal.Encryption != string(seal.EncryptionAge) {
			continue
		}
		b, err := c.Whole(ctx, e)
		if err == nil {
			_, err = cmd.keys.readKey(ctx, c, b)
		}
		if opens = err == nil; opens {
			break
		}
		refused = cmp.Or(refused, err)
	}
	if !opens && (refused != nil || epochs == 0) {
		return cmp.Or(refused, pgmedic.Errorf(pgmedic.KindNotFound, "only backups encrypted with age have keys", "nothing here is encrypted with age, and no key was made"))
	}
	if err := cmd.change.fresh.write("give --recipient with"); err != nil {
		return err
	}
	cmd.change.fresh.say(cmd.env)
	return nil
}
