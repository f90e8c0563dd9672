package swap

import (
	"context"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Incomplete is a copy that is not all that was backed up.
type Incomplete struct {
	// Live is the database that it is to replace, and Copy its name now.
	Live, Copy string
	// Missing lists what is missing or differs, with the reason.
	Missing []string
}

// acceptIncomplete asks whether a copy that is not complete is to be made live.
func (r *swapRun) acceptIncomplete(ctx context.Context, o *Options, loaded *restore.Loaded, missing []string) error {
	err := pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "the copy is not complete: %s", words.FirstFew(missing))
	if o.ConfirmIncomplete != nil {
		err = o.ConfirmIncomplete(Incomplete{Live: o.Live, Copy: o.Into, Missing: missing})
	}
	if pgmedic.KindOf(err) == pgmedic.KindNotConfirmed && err != nil && o.Dump == nil { // Resume knows backups only
		return &leftError{pgmedic.Errorf(pgmedic.KindNotConfirmed,
			"check it there; `pgmedic restore --resume --accept-differences` makes it live, `pgmedic prune` drops it",
			"database %q is as it was, and the copy, which is not complete, is left as %s: %w", o.Live, o.Into, err)}
	}
	if err != nil || !loaded.Withheld {
		return err
	}
	return databases.ApplyAccess(ctx, r.admin, o.Into, o.Backup.Database)
}

// leftError is the error of a swap that left a copy for Resume.
type leftError struct{ err error }

func (e *leftError) Error() string { return e.err.Error() }

func (e *leftError) Unwrap() error { return e.err }
