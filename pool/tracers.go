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

// forPool is the tracer of an endpoint's pgxpool.
func (t tracers) forPool(e *endpoint) pgx.QueryTracer {
	if t.acquire != nil {
		return acquireTracer{poolTracer{e}, t.acquire}
	}
	return poolTracer{e}
}

// poolTracer is how an endpoint hears of connections that are given back, by
// whatever way.
type poolTracer struct{ endpoint *endpoint }

// TraceQueryStart is never called: each connection has its session as tracer.
func (poolTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd is never called either.
func (poolTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceRelease is pgxpool's call before a connection is given back.
func (t poolTracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if user := t.endpoint.tracers.release; user != nil {
		user.TraceRelease(pool, data)
	}
	t.endpoint.released(data.Conn)
}

// acquireTracer tells the caller's tracer of acquires, too.
type acquireTracer struct {
	poolTracer
	pgxpool.AcquireTracer
}
