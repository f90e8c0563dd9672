package restore

import (
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// Incomplete is a copy that is not all that was backed up.
type Incomplete struct {
	// Live is the database that it is to replace, and Copy its name now.
	Live, Copy string
	// Missing lists what is missing or differs, with the reason.
	Missing []string
}

// acceptIncomplete asks whether a copy that is not complete is to be made live.
func (r *swapRun) acceptIncomplete(ctx context.Context, o *SwapOptions, loaded *Loaded, missing []string) error {
	err := pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "the copy is not complete: %s", some(missing))
	if o.ConfirmIncomplete != nil {
		err = o.ConfirmIncomplete(Incomplete{Live: o.Live, Copy: o.Into, Missing: missing})
	}
	if pgmedic.KindOf(err) == pgmedic.KindNotConfirmed && err != nil {
		return &leftError{pgmedic.Errorf(pgmedic.KindNotConfirmed,
			"look at it there; `pgmedic restore --resume --accept-differences` makes it live, `pgmedic prune` drops it",
			"database %q is as it was, and the copy, which is not complete, is left as %s: %w", o.Live, o.Into, err)}
	}
	if err != nil || !loaded.Withheld {
		return err
	}
	return databases.ApplyAccess(ctx, r.admin, o.Into, o.Backup.Database)
}

// leftError says that a copy was left for Resume.
type leftError struct{ err error }

func (e *leftError) Error() string { return e.err.Error() }

func (e *leftError) Unwrap() error { return e.err }

// refusedBefore is the check of a copy that a dead restore loaded, of which is known
// only how much was refused.
func refusedBefore(n int) *pgmedic.Check {
	return failedCheck(checkRestores, []string{
		fmt.Sprintf("things that were refused when the copy was loaded: %s; what of it the comparison sees is named below", pgmedic.Count(n)),
	})
}
