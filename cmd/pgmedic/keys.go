package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// keysRow is what is known of the ways to open one backup, and what was done
// to them.
type keysRow struct {
	ID       string `json:"id"`
	Database string `json:"database"`
	// Encrypted is true where the backup has a key of its own, by age.
	Encrypted bool     `json:"encrypted"`
	Keys      []keyRow `json:"keys"`
	Added     string   `json:"added,omitempty"`
	Removed   string   `json:"removed,omitempty"`
	// Skipped says why nothing was to be done, Error why it could not be.
	Skipped string `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
}

// keyRow is one way to open a backup.
type keyRow struct {
	Name string        `json:"name"`
	Kind seal.WrapKind `json:"kind"`
	// PublicKey is known where this host's configuration names it.
	PublicKey string `json:"public_key,omitempty"`
	// Opens is true where this host has what opens it, and what comes out is the
	// backup's key.
	Opens bool `json:"opens"`
	// Odd says why it is passed over: no pgmedic wrote it for this backup.
	Odd string `json:"odd,omitempty"`
}

// keyChange is what keys add, remove and rotate do to a backup. Adding comes
// first, so that there is a way at every moment.
type keyChange struct {
	all bool
	// add is who is to open the backup, too.
	add *newWay
	// remove is the name of the way to take away.
	remove string
}

// newWay is a way to open backups that is to be added.
type newWay struct {
	name string
	to   age.Recipient
	// with opens what was wrapped to a passphrase.
	with age.Identity
}

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List, add, remove and rotate the ways to open encrypted backups",
		Long: `Each encrypted backup has a key of its own, which is stored wrapped once for each
way to open it: for each public key and for a passphrase. These commands add and
remove such wraps; what is stored of the data is not read and not written.

Which keys new backups get is set by backup.recipients and backup.encryption_key.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.keysListCommand(), a.keysAddCommand(), a.keysRemoveCommand(), a.keysRotateCommand())
	return cmd
}

func (a *app) keysListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [ID|latest]",
		Short:   "List the ways to open a backup, and which of them this host has",
		Example: "  pgmedic keys list latest",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.keysList(cmd.Context(), args)
		},
	}
	addStore(cmd)
	return cmd
}

func (a *app) keysAddCommand() *cobra.Command {
	var change keyChange
	var recipient, variable string
	cmd := &cobra.Command{
		Use:   "add [ID|latest]",
		Short: "Let another key or a passphrase open backups that this host can open",
		Example: `  pgmedic keys add latest --recipient age1…
  pgmedic keys add --all --passphrase-env NEW_PASSPHRASE`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := a.load(cmd); err != nil {
				return err
			}
			if change.add, err = a.newWay(recipient, variable, "--recipient"); err != nil {
				return err
			}
			return a.changeKeys(cmd.Context(), args, change)
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&change.all, "all", false, "every encrypted backup in the store")
	cmd.Flags().StringVar(&recipient, "recipient", "", "age public key to add")
	cmd.Flags().StringVar(&variable, "passphrase-env", "", "environment variable that holds the passphrase to add")
	return cmd
}

func (a *app) keysRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove ID|latest NAME",
		Short: "Take away one way to open a backup",
		Long: `Removes one of the wraps that keys list shows. The last one is never removed.
Who has opened the backup before, or kept a copy of the wrap, can still read a
copy of the data: removing a key takes nothing back that was read.`,
		Example: "  pgmedic keys remove latest recipient-1a2b3c4d",
		Args:    backupAndKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.changeKeys(cmd.Context(), args[:1], keyChange{remove: wrapName(args[1])})
		},
	}
	addStore(cmd)
	return cmd
}

func (a *app) keysRotateCommand() *cobra.Command {
	var change keyChange
	var from, to, variable string
	cmd := &cobra.Command{
		Use:   "rotate [ID|latest]",
		Short: "Replace one way to open backups by another",
		Long: `Adds the new key and then removes the old one, backup by backup. Backups that the
old key does not open are left alone. Run again, it goes on where it stopped.`,
		Example: `  pgmedic keys rotate --all --from recipient-1a2b3c4d --to age1…
  pgmedic keys rotate --all --from passphrase --to-passphrase-env NEW_PASSPHRASE`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := a.load(cmd); err != nil {
				return err
			}
			if from == "" {
				return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic keys list shows the names", "--from is missing: which key is to go")
			}
			change.remove = wrapName(from)
			if change.add, err = a.newWay(to, variable, "--to"); err != nil {
				return err
			}
			return a.changeKeys(cmd.Context(), args, change)
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&change.all, "all", false, "every encrypted backup in the store")
	cmd.Flags().StringVar(&from, "from", "", "name of the key to remove, or the public key itself")
	cmd.Flags().StringVar(&to, "to", "", "age public key to add")
	cmd.Flags().StringVar(&variable, "to-passphrase-env", "", "environment variable that holds the passphrase to add")
	return cmd
}

// wrapName is the name that a wrap has: what was given, or that of a public key.
func wrapName(nameOrKey string) string {
	if strings.HasPrefix(nameOrKey, "age1") {
		return recipientName(nameOrKey)
	}
	return nameOrKey
}

// newWay reads who is to be added. A passphrase comes from the environment:
// the command line is no place for one.
func (a *app) newWay(recipient, variable, flag string) (*newWay, error) {
	if (recipient == "") == (variable == "") {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "give "+flag+" age1…, or name an environment variable that holds a passphrase",
			"say which one key is to be added")
	}
	if recipient != "" {
		to, err := parseRecipient(recipient)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		return &newWay{name: recipientName(recipient), to: to}, nil
	}
	phrase := ""
	for _, pair := range a.environ {
		if name, value, _ := strings.Cut(pair, "="); name == variable {
			phrase = value
		}
	}
	if phrase == "" {
		// The name may be a passphrase in the wrong place.
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "the flag takes the name of a variable, not the passphrase",
			"the environment variable for the passphrase is not set")
	}
	to, err := seal.PassphraseRecipient(phrase)
	if err != nil {
		return nil, err
	}
	with, err := seal.PassphraseIdentity(phrase)
	if err != nil {
		return nil, err
	}
	return &newWay{name: passphraseKey, to: to, with: with}, nil
}

func (a *app) keysList(ctx context.Context, args []string) error {
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, err := a.getBackup(ctx, c, args)
	if err != nil {
		return err
	}
	row, err := a.keysOf(ctx, c, e.Backup)
	if err != nil {
		return err
	}
	if a.global.json {
		return a.printJSON(row)
	}
	if !row.Encrypted {
		a.printf("backup %s has no keys of its own: %s\n", row.ID, words.Clean(sealWords(e.Backup)))
		return nil
	}
	lines, unknown := make([][]string, 0, len(row.Keys)), false
	for _, k := range row.Keys {
		opens := "no"
		switch {
		case k.Odd != "":
			opens = "no: " + k.Odd
		case k.Opens:
			opens = "yes"
		}
		public := short(k.PublicKey)
		if public == "" && strings.HasPrefix(k.Name, recipientPrefix) {
			public, unknown = "not known here", true
		}
		lines = append(lines, []string{words.Clean(k.Name), string(k.Kind), opens, public})
	}
	a.printf("%s", terminal.Table([]string{"NAME", "KIND", "THIS HOST OPENS IT", "PUBLIC KEY"}, lines,
		terminal.TableOptions{Color: a.paint(a.stdoutTTY).on}))
	if unknown {
		a.printf("%s\n", a.paint(a.stdoutTTY).dim("The store holds no public keys. A name ends in the first 8 digits of the SHA-256 of its key: printf %s age1… | sha256sum"))
	}
	return nil
}

// short cuts the public keys of hybrid recipients, which have 2,000 letters.
func short(key string) string {
	if len(key) > 80 {
		return key[:40] + "…"
	}
	return key
}

// keysOf lists the ways to open a backup.
func (a *app) keysOf(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (keysRow, error) {
	row := keysRow{
		ID: b.ID, Database: b.Database.Name, Keys: []keyRow{}, Encrypted: b.Seal.Encryption == string(seal.EncryptionAge),
	}
	if !row.Encrypted {
		return row, nil
	}
	with, err := a.identities()
	if err != nil {
		return row, err
	}
	wraps, err := c.Keys(ctx, b, ownNames(with)...)
	if err != nil {
		return row, err
	}
	m, err := c.Manifest(ctx, b)
	if err != nil {
		return row, err
	}
	public := map[string]string{}
	for _, text := range a.cfg.Backup.Recipients {
		public[recipientName(text)] = text
	}
	for _, id := range with {
		switch id := id.(type) {
		case *age.X25519Identity:
			public[recipientName(id.Recipient().String())] = id.Recipient().String()
		case *age.HybridIdentity:
			public[recipientName(id.Recipient().String())] = id.Recipient().String()
		}
	}
	tries := newTries(with)
	for _, w := range wraps {
		k := keyRow{Name: w.Name, Kind: seal.KindOfWrap(w.Data), PublicKey: public[w.Name], Odd: w.Odd}
		if len(with) > 0 {
			var key *seal.Key
			key, k.Odd, _ = tries.fit(w, m)
			k.Opens = key != nil
		}
		row.Keys = append(row.Keys, k)
	}
	slices.SortFunc(row.Keys, func(x, y keyRow) int { return strings.Compare(x.Name, y.Name) })
	return row, nil
}

// changeKeys does a change to one backup or to all. What can't be done to one
// does not keep it from the others; it is told, and the run fails.
func (a *app) changeKeys(ctx context.Context, args []string, change keyChange) error {
	if change.all == (len(args) > 0) {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a backup, or latest, or give --all", "say which backups are meant, once")
	}
	c, closed, err := a.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	var entries []catalog.Entry
	var problem error
	if change.all {
		listing, err := c.List(ctx, catalog.Filter{})
		if err != nil {
			return err
		}
		entries = listing.Entries
		for _, d := range listing.Damaged {
			problem = errors.Join(problem, d.Err)
		}
	} else {
		e, err := a.getBackup(ctx, c, args)
		if err != nil {
			return err
		}
		entries = []catalog.Entry{e}
	}
	if err := refuseUnknownKey(ctx, c, entries, change); err != nil {
		return err
	}
	if err := a.confirmKeys(ctx, entries, change); err != nil {
		return err
	}
	rows := []keysRow{}
	for _, e := range entries {
		row, err := a.changeKey(ctx, c, e, change)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			row.Error = err.Error()
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
	}
	if err := a.printKeyChanges(rows, change); err != nil {
		return err
	}
	return problem
}

// confirmKeys asks before a way to open backups is taken away.
func (a *app) confirmKeys(ctx context.Context, entries []catalog.Entry, change keyChange) error {
	if change.remove == "" || len(entries) == 0 {
		return nil
	}
	if !change.all && entries[0].Backup.Seal.Encryption != string(seal.EncryptionAge) {
		return nil // which is told of, and nothing is asked
	}
	which := "backup " + entries[0].Backup.ID
	if change.all {
		which = fmt.Sprintf("%d backups", len(entries))
	}
	return a.confirm(ctx, fmt.Sprintf("Key %q will no longer open %s.", words.Clean(change.remove), which), change.remove)
}

// changeKey does a change to one backup. With --all, backups that it is not
// about are skipped.
func (a *app) changeKey(ctx context.Context, c *catalog.Catalog, e catalog.Entry, change keyChange) (row keysRow, err error) {
	b := e.Backup
	row = keysRow{ID: b.ID, Database: b.Database.Name, Keys: []keyRow{}, Encrypted: b.Seal.Encryption == string(seal.EncryptionAge)}
	skip := func(hint, why string) (keysRow, error) {
		row.Skipped = why
		if change.all {
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
	wraps, err := c.Keys(ctx, b, change.remove)
	if err != nil {
		return row, err
	}
	if change.remove != "" && !wraps.Has(change.remove) {
		return skip("pgmedic keys list "+b.ID+" shows those that it has", fmt.Sprintf("no key %q", change.remove))
	}
	if change.add != nil {
		if row.Added, err = a.addKey(ctx, c, b, &wraps, *change.add); err != nil {
			return row, err
		}
	}
	if change.remove != "" {
		if err = removeKey(ctx, c, b, wraps, change.remove, row.Added); err != nil {
			return row, err
		}
		row.Removed = change.remove
	}
	now, err := a.keysOf(ctx, c, b)
	row.Keys = now.Keys
	return row, err
}

// addKey wraps the backup's key once more, unless it is wrapped to the same
// already, and returns the wrap's name. wraps are those that there are, and
// gain the new one.
func (a *app) addKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, wraps *catalog.Wraps, way newWay) (string, error) {
	// A wrap is made of a key that has authenticated the manifest, else a wrap
	// that somebody planted would be passed on.
	key, err := a.readKey(ctx, c, b)
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
