package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

type listing = func(context.Context) iter.Seq2[store.Object, error]

// ofKeys lists n keys, and then fails with an error unless that is nil. Before anything it calls
// begin.
func ofKeys(name string, n int, failed error, begin func(context.Context)) listing {
	return func(ctx context.Context) iter.Seq2[store.Object, error] {
		return func(yield func(store.Object, error) bool) {
			begin(ctx)
			for i := range n {
				if !yield(store.Object{Key: fmt.Sprintf("%s/%06d", name, i)}, nil) {
					return
				}
			}
			if failed != nil {
				yield(store.Object{}, failed)
			}
		}
	}
}

func nothing(context.Context) {}

func collect(seq iter.Seq2[store.Object, error]) (keys []string, err error) {
	for o, err := range seq {
		if err != nil {
			return keys, err
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}

// TestTogetherAll: all of each listing comes, in its order, also of many objects and of none.
func TestTogetherAll(t *testing.T) {
	sizes := []int{0, 1, 999, 1000, 1001, 17_000, 0, 5000, 3}
	var want []string
	var lists []listing
	for i, n := range sizes {
		name := fmt.Sprintf("list%d", i)
		for k := range n {
			want = append(want, fmt.Sprintf("%s/%06d", name, k))
		}
		lists = append(lists, ofKeys(name, n, nil, nothing))
	}
	for _, n := range []int{-1, 1, 2, 3, 8, 100} {
		got, err := collect(store.Together(t.Context(), n, lists...))
		slices.SortStableFunc(got, func(a, b string) int { return strings.Compare(a[:len("list0")], b[:len("list0")]) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d at a time: %d keys, want %d in order; error %v", n, len(got), len(want), err)
		}
	}
	if got, err := collect(store.Together(t.Context(), 4)); len(got) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

// TestTogetherAtOnce: n listings run at a time, and never more.
func TestTogetherAtOnce(t *testing.T) {
	const n, all = 4, 24
	var running, most atomic.Int32
	var together sync.WaitGroup
	together.Add(n)
	var begun atomic.Int32
	begin := func(context.Context) {
		now := running.Add(1)
		for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
		}
		if begun.Add(1) <= n {
			together.Done()
			together.Wait() // for ever, if fewer are begun
		}
	}
	var lists []listing
	for i := range all {
		list := ofKeys(strconv.Itoa(i), 10, nil, begin)
		lists = append(lists, func(ctx context.Context) iter.Seq2[store.Object, error] {
			return func(yield func(store.Object, error) bool) {
				defer running.Add(-1)
				list(ctx)(yield)
			}
		})
	}
	if got, err := collect(store.Together(t.Context(), n, lists...)); len(got) != 10*all || err != nil {
		t.Errorf("%d keys, error %v", len(got), err)
	}
	if m := most.Load(); m != n {
		t.Errorf("%d ran at a time, want %d", m, n)
	}
}

// TestTogetherFailed: what a listing has before an error comes, and the error ends it all.
func TestTogetherFailed(t *testing.T) {
	broken := errors.New("broken")
	got, err := collect(store.Together(t.Context(), 1, ofKeys("a", 1500, nil, nothing), ofKeys("b", 1200, broken, nothing), ofKeys("c", 5, nil, nothing)))
	if !errors.Is(err, broken) || len(got) != 2700 {
		t.Errorf("%d keys, error %v", len(got), err)
	}
	// The other one never ends by itself.
	waiting := ofKeys("w", 1, nil, func(ctx context.Context) { <-ctx.Done() })
	if _, err := collect(store.Together(t.Context(), 2, waiting, ofKeys("b", 0, broken, nothing))); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// TestTogetherStopped: a caller that stops has all listings ended when the loop ends; a context
// that ends is an error, also where a listing does not look at it.
func TestTogetherStopped(t *testing.T) {
	var running atomic.Int32
	endless := func(ctx context.Context) iter.Seq2[store.Object, error] {
		return func(yield func(store.Object, error) bool) {
			running.Add(1)
			defer running.Add(-1)
			for yield(store.Object{Key: "a"}, nil) {
			}
		}
	}
	n := 0
	for range store.Together(t.Context(), 3, endless, endless, endless, endless) {
		if n++; n == 2500 {
			break
		}
	}
	if running.Load() != 0 {
		t.Errorf("%d listings go on", running.Load())
	}

	// A test that fails in the loop ends its goroutine there.
	var left sync.WaitGroup
	left.Go(func() {
		for range store.Together(t.Context(), 3, endless, endless) {
			runtime.Goexit()
		}
	})
	if left.Wait(); running.Load() != 0 {
		t.Errorf("%d listings go on after their caller has gone", running.Load())
	}

	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	n = 0
	var err error
	for _, err = range store.Together(ctx, 2, endless, endless) {
		if n++; n == 1 {
			cancel(cause)
		}
	}
	if !errors.Is(err, cause) || pgmedic.KindOf(err) != pgmedic.KindInterrupted || running.Load() != 0 {
		t.Errorf("error %v after %d keys; %d go on", err, n, running.Load())
	}
	if got, err := collect(store.Together(ctx, 2, ofKeys("a", 1, nil, nothing))); len(got) != 0 || !errors.Is(err, cause) {
		t.Errorf("after the end: %v, %v", got, err)
	}
}
