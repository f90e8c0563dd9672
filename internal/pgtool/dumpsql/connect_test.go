package dumpsql_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

const (
	ended = "--\n-- PostgreSQL database dump complete\n--\n"
	// preamble is what pg_dumpall 15 writes between two databases.
	preamble = "\\unrestrict a1\n\n--\n-- Database \"wards\" dump\n--\n\n--\n-- PostgreSQL database dump\n--\n\n\\restrict b2\n\n" +
		"-- Dumped from database version 15.18\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n" +
		"SELECT pg_catalog.set_config('search_path', '', false);\nSET row_security = off;\n\n--\n-- Name: wards; Type: DATABASE; Schema: -; Owner: ana\n--\n\n" +
		"CREATE DATABASE wards WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';\n\n\nALTER DATABASE wards OWNER TO ana;\n\n\\unrestrict b2\n"
	// two has two databases with the same table.
	two = "\\connect clinic\n\\restrict a1\nCREATE TABLE t (a text);\nCOPY public.t (a) FROM stdin;\na\n\\.\nSELECT pg_catalog.setval('s', 1);\n" + ended + preamble +
		"\\connect wards\n\\restrict b2\nCREATE TABLE t (b text);\nCOPY public.t (b) FROM stdin;\nb\nb\n\\.\nSELECT pg_catalog.setval('s', 2);\n" + ended + "\\unrestrict b2\n"
	// cluster is what pg_dumpall writes, shortened.
	cluster = "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE nurse;\n" +
		"--\n-- Database \"clinic\" dump\n--\nCREATE DATABASE clinic;\n\\connect clinic\n\\restrict a1\nCREATE TABLE t (a text);\n" +
		"COPY public.t (a) FROM stdin;\n\\\\connect other\n\\.\n" + ended + "\\unrestrict a1\n" +
		"--\n-- Database \"Dr. \"Who\"'s\" dump\n--\nCREATE DATABASE \"Dr. \"\"Who\"\"'s\";\n\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='Dr. \"\"Who\"\"\\'s'\"\nCREATE TABLE w ();\n" + ended +
		"--\n-- PostgreSQL database cluster dump complete\n--\n"
)

func TestScriptConnects(t *testing.T) {
	for name, tt := range map[string]struct {
		in       string
		database string
		connects bool
		has, not []string
		ended    bool
		err      string
	}{
		"not allowed":            {in: "SET a = 1;\n\\connect clinic\nSELECT 1;\n", err: `psql command (\connect)`},
		"pg_dump -C":             {in: "CREATE DATABASE clinic;\n\\connect clinic\nSELECT 1;\n\\connect clinic\nSELECT 2;\n" + ended, connects: true, has: []string{"CREATE DATABASE", "SELECT 1", "SELECT 2"}, not: []string{"connect"}, ended: true},
		"another database":       {in: "\\connect clinic\nSELECT 1;\n\\connect postgres\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"a service":              {in: "\\connect -reuse-previous=on \"service='x'\"\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"another host":           {in: "\\connect clinic postgres elsewhere\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"an odd name of -C":      {in: "\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='a b'\"\nSELECT 1;\n" + ended, connects: true, has: []string{"SELECT 1"}, not: []string{"encoding"}, ended: true},
		"an odd name, refused":   {in: "\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='a b'\"\nSELECT 1;\n", err: `psql command (\connect)`},
		"an encoding alone":      {in: "\\connect clinic\n\\encoding SQL_ASCII\nSELECT 1;\n", connects: true, err: `psql command (\encoding)`},
		"an encoding at the end": {in: "\\connect clinic\n\\encoding SQL_ASCII\n", connects: true, err: `psql command (\encoding)`},
		"another encoding":       {in: "\\encoding SJIS\n\\connect -reuse-previous=on \"dbname='a b'\"\n", connects: true, err: `psql command (\encoding)`},
		"short":                  {in: "\\c clinic\nSELECT 2;\n", connects: true, err: `psql command (\c)`},
		"a part":                 {in: cluster, connects: true, database: "clinic", has: []string{"CREATE TABLE t", "\\\\connect other\n\\."}, not: []string{"nurse", "CREATE DATABASE", "CREATE TABLE w"}, ended: true},
		"an odd name":            {in: cluster, connects: true, database: `Dr. "Who"'s`, has: []string{"CREATE TABLE w"}, not: []string{"nurse", "CREATE TABLE t", "other"}, ended: true},
		"a part not there":       {in: cluster, connects: true, database: "elsewhere", not: []string{"CREATE TABLE"}},
		"shell in a part":        {in: strings.Replace(cluster, "CREATE TABLE w ();", "\\! id", 1), connects: true, database: "clinic", err: `psql command (\!)`},
		"cut":                    {in: "SELECT 1;\n--\n-- PostgreSQL database dump comp", has: []string{"SELECT 1"}},
		"more behind it":         {in: "SELECT 1;\n" + ended + "SELECT 2;\n", has: []string{"SELECT 2"}},
		"a literal says so":      {in: "SELECT '\n-- PostgreSQL database dump complete\n';\n", has: []string{"complete"}},
		"lines of Windows":       {in: "SELECT 1;\r\n--\r\n-- PostgreSQL database dump complete\r\n--\r\n", has: []string{"SELECT 1"}, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := dumpsql.NewScript(strings.NewReader(tt.in))
			s.Connects, s.Database = tt.connects, tt.database
			out, err := io.ReadAll(s)
			if tt.err != "" {
				var command *dumpsql.CommandError
				if err == nil || !strings.Contains(err.Error(), tt.err) || pgmedic.KindOf(err) != pgmedic.KindIntegrity || !errors.As(err, &command) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range tt.has {
				if !strings.Contains(string(out), text) {
					t.Errorf("%q is missing in %q", text, out)
				}
			}
			for _, text := range tt.not {
				if strings.Contains(string(out), text) {
					t.Errorf("%q is in %q", text, out)
				}
			}
			if s.Ended() != tt.ended {
				t.Errorf("ended: %v", s.Ended())
			}
			if want := tt.database != "elsewhere" && tt.database != ""; s.Found() != want {
				t.Errorf("found: %v", s.Found())
			}
		})
	}
}

// TestScriptPartOfSeveral takes each database out of a script of two: with its own rows
// and calls, and to its own end.
func TestScriptPartOfSeveral(t *testing.T) {
	for database, want := range map[string]string{
		"clinic": `map["public"."t":1] ["public"."t"] [SELECT pg_catalog.setval('s', 1)]`,
		"wards":  `map["public"."t":2] ["public"."t"] [SELECT pg_catalog.setval('s', 2)]`,
	} {
		s := dumpsql.NewScript(iotest.OneByteReader(strings.NewReader(two)))
		s.Connects, s.Database = true, database
		var tables, calls, rows []string
		s.Rows.OnTable = func(table string) { tables = append(tables, table) }
		s.Rows.OnCall = func(statement []byte) {
			if !strings.Contains(string(statement), "search_path") {
				calls = append(calls, string(statement))
			}
		}
		s.Rows.OnRows = func(string, []string) io.Writer { rows = append(rows, "rows"); return nil }
		out, err := io.ReadAll(s)
		if got := fmt.Sprint(s.Rows.Counts(), tables, calls); err != nil || !s.Ended() || got != want || len(rows) != 1 {
			t.Errorf("%s: ended %v, %s, %d times rows, %v", database, s.Ended(), got, len(rows), err)
		}
		if strings.Contains(string(out), "DATABASE ") || strings.Contains(string(out), "statement_timeout") {
			t.Errorf("%s: the other database's: %q", database, out)
		}
	}
}

// TestScriptBehindPart: what pg_dumpall writes ahead of the next database does not count as
// the part's. All else behind its end does, and none of it is lost.
func TestScriptBehindPart(t *testing.T) {
	const grants = "UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'it''s';\nDROP DATABASE IF EXISTS wards;\nCOMMENT ON DATABASE wards IS 'a;\n\\connect b';\n" +
		"GRANT CONNECT,TEMPORARY ON DATABASE wards TO ana;\nREVOKE ALL ON DATABASE wards FROM PUBLIC;\nSECURITY LABEL FOR \"a b\" ON DATABASE wards IS 'x';\n" +
		"ALTER ROLE \"a;b\" IN DATABASE wards SET search_path TO 'a;b', 'c';\nSET SESSION AUTHORIZATION 'ana';\n"
	for name, tt := range map[string]struct {
		behind  string
		ended   bool
		passes  []string
		without dumpsql.Without
		err     string
	}{
		"nothing":              {behind: "\\connect wards\n", ended: true},
		"all of a database":    {behind: preamble + grants + "\\connect wards\n", ended: true},
		"without owners":       {behind: preamble + grants + "\\connect wards\n", ended: true, without: dumpsql.Without{Owners: true}},
		"the part again":       {behind: "\\connect wards\nSELECT 0;\n\\connect clinic\nSELECT 1;\n", passes: []string{"SELECT 1"}},
		"its end again":        {behind: "\\connect wards\nSELECT 0;\n\\connect clinic\nSELECT 1;\n" + ended, ended: true, passes: []string{"SELECT 1"}},
		"no connect":           {behind: "SET a = 1;\nCREATE DATABASE wards;\n", passes: []string{"SET a = 1;", "CREATE DATABASE wards;"}},
		"half a statement":     {behind: "SET a = 1;\nCREATE DATABASE", passes: []string{"SET a = 1;", "CREATE DATABASE"}},
		"a table":              {behind: preamble + "CREATE TABLE late ();\nSET a = 1;\n\\connect wards\n", passes: []string{"row_security", "CREATE DATABASE wards", "CREATE TABLE late", "SET a = 1;"}},
		"rows":                 {behind: "COPY public.late (a) FROM stdin;\nlate\n\\.\n\\connect wards\n", passes: []string{"COPY public.late (a) FROM stdin;\nlate\n\\.\n"}},
		"a call":               {behind: "SELECT pg_catalog.setval('s', 9);\n\\connect wards\n", passes: []string{"setval('s', 9)"}},
		"another path":         {behind: "SELECT pg_catalog.set_config('search_path', 'x', false);\n\\connect wards\n", passes: []string{"'x'"}},
		"a setting of a query": {behind: "SET a = (SELECT 1);\n\\connect wards\n", passes: []string{"SET a = (SELECT 1);"}},
		"a lone semicolon":     {behind: ";\nCREATE DATABASE wards;\n\\connect wards\n", passes: []string{"CREATE DATABASE wards"}},
		"settings of more":     {behind: "SET a = 1;\nSELECT 1;\n" + ended + preamble + "\\connect wards\n", ended: true, passes: []string{"SET a = 1;\nSELECT 1;"}},
		"owners behind it":     {behind: "SET SESSION AUTHORIZATION ana;\nSET a = 1;\nALTER TABLE t OWNER TO ana;\nSELECT 1;\n\\connect wards\n", passes: []string{"SET a = 1;", "SELECT 1;"}, without: dumpsql.Without{Owners: true}},
		"a statement too long": {behind: "SET a = 1;\nCOMMENT ON DATABASE wards IS '" + strings.Repeat("x", 400<<10) + "';\nSET b = 2;\n\\connect wards\n", passes: []string{"SET a = 1;", "SET b = 2;"}},
		"a comment too long":   {behind: "SET a = 1;\n--" + strings.Repeat("x", 400<<10) + "\n\\connect wards\n", passes: []string{"SET a = 1;"}},
		"shell":                {behind: "CREATE DATABASE wards;\n\\! id\n", err: `psql command (\!)`},
	} {
		t.Run(name, func(t *testing.T) {
			s := dumpsql.NewScript(strings.NewReader("\\connect clinic\nCREATE TABLE t ();\n" + ended + tt.behind))
			s.Connects, s.Database, s.Without = true, "clinic", tt.without
			out, err := io.ReadAll(s)
			if tt.err != "" || err != nil {
				if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
					t.Error(err)
				}
				return
			}
			if s.Ended() != tt.ended {
				t.Errorf("ended: %v", s.Ended())
			}
			rest := string(out)
			for _, text := range append([]string{"CREATE TABLE t ();"}, tt.passes...) {
				var found bool
				if _, rest, found = strings.Cut(rest, text); !found {
					t.Errorf("%q is missing", text)
				}
			}
			if len(tt.passes) == 0 && strings.Contains(rest, ";") || tt.without.Owners && strings.Contains(string(out), "ana;") {
				t.Errorf("it passes: %q", out)
			}
		})
	}
}

// TestCommandName: a command is named, and nothing behind its name is.
func TestCommandName(t *testing.T) {
	for in, want := range map[string]string{
		"\\copy secret from 'x'\n": `(\copy)`, "\\! curl secret\n": `(\!)`, "\\gexec\n": `(\gexec)`, "\\o|secret\n": `(\o)`,
		"\\d+ secret\n": `(\d+)`, "\\SECRET\n": "psql command, which", "SELECT 1 \\gset secret\n": "psql command, which",
		"\\if secret": `(\if)`, "\\x": `(\x)`,
	} {
		_, err := io.ReadAll(dumpsql.NewScript(strings.NewReader(in)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(strings.ToLower(err.Error()), "secret") {
			t.Errorf("%q: %v", in, err)
		}
	}
}
