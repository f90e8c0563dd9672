package pgtool

import (
	"context"
	"io"
	"sync"

	"github.com/pgmedic/pgmedic"
)

// Input is what a client program reads. It may be used by two goroutines, one after
// the other: what feeds a program's input can be in a Read still when the program has
// ended.
type Input struct {
	mu sync.Mutex
	r  io.ReadCloser
}

// NewInput returns an Input that reads r, and closes it when it is closed.
func NewInput(r io.ReadCloser) *Input { return &Input{r: r} }

// ReadRest reads what the program that ended with err has left. Only a stream
// read to its end is known to be what was written. A program may stop before
// that without an error, or because damage made it read nonsense: then the damage
// is what is to be reported.
func (i *Input) ReadRest(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if _, rest := io.Copy(io.Discard, i); err == nil || pgmedic.KindOf(rest) == pgmedic.KindIntegrity {
		return rest
	}
	return err
}

// Close closes what is read, once nothing reads it.
func (i *Input) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.r.Close()
}

// Read implements io.Reader.
func (i *Input) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.r.Read(p)
}
