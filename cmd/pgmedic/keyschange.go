package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// keyChange is what keys add, remove and rotate do to a backup. Adding comes
// first, so that there is a way at every moment.
type keyChange struct {
	all bool
	// add is who is to open the backup, too.
	add *newWay
	// fresh is the key that add is of, where this run makes it.
	fresh *newKey
	// remove is the name of the way to take away.
	remove string
}

// keyOfPassphrase matches the names of wraps for passphrases.
var keyOfPassphrase = regexp.MustCompile(`^` + passphraseKey + `(-\d+)?$`)

// params are what is recorded of a change: the names of keys, which are not secret. A name
// that is not one may be a passphrase in the wrong place.
func (c keyChange) params(backups int) map[string]string {
	params := map[string]string{"remove": c.remove, "count": strconv.Itoa(backups)}
	if c.remove != "" && !strings.HasPrefix(c.remove, recipientPrefix) && !keyOfPassphrase.MatchString(c.remove) {
		params["remove"] = "a name that no key of pgmedic has"
	}
	if c.add != nil {
		params["add"] = c.add.name
	}
	return params
}

// newWay is a way to open backups that is to be added.
type newWay struct {
	name string
	to   age.Recipient
	// with opens what was wrapped to a passphrase.
	with age.Identity
}

// keysChangeCommand adds, removes and replaces ways to open backups.
type keysChangeCommand struct {
	job
	stores  stores
	keys    keyring
	backups backups

	args   []string
	change keyChange
}

func newKeysChange(j job, args []string, change keyChange) *keysChangeCommand {
	return &keysChangeCommand{job: j, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args, change: change}
}

// run does a change to one backup or to all. What can't be done to one
// does not keep it from the others; it is reported, and the run fails.
func (cmd *keysChangeCommand) run(ctx context.Context) error {
	if cmd.change.all == (len(cmd.args) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a backup, or latest, or give --all", "say which backups are meant, once")
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	entries, epochs, damaged, err := cmd.chosen(ctx, c)
	if err != nil {
		return err
	}
	if err := refuseUnknownKey(ctx, c, entries, cmd.change); err != nil {
		return err
	}
	if err := cmd.confirmKeys(ctx, entries, epochs); err != nil {
		return err
	}
	if cmd.change.all { // of one backup it was noted when it was found
		for _, e := range entries {
			cmd.trail.aboutBackup(e.Backup)
		}
	}
	if err := cmd.trail.intend(ctx, act{params: cmd.change.params(len(entries) + len(epochs))}); err != nil {
		return err
	}
	if err := cmd.writeFresh(ctx, c, entries, len(epochs)); err != nil {
		return err
	}
	cmd.begin("")
	rows := []keysRow{}
	defer func() { cmd.keysChanged(cmd.change, rows) }()
	problem := damaged
	add := func(row keysRow, err error) {
		if err != nil {
			row.Error = err.Error()
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
	}
	for _, e := range entries {
		row, err := cmd.changeKey(ctx, c, e)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		add(row, err)
	}
	for _, e := range epochs {
		row, err := cmd.changeEpoch(ctx, e)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		add(row, err)
	}
	if err := cmd.printKeyChanges(rows); err != nil {
		return err
	}
	return problem
}

// chosen returns the backups and epochs of WAL whose keys are to be changed. Damaged is what
// is wrong with backups that can't be.
func (cmd *keysChangeCommand) chosen(ctx context.Context, c *catalog.Catalog) (entries []catalog.Entry, epochs []*epochRef, damaged, err error) {
	if !cmd.change.all {
		e, epochs, err := cmd.backups.entryOrEpoch(ctx, c, cmd.args)
		if err == nil && len(epochs) == 0 {
			entries = []catalog.Entry{e}
		}
		return entries, epochs, nil, err
	}
	listing, err := c.List(ctx, catalog.Filter{})
	if err != nil {
		return nil, nil, nil, err
	}
	for _, d := range listing.Damaged {
		damaged = errors.Join(damaged, d.Err)
	}
	epochs, err = epochsIn(ctx, c.Store(), "")
	return listing.Entries, epochs, damaged, err
}

// confirmKeys asks before a way to open backups is taken away.
func (cmd *keysChangeCommand) confirmKeys(ctx context.Context, entries []catalog.Entry, epochs []*epochRef) error {
	if cmd.change.remove == "" || len(entries)+len(epochs) == 0 {
		return nil
	}
	if !cmd.change.all && len(entries) > 0 && entries[0].Backup.Seal.Encryption != string(seal.EncryptionAge) {
		return nil // the output says so, and nothing is asked
	}
	var which string
	switch {
	case cmd.change.all && len(epochs) > 0:
		which = words.Plural(len(entries), "backup") + " and " + words.Plural(len(epochs), "epoch") + " of WAL"
	case cmd.change.all:
		which = words.Plural(len(entries), "backup")
	case len(epochs) > 0:
		which = "epoch " + epochs[0].id + " of the WAL"
	default:
		which = "backup " + entries[0].Backup.ID
	}
	return cmd.confirm(ctx, fmt.Sprintf("Key %q will no longer open %s.", words.Clean(cmd.change.remove), which), cmd.change.remove)
}

// changeKey does a change to one backup. With --all, backups that it is not
// about are skipped.
func (cmd *keysChangeCommand) changeKey(ctx context.Context, c *catalog.Catalog, e catalog.Entry) (row keysRow, err error) {
	b := e.Backup
	row = keysRow{ID: b.ID, Database: b.Database.Name, Keys: []keyRow{}, Encrypted: b.Seal.Encryption == string(seal.EncryptionAge)}
	skip := func(hint, why string) (keysRow, error) {
		row.Skipped = why
		if cmd.change.all {
			return row, nil
		}
		return row, pgmedic.Errorf(pgmedic.KindNotFound, hint, "backup %s: %s", b.ID, why)
	}
	if !row.Encrypted {
		return skip("only backups encrypted with age have keys", "not encrypted with age")
	}
	if b, err = c.Whole(ctx, e); err != nil {
		return row, err
	}
	wraps, err := c.Keys(ctx, b, cmd.change.remove)
	if err != nil {
		return row, err
	}
	if cmd.change.remove != "" && !wraps.Has(cmd.change.remove) {
		return skip("pgmedic keys list "+b.ID+" shows those that it has", fmt.Sprintf("no key %q", cmd.change.remove))
	}
	if cmd.change.add != nil {
		before := len(wraps)
		row.Added, err = cmd.addKey(ctx, c, b, &wraps, *cmd.change.add)
		if row.changed = len(wraps) > before; err != nil {
			return row, err
		}
	}
	if cmd.change.remove != "" {
		if err = removeKey(ctx, c, b, wraps, cmd.change.remove, row.Added); err != nil {
			return row, err
		}
		row.Removed, row.changed = cmd.change.remove, true
	}
	now, err := cmd.keys.keysOf(ctx, c, b)
	row.Keys = now.Keys
	return row, err
}

// addKey wraps the backup's key once more, unless it is wrapped to the same
// already, and returns the wrap's name. wraps are those that there are, and
// gain the new one.
func (cmd *keysChangeCommand) addKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, wraps *catalog.Wraps, way newWay) (string, error) {
	// A wrap is made of a key that has authenticated the manifest, else a wrap
	// that somebody planted would be passed on.
	key, err := cmd.keys.readKey(ctx, c, b)
	if err != nil {
		return "", err
	}
	name := way.name
	for n := 2; wraps.Has(name); n++ {
		if way.with == nil {
			return name, nil // the name is that of the public key
		}
		if _, err := seal.OpenKey(wraps.Get(name), []age.Identity{way.with}); err == nil {
			return name, nil
		}
		name = fmt.Sprintf("%s-%d", way.name, n)
	}
	wrapped, err := key.Wrap(way.to)
	if err != nil {
		return "", err
	}
	if err := c.AddKey(ctx, b, name, wrapped); err != nil {
		return "", err
	}
	*wraps = append(*wraps, catalog.Wrap{Name: name, Data: wrapped})
	return name, nil
}
