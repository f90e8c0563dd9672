// Package postgres holds sessions with a server: how to reach it, how it receives what a
// session needs, what it is, and what its errors mean.
package postgres

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// Target says how to reach one database: libpq's connection keywords and
// their values. What it does not set, libpq's environment (PGHOST, …), service
// and password files decide, for pgmedic and for the client programs alike.
// The zero Target leaves everything to them.
type Target struct {
	params map[string]string
	pooler bool
	// english is true where the role may choose the language of messages.
	english bool
	known   *known // shared by all copies
	renewal *renewal
	// heard is called with the server's warnings, see Hearing.
	heard func(code string)
	// patient is for a server that has no connection left for the moment, see Patient.
	patient bool
}

// pgxKeywords are the libpq keywords that pgx understands; a further one given
// to pgx would be sent to the server as a setting and refused.
func pgxKeywords() []string {
	return []string{
		"host", "port", "dbname", "user", "password", "passfile", "service",
		"servicefile", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni",
		"sslnegotiation", "channel_binding", "connect_timeout", "target_session_attrs", "options",
		"application_name", "krbsrvname",
	}
}

// toolKeywords are the further keywords that only the client programs get.
func toolKeywords() []string {
	return []string{
		"gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
		"load_balance_hosts", "sslcrl", "ssl_max_protocol_version", "ssl_min_protocol_version",
		"tcp_user_timeout",
	}
}

// prismaKeywords are parameters of an ORM's pool which often stand in
// DATABASE_URL. They say nothing about how to reach the server and are dropped.
func prismaKeywords() []string {
	return []string{
		"schema", "connection_limit", "pool_timeout", "socket_timeout", "pgbouncer",
		"statement_cache_size", "sslaccept", "sslidentity", "max_idle_connection_lifetime",
	}
}

// NewTarget makes a Target of libpq keywords and values; empty values are left
// out. An unknown keyword is an error of KindUsage.
func NewTarget(params map[string]string) (Target, error) {
	return newTarget(params, true)
}

// newTarget names an unknown keyword only where the caller knows that it can't
// be a part of a password that was not encoded.
func newTarget(params map[string]string, nameUnknown bool) (Target, error) {
	t := Target{params: make(map[string]string, len(params)), known: &known{}}
	known := slices.Concat(pgxKeywords(), toolKeywords())
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		value := params[name]
		switch {
		case slices.Contains(known, name):
			if value != "" {
				t.params[name] = value
			}
		case slices.Contains(prismaKeywords(), name):
			t.pooler = t.pooler || name == "pgbouncer" && value == "true"
		default:
			hint := "remove it; docs/configuration.md lists the parameters that are understood"
			if near := nearKeyword(name, append(known, prismaKeywords()...)); near != "" && nameUnknown {
				hint = "did you mean " + near + "?"
			}
			if !nameUnknown {
				return Target{}, pgmedic.Errorf(pgmedic.KindUsage,
					hint+"; special characters in a password must be percent-encoded, or quoted among keywords",
					"connection string: an unknown parameter, or a password with special characters")
			}
			return Target{}, pgmedic.Errorf(pgmedic.KindUsage, hint, "connection string: unknown parameter %q", name)
		}
	}
	return t, nil
}

// nearKeyword returns the keyword that a misspelt one most likely means, or empty:
// one that differs by a letter that is missing, too much, another, or swapped with
// the next.
func nearKeyword(name string, known []string) string {
	for _, k := range known {
		short, long := name, k
		if len(short) > len(long) {
			short, long = long, short
		}
		i := 0
		for i < len(short) && short[i] == long[i] {
			i++
		}
		switch {
		case len(short) == len(long) && i < len(short) && short[i+1:] == long[i+1:],
			len(short)+1 == len(long) && short[i:] == long[i+1:],
			len(short) == len(long) && i+1 < len(short) && short[i] == long[i+1] && short[i+1] == long[i] && short[i+2:] == long[i+2:]:
			return k
		}
	}
	return ""
}

// ParseTarget reads a connection URL (postgres:// or postgresql://) or a
// keyword/value string ("host=… dbname=…"). Errors never quote the string,
// for it may hold a password.
func ParseTarget(s string) (Target, error) {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return parseURL(s)
	}
	return parseKeywords(s)
}

func badTarget(why string) error {
	return pgmedic.Errorf(pgmedic.KindUsage,
		"write it as postgres://user:password@host:5432/database, special characters in the password percent-encoded",
		"connection string: %s", why)
}

func parseURL(s string) (Target, error) {
	// Several hosts (a:1,b:2) are valid for libpq, and not for net/url.
	scheme, rest, _ := strings.Cut(s, "://")
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	hosts := authority
	userinfo := ""
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse(scheme + "://" + userinfo + "host" + path)
	if err != nil {
		return Target{}, badTarget("not a valid URL")
	}
	params := map[string]string{}
	// For libpq a plus sign is one, and not a space.
	query, err := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	if err != nil {
		return Target{}, badTarget("its parameters are not valid")
	}
	for name, values := range query {
		params[name] = values[len(values)-1]
	}
	if u.User != nil {
		params["user"] = u.User.Username()
		if password, ok := u.User.Password(); ok {
			params["password"] = password
		}
	}
	if name := strings.TrimPrefix(u.Path, "/"); name != "" {
		params["dbname"] = name
	}
	if hosts != "" {
		if err := splitHosts(hosts, params); err != nil {
			return Target{}, err
		}
	}
	return newTarget(params, !strings.Contains(path, "@"))
}

func splitHosts(hosts string, params map[string]string) error {
	var names, ports []string
	anyPort := false
	for _, h := range strings.Split(hosts, ",") {
		name, port := h, ""
		if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.HasSuffix(h, "]") {
			name, port = h[:i], h[i+1:]
			anyPort = true
		}
		name, err := url.PathUnescape(strings.Trim(name, "[]"))
		if err != nil {
			return badTarget("the host is not valid")
		}
		if strings.Trim(port, "0123456789") != "" {
			return badTarget("the port is not a number")
		}
		if port == "" {
			port = "5432"
		}
		names, ports = append(names, name), append(ports, port)
	}
	if joined := strings.Join(names, ","); joined != "" {
		params["host"] = joined
	}
	if anyPort {
		params["port"] = strings.Join(ports, ",")
	}
	return nil
}

// parseKeywords reads libpq's keyword/value form: values with spaces stand in
// single quotes, with \' and \\ inside.
func parseKeywords(s string) (Target, error) {
	params := map[string]string{}
	rest := strings.TrimSpace(s)
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsFunc(name, notKeyword) {
			return Target{}, badTarget("neither a URL nor keyword=value pairs")
		}
		value, tail, ok := cutValue(strings.TrimLeft(after, " \t\n"))
		if !ok {
			return Target{}, badTarget("a quoted value has no end")
		}
		params[name] = value
		rest = strings.TrimLeft(tail, " \t\n")
	}
	return newTarget(params, params["password"] == "" && params["sslpassword"] == "")
}

// notKeyword reports whether a keyword can't have the letter. What has no keyword's
// shape may be a URL that is misspelt, with a password in it, and is never quoted.
func notKeyword(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
}

func cutValue(s string) (value, rest string, ok bool) {
	var b strings.Builder
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], true
		case !quoted && strings.IndexByte(" \t\n", c) >= 0:
			return b.String(), s[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// With returns a copy with one keyword set to a value; an empty value removes
// it.
func (t Target) With(keyword, value string) Target {
	params := make(map[string]string, len(t.params)+1)
	for k, v := range t.params {
		params[k] = v
	}
	if value == "" {
		delete(params, keyword)
	} else {
		params[keyword] = value
	}
	return Target{params: params, pooler: t.pooler, english: t.english, known: t.known, renewal: t.renewal, heard: t.heard}
}

// Below returns a copy in which the files that it names by relative paths are in the
// given folder, and not in whichever folder pgmedic was started in.
func (t Target) Below(folder string) Target {
	for _, keyword := range []string{"passfile", "servicefile", "sslrootcert", "sslcert", "sslkey", "sslcrl"} {
		path := t.params[keyword]
		if path == "" || filepath.IsAbs(path) || keyword == "sslrootcert" && path == "system" || folder == "" {
			continue
		}
		t = t.With(keyword, filepath.Join(folder, path))
	}
	return t
}

// WithDatabase returns a copy that names another database of the same server.
func (t Target) WithDatabase(name string) Target { return t.With("dbname", name) }

// Database returns the database's name, or empty where it is left to libpq.
func (t Target) Database() string { return t.params["dbname"] }

// As returns the Target as a session with it showed it to be: through a pooler, or
// by a server that does not let it begin with settings of its own; where a login
// trigger did not let it in, client programs have to turn that off, too.
func (t Target) As(conn *pgx.Conn) Target {
	params := conn.Config().RuntimeParams
	if !beganUnhurried(conn) || Pooled(conn) {
		t.pooler = true
	}
	if strings.HasSuffix(params["options"], noEventTriggers) {
		t = t.With("options", params["options"])
	}
	return t
}

// ThroughPooler reports whether client programs can't begin their sessions with
// settings of ours. A session showed it: one with the same address, of this Target
// or a copy of it, or the one given to As. Before there was any, the connection
// string says it by pgbouncer=true.
func (t Target) ThroughPooler() bool {
	if seen, ok := t.known.get(t.address()); ok {
		return seen.pooler
	}
	return t.pooler
}

// InEnglish returns the Target for client programs whose sessions ask for messages
// in English, if the role of a session with it may choose their language. Without,
// what a server says in another one is no more than that it failed.
func (t Target) InEnglish(ctx context.Context, conn *pgx.Conn) (Target, error) {
	err := conn.QueryRow(ctx, `SELECT coalesce((SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user), false)`).Scan(&t.english)
	if err != nil || t.english {
		return t, Wrap(err, "read the role's privileges")
	}
	// 42883 is a server that knows no such privileges, before 15.
	err = conn.QueryRow(ctx, "SELECT pg_catalog.has_parameter_privilege(session_user, 'lc_messages', 'SET')").Scan(&t.english)
	if Code(err) == "42883" {
		return t, nil
	}
	return t, Wrap(err, "read the role's privileges")
}

// SpeaksEnglish reports what InEnglish found.
func (t Target) SpeaksEnglish() bool { return t.english }

// Password returns the password in the Target, or empty. It is given to client
// programs in the environment of that one process.
func (t Target) Password() string { return t.renewal.current(t.params["password"]) }

// String names the target for people: user@host:port/database, without what
// is not set, and never with the password.
func (t Target) String() string {
	var b strings.Builder
	if user := t.params["user"]; user != "" {
		b.WriteString(user + "@")
	}
	hosts := strings.Split(t.params["host"], ",")
	ports := strings.Split(t.params["port"], ",")
	for i, host := range hosts {
		if i > 0 {
			b.WriteByte(',')
		}
		port := ports[min(i, len(ports)-1)]
		switch {
		case port == "" || strings.HasPrefix(host, "/"):
			b.WriteString(host)
		default:
			b.WriteString(net.JoinHostPort(host, port))
		}
	}
	if name := t.params["dbname"]; name != "" {
		b.WriteString("/" + name)
	}
	if b.Len() == 0 {
		return "the default server"
	}
	return b.String()
}

// Conninfo returns the keyword/value string for client programs, without the
// password, so that it may stand in an argument list.
func (t Target) Conninfo() string {
	return t.keywordString(slices.Concat(pgxKeywords(), toolKeywords()), "password", "sslpassword")
}

// dsn returns the keyword/value string for pgx, password included.
func (t Target) dsn() string { return t.keywordString(pgxKeywords()) }

func (t Target) keywordString(allowed []string, without ...string) string {
	var parts []string
	for _, name := range allowed {
		value, ok := t.params[name]
		if name == "password" {
			value = t.Password()
			ok = value != ""
		}
		if !ok || slices.Contains(without, name) {
			continue
		}
		value = strings.ReplaceAll(strings.ReplaceAll(value, `\`, `\\`), `'`, `\'`)
		parts = append(parts, name+"='"+value+"'")
	}
	return strings.Join(parts, " ")
}

// Value returns what the Target sets a keyword to, or empty.
func (t Target) Value(keyword string) string { return t.params[keyword] }

// Has reports whether the Target sets a keyword.
func (t Target) Has(keyword string) bool {
	_, ok := t.params[keyword]
	return ok
}

// DefaultMaintenance is the database that is connected to for making, renaming and
// dropping others where none is named: initdb makes it on every server.
const DefaultMaintenance = "postgres"
