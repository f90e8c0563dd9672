package catalog_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// turns has several runs take turns at one store: a run makes as many requests as its turn has,
// one at a time, while the others wait for theirs.
type turns struct {
	mu   sync.Mutex
	next sync.Cond
	// order are whose turn it is, and for how many requests; after the last the runs that are
	// left end one after another.
	order []turn
	done  map[int]bool
	runs  int
}

type turn struct{ run, requests int }

func newTurns(runs int, order ...turn) *turns {
	s := &turns{order: slices.Clone(order), done: map[int]bool{}, runs: runs}
	s.next.L = &s.mu
	return s
}

// whose is the run that has the turn.
func (s *turns) whose() int {
	for len(s.order) > 0 && (s.done[s.order[0].run] || s.order[0].requests <= 0) {
		s.order = s.order[1:]
	}
	if len(s.order) > 0 {
		return s.order[0].run
	}
	for run := range s.runs {
		if !s.done[run] {
			return run
		}
	}
	return s.runs
}

// request makes a request of a run once it is its turn.
func (s *turns) request(run int, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.whose() != run {
		s.next.Wait()
	}
	do()
	if len(s.order) > 0 {
		s.order[0].requests--
	}
	s.next.Broadcast()
}

// together runs all to their ends.
func (s *turns) together(t *testing.T, at store.Store, runs ...func(*catalog.Catalog) error) {
	t.Helper()
	var running sync.WaitGroup
	errs := make([]error, len(runs))
	for i, run := range runs {
		running.Go(func() {
			errs[i] = run(catalog.New(inTurn{at, s, i}))
			s.mu.Lock()
			s.done[i] = true
			s.mu.Unlock()
			s.next.Broadcast()
		})
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("run %d: %v", i, err)
		}
	}
}

// inTurn is a store as one of the runs has it.
type inTurn struct {
	store.Store
	turns *turns
	run   int
}

func (s inTurn) Put(ctx context.Context, key string, r io.Reader) (o store.Object, err error) {
	s.turns.request(s.run, func() { o, err = s.Store.Put(ctx, key, r) })
	return o, err
}

func (s inTurn) Open(ctx context.Context, key string, offset, length int64) (r io.ReadCloser, err error) {
	s.turns.request(s.run, func() { r, err = s.Store.Open(ctx, key, offset, length) })
	return r, err
}

func (s inTurn) Stat(ctx context.Context, key string) (o store.Object, err error) {
	s.turns.request(s.run, func() { o, err = s.Store.Stat(ctx, key) })
	return o, err
}

func (s inTurn) Delete(ctx context.Context, key string) (err error) {
	s.turns.request(s.run, func() { err = s.Store.Delete(ctx, key) })
	return err
}

// List is as old as its beginning by the time that its objects are used.
func (s inTurn) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		var objects []store.Object
		var failed error
		s.turns.request(s.run, func() {
			for o, err := range s.Store.List(ctx, prefix) {
				if failed = err; err != nil {
					return
				}
				objects = append(objects, o)
			}
		})
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
		if failed != nil {
			yield(store.Object{}, failed)
		}
	}
}

// removals are the ways in which runs take turns at the deletion of one backup: one begins, another
// one begins, and the first ends; and at random.
func removals(runs int) (all [][]turn) {
	const requests = 30
	r := rand.New(rand.NewPCG(uint64(runs), 12))
	for first := range requests {
		for second := range requests {
			all = append(all, []turn{{0, first}, {1, second}, {0, 99}})
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = all[:testkit.Amount(30, len(all), len(all))]
	for n := range 20 { // one is about to delete the manifest, and another is at each step of the rest
		all = append(all, []turn{{0, 2}, {1, 5 + n}, {0, 99}})
	}
	for range testkit.Amount(20, 2_000, 10_000) {
		var order []turn
		for range 8 {
			order = append(order, turn{r.IntN(runs), 1 + r.IntN(6)})
		}
		all = append(all, order)
	}
	return all
}

// TestRemoveTogether: of several prunes that delete one backup at once, whichever is faster at
// whichever request, none fails, and nothing is left that is listed.
func TestRemoveTogether(t *testing.T) {
	for _, order := range removals(2) {
		f := newFixture(t)
		b := f.packed(t, 1)
		other := f.packed(t, 2)
		e := f.mark(t, b)
		remove := func(c *catalog.Catalog) error {
			kept, err := c.Remove(t.Context(), e, noon)
			if err == nil && kept != "" {
				err = fmt.Errorf("it is kept: %s", kept)
			}
			return err
		}
		newTurns(2, order...).together(t, f.Store(), remove, remove)
		l := f.list(t, catalog.Filter{})
		if ids(l) != other.ID || len(l.Orphans)+len(l.Damaged) > 0 || f.folderIsThere(b) {
			t.Errorf("listed: %s, %v, %v", ids(l), l.Orphans, l.Damaged)
		}
		if t.Failed() {
			t.Fatalf("in this order: %+v", order)
		}
	}
}

// TestRemoveTogetherWithAHold: so it is where somebody holds the backup meanwhile. What is still
// listed then is whole, and what is held, if the hold was accepted at the last moment, is not half
// there.
func TestRemoveTogetherWithAHold(t *testing.T) {
	kept := 0
	for _, order := range removals(3) {
		f := newFixture(t)
		b := f.packed(t, 1)
		e := f.mark(t, b)
		remove := func(c *catalog.Catalog) error {
			_, err := c.Remove(t.Context(), e, noon)
			return err
		}
		hold := func(c *catalog.Catalog) error {
			if err := c.AddHold(t.Context(), b, legal(b)); pgmedic.KindOf(err) != pgmedic.KindNotFound {
				return err
			}
			return nil
		}
		newTurns(3, slices.Concat(order, []turn{{2, 99}})...).together(t, f.Store(), remove, remove, hold)
		l := f.list(t, catalog.Filter{})
		if len(l.Damaged) > 0 {
			t.Errorf("damaged: %v", l.Damaged)
		}
		if len(l.Entries) > 0 {
			kept++
			to := newFixture(t)
			if _, err := f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: f.get(t, b).Backup}); err != nil {
				t.Errorf("it is listed, and not whole: %v", err)
			}
		}
		if t.Failed() {
			t.Fatalf("in this order: %+v", order)
		}
	}
	if kept == 0 {
		t.Error("no hold came in time, so that this proves nothing")
	}
}

// vanishing is a store in which a backup is deleted once its manifest was read.
type vanishing struct {
	store.Store
	delete func()
}

func (s vanishing) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.HasSuffix(key, "/manifest.json.sha256") {
		s.delete()
	}
	return s.Store.Open(ctx, key, offset, length)
}

// TestListWhileDeleted: a backup that is deleted while it is listed is not called damaged: prune
// deletes no WAL where one is.
func TestListWhileDeleted(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	e := f.mark(t, b)
	l, err := catalog.New(vanishing{f.Store(), func() {
		if _, err := f.Remove(t.Context(), e, noon); err != nil {
			t.Error(err)
		}
	}}).List(t.Context(), catalog.Filter{})
	if err != nil || len(l.Entries)+len(l.Damaged) > 0 {
		t.Errorf("%v, %+v", err, l)
	}
	// One whose hash alone has gone is damaged.
	b = f.packed(t, 2)
	l, err = catalog.New(vanishing{f.Store(), func() {
		if err := f.Store().Delete(t.Context(), catalog.Key(b, "manifest.json.sha256")); err != nil {
			t.Error(err)
		}
	}}).List(t.Context(), catalog.Filter{})
	if err != nil || len(l.Damaged) != 1 {
		t.Errorf("%v, %+v", err, l)
	}
}
