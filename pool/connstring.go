package pool

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// settings are what a connection string says beyond where the server is. Zero
// means that it says nothing.
type settings struct {
	maxConns, minConns, minIdleConns               int
	acquireTimeout, connectTimeout, socketTimeout  time.Duration
	connLifetime, connLifetimeJitter, connIdleTime time.Duration
	pooler                                         Pooler
}

// parameter is one that a connection string may have and PostgreSQL does not
// know.
type parameter func(s *settings, conn *pgx.ConnConfig, value string) error

// parameters are Prisma's and those of pgxpool. What pgx knows by itself, such
// as sslmode, is not among them.
var parameters = map[string]parameter{
	"connection_limit": func(s *settings, _ *pgx.ConnConfig, v string) error { return count(&s.maxConns, v, 1) },
	"pool_timeout":     func(s *settings, _ *pgx.ConnConfig, v string) error { return seconds(&s.acquireTimeout, v) },
	"socket_timeout":   func(s *settings, _ *pgx.ConnConfig, v string) error { return seconds(&s.socketTimeout, v) },
	"pgbouncer": func(s *settings, _ *pgx.ConnConfig, v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("is neither true nor false")
		}
		if on {
			s.pooler = PoolerTransaction
		}
		return nil
	},
	"schema": func(_ *settings, conn *pgx.ConnConfig, v string) error {
		if conn.RuntimeParams["search_path"] != "" {
			return fmt.Errorf("comes with search_path, which means the same")
		}
		conn.RuntimeParams["search_path"] = pgx.Identifier{v}.Sanitize()
		return nil
	},
	"statement_cache_size": func(_ *settings, conn *pgx.ConnConfig, v string) error {
		if err := count(&conn.StatementCacheCapacity, v, 0); err != nil {
			return err
		}
		if conn.StatementCacheCapacity == 0 && conn.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
			conn.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
		}
		return nil
	},

	"fallback_application_name": func(_ *settings, conn *pgx.ConnConfig, v string) error {
		if conn.RuntimeParams["application_name"] == "" {
			conn.RuntimeParams["application_name"] = v
		}
		return nil
	},
	"gssencmode":         oneOf("disable", "prefer"), // there is none, which both allow
	"load_balance_hosts": oneOf("disable"),
	"options": func(_ *settings, conn *pgx.ConnConfig, v string) error {
		if !neonEndpoint.MatchString(v) {
			return fmt.Errorf("can set anything in every session, and only Neon's endpoint=… is taken: set it with ALTER ROLE … SET, or use a parameter of its own")
		}
		conn.RuntimeParams["options"] = v
		return nil
	},

	"pool_max_conns":                func(s *settings, _ *pgx.ConnConfig, v string) error { return count(&s.maxConns, v, 1) },
	"pool_min_conns":                func(s *settings, _ *pgx.ConnConfig, v string) error { return count(&s.minConns, v, 0) },
	"pool_min_idle_conns":           func(s *settings, _ *pgx.ConnConfig, v string) error { return count(&s.minIdleConns, v, 0) },
	"pool_max_conn_lifetime":        func(s *settings, _ *pgx.ConnConfig, v string) error { return duration(&s.connLifetime, v) },
	"pool_max_conn_lifetime_jitter": func(s *settings, _ *pgx.ConnConfig, v string) error { return duration(&s.connLifetimeJitter, v) },
	"pool_max_conn_idle_time":       func(s *settings, _ *pgx.ConnConfig, v string) error { return duration(&s.connIdleTime, v) },
}

// neonEndpoint is the one kind of options that is taken: it says which server of a
// hoster is meant.
var neonEndpoint = regexp.MustCompile(`^(endpoint|project)=[A-Za-z0-9_.-]+$`)

// oneOf takes a parameter that changes nothing with these values.
func oneOf(values ...string) parameter {
	return func(_ *settings, _ *pgx.ConnConfig, v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("is taken as %s only", strings.Join(values, " or "))
		}
		return nil
	}
}

// refused are parameters that are known and not taken, with what to do instead.
var refused = map[string]string{
	"keepalives":               keepalives,
	"keepalives_idle":          keepalives,
	"keepalives_interval":      keepalives,
	"keepalives_count":         keepalives,
	"supa":                     "it is for another client: leave it out",
	"uselibpqcompat":           "it is for another client: leave it out; sslmode means what it means in libpq",
	"pool_health_check_period": "use Config.HealthInterval",
	"pool_ping_timeout":        "use Config.ConnectTimeout",
	"statement_timeout":        "use Config.QueryTimeout (DB_QUERY_TIMEOUT), which the client keeps to as well",
	"sslaccept":                "use sslmode=verify-full, or sslmode=require to accept any certificate",
	"sslidentity":              "use sslcert and sslkey with PEM files",
	"replication":              "the pool is for queries",
	"session_replication_role": "it turns triggers and foreign keys off",
	"role":                     "connect as that role, or use SET LOCAL ROLE in a transaction",
	"client_encoding":          "pgx reads and writes UTF8 only",
	"datestyle":                "pgx reads and writes ISO dates only",
	"intervalstyle":            "pgx reads and writes PostgreSQL's intervals only",
	"target_session_attrs":     "the pool itself asks each server whether it is the primary",
}

const keepalives = "leave it out: connections are kept alive every 15 s, or as Config.DialFunc says"

// passedOn are settings of PostgreSQL that may stand in a connection string.
var passedOn = []string{
	"application_name", "search_path", "timezone", "lock_timeout", "idle_in_transaction_session_timeout",
	"idle_session_timeout", "work_mem", "jit", "plan_cache_mode", "default_transaction_isolation",
	"synchronous_commit", "tcp_user_timeout", "transaction_timeout",
}

// parseConnString reads a connection string, sanitised: it returns how to
// connect, and what is said about the pool. Field is what to call the string in
// an error; the string itself is never quoted, for it holds the password.
func parseConnString(field, text string) (*pgx.ConnConfig, settings, error) {
	var s settings
	if strings.TrimSpace(text) == "" {
		return nil, s, &ConfigError{field, "is empty", "give a connection string such as postgres://user:password@host:5432/database"}
	}
	conn, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, s, unreadable(field, err)
	}
	if several(conn) {
		return nil, s, &ConfigError{
			field, "names several servers",
			"give each a connection string of its own: one as PrimaryURL (DATABASE_URL), the others as ReplicaURLs (DB_READ_REPLICA_URL, between spaces or commas); any of them may be the primary",
		}
	}
	for _, name := range slices.Sorted(maps.Keys(conn.RuntimeParams)) {
		value := conn.RuntimeParams[name]
		lower := strings.ToLower(name)
		if apply, ok := parameters[lower]; ok {
			delete(conn.RuntimeParams, name)
			if err := apply(&s, conn, value); err != nil {
				return nil, s, &ConfigError{field, fmt.Sprintf("parameter %s: %v", name, err), "correct it, or leave it out"}
			}
			continue
		}
		if advice, ok := refused[lower]; ok {
			return nil, s, &ConfigError{field, fmt.Sprintf("parameter %s is not taken", name), advice}
		}
		if !slices.Contains(passedOn, lower) {
			return nil, s, &ConfigError{field, fmt.Sprintf("unknown parameter %.40q", name), likely(lower)}
		}
	}
	if conn.ValidateConnect != nil {
		return nil, s, &ConfigError{field, "parameter target_session_attrs is not taken", refused["target_session_attrs"]}
	}
	s.connectTimeout = conn.ConnectTimeout
	return conn, s, nil
}

// unreadable is the error for a connection string that pgx can't read. Pgx quotes the
// string in its own.
func unreadable(field string, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return &ConfigError{
			field, fmt.Sprintf("the file %s can't be read: %v", file.Path, file.Err),
			"correct the path (sslrootcert, sslcert, sslkey, service), and see that this user may read the file",
		}
	}
	return &ConfigError{
		field, "can't be read as a connection string",
		"write it as postgres://user:password@host:5432/database?sslmode=verify-full, with special characters of the password percent-encoded; sslmode is one of disable, allow, prefer, require, verify-ca and verify-full",
	}
}

// ofLibpq are the parameters that pgx knows by itself.
var ofLibpq = []string{
	"host", "port", "dbname", "user", "password", "passfile", "service", "connect_timeout",
	"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni",
}

// likely is the advice for a parameter that is not known: the one that was meant, or
// all of them.
func likely(name string) string {
	ours := slices.Sorted(maps.Keys(parameters))
	for _, known := range slices.Concat(ofLibpq, ours, passedOn) {
		if oneSlip(name, known) {
			return "did you mean " + known + "?"
		}
	}
	return "taken are " + strings.Join(ofLibpq, ", ") + ", " + strings.Join(ours, ", ") + ", and " + strings.Join(passedOn, ", ")
}

// oneSlip says whether two words differ by one letter that is missing, too many, wrong,
// or in its neighbour's place.
func oneSlip(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	a, b = a[i:], b[i:]
	switch {
	case len(a) < len(b):
		return a == b[1:]
	case len(a) > 1 && a[0] == b[1] && a[1] == b[0]:
		return a[2:] == b[2:]
	}
	return a != "" && a[1:] == b[1:]
}

// several says whether a connection string names more than one server: with several
// hosts, or by two strings in one.
func several(conn *pgx.ConnConfig) bool {
	for _, f := range conn.Fallbacks { // those of sslmode=prefer have the same host
		if f.Host != conn.Host || f.Port != conn.Port {
			return true
		}
	}
	return strings.Contains(conn.Database, "://")
}

// fill takes from a connection string what the configuration leaves open.
func (c Config) fill(s settings) Config {
	c.MaxConns = orDefault(c.MaxConns, s.maxConns)
	c.MinConns = orDefault(c.MinConns, s.minConns)
	c.MinIdleConns = orDefault(c.MinIdleConns, s.minIdleConns)
	c.AcquireTimeout = orDefault(c.AcquireTimeout, s.acquireTimeout)
	c.ConnectTimeout = orDefault(c.ConnectTimeout, s.connectTimeout)
	c.SocketTimeout = orDefault(c.SocketTimeout, s.socketTimeout)
	c.MaxConnLifetime = orDefault(c.MaxConnLifetime, s.connLifetime)
	c.MaxConnLifetimeJitter = orDefault(c.MaxConnLifetimeJitter, s.connLifetimeJitter)
	c.MaxConnIdleTime = orDefault(c.MaxConnIdleTime, s.connIdleTime)
	c.Pooler = orDefault(c.Pooler, s.pooler)
	return c
}

// serverNames returns what each server is called in logs, metrics and errors:
// its host and port, or where two have the same, as behind one PgBouncer, with
// the database.
func serverNames(conns []*pgx.ConnConfig) ([]string, error) {
	names, full := make([]string, len(conns)), make([]string, len(conns))
	for i, c := range conns {
		names[i] = net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))
		full[i] = names[i] + "/" + c.Database
		if slices.Contains(full[:i], full[i]) {
			return nil, &ConfigError{
				fmt.Sprintf("ReplicaURLs[%d]", i-1), fmt.Sprintf("%s is there twice", full[i]),
				"name each server once; without replicas leave ReplicaURLs (DB_READ_REPLICA_URL) empty",
			}
		}
		if slices.Contains(names[:i], names[i]) {
			names[i] = full[i]
		}
	}
	return names, nil
}

func count(to *int, value string, least int) error {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < int64(least) {
		return fmt.Errorf("must be a whole number, at least %d", least)
	}
	*to = int(n)
	return nil
}

func seconds(to *time.Duration, value string) error {
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 1 {
		return fmt.Errorf("must be a whole number of seconds, at least 1")
	}
	*to = time.Duration(n) * time.Second
	return nil
}

func duration(to *time.Duration, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return fmt.Errorf("must be a duration such as 30m")
	}
	*to = d
	return nil
}
