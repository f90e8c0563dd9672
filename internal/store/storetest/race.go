package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic/internal/store"
)

// Race has eight writers put one key at the same time, in so many rounds, with objects
// of these sizes in turn. In each round exactly one must succeed, the others must find
// the key taken, and the object must be the winner's.
func Race(t *testing.T, s store.Store, rounds int, sizes ...int) {
	t.Helper()
	for round := range rounds {
		const rivals = 8
		key, size := fmt.Sprintf("race/%03d", round), sizes[round%len(sizes)]
		var errs [rivals]error
		var start, done sync.WaitGroup
		start.Add(1)
		for i := range rivals {
			done.Go(func() {
				start.Wait()
				_, errs[i] = s.Put(t.Context(), key, bytes.NewReader(pattern(size, uint64(i))))
			})
		}
		start.Done()
		done.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("%s: Puts %d and %d both succeeded", key, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, store.ErrExists):
				t.Errorf("%s: a Put that lost: %v", key, err)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: no Put succeeded: %v", key, errs[0])
		}
		wantBytes(t, s, key, pattern(size, uint64(winner)))
	}
}

// Hosts returns one store as several hosts have it open: each Put is another one's.
func Hosts(open ...store.Store) store.Store { return &hosts{Store: open[0], all: open} }

type hosts struct {
	store.Store
	all  []store.Store
	puts atomic.Uint64
}

func (h *hosts) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	return h.all[h.puts.Add(1)%uint64(len(h.all))].Put(ctx, key, r) //nolint:wrapcheck // a store's own
}
