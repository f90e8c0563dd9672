package restore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// ComesBack is comesBack, for tests.
func ComesBack(ctx context.Context, conn *pgx.Conn, database, kind string, wait time.Duration) (bool, error) {
	return comesBack(ctx, conn, database, kind, wait)
}

// Chosen returns what patterns name, by the names in the rescue's schema.
func Chosen(b *pgmedic.Backup, patterns ...string) (map[string]string, error) {
	names, err := chooseTables(b, patterns)
	chosen := map[string]string{}
	for _, n := range names {
		chosen[n.as] = n.String()
	}
	return chosen, err
}
