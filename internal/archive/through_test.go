package archive_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestFetchThrough: what a plan needs of a segment is given although more is missing behind
// it, and nothing less is.
func TestFetchThrough(t *testing.T) {
	const end = 20000
	b := newBench(t)
	e := b.begin(at(0), true)
	b.put(e, 0)
	b.tail(e, 1, 0, end)
	b.tail(e, 1, end+500, end+600) // behind a hole
	b.put(e, 3)
	f, err := b.a.NewFetcher(t.Context(), func(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
		return seal.OpenKey(wraps[0].Data, []age.Identity{b.identity})
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		n      wal.LSN
		need   wal.LSN
		enough int // bytes; 0 is an error
	}{
		"a whole segment":          {0, at(1), int(size)},
		"part of a whole segment":  {0, at(0) + 100, 100},
		"all that is stored":       {1, at(1) + end, end},
		"less":                     {1, at(1) + end - 1000, end - 1000},
		"more":                     {1, at(1) + end + 1, 0},
		"the whole":                {1, at(2), 0},
		"a segment that is not":    {2, at(2) + 8, 0},
		"a position outside":       {1, at(3), 0},
		"the start of the segment": {1, at(1), 0},
	} {
		var got bytes.Buffer
		err := f.FetchThrough(t.Context(), name(c.n), c.need, &got)
		switch {
		case c.enough == 0 && (err == nil || errors.Is(err, archive.ErrAbsent) || got.Len() > 0):
			t.Errorf("%s: %d bytes, %v", what, got.Len(), err)
		case c.enough > 0 && (err != nil || got.Len() != int(size) || !bytes.Equal(got.Bytes()[:c.enough], segments.plain[c.n][:c.enough])):
			t.Errorf("%s: %d bytes, %v", what, got.Len(), err)
		}
	}
}
