// Package rotation keeps a credential that may be replaced, where it is kept, while it is
// in use: once a server refuses it, it is read again.
package rotation

import (
	"context"
	"sync/atomic"
	"time"
)

// BetweenReads is how long a credential that is refused is not read again once it was: our
// choice, so that one which is wrong for good is not asked for with every request.
const BetweenReads = 10 * time.Second

// Options say how a Credential is read again.
type Options[T any] struct {
	// Read reads it where it is kept, whatever is known of it. Nil: it can't be read again.
	Read func(ctx context.Context) (T, error)
	// Same reports whether what was read is what was in use. It is needed with Read.
	Same func(was, found T) bool
	// Now tells how long ago it was read. Nil: time.Now.
	Now func() time.Time
}

// Credential is one that is in use, or what was made of it, such as a client. It may be
// used by several goroutines.
type Credential[T any] struct {
	o       Options[T]
	current atomic.Pointer[generation[T]]

	reading chan struct{} // full while somebody reads
	readAt  time.Time     // under reading
}

// generation is a credential and how many there were before it.
type generation[T any] struct {
	value  T
	number int
}

// New returns a Credential that begins with first.
func New[T any](first T, o Options[T]) *Credential[T] {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Credential[T]{o: o, reading: make(chan struct{}, 1)}
	c.current.Store(&generation[T]{value: first})
	return c
}

// Current returns what is to be used now, and its generation.
func (c *Credential[T]) Current() (value T, generation int) {
	g := c.current.Load()
	return g.value, g.number
}

// Generation is that of Current.
func (c *Credential[T]) Generation() int { return c.current.Load().number }

// Renew is called where a server refused what was current at or after a generation. It
// returns true where there is another one, which was read just now or while the request was
// under way. Several callers at once read it once. It is not read more often than every
// BetweenReads, whatever came of that; an error is that of reading, or of ctx.
func (c *Credential[T]) Renew(ctx context.Context, refused int) (bool, error) {
	if c.o.Read == nil {
		return false, nil
	}
	select {
	case c.reading <- struct{}{}:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	defer func() { <-c.reading }()
	if ctx.Err() != nil { // both were ready
		return false, context.Cause(ctx)
	}
	was := c.current.Load()
	if was.number != refused {
		return true, nil
	}
	before, now := c.readAt, c.o.Now()
	if !before.IsZero() && now.Sub(before) < BetweenReads {
		return false, nil
	}
	c.readAt = now
	found, err := c.o.Read(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		c.readAt = before // only this request has ended: the next one reads
		return false, context.Cause(ctx)
	case err != nil:
		return false, err
	case c.o.Same(was.value, found):
		return false, nil
	}
	c.current.Store(&generation[T]{value: found, number: was.number + 1})
	return true, nil
}
