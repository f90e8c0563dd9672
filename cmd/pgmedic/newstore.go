package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/azure"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/s3"
)

// openStore is a store that is closed by whoever opened it.
type openStore interface {
	store.Store
	io.Closer
}

// newStore opens the store of a place. With mustExist a folder is not made.
func newStore(ctx context.Context, place config.Place, access config.Access, mustExist bool, renewal renewal, log *slog.Logger) (openStore, error) {
	switch place.Cloud {
	case config.CloudS3:
		o := access.S3
		return opened(s3.New(ctx, s3.Options{
			Credentials: renewal.aws,
			Bucket:      place.Bucket, Prefix: place.Prefix, Region: o.Region, Endpoint: o.Endpoint, PathStyle: o.PathStyle,
			CACertFile: o.CAFile, StorageClass: o.StorageClass, ServerSideEncryption: serverSideEncryption(o.ServerSideEncryption),
			KMSKeyID: o.KMSKeyID, PartSizeBytes: int64(o.PartSizeMiB) << 20, Concurrency: o.Concurrency, Logger: log,
		}))
	case config.CloudAzure:
		o := access.Azure
		return opened(azure.New(azure.Options{
			Container: place.Bucket, Prefix: place.Prefix, Account: o.Account, Endpoint: o.Endpoint,
			ConnectionString: o.ConnectionString.Reveal(), Key: o.Key.Reveal(), SASToken: o.SASToken.Reveal(), Renew: renewal.azure,
			AccessTier: unlessDefault(o.AccessTier), PartSizeBytes: int64(o.PartSizeMiB) << 20, Concurrency: o.Concurrency, Logger: log,
		}))
	case config.CloudGCS:
		o := access.GCS
		return opened(gcs.New(gcs.Options{ //nolint:contextcheck // a token is used for many requests
			Bucket: place.Bucket, Prefix: place.Prefix, Endpoint: o.Endpoint, CredentialsFile: o.CredentialsFile,
			UserProject: o.UserProject, StorageClass: unlessDefault(o.StorageClass), PartSizeBytes: int64(o.PartSizeMiB) << 20, Logger: log,
		}))
	}
	if place.Host != "" {
		return opened(openSFTP(ctx, place, access.SFTP, mustExist, renewal.sftp, log))
	}
	return opened(store.NewLocal(store.LocalOptions{Dir: place.Dir, MustExist: mustExist, Shared: anchorKey.MatchString, Logger: log}))
}

// opened is a store, and nil where there is an error.
func opened[S openStore](s S, err error) (openStore, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// unlessDefault is a setting in the cloud's words, empty where that is to choose.
func unlessDefault(setting string) string {
	if setting == "default" {
		return ""
	}
	return setting
}

// leavings is a store that can tell what it keeps of deleted objects.
type leavings interface {
	Leftovers(ctx context.Context, prefix string) (int, error)
}

// tryLeftovers says whether a store keeps what is deleted in it, by an object that it
// writes and deletes. Of names the store before what is said of it.
func tryLeftovers(ctx context.Context, l *checklist, name, of string, s store.Store) {
	s = immutable.Unwrap(s)
	keeper, ok := s.(leavings)
	if !ok {
		return
	}
	key := catalog.NewID(time.Now()) + ".check"
	_, err := s.Put(ctx, key, strings.NewReader("written by pgmedic check; may be deleted\n"))
	if err == nil {
		err = s.Delete(ctx, key)
	}
	kept := 0
	if err == nil {
		kept, err = keeper.Leftovers(ctx, key)
	}
	switch {
	case err != nil:
		l.add(name, pgmedic.OutcomeWarn, fmt.Sprintf("%swhether deleted objects are kept (soft delete, versions) was not checked: %v", of, err), pgmedic.HintOf(err))
	case kept > 0:
		l.add(name, pgmedic.OutcomeWarn, of+"deleted objects are kept for a time (soft delete or versions), and cost as much as before",
			"prune frees space only when that time has passed: docs/stores.md")
	}
}
