// Package otelpgx makes an OpenTelemetry span of each statement of a pool with otelpgx.
package otelpgx

import (
	"github.com/exaring/otelpgx"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgmedic/pgmedic/pool"
)

// Traced returns the configuration of a pool whose statements become spans of the
// provider, where the context has a span already. A statement that the pool tries again is a
// span each time.
//
// A span is named by what it does (query, prepare or batch query) and its statement without literals, as the pool's slow log has it. The
// statement itself is not among its attributes, since otelpgx would take it with its
// literals. The texts of errors are: those of the server can quote a value.
func Traced(c pool.Config, provider trace.TracerProvider) pool.Config {
	c.Tracer = otelpgx.NewTracer(
		otelpgx.WithTracerProvider(provider),
		otelpgx.WithDisableSQLStatementInAttributes(),
		otelpgx.WithSpanNameFunc(pool.Normalise),
		otelpgx.WithQuerySpanNamePrefix(), // or the PREPARE of a statement has its name, too
	)
	return c
}
