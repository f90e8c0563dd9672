package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
)

func testPutAndOpen(t *testing.T, s store.Store) {
	wantKeys(t, s, "")
	before := time.Now().Add(-time.Minute) // clocks of other hosts differ
	for i, size := range []int{0, 1, 4095, 4096, 4097, 512 << 10, 512<<10 + 1, 9<<20 + 3} {
		key, data := fmt.Sprintf("sizes/%d", i), pattern(size, uint64(i))
		o, err := s.Put(t.Context(), key, iotest.DataErrReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		if o.Key != key || o.SizeBytes != int64(size) || o.ModifiedAt.Before(before) || o.ModifiedAt.Location() != time.UTC {
			t.Errorf("Put of %d bytes returned %+v", size, o)
		}
		stat, err := s.Stat(t.Context(), key)
		if err != nil || stat.Key != key || stat.SizeBytes != o.SizeBytes ||
			stat.ModifiedAt.Sub(o.ModifiedAt).Abs() > 2*time.Second || stat.ModifiedAt.Location() != time.UTC {
			t.Errorf("Stat returned %+v (%v), Put %+v", stat, err, o)
		}
		for listed, err := range s.List(t.Context(), key) {
			if err != nil || listed != stat {
				t.Errorf("List returned %+v (%v), Stat %+v", listed, err, stat)
			}
		}
		wantBytes(t, s, key, data)
	}
	small := pattern(3000, 1)
	if _, err := s.Put(t.Context(), "slow", iotest.OneByteReader(bytes.NewReader(small))); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, s, "slow", small)
}

var errSource = errors.New("the dump died")

func testPutReaderFails(t *testing.T, s store.Store) {
	for _, size := range []int{0, 1, 100, 512 << 10, 6 << 20} {
		for _, fail := range []error{errSource, io.ErrUnexpectedEOF, fmt.Errorf("pipe: %w", io.EOF)} {
			r := io.MultiReader(bytes.NewReader(pattern(size, 1)), iotest.ErrReader(fail))
			if _, err := s.Put(t.Context(), "a/b/key", r); !errors.Is(err, fail) {
				t.Errorf("reader that fails after %d bytes with %v: Put returned %v", size, fail, err)
			}
			wantNothing(t, s, "a/b/key")
		}
	}
	_, err := s.Put(t.Context(), "a/b/key", &dataAndError{data: []byte("last words"), err: errSource})
	if !errors.Is(err, errSource) {
		t.Errorf("reader that fails with its last bytes: %v", err)
	}
	wantNothing(t, s, "a/b/key")
	func() {
		defer func() { _ = recover() }()
		s.Put(t.Context(), "a/b/key", io.MultiReader(bytes.NewReader(pattern(6<<20, 1)), panicReader{}))
	}()
	wantNothing(t, s, "a/b/key")
	put(t, s, "a/b/key", []byte("now"))
	wantBytes(t, s, "a/b/key", []byte("now"))
}

// dataAndError returns bytes and an error from the same Read.
type dataAndError struct {
	data []byte
	err  error
}

func (d *dataAndError) Read(p []byte) (int, error) { return copy(p, d.data), d.err }

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("the reader panics") }

func testPutCancelled(t *testing.T, s store.Store) {
	why := errors.New("the operator asked")
	for _, after := range []int{0, 1, 1 << 20, 20 << 20} {
		ctx, cancel := context.WithCancelCause(t.Context())
		// Endless: only looking at ctx ends this Put.
		r := &endless{cancelAfter: after, cancel: func() { cancel(why) }}
		_, err := s.Put(ctx, "a/key", r)
		if r.gaveUp {
			t.Errorf("cancelled after %d bytes, Put went on reading to %d", after, r.n)
		}
		wantKind(t, fmt.Sprintf("cancelled after %d bytes", after), err, why, pgmedic.KindInterrupted)
		wantNothing(t, s, "a/key")
	}
	// A reader that dies of the same cancellation must not hide it.
	ctx, cancel := context.WithCancelCause(t.Context())
	r := io.MultiReader(bytes.NewReader(pattern(1000, 1)), readerFunc(func([]byte) (int, error) {
		cancel(why)
		return 0, errSource
	}))
	_, err := s.Put(ctx, "a/key", r)
	wantKind(t, "cancelled reader", err, why, pgmedic.KindInterrupted)
	wantNothing(t, s, "a/key")

	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, err = s.Put(ctx, "a/key", &endless{cancelAfter: -1})
	wantKind(t, "timed out", err, context.DeadlineExceeded, pgmedic.KindInterrupted)
	wantNothing(t, s, "a/key")

	// A cause that has a kind keeps it.
	ctx, cancel = context.WithCancelCause(t.Context())
	cause := pgmedic.Errorf(pgmedic.KindConflict, "", "another run took over")
	_, err = s.Put(ctx, "a/key", &endless{cancelAfter: 10, cancel: func() { cancel(cause) }})
	wantKind(t, "cause with a kind", err, cause, pgmedic.KindConflict)
	wantNothing(t, s, "a/key")
}

// endless gives bytes for ever, and calls cancel once after so many. It gives up
// on a Put that doesn't notice: the largest part that any store buffers is less.
type endless struct {
	cancelAfter int
	cancel      func()
	n           int
	gaveUp      bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.cancel != nil && e.n >= e.cancelAfter {
		e.cancel()
		e.cancel = nil
	}
	n := min(len(p), 64<<10)
	e.n += n
	if limit := 256 << 20; (e.cancelAfter >= 0 && e.n > e.cancelAfter+limit) || e.n > 8*limit {
		e.gaveUp = true
		return 0, errors.New("a Put that was cancelled goes on reading")
	}
	return n, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func testPutLeavesReader(t *testing.T, s store.Store) {
	r := &closeSpy{Reader: bytes.NewReader(pattern(1000, 1))}
	if _, err := s.Put(t.Context(), "key", r); err != nil || r.closed {
		t.Errorf("Put: %v, closed the reader: %v", err, r.closed)
	}
}

type closeSpy struct {
	io.Reader
	closed bool
}

func (c *closeSpy) Close() error { c.closed = true; return nil }

func testPutExisting(t *testing.T, s store.Store) {
	data := pattern(100_000, 1)
	first := put(t, s, "a/key", data)
	for _, other := range [][]byte{nil, data, pattern(2<<20, 2)} {
		o, err := s.Put(t.Context(), "a/key", bytes.NewReader(other))
		wantKind(t, "Put of an existing key", err, store.ErrExists, pgmedic.KindConflict)
		if o != (store.Object{}) {
			t.Errorf("Put that failed returned %+v", o)
		}
	}
	wantBytes(t, s, "a/key", data)
	if o, err := s.Stat(t.Context(), "a/key"); err != nil || o.SizeBytes != first.SizeBytes {
		t.Errorf("Stat: %+v, %v", o, err)
	}
	wantKeys(t, s, "", "a/key")
	if err := s.Delete(t.Context(), "a/key"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/key", []byte("again"))
	wantBytes(t, s, "a/key", []byte("again"))
}

func testPutRace(t *testing.T, s store.Store) {
	for round := range 10 {
		const rivals = 16
		key := fmt.Sprintf("race/%d/key", round)
		var errs [rivals]error
		var start, done sync.WaitGroup
		start.Add(1)
		for i := range rivals {
			done.Go(func() {
				start.Wait()
				_, errs[i] = s.Put(t.Context(), key, bytes.NewReader(pattern(70_000+i, uint64(i))))
			})
		}
		start.Done()
		done.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("Puts %d and %d of one key both succeeded", winner, i)
			case err == nil:
				winner = i
			default:
				wantKind(t, "Put that lost", err, store.ErrExists, pgmedic.KindConflict)
			}
		}
		if winner < 0 {
			t.Fatalf("no Put succeeded: %v", errs[0])
		}
		wantBytes(t, s, key, pattern(70_000+winner, uint64(winner)))
		wantKeys(t, s, fmt.Sprintf("race/%d/", round), key)
	}
}

// testPutDeleteRace puts and deletes neighbours, so that a store of folders
// keeps making and removing the folder that they share.
func testPutDeleteRace(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			key := fmt.Sprintf("deep/er/folder/%d", worker)
			for i := range 25 {
				data := pattern(100+i, uint64(worker))
				if _, err := s.Put(t.Context(), key, bytes.NewReader(data)); err != nil {
					t.Errorf("Put %s: %v", key, err)
					return
				}
				wantBytes(t, s, key, data)
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("Delete %s: %v", key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	wantKeys(t, s, "")
}

func testDelete(t *testing.T, s store.Store) {
	for _, key := range []string{"a/b/c", "a/b/d", "a/e", "f"} {
		put(t, s, key, []byte(key))
	}
	for range 3 {
		if err := s.Delete(t.Context(), "a/b/c"); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, s, "", "a/b/d", "a/e", "f")
	}
	for _, key := range []string{"never", "a/never", "never/there/was", "f/below", "a/b/d/below"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete of %q, which is not there: %v", key, err)
		}
	}
	// What keys have in front of a slash is not a key.
	for _, key := range []string{"a", "a/b"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("Delete %q: %v", key, err)
		}
	}
	wantKeys(t, s, "", "a/b/d", "a/e", "f")
	for _, key := range []string{"a/b/d", "a/e", "f"} {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		_, err := s.Stat(t.Context(), key)
		wantKind(t, "Stat after Delete", err, store.ErrNotFound, pgmedic.KindNotFound)
	}
	wantKeys(t, s, "")
	put(t, s, "a/b", []byte("what was a folder"))
	wantKeys(t, s, "", "a/b")
}
