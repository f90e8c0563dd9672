package archive

import (
	"context"
	"errors"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Continue goes on with an epoch that another process began, and whose key only it had: how
// says how objects are sealed, with a seal.PublicKey where they are encrypted. The caller
// knows that the key is the epoch's from that process, and not from the store: anyone who can
// write there could name another.
func (a *Archive) Continue(ctx context.Context, id string, how seal.Options) (*Epoch, error) {
	info, err := a.readEpoch(ctx, id)
	if err != nil {
		return nil, err
	}
	return &Epoch{a: a, info: info, size: wal.SegmentSize(info.SegmentBytes), seal: how}, nil
}

// Recipient returns the public half of the epoch's key, or an empty text where nothing is
// encrypted.
func (e *Epoch) Recipient() string {
	if e.seal.Key == nil {
		return ""
	}
	return e.seal.Key.Recipient()
}

// Info returns what is stored of the epoch.
func (e *Epoch) Info() EpochInfo { return e.info }

// SegmentStored is what is known of the objects of a segment.
type SegmentStored struct {
	// Same is true where these bytes are stored in an epoch whose epoch.json can be read,
	// and Other where others are.
	Same, Other bool
}

// Stored looks for a segment in the newest epochs, as many as are given, or in all for 0.
func (a *Archive) Stored(ctx context.Context, s wal.Segment, plain []byte, epochs int) (found SegmentStored, err error) {
	ids, err := a.epochs(ctx)
	if err != nil || len(ids) == 0 {
		return found, err
	}
	slices.Reverse(ids)
	if epochs > 0 {
		ids = ids[:min(epochs, len(ids))]
	}
	f := &Fetcher{a: a, epochs: ids, size: wal.SegmentSize(len(plain))}
	objects, err := f.find(ctx, segmentPrefix(f.size, s))
	sum := hashOf(plain)
	if err != nil {
		return found, err
	}
	for _, o := range objects {
		if o.hash != sum {
			found.Other = true
			continue
		}
		if found.Same {
			continue
		}
		// What an epoch holds that can't be read is of no use.
		_, err := a.readEpoch(ctx, o.epoch)
		if found.Same = err == nil; err != nil && !errors.Is(err, store.ErrNotFound) && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			return found, err
		}
	}
	return found, nil
}
