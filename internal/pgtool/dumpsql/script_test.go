package dumpsql_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

const dumpHead = "--\n-- PostgreSQL database dump\n--\n\n\\restrict AbC123\n\nSET x = 1;\n"

func TestScript(t *testing.T) {
	const rows = "COPY public.t (a) FROM stdin;\n\\N\n\\\\! id\n\\.\n"
	for _, tt := range []struct {
		name, in, want string
		refused        bool
	}{
		{name: "as pg_dump writes it", in: dumpHead + rows + "\\unrestrict AbC123\n\n",
			want: "--\n-- PostgreSQL database dump\n--\n\n\n\nSET x = 1;\n" + rows + "\n\n"},
		{name: "backslashes in strings", in: "SELECT 'a\\b', E'\\'\\\\', \"c\\d\", $$\\! id$$; -- \\! x\n",
			want: "SELECT 'a\\b', E'\\'\\\\', \"c\\d\", $$\\! id$$; -- \\! x\n"},
		{name: "event triggers that fire always",
			in: "CREATE EVENT TRIGGER a ON x;\nALTER EVENT TRIGGER a ENABLE ALWAYS;\nALTER EVENT TRIGGER \"b;\" ENABLE ALWAYS;\n" +
				"ALTER EVENT TRIGGER c ENABLE REPLICA;\n" + rows + "ALTER TABLE t;\nREFRESH MATERIALIZED VIEW m;\n",
			want: "CREATE EVENT TRIGGER a ON x;\n\n\nALTER EVENT TRIGGER c ENABLE REPLICA;\n" + rows + "ALTER TABLE t;\nREFRESH MATERIALIZED VIEW m;\n" +
				"ALTER EVENT TRIGGER a ENABLE ALWAYS;\nALTER EVENT TRIGGER \"b;\" ENABLE ALWAYS;\n"},
		{name: "words of event triggers in a body", in: "SELECT $$\nALTER EVENT TRIGGER a ENABLE ALWAYS;\n$$, '\nALTER EVENT TRIGGER a ENABLE ALWAYS;\n';\n",
			want: "SELECT $$\nALTER EVENT TRIGGER a ENABLE ALWAYS;\n$$, '\nALTER EVENT TRIGGER a ENABLE ALWAYS;\n';\n"},
		{name: "a program", in: dumpHead + "\\! id\n", refused: true},
		{name: "a program after a statement", in: "SELECT 1; \\! id\n", refused: true},
		{name: "a program in a statement", in: "SELECT 1 \\! id\n", refused: true},
		{name: "a program behind rows", in: rows + "\\! id\n", refused: true},
		{name: "a copy to a program", in: "\\copy t to program 'id'\n", refused: true},
		{name: "another database", in: "\\connect other\n", refused: true},
		{name: "more behind restrict", in: "\\restrict a \\! id\n", refused: true},
		{name: "cut off in a command", in: "\\restrict abc", refused: true},
		{name: "a program behind rows that end with a carriage return", in: "COPY public.t (a) FROM stdin;\n\\.\r\n\\! id\n\\.\n", refused: true},
		{name: "a program behind a NUL", in: "COPY public.t (a) FROM stdin;\nx\x00y\n\\.\nSELECT '\n\\.\n\\! id\n';\n", refused: true},
		{name: "a long command", in: "\\restrict " + strings.Repeat("a", 1<<20), refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
			} {
				got, err := io.ReadAll(dumpsql.NewScript(wrap(strings.NewReader(tt.in))))
				if tt.refused {
					if pgmedic.KindOf(err) != pgmedic.KindIntegrity || strings.Contains(strings.TrimPrefix(string(got), rows), "!") {
						t.Errorf("%s: passed on %q, %v", name, got, err)
					}
					continue
				}
				if err != nil || string(got) != tt.want {
					t.Errorf("%s: got\n%q, %v, want\n%q", name, got, err, tt.want)
				}
			}
		})
	}
}

func TestScriptPassesItsSourcesErrorOn(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader(dumpHead), iotest.ErrReader(broken))
	if _, err := io.ReadAll(dumpsql.NewScript(r)); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
}

// TestScriptWithout leaves statements out, and keeps what only looks like them.
func TestScriptWithout(t *testing.T) {
	const (
		make1  = "-- Name: t\n\nCREATE TABLE public.t (a int);\n"
		owner  = "\n\nALTER TABLE public.t OWNER TO \"a \"\"b;\";\n"
		owner2 = "ALTER FUNCTION public.f(text) OWNER TO bob;\n"
		check  = "ALTER TABLE public.t ADD CONSTRAINT c CHECK (a <> 'x OWNER TO y;');\n"
		grant  = "--\n-- Name: t; ACL\n--\n\nSET SESSION AUTHORIZATION bob;\nGRANT ALL ON TABLE public.t TO bob;\nRESET SESSION AUTHORIZATION;\n" +
			"ALTER DEFAULT PRIVILEGES FOR ROLE bob REVOKE ALL ON TABLES FROM PUBLIC;\n"
		rows  = "COPY public.t (a) FROM stdin;\nGRANT x;\nSELECT 1;\n\\.\n"
		value = "SELECT pg_catalog.setval('public.s', 1, true);\n"
		large = "BEGIN;\nSELECT pg_catalog.lo_open('1', 131072);\nSELECT pg_catalog.lowrite(0, '\\x');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;\n"
		body  = "CREATE FUNCTION f() AS $$\nBEGIN;\nGRANT x;\nCOPY public.t (a) FROM stdin;\n\\.\n$$;\n"
	)
	all := make1 + owner + owner2 + check + grant + rows + value + large + body + "SET y = 1;\n"
	for _, tt := range []struct {
		name    string
		without dumpsql.Without
		want    string
	}{
		{"nothing", dumpsql.Without{}, all},
		{"owners", dumpsql.Without{Owners: true}, make1 + check + rows + value + large + body + "SET y = 1;\n"},
		{"rows", dumpsql.Without{Rows: true}, make1 + owner + owner2 + check + grant + body + "SET y = 1;\n"},
		{"both", dumpsql.Without{Owners: true, Rows: true}, make1 + check + body + "SET y = 1;\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
			} {
				s := dumpsql.NewScript(wrap(strings.NewReader(all)))
				s.Without = tt.without
				got, err := io.ReadAll(s)
				if err != nil || packed(string(got)) != packed(tt.want) {
					t.Errorf("%s: got\n%s\n%v, want\n%s", name, packed(string(got)), err, packed(tt.want))
				}
			}
		})
	}
	long := "SELECT '" + strings.Repeat("x", 1<<20) + "';\nGRANT a TO b;\n"
	s := dumpsql.NewScript(strings.NewReader(long))
	s.Without.Owners = true
	if got, err := io.ReadAll(s); err != nil || packed(string(got)) != packed(strings.TrimSuffix(long, "GRANT a TO b;\n")) {
		t.Errorf("a long statement: %d bytes, %v", len(got), err)
	}
}

// packed is SQL without empty lines and comments.
func packed(sql string) string {
	var lines []string
	for line := range strings.Lines(sql) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
