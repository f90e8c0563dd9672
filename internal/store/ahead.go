package store

import (
	"context"
	"errors"
	"iter"
)

const (
	// aheadBatch is how many objects are handed over at once, and aheadBatches how many such
	// batches of a listing wait for those before it: together somewhat more than a MiB.
	aheadBatch   = 1000
	aheadBatches = 5
)

// Ahead yields what several listings do, one listing after the other in the order in which they
// are given, and runs up to n of them at a time: pages that a service hands out one by one
// arrive together. It is for listings that have nothing in common. It ends as List does, after
// the first error or when the caller stops; then no listing runs any more.
func Ahead(ctx context.Context, n int, listings ...func(context.Context) iter.Seq2[Object, error]) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		inner, cancel := context.WithCancel(ctx)
		runs := make([]*aheadRun, len(listings))
		for i, listing := range listings {
			runs[i] = &aheadRun{list: listing, batches: make(chan []Object, aheadBatches)}
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			aheadAll(inner, max(n, 1), runs)
		}()
		defer func() { cancel(); <-ended }()
		for _, r := range runs {
			for batch := range r.batches {
				for _, o := range batch {
					if !yield(o, nil) {
						return
					}
				}
			}
			if r.err != nil {
				yield(Object{}, r.err)
				return
			}
		}
	}
}

// aheadRun is one listing.
type aheadRun struct {
	list    func(context.Context) iter.Seq2[Object, error]
	batches chan []Object
	// err is why the listing ended before its end. It is set before batches is closed.
	err error
}

// aheadAll runs the listings, n at a time, in their order: the one that is waited for is always
// among those that run. It returns when all have ended.
func aheadAll(ctx context.Context, n int, runs []*aheadRun) {
	slots := make(chan struct{}, n)
	for _, r := range runs {
		slots <- struct{}{} // one that waits to hand over ends with ctx
		go func() {
			defer func() { <-slots }()
			defer close(r.batches)
			r.err = r.run(ctx)
		}()
	}
	for range n {
		slots <- struct{}{}
	}
}

// run hands over what the listing yields, the part before an error included.
func (r *aheadRun) run(ctx context.Context) error {
	if err := Ended(ctx); err != nil {
		return err
	}
	var batch []Object
	for o, err := range r.list(ctx) {
		if err != nil {
			return errors.Join(r.hand(ctx, batch), err)
		}
		if batch = append(batch, o); len(batch) == aheadBatch {
			if err := r.hand(ctx, batch); err != nil {
				return err
			}
			batch = make([]Object, 0, aheadBatch)
		}
	}
	return r.hand(ctx, batch)
}

func (r *aheadRun) hand(ctx context.Context, batch []Object) error {
	if len(batch) == 0 {
		return nil
	}
	select {
	case r.batches <- batch:
		return nil
	case <-ctx.Done():
		return Ended(ctx)
	}
}
