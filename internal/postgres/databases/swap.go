package databases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// SwapOptions name the two databases of a swap.
type SwapOptions struct {
	// Live is the name that clients use. LiveExists is false where there is
	// no such database, so that nothing is set aside.
	Live       string
	LiveExists bool
	// Incoming takes Live's name, and then has IncomingComment as its comment and
	// IncomingOwner as its owner; empty leaves the one that it has.
	Incoming        string
	IncomingComment string
	IncomingOwner   string
	// Closed has the incoming database take no connections once it is live. It
	// takes none either where the live one took none: somebody closed that name.
	Closed bool
	// Kept is the name that the live database gets, with Story as its comment. Swap
	// fills in Story.Closed and Story.Owner.
	Kept  string
	Story pgmedic.Story
	// Target and Maintenance say how to reach the server and through which
	// database; neither Live nor Incoming will do.
	Target      postgres.Target
	Maintenance string
	Logger      *slog.Logger
	// Now is the clock that Outage is measured with.
	Now func() time.Time
}

// Swap makes Incoming the live database by two renames in one transaction: a
// reader of the server sees either the old pair of names or the new one, and
// whoever dies in between leaves the old. A second session ends the sessions of
// both databases meanwhile, because a database in use can't be renamed, and
// clients that connect wait. The database that was live is kept, closed to
// connections.
//
// It returns how long the live name could not be connected to. An error means
// that nothing has changed, except where it says that the outcome is unknown.
// Swap tries a few times where sessions come back faster than they can be ended.
func Swap(ctx context.Context, o SwapOptions) (outage time.Duration, err error) {
	const tries = 5
	for try := 1; ; try++ {
		var denied bool
		outage, denied, err = swapOnce(ctx, o)
		code := postgres.Code(err)
		if denied && code == "55006" {
			break // each further try would only keep everyone else out
		}
		if err == nil || ctx.Err() != nil || try == tries || (code != "55006" && code != "55P03" && code != "40P01") {
			break
		}
		o.Logger.Info("sessions came back during the swap; trying again", "try", try)
	}
	if postgres.Code(err) == "55006" {
		return 0, pgmedic.Errorf(pgmedic.KindConflict,
			"stop the clients that reconnect, or those that pgmedic's role may not end, then run the command again",
			"swap: database %q stayed in use: %w", o.Live, err)
	}
	if err == nil && !postgres.IsASCII(o.IncomingComment) {
		if err := giveComment(context.WithoutCancel(ctx), o); err != nil {
			o.Logger.Warn("the swap is done, and the database's own comment could not be given back", "database", o.Live, "error", err)
		}
	}
	return outage, err
}

// giveComment gives the new live database a comment that perhaps only a session
// with the database itself can write.
func giveComment(ctx context.Context, o SwapOptions) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := postgres.ConnectBytes(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	return SetOwnComment(ctx, conn, o.Target.WithDatabase(o.Live), o.IncomingComment)
}

// swapOnce reports denied where a session could not be ended for want of
// privilege.
func swapOnce(ctx context.Context, o SwapOptions) (outage time.Duration, denied bool, err error) {
	conn, err := postgres.ConnectBytes(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return 0, false, err
	}
	defer postgres.Close(ctx, conn)
	// Before a client's session is ended, all that could fail is looked at.
	pair, err := readSwapPair(ctx, conn, &o)
	if err != nil {
		return 0, false, err
	}
	said, err := says(ctx, conn, o.Incoming, o.IncomingComment)
	if err != nil {
		return 0, false, err
	}
	if !said {
		o.IncomingComment = "" // Swap gives it, once it is done
	}
	statements, err := pair.statements(o)
	if err != nil {
		return 0, false, err
	}
	sessions, err := endSessions(ctx, o)
	if err != nil {
		return 0, false, err
	}
	defer sessions.stop()
	began := o.Now()
	// synchronous_commit: the copy may have been loaded without; once this
	// commit is on disk, so is all that went before it. It waits for the disk
	// here and for no standby: one that is lost would keep the name closed to
	// everyone. The idle timeout: should our host vanish without a word, the
	// server gives the names free again.
	begin := "BEGIN; SET LOCAL lock_timeout = '3s'; SET LOCAL synchronous_commit = local; SET LOCAL idle_in_transaction_session_timeout = '10s'"
	if err := postgres.ExecSimple(ctx, conn, begin); err != nil {
		return 0, false, postgres.Wrap(err, "begin the swap")
	}
	failpoint.Hit(ctx, "swap-begun")
	for i, sql := range statements {
		if err := postgres.ExecSimple(ctx, conn, sql); err != nil {
			err = postgres.Wrap(err, "swap the databases")
			if pgmedic.KindOf(err) == pgmedic.KindUnreachable {
				abandon(ctx, o, postgres.PID(conn))
			}
			return 0, sessions.denied.Load(), err
		}
		if i == 0 {
			failpoint.Hit(ctx, "swap-renamed-first")
		}
	}
	failpoint.Hit(ctx, "swap-before-commit")
	// From here on an interrupt must not leave us ignorant of the outcome.
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := postgres.ExecSimple(commit, conn, "COMMIT"); err != nil {
		look, cancelLook := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // the commit's own time may be over
		defer cancelLook()
		if err := commitUnknown(look, o, postgres.PID(conn), err); err != nil {
			return 0, false, err
		}
		o.Logger.Warn("the answer to the swap's commit was lost; the server says that it took place")
	}
	failpoint.Hit(ctx, "swap-committed")
	return o.Now().Sub(began), false, nil
}

// ErrOutcomeUnknown is in the chain of an error of Swap after which either
// database may be live.
var ErrOutcomeUnknown = errors.New("the connection was lost and the outcome is unknown")

// commitUnknown finds out what a COMMIT without an answer did; nil means that
// the swap took place.
func commitUnknown(ctx context.Context, o SwapOptions, pid uint32, cause error) error {
	unknown := pgmedic.Errorf(pgmedic.KindUnreachable,
		"list the databases: if "+o.Incoming+" is gone, the swap is done; else the old database is live",
		"commit the swap: %w: %w", ErrOutcomeUnknown, cause)
	conn, err := postgres.ConnectBytes(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return unknown
	}
	defer postgres.Close(ctx, conn)
	// While the session lives, the COMMIT may be under way, or never come.
	if err := endSession(ctx, conn, pid); err != nil {
		return unknown
	}
	switch exists, err := Exists(ctx, conn, o.Incoming); {
	case err != nil:
		return unknown
	case exists:
		return postgres.Wrap(cause, "commit the swap (it did not take place)")
	}
	return nil // its name is gone: the renames are in force
}

// abandon ends a session whose connection was lost within the swap: the server
// may not have noticed, and its locks keep every client out.
func abandon(ctx context.Context, o SwapOptions, pid uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	conn, err := postgres.ConnectBytes(ctx, o.Target.WithDatabase(o.Maintenance))
	if err == nil {
		defer postgres.Close(ctx, conn)
		err = endSession(ctx, conn, pid)
	}
	if err != nil {
		o.Logger.Warn("the swap's session may live on for up to ten seconds, during which no client can connect", "error", err)
	}
}

// endSession ends a session and waits until it is gone.
func endSession(ctx context.Context, conn *pgx.Conn, pid uint32) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var lives bool
		// Its start tells it from one that got its number since.
		err := conn.QueryRow(ctx, `SELECT coalesce(bool_or(pg_catalog.pg_terminate_backend(pid)), false)
			FROM pg_catalog.pg_stat_activity WHERE pid = $1::int8 AND application_name = current_setting('application_name')
			AND backend_start < (SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid())`, int64(pid)).Scan(&lives)
		if err != nil || !lives {
			return postgres.Wrap(err, "end the swap's session")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("end the swap's session: %w", context.Cause(ctx))
		}
	}
}

// ending is a loop that ends sessions until stop is called.
type ending struct {
	stop func()
	// denied is true once a session could not be ended for want of privilege.
	denied atomic.Bool
}

// endSessions keeps ending the sessions of both databases. It goes by OID, for
// the names change under it.
func endSessions(ctx context.Context, o SwapOptions) (*ending, error) {
	e := &ending{}
	conn, err := postgres.ConnectBytes(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return nil, err
	}
	oids, err := postgres.CollectScalar[uint32](ctx, conn,
		"SELECT oid FROM pg_catalog.pg_database WHERE datname IN ($1, $2)", o.Live, o.Incoming)
	if err != nil {
		postgres.Close(ctx, conn)
		return nil, postgres.Wrap(err, "look for the databases")
	}
	// A statement under way is waited for: to cancel it would take a request of its
	// own, which through a pooler may reach somebody else's statement.
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			e.terminate(ctx, conn, oids, o.Logger)
			select {
			case <-tick.C:
			case <-over:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	e.stop = func() {
		close(over)
		<-done
		postgres.Close(ctx, conn)
	}
	return e, nil
}

func (e *ending) terminate(ctx context.Context, conn *pgx.Conn, oids []uint32, log *slog.Logger) {
	pids, err := postgres.CollectScalar[int32](ctx, conn,
		"SELECT pid FROM pg_catalog.pg_stat_activity WHERE datid = ANY ($1) AND pid <> pg_backend_pid()", oids)
	if err != nil {
		return // the renames report what matters
	}
	for _, pid := range pids {
		// One by one: a session that we may not end must not save the others.
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", pid); err != nil && ctx.Err() == nil {
			if postgres.Code(err) == "42501" {
				e.denied.Store(true)
			}
			log.Debug("a session could not be ended", "pid", pid, "sqlstate", postgres.Code(err))
		}
	}
}
