package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// lookups is how many epochs are searched at the same time.
const lookups = 8

// Fetcher reads WAL out of an archive. It is not safe for concurrent use.
type Fetcher struct {
	a *Archive
	// open opens the key of an epoch.
	open   func(ctx context.Context, epoch string, wraps []StoredWrap) (*seal.Key, error)
	keys   map[string]*seal.Key
	epochs []string
	size   wal.SegmentSize
}

// StoredWrap is the key of an epoch as it is stored, encrypted to one way to open it.
type StoredWrap struct {
	Name string
	Data []byte
}

// NewFetcher returns a Fetcher. It calls open once for each epoch that is encrypted, with
// the keys that are stored of it, and with none before it reads what is not encrypted.
func (a *Archive) NewFetcher(ctx context.Context, open func(ctx context.Context, epoch string, wraps []StoredWrap) (*seal.Key, error)) (*Fetcher, error) {
	f := &Fetcher{a: a, open: open, keys: map[string]*seal.Key{}}
	ids, err := a.epochs(ctx)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "check the store and the name of the server (--server)", "there is no WAL of this cluster in %s", a.store)
	}
	for i := len(ids) - 1; i >= 0 && f.size == 0; i-- {
		info, err := a.readEpoch(ctx, ids[i])
		switch {
		case errors.Is(err, store.ErrNotFound), pgmedic.KindOf(err) == pgmedic.KindIntegrity:
		case err != nil:
			return nil, err
		default:
			f.size = wal.SegmentSize(info.SegmentBytes)
		}
	}
	if f.size == 0 {
		return nil, damaged("no %s of the WAL in %s can be read", epochFile, a.store)
	}
	slices.Reverse(ids) // the newest is asked for most often
	f.epochs = ids
	return f, nil
}

// located is an object and the epoch that it is in.
type located struct {
	object
	epoch, name string
	sizeBytes   int64
}

// Fetch writes a segment or a history to dst, by the name that PostgreSQL gives it. What
// was written is right only if the error is nil. ErrAbsent is found in the error where a
// complete listing shows that the archive ends before a segment, or has no such history;
// every other error proves nothing about it.
func (f *Fetcher) Fetch(ctx context.Context, name string, dst io.Writer) error {
	if t, err := wal.ParseHistoryName(name); err == nil {
		return f.history(ctx, t, dst)
	}
	s, err := f.size.Parse(name)
	if err != nil {
		return pgmedic.Errorf(pgmedic.KindUsage, "give the names that PostgreSQL has for %f", "%w, and not that of a history", err)
	}
	// What is being streamed grows between a lookup and the listing, in an epoch that has
	// begun meanwhile, too.
	for before := -1; ; {
		tails, err := f.once(ctx, s, 0, dst)
		if !errors.As(err, new(goesOnError)) {
			return err
		}
		begun, listErr := f.refresh(ctx)
		if listErr != nil {
			return listErr
		}
		if tails == before && !begun {
			return err
		}
		before = tails
	}
}

// refresh reads which epochs there are, and reports whether there are more than before.
func (f *Fetcher) refresh(ctx context.Context) (begun bool, err error) {
	ids, err := f.a.epochs(ctx)
	if err != nil {
		return false, err
	}
	begun = slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(f.epochs, id) })
	slices.Reverse(ids)
	f.epochs = ids
	return begun, nil
}

// FetchThrough is Fetch of a segment that the caller needs up to a position alone, in it or
// at its end. What is stored up to there is enough, whatever else is missing: that the
// WAL ends there is not asked. Bytes behind the position may be zeros or what is stored.
func (f *Fetcher) FetchThrough(ctx context.Context, name string, need wal.LSN, dst io.Writer) error {
	s, err := f.size.Parse(name)
	if err != nil {
		return fmt.Errorf("fetch WAL: %w", err)
	}
	if need <= s.Start || need > s.Start+wal.LSN(f.size) {
		return fmt.Errorf("fetch segment %s: %v is not in it", name, need)
	}
	_, err = f.once(ctx, s, need, dst)
	return err
}

// once is one attempt to write a segment, up to the position need if that is not 0. It
// returns how many tails it found.
func (f *Fetcher) once(ctx context.Context, s wal.Segment, need wal.LSN, dst io.Writer) (n int, err error) {
	name := f.size.Name(s)
	whole, err := f.find(ctx, segmentPrefix(f.size, s))
	if err != nil {
		return 0, err
	}
	if len(whole) > 0 {
		for _, o := range whole {
			if o.hash != whole[0].hash {
				return 0, pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one; delete the object of the other",
					"segment %s is stored with different content: two servers wrote on timeline %d", name, s.Timeline)
			}
		}
		return 0, f.segment(ctx, s, whole, dst)
	}
	tails, err := f.find(ctx, tailPrefix(f.size, s))
	if err != nil {
		return 0, err
	}
	if need > 0 {
		tails = slices.DeleteFunc(tails, func(t located) bool { return t.from >= need })
	}
	plain, end, err := f.joined(ctx, s, tails)
	if err != nil {
		return 0, err
	}
	if end < s.Start+wal.LSN(f.size) && (need == 0 || end < need) {
		if err := f.proveEnd(ctx, s, end); err != nil {
			return len(tails), err
		}
	}
	if len(tails) == 0 {
		return 0, pgmedic.Errorf(pgmedic.KindNotFound, "", "segment %s: %w", name, ErrAbsent)
	}
	if end < need {
		return len(tails), pgmedic.Errorf(pgmedic.KindIntegrity, "see `pgmedic wal status`; use another copy of the store",
			"segment %s is stored up to %v, and is needed up to %v", name, end, need)
	}
	_, err = dst.Write(plain)
	return len(tails), err
}

// find returns the objects of a name in all epochs.
func (f *Fetcher) find(ctx context.Context, prefix string) ([]located, error) {
	found := make([][]located, len(f.epochs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, epoch := range f.epochs {
		g.Go(func() (err error) {
			// The program would end with 2, which PostgreSQL takes for the end of the WAL.
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("an error in pgmedic itself: look for %s: %v", prefix, r)
				}
			}()
			for entry, err := range f.a.store.List(ctx, f.a.folder+epoch+"/"+prefix) {
				if err != nil {
					return fmt.Errorf("look for %s in epoch %s of the WAL: %w", prefix, epoch, err)
				}
				name := strings.TrimPrefix(entry.Key, f.a.folder+epoch+"/")
				if o, ok := parse(name, f.size); ok {
					found[i] = append(found[i], located{o, epoch, name, entry.SizeBytes})
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// segment writes a whole segment: of several objects one that is right.
func (f *Fetcher) segment(ctx context.Context, s wal.Segment, objects []located, dst io.Writer) error {
	for len(objects) > 1 {
		// What was written to dst can't be taken back.
		err := f.segmentOf(ctx, s, objects[0], io.Discard)
		if err == nil {
			break
		}
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			return err
		}
		objects = objects[1:]
	}
	return f.segmentOf(ctx, s, objects[0], dst)
}

// segmentOf writes a segment out of one object.
func (f *Fetcher) segmentOf(ctx context.Context, s wal.Segment, o located, dst io.Writer) error {
	check, err := newChecker(f, s)
	if err != nil {
		return err
	}
	n, err := f.plain(ctx, o, int64(f.size), io.MultiWriter(dst, check))
	if err == nil && n != int64(f.size) {
		err = damaged("segment %s of epoch %s has %d bytes", f.size.Name(s), o.epoch, n)
	}
	if err != nil {
		return err
	}
	return check.whole()
}

// checker reads a segment on its way, so that no damage reaches PostgreSQL, which would
// take it for the end of the WAL.
type checker struct {
	name   string
	walker *wal.Walker
}

func newChecker(f *Fetcher, s wal.Segment) (*checker, error) {
	w, err := wal.NewWalker(wal.WalkerOptions{Start: s.Start, SegmentSize: f.size, SystemIdentifier: f.a.system})
	return &checker{f.size.Name(s), w}, err
}

// Write implements io.Writer.
func (c *checker) Write(p []byte) (int, error) { return c.walker.Write(p) }

// whole returns an error for a segment whose records end before it does. WAL of a version
// that is not known here is for PostgreSQL to judge.
func (c *checker) whole() error {
	if stop := c.walker.Stopped(); stop != nil && stop.Reason != wal.StopUnknown {
		return damaged("segment %s is damaged: %s", c.name, stop)
	}
	return nil
}

// part is like whole for a segment that is there up to a position.
func (c *checker) part(end wal.LSN) error {
	stop := c.walker.Stopped()
	if stop != nil && stop.Reason != wal.StopUnknown && (stop.Reason != wal.StopEnd || stop.At < end) {
		return damaged("the tails of segment %s are damaged: %s", c.name, stop)
	}
	return nil
}

// joined returns a segment that is there in parts alone, with zeros behind them, and the
// position that they reach. The parts must reach from its start on without a gap, and be
// equal where they overlap. Without parts the position is that of its start.
func (f *Fetcher) joined(ctx context.Context, s wal.Segment, tails []located) (plain []byte, end wal.LSN, err error) {
	if len(tails) == 0 {
		return nil, s.Start, nil
	}
	slices.SortFunc(tails, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.from, b.from), -cmp.Compare(a.to, b.to))
	})
	plain, end = make([]byte, f.size), s.Start
	for _, tail := range tails {
		if tail.from > end {
			return nil, 0, damaged("segment %s is not all there: bytes from %v to %v are missing", f.size.Name(s), end, tail.from)
		}
		part := limited{most: int(tail.to - tail.from)}
		if _, err := f.plain(ctx, tail, int64(tail.to-tail.from), &part); err != nil {
			return nil, 0, err
		}
		if len(part.b) != int(tail.to-tail.from) {
			return nil, 0, damaged("%s of epoch %s has %d bytes", tail.name, tail.epoch, len(part.b))
		}
		at := int(tail.from - s.Start)
		if known := int(min(end, tail.to) - tail.from); !slices.Equal(plain[at:at+known], part.b[:known]) {
			return nil, 0, pgmedic.Errorf(pgmedic.KindConflict, "find out which server is the right one; delete the objects of the other",
				"the tails of segment %s contradict each other: two servers wrote on timeline %d", f.size.Name(s), s.Timeline)
		}
		copy(plain[at:], part.b)
		end = max(end, tail.to)
	}
	check, err := newChecker(f, s)
	if err != nil {
		return nil, 0, err
	}
	_, _ = check.Write(plain[:end-s.Start]) // which never fails
	if err := check.part(end); err != nil {
		return nil, 0, err
	}
	return plain, end, nil
}

// limited keeps up to a number of bytes.
type limited struct {
	b    []byte
	most int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if len(l.b)+len(p) > l.most {
		return 0, io.ErrShortBuffer
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// plain writes the plain bytes of an object, at most so many, and compares them with the
// hash in its name.
func (f *Fetcher) plain(ctx context.Context, o located, most int64, dst io.Writer) (n int64, err error) {
	how := o.seal
	if how.Key, err = f.key(ctx, o.epoch, how); err != nil {
		return 0, err
	}
	r, err := f.a.store.Open(ctx, f.a.folder+o.epoch+"/"+o.name, 0, -1)
	if err != nil {
		return 0, fmt.Errorf("open %s of epoch %s of the WAL: %w", o.name, o.epoch, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sealed, err := seal.NewUnrecordedReader(r, most, how)
	if err != nil {
		return 0, err
	}
	defer sealed.Close()
	sum := sha256.New()
	if n, err = io.Copy(io.MultiWriter(dst, sum), sealed); err != nil {
		return n, fmt.Errorf("read %s of epoch %s of the WAL: %w", o.name, o.epoch, err)
	}
	if got := hash(sum.Sum(nil)[:len(hash{})]); got != o.hash {
		return n, damaged("%s of epoch %s is not what its name says", o.name, o.epoch)
	}
	return n, nil
}

// key returns the key of an epoch, or nil for an object that is not encrypted.
func (f *Fetcher) key(ctx context.Context, epoch string, how seal.Options) (*seal.Key, error) {
	if how.Encryption != seal.EncryptionAge {
		if _, asked := f.keys[""]; !asked {
			if _, err := f.open(ctx, epoch, nil); err != nil {
				return nil, err
			}
			f.keys[""] = nil
		}
		return nil, nil
	}
	if key, ok := f.keys[epoch]; ok {
		return key, nil
	}
	wraps, err := f.a.wraps(ctx, epoch)
	if err != nil {
		return nil, err
	}
	if len(wraps) == 0 {
		return nil, damaged("no key that opens epoch %s of the WAL is left in the store", epoch)
	}
	key, err := f.open(ctx, epoch, wraps)
	if err == nil && key == nil {
		err = pgmedic.Errorf(pgmedic.KindUsage, "set backup.identity_files (PGMEDIC_IDENTITY_FILES) or backup.encryption_key (BACKUP_ENCRYPTION_KEY)",
			"the WAL is encrypted and this host has no key")
	}
	if err != nil {
		return nil, err
	}
	f.keys[epoch] = key
	return key, nil
}

// maxWraps is how many keys are read of an epoch.
const maxWraps = 256

// wraps returns the keys of an epoch as they are stored.
func (a *Archive) wraps(ctx context.Context, epoch string) (all []StoredWrap, err error) {
	prefix := a.folder + epoch + "/keys/"
	for entry, err := range a.store.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list the keys of epoch %s of the WAL: %w", epoch, err)
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(entry.Key, prefix), ".age")
		if !ok || strings.Contains(name, "/") || entry.SizeBytes > maxSmall || len(all) >= maxWraps {
			continue
		}
		data, err := a.read(ctx, epoch+"/keys/"+name+".age", maxSmall)
		if err != nil {
			return nil, fmt.Errorf("read a key of epoch %s of the WAL: %w", epoch, err)
		}
		all = append(all, StoredWrap{name, data})
	}
	return all, nil
}
