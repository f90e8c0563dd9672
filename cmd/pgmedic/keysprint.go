package main

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) printKeyChanges(rows []keysRow, change keyChange) error {
	if a.global.json {
		return a.printJSON(map[string]any{"backups": rows})
	}
	for _, r := range rows {
		var parts []string
		switch {
		case r.Error != "":
			parts = append(parts, a.paint(a.stdoutTTY).bad("failed")+": "+words.OneLine(r.Error))
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
		if a.global.quiet && r.Error == "" {
			parts = nil
		}
		if len(parts) > 0 {
			a.printf("%s  %s\n", r.ID, strings.Join(parts, ", "))
		}
	}
	if a.global.quiet {
		return nil
	}
	if len(a.cfg.Copies) > 0 {
		fmt.Fprintln(a.stderr, "copies keep their own keys: pgmedic copy brings new ones there, and keys remove with --store takes old ones away")
	}
	if change.remove == "" {
		return nil
	}
	for _, text := range a.cfg.Backup.Recipients {
		if recipientName(text) == change.remove {
			fmt.Fprintln(a.stderr, "new backups still get that key: take it out of backup.recipients")
		}
	}
	return nil
}
