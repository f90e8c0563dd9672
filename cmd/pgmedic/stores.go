package main

import (
	"context"

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

// openPlace opens any store. S3 says how a bucket is reached.
func (a *app) openPlace(ctx context.Context, place config.Place, o config.S3, mustExist bool) (c *catalog.Catalog, closed func(), err error) {
	if place.Bucket == "" {
		s, err := store.NewLocal(store.LocalOptions{Dir: place.Dir, MustExist: mustExist, Logger: a.log})
		if err != nil {
			return nil, nil, err
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
