package archive

import (
	"bytes"
	"context"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// Commits counts the transactions that committed in a branch, out of what is stored of it.
// It reads at most the given number of bytes, and at least one segment; to is how far it
// came: b.To if that was all.
func (f *Fetcher) Commits(ctx context.Context, b wal.Branch, most int64) (found wal.Commits, to wal.LSN, err error) {
	at := f.size.Start(b.From)
	w, err := wal.NewWalker(wal.WalkerOptions{Start: at, SegmentSize: f.size, SystemIdentifier: f.a.system, Record: func(r *wal.Record) {
		if e, ok := wal.Decode(r); ok && e.Committed() && e.Start >= b.From && e.End <= b.To {
			found = found.Add(e.Time)
		}
	}})
	if err != nil {
		return found, b.From, err
	}
	for read := int64(0); at < b.To && (read == 0 || read < most); read += int64(f.size) {
		plain, err := f.stored(ctx, wal.Segment{Timeline: b.Timeline, Start: at})
		if err != nil {
			return found, b.From, err
		}
		end := min(b.To, at+wal.LSN(len(plain)))
		_, _ = w.Write(plain[:end-at]) // which never fails
		if stop := w.Stopped(); stop != nil && stop.Reason != wal.StopEnd {
			return found, b.From, damaged("WAL of timeline %d could not be read: %s", b.Timeline, stop)
		}
		if end < at+wal.LSN(f.size) && end < b.To {
			return found, b.From, damaged("segment %s is not all there", f.size.Name(wal.Segment{Timeline: b.Timeline, Start: at}))
		}
		at = end
	}
	return found, min(at, b.To), nil
}

// stored returns what is stored of a segment from its start on, whether it is whole or not.
func (f *Fetcher) stored(ctx context.Context, s wal.Segment) ([]byte, error) {
	whole, err := f.find(ctx, segmentPrefix(f.size, s))
	if err != nil {
		return nil, err
	}
	if len(whole) > 0 {
		var plain bytes.Buffer
		err := f.segment(ctx, s, whole, &plain)
		return plain.Bytes(), err
	}
	tails, err := f.find(ctx, tailPrefix(f.size, s))
	if err != nil {
		return nil, err
	}
	plain, end, err := f.joined(ctx, s, tails)
	if err != nil {
		return nil, err
	}
	return plain[:end-s.Start], nil
}
