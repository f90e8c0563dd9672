package gcs_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/remote"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
)

// open returns the store of a new bucket, changed by the functions.
func open(t *testing.T, server *gcstest.Server, change ...func(*gcs.Options)) *remote.Locking {
	t.Helper()
	o := server.Options(server.Bucket())
	o.PartSizeBytes, o.MaxAttempts = gcs.MinPartSizeBytes, 3
	for _, f := range change {
		f(&o)
	}
	s, err := gcs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestGCSConforms(t *testing.T) {
	server := gcstest.Start(t)
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, server) })
}
