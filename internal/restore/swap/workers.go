package swap

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
)

// cronWorker is the backend_type of pg_cron's scheduler. A swap ends it with the
// sessions of the live database, and the server starts it again within a second,
// except for versions of pg_cron that end as if they were done.
const cronWorker = "pg_cron launcher"

// cronRestarts is how long to wait for it.
const cronRestarts = 5 * time.Second

// works reports whether a worker of a kind is at work in a database, as far as the
// role may see it.
func works(ctx context.Context, conn *pgx.Conn, database, kind string) (there bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND backend_type = $2)", database, kind).Scan(&there)
	return there, postgres.Wrap(err, "look for workers of the database")
}

// comesBack waits for such a worker, for a limited time. That ends no query: the session
// would end with it, and the run needs that afterwards.
func comesBack(ctx context.Context, conn *pgx.Conn, database, kind string, wait time.Duration) (bool, error) {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if there, err := works(ctx, conn, database, kind); err != nil || there {
			return there, err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("wait for workers of the database: %w", context.Cause(ctx))
		}
	}
}

// cronWorks reports whether the scheduler is at work in the live database, or should
// be: an earlier swap may have ended it. Only a superuser may see what is loaded.
func (r *swapRun) cronWorks(ctx context.Context, o *Options) bool {
	there, err := works(ctx, r.admin, o.Live, cronWorker)
	if err == nil && !there {
		there, err = cronLoaded(ctx, r.admin, o.Live)
	}
	if err != nil {
		o.Logger.Warn("cannot tell whether pg_cron's scheduler is running", "error", err)
	}
	return there
}

// cronLoaded reports whether the server has loaded pg_cron for a database, as far as
// the role may know it.
func cronLoaded(ctx context.Context, conn *pgx.Conn, database string) (loaded bool, err error) {
	name, err := databases.CronDatabase(ctx, conn)
	if err != nil || name != database {
		return false, err
	}
	err = conn.QueryRow(ctx, `
SELECT CASE WHEN r.rolsuper THEN 'pg_cron' = ANY (pg_catalog.regexp_split_to_array(pg_catalog.current_setting('shared_preload_libraries'), '[", /]+')) ELSE false END
FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user`).Scan(&loaded)
	return loaded, postgres.Wrap(err, "look for pg_cron")
}

// awaitCron notes that the scheduler is not at work, where it should be.
func (r *swapRun) awaitCron(ctx context.Context, o *Options, worked bool, done *Swapped) {
	if !worked || done.Closed {
		return
	}
	there, err := comesBack(ctx, r.admin, o.Live, cronWorker, cronRestarts)
	if err != nil {
		o.Logger.Warn("cannot tell whether pg_cron's scheduler is running again", "error", err)
	}
	done.CronStopped = !there
}

// cronError is the error that no job of pg_cron runs any more, or nil.
func (s *Swapped) cronError() error {
	if !s.CronStopped {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, "restart the server: only then does this version of pg_cron start it again",
		"the swap is done, and pg_cron's scheduler, which a swap ends with the sessions of database %q, is not running: no job runs", s.Database)
}
