package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// addSync adds the flags of a stream that commits wait for.
func addSync(cmd *cobra.Command) {
	addSwitch(cmd, "sync", "wal.sync", "flush WAL to a local disk, the spool, as it arrives: commits can wait for that")
	addSetting(cmd, "spool", "wal.spool", "folder of the spool; wal-spool in the state folder if none is named")
	addSetting(cmd, "spool-max-mb", "wal.spool_max_mb", "MB that the spool may take")
}

// spoolDir is where WAL is that is flushed and not stored yet.
func (j job) spoolDir() (string, error) {
	if j.cfg.WAL.Spool != "" {
		return j.cfg.WAL.Spool, nil
	}
	state, err := j.stateDir()
	if err != nil {
		return "", pgmedic.Errorf(pgmedic.KindUsage, "name a folder with wal.spool (--spool)", "no home folder is known to keep the spool in")
	}
	return filepath.Join(state, "wal-spool"), nil
}

// spool is the folder of the spool.
func (cmd *walStreamCommand) spool() (*walspool.Folder, error) {
	dir, err := cmd.spoolDir()
	if err != nil {
		return nil, err
	}
	return walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: int64(cmd.cfg.WAL.SpoolMB) << 20, Logger: cmd.log})
}

// drainedRow is what is stored of a spool, as JSON.
type drainedRow struct {
	SystemIdentifier uint64       `json:"system_identifier,string"`
	Timeline         wal.Timeline `json:"timeline"`
	From             wal.LSN      `json:"from"`
	To               wal.LSN      `json:"to"`
}

// drainSpool stores what the spool has, without the server.
func (cmd *walStreamCommand) drainSpool(ctx context.Context, o walstream.Options) error {
	all, err := walstream.Drain(ctx, o)
	if cmd.global.json {
		rows := []drainedRow{}
		for _, d := range all {
			rows = append(rows, drainedRow{d.SystemIdentifier, d.Timeline, d.From, d.To})
		}
		if jsonErr := cmd.printJSON(map[string]any{"stored": rows}); err == nil {
			err = jsonErr
		}
		return err
	}
	if !cmd.global.quiet {
		for _, d := range all {
			cmd.printf("stored: all that the spool has of timeline %d, up to %v (%s)\n", d.Timeline, d.To, words.Bytes(int64(d.To-d.From)))
		}
		if len(all) == 0 && err == nil {
			cmd.printf("the spool is empty\n")
		}
	}
	return err
}
