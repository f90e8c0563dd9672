// Package pipe stores what a function writes.
package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pgmedic/pgmedic/internal/store"
)

// Put runs write, and stores what it writes under a key, while it is written. If write fails
// nothing is stored, and its error is returned as it is; name is what other errors call it.
// If the store fails, the context of write ends, and so do its writes.
func Put(ctx context.Context, s store.Store, key, name string, write func(ctx context.Context, w io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(ctx, pw)
		// A nil error is the end of the object; any other makes Put abandon it.
		_ = pw.CloseWithError(err) // never fails
		written <- err
	}()
	_, putErr := s.Put(ctx, key, pr)
	if putErr != nil {
		cancel() // a Put that failed reads no more: let the writer go
	}
	_ = pr.CloseWithError(errStoreGone) // never fails
	writeErr := <-written
	switch {
	case putErr == nil && writeErr != nil, putErr != nil && errors.Is(putErr, writeErr):
		return writeErr
	case putErr != nil:
		return fmt.Errorf("store %s: %w", name, putErr)
	}
	return nil
}

// errStoreGone tells a writer that the store no longer reads.
var errStoreGone = errors.New("the store stopped taking bytes")
