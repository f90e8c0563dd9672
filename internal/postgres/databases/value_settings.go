package databases

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// ValueSettings are the settings of the server's configuration on which values
// that a restore computes again can depend: generated columns, index keys,
// materialized views, checks, and the text of some types. A backup records them,
// and a private server gets them. Those of a database are recorded as its own.
func ValueSettings() []string {
	return []string{
		"array_nulls", "bytea_output", "DateStyle", "default_text_search_config", "extra_float_digits", "IntervalStyle",
		"lc_monetary", "lc_numeric", "lc_time", "TimeZone", "timezone_abbreviations", "transform_null_equals", "xmlbinary",
	}
}

// ReadValueSettings reads ValueSettings as a session with this database has them
// before it sets anything itself. One that the connection's own role has set for
// its sessions is left out: it belongs to that session alone.
func ReadValueSettings(ctx context.Context, conn *pgx.Conn) ([]pgmedic.Setting, error) {
	settings, err := postgres.Collect[pgmedic.Setting](ctx, conn, `
SELECT '' AS role, s.name, s.reset_val AS value FROM pg_catalog.pg_settings AS s
WHERE s.name = ANY ($1) AND NOT EXISTS (
	SELECT FROM pg_catalog.pg_db_role_setting AS r, unnest(r.setconfig) AS c (item)
	WHERE r.setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user) AND lower(split_part(c.item, '=', 1)) = lower(s.name))
ORDER BY s.name`, ValueSettings())
	return settings, postgres.Wrap(err, "read the server's settings")
}

// GiveToAll makes settings the default of every session with the server that has
// none of its own. It returns those that the server refused.
func GiveToAll(ctx context.Context, conn *pgx.Conn, settings []pgmedic.Setting) (refused []string, err error) {
	for _, s := range settings {
		sql := "ALTER ROLE ALL SET " + quoteSettingName(s.Name) + " TO " + sqltext.QuoteLiteral(s.Value)
		if _, err := conn.Exec(ctx, sql); err != nil {
			if postgres.Code(err) == "" {
				return refused, postgres.Wrap(err, "set "+s.Name)
			}
			refused = append(refused, s.Name+" = "+s.Value)
		}
	}
	return refused, nil
}

// hindering are settings of a database that would end, hinder or redirect the
// sessions that load it. Everything else is set before the first row comes.
func hindering() []string {
	return []string{
		"default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only", "event_triggers", "exit_on_error",
		"idle_in_transaction_session_timeout", "idle_session_timeout", "local_preload_libraries", "lock_timeout", "role",
		"session_preload_libraries", "session_replication_role", "statement_timeout", "transaction_timeout",
	}
}

// EarlySettings and LateSettings are the settings of d in two parts: those that
// are in force while it is loaded, as pg_restore --create has them, and those that
// would stand in the way.
func EarlySettings(d pgmedic.Database) pgmedic.Database {
	d.Settings = slices.DeleteFunc(slices.Clone(d.Settings), hinders)
	return d
}

// LateSettings is the other part: see EarlySettings.
func LateSettings(d pgmedic.Database) pgmedic.Database {
	d.Settings = slices.DeleteFunc(slices.Clone(d.Settings), func(s pgmedic.Setting) bool { return !hinders(s) })
	return d
}

// MoneyLocale returns the lc_monetary with which a backup's server writes amounts
// of type money, where the database does not set its own and so restores it, and
// the option by which a session has it.
func MoneyLocale(b *pgmedic.Backup) (locale, option string) {
	named := func(s pgmedic.Setting) bool { return s.Role == "" && strings.EqualFold(s.Name, "lc_monetary") }
	i := slices.IndexFunc(b.Server.Settings, named)
	if i < 0 || slices.ContainsFunc(b.Database.Settings, named) {
		return "", ""
	}
	locale = b.Server.Settings[i].Value
	return locale, "-c lc_monetary=" + strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(locale)
}

func hinders(s pgmedic.Setting) bool { return slices.Contains(hindering(), strings.ToLower(s.Name)) }
