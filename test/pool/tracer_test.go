package pool_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/pool"
)

// listener is a tracer of every kind that pgx knows, which counts what it is told. As
// tracers do, it hangs contexts of its own below those that it is given.
type listener struct {
	mu    sync.Mutex
	heard map[string]int
}

func (l *listener) hear(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[what]++
}

type span struct{}

func (l *listener) begin(ctx context.Context, what string) context.Context {
	l.hear(what + " begins")
	ctx, end := context.WithCancel(ctx)
	return context.WithValue(ctx, span{}, end)
}

func (l *listener) end(ctx context.Context, what string) {
	end, began := ctx.Value(span{}).(context.CancelFunc)
	if !began {
		l.hear(what + " ends without its context")
		return
	}
	end()
	l.hear(what + " ends")
}

func (l *listener) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return l.begin(ctx, "query")
}

func (l *listener) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	l.end(ctx, "query")
}

func (l *listener) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return l.begin(ctx, "batch")
}

func (l *listener) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	l.hear("one of a batch")
}

func (l *listener) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchEndData) {
	l.end(ctx, "batch")
}

func (l *listener) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return l.begin(ctx, "copy")
}

func (l *listener) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromEndData) {
	l.end(ctx, "copy")
}

func (l *listener) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	return l.begin(ctx, "prepare")
}

func (l *listener) TracePrepareEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareEndData) {
	l.end(ctx, "prepare")
}

func (l *listener) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return l.begin(ctx, "connect")
}

func (l *listener) TraceConnectEnd(ctx context.Context, _ pgx.TraceConnectEndData) {
	l.end(ctx, "connect")
}

func (l *listener) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return l.begin(ctx, "acquire")
}

func (l *listener) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	l.end(ctx, "acquire")
}

func (l *listener) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { l.hear("release") }

// TestTracer: the caller's tracer hears all that pgx and pgxpool tell, each thing once.
func TestTracer(t *testing.T) {
	t.Parallel()
	l := &listener{heard: map[string]int{}}
	db := open(t, pool.Config{
		PrimaryURL: scratchtest.Database(t, server), Tracer: l, MaxConns: 1, Pooler: pool.PoolerNone, SlowQuery: -1, QueryTimeout: time.Minute,
	})
	ctx := t.Context()
	exec(t, db, "CREATE TABLE t (n int)")
	for range 2 { // of which one prepares
		exec(t, db, "INSERT INTO t VALUES ($1)", 1)
	}
	if n, err := db.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}})); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT 2")
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	err := db.InTx(ctx, pool.TxOptions{}, func(tx pgx.Tx) error {
		_, err := tx.Prepare(ctx, "p", "SELECT 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{
		"query begins": 5, "query ends": 5, // three statements, begin and commit
		"copy begins": 1, "copy ends": 1, "batch begins": 1, "batch ends": 1, "one of a batch": 2,
		"prepare begins": 3, "prepare ends": 3, // that of COPY is one
		"connect begins": 1, "connect ends": 1, "acquire begins": 7, "acquire ends": 7, "release": 7, // one is that of Open
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !maps.Equal(l.heard, want) {
		t.Errorf("heard %v,\nwant  %v", l.heard, want)
	}
}
