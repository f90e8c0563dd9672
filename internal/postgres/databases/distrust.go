package databases

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// clockSlack is how far ahead of the server's clock a story may be: a standby that
// was promoted since may have a clock that is a little behind.
const clockSlack = time.Minute

// Distrust returns why the story can't be believed, or empty.
//
// A database's comment, name and closed state are written by whoever owns it, and
// any role with CREATEDB owns what it makes. So a story about the live database
// counts only from a role that could do to that one whatever the story leads to:
// its owner, a superuser, the role that asks, and those that the caller adds. Their
// members are not others: a member of the owner can become the owner, and gives it
// what it makes on its behalf; what it owns by itself does not count.
//
// What a swap sets aside may have had another owner than the database that comes
// in. It is then given to the role that swaps, and Story.Owner has the one to give
// it back to.
func (k Kept) Distrust(owners ...string) string {
	switch {
	case k.OwnerSuperuser, k.OwnerUs, k.LiveOwner != "" && k.Owner == k.LiveOwner, slices.Contains(owners, k.Owner):
		return ""
	case k.LiveOwner == "":
		return fmt.Sprintf("its owner %q is not a superuser, and there is no database %q whose owner it could be: any role with CREATEDB can write such a story", k.Owner, k.Story.Of)
	}
	return fmt.Sprintf("its owner %q is neither a superuser nor %q, which owns database %q: any role with CREATEDB can write such a story", k.Owner, k.LiveOwner, k.Story.Of)
}

// FromFuture reports whether the story says that it was written later than now, by
// the server's clock.
func (k Kept) FromFuture(now time.Time) bool { return k.Story.Since.Sub(now) > clockSlack }

// NextNumber returns the number of the next story of a database that is kept of
// live's name. The caller holds the run lock of that name.
func NextNumber(stories []Kept, live string) int64 {
	var last int64
	for _, k := range stories {
		if k.Story.Of == live && k.Distrust() == "" {
			last = max(last, k.Story.Number)
		}
	}
	return min(last, math.MaxInt64-1) + 1
}

// ServerTime is the server's clock.
func ServerTime(ctx context.Context, conn *pgx.Conn) (time.Time, error) {
	var now time.Time
	err := conn.QueryRow(ctx, "SELECT pg_catalog.clock_timestamp()").Scan(&now)
	return now.UTC(), postgres.Wrap(err, "read the server's clock")
}

// Owner returns the owner of a database, or empty where there is none of
// that name.
func Owner(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	owners, err := ownersByDatabase(ctx, conn)
	if err != nil {
		return "", fmt.Errorf("look for the owner of database %s: %w", sqltext.QuoteIdent(name), err)
	}
	return owners[name], nil
}
