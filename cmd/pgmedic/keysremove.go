package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// removeKey removes a wrap if another one is left that looks like one.
func removeKey(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, wraps catalog.Wraps, name, added string) error {
	if name == added {
		return pgmedic.Errorf(pgmedic.KindUsage, "name another key to add", "backup %s: the key to remove is the one to add", b.ID)
	}
	if waysBeside(wraps, name) == 0 {
		return pgmedic.Errorf(pgmedic.KindConflict, "add another first: pgmedic keys add "+b.ID,
			"backup %s: %q is the last key, and without a key the backup can never be read again", b.ID, name)
	}
	if err := c.RemoveKey(ctx, b, name); err != nil {
		return err
	}
	// Another run may have removed the others meanwhile, and have left this one
	// for the last. Of two such runs one at least sees that nothing is left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	now, err := c.Keys(ctx, b)
	if err == nil && waysBeside(now, name) > 0 {
		return nil
	}
	if putBack := c.RestoreKey(ctx, b, name, wraps.Get(name)); putBack != nil && !errors.Is(putBack, store.ErrExists) {
		return fmt.Errorf("backup %s: key %q may have been the last one, and could not be put back: %w", b.ID, name, putBack)
	}
	if err != nil {
		return fmt.Errorf("backup %s: key %q was put back: %w", b.ID, name, err)
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "pgmedic keys list "+b.ID+" shows what is left",
		"backup %s: another run removed the other keys; %q was put back", b.ID, name)
}

// refuseUnknownKey looks, before anybody is asked, whether the one backup that is
// meant has the key that is to go.
func refuseUnknownKey(ctx context.Context, c *catalog.Catalog, entries []catalog.Entry, change keyChange) error {
	if change.all || change.remove == "" || len(entries) != 1 || entries[0].Backup.Seal.Encryption != string(seal.EncryptionAge) {
		return nil
	}
	b, err := c.Whole(ctx, entries[0])
	if err != nil {
		return err
	}
	wraps, err := c.Keys(ctx, b, change.remove)
	if err == nil && !wraps.Has(change.remove) {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "pgmedic keys list "+b.ID+" shows those that it has", "backup %s: no key %q", b.ID, change.remove)
	}
	return err
}

// waysBeside counts the wraps that look like one, apart from the one of a name.
func waysBeside(wraps catalog.Wraps, name string) (ways int) {
	for _, w := range wraps {
		if w.Name != name && seal.KindOfWrap(w.Data) != seal.WrapUnknown {
			ways++
		}
	}
	return ways
}

// backupAndKey refuses other than two arguments.
func backupAndKey(_ *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("takes a backup and the name of a key, and got %s", words.Plural(len(args), "name"))
	}
	return nil
}
