package bench

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// BenchmarkWALListing measures how long it takes to see how far a month of stored WAL goes, in a
// store of which each request takes a tenth of a second and a listing gives 1,000 objects: 30
// epochs of a day, with segments of 16 MiB, an observation a minute and an index object each 64
// segments.
func BenchmarkWALListing(b *testing.B) {
	for _, mbs := range []int{1, 10} {
		b.Run(fmt.Sprintf("%d-MB/s", mbs), func(b *testing.B) {
			s, segments := month(b, mbs)
			a := archive.New(s, "bench", 7)
			for b.Loop() {
				survey, err := a.Survey(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if len(survey.Spans) != 1 || survey.Objects != len(s.keys) {
					b.Fatalf("%d spans, %d objects of %d", len(survey.Spans), survey.Objects, len(s.keys))
				}
			}
			b.ReportMetric(float64(segments), "segments")
			b.ReportMetric(float64(len(s.keys))/1000, "pages")
		})
	}
}

// month is the WAL of 30 days.
func month(b *testing.B, mbs int) (s *faraway, segments int) {
	b.Helper()
	const size, day = wal.SegmentSize(16 << 20), 24 * time.Hour
	dir := b.TempDir()
	local, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = local.Close() })
	a := archive.New(local, "bench", 7)
	s = &faraway{Store: local}
	began, at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), wal.LSN(size)
	perDay := mbs * 1e6 * int(day/time.Second) / int(size)
	for d := range 30 {
		start := began.Add(time.Duration(d) * day)
		e, err := a.Begin(b.Context(), archive.EpochOptions{
			Info: archive.EpochInfo{StartedAt: start, SegmentBytes: int64(size), Timeline: 1, From: at},
			Seal: seal.Options{Compression: seal.CompressionZstd},
		})
		if err != nil {
			b.Fatal(err)
		}
		folder := a.Folder() + e.ID() + "/"
		s.add(folder + "epoch.json")
		for minute := range 24 * 60 {
			s.add(fmt.Sprintf("%sseen/%s-00000001-%016X.json", folder, start.Add(time.Duration(minute)*time.Minute).Format("20060102T150405.000000Z"), uint64(at)))
		}
		for i := range perDay {
			name := size.Name(wal.Segment{Timeline: 1, Start: at})
			s.add(fmt.Sprintf("%sseg/%s/%s-%016x.zst.age", folder, name[:16], name, i))
			if i%archive.IndexSegments == 0 {
				s.add(fmt.Sprintf("%sindex/%06d.ndjson.zst.age", folder, i/archive.IndexSegments))
				s.add(fmt.Sprintf("%sindex/%06d.hmac", folder, i/archive.IndexSegments))
			}
			at += wal.LSN(size)
		}
	}
	slices.Sort(s.keys)
	return s, 30 * perDay
}

// faraway is a store far away, whose listing is made up. Only small objects are really there.
type faraway struct {
	store.Store
	keys []string
}

// trip is how long a request takes: to another region, or a slow answer of the next one.
const trip = 100 * time.Millisecond

func (s *faraway) add(key string) { s.keys = append(s.keys, key) }

// below are the keys with a prefix.
func (s *faraway) below(prefix string) []string {
	i, _ := slices.BinarySearch(s.keys, prefix)
	n, _ := slices.BinarySearchFunc(s.keys[i:], prefix, func(key, prefix string) int {
		if strings.HasPrefix(key, prefix) {
			return -1
		}
		return 1
	})
	return s.keys[i : i+n]
}

func (s *faraway) List(_ context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for i, key := range s.below(prefix) {
			if i%1000 == 0 {
				time.Sleep(trip)
			}
			if !yield(store.Object{Key: key, ModifiedAt: time.Unix(int64(i), 0)}, nil) {
				return
			}
		}
	}
}

func (s *faraway) Folders(_ context.Context, folder string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		time.Sleep(trip)
		before := ""
		for _, key := range s.below(folder) {
			name, _, inner := strings.Cut(key[len(folder):], "/")
			if inner && name != before && !yield(folder+name+"/", nil) {
				return
			}
			before = name
		}
	}
}

func (s *faraway) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	time.Sleep(trip)
	return s.Store.Open(ctx, key, offset, length)
}
