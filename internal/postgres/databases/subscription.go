package databases

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// DetachSubscriptions disables the subscriptions of a restored database and
// takes their slots from them. Otherwise the copy would hold the name of the
// original's slot: enabling it, or dropping it, would reach for the publisher
// and take the changes that the original waits for.
func DetachSubscriptions(ctx context.Context, t postgres.Target) error {
	return eachSubscription(ctx, t, "detach", func(string) []string { return nil })
}

// dropSubscriptions drops a database's subscriptions without a word to their
// publishers.
func dropSubscriptions(ctx context.Context, t postgres.Target) error {
	return eachSubscription(ctx, t, "drop", func(name string) []string { return []string{"DROP SUBSCRIPTION " + name} })
}

func eachSubscription(ctx context.Context, t postgres.Target, verb string, then func(name string) []string) error {
	conn, err := postgres.ConnectLocal(ctx, t)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	rows, err := conn.Query(ctx, `SELECT subname::text FROM pg_catalog.pg_subscription
		WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())`)
	if err != nil {
		return postgres.Wrap(err, "list the subscriptions")
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		return postgres.Wrap(err, "list the subscriptions")
	}
	return postgres.WithoutEventTriggers(ctx, conn, func() error { return alterSubscriptions(ctx, conn, names, verb, then) })
}

func alterSubscriptions(ctx context.Context, conn *pgx.Conn, names []string, verb string, then func(name string) []string) error {
	for _, name := range names {
		quoted := sqltext.QuoteIdent(name)
		statements := append([]string{
			"ALTER SUBSCRIPTION " + quoted + " DISABLE",
			"ALTER SUBSCRIPTION " + quoted + " SET (slot_name = NONE)",
		}, then(quoted)...)
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return postgres.Wrap(err, fmt.Sprintf("%s subscription %s", verb, quoted))
			}
		}
	}
	return nil
}

// DropWhole drops a database of ours, which t names, with its subscriptions, which
// would keep it from being dropped.
func DropWhole(ctx context.Context, admin *pgx.Conn, t postgres.Target, versionNum int) error {
	var subscribed bool
	err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription AS s
		JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid WHERE d.datname = $1)`, t.Database()).Scan(&subscribed)
	if err != nil {
		return postgres.Wrap(err, "look for subscriptions")
	}
	if subscribed {
		if err := dropSubscriptions(ctx, t); err != nil {
			return err
		}
	}
	return Drop(ctx, admin, t.Database(), versionNum)
}
