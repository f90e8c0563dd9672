package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkStore does with the store what a backup will do.
func (cmd *checkCommand) checkStore(ctx context.Context, l *checklist) {
	given := cmd.cfg.Origin("backup.dir").Given() || cmd.cfg.Origin("backup.store").Given()
	c, closed, err := cmd.stores.openToTry(ctx, cmd.cfg.Backup.Place(), cmd.cfg.Backup.Access)
	if pgmedic.KindOf(err) == pgmedic.KindNotFound {
		tryMissing(l, "store", "", cmd.cfg.Backup.Place(), given)
		return
	}
	if err != nil {
		l.fail("store", err)
		return
	}
	defer closed()
	if err := tryStore(ctx, c.Store()); err != nil {
		l.fail("store", err)
		return
	}
	listing, err := c.List(ctx, cmd.keys.trusting(catalog.Filter{}))
	if err != nil {
		l.fail("store", err)
		return
	}
	l.ok("store", "%s: writes, reads, lists, refuses to overwrite, deletes; %s", location(c), words.Plural(len(listing.Entries), "backup"))
	cmd.stores.checkLocks(ctx, l, "", c.Store(), cmd.cfg.Backup.Place())
	tryLeftovers(ctx, l, "store", "", c.Store())
	for _, d := range listing.Damaged {
		l.fail("store", d.Err)
	}
	cmd.checkNewest(ctx, l, c, listing)
}

// tryStore does all that a backup does to a store, with small objects, and takes them
// away again.
func tryStore(ctx context.Context, s store.Store) (err error) {
	base := catalog.NewID(time.Now()) + ".check"
	const text = "written by pgmedic check; may be deleted\n"
	keys := []string{base + "2", base + "1", base} // a server must sort them
	var written []string
	defer func() {
		for _, key := range written {
			if deleteErr := s.Delete(context.WithoutCancel(ctx), key); deleteErr != nil && err == nil {
				err = pgmedic.Errorf(pgmedic.KindOf(deleteErr), "where the role may not delete, or the store keeps objects for a time (object lock), backups can be taken, and prune can't free space: docs/stores.md says more",
					"delete from the store: %w", deleteErr)
			}
		}
	}()
	for _, key := range keys {
		if _, err := s.Put(ctx, key, strings.NewReader(text)); err != nil {
			return fmt.Errorf("write into the store: %w", err)
		}
		written = append(written, key)
	}
	key, listed := base, 0
	for _, err := range s.List(ctx, base) {
		if err != nil {
			return fmt.Errorf("list the store: %w", err)
		}
		listed++
	}
	if listed != len(keys) {
		return pgmedic.Errorf(pgmedic.KindFailed, "use another store: backups could not be found again", "the store lists %d of %d objects that were just written", listed, len(keys))
	}
	if _, err := s.Put(ctx, key, strings.NewReader(text)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		return pgmedic.Errorf(pgmedic.KindFailed, "use another store: this one could lose a backup to another's name",
			"the store overwrites what exists")
	}
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("read from the store: %w", err)
	}
	data, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("read from the store: %w", err)
	}
	if string(data) != text {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "look at the disk", "the store does not give back what was written")
	}
	if _, ok := immutable.Unwrap(s).(folderStore); ok {
		return nil
	}
	// A large object is made of parts by another request, which may be the one that a
	// server does not know, or that overwrites.
	parts := base + "4"
	if _, err := s.Put(ctx, parts, newZeros(partsTried)); err != nil {
		return fmt.Errorf("write an object in parts into the store: %w", err)
	}
	written = append(written, parts)
	if _, err := s.Put(ctx, parts, newZeros(partsTried)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		if err != nil {
			return fmt.Errorf("write an object in parts into the store once more: %w", err)
		}
		return pgmedic.Errorf(pgmedic.KindFailed, "use another store: this one could lose a backup to another's name",
			"the store overwrites what exists, where an object is written in parts")
	}
	return nil
}

// partsTried is a byte more than fits into one part of the smallest size.
const partsTried = s3.MinPartSizeBytes + 1

// newZeros is so many zeros, of which a store can't know the number before.
func newZeros(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// openToTry opens a store in which nothing is to be made but what tryStore takes away
// again. Parts of uploads are small.
func (st stores) openToTry(ctx context.Context, place config.Place, access config.Access) (c *catalog.Catalog, closed func(), err error) {
	return st.openPlace(ctx, place, access.SmallestParts(), true)
}

// tryMissing says of a folder that is not there whether it could be made. One that
// somebody named may be that of a disk which is not mounted.
func tryMissing(l *checklist, name, of string, place config.Place, given bool) {
	dir := place.Dir
	if dir == "" {
		l.add(name, pgmedic.OutcomeWarn, of+"folder "+place.Path+" is not there on "+place.Host+" yet; the first backup makes it, if it may, which was not tried",
			"if it should be there, see that its disk is mounted")
		return
	}
	above := nearestFolder(dir)
	trial, err := os.MkdirTemp(above, ".pgmedic-check-*")
	if err == nil {
		err = os.Remove(trial)
	}
	if err != nil {
		l.fail(name, pgmedic.Errorf(pgmedic.KindUnreachable, "make it, and give it to the user who runs pgmedic",
			"%sfolder %s is not there, and can't be made: %w", of, dir, err))
		return
	}
	outcome, hint := pgmedic.OutcomeOK, ""
	if given {
		outcome, hint = pgmedic.OutcomeWarn, "if it should be there, see that its disk is mounted"
	}
	l.add(name, outcome, of+"folder "+dir+" is not there yet; the first backup makes it", hint)
}

// nearestFolder is a folder, or the nearest above it that is there.
func nearestFolder(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}
