package dumpsql_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

// What pg_dumpall writes, with what must not be mistaken for a statement's end.
const globalsSQL = `--
-- PostgreSQL database cluster dump; with a word; or two
--
\restrict abc
SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';
CREATE ROLE "Ev;il 'x""";
ALTER ROLE "Ev;il 'x""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c';
COMMENT ON ROLE grp IS E'line\\two; it\'s';
ALTER ROLE grp SET search_path TO 'a', 'b;';
ALTER ROLE grp IN DATABASE clinic SET work_mem TO '8MB';
GRANT grp TO "Ev;il 'x""" WITH ADMIN OPTION GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO grp;
CREATE TABLESPACE fast OWNER grp LOCATION '/srv/a;b';
REVOKE ALL ON TABLESPACE fast FROM grp;
SECURITY LABEL FOR "a""non" ON ROLE "Ev;il 'x""" IS 'MASKED; x';
SECURITY LABEL FOR dummy ON TABLESPACE fast IS E'\\\\;';
\unrestrict abc
SET SESSION AUTHORIZATION grp;
DROP ROLE grp;
SELECT 1;
\! touch /tmp/pwned
ALTER ROLE unfinished WITH LOGIN`

func TestReadGlobals(t *testing.T) {
	script, err := dumpsql.ReadGlobals(strings.NewReader(globalsSQL))
	if err != nil {
		t.Fatal(err)
	}
	got := script.Statements
	if !slices.Equal(script.Settings, []string{"SET standard_conforming_strings = on", "SET client_encoding = 'UTF8'"}) {
		t.Errorf("settings %q", script.Settings)
	}
	// Each is named, and no name or value of it.
	unknown := []string{"SET SESSION AUTHORIZATION", "DROP ROLE", "SELECT", "a command of psql", "a statement that is not finished: ALTER ROLE"}
	if !slices.Equal(script.Unknown, unknown) {
		t.Errorf("unknown: %q, want %q", script.Unknown, unknown)
	}
	const evil = `Ev;il 'x"`
	want := []dumpsql.GlobalStatement{
		{SQL: `CREATE ROLE "Ev;il 'x"""`, Creates: true, Roles: []string{evil}},
		{SQL: `ALTER ROLE "Ev;il 'x""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c'`, Roles: []string{evil}},
		{SQL: `COMMENT ON ROLE grp IS E'line\\two; it\'s'`, Roles: []string{"grp"}},
		{SQL: `ALTER ROLE grp SET search_path TO 'a', 'b;'`, Roles: []string{"grp"}},
		{SQL: `GRANT grp TO "Ev;il 'x""" WITH ADMIN OPTION`, Membership: true, Roles: []string{"grp", evil}},
		{SQL: `GRANT SET ON PARAMETER work_mem TO grp`, Roles: []string{"grp"}},
		{SQL: `CREATE TABLESPACE fast OWNER grp LOCATION '/srv/a;b'`, Creates: true, Tablespace: "fast"},
		{SQL: `REVOKE ALL ON TABLESPACE fast FROM grp`, Tablespace: "fast"},
		{SQL: `SECURITY LABEL FOR "a""non" ON ROLE "Ev;il 'x""" IS 'MASKED; x'`, Provider: `a"non`, Roles: []string{evil}},
		{SQL: `SECURITY LABEL FOR dummy ON TABLESPACE fast IS E'\\\\;'`, Provider: "dummy", Tablespace: "fast"},
	}
	same := func(a, b dumpsql.GlobalStatement) bool {
		return a.SQL == b.SQL && a.Creates == b.Creates && a.Membership == b.Membership && a.Tablespace == b.Tablespace && a.Provider == b.Provider && slices.Equal(a.Roles, b.Roles)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("statements:\n%+v\nwant\n%+v", got, want)
	}
}

// TestReadGlobalsRefuses: where the server would read other statements than we,
// there are none.
func TestReadGlobalsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a client's encoding": "SET client_encoding = 'SJIS';\nCREATE ROLE a;\n",
		"an alias of one":     "SET client_encoding = 'mskanji';\nCREATE ROLE a;\n",
		"one in two words":    "SET client_encoding = 'UTF8', 'x';\nCREATE ROLE a;\n",
		"a zero byte":         "CREATE ROLE a;\x00\n",
	} {
		if got, err := dumpsql.ReadGlobals(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestReadGlobalsReal runs what pg_dumpall writes of roles whose names, passwords
// and comments hold backslashes and quotes, and finds the same roles.
func TestReadGlobalsReal(t *testing.T) {
	target, conn := database(t)
	const roles = `SELECT coalesce(string_agg(concat_ws('|', rolname, rolpassword,
		(SELECT setconfig FROM pg_catalog.pg_db_role_setting WHERE setrole = a.oid), pg_catalog.shobj_description(oid, 'pg_authid')), '~' ORDER BY rolname), '')
		FROM pg_catalog.pg_authid AS a WHERE rolname ~ '^odd'`
	const drop = `DROP ROLE IF EXISTS "odd\ 'a"; DROP ROLE IF EXISTS "odd\"`
	exec(t, conn, drop+`; CREATE ROLE "odd\" PASSWORD E'it\'s \\'; CREATE ROLE "odd\ 'a" IN ROLE "odd\";
		COMMENT ON ROLE "odd\" IS E'ends in \\'; COMMENT ON ROLE "odd\ 'a" IS E'\\''; \\! id';
		ALTER ROLE "odd\" SET application_name = E'\\\'; x'`)
	t.Cleanup(func() { _, _ = conn.Exec(context.WithoutCancel(t.Context()), drop, pgx.QueryExecModeSimpleProtocol) })
	read := func() (text string) {
		if err := conn.QueryRow(t.Context(), roles).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := read()
	for _, conforming := range []string{"on", "off"} {
		p, err := pgtool.Start(t.Context(), pgtool.Command{
			Tool: tool(t, "pg_dumpall"), Target: target, Args: []string{"--globals-only"}, Options: "-c standard_conforming_strings=" + conforming,
		})
		if err != nil {
			t.Fatal(err)
		}
		script, err := dumpsql.ReadGlobals(p)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, conn, drop)
		exec(t, conn, "SET standard_conforming_strings = off")
		for _, sql := range script.Settings {
			exec(t, conn, sql)
		}
		for _, s := range script.Statements {
			if slices.ContainsFunc(s.Roles, func(name string) bool { return strings.HasPrefix(name, "odd") }) {
				exec(t, conn, s.SQL)
			}
		}
		if after := read(); after != before || before == "" {
			t.Errorf("%s: %q, want %q", conforming, after, before)
		}
	}
}

// TestClusterGlobals: of a whole server's dump what comes before the databases is read.
func TestClusterGlobals(t *testing.T) {
	const head = "\\connect postgres\nSET client_encoding = 'UTF8';\nCREATE ROLE a;\nALTER ROLE a WITH SUPERUSER LOGIN;\nCOMMENT ON ROLE a IS 'x\n\\connect y\n';\nCREATE ROLE b;\nALTER ROLE b WITH NOSUPERUSER PASSWORD 'SUPERUSER';\n"
	long := strings.Repeat("SELECT 1;\n", 3_000_000)
	for name, test := range map[string]struct {
		text    string
		made    int
		refused bool
	}{
		"to the databases": {head + "\\connect template1\nCREATE ROLE c;\n" + long, 2, false},
		"roles alone":      {head, 2, false},
		"clean": {"DROP DATABASE IF EXISTS wards;\nDROP TABLESPACE IF EXISTS fast;\nDROP ROLE IF EXISTS a;\n" + head + preamble +
			"UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1';\nREVOKE CONNECT,TEMPORARY ON DATABASE wards FROM PUBLIC;\n\\encoding SQL_ASCII\n" +
			"\\connect -reuse-previous=on \"dbname='a b'\"\nCREATE ROLE c;\n", 2, false},
		"no end within bounds": {head + long, 0, true},
	} {
		script, err := dumpsql.ReadClusterGlobals(strings.NewReader(test.text))
		if (err != nil) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		made, powers := 0, []string(nil)
		for _, s := range script.Statements {
			if s.Creates {
				made++
			}
			if s.Superuser {
				powers = append(powers, s.Roles[0])
			}
		}
		if made != test.made || !slices.Equal(powers, []string{"a"}) || len(script.Unknown) > 0 {
			t.Errorf("%s: %d roles, superusers %q, unknown %q", name, made, powers, script.Unknown)
		}
	}
}
