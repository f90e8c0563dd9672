package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

func walCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wal",
		Short: "Stream a server's WAL into the store, show how far it is, fetch it for a recovery",
		Long: `The write-ahead log (WAL) of a server, with a base backup from before it, recovers the
server to any moment. These commands store it and give it back; pgmedic backup --method
physical takes base backups. docs/point-in-time.md has the steps.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(walStreamCLI(e), walPushCLI(e), walStatusCLI(e), walFetchCLI(e))
	return cmd
}

// walStreamCommand streams the WAL of the configured server into the store, until it is
// stopped.
type walStreamCommand struct {
	job
	servers servers
	stores  stores
	keys    keyring

	dropSlot, drain bool
}

// walJob is what notifications and pings call the stream.
const walJob = "wal"

func walStreamCLI(e *env) *cobra.Command {
	var dropSlot, drain bool
	cmd := &cobra.Command{
		Use:   "stream",
		Short: "Stream the server's WAL into the store, until it is stopped",
		Long: `Receives the server's WAL over the replication protocol as it is written, and stores it.
It runs until it is stopped; on Ctrl-C or SIGTERM it stores what has arrived, and ends
with 0. It waits for a server or a store that is away. When it is started again, it
continues after what is stored.

A replication slot keeps WAL on the server until it is stored. It is made when it is
missing. While nothing streams from it, it fills the server's disk: set
max_slot_wal_keep_size on the server, and drop the slot with --drop-slot if you stop
streaming for good. One slot serves one stream: a second one ends with 14.

The role needs the attribute REPLICATION, and pg_hba.conf a line for replication.

With --sync no acknowledged commit is lost with the server. WAL is also flushed to a local
disk as it arrives, and a commit waits for that, and never for the store, if the server has
synchronous_standby_names = 'ANY 1 (pgmedic_sync, …)' with a second candidate, without
which commits hang while the stream is away. If the server is gone for ever, --drain stores
what the spool has; a stream with --sync that is started again does so, too.

WAL goes to the store; copies get it when pgmedic copy runs. Object locks cover it, and
signatures do not. pgmedic prune deletes what nothing needs any more.`,
		Example: `  pgmedic wal stream
  pgmedic wal stream --max-delay 1s
  pgmedic wal stream --sync --spool /var/lib/pgmedic/spool
  pgmedic wal stream --drain
  pgmedic wal stream --drop-slot`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			run := func(ctx context.Context, j job) error {
				command := &walStreamCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}, dropSlot: dropSlot, drain: drain}
				return command.run(ctx)
			}
			if dropSlot && drain {
				return pgmedic.Errorf(pgmedic.KindUsage, "drain the spool first", "--drain and --drop-slot are two commands")
			}
			if !dropSlot && !drain {
				return e.notified(cmd, walJob, run)
			}
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			return run(cmd.Context(), j)
		},
	}
	addConnection(cmd)
	addStore(cmd)
	addSetting(cmd, "slot", "wal.slot", "replication slot; pgmedic_ and the name of this host if none is named")
	addSetting(cmd, "max-delay", "wal.max_delay", "longest time until WAL that has arrived is sent to the store, at least 1s")
	addSync(cmd)
	cmd.Flags().BoolVar(&drain, "drain", false, "store what the spool has, without the server, and end: 0 if all of it is stored")
	cmd.Flags().BoolVar(&dropSlot, "drop-slot", false, "drop the replication slot, and end: the server no longer keeps WAL for it")
	return cmd
}

func (cmd *walStreamCommand) run(ctx context.Context) error {
	target, err := cmd.servers.target()
	if err != nil && !cmd.drain { // which needs no server
		return err
	}
	slot := cmd.slot()
	if cmd.dropSlot {
		return cmd.drop(ctx, target, slot)
	}
	how, err := cmd.keys.sealing(ctx)
	if err != nil {
		return err
	}
	o := walstream.Options{
		Target: target, Server: cmd.cfg.Server, Slot: slot, MaxDelay: cmd.cfg.WAL.MaxDelay,
		Seal: how.options, Wraps: how.wraps, Signer: how.signer, Host: hostName(), Version: cmd.version, Now: cmd.now, Logger: cmd.log,
	}
	if cmd.cfg.WAL.Sync || cmd.drain {
		if o.Spool, err = cmd.spool(); err != nil {
			return err
		}
		defer o.Spool.Close()
	}
	cmd.warn()
	c, closed, err := cmd.stores.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o.Store = c.Store()
	if cmd.drain {
		return cmd.drainSpool(ctx, o)
	}
	if !cmd.global.quiet && !cmd.global.json {
		encrypted := "not encrypted"
		if how.options.Encryption == seal.EncryptionAge {
			encrypted = "encrypted"
		}
		cmd.printf("streaming WAL into %s, %s, with slot %s; Ctrl-C or SIGTERM stores what has arrived and ends it\n", words.Clean(location(c)), encrypted, slot)
		if o.Spool != nil {
			cmd.printf("commits that wait for %s wait until their WAL is flushed in %s, which is not encrypted\n", walstream.SyncName, words.Clean(o.Spool.Dir()))
		}
	}
	defer collectFrom(streamMemory)()
	return cmd.stream(ctx, o)
}

// stream streams, and sends what is noticed meanwhile.
func (cmd *walStreamCommand) stream(ctx context.Context, o walstream.Options) error {
	if cmd.notifier == nil {
		return walstream.Run(ctx, o)
	}
	gather, cancel := context.WithTimeout(ctx, gatherWithin)
	cmd.notifier.ready(gather)
	cancel()
	r := newWALReporter(cmd.job)
	o.Notify = r.notice
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx)
	}()
	err := walstream.Run(ctx, o)
	close(r.notices)
	<-done
	return err
}

// slot is the name of the slot that the stream of this host uses.
func (j job) slot() string {
	if j.cfg.WAL.Slot != "" {
		return j.cfg.WAL.Slot
	}
	return slotName(hostName())
}

// slotPrefix begins the names of slots that are not named by hand.
const slotPrefix = "pgmedic_"

// slotName is the name of a host as that of a slot.
func slotName(host string) string {
	name := []byte(slotPrefix + strings.ToLower(host))
	for i, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			name[i] = '_'
		}
	}
	return string(name[:min(len(name), 63)])
}

// warn says what settings do not do for WAL.
func (cmd *walStreamCommand) warn() {
	if cmd.cfg.WAL.Spool != "" && !cmd.cfg.WAL.Sync && !cmd.drain {
		cmd.log.Warn("wal.spool has no effect without wal.sync: no commit waits for this stream")
	}
	if len(cmd.cfg.Copies) > 0 {
		cmd.log.Warn("WAL goes to backup.store alone; the configured copies get it when pgmedic copy runs", "copies", len(cmd.cfg.Copies))
	}
	if cmd.cfg.Backup.SigningKey != "" || len(cmd.cfg.Backup.TrustedSigners) > 0 {
		cmd.log.Warn("of WAL only the epochs are signed, where a key signs, and not what is stored in them: a host that has backup.trusted_signers fetches it with --allow-unsigned alone")
	}
}

// drop removes the slot, when that is confirmed.
func (cmd *walStreamCommand) drop(ctx context.Context, target postgres.Target, slot string) error {
	if err := replication.CheckSlotName(slot); err != nil {
		return err
	}
	if err := cmd.confirm(ctx, "Drop replication slot "+slot+"? WAL that is not stored yet can then be lost.", "drop"); err != nil {
		return err
	}
	conn, err := replication.Connect(ctx, target)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := conn.DropSlot(ctx, slot); err != nil {
		return err
	}
	if !cmd.global.quiet {
		cmd.printf("dropped replication slot %s\n", slot)
	}
	return nil
}

// walArchives opens the archives of a server's WAL: one for each cluster that had its
// name.
func walArchives(ctx context.Context, s store.Store, server string) (all []*archive.Archive, err error) {
	systems, err := archive.Systems(ctx, s, server)
	if err != nil {
		return nil, err
	}
	for _, id := range systems {
		all = append(all, archive.New(s, server, id))
	}
	return all, nil
}

// errNoWAL is that nothing is stored of a server.
func errNoWAL(server string, s store.Store) error {
	return pgmedic.Errorf(pgmedic.KindNotFound, "check the store and the name of the server (--server); `pgmedic wal stream` stores WAL", "there is no WAL of server %s in %s", server, s)
}

// openWAL opens the key of an epoch of WAL. Without wraps it says whether WAL that is not
// encrypted is used at all.
func (kr keyring) openWAL(epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
	if len(wraps) == 0 {
		if kr.refusesUnencrypted() {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "find out who wrote it; --allow-unencrypted uses it all the same",
				"the WAL is not encrypted, and this host has keys: nothing shows who wrote it")
		}
		return nil, nil
	}
	with, err := kr.identities()
	if err != nil || len(with) == 0 {
		return nil, err
	}
	own := ownNames(with)
	passphrases, damaged := 0, ""
	for _, named := range []bool{true, false} {
		for _, w := range wraps {
			if named != slices.Contains(own, w.Name) {
				continue
			}
			if seal.KindOfWrap(w.Data) == seal.WrapPassphrase {
				if passphrases++; passphrases > maxPassphrases {
					continue
				}
			}
			key, err := seal.OpenKey(w.Data, with)
			if err == nil {
				return key, nil
			}
			// It bears the name of a key that this host has.
			if slices.Contains(publicNames(with), w.Name) || named && !errors.Is(err, seal.ErrNotForUs) {
				damaged = w.Name
			}
		}
	}
	if damaged != "" {
		return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "if a copy has its keys, use that store, or copy the object from there; else recover to a moment before this epoch",
			"open the key of epoch %s of the WAL: %s is damaged", epoch, damaged)
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "use the identity file or the passphrase that backup.recipients and backup.encryption_key named when the WAL was stored",
		"open the key of epoch %s of the WAL: %w", epoch, seal.ErrNotForUs)
}

// checkWALSigned refuses WAL on a host that trusts only what is signed.
func checkWALSigned(cfg *config.Config) error {
	if len(cfg.Backup.TrustedSigners) == 0 || cfg.Backup.AllowUnsigned {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "if you know that it is yours, use it all the same with --allow-unsigned",
		"WAL is not signed, and this host trusts only what is signed (backup.trusted_signers)")
}
