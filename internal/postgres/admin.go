package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// ConnectAdmin opens a session that makes, names and drops databases, with the
// maintenance database. Their names and those of roles are as they are stored. Its
// commits wait as ConnectLocal's do.
func ConnectAdmin(ctx context.Context, t Target, maintenance string) (*pgx.Conn, error) {
	conn, err := ConnectBytes(ctx, t.WithDatabase(maintenance))
	if err != nil {
		return nil, err
	}
	return withCommit(ctx, conn, "local")
}

// ConnectLocal opens a session whose commits are on the server's own disk. It
// waits for no standby: one that is lost would keep it waiting, and what it has
// begun, for ever.
func ConnectLocal(ctx context.Context, t Target) (*pgx.Conn, error) {
	conn, err := Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	return withCommit(ctx, conn, "local")
}

// ConnectLoading opens a session that loads rows: values are computed as in the
// database's own sessions, and its commits need not reach the disk one by one, the
// last of the restore does.
func ConnectLoading(ctx context.Context, t Target) (*pgx.Conn, error) {
	conn, err := ConnectComputing(ctx, t)
	if err != nil {
		return nil, err
	}
	return withCommit(ctx, conn, "off")
}

// withCommit says what the session's commits wait for. It closes the session where
// that can't be said.
//
// Through a pooler it stays as it is rather than be off: should pgmedic be killed,
// the application could be given the server session next.
func withCommit(ctx context.Context, conn *pgx.Conn, commit string) (*pgx.Conn, error) {
	if commit == "off" && Pooled(conn) {
		return conn, nil
	}
	if _, err := conn.Exec(ctx, "SET synchronous_commit = "+commit); err != nil {
		Close(ctx, conn)
		return nil, Wrap(err, "set up the session")
	}
	return conn, nil
}

// IsSuperuser reports whether the role that a session logged in as is a superuser.
func IsSuperuser(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var superuser bool
	err := conn.QueryRow(ctx, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user").Scan(&superuser)
	return superuser, Wrap(err, "read the role's privileges")
}
