package pool

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sessionKey is where a connection keeps its session among pgx's custom data.
const sessionKey = "pgmedic"

// session is what the pool knows of one connection. It is the tracer of its
// connection, by which it hears of every statement, those in transactions and
// those through database/sql included.
type session struct {
	endpoint *endpoint
	conn     *pgconn.PgConn // set before the connection is used
	socket   socket
	wire     wire

	// These are used by whoever has the connection: when it was opened, when its
	// last statement ended, whether it is to a standby, whether it has refused a
	// write or is to be closed for another reason, and whether it was set to refuse
	// them.
	opened, lastUsed           time.Duration
	standby, refused, readOnly bool

	mu sync.Mutex
	// held and since say whether somebody has the connection, and since when.
	held   bool
	since  time.Duration
	stack  []uintptr
	leaked bool // that it is held for too long was logged
	// op and waited describe the first statement of whoever has it.
	op     operation
	waited time.Duration

	// running, began and sql are those of the present statement; sql stays.
	running bool
	began   time.Duration
	sql     string
	// limit is what a transaction has in place of the query timeout, or 0.
	limit time.Duration
	// unreplicated: the server has committed it, but was cancelled while it waited
	// for its synchronous standbys: a failover may undo it.
	unreplicated atomic.Bool
	// dead: the connection was closed before the statement began.
	dead bool
	// expired: the present or last statement was cancelled for its length.
	expired bool
	// preparing: that statement is prepared by itself, not by what runs it.
	preparing bool
	// cancelling is closed when the cancel of the present statement is over.
	cancelling chan struct{}
}

func sessionOf(conn *pgx.Conn) *session {
	s, _ := conn.PgConn().CustomData()[sessionKey].(*session)
	return s
}

// taken notes that somebody has the connection now, for this, after waiting.
func (s *session) taken(now time.Duration, op operation, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.since, s.leaked = true, now, false
	s.op, s.waited = op, waited
	if s.endpoint.config.LeakAfter > 0 {
		s.stack = make([]uintptr, 32)
		s.stack = s.stack[:runtime.Callers(4, s.stack)]
	}
}

// released notes that no caller has it any more.
func (s *session) released() {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A statement that panicked has had no end.
	s.held, s.limit, s.expired, s.running, s.preparing = false, 0, false, false, false
}

// busy says whether a statement is under way.
func (s *session) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// setLimit replaces the query timeout until the connection is released.
func (s *session) setLimit(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = d
}

// bound is how long a statement may take, or not above 0.
func (s *session) bound() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.boundLocked()
}

func (s *session) boundLocked() time.Duration {
	return orDefault(s.limit, s.endpoint.config.QueryTimeout)
}

// timedOut says whether the last statement was cancelled for its length.
func (s *session) timedOut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expired
}

// begin notes that a statement begins.
func (s *session) begin(sql string) {
	now := s.endpoint.clock()
	s.unreplicated.Store(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.began, s.sql, s.expired = true, now, sql, false
	s.dead = s.conn.IsClosed()
}

// unsent says whether nothing of the last statement has reached the server, after
// this error of it. Pgx alone can't be asked: where a connection is lost while a
// statement of the simple protocol waits for its answer (every COMMIT is one, and
// every Exec without arguments), pgx says that it was closed already and that
// trying again is safe.
func (s *session) unsent(err error) bool {
	if errors.Is(err, pgconn.ErrConnClosed) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.dead
	}
	return pgconn.SafeToRetry(err) || endedIdle(err) || s.unread(err)
}

// end notes that a statement has ended, and accounts for it.
func (s *session) end(ctx context.Context, op operation, rows int64, err error) {
	now := s.endpoint.clock()
	s.lastUsed = now
	s.mu.Lock()
	cancelling := s.cancelling
	if cancelling != nil {
		// The next statement must not be the one that the cancel hits.
		s.mu.Unlock()
		<-cancelling
		_ = s.conn.Conn().SetDeadline(time.Time{})
		s.mu.Lock()
		s.cancelling = nil
	}
	took, waited, sql := now-s.began, s.waited, s.sql
	bound := s.boundLocked()
	if err != nil && sqlState(err) == "57014" && ctx.Err() == nil && bound > 0 && took >= bound {
		s.expired = true // the server was first
	}
	expired := s.expired
	if op == opAny {
		op = s.op
	}
	s.running, s.waited, s.op = false, 0, opQuery
	s.mu.Unlock()

	e := s.endpoint
	e.durations.observe(op, outcomeOf(err, expired), took)
	if limit := e.config.SlowQuery; limit > 0 && took >= limit {
		e.slow.log(ctx, slowStatement{server: e.name, sql: sql, took: took, waited: waited, rows: rows, err: err})
	}
}

// outcomeOf sorts how a statement ended.
func outcomeOf(err error, expired bool) outcome {
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		return outcomeOK
	}
	switch class := Classify(err); {
	case expired || class == ClassTimeout:
		return outcomeTimeout
	case class == ClassCanceled:
		return outcomeCanceled
	case class == ClassUnavailable || class == ClassConnectionLost || class == ClassOverload:
		return outcomeUnavailable
	}
	return outcomeError
}

// TraceQueryStart is pgx's call at the begin of a statement.
func (s *session) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.begin(data.SQL)
	if t := s.endpoint.tracers.query; t != nil {
		return t.TraceQueryStart(ctx, conn, data)
	}
	return ctx
}

// TraceQueryEnd is pgx's call when its rows are read.
func (s *session) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if t := s.endpoint.tracers.query; t != nil {
		t.TraceQueryEnd(ctx, conn, data)
	}
	s.end(ctx, opAny, data.CommandTag.RowsAffected(), data.Err)
}

// TraceBatchStart is pgx's call at the begin of a batch.
func (s *session) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	sql := ""
	if len(data.Batch.QueuedQueries) > 0 {
		sql = data.Batch.QueuedQueries[0].SQL
	}
	s.begin(sql)
	if t := s.endpoint.tracers.batch; t != nil {
		return t.TraceBatchStart(ctx, conn, data)
	}
	return ctx
}

// TraceBatchQuery is pgx's call after each statement of a batch.
func (s *session) TraceBatchQuery(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	if t := s.endpoint.tracers.batch; t != nil {
		t.TraceBatchQuery(ctx, conn, data)
	}
}

// TraceBatchEnd is pgx's call when a batch is read.
func (s *session) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	if t := s.endpoint.tracers.batch; t != nil {
		t.TraceBatchEnd(ctx, conn, data)
	}
	s.end(ctx, opBatch, 0, data.Err)
}

// TraceCopyFromStart is pgx's call at the begin of a COPY.
func (s *session) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	s.begin("copy " + data.TableName.Sanitize() + " from stdin")
	if t := s.endpoint.tracers.copyFrom; t != nil {
		return t.TraceCopyFromStart(ctx, conn, data)
	}
	return ctx
}

// TraceCopyFromEnd is pgx's call at its end.
func (s *session) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	if t := s.endpoint.tracers.copyFrom; t != nil {
		t.TraceCopyFromEnd(ctx, conn, data)
	}
	s.end(ctx, opCopy, data.CommandTag.RowsAffected(), data.Err)
}

// TracePrepareStart is pgx's call before it prepares a statement. Mostly that is part
// of running it.
func (s *session) TracePrepareStart(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	if !s.busy() {
		s.begin(data.SQL)
		s.prepares(true)
	}
	if t := s.endpoint.tracers.prepare; t != nil {
		return t.TracePrepareStart(ctx, conn, data)
	}
	return ctx
}

// TracePrepareEnd is pgx's call after that.
func (s *session) TracePrepareEnd(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareEndData) {
	if t := s.endpoint.tracers.prepare; t != nil {
		t.TracePrepareEnd(ctx, conn, data)
	}
	if s.prepares(false) {
		s.end(ctx, opAny, 0, data.Err)
	}
}

// prepares notes that a statement is prepared by itself, or not any more, and returns
// whether one was until now.
func (s *session) prepares(now bool) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.preparing = s.preparing, now
	return before
}

// TraceConnectStart passes on.
func (s *session) TraceConnectStart(ctx context.Context, data pgx.TraceConnectStartData) context.Context {
	if t := s.endpoint.tracers.connect; t != nil {
		return t.TraceConnectStart(ctx, data)
	}
	return ctx
}

// TraceConnectEnd passes on.
func (s *session) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	if t := s.endpoint.tracers.connect; t != nil {
		t.TraceConnectEnd(ctx, data)
	}
}

// holder describes who has the connection, for people.
func (s *session) holder(now time.Duration) (h Holder, held bool) {
	s.mu.Lock()
	sql := s.sql
	h, held = Holder{Held: now - s.since, Running: s.running}, s.held
	stack := s.stack
	s.mu.Unlock()
	if held {
		h.SQL, h.TakenBy = normalise(sql), frames(stack)
		if s.endpoint.pooled.Load() == pooledNo {
			h.PID = s.conn.PID()
		}
	}
	return h, held
}
