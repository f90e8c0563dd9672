package main

import (
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
)

// confirmShrunk asks before a backup is restored that the user did not name by its id and that has
// far less than those before it: what is missing in it may be what is to be restored. --yes
// is for the questions that are expected, and does not answer this one.
func (cmd *restoreCommand) confirmShrunk(ctx context.Context, e catalog.Entry) error {
	if e.Shrunk == nil || cmd.flags.acceptShrunk {
		return nil
	}
	id, before := e.Backup.ID, words.Clean(e.Shrunk.Before)
	if cmd.flags.dryRun {
		cmd.tellShrunk(id, e.Shrunk)
		return nil
	}
	if !cmd.stdinTTY {
		return pgmedic.Errorf(pgmedic.KindNotConfirmed,
			fmt.Sprintf("name the one to restore: %s, which has more, or %s; --accept-shrunk takes latest as it is", before, id),
			"not confirmed: %s has %s than %s", id, e.Shrunk, before)
	}
	return cmd.askFor(ctx, fmt.Sprintf("Backup %s has %s than %s. Restore it all the same?", id, e.Shrunk, before), "restore "+id[len(id)-6:])
}
