package main

import (
	"context"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
)

// openCatalog opens the store to read what is there: a folder that does not
// exist is refused, lest a mistyped one be taken for an empty store. The caller
// calls closed when nothing uses it any more.
func (a *app) openCatalog(ctx context.Context) (c *catalog.Catalog, closed func(), err error) {
	c, closed, err = a.openPlace(ctx, a.cfg.Backup.Place(), a.cfg.Backup.S3, true)
	if pgmedic.KindOf(err) == pgmedic.KindNotFound {
		err = pgmedic.Errorf(pgmedic.KindNotFound, "check the path, and that its disk is mounted; `pgmedic backup` makes a new one",
			"there are no backups: %w", err)
	}
	return c, closed, err
}

// makeCatalog opens the store to write to it; a folder that is not there is made.
func (a *app) makeCatalog(ctx context.Context) (c *catalog.Catalog, closed func(), err error) {
	return a.openPlace(ctx, a.cfg.Backup.Place(), a.cfg.Backup.S3, false)
}

// deadAfter is how long nothing must have been written to a temporary file before
// it is taken for that of a run that is dead.
const deadAfter = 24 * time.Hour

// sweepTemp removes what runs that were killed left in a folder that is about to be
// written to. It is nobody's reason to go without a backup.
func (a *app) sweepTemp(ctx context.Context, s *store.Local) {
	n, err := s.SweepTemp(ctx, deadAfter)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("what dead runs left in the store could not be removed", "store", s.String(), "error", err)
	}
	if n > 0 {
		a.log.Info("removed what dead runs left in the store", "store", s.String(), "files", n)
	}
}

// openPlace opens any store. S3 says how a bucket is reached. Without mustExist it
// is to be written to.
func (a *app) openPlace(ctx context.Context, place config.Place, o config.S3, mustExist bool) (c *catalog.Catalog, closed func(), err error) {
	if place.Bucket == "" {
		s, err := store.NewLocal(store.LocalOptions{Dir: place.Dir, MustExist: mustExist, Logger: a.log})
		if err != nil {
			return nil, nil, err
		}
		if !mustExist {
			a.sweepTemp(ctx, s)
		}
		return catalog.New(s), func() { _ = s.Close() }, nil // only a descriptor
	}
	s, err := store.NewS3(ctx, store.S3Options{
		Bucket: place.Bucket, Prefix: place.Prefix, Region: o.Region, Endpoint: o.Endpoint, PathStyle: o.PathStyle,
		CACertFile: o.CAFile, StorageClass: o.StorageClass, ServerSideEncryption: serverSideEncryption(o.ServerSideEncryption),
		KMSKeyID: o.KMSKeyID, PartSizeBytes: int64(o.PartSizeMiB) << 20, Concurrency: o.Concurrency, Logger: a.log,
	})
	if err != nil {
		return nil, nil, err
	}
	return catalog.New(s), func() { _ = s.Close() }, nil // only idle connections
}
