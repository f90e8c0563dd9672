package dumpfile_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/dumpfile"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// wantRefused restores a dump, and fails the test unless that fails with a kind and
// leaves nothing behind: no database, no file, no row in a message.
func wantRefused(t *testing.T, o dumpfile.Options, kind pgmedic.Kind, words string, change ...func(*restore.Options)) {
	t.Helper()
	into := fixture.Name(t, server)
	_, err := bringBack(t, server, o, into, change...)
	fixture.WantKind(t, err, kind, words)
	if err != nil && (strings.Contains(err.Error(), "Patient") || strings.Contains(err.Error(), phrase) || strings.Contains(err.Error(), "\n")) {
		t.Errorf("the message: %v", err)
	}
	if slices.Contains(fixture.Databases(t, server), into) {
		t.Errorf("database %s is still there", into)
	}
}

// small makes a database whose rows say what must never stand in a message, and a
// plain dump of it.
func small(t *testing.T) string {
	t.Helper()
	source := clinic(t, server)
	return string(dumps(t, server, source)["plain"])
}

// after puts text behind the first statement that makes a table.
func after(dump, text string) string {
	at := strings.Index(dump, "CREATE TABLE")
	at += strings.Index(dump[at:], ";\n") + 2
	return dump[:at] + text + dump[at:]
}

func TestPsqlCommands(t *testing.T) {
	dump, ran := small(t), filepath.Join(t.TempDir(), "ran")
	commands := []string{
		`\! touch RAN`, `\copy patients to program 'touch RAN'`, `\copy patients from 'RAN'`, `\o |touch RAN`, `\g |touch RAN`, `\gexec`, `\gset x_`,
		`\i RAN`, `\ir RAN`, `\include RAN`, `\set x y`, `\setenv PAGER 'touch RAN'`, "\\echo `touch RAN`", `\w |touch RAN`, `\connect postgres`, `\c postgres`,
		`\lo_export 4711 'RAN'`, `\lo_import 'RAN'`, `\password`, `\q`, `\cd /`, `\if true`, `\watch 1`, `\edit RAN`, "\\unrestrict `touch RAN`", "\\restrict `touch RAN`", `\gdesc`, `\crosstabview`,
	}
	if len(commands) < 20 {
		t.Fatal("20 commands are promised")
	}
	for _, command := range commands {
		t.Run(command, func(t *testing.T) {
			command = strings.ReplaceAll(command, "RAN", ran)
			wantRefused(t, options(t, write(t, []byte(after(dump, command+"\n")))), pgmedic.KindIntegrity, "psql command")
			if _, err := os.Stat(ran); err == nil {
				t.Error("it ran")
			}
		})
	}
}

// checked reads a dump and checks its statements, without a server.
func checked(dump string) error {
	return dumpsql.EachStatement(dumpsql.NewScript(strings.NewReader(dump)), func(st *dumpsql.Statement) error {
		_, err := dumpfile.CheckStatement(st, false)
		return err
	})
}

// spaced writes a statement in every way that is the same to the server: with each kind
// of white space and of comment between its words.
func spaced(statement string) []string {
	all := []string{statement}
	end := strings.LastIndex(statement, ";") // rows may follow
	for _, space := range []string{"\n", "\t", "\r\n", "\f", "/**/", " /* /* x */ */ ", " --x\n", "--x\r"} {
		var b strings.Builder
		for rest := statement[:end]; rest != ""; {
			token := sqltext.NextToken(rest)
			rest = rest[len(token.Text):]
			if token.Text == " " {
				token.Text = space
			}
			b.WriteString(token.Text)
		}
		all = append(all, b.String()+statement[end:], b.String()+space+statement[end:])
	}
	return all
}

// TestStatements: what pg_dump does not write is refused, however it is written.
func TestStatements(t *testing.T) {
	dump, ran := small(t), filepath.Join(t.TempDir(), "ran")
	statements := []string{
		"COPY patients TO PROGRAM 'touch RAN';", "COPY patients FROM PROGRAM 'touch RAN';", "copy patients to program 'touch RAN';",
		"COPY patients TO 'RAN';", "COPY patients (id) FROM STDIN;\n1\n\\.", "/* x */ COPY patients TO PROGRAM 'touch RAN';",
		"--x\rCOPY patients TO PROGRAM 'touch RAN';", "--x\rALTER SYSTEM\nSET work_mem = '1MB';",
		"DO $$ BEGIN EXECUTE 'COPY patients TO PROGRAM ''touch RAN'''; END $$;", "CALL p();", "SELECT pg_read_file('/etc/passwd');",
		"SELECT pg_catalog.pg_read_file('/etc/passwd');", "WITH x AS (SELECT 1) SELECT 1;", "LOAD '/tmp/x.so';", "ALTER SYSTEM SET shared_preload_libraries = 'x';",
		"ALTER /* */ SYSTEM SET work_mem = '1MB';", "CREATE ROLE evil SUPERUSER;", "CREATE USER evil SUPERUSER;", "ALTER ROLE postgres PASSWORD 'x';", "DROP ROLE evil;",
		"GRANT pg_execute_server_program TO PUBLIC;", "GRANT postgres TO evil /* ON */;", "GRANT ALL ON TABLESPACE pg_default TO PUBLIC;", "GRANT SET ON PARAMETER log_directory TO PUBLIC;",
		"CREATE DATABASE other;", "DROP DATABASE postgres;", "ALTER DATABASE postgres SET work_mem = '1MB';", "COMMENT ON DATABASE postgres IS 'x';", "GRANT ALL ON DATABASE postgres TO PUBLIC;",
		"DROP DATABASE \"live\" WITH (FORCE);", "CREATE DATABASE other TEMPLATE live;", "COMMENT ON ROLE postgres IS 'x';", "SECURITY LABEL FOR p ON DATABASE live IS 'x';",
		"SECURITY LABEL FOR p ON ROLE x IS 'y';", "ALTER ROLE postgres IN DATABASE live SET a TO 'b';", "REVOKE ALL ON TABLESPACE pg_default FROM PUBLIC;",
		"DROP OWNED BY CURRENT_USER;", "REASSIGN OWNED BY x TO y;", "IMPORT FOREIGN SCHEMA x FROM SERVER s INTO public;", "ALTER USER postgres PASSWORD 'x';",
		"CREATE SCHEMA x GRANT ALL ON DATABASE live TO PUBLIC;", "CREATE TEMP TABLE x (a int);", "SET ROLE postgres;", "SET session_preload_libraries = 'x';", "SET LOCAL search_path = public;",
		"SELECT pg_catalog.set_config('x', pg_read_file('/etc/passwd'), false);", "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);",
		"SELECT pg_catalog.setval('numbers', 1, true), lo_export(4711, 'RAN');", "SELECT pg_catalog.setval('numbers', (SELECT 1), true);", "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata;",
		"SELECT pg_catalog.lo_create('1') FROM lo_export(4711, 'RAN');", "SELECT * FROM pg_catalog.pg_restore_relation_stats('a', lo_export(4711, 'RAN'));",
		"INSERT INTO patients SELECT lo_export(4711, 'RAN');", "INSERT INTO patients VALUES (lo_export(4711, 'RAN'));", "INSERT INTO patients VALUES (1) RETURNING lo_export(4711, 'RAN');",
		"INSERT INTO patients (id) TABLE x;", "INSERT INTO patients VALUES ('1'::evil);", "CREATE TABLE x AS SELECT lo_export(4711, 'RAN');", "CREATE TABLE x (a) AS SELECT lo_export(4711, 'RAN');",
		"CREATE UNLOGGED TABLE x AS TABLE patients;", "CREATE MATERIALIZED VIEW x AS SELECT lo_export(4711, 'RAN');", "CREATE MATERIALIZED VIEW x AS SELECT lo_export(4711, 'RAN') WITH DATA;",
		"CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;", "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p WITH (connect = true);",
		"CREATE SUBSCRIPTION s CONNECTION 'WITH (connect = false)' PUBLICATION p;", "ALTER SUBSCRIPTION s ENABLE;", "ALTER SUBSCRIPTION s REFRESH PUBLICATION;",
		"SET standard_conforming_strings = off;", "SET standard_conforming_strings TO 'off';", "SET client_encoding = 'SJIS';", "SET client_encoding TO BIG5;", "SET NAMES 'GBK';",
		"CREATE TABLESPACE x LOCATION '/tmp';", "NOTIFY x;", "VACUUM;", "TRUNCATE patients;", "DELETE FROM patients;", "UPDATE patients SET name = 'x';", "PREPARE x AS SELECT 1;", "EXPLAIN ANALYZE SELECT 1;",
	}
	for _, statement := range statements {
		for _, written := range spaced(statement) {
			if err := checked(after(dump, written+"\n")); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("%q: %v", written, err)
			}
		}
	}
	for _, statement := range testkit.SomeOf(t, 5, statements) {
		t.Run(statement, func(t *testing.T) {
			text := strings.ReplaceAll(statement, "RAN", ran) + "\n"
			wantRefused(t, options(t, write(t, []byte(after(dump, text)))), pgmedic.KindIntegrity, "the dump")
			if _, err := os.Stat(ran); err == nil {
				t.Error("it ran")
			}
		})
	}
}

// TestStatementsOfDumps: what pg_dump writes passes.
func TestStatementsOfDumps(t *testing.T) {
	for _, sql := range []string{
		"SET statement_timeout = 0;", "SELECT pg_catalog.set_config('search_path', '', false);", "SET SESSION AUTHORIZATION 'x';", "RESET SESSION AUTHORIZATION;",
		"CREATE USER MAPPING FOR nurse SERVER s;", "DROP USER MAPPING IF EXISTS FOR nurse SERVER s;", "GRANT SELECT(id),INSERT(\"na()me\") ON TABLE public.t TO x;",
		"REVOKE GRANT OPTION FOR ALL ON FUNCTION f() FROM x;", "GRANT ALL ON SCHEMA public TO PUBLIC;", "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y;",
		"INSERT INTO public.t VALUES (1, 'COPY x TO PROGRAM');", "SECURITY LABEL FOR \"p-1\" ON TABLE public.t IS 'x';", "DROP TABLE IF EXISTS public.t;",
		"SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180000'::integer);", "-- a comment alone\n", "COMMENT ON TABLE t IS 'ON DATABASE';",
		"SET search_path = public, pg_catalog;", "SET standard_conforming_strings = on;", "SET client_encoding = 'LATIN1';", "SELECT pg_catalog.setval('public.\"s'')x\"', -5, true);",
		"SELECT pg_catalog.lo_create('16');", "SELECT pg_catalog.lo_open('16', 131072);", "SELECT pg_catalog.lowrite(0, '\\x00ff');", "SELECT pg_catalog.lo_close(0);", "SELECT pg_catalog.lo_unlink('16');",
		"SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '16';", "INSERT INTO public.t DEFAULT VALUES;", "INSERT INTO public.t DEFAULT VALUES ON CONFLICT DO NOTHING;",
		"INSERT INTO public.\"T\" (a, \"b c\") OVERRIDING SYSTEM VALUE VALUES\n\t(-1.5e3, NULL),\n\t(DEFAULT, B'01') ON CONFLICT DO NOTHING;", "INSERT INTO t VALUES (true, false, E'a\\'b', 'NaN');",
		"SELECT * FROM pg_catalog.pg_restore_attribute_stats('null_frac', '0.1'::real, 'most_common_freqs', '{0.1}'::real[], 'inherited', 'f'::boolean);",
		"CREATE TABLE public.t (\n    a integer GENERATED ALWAYS AS ((b + 1)) STORED\n)\nPARTITION BY RANGE (a);", "CREATE TABLE \"AS\" ();", "CREATE UNLOGGED TABLE t OF x;",
		"CREATE MATERIALIZED VIEW v AS\n SELECT 1\n  WITH NO DATA;", "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, slot_name = 's');", "ALTER SUBSCRIPTION s OWNER TO x;",
		"CREATE SCHEMA s;", "CREATE SCHEMA s AUTHORIZATION x;", "ALTER LARGE OBJECT 16 OWNER TO x;", "COMMENT ON COLUMN t.a IS 'x';", "GRANT USAGE ON FOREIGN SERVER s TO x;", "CREATE TRUSTED PROCEDURAL LANGUAGE p;",
		"REVOKE USAGE ON SCHEMA public FROM PUBLIC;", "CREATE EXTENSION IF NOT EXISTS x WITH SCHEMA public;", "ALTER TABLE t OWNER TO \"ON DATABASE x\";",
	} {
		j, err := dumpfile.CheckStatement(&dumpsql.Statement{SQL: "\n--\n-- Name: x\n--\n\n" + sql}, false)
		if err != nil || j != dumpfile.Run {
			t.Errorf("%s: %v, %v", sql, j, err)
		}
	}
	for _, sql := range []string{
		"CREATE DATABASE clinic WITH TEMPLATE = template0;", "ALTER DATABASE clinic OWNER TO nurse;", "ALTER DATABASE \"ON x\" SET a TO 'b';", "COMMENT ON DATABASE clinic IS 'x';",
		"GRANT CONNECT,TEMPORARY ON DATABASE clinic TO x;", "REVOKE ALL ON DATABASE clinic FROM x;", "ALTER ROLE nurse IN DATABASE clinic SET a TO 'b';", "SECURITY LABEL FOR p ON DATABASE x IS 'y';",
	} {
		j, err := dumpfile.CheckStatement(&dumpsql.Statement{SQL: sql}, true)
		if err != nil || j != dumpfile.LeaveOut {
			t.Errorf("%s: %v, %v", sql, j, err)
		}
	}
}

// TestWrongPassphrase, for each encryption.
func TestWrongPassphrase(t *testing.T) {
	plain := []byte(small(t))
	all, _ := encryptions(t)
	for name, encrypt := range all {
		if name == "none" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			o := options(t, write(t, encrypt(plain)))
			o.Passphrase = "wrong"
			if name == "age" { // to a public key whose secret is not here
				wantRefused(t, o, pgmedic.KindUsage, "none of the keys on this host opens it")
				o.Passphrase = ""
				wantRefused(t, o, pgmedic.KindUsage, "this host has no key for it")
				return
			}
			wantRefused(t, o, pgmedic.KindIntegrity, "wrong passphrase, or damaged")
			o.Passphrase = ""
			wantRefused(t, o, pgmedic.KindUsage, "this host has no key for it")
		})
	}
}

// TestTooNew: an archive of a later pg_dump is not taken for a damaged one, and is nothing
// that a later try would mend.
func TestTooNew(t *testing.T) {
	made := dumps(t, server, clinic(t, server))
	header := func(archive []byte, change func([]byte)) []byte {
		archive = bytes.Clone(archive)
		at := bytes.Index(archive, []byte("PGDMP")) // in a tar behind the name of its file
		change(archive[at:])
		return archive
	}
	newer := func(archive []byte) []byte { // as each version of pg_dump says itself
		return header(archive, func(h []byte) {
			version := fmt.Appendf(nil, "%d.", server.Major())
			copy(h, bytes.ReplaceAll(h[:200], version, []byte("99.")))
		})
	}
	format := func(minor byte) func([]byte) []byte {
		return func(archive []byte) []byte { return header(archive, func(h []byte) { h[6] = minor }) }
	}
	for name, test := range map[string]struct {
		content []byte
		words   string
	}{
		"program, custom": {newer(made["custom"]), "this archive is of pg_dump 99."},
		"program, tar":    {newer(made["tar"]), "pg_restore 99 or newer is needed"},
		"format":          {later(t, made["custom"]), "is an archive in version 1.17 of the format, and pg_restore"},
		"another header":  {format(200)(made["custom"]), "is an archive in version 1.200 of the format, and "},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, options(t, write(t, test.content)), pgmedic.KindUsage, test.words)
		})
	}
	// A version that pg_restore reads, whose contents it does not, is damaged all the same.
	cut := made["custom"][:len(made["custom"])*2/3]
	wantRefused(t, options(t, write(t, cut)), pgmedic.KindIntegrity, "")
}

// later makes a custom archive one of version 1.17 of the format: since 1.15 the compression
// is one byte, and was a number before.
func later(t *testing.T, archive []byte) []byte {
	t.Helper()
	const fixed = len("PGDMP") + 6
	head := bytes.Clone(archive[:fixed])
	rest := archive[fixed:]
	if head[6] < 15 {
		rest = append([]byte{1}, rest[1+int(head[8]):]...)
	}
	head[6] = 17
	return append(head, rest...)
}

// TestCut cuts dumps of every format and layer at several places, and changes bytes.
func TestCut(t *testing.T) {
	source := clinic(t, server)
	made := dumps(t, server, source)
	all, _ := encryptions(t)
	files := map[string][]byte{
		"gz": run(t, made["plain"], "gzip", "-c"), "zst": run(t, made["plain"], "zstd", "-qc"), "bz2": run(t, made["plain"], "bzip2", "-c"),
		"openssl": all["openssl pbkdf2"](made["plain"]), "openssl over gz": all["openssl pbkdf2"](run(t, made["plain"], "gzip", "-c")),
		"custom in gz": run(t, made["custom"], "gzip", "-c"), "directory in zst": run(t, made["directory"], "zstd", "-qc"),
	}
	for name, content := range made {
		files[name] = content
	}
	cuts := map[string][]byte{}
	for name, content := range files {
		// Zeros behind the end of a tar may be missing.
		whole := len(bytes.TrimRight(content, "\x00"))
		for _, at := range []int{whole / 3, whole * 6 / 10, whole * 9 / 10} {
			if name == "tar" || name == "directory" {
				at = at / 512 * 512 // perhaps between two files it is the least conspicuous
			}
			cuts[fmt.Sprintf("%s to %d of %d", name, at, len(content))] = content[:at]
		}
	}
	for name, content := range testkit.Some(t, 10, cuts) {
		t.Run(name, func(t *testing.T) { wantRefused(t, options(t, write(t, content)), pgmedic.KindIntegrity, "") })
	}
	// CBC has no sum of its own; what is inside has.
	for _, name := range []string{"gz", "zst", "bz2", "openssl over gz"} {
		t.Run(name+" changed", func(t *testing.T) {
			changed := bytes.Clone(files[name])
			changed[len(changed)*2/3] ^= 1
			wantRefused(t, options(t, write(t, changed)), pgmedic.KindIntegrity, "")
		})
	}
	t.Run("plain without its last line", func(t *testing.T) {
		text := string(made["plain"])
		wantRefused(t, options(t, write(t, []byte(text[:strings.LastIndex(text, "-- PostgreSQL database dump complete")]))), pgmedic.KindIntegrity, "cut short")
	})
}

// TestLayerBombs: what grows beyond what is allowed is stopped as it grows, and what
// has more layers than any script makes is refused.
func TestLayerBombs(t *testing.T) {
	dump := small(t)
	bomb := after(dump, "COMMENT ON TABLE public.patients IS '"+strings.Repeat("0", 20<<20)+"';\n")
	packed := run(t, []byte(bomb), "gzip", "-c")
	o := options(t, write(t, packed))
	o.MaxBytes = 4 << 20
	wantRefused(t, o, pgmedic.KindFailed, "grows beyond 4 MiB")
	for range 4 {
		packed = run(t, packed, "gzip", "-c")
	}
	wantRefused(t, options(t, write(t, packed)), pgmedic.KindIntegrity, "more than 4 layers")
}

func TestUnknown(t *testing.T) {
	utf16 := []byte("\xff\xfe-\x00-\x00\n\x00")
	for name, tt := range map[string]struct {
		content []byte
		words   string
		hint    string
	}{
		"empty":      {nil, "it is empty", ""},
		"text":       {[]byte("SELECT 1;\n"), "is not a dump of PostgreSQL", ""},
		"mysql":      {[]byte("-- MySQL dump 10.13\n"), "MySQL or MariaDB", ""},
		"UTF-16":     {utf16, "UTF-16", "--file"},
		"xz":         {run(t, []byte("x"), "xz", "-c"), "compressed with xz", "xz -dc"},
		"lz4":        {run(t, []byte("x"), "lz4", "-c"), "compressed with lz4", "lz4 -dc"},
		"zip":        {[]byte("PK\x03\x04xxxxxxxx"), "zip archive", "unzip -p"},
		"xz in gzip": {run(t, run(t, []byte("x"), "xz", "-c"), "gzip", "-c"), "inside of gzip: is compressed with xz", "xz -dc"},
		"gpg":        {[]byte("-----BEGIN PGP MESSAGE-----\n"), "encrypted with PGP", "gpg -d"},
		"databasus":  {[]byte("PGRSUS01xxxxxxxx"), "encrypted by Databasus", "download it in Databasus"},
		"other tar":  {run(t, nil, "tar", "-cf", "-", "-C", filepath.Dir(write(t, []byte("x"))), "dump.bin"), "not a file of a dump", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dumpfile.Open(t.Context(), options(t, write(t, tt.content)))
			if err == nil || !strings.Contains(err.Error(), tt.words) || !strings.Contains(pgmedic.HintOf(err), tt.hint) {
				t.Errorf("error %v, hint %q", err, pgmedic.HintOf(err))
			}
			if kind := pgmedic.KindOf(err); kind != pgmedic.KindUsage && kind != pgmedic.KindIntegrity {
				t.Errorf("kind %v", kind)
			}
		})
	}
	_, err := dumpfile.Open(t.Context(), options(t, filepath.Join(t.TempDir(), "none")))
	fixture.WantKind(t, err, pgmedic.KindNotFound, "read the dump")
	_, err = dumpfile.Open(t.Context(), options(t, t.TempDir()))
	fixture.WantKind(t, err, pgmedic.KindUsage, "a folder without a toc.dat")
}
