package databases

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// MaxNameBytes is the longest name that PostgreSQL keeps (NAMEDATALEN less the
// closing zero).
const MaxNameBytes = 63

// DerivedName returns name with a suffix, cut on a character's boundary so
// that both fit into MaxNameBytes.
func DerivedName(name, suffix string) string {
	room := MaxNameBytes - len(suffix)
	for len(name) > room {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name + suffix
}

// Exists reports whether the server has a database of that name.
func Exists(ctx context.Context, conn *pgx.Conn, name string) (bool, error) {
	var exists bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", name).
		Scan(&exists)
	return exists, postgres.Wrap(err, "look for database "+sqltext.QuoteIdent(name))
}

// MissingRoles returns those of the roles that the server does not have.
func MissingRoles(ctx context.Context, conn *pgx.Conn, roles []pgmedic.Role) ([]pgmedic.Role, error) {
	have, err := postgres.CollectScalar[string](ctx, conn, "SELECT rolname::text FROM pg_catalog.pg_roles")
	if err != nil {
		return nil, postgres.Wrap(err, "list the roles")
	}
	var missing []pgmedic.Role
	for _, r := range roles {
		if !slices.Contains(have, r.Name) {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// CreateRole makes a role that can't log in, to own what a copy holds.
func CreateRole(ctx context.Context, conn *pgx.Conn, r pgmedic.Role) error {
	sql := "CREATE ROLE " + sqltext.QuoteIdent(r.Name) + " NOLOGIN"
	if r.Superuser {
		sql += " SUPERUSER"
	}
	_, err := conn.Exec(ctx, sql)
	return postgres.Wrap(err, "create role "+sqltext.QuoteIdent(r.Name))
}

// Create makes an empty database named name with d's encoding, locale,
// owner and tablespace, on a server of the given version. It is closed to
// everyone until OpenDatabase. Access list, connection limit and settings are for
// ApplyAccess and ApplySettings, last: they would act on the sessions that load
// the rows, and let others in.
func Create(ctx context.Context, conn *pgx.Conn, name string, d pgmedic.Database, versionNum int) error {
	_, err := conn.Exec(ctx, CreateSQL(sqltext.QuoteIdent(name), d, versionNum)+" ALLOW_CONNECTIONS false")
	if postgres.Code(err) == "42P04" {
		return pgmedic.Errorf(pgmedic.KindConflict, "choose another name with --into, or drop it first",
			"database %q exists already", name)
	}
	return postgres.Wrap(err, "create database "+sqltext.QuoteIdent(name))
}

// Open opens what CreateDatabase made to its owner and to superusers, and
// to no other role: until all is loaded, rows lie open that row-level security and
// access lists are yet to cover.
func Open(ctx context.Context, conn *pgx.Conn, name string) error {
	target := sqltext.QuoteIdent(name)
	for _, sql := range []string{"REVOKE ALL ON DATABASE " + target + " FROM PUBLIC", "ALTER DATABASE " + target + " ALLOW_CONNECTIONS true"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return postgres.Wrap(err, "open database "+target+" to its owner")
		}
	}
	return nil
}

// CreateSQL makes such a database that is open, for a target that is
// written into it as it is.
func CreateSQL(target string, d pgmedic.Database, versionNum int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE DATABASE %s TEMPLATE template0 ENCODING %s", target, sqltext.QuoteLiteral(d.Encoding))
	fmt.Fprintf(&b, " LC_COLLATE %s LC_CTYPE %s", sqltext.QuoteLiteral(d.Collate), sqltext.QuoteLiteral(d.CType))
	if versionNum >= 150000 && d.LocaleProvider != "" {
		fmt.Fprintf(&b, " LOCALE_PROVIDER %s", d.LocaleProvider)
		switch {
		case d.LocaleProvider == "icu":
			fmt.Fprintf(&b, " ICU_LOCALE %s", sqltext.QuoteLiteral(d.ICULocale))
			if d.ICURules != "" && versionNum >= 160000 {
				fmt.Fprintf(&b, " ICU_RULES %s", sqltext.QuoteLiteral(d.ICURules))
			}
		case d.LocaleProvider == "builtin" && versionNum >= 170000:
			fmt.Fprintf(&b, " BUILTIN_LOCALE %s", sqltext.QuoteLiteral(d.ICULocale))
		}
	}
	if d.Owner != "" {
		fmt.Fprintf(&b, " OWNER %s", sqltext.QuoteIdent(d.Owner))
	}
	if d.Tablespace != "" && d.Tablespace != "pg_default" {
		fmt.Fprintf(&b, " TABLESPACE %s", sqltext.QuoteIdent(d.Tablespace))
	}
	return b.String()
}

// dropPatience bounds a DROP DATABASE that is not interrupted any more: the server
// removes the files one by one.
const dropPatience = 15 * time.Minute

// drop runs a DROP DATABASE. One that is interrupted leaves a database that is
// neither there nor gone, so that the end of ctx comes before it or not at all.
func drop(ctx context.Context, conn *pgx.Conn, name, sql string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("drop database %s: %w", sqltext.QuoteIdent(name), context.Cause(ctx))
	}
	failpoint.Hit(ctx, "database-drop")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return postgres.Wrap(err, "drop database "+sqltext.QuoteIdent(name))
}

// Drop drops a database and ends its sessions. A database that is not
// there is no error. Once begun it is not interrupted by the end of ctx.
func Drop(ctx context.Context, conn *pgx.Conn, name string, versionNum int) error {
	sql := "DROP DATABASE IF EXISTS " + sqltext.QuoteIdent(name)
	if versionNum >= 130000 {
		sql += " WITH (FORCE)"
	} else if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_terminate_backend(pid)
		FROM pg_catalog.pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()`, name); err != nil {
		return postgres.Wrap(err, "end the sessions of database "+sqltext.QuoteIdent(name))
	}
	return drop(ctx, conn, name, sql)
}

// ApplyAccess gives database name, which OpenDatabase opened, the access list and
// connection limit of d.
func ApplyAccess(ctx context.Context, conn *pgx.Conn, name string, d pgmedic.Database) error {
	target := sqltext.QuoteIdent(name)
	statements := []string{"GRANT CONNECT, TEMPORARY ON DATABASE " + target + " TO PUBLIC"} // PostgreSQL's default
	if !d.DefaultACL {
		statements = aclSQL(target, d)
	}
	if d.ConnectionLimit != -1 {
		statements = append(statements, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", target, d.ConnectionLimit))
	}
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return postgres.Wrap(err, "set the privileges of database "+target)
		}
	}
	return nil
}

// ApplyCreate lets the roles of d's access list make schemas and publications in
// database name, which owning them takes: the rest of the list comes last, with
// ApplyAccess.
func ApplyCreate(ctx context.Context, conn *pgx.Conn, name string, d pgmedic.Database) error {
	for _, g := range d.ACL {
		if g.Privilege != "CREATE" || g.Grantee == "" || g.Grantee == d.Owner {
			continue
		}
		sql := "GRANT CREATE ON DATABASE " + sqltext.QuoteIdent(name) + " TO " + sqltext.QuoteIdent(g.Grantee)
		if _, err := conn.Exec(ctx, sql); err != nil {
			return postgres.Wrap(err, "let "+sqltext.QuoteIdent(g.Grantee)+" create in database "+sqltext.QuoteIdent(name))
		}
	}
	return nil
}

// ApplySettings gives database name the settings of d. Those that the server
// refuses are returned and not applied; they do not fail a restore, since the rows
// are there. They are as ReadDatabase read them: conn is of ConnectBytes.
func ApplySettings(ctx context.Context, conn *pgx.Conn, name string, d pgmedic.Database) (refused []string, err error) {
	target := sqltext.QuoteIdent(name)
	for _, s := range d.Settings {
		if _, err := conn.Exec(ctx, settingSQL(target, s)); err != nil {
			if postgres.Code(err) == "" {
				return refused, postgres.Wrap(err, "set "+s.Name+" of database "+target)
			}
			refused = append(refused, s.Name)
		}
	}
	return refused, nil
}

// PropertiesSQL are the access list, connection limit, settings, comment and security
// labels of a new database as statements, for a target that is written into them as it is.
func PropertiesSQL(target string, d pgmedic.Database) []string {
	var statements []string
	if !d.DefaultACL {
		statements = append(statements, aclSQL(target, d)...)
	}
	if d.ConnectionLimit != -1 {
		statements = append(statements, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", target, d.ConnectionLimit))
	}
	statements = append(statements, SettingsSQL(target, d)...)
	if d.Comment != "" {
		statements = append(statements, "COMMENT ON DATABASE "+target+" IS "+sqltext.QuoteLiteral(d.Comment))
	}
	for _, l := range d.SecurityLabels {
		statements = append(statements, labelSQL(target, l))
	}
	return statements
}

// SettingsSQL are the settings of d as statements, for a target that is written
// into them as it is.
func SettingsSQL(target string, d pgmedic.Database) []string {
	statements := make([]string, len(d.Settings))
	for i, s := range d.Settings {
		statements[i] = settingSQL(target, s)
	}
	return statements
}

func aclSQL(target string, d pgmedic.Database) []string {
	statements := []string{
		"REVOKE ALL ON DATABASE " + target + " FROM PUBLIC",
		"REVOKE ALL ON DATABASE " + target + " FROM " + sqltext.QuoteIdent(d.Owner),
	}
	for _, g := range d.ACL {
		grantee := "PUBLIC"
		if g.Grantee != "" {
			grantee = sqltext.QuoteIdent(g.Grantee)
		}
		sql := fmt.Sprintf("GRANT %s ON DATABASE %s TO %s", g.Privilege, target, grantee)
		if g.Grantable && g.Grantee != d.Owner {
			sql += " WITH GRANT OPTION"
		}
		statements = append(statements, sql)
	}
	return statements
}

// settingSQL writes a recorded setting as a statement. The server stores the
// settings that are lists of names with each name quoted already (search_path:
// "$user", public), so that those must not be quoted as one string.
func settingSQL(target string, s pgmedic.Setting) string {
	value := sqltext.QuoteLiteral(s.Value)
	switch strings.ToLower(s.Name) {
	case "local_preload_libraries", "search_path", "session_preload_libraries",
		"shared_preload_libraries", "temp_tablespaces", "unix_socket_directories":
		value = quoteNameList(s.Value)
	}
	name := quoteSettingName(s.Name)
	if s.Role != "" {
		return fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s TO %s", sqltext.QuoteIdent(s.Role), target, name, value)
	}
	return fmt.Sprintf("ALTER DATABASE %s SET %s TO %s", target, name, value)
}

// quoteSettingName quotes each part of an extension's setting (auto_explain.x).
func quoteSettingName(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = sqltext.QuoteIdent(parts[i])
	}
	return strings.Join(parts, ".")
}

func quoteNameList(list string) string {
	var names []string
	var b strings.Builder
	quoted := false
	flush := func() {
		names = append(names, sqltext.QuoteLiteral(b.String()))
		b.Reset()
	}
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"' && quoted && i+1 < len(list) && list[i+1] == '"':
			b.WriteByte('"')
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			flush()
		case c == ' ' && !quoted:
		default:
			b.WriteByte(c)
		}
	}
	flush()
	return strings.Join(names, ", ")
}

// CountRows counts the rows of the tables that conn's database has of those
// given, partitions with their topmost parent: the result is by the quoted
// name that Table.CountedAs returns. A table that is not there has no entry.
func CountRows(ctx context.Context, conn *pgx.Conn, tables []pgmedic.Table) (map[string]int64, error) {
	counts := make(map[string]int64, len(tables))
	for _, t := range tables {
		// Leaf by leaf and ONLY: neither the rows of tables that inherit from
		// it, nor those of partitions that are on other servers.
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		var rows int64
		switch err := conn.QueryRow(ctx, "SELECT count(*) FROM ONLY "+name).Scan(&rows); {
		case postgres.Code(err) == "42P01" || postgres.Code(err) == "3F000":
		case err != nil:
			return nil, postgres.Wrap(err, "count the rows of "+name)
		default:
			counts[sqltext.CountedAs(t)] += rows
		}
	}
	return counts, nil
}

// MissingTablespaces returns the tablespaces that a database uses and the
// server lacks.
func MissingTablespaces(ctx context.Context, conn *pgx.Conn, d pgmedic.Database) ([]string, error) {
	have, err := postgres.CollectScalar[string](ctx, conn, "SELECT spcname::text FROM pg_catalog.pg_tablespace")
	if err != nil {
		return nil, postgres.Wrap(err, "list the tablespaces")
	}
	var missing []string
	for _, name := range append([]string{d.Tablespace}, d.Tablespaces...) {
		if name != "" && !slices.Contains(have, name) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// CreateTablespace makes a tablespace in an empty folder of the server's.
func CreateTablespace(ctx context.Context, conn *pgx.Conn, name, dir string) error {
	_, err := conn.Exec(ctx, "CREATE TABLESPACE "+sqltext.QuoteIdent(name)+" LOCATION "+sqltext.QuoteLiteral(dir))
	return postgres.Wrap(err, "create tablespace "+sqltext.QuoteIdent(name))
}

// DropUnused drops a database unless somebody is connected to it, which is an
// error with SQLSTATE 55006. Once begun it is not interrupted by the end of ctx.
func DropUnused(ctx context.Context, conn *pgx.Conn, name string) error {
	return drop(ctx, conn, name, "DROP DATABASE "+sqltext.QuoteIdent(name))
}

// ApplyLabels gives database name the security labels of d. They are as ReadDatabase
// read them: conn is of ConnectBytes.
func ApplyLabels(ctx context.Context, conn *pgx.Conn, name string, d pgmedic.Database) error {
	for _, l := range d.SecurityLabels {
		if _, err := conn.Exec(ctx, labelSQL(sqltext.QuoteIdent(name), l)); err != nil {
			return postgres.Wrap(err, fmt.Sprintf("set the security label of provider %s on database %s", sqltext.QuoteIdent(l.Provider), sqltext.QuoteIdent(name)))
		}
	}
	return nil
}

func labelSQL(target string, l pgmedic.SecurityLabel) string {
	return "SECURITY LABEL FOR " + sqltext.QuoteIdent(l.Provider) + " ON DATABASE " + target + " IS " + sqltext.QuoteLiteral(l.Label)
}

// MissingLabelProviders returns those of the providers whose library the server has
// not loaded for this session.
func MissingLabelProviders(ctx context.Context, conn *pgx.Conn, providers []string) (missing []string, err error) {
	for _, p := range providers {
		// The provider is looked up first, and asked for nothing: there is no such role.
		_, err := conn.Exec(ctx, "SECURITY LABEL FOR "+sqltext.QuoteIdent(p)+" ON ROLE \"no role of pgmedic's\" IS NULL")
		switch postgres.Code(err) {
		case "42704": // undefined_object: the role
		case "22023": // invalid_parameter_value: the provider
			missing = append(missing, p)
		default:
			return nil, postgres.Wrap(err, "look for security label provider "+sqltext.QuoteIdent(p))
		}
	}
	return missing, nil
}
