package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// IsEpoch reports whether a text is the id of an epoch, or of a backup, which look alike.
func IsEpoch(text string) bool { return epochID.MatchString(text) }

// Wraps returns the ways to open an epoch: the names, and the key of the epoch encrypted
// to each. What is too large to be one is left out.
func (a *Archive) Wraps(ctx context.Context, epoch string) ([]StoredWrap, error) {
	return a.wraps(ctx, epoch)
}

func wrapKey(epoch, name string) string { return epoch + "/keys/" + catalog.EscapeName(name) + ".age" }

// AddWrap stores the key of an epoch, encrypted to one more way to open it. It is never
// overwritten: store.ErrExists.
func (a *Archive) AddWrap(ctx context.Context, epoch, name string, wrapped []byte) error {
	if _, err := a.store.Put(ctx, a.folder+wrapKey(epoch, name), bytes.NewReader(wrapped)); err != nil {
		return fmt.Errorf("store key %q of epoch %s of the WAL: %w", name, epoch, err)
	}
	return nil
}

// RemoveWrap takes a way to open an epoch away.
func (a *Archive) RemoveWrap(ctx context.Context, epoch, name string) error {
	if err := a.store.Delete(ctx, a.folder+wrapKey(epoch, name)); err != nil {
		return fmt.Errorf("remove key %q of epoch %s of the WAL: %w", name, epoch, err)
	}
	return nil
}

// Encrypted returns an object of an epoch that is encrypted, or a zero one where there is
// none yet.
func (a *Archive) Encrypted(ctx context.Context, epoch string, size wal.SegmentSize) (Object, error) {
	for o, err := range a.Objects(ctx, epoch, size) {
		if err != nil {
			return Object{}, err
		}
		if (o.Kind == KindSegment || o.Kind == KindTail) && o.Encrypted() {
			return o, nil
		}
	}
	return Object{}, nil
}

// Fits returns an error of KindIntegrity for a key that does not open an encrypted object
// of an epoch: one that somebody else put beside it.
func (a *Archive) Fits(ctx context.Context, o Object, key *seal.Key) error {
	f := &Fetcher{a: a, keys: map[string]*seal.Key{o.Epoch: key}}
	_, err := f.plain(ctx, located{o.parsed, o.Epoch, o.Name, o.SizeBytes}, int64(o.To-o.From), io.Discard)
	if pgmedic.KindOf(err) == pgmedic.KindIntegrity && err != nil {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "another key may open it: `pgmedic keys list "+o.Epoch+"` shows them; find out who writes to the store",
			"the key does not open what is stored in epoch %s of the WAL: %w", o.Epoch, err)
	}
	return err
}
