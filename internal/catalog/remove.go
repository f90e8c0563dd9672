package catalog

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/store"
)

// markName is the object that marks a backup, or what a dead run left, for deletion.
const markName = "doomed.json"

// Mark says that a backup will be deleted. It is the first object that a deletion
// writes, and the last that it removes.
type Mark struct {
	// Format is 1.
	Format int `json:"format"`
	// At is when it was marked, on Host.
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	// Reason is why it will be deleted.
	Reason string `json:"reason"`
	// StoredAt is when the mark was stored, by the store's clock.
	StoredAt time.Time `json:"-"`
}

// Since is since when the mark has been there: the later of what it says itself and
// of what the store says, so that no clock alone makes it older than it is.
func (m Mark) Since() time.Time {
	if m.StoredAt.After(m.At) {
		return m.StoredAt
	}
	return m.At
}

// readMark reads a mark. Of one that is not valid only the store's time is known.
func readMark(ctx context.Context, c *Catalog, object store.Object) (Mark, error) {
	m := Mark{StoredAt: object.ModifiedAt}
	data, err := c.read(ctx, object.Key, maxNoteBytes)
	if errors.Is(err, errTooLarge) {
		return m, nil
	} else if err != nil {
		return m, err
	}
	if valid := json.Unmarshal(data, &m) == nil; !valid {
		m = Mark{StoredAt: object.ModifiedAt}
	}
	return m, nil
}

// Mark marks a folder for deletion. One that is marked already stays as it is.
func (c *Catalog) Mark(ctx context.Context, folder string, m Mark) error {
	m.Format = noteFormat
	if err := putNote(ctx, c, folder+"/"+markName, m); err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("mark %s for deletion: %w", folder, err)
	}
	failpoint.Hit(ctx, "prune-marked")
	return nil
}

// Unmark takes the mark off a backup. One whose deletion has begun keeps it: the
// error is of KindNotFound.
func (c *Catalog) Unmark(ctx context.Context, b *pgmedic.Backup, m Mark) error {
	if err := mustExist(ctx, c, b); err != nil {
		return err
	}
	if err := c.store.Delete(ctx, Key(b, markName)); err != nil {
		return fmt.Errorf("take the mark off backup %s: %w", b.ID, err)
	}
	failpoint.Hit(ctx, "prune-unmarked")
	// Remove looks for the mark once more when the manifest is gone.
	err := mustExist(ctx, c, b)
	if pgmedic.KindOf(err) == pgmedic.KindNotFound && err != nil {
		return errors.Join(err, c.Mark(context.WithoutCancel(ctx), Folder(b.Server.Name, b.Database.Name, b.ID), m))
	}
	return err
}

// removeJobs is how many objects are deleted at once.
const removeJobs = 8

// Remove deletes a backup that is marked: its manifest first, by which it is no more
// listed, then the rest, and the mark last, so that the next run goes on where one
// broke off. It reads again what is beside the backup. Where that has changed since
// e was listed, or the mark is gone, nothing is deleted, and kept says why. What another
// run has begun to delete is left to that run.
func (c *Catalog) Remove(ctx context.Context, e Entry, now time.Time) (kept string, err error) {
	b := e.Backup
	d, err := listFolder(ctx, c, Folder(b.Server.Name, b.Database.Name, b.ID))
	if err != nil {
		return "", fmt.Errorf("look at backup %s before it is deleted: %w", b.ID, err)
	}
	switch {
	case d == nil || !d.manifest:
		return "", nil // another run was faster: what it leaves if it breaks off is an orphan
	case d.mark.Key == "":
		return "its mark was taken off meanwhile", nil
	case besideOf(d.beside) != e.beside:
		return "a receipt or a hold was added or removed meanwhile", nil
	}
	kept, mine, err := removeManifest(ctx, c, d, e, now)
	if err != nil || kept != "" || !mine {
		return kept, err
	}
	return "", removeRest(ctx, c, d.path)
}

// removeManifest deletes the manifest, and puts it back where somebody held the backup
// at this moment. It is not mine to delete where another run was faster.
func removeManifest(ctx context.Context, c *Catalog, d *folder, e Entry, now time.Time) (kept string, mine bool, err error) {
	if len(e.Held(now)) > 0 {
		return "it is held", false, nil
	}
	key := d.path + "/" + manifestName
	manifest, err := c.read(ctx, key, maxManifestBytes)
	if errors.Is(err, store.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read the manifest of backup %s before it is deleted: %w", d.id, err)
	}
	failpoint.Hit(ctx, "prune-before-manifest")
	if err := c.store.Delete(ctx, key); err != nil {
		return "", false, fmt.Errorf("delete the manifest of backup %s: %w", d.id, err)
	}
	failpoint.Hit(ctx, "prune-manifest-deleted")
	again, err := listFolder(ctx, c, d.path)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("look at backup %s once more: %w", d.id, err)
	case again.content() < d.content(): // another run deletes it, and has begun with the rest
		return "", false, nil
	case again.mark.Key != "" && besideOf(again.beside) == e.beside:
		return "", true, nil
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := c.store.Put(ctx, key, bytes.NewReader(manifest)); err != nil && !errors.Is(err, store.ErrExists) {
		return "", false, fmt.Errorf("put the manifest of backup %s back, which was held at this moment: %w", d.id, err)
	}
	// Another run may have seen it without the hold, and delete the rest: it deletes what it
	// finds there in the end, or what is put there later is found here.
	if again, err = listFolder(ctx, c, d.path); err != nil {
		return "", false, fmt.Errorf("look at backup %s, which was held at this moment: %w", d.id, err)
	}
	if again.content() < d.content() {
		if err := c.store.Delete(ctx, key); err != nil {
			return "", false, fmt.Errorf("delete the manifest of backup %s, which another run deletes: %w", d.id, err)
		}
		return "", true, nil
	}
	return "it was held, or its mark taken off, at this moment", false, nil
}

// RemoveOrphan deletes what has no manifest and is marked.
func (c *Catalog) RemoveOrphan(ctx context.Context, o Orphan) (kept string, err error) {
	d, err := listFolder(ctx, c, o.Folder)
	switch {
	case err != nil:
		return "", fmt.Errorf("look at %s before it is deleted: %w", o.Folder, err)
	case d == nil:
		return "", nil
	case d.manifest:
		return "it has a manifest now", nil
	case d.mark.Key == "":
		return "its mark was taken off meanwhile", nil
	}
	failpoint.Hit(ctx, "prune-orphan")
	return "", removeRest(ctx, c, d.path)
}

// removeRest deletes all objects of a folder, the mark last. It lists them twice: another run may
// have put the manifest back meanwhile, and one that does so later finds that the rest is gone.
func removeRest(ctx context.Context, c *Catalog, folder string) error {
	for range 2 {
		if err := removeListed(ctx, c, folder); err != nil {
			return err
		}
	}
	failpoint.Hit(ctx, "prune-before-mark-removed")
	if err := c.store.Delete(ctx, folder+"/"+markName); err != nil {
		return fmt.Errorf("delete the mark of %s: %w", folder, err)
	}
	return nil
}

// removeListed deletes the objects of a folder but its mark.
func removeListed(ctx context.Context, c *Catalog, folder string) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(removeJobs)
	first := true
	for object, err := range c.store.List(ctx, folder+"/") {
		if err != nil {
			return errors.Join(fmt.Errorf("list %s: %w", folder, err), group.Wait())
		}
		if object.Key == folder+"/"+markName {
			continue
		}
		one := first
		first = false
		group.Go(func() error {
			if err := c.store.Delete(groupCtx, object.Key); err != nil {
				return fmt.Errorf("delete %s: %w", object.Key, err)
			}
			if one {
				failpoint.Hit(groupCtx, "prune-data-deleted")
			}
			return nil
		})
	}
	return group.Wait()
}

// listFolder lists one folder. It is nil where nothing is there.
func listFolder(ctx context.Context, c *Catalog, path string) (*folder, error) {
	found, err := foldersBelow(ctx, c, path+"/")
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Clock returns the time by the store's clock, by writing an object that it removes
// again.
func (c *Catalog) Clock(ctx context.Context) (at time.Time, err error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	key := "pgmedic-clock-" + hex.EncodeToString(random[:])
	object, err := c.store.Put(ctx, key, strings.NewReader("pgmedic prune reads the store's clock by this\n"))
	if err != nil {
		return at, fmt.Errorf("write %s, to read the store's clock: %w", path.Base(key), err)
	}
	if err := c.store.Delete(context.WithoutCancel(ctx), key); err != nil {
		return at, fmt.Errorf("remove %s: %w", key, err)
	}
	return object.ModifiedAt, nil
}
