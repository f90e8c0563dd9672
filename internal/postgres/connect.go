package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
)

// Session settings of every connection: as pg_dump's, so that a value reads
// and writes the same on every server, text as Go has it whatever the role or
// the database set, and none of the server's timeouts ends
// a long run. A timeout that this version does not know is left out by
// applySession.
const sessionSQL = `
SELECT set_config(name, new, false)
FROM (VALUES
	('client_encoding', 'UTF8'), ('datestyle', 'ISO'), ('intervalstyle', 'postgres'), ('extra_float_digits', '3'),
	('bytea_output', 'hex'), ('xmloption', 'content'), ('timezone', 'UTC'), ('search_path', ''),
	('row_security', 'off'), ('synchronize_seqscans', 'off'), ('statement_timeout', '0'),
	('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'),
	('idle_session_timeout', '0'), ('transaction_timeout', '0'), ('jit', 'off'),
	('restrict_nonsystem_relation_kind', 'view,foreign-table')
) AS v (name, new)
WHERE EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE lower(s.name) = v.name)`

// readBuffer is how much is read from a connection at a time.
const readBuffer = 128 << 10

// Connect opens a session with the target's database, with a known state of
// its settings. An error says in one line what could not be reached and why,
// with KindNotFound for a database that is not there and KindUnreachable for
// everything else. Connect waits at most ten seconds for each host unless the
// target sets connect_timeout.
func Connect(ctx context.Context, t Target) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(t.dsn())
	if err != nil {
		return nil, parseError(err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if _, ok := t.params["application_name"]; !ok {
		cfg.RuntimeParams["application_name"] = "pgmedic"
	}
	// Statements are few and long; a cache of prepared ones would only get in
	// the way of a pooler.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	// The server sends 8 KiB at a time, and each read is a system call.
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBuffer), w)
	}
	conn, err := connectUnhurried(ctx, cfg, t.pooler)
	if err != nil {
		return nil, connectError(ctx, cfg, err)
	}
	if _, err := conn.Exec(ctx, sessionSQL); err != nil {
		Close(ctx, conn)
		return nil, Wrap(err, "set up the session")
	}
	return conn, nil
}

// unhurried are the timeouts that every version knows. They go into the startup
// packet as well: one of a few milliseconds would end the first statement of the
// session, which turns them off.
func unhurried() []string {
	return []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
}

// connectUnhurried connects with the timeouts off from the start, where no pooler
// objects to such a packet.
func connectUnhurried(ctx context.Context, cfg *pgx.ConnConfig, pooler bool) (*pgx.Conn, error) {
	if pooler {
		return pgx.ConnectConfig(ctx, cfg)
	}
	with := cfg.Copy()
	for _, name := range unhurried() {
		with.RuntimeParams[name] = "0"
	}
	conn, err := pgx.ConnectConfig(ctx, with)
	if Code(err) == "08P01" { // PgBouncer's answer to a parameter that it does not keep
		return pgx.ConnectConfig(ctx, cfg)
	}
	return conn, err
}

// Close ends a session within a few seconds, also when ctx has ended. What a
// broken connection says at its end is of no use to anyone.
func Close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

func parseError(err error) error {
	// pgx puts the connection string into its message; keep its reason only.
	reason := "not valid"
	if inner := errors.Unwrap(err); inner != nil {
		reason = inner.Error()
	}
	return badTarget(reason)
}

func connectError(ctx context.Context, cfg *pgx.ConnConfig, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", context.Cause(ctx))
	}
	where := "PostgreSQL at " + address(cfg)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return connectRefused(cfg, where, pgErr)
	}
	reason := "no answer"
	hint := "check that the server runs and that DATABASE_URL or DB_HOST and DB_PORT name it"
	var opErr *net.OpError
	var dnsErr *net.DNSError
	switch {
	case errors.As(err, &dnsErr):
		reason = "no such host"
		hint = "check the host's name in DATABASE_URL or DB_HOST"
	case errors.As(err, &opErr):
		reason = opErr.Err.Error()
		if opErr.Timeout() {
			reason = "timed out"
		}
		reason = strings.TrimPrefix(reason, "connect: ")
	case errors.Is(err, context.DeadlineExceeded):
		reason = "timed out"
	case strings.Contains(err.Error(), "tls"), strings.Contains(err.Error(), "x509"):
		reason = "TLS could not be agreed on"
		hint = "check sslmode and sslrootcert in the connection string"
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable, hint, "connect to %s: %s", where, reason)
}

func connectRefused(cfg *pgx.ConnConfig, where string, e *pgconn.PgError) error {
	kind, hint := pgmedic.KindUnreachable, ""
	switch e.Code {
	case "3D000":
		kind = pgmedic.KindNotFound
		hint = "list the server's databases: psql -l; name one with DB_NAME or in DATABASE_URL"
	case "28P01":
		hint = "check DB_PASSWORD, the password in DATABASE_URL, or ~/.pgpass"
	case "28000":
		hint = "check the user's name and the server's pg_hba.conf"
	case "53300":
		hint = "the server has no free connection: raise max_connections or end idle sessions"
	case "57P03":
		hint = "the server is starting up or shutting down: try again in a moment"
	case "42501":
		hint = fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;",
			pgmedic.QuoteIdent(cfg.Database), pgmedic.QuoteIdent(cfg.User))
	}
	return pgmedic.Errorf(kind, hint, "connect to %s: %w", where, &refusal{e.Code, e.Message})
}

// refusal is what a server said instead of beginning a session. Its message
// names the role, the database and the address, and no rows.
type refusal struct{ code, message string }

func (r *refusal) Error() string { return r.message }

func address(cfg *pgx.ConnConfig) string {
	if strings.HasPrefix(cfg.Host, "/") {
		return fmt.Sprintf("%s (port %d)", cfg.Host, cfg.Port)
	}
	return net.JoinHostPort(cfg.Host, strconv.FormatUint(uint64(cfg.Port), 10))
}
