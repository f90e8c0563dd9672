package walstream

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
)

// together is how many messages are flushed at once, at most: up to 4 MiB.
const together = 32

// flusher writes WAL into the spool, as much as there is at a time: commits that arrive
// while the disk is busy share the next flush.
type flusher struct {
	s     *syncer
	spool *walspool.Spool
	begin beginning
	queue chan received
	// woken has an element where flushed has moved, or there is a problem.
	woken chan struct{}
	// again is the hash of what came again, up to at.
	again hash.Hash
	at    wal.LSN

	mu      sync.Mutex
	flushed wal.LSN
	problem error
	cancel  context.CancelFunc
}

// state returns what may be reported to the server.
func (f *flusher) state() (flushed wal.LSN, problem error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushed, f.problem
}

// interrupt has cancel called once there is more to report than what was reported.
func (f *flusher) interrupt(cancel context.CancelFunc, told wal.LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel = cancel
	if cancel != nil && (f.flushed != told || f.problem != nil) {
		cancel()
	}
}

func (f *flusher) run(ctx context.Context) {
	for chunk := range f.queue {
		flushed, err := f.take(ctx, chunk)
		f.mu.Lock()
		f.problem = err
		if err == nil {
			f.flushed = flushed
		}
		cancel := f.cancel
		f.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		select {
		case f.woken <- struct{}{}:
		default:
		}
		if err != nil {
			for range f.queue { // until it is closed
			}
			return
		}
	}
}

// take writes and flushes a chunk, and what waits behind it.
func (f *flusher) take(ctx context.Context, chunk received) (wal.LSN, error) {
	for n := 1; ; n++ {
		if err := f.write(chunk); err != nil {
			return 0, err
		}
		if n == together {
			break
		}
		var more bool
		if chunk, more = f.next(); !more {
			break
		}
	}
	if f.at < f.begin.To {
		return f.begin.from, nil
	}
	failpoint.Hit(ctx, "wal-spool-before-flush")
	flushed, err := f.spool.Flush(f.begin.Timeline)
	failpoint.Hit(ctx, "wal-spool-after-flush")
	if err == nil {
		f.s.flushed++
		f.s.watch.syncing()
	}
	return flushed, err
}

// next returns what waits; it is false where nothing does.
func (f *flusher) next() (chunk received, more bool) {
	select {
	case chunk, more = <-f.queue:
	default:
	}
	return chunk, more
}

// write compares what the spool has, and adds the rest.
func (f *flusher) write(chunk received) error {
	data := chunk.data
	if f.at < f.begin.To {
		n := min(len(data), int(f.begin.To-f.at))
		_, _ = f.again.Write(data[:n]) // which never fails
		f.at += wal.LSN(n)
		data = data[n:]
		if f.at == f.begin.To && !bytes.Equal(f.again.Sum(nil), f.begin.hash) {
			return pgmedic.Errorf(pgmedic.KindConflict, "if the server was set back to an earlier state, or is a copy of another, give it a name (--server) and a spool (--spool) of its own, and take a base backup",
				"compare WAL of timeline %d from %v to %v: %w", f.begin.Timeline, f.begin.from, f.begin.To, errSpoolDiffers)
		}
	}
	if len(data) == 0 {
		return nil
	}
	if err := f.spool.Append(f.begin.Timeline, f.at, data); err != nil {
		return fmt.Errorf("write WAL into the spool: %w", err)
	}
	f.at += wal.LSN(len(data))
	return nil
}

// errSpoolDiffers is found where the server's WAL is not the one of the spool.
var errSpoolDiffers = conflict("the server has sent other WAL than the spool has: it is not the server that the WAL came from, or was set back")
