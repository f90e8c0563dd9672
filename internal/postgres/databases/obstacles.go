package databases

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Obstacles returns what makes a swap of the live database unsafe, each as
// an Error with what to do about it.
func Obstacles(ctx context.Context, conn *pgx.Conn, live string) ([]error, error) {
	var obstacles []error
	for _, o := range []struct {
		sql, what, hint string
	}{
		{`SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = $1`,
			"prepared transaction", "COMMIT PREPARED or ROLLBACK PREPARED it; it would block the rename"},
		{`SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = $1`,
			"logical replication slot", "drop the slot and set replication up again after the swap; it would stay with the old database"},
		// One that is disabled and has no slot receives nothing: so they come
		// back from a backup, and may go with a rollback.
		{`SELECT s.subname::text FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d
			ON d.oid = s.subdbid WHERE d.datname = $1 AND (s.subenabled OR s.subslotname IS NOT NULL)`,
			"subscription", "disable and drop it, and make it again after the swap; it would stay with the old database"},
	} {
		names, err := postgres.CollectScalar[string](ctx, conn, o.sql, live)
		if err != nil {
			return nil, postgres.Wrap(err, "look for a "+o.what)
		}
		for _, name := range names {
			obstacles = append(obstacles, pgmedic.Errorf(pgmedic.KindConflict, o.hint,
				"swap: database %q has a %s: %s", live, o.what, name))
		}
	}
	more, err := databaseObstacles(ctx, conn, live)
	return append(obstacles, more...), err
}

// databaseObstacles are those in the database's own row.
func databaseObstacles(ctx context.Context, conn *pgx.Conn, live string) (obstacles []error, err error) {
	var template bool
	var limit int
	err = conn.QueryRow(ctx, "SELECT datistemplate, datconnlimit FROM pg_catalog.pg_database WHERE datname = $1", live).
		Scan(&template, &limit)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, postgres.Wrap(err, "look at database "+sqltext.QuoteIdent(live))
	}
	if template {
		obstacles = append(obstacles, pgmedic.Errorf(pgmedic.KindConflict,
			"ALTER DATABASE "+sqltext.QuoteIdent(live)+" IS_TEMPLATE false; first, and make the new one a template after the swap",
			"swap: database %q is a template, from which others may be made at any moment", live))
	}
	if limit == -2 { // DROP DATABASE marks it so before it removes files
		obstacles = append(obstacles, pgmedic.Errorf(pgmedic.KindConflict,
			"finish that: DROP DATABASE "+sqltext.QuoteIdent(live)+"; then run the command again",
			"swap: database %q is what an interrupted DROP DATABASE left, and can't be kept", live))
	}
	return obstacles, nil
}
