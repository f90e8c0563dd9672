package archive

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/signature"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Kind is what an object of an archive is.
type Kind string

// The kinds.
const (
	KindSegment     Kind = "segment"
	KindTail        Kind = "tail"
	KindHistory     Kind = "history"
	KindObservation Kind = "observation"
	KindBase        Kind = "base"
	KindGap         Kind = "gap"
	KindIndex       Kind = "index"
	KindKey         Kind = "key"
	// KindEpoch is what says what an epoch is, with its signatures.
	KindEpoch Kind = "epoch"
	// KindOther is what this version does not know.
	KindOther Kind = "other"
)

// Object is an object of an epoch, by what its name says.
type Object struct {
	store.Object
	// Name is the key within the epoch.
	Epoch, Name string
	Kind        Kind
	// Timeline is zero for kinds that are of none.
	Timeline wal.Timeline
	// From and To are what a segment or a tail holds, and what a gap lacks. Of a base backup
	// they are where it began and ended; of an observation both are its position.
	From, To wal.LSN
	// Segment is that of segments and tails.
	Segment wal.Segment
	// Seen is an observation's time, by the clock of its server.
	Seen   time.Time
	parsed object
}

// Encrypted reports whether what it holds is.
func (o Object) Encrypted() bool { return o.parsed.seal.Encryption == seal.EncryptionAge }

// Same reports whether two objects of one name in different epochs hold the same: their
// names say what is in them.
func (o Object) Same(other Object) bool {
	return o.Kind == other.Kind && o.Timeline == other.Timeline && o.From == other.From && o.To == other.To && o.parsed.hash == other.parsed.hash
}

// Folder is where the archive's objects are: it ends with a slash.
func (a *Archive) Folder() string { return a.folder }

// Store is where it is.
func (a *Archive) Store() store.Store { return a.store }

// Epochs returns the ids of the archive's epochs, in the order in which they began, to
// the second.
func (a *Archive) Epochs(ctx context.Context) ([]string, error) { return a.epochs(ctx) }

// Epoch returns what is stored of an epoch: store.ErrNotFound where its writer was killed
// before anything else, and an error of KindIntegrity where it is damaged.
func (a *Archive) Epoch(ctx context.Context, id string) (EpochInfo, error) {
	return a.readEpoch(ctx, id)
}

// Bare reports whether an epoch without epoch.json has nothing but its keys and signatures,
// which is where an epoch begins and ends: its writer was killed before anything else, it
// is being begun, or the rest of it has been deleted. Nothing is missing then.
func (a *Archive) Bare(ctx context.Context, id string) (bool, error) {
	for o, err := range a.Objects(ctx, id, wal.MinSegmentSize) { // of which it is not asked what WAL it is
		if err != nil {
			return false, err
		}
		if o.Kind != KindKey && o.Kind != KindEpoch || o.Name == epochFile {
			return false, nil
		}
	}
	return true, nil
}

// Objects lists an epoch, in the order of names.
func (a *Archive) Objects(ctx context.Context, epoch string, size wal.SegmentSize) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		prefix := a.folder + epoch + "/"
		for entry, err := range a.store.List(ctx, prefix) {
			if err != nil {
				yield(Object{}, listFailed(epoch, err))
				return
			}
			if !yield(objectOf(epoch, strings.TrimPrefix(entry.Key, prefix), entry, size), nil) {
				return
			}
		}
	}
}

func objectOf(epoch, name string, entry store.Object, size wal.SegmentSize) Object {
	o := Object{Object: entry, Epoch: epoch, Name: name, Kind: KindOther}
	if name == epochFile || signature.IsName(name) {
		o.Kind = KindEpoch
		return o
	}
	if folder, _, _ := strings.Cut(name, "/"); folder == "keys" || folder == "index" {
		o.Kind = map[string]Kind{"keys": KindKey, "index": KindIndex}[folder]
		return o
	}
	p, ok := parse(name, size)
	if !ok {
		return o
	}
	o.parsed, o.Timeline, o.From, o.To, o.Segment = p, p.timeline, p.from, p.to, p.segment
	switch p.kind {
	case kindSegment:
		o.Kind = KindSegment
	case kindTail:
		o.Kind = KindTail
	case kindHistory:
		o.Kind = KindHistory
	case kindSeen:
		o.Kind, o.Timeline, o.From, o.To, o.Seen = KindObservation, p.seen.Timeline, p.seen.LSN, p.seen.LSN, p.seen.Time
	case kindBase:
		o.Kind, o.Timeline, o.From, o.To = KindBase, p.base.Timeline, p.base.Start, p.base.Stop
	case kindGap:
		o.Kind = KindGap
	}
	return o
}

// Whole reports whether a segment is stored whole, and nothing contradicts it.
func (s *Survey) Whole(segment wal.Segment) bool {
	at, there := s.found.segments[segment]
	return there && !at.split
}
