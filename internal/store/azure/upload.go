package azure

import (
	"context"
	"errors"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store/remote"
)

// growth is how many blocks have which multiple of the part size.
type growth []struct{ blocks, factor int64 }

// allBlocks are the 50,000 that Azure allows.
func allBlocks() growth { return growth{{10_000, 1}, {10_000, 8}, {30_000, 16}} }

// blockSize returns the size of block n, which counts from 1, or 0 after the last.
func (s *service) blockSize(n int64) int64 {
	for _, g := range s.growth {
		if n <= g.blocks {
			return g.factor * s.o.PartSizeBytes
		}
		n -= g.blocks
	}
	return 0
}

var errAbandoned = errors.New("the upload was abandoned")

// staging sends the blocks of an upload. Its owner stops it, and then commits.
type staging struct {
	s      *service
	u      *remote.Upload
	ctx    context.Context // of the blocks; it ends with the first that fails
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	slots  chan struct{} // a token for each block on its way
	ids    []string

	mu  sync.Mutex
	err error // of the first block that failed
}

// Upload implements remote.Service.
func (s *service) Upload(ctx context.Context, u *remote.Upload) (remote.Info, error) {
	t := &staging{s: s, u: u, slots: make(chan struct{}, s.o.Concurrency)}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	defer func() { // also when the source panics
		t.cancel(errAbandoned)
		t.wg.Wait()
	}()
	if err := t.sendAll(); err != nil {
		return remote.Info{}, err
	}
	var info remote.Info
	err := u.Try(ctx, "commit an object", func(ctx context.Context) (err error) {
		info, err = s.commit(ctx, u.Name, u.Owner, t.ids, u.Lock)
		return err
	})
	return info, err
}

// sendAll sends all blocks, and returns when they have arrived.
func (t *staging) sendAll() error {
	part, last := t.u.First, false
	for n := int64(1); ; n++ {
		t.send(n, part)
		if last || t.ctx.Err() != nil {
			break
		}
		size := t.s.blockSize(n + 1)
		if size == 0 {
			return t.refuseMore()
		}
		var err error
		if part, last, err = t.u.Fill(t.ctx, size); err != nil {
			t.cancel(errAbandoned)
			t.wg.Wait()
			return t.outcome(err)
		}
		if last && len(part) == 0 {
			break
		}
	}
	t.wg.Wait()
	return t.outcome(nil)
}

// refuseMore returns an error if the source has not ended with the last block.
func (t *staging) refuseMore() error {
	part, last, err := t.u.Fill(t.ctx, 1)
	if err != nil || last && len(part) == 0 {
		t.wg.Wait()
		return t.outcome(err)
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "raise backup.azure.part_size_mib", "the object is larger than 50,000 growing blocks")
}

// outcome is the error of a block that failed, or else err.
func (t *staging) outcome(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	return err
}

// send sends a block in the background, when there is a slot for it. A block that has
// grown takes all slots.
func (t *staging) send(n int64, part []byte) {
	id := blockID(t.u.Owner, n)
	t.ids = append(t.ids, id)
	take := 1
	if t.s.blockSize(n) > t.s.o.PartSizeBytes {
		take = cap(t.slots)
	}
	for range take {
		t.slots <- struct{}{}
	}
	t.wg.Go(func() {
		defer func() {
			for range take {
				<-t.slots
			}
		}()
		if t.ctx.Err() != nil {
			return
		}
		err := t.u.Try(t.ctx, "send a block", func(ctx context.Context) error {
			return t.s.stage(ctx, t.u.Name, id, part)
		})
		if err == nil {
			t.u.Release(part) // after a failure the connection may still read it
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err == nil && !errors.Is(context.Cause(t.ctx), errAbandoned) {
			t.err = err
			t.cancel(err)
		}
	})
}
