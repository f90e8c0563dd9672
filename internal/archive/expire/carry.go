package expire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/lease"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	markPrefix = "doomed-"
	markFormat = 1
	// maxMarkBytes is what a mark may have, maxMarks how many are read: our choice. A daily
	// prune has one or two.
	maxMarkBytes = 4 << 20
	maxMarks     = 1000
	// jobs is how many objects are deleted at once.
	jobs = 8
)

// mark says which WAL of a cluster will be deleted. It is an object beside the epochs.
type mark struct {
	Format int        `json:"format"`
	At     time.Time  `json:"at"`
	Host   string     `json:"host"`
	Spans  []wal.Span `json:"spans"`

	key      string
	storedAt time.Time
}

// since is since when it has been there: the later of what it says and of what the store
// says, so that no clock alone makes it older than it is.
func (m mark) since() time.Time {
	if m.storedAt.After(m.At) {
		return m.storedAt
	}
	return m.At
}

func (m mark) covers(o archive.Object) bool {
	return slices.ContainsFunc(m.Spans, func(s wal.Span) bool {
		return s.Timeline == o.Timeline && s.From <= o.From && o.To <= s.To
	})
}

// readMarks reads the marks of an archive. One that is not valid marks nothing, and goes
// with the next run.
func readMarks(ctx context.Context, a *archive.Archive) (all []mark, err error) {
	for object, err := range a.Store().List(ctx, a.Folder()+markPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list the marks of WAL: %w", err)
		}
		if len(all) >= maxMarks || path.Ext(object.Key) != ".json" {
			continue
		}
		m, err := readMark(ctx, a.Store(), object)
		if errors.Is(err, store.ErrNotFound) { // another run took it off
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read a mark of WAL: %w", err)
		}
		all = append(all, m)
	}
	return all, nil
}

func readMark(ctx context.Context, s store.Store, object store.Object) (m mark, err error) {
	if object.SizeBytes > maxMarkBytes {
		return mark{key: object.Key, storedAt: object.ModifiedAt}, nil
	}
	r, err := s.Open(ctx, object.Key, 0, maxMarkBytes)
	if err != nil {
		return m, err
	}
	text, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return m, err
	}
	if json.Unmarshal(text, &m) != nil || m.Format != markFormat {
		m = mark{}
	}
	m.key, m.storedAt = object.Key, object.ModifiedAt
	return m, nil
}

// Carry marks and deletes what the plan says, and changes its rows to what was done.
// The plan must have been made a moment ago, of what the store held then. Marks are taken
// off and set first. Then WAL goes, oldest first, then what is left of epochs, their keys
// and epoch.json last, and then the marks of what has gone: a run that ends at any point
// leaves nothing needed without what it needs, and the next one goes on.
func (p *Plan) Carry(ctx context.Context) error {
	if p.Stopped != "" {
		return nil
	}
	for _, step := range []func(context.Context) error{p.unmark, p.mark, p.deleteWAL, p.deleteEpochs, p.deleteMarks} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("delete WAL of cluster %s: %w", p.System, err)
		}
	}
	p.Done = true
	return nil
}

func (p *Plan) unmark(ctx context.Context) error {
	for _, m := range p.state.marks {
		if !p.judge.contradicts(m) {
			continue
		}
		if err := p.state.archive.Store().Delete(ctx, m.key); err != nil {
			return fmt.Errorf("take a mark off: %w", err)
		}
	}
	return nil
}

func (p *Plan) mark(ctx context.Context) error {
	if len(p.toMark) == 0 {
		return nil
	}
	text, err := json.MarshalIndent(mark{Format: markFormat, At: p.o.Now.UTC(), Host: p.o.Host, Spans: p.toMark}, "", "  ")
	if err == nil && len(text) > maxMarkBytes {
		err = pgmedic.Errorf(pgmedic.KindFailed, "`pgmedic wal status` shows its gaps", "the WAL to be deleted is in %d stretches", len(p.toMark))
	}
	if err != nil {
		return err
	}
	key := p.state.archive.Folder() + markPrefix + catalog.NewID(p.o.Now) + ".json"
	if _, err := p.state.archive.Store().Put(ctx, key, bytes.NewReader(append(text, '\n'))); err != nil {
		return fmt.Errorf("mark WAL for deletion: %w", err)
	}
	failpoint.Hit(ctx, "wal-prune-marked")
	return nil
}

// deleteWAL deletes segments, tails and observations. What the store locks waits.
func (p *Plan) deleteWAL(ctx context.Context) error {
	j := p.judge
	p.Rows = slices.DeleteFunc(p.Rows, func(r Row) bool { return r.Verdict == Delete })
	for _, id := range j.order {
		var mu sync.Mutex
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(jobs)
		e := j.epochs[id]
		e.going = 0
		err := j.each(groupCtx, id, func(o archive.Object, d decision) error {
			if d.verdict != Delete {
				return nil
			}
			group.Go(func() error {
				err := p.delete(groupCtx, o.Key)
				locked := errors.Is(err, store.ErrLocked)
				if err != nil && !locked {
					return fmt.Errorf("delete %s of epoch %s: %w", o.Name, o.Epoch, err)
				}
				failpoint.Hit(groupCtx, "wal-prune-deleted")
				mu.Lock()
				defer mu.Unlock()
				if locked {
					d.verdict, d.reason, d.since = Wait, d.reason+"; locked by the store", time.Time{}
				} else if o.Kind != archive.KindObservation {
					e.going++
				}
				p.add(o, d)
				return nil
			})
			return nil
		})
		if waited := group.Wait(); waited != nil {
			err = waited
		}
		if err != nil {
			return err
		}
	}
	p.sort()
	return nil
}

// delete deletes an object that is not locked: store.ErrLocked for one that is.
func (p *Plan) delete(ctx context.Context, key string) error {
	s := p.state.archive.Store()
	if l, ok := s.(store.Locker); ok && p.o.Locks {
		lock, err := l.LockOf(ctx, key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return fmt.Errorf("read its lock: %w", err)
		case lock.Locks(p.o.Now):
			return store.ErrLocked
		}
	}
	return s.Delete(ctx, key)
}

// lastOf are the kinds of what is left of an epoch, in the order in which it goes: what
// says what the epoch is goes last.
func lastOf() []archive.Kind {
	return []archive.Kind{archive.KindObservation, archive.KindBase, archive.KindGap, archive.KindIndex, archive.KindHistory, archive.KindKey, archive.KindEpoch}
}

func (p *Plan) deleteEpochs(ctx context.Context) error {
	planned := p.Epochs
	p.Epochs = []string{}
	for _, id := range planned {
		gone, err := p.deleteEpoch(ctx, id)
		if err != nil {
			return err
		}
		if gone {
			p.Epochs = append(p.Epochs, id)
		}
	}
	return nil
}

// deleteEpoch deletes what is left of an epoch, if there is no WAL in it any more.
func (p *Plan) deleteEpoch(ctx context.Context, id string) (gone bool, err error) {
	byKind := map[archive.Kind][]string{}
	for o, err := range p.state.archive.Objects(ctx, id, p.state.survey.SegmentSize) {
		if err != nil {
			return false, err
		}
		if !slices.Contains(lastOf(), o.Kind) {
			return false, nil // WAL that is locked, or that came meanwhile
		}
		byKind[o.Kind] = append(byKind[o.Kind], o.Key)
	}
	for _, kind := range lastOf() {
		keys := byKind[kind]
		// epoch.json before its signatures, in the order of names: it goes last.
		slices.Reverse(keys)
		for _, key := range keys {
			err := p.delete(ctx, key)
			if errors.Is(err, store.ErrLocked) {
				return false, nil
			} else if err != nil {
				return false, fmt.Errorf("delete %s: %w", key, err)
			}
			failpoint.Hit(ctx, "wal-prune-epoch")
		}
	}
	return true, nil
}

// deleteMarks deletes the marks that are over: all that they mark has gone.
func (p *Plan) deleteMarks(ctx context.Context) error {
	if len(p.state.marks) == 0 {
		return nil
	}
	left := make([]bool, len(p.state.marks))
	for _, id := range p.state.order {
		for o, err := range p.state.archive.Objects(ctx, id, p.state.survey.SegmentSize) {
			if err != nil {
				return err
			}
			if o.Kind != archive.KindSegment && o.Kind != archive.KindTail {
				continue
			}
			for i, m := range p.state.marks {
				left[i] = left[i] || m.covers(o)
			}
		}
	}
	failpoint.Hit(ctx, "wal-prune-before-mark-removed")
	for i, m := range p.state.marks {
		if left[i] {
			continue
		}
		if err := p.state.archive.Store().Delete(ctx, m.key); err != nil {
			return fmt.Errorf("delete a mark: %w", err)
		}
	}
	return nil
}

// SweepLeases deletes the leases of the cluster that have ended.
func (p *Plan) SweepLeases(ctx context.Context) error {
	return lease.Sweep(ctx, p.state.archive, p.o.Now)
}
