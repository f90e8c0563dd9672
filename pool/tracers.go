package pool

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tracers are the kinds of tracer that the caller's is, each nil if it is not.
type tracers struct {
	query    pgx.QueryTracer
	batch    pgx.BatchTracer
	copyFrom pgx.CopyFromTracer
	prepare  pgx.PrepareTracer
	connect  pgx.ConnectTracer
	acquire  pgxpool.AcquireTracer
	release  pgxpool.ReleaseTracer
}

func tracersOf(t pgx.QueryTracer) (all tracers) {
	all.query = t
	all.batch, _ = t.(pgx.BatchTracer)
	all.copyFrom, _ = t.(pgx.CopyFromTracer)
	all.prepare, _ = t.(pgx.PrepareTracer)
	all.connect, _ = t.(pgx.ConnectTracer)
	all.acquire, _ = t.(pgxpool.AcquireTracer)
	all.release, _ = t.(pgxpool.ReleaseTracer)
	return all
}

// poolTracer is how an endpoint hears of connections that are taken and given
// back, by whatever way.
type poolTracer struct{ endpoint *endpoint }

// TraceQueryStart is never called: each connection has its session as tracer.
func (poolTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd is never called either.
func (poolTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceAcquireStart passes on.
func (t poolTracer) TraceAcquireStart(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireStartData) context.Context {
	if user := t.endpoint.tracers.acquire; user != nil {
		return user.TraceAcquireStart(ctx, pool, data)
	}
	return ctx
}

// TraceAcquireEnd is pgxpool's call when a connection is taken.
func (t poolTracer) TraceAcquireEnd(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	if data.Err == nil {
		t.endpoint.taken(data.Conn)
	}
	if user := t.endpoint.tracers.acquire; user != nil {
		user.TraceAcquireEnd(ctx, pool, data)
	}
}

// TraceRelease is pgxpool's call before a connection is given back.
func (t poolTracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if user := t.endpoint.tracers.release; user != nil {
		user.TraceRelease(pool, data)
	}
	t.endpoint.released(data.Conn)
}
