package store

import (
	"context"
	"errors"
	"iter"

	"golang.org/x/sync/errgroup"
)

// togetherBatch is how many objects are handed over at once.
const togetherBatch = 1000

// Together yields what several listings do, and runs n of them at a time: pages that a service
// hands out one after the other arrive side by side. The objects of one listing come in its
// order; those of others come between them. It ends as List does, after the first error or when
// the caller stops, and then no listing runs any more.
func Together(ctx context.Context, n int, listings ...func(context.Context) iter.Seq2[Object, error]) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		outer, cancel := context.WithCancel(ctx)
		group, inner := errgroup.WithContext(outer)
		group.SetLimit(max(n, 1))
		batches, ended := make(chan []Object), make(chan struct{})
		var failed error // set before batches is closed
		go func() {
			defer close(ended)
			for _, list := range listings {
				group.Go(func() error { return hand(inner, list, batches) })
			}
			failed = group.Wait()
			close(batches)
		}()
		defer func() { cancel(); <-ended }()
		for batch := range batches {
			for _, o := range batch {
				if !yield(o, nil) {
					return
				}
			}
		}
		if failed != nil {
			yield(Object{}, failed)
		}
	}
}

// hand hands over what a listing yields, the part before an error included.
func hand(ctx context.Context, list func(context.Context) iter.Seq2[Object, error], batches chan<- []Object) error {
	var batch []Object
	give := func() error {
		if len(batch) == 0 {
			return Ended(ctx)
		}
		select {
		case batches <- batch:
			batch = nil
			return nil
		case <-ctx.Done():
			return Ended(ctx)
		}
	}
	if err := give(); err != nil {
		return err
	}
	for o, err := range list(ctx) {
		if err != nil {
			return errors.Join(give(), err)
		}
		if batch = append(batch, o); len(batch) == togetherBatch {
			if err := give(); err != nil {
				return err
			}
		}
	}
	return give()
}
