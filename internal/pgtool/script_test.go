package pgtool_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
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
				got, err := io.ReadAll(pgtool.NewScript(wrap(strings.NewReader(tt.in))))
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
	if _, err := io.ReadAll(pgtool.NewScript(r)); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
}
