package pgtool

import (
	"context"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// ConnectLoading opens a session that loads dumps: values are computed as in the
// database's own sessions, and its commits need not reach the disk one by one, the
// last of the restore does. Without event triggers takes a superuser: a dump
// refreshes its materialized views after it has made them.
func ConnectLoading(ctx context.Context, t postgres.Target, eventTriggersOff bool) (*pgx.Conn, error) {
	theirs := t.Value("options")
	if theirs == "" {
		theirs = os.Getenv("PGOPTIONS")
	}
	ours, pooler := loadSettings(eventTriggersOff), t.ThroughPooler()
	if !pooler {
		t = t.With("options", strings.TrimSpace(theirs+" "+t.Unhurried()+" "+ours))
	}
	conn, err := postgres.ConnectComputing(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := postgres.AllowViews(ctx, conn); err != nil {
		postgres.Close(ctx, conn)
		return nil, err
	}
	if !pooler {
		return conn, nil
	}
	if _, err := conn.PgConn().Exec(ctx, setSQL(ours)).ReadAll(); err != nil {
		postgres.Close(ctx, conn)
		return nil, postgres.Wrap(err, "set up the session")
	}
	return conn, nil
}

// loadSettings are for sessions that load: one that the server's own limits end
// halfway is useless, and what they write is safe once a later commit of the
// same run is.
func loadSettings(eventTriggersOff bool) string {
	options := "-c synchronous_commit=off -c client_min_messages=warning" +
		" -c default_transaction_read_only=off -c array_nulls=on" + // a role's own, say, after an accident
		" -c standard_conforming_strings=on" // which a dump that relies on another value sets itself
	if eventTriggersOff {
		options += " -c session_replication_role=replica"
	}
	return options
}
