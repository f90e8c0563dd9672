package databases

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// Outside is something of a database that is not in its rows: it acts by itself,
// reaches other servers, or others reach the database by it.
type Outside struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Note says what a swap means for it.
	Note string `json:"note,omitempty"`
}

// ReadOutside lists what a person has to think of before a database takes
// another one's place. Conn is a session with that database; cron is one with
// the database that pg_cron keeps its jobs in, or nil.
func ReadOutside(ctx context.Context, conn, cron *pgx.Conn) ([]Outside, error) {
	var all []Outside
	for _, q := range []struct{ kind, note, sql string }{
		{"subscription", "stays with the database that is set aside; a backup's come back disabled and detached",
			`SELECT subname::text FROM pg_catalog.pg_subscription
			WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) ORDER BY 1`},
		{"publication", "its subscribers' slots do not move to the incoming database",
			`SELECT pubname::text FROM pg_catalog.pg_publication ORDER BY 1`},
		{"foreign server", "the incoming database may reach it, too",
			`SELECT srvname::text FROM pg_catalog.pg_foreign_server ORDER BY 1`},
		{"extension", "its functions reach other databases",
			`SELECT extname::text FROM pg_catalog.pg_extension WHERE extname = 'dblink' ORDER BY 1`},
		{"event trigger", "the incoming database has its own",
			`SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' ORDER BY 1`},
	} {
		names, err := postgres.CollectScalar[string](ctx, conn, q.sql)
		if err != nil {
			return nil, postgres.Wrap(err, "list each "+q.kind)
		}
		for _, name := range names {
			all = append(all, Outside{Kind: q.kind, Name: name, Note: q.note})
		}
	}
	var database string
	if err := conn.QueryRow(ctx, "SELECT current_database()::text").Scan(&database); err != nil {
		return nil, postgres.Wrap(err, "read the database's name")
	}
	for i, c := range []*pgx.Conn{conn, cron} {
		if c == nil {
			continue
		}
		jobs, err := cronJobs(ctx, c, database)
		if err != nil {
			return nil, err
		}
		note := "runs in whatever database has the name"
		if i == 0 {
			note = "the incoming database has its own jobs"
		}
		for _, name := range jobs {
			all = append(all, Outside{Kind: "pg_cron job", Name: name, Note: note})
		}
	}
	return all, nil
}

// cronJobs names the active pg_cron jobs of a database that another database, or
// this one, keeps. Their commands may hold anything and are not read.
func cronJobs(ctx context.Context, conn *pgx.Conn, database string) ([]string, error) {
	var there, named bool
	err := conn.QueryRow(ctx, `
SELECT count(*) FILTER (WHERE a.attname IN ('jobid', 'schedule', 'database', 'active')) = 4,
	count(*) FILTER (WHERE a.attname = 'jobname') = 1
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'cron' AND c.relname = 'job' AND NOT a.attisdropped
	AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')`).Scan(&there, &named)
	if err != nil || !there {
		return nil, postgres.Wrap(err, "look for pg_cron's jobs")
	}
	name := "NULL"
	if named { // since pg_cron 1.3
		name = "jobname::text"
	}
	jobs, err := postgres.CollectScalar[string](ctx, conn, `SELECT coalesce(`+name+`, jobid::text) || ' (' || schedule || ')'
		FROM cron.job WHERE database = $1 AND active ORDER BY jobid`, database)
	if postgres.Code(err) == "42501" { // row security shows each role its own
		return []string{"unknown: this role may not read all jobs"}, nil
	}
	return jobs, postgres.Wrap(err, "list pg_cron's jobs")
}

// CronDatabase is the database that pg_cron keeps its jobs in.
func CronDatabase(ctx context.Context, conn *pgx.Conn) (string, error) {
	var name string
	err := conn.QueryRow(ctx, "SELECT coalesce(nullif(current_setting('cron.database_name', true), ''), 'postgres')").Scan(&name)
	return name, postgres.Wrap(err, "ask for pg_cron's database")
}
