package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
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
