package postgres_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
)

// breaking is read from and written to once: then the connection is gone, and before it
// the context where it is to end.
type breaking struct{ breaks func() }

func (b breaking) Read(p []byte) (int, error) {
	b.breaks()
	return copy(p, "1\n"), nil
}

func (b breaking) Write(p []byte) (int, error) {
	b.breaks()
	return len(p), nil
}

// TestCopyEnds: a COPY whose context ended says so, also where the connection is closed
// before anybody looks at the context; one whose connection is lost says that.
func TestCopyEnds(t *testing.T) {
	t.Parallel()
	target, _ := database(t)
	ways := map[string]func(ctx context.Context, b breaking) error{
		"in": func(ctx context.Context, b breaking) error {
			conn := postgrestest.Connect(t, target)
			postgrestest.Run(t, conn, "CREATE TEMP TABLE t (n int)")
			breaks := b.breaks
			b.breaks = func() { breaks(); _ = conn.PgConn().Conn().Close() }
			_, err := postgres.CopyIn(ctx, conn, io.Reader(b), "COPY t FROM STDIN")
			return err
		},
		"out": func(ctx context.Context, b breaking) error {
			conn := postgrestest.Connect(t, target)
			breaks := b.breaks
			b.breaks = func() { breaks(); _ = conn.PgConn().Conn().Close() }
			return postgres.CopyOut(ctx, conn, io.Writer(b), "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT")
		},
	}
	for way, run := range ways {
		ctx, cancel := context.WithCancel(t.Context())
		if err := run(ctx, breaking{cancel}); !errors.Is(err, context.Canceled) || pgmedic.KindOf(postgres.Wrap(err, "copy")) != pgmedic.KindInterrupted {
			t.Errorf("%s, interrupted: %v", way, err)
		}
		err := run(t.Context(), breaking{func() {}})
		if kind := pgmedic.KindOf(postgres.Wrap(err, "copy")); err == nil || kind != pgmedic.KindUnreachable {
			t.Errorf("%s, lost: %s: %v", way, kind, err)
		}
		cancel()
	}
}
