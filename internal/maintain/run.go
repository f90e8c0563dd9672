package maintain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say how a plan is run.
type Options struct {
	// Disk says how much is free. Nil is not known, and then nothing is rebuilt.
	Disk Disk
	// Event is called as steps begin, go on and end; nil is nothing. It may be called by
	// another goroutine than Run's, never by two at once.
	Event func(pgmedic.Event)
	// Logger gets a line for each step; nil logs nothing.
	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// LongTransaction is the age of a transaction of the database at which no REINDEX is
	// begun: that waits for every transaction that began before it. Zero is a minute,
	// which is our choice: what has run for that long will rarely end within the 5 s
	// that a statement waits.
	LongTransaction time.Duration
	// MaxLag is how far a standby may be behind for a REINDEX, which writes a whole
	// index into the WAL. Zero is a minute, the default of
	// report.thresholds.replication_lag_warn.
	MaxLag time.Duration
}

const (
	// watchEvery is how often a running statement is watched.
	watchEvery = time.Second
	// watchPatience is how long the server may take to say how far a statement is.
	watchPatience = 10 * time.Second
	// cancelPatience is how long the server may take to end a statement that was
	// cancelled. Then its session is given up.
	cancelPatience = 30 * time.Second
	// leftoverPatience bounds dropping what a REINDEX left, also after an interrupt.
	leftoverPatience = 30 * time.Second
)

// Run runs the steps of a plan, one after the other, and says in each what became of it.
// One that fails does not keep the next from being run. When ctx ends, the running
// statement is cancelled on the server, and what a REINDEX left is dropped. The error is
// the cause of ctx, unless that is ErrWindow, or that the server is gone.
func (s *Session) Run(ctx context.Context, p *Plan, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Event == nil {
		o.Event = func(pgmedic.Event) {}
	}
	if o.LongTransaction <= 0 {
		o.LongTransaction = time.Minute
	}
	if o.MaxLag <= 0 {
		o.MaxLag = time.Minute
	}
	r := &runner{session: s, conn: s.conn, plan: p, o: o}
	defer r.closeSide(ctx)
	for i := range p.Steps {
		step := &p.Steps[i]
		if step.Outcome != Planned {
			continue
		}
		if cause := r.ended(ctx); cause != nil {
			step.Outcome, step.Detail = Skipped, "it was not begun: "+cause.Error()
			continue
		}
		r.step(ctx, step)
	}
	r.retryLeftovers(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ErrWindow) {
		return cause
	}
	return r.gone
}

// runner runs one plan.
type runner struct {
	session *Session
	conn    *pgx.Conn
	// side watches the other session; nil until it is needed.
	side *pgx.Conn
	plan *Plan
	o    Options
	// left are indexes that this run made and could not drop yet.
	left []leftover
	// gone is why the server can't be worked with any more.
	gone error
}

// ended says why no further step is begun, or returns nil.
func (r *runner) ended(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return r.gone
}

// step runs one step.
func (r *runner) step(ctx context.Context, step *Step) {
	label := string(step.Kind) + " " + step.Object
	began := r.o.Now()
	r.o.Event(pgmedic.Event{Step: label})
	why, err := r.run(ctx, step)
	step.Seconds = max(0, r.o.Now().Sub(began).Seconds())
	switch {
	case err == nil && why == "":
		step.Outcome = Done
	case err == nil:
		step.Outcome, step.Detail = Skipped, why
	case step.Kind == Amcheck && damaged(err):
		step.Outcome, step.Detail = Damaged, err.Error()
	default:
		step.Outcome = Failed
		step.Detail = strings.Join(append([]string{err.Error()}, step.details()...), "; ")
	}
	r.o.Event(pgmedic.Event{Step: label, Finished: step.Outcome == Done, Failed: step.Outcome != Done})
	r.o.Logger.Info("maintenance step ended", "kind", string(step.Kind), "object", step.Object, "outcome", string(step.Outcome), "seconds", step.Seconds, "detail", step.Detail)
}

// details are what was said of a step while it ran.
func (s *Step) details() []string {
	if s.Detail == "" {
		return nil
	}
	return []string{s.Detail}
}

// damaged reports whether an error says that a file is damaged.
func damaged(err error) bool {
	code := postgres.Code(err)
	return code == "XX001" || code == "XX002"
}

// run runs a step's statement. It returns why the step was skipped, if it was.
func (r *runner) run(ctx context.Context, step *Step) (skipped string, err error) {
	same, err := r.same(ctx, step.relation)
	if err != nil || !same {
		return gone, err
	}
	if step.Kind == Reindex {
		return r.reindex(ctx, step)
	}
	r.session.warned = nil
	if err := r.exec(ctx, step, nil); err != nil {
		switch postgres.Code(err) {
		case "55P03":
			return "another session holds a lock on it", nil
		case "42P01", "42704":
			return gone, nil
		}
		return "", err
	}
	// VACUUM and ANALYZE warn of what they pass over, and succeed.
	for _, code := range r.session.warned {
		switch code {
		case "55P03":
			return "another session holds a lock on it", nil
		case "42P01":
			return gone, nil
		default:
			return "the server warned (SQLSTATE " + code + ") and may have passed it over: see its log", nil
		}
	}
	return "", r.removed(ctx, step)
}

// removed returns an error where VACUUM has left more than half of the dead rows that it
// was to remove. From PostgreSQL 15 on, how many are left is known at once.
func (r *runner) removed(ctx context.Context, step *Step) error {
	if step.dead == 0 || r.session.versionNum < 150000 {
		return nil
	}
	var left int64
	if err := r.conn.QueryRow(ctx, "SELECT pg_catalog.pg_stat_get_dead_tuples($1::oid)", int64(step.relation.OID)).Scan(&left); err != nil {
		return postgres.Wrap(err, "read what VACUUM left")
	}
	if left <= step.dead/2 {
		return nil
	}
	return fmt.Errorf("VACUUM had to leave %s: an open transaction, a prepared one, a replication slot or a standby still needs them, see `pgmedic explain vacuum-held-back`",
		words.Plural(left, "dead row"))
}

// same reports whether a table or an index has the name that it had.
func (r *runner) same(ctx context.Context, x Relation) (same bool, err error) {
	err = r.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = $1::oid AND c.relname = $2 AND n.nspname = $3)`, int64(x.OID), x.Name, x.Schema).Scan(&same)
	if err != nil && ctx.Err() == nil && r.conn.IsClosed() {
		r.gone = postgres.Wrap(err, "look for "+x.Name)
	}
	return same, postgres.Wrap(err, "look for the table or index")
}

// errStandby ends a REINDEX that a standby can't keep up with.
var errStandby = errors.New("it was cancelled because of replication")

// exec sends a step's statement and waits for its end. When ctx ends, or watch says so,
// the statement is cancelled on the server and the session goes on: it has to clean up.
func (r *runner) exec(ctx context.Context, step *Step, watch func(ctx context.Context) error) error {
	statement, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	ended := make(chan struct{})
	var cause error
	var watching sync.WaitGroup
	watching.Go(func() {
		cause = r.watch(ctx, ended, watch)
		if cause != nil {
			r.cancel(ctx, ended)
			giveUp()
		}
	})
	err := postgres.ExecSimple(statement, r.conn, step.sql)
	close(ended)
	watching.Wait()
	if err == nil {
		return nil
	}
	if r.conn.IsClosed() && cause == nil {
		r.gone = postgres.Wrap(err, string(step.Kind)+" "+step.Object)
	}
	if cause != nil {
		return cause
	}
	return postgres.Wrap(err, string(step.Kind)+" "+step.Object)
}

// watch returns why a statement that runs is to be cancelled, or nil when it has ended.
func (r *runner) watch(ctx context.Context, ended <-chan struct{}, check func(ctx context.Context) error) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if check != nil {
			if err := check(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// cancel has the server cancel the running statement, again and again until it has ended.
func (r *runner) cancel(ctx context.Context, ended <-chan struct{}) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelPatience)
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := r.conn.PgConn().CancelRequest(ctx); err != nil && ctx.Err() == nil {
			r.o.Logger.Debug("a request to cancel a statement failed", "error", err)
		}
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watcher returns the session that watches the other one.
func (r *runner) watcher(ctx context.Context) (*pgx.Conn, error) {
	if r.side == nil || r.side.IsClosed() {
		conn, err := postgres.Connect(ctx, r.session.target.Hearing(nil))
		if err != nil {
			return nil, err
		}
		r.side = conn
	}
	return r.side, nil
}

func (r *runner) closeSide(ctx context.Context) {
	if r.side != nil {
		postgres.Close(ctx, r.side)
	}
}

// watchReindex watches a REINDEX: it tells how far it is, and ends it where a standby
// falls behind.
func (r *runner) watchReindex(step *Step) func(ctx context.Context) error {
	pid, seen := postgres.PID(r.conn), false
	// Without a second session the statement goes on unwatched, as it would by hand.
	unwatched := sync.OnceFunc(func() {
		r.o.Logger.Warn("replication can't be watched while an index is rebuilt", "index", step.Object)
	})
	return func(running context.Context) error {
		ctx, stop := context.WithTimeout(running, watchPatience)
		defer stop()
		conn, err := r.watcher(ctx)
		if err != nil {
			if running.Err() == nil {
				unwatched()
			}
			return nil
		}
		// A standby that reconnects for a moment is none that falls behind.
		var lag float64
		var done, total, index int64
		err = conn.QueryRow(ctx, `
SELECT (SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 FROM pg_catalog.pg_stat_replication WHERE state <> 'backup' AND application_name IS DISTINCT FROM 'pgmedic wal'),
	coalesce(max(p.blocks_done), 0)::int8, coalesce(max(p.blocks_total), 0)::int8, coalesce(max(p.index_relid::int8), 0)
FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.pid = $1`, int64(pid)).Scan(&lag, &done, &total, &index)
		switch {
		case err != nil:
			if running.Err() == nil {
				unwatched()
			}
			return nil
		case lag >= r.o.MaxLag.Seconds():
			return fmt.Errorf("%w: a standby is %s behind", errStandby, words.Seconds(lag))
		}
		if index != 0 && !seen {
			seen = true
			failpoint.Hit(ctx, "maintain-reindexing")
		}
		if total > 0 {
			const block = 8192 // for a share, it does not matter if it is another
			r.o.Event(pgmedic.Event{Step: string(step.Kind) + " " + step.Object, DoneBytes: done * block, TotalBytes: total * block})
		}
		return nil
	}
}
