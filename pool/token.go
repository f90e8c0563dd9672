package pool

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

type tokenKey struct{}

// Token returns a token for what has been written so far: where the primary is
// in its log. Call it after a write, and give it to whoever reads next, within
// the service by WithToken, between services or to a browser as a header or a
// cookie, with LSN.String and ParseLSN. It costs one round trip to the primary.
//
// A token says nothing secret, and one that somebody made up does no harm: a
// read that waits in vain for it goes to the primary.
func (db *DB) Token(ctx context.Context) (LSN, error) {
	var text string
	if err := db.QueryRow(WithIdempotent(ctx), "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("ask for a token: %w", err)
	}
	return ParseLSN(text)
}

// WithToken makes reads with this context see what was written before the token
// was taken: they go to a standby that has it, after waiting for at most
// Config.TokenWait, and else to the primary. Of several tokens in a context the
// latest position counts.
func WithToken(ctx context.Context, token LSN) context.Context {
	if token <= tokenOf(ctx) {
		return ctx
	}
	return context.WithValue(ctx, tokenKey{}, token)
}

func tokenOf(ctx context.Context) LSN {
	token, _ := ctx.Value(tokenKey{}).(LSN)
	return token
}

// How often a standby is asked where it is, while reads wait for it.
const tokenPoll = 2 * time.Millisecond

// await waits until a standby has replayed up to a token, and says whether it
// has.
func (db *DB) await(ctx context.Context, e *endpoint, token LSN) bool {
	limit := e.config.TokenWait
	if limit == 0 || token == 0 {
		return token == 0
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		lsn, err := e.position.ask(ctx, e)
		if err != nil {
			return false
		}
		if lsn >= token {
			return true
		}
		timer := time.NewTimer(tokenPoll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}

// position is where a standby is in the log, as far as is known. Those who want
// to know more at the same time share one question.
type position struct {
	known atomic.Uint64

	mu     sync.Mutex
	asking *question
	closed bool
	// questions are those under way.
	questions sync.WaitGroup
}

type question struct {
	answered chan struct{}
	lsn      LSN
	err      error
}

// ask asks the standby, or waits for the answer that somebody else waits for. It
// waits no longer than the context lasts, even for a standby that is silent: the
// question has its own goroutine, which close waits for.
func (p *position) ask(ctx context.Context, e *endpoint) (LSN, error) {
	q, err := p.question(ctx, e)
	if err != nil {
		return 0, err
	}
	select {
	case <-q.answered:
		return q.lsn, q.err
	case <-ctx.Done():
		return 0, ended(ctx)
	}
}

// question returns the question that is under way, or begins one.
func (p *position) question(ctx context.Context, e *endpoint) (*question, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, ErrShutdown
	case p.asking != nil:
		return p.asking, nil
	}
	q := &question{answered: make(chan struct{})}
	p.asking = q
	// It is others' question, too: whoever began it may go.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.TokenWait)
	p.questions.Go(func() {
		defer cancel()
		q.lsn, q.err = replayedBy(bounded, e)
		if q.err == nil {
			p.known.Store(uint64(q.lsn))
		}
		p.mu.Lock()
		p.asking = nil
		p.mu.Unlock()
		close(q.answered)
	})
	return q, nil
}

// close refuses questions from now on, and waits for the one that is under way.
func (p *position) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.questions.Wait()
}

func replayedBy(ctx context.Context, e *endpoint) (LSN, error) {
	conn, err := e.acquire(ctx, opQuery, forEither)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	var text string
	if err := conn.QueryRow(ctx, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text").Scan(&text); err != nil {
		return 0, err
	}
	return ParseLSN(text)
}
