package immutable

import (
	"context"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic/internal/store"
)

// locking is a store that puts each object with the lock that the policy gives its key.
type locking struct {
	store.Locker
	policy Policy
}

// Put implements store.Store.
func (l *locking) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	lock, err := l.policy.LockOf(key)
	if err != nil {
		return store.Object{}, fmt.Errorf("put %s: %w", key, err)
	}
	if lock == (store.Lock{}) {
		return l.Locker.Put(ctx, key, r)
	}
	return l.PutLocked(ctx, key, r, lock)
}

// Unwrap returns the store that Open or Wrap was given, and any other as it is.
func Unwrap(s store.Store) store.Store {
	if l, ok := s.(*locking); ok {
		return l.Locker
	}
	return s
}
