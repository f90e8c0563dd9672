package remote

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/store"
)

// cleanUpWithin bounds what is done after the caller's context has ended.
const cleanUpWithin = 15 * time.Second

// Upload is a Put of an object that is too large for one request, as a Service sees it.
type Upload struct {
	// Name is that of the object, Owner what it must be given, by which this Put knows
	// its own.
	Name, Owner string
	// Lock is what the object must have from the moment that it is there.
	Lock store.Lock
	// First is the beginning of the object, as large as a part. Whoever has no more use
	// for it gives it to Release.
	First []byte

	s    *Store
	ctx  context.Context // of Put, in whose call all of this happens
	key  string
	r    io.Reader
	size int64 // of what was read
	err  error // of r
}

// Put implements store.Store. It answers for what it committed even where ctx ended
// meanwhile: an object that is there is returned without an error.
func (s *Store) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	return s.put(ctx, key, r, store.Lock{})
}

// put is Put of an object with a lock.
func (s *Store) put(ctx context.Context, key string, r io.Reader, l store.Lock) (store.Object, error) {
	name, err := s.begin(ctx, "put", key)
	if err != nil {
		return store.Object{}, err
	}
	u := &Upload{Name: name, Owner: rand.Text(), Lock: l, s: s, ctx: ctx, key: key, r: r}
	first, last, err := u.Fill(ctx, s.o.PartSizeBytes)
	if err != nil {
		return store.Object{}, u.err
	}
	var info Info
	if last {
		err = u.Try(ctx, "put an object", func(ctx context.Context) (err error) {
			info, err = s.service.Put(ctx, name, u.Owner, first, l)
			return err
		})
		if err == nil {
			u.Release(first)
		}
	} else {
		u.First = first
		// Better said now than after everything was sent.
		if _, err := s.head(ctx, name); err == nil {
			return store.Object{}, store.Exists(key)
		} else if store.Ended(ctx) != nil || !s.explain(err).Absent {
			return store.Object{}, s.failed(ctx, "put", key, err)
		}
		info, err = s.service.Upload(ctx, u)
	}
	switch {
	case u.err != nil: // then nothing was committed
		return store.Object{}, u.err
	case err != nil:
		if info, err = u.settle(ctx, err); err != nil {
			return store.Object{}, err
		}
	}
	info.SizeBytes = u.size
	return object(key, info), nil
}

// settle returns what became of a Put that ended with err, which may be that the answer
// was lost while the object was made.
func (u *Upload) settle(ctx context.Context, err error) (Info, error) {
	f := u.s.explain(err)
	if f.Denied {
		return Info{}, u.s.failed(ctx, "put", u.key, err)
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpWithin)
	defer cancel()
	there, lookErr := u.s.head(look, u.Name)
	switch {
	case lookErr == nil && there.Owner == u.Owner && there.SizeBytes == u.size:
		return there, nil
	case store.Ended(ctx) != nil:
	case f.Taken, f.Locked, lookErr == nil && !f.Answered:
		return Info{}, store.Exists(u.key)
	}
	return Info{}, u.s.failed(ctx, "put", u.key, err)
}

// Try sends a request of the upload until it is answered in a way that counts.
func (u *Upload) Try(ctx context.Context, what string, request func(context.Context) error) error {
	return u.s.try(ctx, what, request)
}

// Fill reads up to size bytes, until ctx ends. Last is true if the source has ended. An
// error of the source is what Put returns, whatever the Service makes of it: nothing
// may be committed after one.
func (u *Upload) Fill(ctx context.Context, size int64) (part []byte, last bool, err error) {
	part = make([]byte, 0, min(64<<10, size))
	for int64(len(part)) < size {
		if ctx.Err() != nil {
			if err := store.Ended(u.ctx); err != nil { //nolint:contextcheck // that of the Put, of which ctx is a part
				u.err = fmt.Errorf("put %s: %w", u.key, err)
			}
			return nil, false, context.Cause(ctx)
		}
		if len(part) == cap(part) {
			part = u.s.grow(part, size)
		}
		n, err := u.r.Read(part[len(part):min(int64(cap(part)), size)])
		part = part[:len(part)+n]
		u.size += int64(n)
		if err == io.EOF { // itself, as the contract has it
			return part, true, nil
		} else if err != nil {
			u.err = fmt.Errorf("put %s: %w", u.key, store.ReadFailed(u.ctx, err)) //nolint:contextcheck // that of the Put
			return nil, false, u.err
		}
	}
	return part, false, nil
}

// grow returns part with more capacity, and not more than size. What is more than a
// megabyte goes into a buffer of the full size, which others can have later: steps up
// to it would be garbage of more than half of it.
func (s *Store) grow(part []byte, size int64) []byte {
	const small = 1 << 20
	if cap(part) < small {
		return slices.Grow(part, int(min(int64(cap(part))*4, size))-len(part))
	}
	if size == s.o.PartSizeBytes {
		if b, ok := s.parts.Get().(*[]byte); ok {
			return append((*b)[:0], part...)
		}
	}
	return append(make([]byte, 0, size), part...)
}

// Release takes a part that nothing reads any more.
func (u *Upload) Release(part []byte) {
	if int64(cap(part)) == u.s.o.PartSizeBytes {
		u.s.parts.Put(&part)
	}
}
