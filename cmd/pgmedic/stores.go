package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
)

// openCatalog opens the store to read what is there: a folder that does not
// exist is refused, lest a mistyped one be taken for an empty store. The caller
// calls closed when nothing uses it any more.
func (st stores) openCatalog(ctx context.Context) (c *catalog.Catalog, closed func(), err error) {
	c, closed, err = st.openPlace(ctx, st.cfg.Backup.Place(), st.cfg.Backup.Access, true)
	if pgmedic.KindOf(err) == pgmedic.KindNotFound {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "check the path, and that its disk is mounted; `pgmedic backup` makes a new one",
			"there are no backups: %w", err)
	}
	return c, closed, err
}

// makeCatalog opens the store to write to it; a folder that is not there is made.
func (st stores) makeCatalog(ctx context.Context) (c *catalog.Catalog, closed func(), err error) {
	return st.openPlace(ctx, st.cfg.Backup.Place(), st.cfg.Backup.Access, false)
}

// deadAfter is how long nothing must have been written to a temporary file before
// it is taken for that of a run that is dead.
const deadAfter = 24 * time.Hour

// folderStore is a store of files, of which killed runs leave temporary ones.
type folderStore interface {
	store.Store
	SweepTemp(ctx context.Context, olderThan time.Duration) (int, error)
}

// sweepTemp removes what runs that were killed left in a folder that is about to be
// written to. A backup goes on without it.
func (st stores) sweepTemp(ctx context.Context, s folderStore) {
	n, err := s.SweepTemp(ctx, deadAfter)
	if err != nil && ctx.Err() == nil {
		st.log.Warn("what dead runs left in the store could not be removed", "store", s.String(), "error", err)
	}
	if n > 0 {
		st.log.Info("removed what dead runs left in the store", "store", s.String(), "files", n)
	}
}

// openUnlocked opens any store. Access says how it is reached. Without mustExist it is to
// be written to.
func (st stores) openUnlocked(ctx context.Context, place config.Place, access config.Access, mustExist bool) (c *catalog.Catalog, closed func(), err error) {
	if st.secrets != nil {
		if access, err = access.Read(ctx, st.secrets.Resolve); err != nil {
			return nil, nil, err
		}
	}
	renewal := st.renewal(access)
	access.S3.Endpoint = cmp.Or(access.S3.Endpoint, st.s3Endpoint())
	s, err := newStore(ctx, place, access, mustExist, renewal, st.log)
	if err != nil {
		return nil, nil, err
	}
	if folder, ok := s.(folderStore); ok && !mustExist {
		st.sweepTemp(ctx, folder)
	}
	return catalog.WithAnchor(s, st.trail.anchor), func() { _ = s.Close() }, nil // only a descriptor or connections
}

// openAll opens all configured stores, of which some can't be.
func (st stores) openAll(ctx context.Context) retained {
	var all retained
	for _, s := range st.cfg.Stores() {
		store := &heldStore{StoreOf: s}
		store.catalog, store.closed, store.err = st.openPlace(ctx, s.Place, s.Access, true)
		all = append(all, store)
	}
	return all
}

// serverSideEncryption is the setting in S3's words.
func serverSideEncryption(setting string) string {
	switch setting {
	case "default":
		return ""
	case "aes256":
		return "AES256"
	}
	return setting
}

// location names the store for people.
func location(c *catalog.Catalog) string { return fmt.Sprint(c.Store()) }
