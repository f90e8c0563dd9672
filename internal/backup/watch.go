package backup

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// watchPause is the time between two checks for sessions that wait for us.
const watchPause = 2 * time.Second

// watchWorthy is how long a session waits before a warning.
const watchWorthy = time.Second

// watchPatience bounds one check.
const watchPatience = 10 * time.Second

// errSnapshotLost is the cause of a run whose snapshot ended under it.
var errSnapshotLost = errors.New("the session that held the snapshot has ended")

// watched runs do, measures what that asks of the server, and ends it when the
// session that holds the snapshot is gone.
func (r *Run) watched(ctx context.Context, do func(context.Context) error) error {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watch{run: r, seen: map[waiter]sighting{}}
	stop := w.start(run, cancel)
	err := do(run)
	held := r.held()
	lost := stop(ctx, err != nil)
	if err == nil {
		r.Manifest.Load = w.load(held)
		return nil
	}
	if ctx.Err() == nil && (lost || errors.Is(context.Cause(run), errSnapshotLost)) {
		return pgmedic.Errorf(pgmedic.KindUnreachable, "find in the server's log what ended it, then run the backup again", "%w", errSnapshotLost)
	}
	if pgmedic.KindOf(err) == pgmedic.KindConflict && len(w.waiting) > 0 {
		s := w.waiting[0]
		return pgmedic.Errorf(pgmedic.KindConflict, "run the backup again when that is done",
			"%w; process %d (user %q, application %q, database %q) waits to change table %s, and others wait behind it",
			err, s.PID, s.User, s.Application, r.Manifest.Database.Name, sqltext.QuoteQualified(s.Schema, s.Table))
	}
	return err
}

// holding notes the snapshot, and when it was taken by this host's clock.
func (r *Run) holding(snapshot string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshot, r.heldSince = snapshot, r.Now()
}

func (r *Run) held() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heldSince.IsZero() {
		return 0
	}
	return r.Now().Sub(r.heldSince)
}

// session counts one session more, until the returned function is called.
func (r *Run) session() (end func()) {
	add := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sessions += n
		r.most = max(r.most, r.sessions)
	}
	add(1)
	return func() { add(-1) }
}

// watch checks, in a session of its own, for sessions that wait for a backup's locks.
// It only reports: a backup goes on without it.
type watch struct {
	run  *Run
	conn *pgx.Conn
	wal  int64 // at the beginning
	grew int64

	waiting []postgres.Waiter // at the last check
	seen    map[waiter]sighting
	longest time.Duration
}

// waiter is one wait of a session.
type waiter struct {
	pid           int32
	schema, table string
}

type sighting struct {
	first  time.Time
	warned bool
}

// start connects and begins to check. The returned function ends that. For a run that
// failed it returns whether the snapshot was lost: code that uses the snapshot may
// notice before the next check.
func (w *watch) start(ctx context.Context, cancel context.CancelCauseFunc) (stop func(ctx context.Context, failed bool) (lost bool)) {
	conn, err := postgres.Connect(ctx, w.run.Target)
	if err != nil {
		w.run.Logger.Debug("cannot monitor lock waiters", "error", err)
		return func(context.Context, bool) bool { return false }
	}
	w.conn = conn
	end := w.run.session()
	if w.wal, err = postgres.WALBytes(ctx, conn); err != nil {
		w.run.Logger.Debug("the WAL is not measured", "error", err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(watchPause)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := w.look(ctx)
			if errors.Is(err, errSnapshotLost) {
				cancel(err)
				return
			}
			if err != nil && conn.IsClosed() {
				w.run.Logger.Debug("stopped monitoring lock waiters", "error", err)
				return
			}
		}
	})
	return func(ctx context.Context, failed bool) (lost bool) {
		close(done)
		wg.Wait()
		if failed && ctx.Err() == nil {
			lost = errors.Is(w.look(ctx), errSnapshotLost)
		}
		if now, err := postgres.WALBytes(ctx, conn); err == nil && w.wal > 0 {
			w.grew = now - w.wal
		}
		postgres.Close(ctx, conn)
		end()
		return lost
	}
}

// look warns, once each, of sessions that wait for the backup.
func (w *watch) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	coordinator := postgres.PID(w.run.conn)
	switch alive, err := postgres.Alive(ctx, w.conn, coordinator); {
	case err != nil:
		return err
	case !alive:
		return errSnapshotLost
	}
	waiters, err := postgres.ReadWaiters(ctx, w.conn, coordinator, w.run.Manifest.Server.VersionNum)
	if err != nil {
		return err
	}
	w.waiting = waiters
	now := w.run.Now()
	for _, s := range waiters {
		key := waiter{s.PID, s.Schema, s.Table}
		sight, known := w.seen[key]
		if !known {
			sight.first = now.Add(-s.Waited)
		}
		waited := now.Sub(sight.first)
		w.longest = max(w.longest, waited)
		if waited >= watchWorthy && !sight.warned {
			sight.warned = true
			w.run.Logger.Warn("a session waits for the backup to end, and others may wait behind it", "pid", s.PID, "user", s.User,
				"application", s.Application, "table", sqltext.QuoteQualified(s.Schema, s.Table), "lock", s.Mode, "waited", waited.Round(time.Second))
		}
		w.seen[key] = sight
	}
	return nil
}

// load is what the run asked of the server, once it has ended.
func (w *watch) load(held time.Duration) *pgmedic.Load {
	l := &pgmedic.Load{Connections: w.run.most, SnapshotSeconds: progress.Seconds(held), WALBytes: w.grew, LongestWaitSeconds: progress.Seconds(w.longest)}
	for _, o := range w.run.Manifest.Objects {
		if o.Role != pgmedic.RoleInventory && o.Role != pgmedic.RoleSums && o.Role != pgmedic.RoleRecovery {
			l.ReadBytes += o.PlainBytes
		}
	}
	pids := map[int32]bool{}
	for s := range w.seen {
		pids[s.pid] = true
	}
	l.BlockedSessions = len(pids)
	return l
}

// Connections is the most sessions that a backup by the method opens at once:
// for the run's lock, the snapshot, the check for waiting sessions and the inventory, and
// those that read.
func Connections(m Method) int {
	const always = 4
	if p, ok := m.(Parallel); ok {
		return always + 2 + p.jobs()
	}
	return always + 1
}
