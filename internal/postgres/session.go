package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// unlimitedSQL comes after begin, in SET commands, which take no time to plan: what
// ends a statement after milliseconds is off before one takes longer.
const unlimitedSQL = `SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0`

// settingsSQL gives a session settings that the role or the database may have
// set otherwise. One that this version of the server does not know, or that this
// role may not set, is left out.
const settingsSQL = `
SELECT pg_catalog.set_config(v.name, v.new, false)
FROM (VALUES %s) AS v (name, new)
WHERE EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) v.name
	AND (s.context OPERATOR(pg_catalog.=) 'user' OR (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)))`

// clientEncoding is the encoding of a session's text: UTF8, as Go has it. From a
// database encoded in SQL_ASCII, which may hold any bytes, and in MULE_INTERNAL,
// which no server turns into UTF8, text comes and goes as it is stored.
const clientEncoding = `CASE WHEN pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.=) ANY (ARRAY['SQL_ASCII', 'MULE_INTERNAL']) THEN 'SQL_ASCII' ELSE 'UTF8' END`

// everySession is for all sessions: text as Go has it, literals and arrays that
// mean what they say, definitions that print the same whoever asks, messages in
// the language in which pgtool and pgx know them, and nothing that ends or hinders
// a long run.
const everySession = `('client_encoding', ` + clientEncoding + `), ('xmloption', 'content'), ('standard_conforming_strings', 'on'),
	('array_nulls', 'on'), ('quote_all_identifiers', 'off'), ('row_security', 'off'), ('lc_messages', 'C'),
	('default_tablespace', ''), ('default_table_access_method', 'heap'),
	('default_transaction_read_only', 'off'), ('default_transaction_isolation', 'read committed'),
	('default_transaction_deferrable', 'off'), ('exit_on_error', 'off'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'), ('jit', 'off'),
	('restrict_nonsystem_relation_kind', 'view,foreign-table')`

// readingSession is for sessions that read: as pg_dump's, so that a value reads
// the same on every server.
const readingSession = `, ('datestyle', 'ISO'), ('intervalstyle', 'postgres'), ('extra_float_digits', '3'),
	('bytea_output', 'hex'), ('timezone', 'UTC'), ('transform_null_equals', 'off'), ('synchronize_seqscans', 'off')`

// noRoleSQL undoes a role that the database or the role sets for its sessions
// (ALTER DATABASE … SET role): what pgmedic may do is what the role that it
// connects as may do.
const noRoleSQL = `SELECT pg_catalog.set_config('role', 'none', false) WHERE EXISTS (
	SELECT FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS c (item)
	WHERE c.item OPERATOR(pg_catalog.~~) 'role=%'
		AND s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())])
		AND s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname OPERATOR(pg_catalog.=) session_user)]))`

// setUpSession gives a new session its settings. An asked role is one that the
// connection string names.
func setUpSession(ctx context.Context, conn *pgx.Conn, settings string, askedRole bool) error {
	// In one journey to the server: each is parsed after the one before.
	statements := []string{unlimitedSQL}
	if !askedRole {
		statements = append(statements, noRoleSQL)
	}
	statements = append(statements, fmt.Sprintf(settingsSQL, settings))
	return Wrap(ExecSimple(ctx, conn, strings.Join(statements, ";\n")), "set up the session")
}

// AsksRole reports whether options, as a connection string and PGOPTIONS have them,
// name a role.
func AsksRole(options string) bool {
	for _, word := range strings.Fields(options) {
		if strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(word, "-c"), "-"), "role=") {
			return true
		}
	}
	return false
}

// AllowViews lets a session read views and foreign tables, which sessions that
// only dump must not: they call functions. It is for sessions whose business
// the content of the database is.
func AllowViews(ctx context.Context, conn *pgx.Conn) error {
	const sql = `SELECT pg_catalog.set_config(name, '', false) FROM pg_catalog.pg_settings
WHERE name OPERATOR(pg_catalog.=) 'restrict_nonsystem_relation_kind'`
	_, err := conn.Exec(ctx, sql)
	return Wrap(err, "set up the session")
}

// OwnPath gives a session the search path that the role and the database set
// for it, for statements that a user wrote. From here on a bare name may be a
// function of anybody who may create one: pgmedic runs no statement of its own
// in such a session but those of transactions, SET and Close.
func OwnPath(ctx context.Context, conn *pgx.Conn) error {
	path, err := ReadOwnPath(ctx, conn)
	if err != nil {
		return err
	}
	return SetPath(ctx, conn, path)
}

// ReadOwnPath returns the search path that the session would have without ours: a
// list of names, each quoted where it needs to be.
func ReadOwnPath(ctx context.Context, conn *pgx.Conn) (string, error) {
	var path string
	err := conn.QueryRow(ctx, "SELECT reset_val FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'search_path'").Scan(&path)
	return path, Wrap(err, "read the search path")
}

// SearchedSchemas lists the schemas in which a session of the role with the
// database looks for a bare name, in order. While the path is the role's own,
// nothing is called but by qualified names.
func SearchedSchemas(ctx context.Context, conn *pgx.Conn) (schemas []string, err error) {
	path, err := ReadOwnPath(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := SetPath(ctx, conn, path); err != nil {
		return nil, err
	}
	err = conn.QueryRow(ctx, "SELECT pg_catalog.current_schemas(true)").Scan((*TextArray)(&schemas))
	if pathErr := SetPath(ctx, conn, ""); err == nil {
		err = pathErr
	}
	return schemas, Wrap(err, "read the search path")
}

// ExecSimple sends statements by the simple protocol, several at once if need
// be.
func ExecSimple(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
