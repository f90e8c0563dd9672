package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic"
)

// ConnectReplication opens a connection for the commands of physical replication. It
// belongs to no database, and SQL does not work in it. The role needs the attribute
// REPLICATION, and pg_hba.conf a line for the database "replication". Errors are those of
// Connect, with hints for what replication needs.
func ConnectReplication(ctx context.Context, t Target) (*pgconn.PgConn, error) {
	if t.pooler {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set database.direct_url (DIRECT_URL) to the server itself",
			"the connection string is that of a pooler, which does not pass replication on")
	}
	cfg, err := pgx.ParseConfig(t.dsn())
	if err != nil {
		return nil, parseError(err)
	}
	if cfg.ValidateConnect, err = replicationAttrs(cfg.ValidateConnect); err != nil {
		return nil, err
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if _, ok := t.params["application_name"]; !ok {
		// Not a standby to what counts those: no session reads what it receives.
		cfg.RuntimeParams["application_name"] = "pgmedic wal"
	}
	cfg.RuntimeParams["replication"] = "true"
	said := &greeting{}
	cfg.DialFunc = said.dial(t.dialer())
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if refusesPassword(err) && t.renewal != nil {
		password, ok, renewErr := t.renewal.after(ctx, cfg.Password)
		if renewErr != nil {
			return nil, errors.Join(replicationRefused(ctx, cfg, said, err), renewErr)
		}
		if ok {
			cfg.Password = password
			conn, err = pgconn.ConnectConfig(ctx, &cfg.Config)
		}
	}
	if err != nil {
		return nil, replicationRefused(ctx, cfg, said, err)
	}
	return conn, nil
}

// replicationRefused is connectError with the hints for what replication needs.
func replicationRefused(ctx context.Context, cfg *pgx.ConnConfig, said *greeting, err error) error {
	hint := ""
	switch Code(err) {
	case "28000":
		hint = "check the role's name; if it is right, add a line to the server's pg_hba.conf, such as: hostssl replication ROLE ADDRESS scram-sha-256; and let it reload: SELECT pg_catalog.pg_reload_conf();"
	case "42501":
		hint = "let a superuser run: ALTER ROLE … REPLICATION; with the role that pgmedic connects as"
	case TooManyConnections:
		hint = "raise max_wal_senders on the server, or end other replication connections"
	case "08P01":
		hint = "connect to the server itself, not to a pooler: database.direct_url (DIRECT_URL)"
	}
	for _, other := range []error{errReadOnly, errReadWrite} {
		if Code(err) == "" && ctx.Err() == nil && errors.Is(err, other) {
			return pgmedic.Errorf(pgmedic.KindUnreachable, "name all servers of the cluster in the connection string; after a failover, wait until one is promoted",
				"connect to PostgreSQL at %s: %w", addressOf(cfg), other)
		}
	}
	err = connectError(ctx, cfg, said, err)
	if hint == "" {
		return err
	}
	return &pgmedic.Error{Kind: pgmedic.KindOf(err), Hint: hint, Err: err}
}
