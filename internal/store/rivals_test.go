package store_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/store/storetest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// hosts is one store as several hosts have it open: each Put is another one's.
type hosts struct {
	store.Store
	all  []store.Store
	puts atomic.Uint64
}

func (h *hosts) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	return h.all[h.puts.Add(1)%uint64(len(h.all))].Put(ctx, key, r) //nolint:wrapcheck // a store's own
}

// races is how often eight Puts of one key race.
func races() int { return testkit.Amount(10, 100, 100) }

// TestLocalRace: of eight Puts of one key, of two hosts, exactly one wins, small and
// larger than what is flushed at once, with hard links and without; and no file of the
// others stays.
func TestLocalRace(t *testing.T) {
	for name, prepare := range map[string]func(*store.Local) bool{"links": func(*store.Local) bool { return true }, "no links": store.ForbidLinks} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := openLocal(t, dir), openLocal(t, dir)
			if !prepare(a) || !prepare(b) {
				testkit.Elsewhere(t, "no rename without replacing here")
			}
			storetest.Race(t, &hosts{Store: a, all: []store.Store{a, b}}, races(), 1000, 1000, 1000, 9<<20)
			files, err := os.ReadDir(filepath.Join(dir, "race"))
			if err != nil || len(files) != races() {
				t.Errorf("%d files of %d objects, %v", len(files), races(), err)
			}
		})
	}
}

// TestS3Race: of eight Puts of one key, of two hosts, exactly one wins, small and in
// parts; and no upload of the others stays.
func TestS3Race(t *testing.T) {
	server := startS3(t, s3test.Options{})
	bucket := server.Bucket()
	a, b := openS3(t, server, bucket), openS3(t, server, bucket)
	storetest.Race(t, &hosts{Store: a, all: []store.Store{a, b}}, races(), 1000, store.MinPartSizeBytes+1000)
	if objects, uploads := server.Objects(bucket), server.Uploads(bucket); len(objects) != races() || len(uploads) > 0 {
		t.Errorf("%d objects of %d, and uploads %q", len(objects), races(), uploads)
	}
}
