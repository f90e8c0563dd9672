package main

import (
	"context"
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
	// WAL is true where it is an epoch of WAL, and Database says of which server.
	WAL bool `json:"wal,omitempty"`
	// Encrypted is true where the backup has a key of its own, by age.
	Encrypted bool     `json:"encrypted"`
	Keys      []keyRow `json:"keys"`
	Added     string   `json:"added,omitempty"`
	Removed   string   `json:"removed,omitempty"`
	// Skipped says why nothing was to be done, Error why it could not be.
	Skipped string `json:"skipped,omitempty"`
	Error   string `json:"error,omitempty"`
	// changed is true if there are other keys now.
	changed bool
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

// keysListCommand lists the ways to open a backup.
type keysListCommand struct {
	job
	stores  stores
	keys    keyring
	backups backups

	args []string
}

func keysCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List, add, remove and rotate the ways to open encrypted backups; sign backups",
		Long: `Each encrypted backup has its own key, which is stored wrapped once for each way to
open it: for each public key and for a passphrase. These commands add and remove
such wraps; they neither read nor write the stored data. WAL has a key for each epoch,
which is one run of its writer or a day: --all means epochs, too, and the id of an epoch
is given as that of a backup is.

backup.recipients and backup.encryption_key set which keys open new backups.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(keysListCLI(e), keysAddCLI(e), keysRemoveCLI(e), keysRotateCLI(e), keysNewCLI(e), keysPublicCLI(e), keysSignCLI(e))
	return cmd
}

func keysListCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list [ID|latest]",
		Short:   "List the ways to open a backup, and which of them this host has",
		Example: "  pgmedic keys list latest",
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &keysListCommand{job: j, stores: stores{j}, keys: keyring{j}, backups: newBackups(j), args: args}
			return command.run(cmd.Context())
		},
	}
	addStore(cmd)
	return cmd
}

func keysAddCLI(e *env) *cobra.Command {
	var change keyChange
	var recipient, variable, file string
	cmd := &cobra.Command{
		Use:   "add [ID|latest]",
		Short: "Let another key or a passphrase open backups that this host can open",
		Example: `  pgmedic keys add latest --recipient age1…
  pgmedic keys add --all --new /etc/pgmedic/identity-new.txt
  pgmedic keys add --all --passphrase-env NEW_PASSPHRASE`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notifiedDeed(cmd, "keys", func(ctx context.Context, j job) (err error) {
				if file != "" && recipient+variable == "" {
					change.fresh, change.add, err = freshWay(j, file)
				} else if change.add, err = readWay(e.environ, recipient, variable, "--recipient"); err == nil && file != "" {
					err = pgmedic.Errorf(pgmedic.KindUsage, "leave out --new, or the other", "say which one key is to be added")
				}
				if err != nil {
					return err
				}
				return newKeysChange(j, args, change).run(ctx)
			})
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&change.all, "all", false, "every encrypted backup and all encrypted WAL in the store")
	cmd.Flags().StringVar(&recipient, "recipient", "", "age public key to add")
	cmd.Flags().StringVar(&file, "new", "", "make a new key into this file, and add it")
	cmd.Flags().StringVar(&variable, "passphrase-env", "", "environment variable that holds the passphrase to add")
	return cmd
}

func keysRemoveCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove ID|latest NAME",
		Short: "Remove one way to open a backup",
		Long: `Removes one of the wraps that keys list shows. The last one is never removed.
Anyone who has opened the backup before, or kept a copy of the wrap, can still read
a copy of the data: removing a key does not undo that.`,
		Example: "  pgmedic keys remove latest recipient-1a2b3c4d",
		Args:    backupAndKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notifiedDeed(cmd, "keys", func(ctx context.Context, j job) error {
				return newKeysChange(j, args[:1], keyChange{remove: wrapName(args[1])}).run(ctx)
			})
		},
	}
	addStore(cmd)
	return cmd
}

func keysRotateCLI(e *env) *cobra.Command {
	var change keyChange
	var from, to, variable string
	cmd := &cobra.Command{
		Use:   "rotate [ID|latest]",
		Short: "Replace one way to open backups with another",
		Long: `Adds the new key and then removes the old one, backup by backup. Backups that the
old key does not open are left alone. Run again, it continues where it stopped.`,
		Example: `  pgmedic keys rotate --all --from recipient-1a2b3c4d --to age1…
  pgmedic keys rotate --all --from passphrase --to-passphrase-env NEW_PASSPHRASE`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.notifiedDeed(cmd, "keys", func(ctx context.Context, j job) (err error) {
				if from == "" {
					return pgmedic.Errorf(pgmedic.KindUsage, "pgmedic keys list shows the names", "--from is missing: which key is to go")
				}
				change.remove = wrapName(from)
				if change.add, err = readWay(e.environ, to, variable, "--to"); err != nil {
					return err
				}
				return newKeysChange(j, args, change).run(ctx)
			})
		},
	}
	addStore(cmd)
	cmd.Flags().BoolVar(&change.all, "all", false, "every encrypted backup and all encrypted WAL in the store")
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

// readWay reads who is to be added. A passphrase comes from the environment:
// the command line is not a place for one.
func readWay(environ []string, recipient, variable, flag string) (*newWay, error) {
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
	for _, pair := range environ {
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

func (cmd *keysListCommand) run(ctx context.Context) error {
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	e, epochs, err := cmd.backups.entryOrEpoch(ctx, c, cmd.args)
	if err != nil {
		return err
	}
	var row keysRow
	if len(epochs) > 0 {
		row, err = cmd.keys.epochKeys(ctx, epochs[0])
	} else {
		row, err = cmd.keys.keysOf(ctx, c, e.Backup)
	}
	if err != nil {
		return err
	}
	if cmd.global.json {
		return cmd.printJSON(row)
	}
	if !row.Encrypted {
		what := "not encrypted"
		if !row.WAL {
			what = sealWords(e.Backup)
		}
		cmd.wrapf("%s has no keys of its own: %s\n", row.ID, words.Clean(what))
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
	printTable(cmd.env, []string{"NAME", "KIND", "THIS HOST OPENS IT", "PUBLIC KEY"}, lines, terminal.TableOptions{Shrink: []int{3}, Move: []int{3}})
	if unknown {
		cmd.wrapf("%s\n", cmd.paint(cmd.stdoutTTY).dim("The store holds no public keys. A name ends in the first 8 digits of the SHA-256 of its key: printf %s age1… | sha256sum"))
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
func (kr keyring) keysOf(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (keysRow, error) {
	row := keysRow{
		ID: b.ID, Database: b.Database.Name, Keys: []keyRow{}, Encrypted: b.Seal.Encryption == string(seal.EncryptionAge),
	}
	if !row.Encrypted {
		return row, nil
	}
	with, err := kr.identities()
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
	public := kr.publicKeys(with)
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

// publicKeys are the public keys that this host knows, by the names of their wraps.
func (kr keyring) publicKeys(with []age.Identity) map[string]string {
	public := map[string]string{}
	for _, text := range kr.cfg.Backup.Recipients {
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
	return public
}
