package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/secret"
	"github.com/pgmedic/pgmedic/internal/walpush"
	"github.com/pgmedic/pgmedic/internal/words"
)

// oneLineAnnotation marks a command whose error is one line, the hint included: PostgreSQL's
// log takes it as it comes.
const oneLineAnnotation = "pgmedic-one-line"

// walPushCommand stores one file of WAL that PostgreSQL hands over.
type walPushCommand struct {
	job
	stores stores
	keys   keyring

	path string
	// system is the system identifier that was given, or empty.
	system string
}

func walPushCLI(e *env) *cobra.Command {
	var system string
	cmd := &cobra.Command{
		Use:   "push PATH",
		Short: "Store one file of WAL: PostgreSQL's archive_command",
		Long: `Stores a segment of WAL, a timeline's history, or what else PostgreSQL archives. Set it on
the server, with the path that PostgreSQL puts in:

  archive_mode = on
  archive_command = 'pgmedic wal push --config /etc/pgmedic/pgmedic.yaml %p'
  archive_timeout = 60

The exit code is 0 only when the file is stored, or was already, with the same bytes. With
every other one PostgreSQL keeps the file and tries again. Other bytes under the name of a
segment that is stored are stored, too, and the exit code is 14: two servers write under one
name.

It uses no replication slot. Only whole segments are stored: up to archive_timeout of commits
are lost with the server, where pgmedic wal stream loses max_delay. Nothing says how far the
server is, so that pgmedic wal status stays unknown unless a stream runs as well.

Public keys suffice. What is stored within a day is sealed to one key, whose public half is
remembered in the state folder of the user that PostgreSQL runs as (XDG_STATE_HOME, else
~/.local/state).`,
		Example: `  pgmedic wal push pg_wal/00000001000000000000000A`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("takes the path of a file of WAL, and got %s", words.Plural(len(args), "argument"))
			}
			return nil
		},
		Annotations: map[string]string{oneLineAnnotation: "true"},
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &walPushCommand{job: j, stores: stores{j}, keys: keyring{j}, path: e.absolute(args[0], ""), system: system}
			return command.run(cmd.Context())
		},
	}
	addSetting(cmd, "server", "server", "name that the WAL of this server is filed under")
	addStore(cmd)
	cmd.Flags().StringVar(&system, "system-identifier", "", "system identifier of the cluster, where PATH is not in a data directory")
	return cmd
}

func (cmd *walPushCommand) run(ctx context.Context) error {
	var system uint64
	if cmd.system != "" {
		var err error
		if system, err = strconv.ParseUint(cmd.system, 10, 64); err != nil || system == 0 {
			return pgmedic.Errorf(pgmedic.KindUsage, "give it as pg_controldata prints it", "--system-identifier is not a system identifier")
		}
	}
	how, err := cmd.keys.unsignedSealing()
	if err == nil && !secret.IsSigningKey(cmd.cfg.Backup.SigningKey) {
		_, err = cmd.keys.ownSigner(ctx) // a wrong file is an error of each push
	}
	if err != nil {
		return err
	}
	c, closed, err := cmd.stores.makeCatalog(ctx)
	if err != nil {
		return err
	}
	defer closed()
	o := walpush.Options{
		Store: c.Store(), Server: cmd.cfg.Server, Path: cmd.path, System: system, Seal: how.options, Wraps: how.wraps, Signer: cmd.keys.ownSigner,
		Host: hostName(), Version: cmd.version, Now: cmd.now, Logger: cmd.log,
	}
	if state, err := cmd.stateDir(); err == nil { // else it says so itself
		o.State = filepath.Join(state, "wal-push")
	}
	return walpush.Push(ctx, o)
}
