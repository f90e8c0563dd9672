package restore

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// refusePoolersSettings refuses to load through a pooler where the server, the
// role or the database sets what pg_restore must have otherwise: array_nulls = off
// alone turns nulls into texts, silently. Without a pooler its sessions begin with
// settings of ours.
func (s *Session) refusePoolersSettings(ctx context.Context) error {
	if !s.Database.ThroughPooler() {
		return nil
	}
	conn, err := postgres.ConnectComputing(ctx, s.Database)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	if !postgres.Pooled(conn) {
		return nil
	}
	// The role is in no view of settings.
	rows, err := conn.Query(ctx, `SELECT s.name FROM pg_catalog.pg_settings AS s
WHERE s.name IN ('array_nulls', 'default_transaction_read_only', 'session_replication_role') AND s.reset_val NOT IN ('origin',
	CASE s.name WHEN 'array_nulls' THEN 'on' ELSE 'off' END)
UNION SELECT 'role' FROM pg_catalog.pg_db_role_setting AS r, unnest(r.setconfig) AS c (item)
WHERE c.item LIKE 'role=%' AND r.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()))
	AND r.setrole IN (0, (SELECT u.oid FROM pg_catalog.pg_roles AS u WHERE u.rolname = session_user))
ORDER BY 1`)
	if err != nil {
		return postgres.Wrap(err, "read the settings of sessions through the pooler")
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return postgres.Wrap(err, "read the settings of sessions through the pooler")
	}
	if len(names) > 0 {
		return poolerKeeps(names...)
	}
	return nil
}

func poolerKeeps(settings ...string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, "set DIRECT_URL to the server itself",
		"load through a pooler: sessions have their own %s, which the client programs can't change there", strings.Join(settings, ", "))
}
