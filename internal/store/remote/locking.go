package remote

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// LockService is a Service that can lock objects. Each method is one request, as those of
// Service are.
type LockService interface {
	Service
	// CanLock returns whether objects of the bucket or container can be locked.
	CanLock(ctx context.Context) (Ability, error)
	// Lock returns the lock of an object.
	Lock(ctx context.Context, name string) (Locked, error)
	// Extend gives an object the mode and the time of to, which is later than that of was,
	// if it still has the lock was: otherwise Explain says Taken or Locked of the error.
	// It leaves holds alone.
	Extend(ctx context.Context, name string, was Locked, to store.Lock) error
	// Overwrites reports whether Extend in a mode does not notice that another request has
	// changed the lock since was was read, so that the later one counts. Then the lock is
	// read again afterwards.
	Overwrites(mode store.LockMode) bool
	// SetHold sets or takes off a legal hold. Both may be repeated.
	SetHold(ctx context.Context, name string, held bool) error
}

// Ability is whether objects can be locked.
type Ability struct {
	// Unable says why they can't be, and Hint what to do about it. Empty is that they can.
	Unable, Hint string
	// At is the server's time, or zero where it does not say.
	At time.Time
}

// Locked is the lock that an object has.
type Locked struct {
	store.Lock
	// Own is the mode of the object's own lock, also if it is kept for longer by something
	// else, of which Mode is. Empty is that it has none.
	Own store.LockMode
	// Version tells it from an earlier and a later one, where the service has such.
	Version string
}

// Locking is the store of a LockService, and a store.Locker.
type Locking struct {
	*Store
	locks LockService
	able  atomic.Bool // CheckLocks said so
}

var _ store.Locker = (*Locking)(nil)

// NewLocking returns the store of a service. It sends no request.
func NewLocking(service LockService, o Options) *Locking {
	return &Locking{Store: New(service, o), locks: service}
}

// CheckLocks implements store.Locker.
func (s *Locking) CheckLocks(ctx context.Context) error {
	if err := store.Ended(ctx); err != nil {
		return fmt.Errorf("ask whether objects can be locked: %w", err)
	}
	var a Ability
	err := s.quick(ctx, "ask whether objects can be locked", func(ctx context.Context) (err error) {
		a, err = s.locks.CanLock(ctx)
		return err
	})
	switch {
	case err != nil:
		return s.failed(ctx, "ask whether objects can be locked", "", err)
	case a.Unable != "":
		return pgmedic.Errorf(pgmedic.KindUsage, a.Hint, "%s can't lock objects: %s", s.o.Name, a.Unable)
	case a.At.IsZero():
		return pgmedic.Errorf(pgmedic.KindFailed, "look at proxies between this host and the store, which leave the Date out of its answers",
			"nothing is locked in %s: the server does not say what time it is, and a lock can't be shortened", s.o.Name)
	}
	return store.CheckLockClock(s.o.Name, a.At)
}

// PutLocked implements store.Locker. Before the first one it asks whether objects can be
// locked.
func (s *Locking) PutLocked(ctx context.Context, key string, r io.Reader, l store.Lock) (store.Object, error) {
	if !s.able.Load() {
		if err := s.CheckLocks(ctx); err != nil {
			return store.Object{}, fmt.Errorf("put %s: %w", key, err)
		}
		s.able.Store(true)
	}
	return s.put(ctx, key, r, l.WholeSeconds())
}

// maxRaces is how often LockUntil begins again because something else changed the lock
// meanwhile: our choice, with which a few hosts may prune at the same time.
const maxRaces = 10

// LockUntil implements store.Locker.
func (s *Locking) LockUntil(ctx context.Context, key string, l store.Lock) error {
	const op = "lock"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	l = l.WholeSeconds()
	for range maxRaces {
		was, err := s.lockOf(ctx, name)
		if err != nil {
			return s.failed(ctx, op, key, err)
		}
		if !was.Until.Before(l.Until) {
			return nil
		}
		to := store.Lock{Mode: l.Mode, Until: l.Until}
		if was.Own == store.LockCompliance { // which can't become less
			to.Mode = was.Own
		}
		err = s.quick(ctx, "lock an object", func(ctx context.Context) error { return s.locks.Extend(ctx, name, was, to) })
		if err == nil {
			if !s.locks.Overwrites(to.Mode) {
				return nil
			}
			switch has, err := s.lockOf(ctx, name); {
			case err != nil:
				return s.failed(ctx, op, key, err)
			case !has.Until.Before(l.Until):
				return nil
			}
			continue // another host has made it shorter meanwhile
		}
		if f := s.explain(err); store.Ended(ctx) != nil || !f.Taken && !f.Locked {
			return s.failed(ctx, op, key, s.confirm(ctx, name, err))
		}
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, "run it again when no other host prunes this store",
		"%s %s: %s: something else changed the lock each time, or the server refuses to lengthen it", op, key, s.o.Name)
}

// Hold implements store.Locker.
func (s *Locking) Hold(ctx context.Context, key string, held bool) error {
	const op = "hold"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return err
	}
	err = s.quick(ctx, "hold an object", func(ctx context.Context) error { return s.locks.SetHold(ctx, name, held) })
	if err = s.confirm(ctx, name, err); err != nil {
		return s.failed(ctx, op, key, err)
	}
	return nil
}

// LockOf implements store.Locker.
func (s *Locking) LockOf(ctx context.Context, key string) (store.Lock, error) {
	const op = "read the lock of"
	name, err := s.begin(ctx, op, key)
	if err != nil {
		return store.Lock{}, err
	}
	l, err := s.lockOf(ctx, name)
	if err != nil {
		return store.Lock{}, s.failed(ctx, op, key, err)
	}
	return l.Lock, nil
}

func (s *Locking) lockOf(ctx context.Context, name string) (l Locked, err error) {
	err = s.quick(ctx, "ask for a lock", func(ctx context.Context) (err error) {
		l, err = s.locks.Lock(ctx, name)
		return err
	})
	return l, s.confirm(ctx, name, err)
}
