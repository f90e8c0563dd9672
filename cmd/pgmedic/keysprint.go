package main

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/words"
)

func (cmd *keysChangeCommand) printKeyChanges(rows []keysRow) error {
	if cmd.global.json {
		out := map[string]any{"backups": rows}
		if cmd.change.fresh != nil {
			out["made"] = cmd.change.fresh
		}
		return cmd.printJSON(out)
	}
	for _, r := range rows {
		var parts []string
		switch {
		case r.Error != "":
			parts = append(parts, cmd.paint(cmd.stdoutTTY).bad("failed")+": "+words.OneLine(r.Error))
		case r.Skipped != "":
			parts = append(parts, "skipped: "+words.Clean(r.Skipped))
		default:
			if r.Added != "" {
				parts = append(parts, "opened by "+r.Added)
			}
			if r.Removed != "" {
				parts = append(parts, "no longer by "+words.Clean(r.Removed))
			}
		}
		if cmd.global.quiet && r.Error == "" {
			parts = nil
		}
		if len(parts) > 0 {
			cmd.wrapf("%s  %s\n", r.ID, strings.Join(parts, ", "))
		}
	}
	if cmd.global.quiet {
		return nil
	}
	if len(cmd.cfg.Copies) > 0 {
		fmt.Fprintln(cmd.stderr, "copies keep their own keys: pgmedic copy brings new ones there, and keys remove with --store takes old ones away")
	}
	if cmd.change.remove == "" {
		return nil
	}
	for _, text := range cmd.cfg.Backup.Recipients {
		if recipientName(text) == cmd.change.remove {
			fmt.Fprintln(cmd.stderr, "new backups still get that key: take it out of backup.recipients")
		}
	}
	return nil
}
