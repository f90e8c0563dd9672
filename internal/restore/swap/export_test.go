package swap

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// ComesBack is comesBack, for tests.
func ComesBack(ctx context.Context, conn *pgx.Conn, database, kind string, wait time.Duration) (bool, error) {
	return comesBack(ctx, conn, database, kind, wait)
}
