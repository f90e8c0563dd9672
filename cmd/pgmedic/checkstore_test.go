package main

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

// faultyStore is a store that lists or deletes otherwise than it should.
type faultyStore struct {
	store.Store
	list   func(iter.Seq2[store.Object, error]) iter.Seq2[store.Object, error]
	delete error
}

func (f faultyStore) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	if f.list == nil {
		return f.Store.List(ctx, prefix)
	}
	return f.list(f.Store.List(ctx, prefix))
}

func (f faultyStore) Delete(ctx context.Context, key string) error {
	return errors.Join(f.Store.Delete(ctx, key), f.delete)
}

// TestTryStore: a store that can't be listed, or not be deleted from, is found before
// a backup is in it.
func TestTryStore(t *testing.T) {
	unordered := errors.New("lists objects out of order")
	for name, tt := range map[string]struct {
		faults faultyStore
		words  string
	}{
		"a good one": {},
		"one without order": {faultyStore{list: func(iter.Seq2[store.Object, error]) iter.Seq2[store.Object, error] {
			return func(yield func(store.Object, error) bool) { yield(store.Object{}, unordered) }
		}}, "list the store: lists objects out of order"},
		"one that lists late": {faultyStore{list: func(all iter.Seq2[store.Object, error]) iter.Seq2[store.Object, error] {
			return func(yield func(store.Object, error) bool) {
				for o, err := range all {
					yield(o, err)
					return
				}
			}
		}}, "lists 1 of 3 objects"},
		"one that keeps objects": {faultyStore{delete: pgmedic.Errorf(pgmedic.KindUnreachable, "", "access denied")}, "object lock"},
	} {
		t.Run(name, func(t *testing.T) {
			local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			tt.faults.Store = local
			err = tryStore(t.Context(), tt.faults)
			if tt.words == "" && err != nil || tt.words != "" && (err == nil || !strings.Contains(err.Error()+pgmedic.HintOf(err), tt.words)) {
				t.Errorf("got %v (%s)", err, pgmedic.HintOf(err))
			}
			for o, err := range local.List(t.Context(), "") {
				t.Errorf("left: %v, %v", o, err)
			}
		})
	}
}
