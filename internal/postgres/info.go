package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// ReadServer returns what the server says of itself. Name is left empty: what
// backups are filed under is the caller's decision.
func ReadServer(ctx context.Context, conn *pgx.Conn) (pgmedic.Server, error) {
	var s pgmedic.Server
	err := conn.QueryRow(ctx, `
SELECT current_setting('server_version'), current_setting('server_version_num')::int,
	pg_is_in_recovery(), (SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = 10)`).
		Scan(&s.Version, &s.VersionNum, &s.Standby, &s.BootstrapRole)
	if err != nil {
		return s, Wrap(err, "read the server's version")
	}
	// Debian's reads "15.18 (Debian 15.18-0+deb12u1)".
	s.Version, _, _ = strings.Cut(s.Version, " ")
	// Hosted servers may not let anyone call this; a backup does not fail for it.
	err = conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_catalog.pg_control_system()`).
		Scan(&s.SystemIdentifier)
	if err != nil && Code(err) == "" {
		return s, Wrap(err, "read the server's system identifier")
	}
	return s, nil
}

// ReadSettings returns the values of those of the named settings that the
// server has, with units.
func ReadSettings(ctx context.Context, conn *pgx.Conn, names []string) (map[string]string, error) {
	type row struct{ Name, Value string }
	rows, err := Collect[row](ctx, conn,
		"SELECT name, current_setting(name) AS value FROM pg_catalog.pg_settings WHERE name = ANY ($1)", names)
	if err != nil {
		return nil, Wrap(err, "read the server's settings")
	}
	settings := make(map[string]string, len(rows))
	for _, r := range rows {
		settings[r.Name] = r.Value
	}
	return settings, nil
}

// Clock returns the server's time minus ours; half of the round trip is its
// uncertainty.
func Clock(ctx context.Context, conn *pgx.Conn, now func() time.Time) (time.Duration, error) {
	before := now()
	var server time.Time
	if err := conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&server); err != nil {
		return 0, Wrap(err, "read the server's clock")
	}
	after := now()
	return server.Sub(before.Add(after.Sub(before) / 2)), nil
}

// Querier is a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// localeColumns returns the expressions for provider, ICU locale and ICU rules,
// which moved between versions 15, 16 and 17.
func localeColumns(versionNum int) string {
	provider := `CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END`
	switch {
	case versionNum >= 170000:
		return provider + `, coalesce(d.datlocale, ''), coalesce(d.daticurules, '')`
	case versionNum >= 160000:
		return provider + `, coalesce(d.daticulocale, ''), coalesce(d.daticurules, '')`
	case versionNum >= 150000:
		return provider + `, coalesce(d.daticulocale, ''), ''`
	}
	return `'libc', '', ''`
}

// ReadDatabase returns what the server knows of the connection's own database
// outside its rows. All databases of a server share what it reads, and may have
// other encodings: text is as it is stored, see ConnectBytes.
func ReadDatabase(ctx context.Context, conn *pgx.Conn, versionNum int) (d pgmedic.Database, err error) {
	err = inBytes(ctx, conn, func() (err error) {
		d, err = readDatabase(ctx, conn, versionNum)
		return err
	})
	return d, err
}

// ReadLocale returns the encoding and the locale of a database, which need not be the
// connection's own, and its name.
func ReadLocale(ctx context.Context, conn *pgx.Conn, name string, versionNum int) (pgmedic.Database, error) {
	d := pgmedic.Database{Name: name}
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
	`+localeColumns(versionNum)+` FROM pg_catalog.pg_database AS d WHERE d.datname = $1`, name).
		Scan(&d.Encoding, &d.Collate, &d.CType, &d.LocaleProvider, &d.ICULocale, &d.ICURules)
	return d, Wrap(err, "read the locale of a database")
}

func readDatabase(ctx context.Context, q Querier, versionNum int) (pgmedic.Database, error) {
	var d pgmedic.Database
	err := q.QueryRow(ctx, `
SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text,
	pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
	`+localeColumns(versionNum)+`,
	t.spcname::text, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
	d.datconnlimit, pg_catalog.pg_database_size(d.oid),
	-- Also one that says no more than the default, as a restore leaves it.
	d.datacl IS NULL OR ARRAY(SELECT a::text FROM unnest(d.datacl) AS a ORDER BY 1)
		= ARRAY(SELECT a::text FROM unnest(acldefault('d', d.datdba)) AS a ORDER BY 1)
FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_tablespace AS t ON t.oid = d.dattablespace
WHERE d.datname = current_database()`).
		Scan(&d.Name, &d.Owner, &d.Encoding, &d.Collate, &d.CType, &d.LocaleProvider, &d.ICULocale,
			&d.ICURules, &d.Tablespace, &d.Comment, &d.ConnectionLimit, &d.SizeBytes, &d.DefaultACL)
	if err != nil {
		return d, Wrap(err, "read the database's properties")
	}
	d.Comment = pgmedic.OwnComment(d.Comment) // a story is of this server, and must not travel
	reads := []struct {
		what string
		read func() error
	}{
		{"access list", func() (err error) { d.ACL, err = Collect[pgmedic.Grant](ctx, q, databaseACL); return }},
		{"settings", func() (err error) { d.Settings, err = Collect[pgmedic.Setting](ctx, q, databaseSettings); return }},
		{"extensions", func() (err error) { d.Extensions, err = Collect[pgmedic.Extension](ctx, q, extensions); return }},
		{"roles", func() (err error) { d.Roles, err = Collect[pgmedic.Role](ctx, q, databaseRoles); return }},
		{"security labels", func() (err error) {
			d.SecurityLabels, err = Collect[pgmedic.SecurityLabel](ctx, q, databaseLabels)
			return
		}},
		{"security label providers", func() (err error) { d.LabelProviders, err = CollectScalar[string](ctx, q, labelProviders); return }},
		{"tablespaces", func() (err error) { d.Tablespaces, err = CollectScalar[string](ctx, q, tablespaces); return }},
	}
	for _, r := range reads {
		if err := r.read(); err != nil {
			return d, Wrap(err, "read the database's "+r.what)
		}
	}
	if d.DefaultACL {
		d.ACL = nil
	}
	return d, nil
}

const databaseACL = `
SELECT coalesce(r.rolname, '')::text AS grantee, a.privilege_type::text AS privilege,
	a.is_grantable AS grantable
FROM pg_catalog.pg_database AS d, pg_catalog.aclexplode(d.datacl) AS a
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
WHERE d.datname = current_database() AND (a.grantee = 0 OR r.oid IS NOT NULL)
ORDER BY 1, 2`

const databaseSettings = `
SELECT coalesce(r.rolname, '')::text AS role, split_part(c, '=', 1) AS name,
	substr(c, strpos(c, '=') + 1) AS value
FROM pg_catalog.pg_db_role_setting AS s
	JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole,
	unnest(s.setconfig) WITH ORDINALITY AS u (c, n)
WHERE d.datname = current_database() AND (s.setrole = 0 OR r.oid IS NOT NULL)
ORDER BY 1, u.n`

const extensions = `
SELECT e.extname::text AS name, e.extversion AS version, n.nspname::text AS schema
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
ORDER BY 1`

// databaseRoles finds every role that a definition in a dump can name: who
// owns or is granted something in this database, or has a setting in it.
const databaseRoles = `
SELECT r.rolname::text AS name, r.rolsuper AS superuser
FROM pg_catalog.pg_roles AS r
WHERE r.rolname !~ '^pg_' AND (r.oid IN (
	SELECT s.refobjid FROM pg_catalog.pg_shdepend AS s JOIN pg_catalog.pg_database AS d
		ON d.datname = current_database() AND (s.dbid = d.oid
			OR s.classid = 'pg_catalog.pg_database'::regclass AND s.objid = d.oid)
	WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
	UNION SELECT s.subowner FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d
		ON d.oid = s.subdbid WHERE d.datname = current_database()
	UNION SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()
	UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_database AS d
		ON d.oid = s.setdatabase WHERE d.datname = current_database()
	UNION SELECT 10))
ORDER BY 1`

const tablespaces = `
SELECT DISTINCT t.spcname::text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_tablespace AS t ON t.oid = c.reltablespace
WHERE t.spcname !~ '^pg_'
ORDER BY 1`

// Collect returns the rows of a query, their columns in the fields of the same name.
func Collect[T any](ctx context.Context, q Querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// CollectScalar returns the rows of a query that have one column.
func CollectScalar[T any](ctx context.Context, q Querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

const databaseLabels = `
SELECT s.provider, s.label FROM pg_catalog.pg_shseclabel AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.objoid
WHERE s.classoid = 'pg_catalog.pg_database'::regclass AND d.datname = current_database() ORDER BY 1`

const labelProviders = `
SELECT provider FROM pg_catalog.pg_seclabel UNION SELECT s.provider FROM pg_catalog.pg_shseclabel AS s
	JOIN pg_catalog.pg_database AS d ON d.oid = s.objoid
WHERE s.classoid = 'pg_catalog.pg_database'::regclass AND d.datname = current_database() ORDER BY 1`
