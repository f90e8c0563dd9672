package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// lockPatience is how long a writer waits for another, which writes one line.
	lockPatience = 20 * time.Second
	// lockPause is the time between two attempts.
	lockPause = 5 * time.Millisecond
)

// lock waits until no other process writes to the log. It ends with the process,
// however that ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := owner.Create(path, os.O_RDWR)
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the audit log: %w", err)
	}
	deadline := time.NewTimer(lockPatience)
	defer deadline.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // closing unlocks
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			_ = f.Close()
			return nil, fmt.Errorf("lock the audit log: %w", err)
		}
		select {
		case <-time.After(lockPause):
		case <-deadline.C:
			_ = f.Close()
			return nil, pgmedic.Errorf(pgmedic.KindConflict, "find the process that holds it: fuser "+path,
				"lock the audit log: another process has held %s for %s", path, words.Duration(lockPatience))
		case <-ctx.Done():
			_ = f.Close()
			return nil, context.Cause(ctx)
		}
	}
}
