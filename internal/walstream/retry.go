package walstream

import (
	"context"

	"github.com/pgmedic/pgmedic/internal/replication"
)

// retry stores something, for as long as it takes.
func (a *assembler) retry(put func(ctx context.Context) error) error {
	put = a.r.watch.noting(put)
	for attempts := 1; ; attempts++ {
		err := put(a.ctx)
		if err == nil {
			return nil
		}
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		wait, again := replication.Retry(err, attempts, 0)
		if !again {
			return err
		}
		a.r.o.Logger.Warn("WAL could not be stored, and this is tried again; the server keeps it", "error", err, "wait", wait)
		pause(a.ctx, wait)
	}
}
