package pool

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// slowStatement is one that took long.
type slowStatement struct {
	server       string
	sql          string
	took, waited time.Duration
	rows         int64
	err          error
}

// maxKnownStatements bounds what the slow-query log remembers.
const maxKnownStatements = 1000

// slowLog logs slow statements, each only so often. It logs the statement
// without its literals, never arguments, and of an error its class and SQLSTATE
// only.
type slowLog struct {
	logger *slog.Logger
	every  time.Duration

	mu    sync.Mutex
	known map[string]*repetition
	// total is how many were slow, logged or not.
	total int64
}

// repetition is how often a statement was slow since it was last logged.
type repetition struct {
	logged     time.Time
	suppressed int
}

func newSlowLog(logger *slog.Logger, every time.Duration) *slowLog {
	return &slowLog{logger: logger, every: every, known: map[string]*repetition{}}
}

func (l *slowLog) log(ctx context.Context, s slowStatement) {
	sql := normalise(s.sql)
	suppressed, due := l.due(sql, time.Now())
	if !due {
		return
	}
	attrs := []slog.Attr{
		slog.String("server", s.server), slog.String("statement", sql), slog.Duration("took", s.took),
		slog.Duration("waited_for_connection", s.waited), slog.Int64("rows", s.rows),
	}
	if tag := tagOf(ctx); tag != "" {
		attrs = append(attrs, slog.String("tag", tag))
	}
	if s.err != nil {
		attrs = append(attrs, slog.String("outcome", Classify(s.err).String()), slog.String("sqlstate", sqlState(s.err)))
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("not_logged_since_last", suppressed))
	}
	l.logger.LogAttrs(ctx, slog.LevelWarn, "slow statement", attrs...)
}

// due says whether a statement may be logged now, and how often it was slow
// without being logged.
func (l *slowLog) due(sql string, now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	r := l.known[sql]
	if r == nil {
		if len(l.known) >= maxKnownStatements {
			l.forget(now)
		}
		if len(l.known) >= maxKnownStatements {
			return 0, false
		}
		l.known[sql] = &repetition{logged: now}
		return 0, true
	}
	if now.Sub(r.logged) < l.every {
		r.suppressed++
		return 0, false
	}
	suppressed, r.suppressed, r.logged = r.suppressed, 0, now
	return suppressed, true
}

// forget drops what may be logged again anyway.
func (l *slowLog) forget(now time.Time) {
	for sql, r := range l.known {
		if now.Sub(r.logged) >= l.every {
			delete(l.known, sql)
		}
	}
}

func (l *slowLog) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

type (
	tagKey        struct{}
	idempotentKey struct{}
)

// WithTag gives what is done with the context a name, such as that of the HTTP
// handler, for the log of slow statements.
func WithTag(ctx context.Context, tag string) context.Context {
	return context.WithValue(ctx, tagKey{}, tag)
}

func tagOf(ctx context.Context) string {
	tag, _ := ctx.Value(tagKey{}).(string)
	return tag
}

// WithIdempotent says that what is done with the context may be done twice: the
// pool then tries it again even if the connection was lost half-way. A SELECT
// without side effects is of this kind, or an INSERT … ON CONFLICT DO NOTHING
// with a key that the caller has chosen.
func WithIdempotent(ctx context.Context) context.Context {
	return context.WithValue(ctx, idempotentKey{}, true)
}

func isIdempotent(ctx context.Context) bool {
	is, _ := ctx.Value(idempotentKey{}).(bool)
	return is
}
