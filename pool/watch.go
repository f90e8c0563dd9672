package pool

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"
)

// The bounds of how often the watch looks.
const (
	watchOften  = 10 * time.Millisecond
	watchSeldom = 250 * time.Millisecond
)

// watch ends statements that take too long and reports connections that are held
// for too long, until the context ends. A deadline for each statement would cost
// more than all else that a call costs; one look at all of them costs nothing.
func (e *endpoint) watch(ctx context.Context) {
	shortest := watchSeldom
	for _, d := range []time.Duration{e.config.QueryTimeout, e.config.SocketTimeout, e.config.LeakAfter} {
		if d > 0 {
			shortest = min(shortest, d/10)
		}
	}
	tick := time.NewTicker(max(shortest, watchOften))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := e.clock()
		for _, s := range e.allSessions() {
			e.look(ctx, s, now)
		}
	}
}

// verdict is what is to be done about a session.
type verdict int

const (
	leaveAlone verdict = iota
	cancelStatement
	cutConnection
)

// judge says what is to be done about a statement that has run for so long.
// Query and socket are the limits, zero where there is none; a transaction's own
// limit replaces the first, and is kept to by the second.
func judge(ran, query, own, socket time.Duration) verdict {
	if own > 0 {
		query = own
		if socket > 0 {
			socket = max(socket, own)
		}
	}
	switch {
	case query > 0 && ran >= query:
		return cancelStatement
	case socket > 0 && ran >= socket:
		return cutConnection
	}
	return leaveAlone
}

// look does what is to be done about a session.
func (e *endpoint) look(ctx context.Context, s *session, now time.Duration) {
	e.lookAtStatement(ctx, s, now)
	held, leak := s.leak(now, e.config.LeakAfter)
	if !leak {
		return
	}
	// The logger is the caller's, and may itself use the pool.
	e.leaks.Add(1)
	e.config.Logger.LogAttrs(ctx, slog.LevelWarn, "a connection is held for long",
		slog.String("server", e.name), slog.Duration("held", held.held), slog.Bool("statement_running", held.running),
		slog.String("statement", normalise(held.sql)), slog.String("taken_by", frames(held.stack)))
}

func (e *endpoint) lookAtStatement(ctx context.Context, s *session, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || s.cancelling != nil || s.expired {
		return
	}
	limit := e.config.QueryTimeout
	if limit > 0 && e.pooled.Load() == pooledNo {
		// The server's own limit is the gentler one: let it come first.
		limit += min(limit/10, 100*time.Millisecond)
	}
	switch judge(now-s.began, limit, s.limit, e.config.SocketTimeout) {
	case cancelStatement:
		s.expired = true
		done := make(chan struct{})
		s.cancelling = done
		e.overdue.Add(1)
		e.cancels.Go(func() { e.cancel(ctx, s, done) })
	case cutConnection:
		s.expired = true
		e.overdue.Add(1)
		_ = s.conn.Conn().SetDeadline(time.Unix(1, 0))
	}
}

// leak is somebody who holds a connection for too long.
type leak struct {
	held    time.Duration
	running bool
	sql     string
	stack   []uintptr
}

// leak says whether the connection is held for too long, the first time that it is
// asked after that.
func (s *session) leak(now, limit time.Duration) (l leak, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit <= 0 || !s.held || s.leaked || now-s.since < limit {
		return leak{}, false
	}
	s.leaked = true
	return leak{held: now - s.since, running: s.running, sql: s.sql, stack: s.stack}, true
}

// cancel asks the server to end the statement of a session, and gives it until
// the end of the grace to do so.
func (e *endpoint) cancel(ctx context.Context, s *session, done chan struct{}) {
	defer close(done)
	deadline := time.Now().Add(e.config.CancelGrace)
	_ = s.conn.Conn().SetDeadline(deadline)
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	if err := s.conn.CancelRequest(ctx); err != nil {
		e.config.Logger.LogAttrs(ctx, slog.LevelDebug, "could not ask for a cancel", slog.String("server", e.name))
	}
	// The request has arrived, but the signal that it causes may still be on its
	// way: it must not hit the next statement.
	timer := time.NewTimer(cancelFlight)
	defer timer.Stop()
	<-timer.C
}

// frames prints a stack in one line, the caller of the pool first.
func frames(stack []uintptr) string {
	var b strings.Builder
	callers := runtime.CallersFrames(stack)
	for {
		frame, more := callers.Next()
		own := strings.HasPrefix(frame.Function, "github.com/pgmedic/pgmedic/pool.") && !strings.HasSuffix(frame.File, "_test.go")
		if frame.Function != "" && !own && !strings.Contains(frame.Function, "jackc/pgx/v5/pgxpool.") {
			if b.Len() > 0 {
				b.WriteString(" < ")
			}
			fmt.Fprintf(&b, "%s:%d", frame.Function, frame.Line)
		}
		if !more {
			return b.String()
		}
	}
}
