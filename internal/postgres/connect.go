package postgres

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// readBuffer is how much is read from a connection at a time.
const readBuffer = 128 << 10

// Connect opens a session with the target's database, in which only pg_catalog
// is searched for names and the settings are known. It is the only way to open
// one: every other statement of pgmedic relies on that search path. An error says in
// one line what could not be reached and why, with KindNotFound for a database that
// is not there, KindUsage for a pooler that does not keep a server session for each
// connection, and KindUnreachable for everything else. Connect waits at most ten
// seconds for each host unless the target sets connect_timeout.
func Connect(ctx context.Context, t Target) (*pgx.Conn, error) {
	return connect(ctx, t, everySession+readingSession)
}

// ConnectComputing is Connect for a session in which the server computes values:
// generated columns, the keys of indexes, materialized views, checks. It keeps the
// database's own settings of all that such values can depend on, such as TimeZone
// and default_text_search_config; ValueSettings lists them.
func ConnectComputing(ctx context.Context, t Target) (*pgx.Conn, error) {
	return connect(ctx, t, everySession)
}

func connect(ctx context.Context, t Target, settings string) (*pgx.Conn, error) {
	for began := time.Now(); ; {
		conn, err := connectOnce(ctx, t, settings)
		if !t.patient || Code(err) != TooManyConnections || time.Since(began) > patience {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(patience / 50):
		}
	}
}

func connectOnce(ctx context.Context, t Target, settings string) (*pgx.Conn, error) {
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
	cfg.OnNotice = t.notices()
	said := &greeting{}
	cfg.DialFunc = said.dial(t.dialer())
	// Statements are few and long; a cache of prepared ones would only get in
	// the way of a pooler.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	// Each read is a system call.
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(newPaced(said.hear(r)), readBuffer), w)
	}
	seen, _ := t.known.get(t.address())
	for try := 1; ; try++ {
		conn, err := connectUnhurried(ctx, cfg, t, seen.major)
		if refusesPassword(err) && t.renewal != nil {
			password, ok, renewErr := t.renewal.after(ctx, cfg.Password)
			if renewErr != nil {
				return nil, errors.Join(connectError(ctx, cfg, said, err), renewErr)
			}
			if ok {
				cfg.Password = password
				conn, err = connectUnhurried(ctx, cfg, t, seen.major)
			}
		}
		if err != nil {
			return nil, connectError(ctx, cfg, said, err)
		}
		seen.major = majorOf(conn)
		if err = t.setUp(ctx, conn, settings); err == nil {
			return conn, nil
		}
		Close(ctx, conn)
		// The first session may have met a timeout that only newer servers have.
		if try > 1 || seen.major < 14 || pgmedic.KindOf(err) != pgmedic.KindUnreachable {
			return nil, err
		}
	}
}

// setUp gives a new session its settings, and remembers what it is with.
func (t Target) setUp(ctx context.Context, conn *pgx.Conn, settings string) error {
	if err := refuseSharing(ctx, conn, t); err != nil {
		return err
	}
	t.known.set(t.address(), shown{major: majorOf(conn), pooler: Pooled(conn) || !beganUnhurried(conn) && !t.pooler})
	return setUpSession(ctx, conn, settings, AsksRole(t.Value("options")))
}

// refuseSharing empties the search path of a session that is the connection's own,
// and returns an error for a pooler by which it is not.
func refuseSharing(ctx context.Context, conn *pgx.Conn, t Target) error {
	s, direct, err := begin(ctx, conn)
	if direct || err != nil {
		return err
	}
	asked := &poolers{}
	if t.known != nil {
		asked = &t.known.poolers
	}
	err = asked.keepsSessions(ctx, conn, s, func(ctx context.Context) (*pgx.Conn, error) {
		another, err := pgx.ConnectConfig(ctx, conn.Config())
		if err != nil {
			return nil, connectError(ctx, conn.Config(), &greeting{}, err)
		}
		return another, nil
	})
	if err != nil {
		return err
	}
	pid, err := strconv.ParseUint(s.pid, 10, 32)
	if err != nil {
		return fmt.Errorf("read the id of the server's process: %w", err)
	}
	conn.PgConn().CustomData()[pooledKey] = uint32(pid)
	return startFresh(ctx, conn)
}

// connectUnhurried connects with the timeouts off from the start, where no pooler
// objects to such a packet; then setUpSession's statements are the first to say so.
// The search path is not asked for in this way, for then the session could not tell
// which one is its own.
func connectUnhurried(ctx context.Context, cfg *pgx.ConnConfig, t Target, major int) (*pgx.Conn, error) {
	if t.pooler {
		return pgx.ConnectConfig(ctx, cfg)
	}
	with := cfg.Copy()
	for _, name := range unhurried(major) {
		with.RuntimeParams[name] = "0"
	}
	conn, err := pgx.ConnectConfig(ctx, with)
	// PgBouncer's answer to a parameter that it does not keep, and an older server's
	// to one that it does not know.
	if code := Code(err); code == "08P01" || code == "42704" {
		return pgx.ConnectConfig(ctx, cfg)
	}
	if !perhapsTrigger(err) {
		return conn, err
	}
	with.RuntimeParams["options"] = strings.TrimSpace(with.RuntimeParams["options"] + " " + noEventTriggers)
	if again, err := pgx.ConnectConfig(ctx, with); err == nil {
		return again, nil
	}
	return nil, err // a role that may not turn them off
}

// noEventTriggers keeps login triggers (PostgreSQL 17) from firing. Only a superuser
// may ask for it. A trigger that refuses logins at night would keep backups out, and
// after a restore the copy could not be compared.
const noEventTriggers = "-c event_triggers=off"

// perhapsTrigger reports whether it may be a login trigger that ended a session. Its
// error can have any code; these are of servers that refuse by themselves.
func perhapsTrigger(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && len(pgErr.Code) == 5 &&
		!slices.Contains([]string{"08", "28", "3D", "53", "57", "58", "XX"}, pgErr.Code[:2])
}

// beganUnhurried reports whether a session was let begin with its timeouts off.
func beganUnhurried(conn *pgx.Conn) bool {
	_, ok := conn.Config().RuntimeParams[unhurried(0)[0]]
	return ok
}

// Close ends a session within a few seconds, also when ctx has ended. Through a
// pooler nothing of it is left to the next connection that gets the same server
// session. What a broken connection says at its end is of no use to anyone. Pgx
// cancels the statement of one that it gave up in the background; that is waited for,
// since a cancel request that is broken off ends a PgBouncer of 1.18 or 1.19
// (https://github.com/pgbouncer/pgbouncer/pull/846), with everybody's connections.
func Close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if Pooled(conn) && conn.PgConn().TxStatus() == 'I' {
		_, _ = conn.Exec(ctx, discardSQL)
	}
	_ = conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

func parseError(err error) error {
	// pgx puts the connection string into its message; keep its reason only.
	reason := "not valid"
	if inner := errors.Unwrap(err); inner != nil {
		reason = inner.Error()
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return pgmedic.Errorf(pgmedic.KindUsage, "correct the path (sslrootcert, sslcert, sslkey, servicefile), and see that this user may read the file",
			"connection string: the file %s can't be read: %w", file.Path, file.Err)
	}
	return badTarget(reason)
}

func connectError(ctx context.Context, cfg *pgx.ConnConfig, said *greeting, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", context.Cause(ctx))
	}
	where := "PostgreSQL at " + addressOf(cfg)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return connectRefused(cfg, where, pgErr)
	}
	reason, hint := connectFailure(err, said, cfg.TLSConfig != nil)
	return pgmedic.Errorf(pgmedic.KindUnreachable, hint, "connect to %s: %s", where, reason)
}

// connectFailure says why no server answered, from the type of the error and from what
// was said. A server that refuses TLS is the one case that has none: it answered, and
// encrypted is true where that was asked for.
func connectFailure(err error, said *greeting, encrypted bool) (reason, hint string) {
	hint = "check that the server runs and that DATABASE_URL or DB_HOST and DB_PORT name it"
	var opErr *net.OpError
	var dnsErr *net.DNSError
	switch {
	case isTLSError(err):
		return "TLS could not be agreed on", "check sslmode and sslrootcert in the connection string"
	case said.stranger():
		return "what answers there is not PostgreSQL", "correct the port in DATABASE_URL or DB_PORT"
	case errors.As(err, &dnsErr):
		return "no such host", "check the host's name in DATABASE_URL or DB_HOST"
	case errors.As(err, &opErr) && !opErr.Timeout():
		return strings.TrimPrefix(opErr.Err.Error(), "connect: "), hint
	case said.accepted.Load() && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &opErr)):
		return "timed out: the connection was accepted, and no answer came",
			"check that PostgreSQL listens on that port, not another program, and that the server is not overloaded"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &opErr):
		return "timed out", hint
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before a session began", "the server may be starting or stopping: try again in a moment"
	}
	if encrypted {
		return "TLS could not be agreed on", "check sslmode and sslrootcert in the connection string"
	}
	return "no answer", hint
}

// isTLSError reports whether an error is about certificates or the handshake,
// and not about the connection under it.
func isTLSError(err error) bool {
	var (
		alert    tls.AlertError
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	return errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &verify) ||
		errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid)
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
	case TooManyConnections:
		hint = "the server has no free connection: raise max_connections or end idle sessions"
	case "57P03":
		hint = "the server is starting up or shutting down: try again in a moment"
	case "42501":
		hint = fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;",
			sqltext.QuoteIdent(cfg.Database), sqltext.QuoteIdent(cfg.User))
	}
	return pgmedic.Errorf(kind, hint, "connect to %s: %w", where, &refusal{e.Code, e.Message})
}

// refusal is what a server said instead of beginning a session. Its message
// names the role, the database and the address, and no rows.
type refusal struct{ code, message string }

func (r *refusal) Error() string { return r.message }

func addressOf(cfg *pgx.ConnConfig) string {
	if strings.HasPrefix(cfg.Host, "/") {
		return fmt.Sprintf("%s (port %d)", cfg.Host, cfg.Port)
	}
	return net.JoinHostPort(cfg.Host, strconv.FormatUint(uint64(cfg.Port), 10))
}
