package restore

import (
	"context"
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

// cronRestarts is how long it is waited for.
const cronRestarts = 5 * time.Second

// works reports whether a worker of a kind is at work in a database, as far as the
// role may see it.
func works(ctx context.Context, conn *pgx.Conn, database, kind string) (there bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND backend_type = $2)", database, kind).Scan(&there)
	return there, postgres.Wrap(err, "look for workers of the database")
}

// comesBack waits until there is such a worker, for a time at most.
func comesBack(ctx context.Context, conn *pgx.Conn, database, kind string, wait time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		there, err := works(ctx, conn, database, kind)
		switch {
		case ctx.Err() != nil:
			return false, nil
		case err != nil || there:
			return there, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, nil
		}
	}
}

// cronWorks reports whether the scheduler is at work in the live database, or should
// be: an earlier swap may have ended it. What is loaded a superuser alone may know.
func (r *swapRun) cronWorks(ctx context.Context, o *SwapOptions) bool {
	there, err := works(ctx, r.admin, o.Live, cronWorker)
	if err == nil && !there {
		there, err = cronLoaded(ctx, r.admin, o.Live)
	}
	if err != nil {
		o.Logger.Warn("whether pg_cron's scheduler is at work is not known", "error", err)
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
func (r *swapRun) awaitCron(ctx context.Context, o *SwapOptions, worked bool, done *Swapped) {
	if !worked || done.Closed {
		return
	}
	there, err := comesBack(ctx, r.admin, o.Live, cronWorker, cronRestarts)
	if err != nil {
		o.Logger.Warn("whether pg_cron's scheduler is at work again is not known", "error", err)
	}
	done.CronStopped = !there
}

// cronError says that no job of pg_cron runs any more, or is nil.
func (s *Swapped) cronError() error {
	if !s.CronStopped {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, "restart the server: only then does this version of pg_cron start it again",
		"the swap is done, and pg_cron's scheduler, which a swap ends with the sessions of database %q, is not at work: no job runs", s.Database)
}
