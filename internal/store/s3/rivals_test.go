package s3_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestS3Race: of eight Puts of one key, of two hosts, exactly one wins, small and in
// parts; and no upload of the others stays.
func TestS3Race(t *testing.T) {
	races := testkit.Amount(10, 100, 100)
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	a, b := openS3(t, server, bucket), openS3(t, server, bucket)
	storetest.Race(t, storetest.Hosts(a, b), races, 1000, s3.MinPartSizeBytes+1000)
	if objects, uploads := server.Objects(bucket), server.Uploads(bucket); len(objects) != races || len(uploads) > 0 {
		t.Errorf("%d objects of %d, and uploads %q", len(objects), races, uploads)
	}
}
