package dumpsql_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// hiding are scripts that hide a command from one who reads them in another way
// than psql does. PAYLOAD stands for it.
func hiding() map[string]string {
	long := "$" + strings.Repeat("a", 140) + "$"
	const rows = "COPY t FROM stdin;\nPAYLOAD\n\\.\n"
	return map[string]string{
		"at the beginning of a line":                    "PAYLOAD\n",
		"in a statement":                                "SELECT 1 PAYLOAD\n;\n",
		"standard_conforming_strings = off":             "SET standard_conforming_strings = off;\nSELECT '\\''; PAYLOAD #'\n;\n",
		"standard_conforming_strings set by a function": "SELECT set_config('standard_' || 'conforming_strings', 'off', false);\nSELECT '\\''; PAYLOAD #'\n;\n",
		"BEGIN ATOMIC, then COPY":                       "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1;\n" + rows + "END;\n",
		"open parenthesis, then COPY":                   "SELECT (1;\n" + rows + ");\n",
		"dollar tag of 140 letters":                     "SELECT " + long + " ' " + long + " PAYLOAD\n ';\n",
		"number and escape string":                      "SELECT 1E'\\'' PAYLOAD\n ';\n",
		"decimal and escape string":                     "SELECT 1.E'\\'' PAYLOAD\n ';\n",
		"parameter and escape string":                   "SELECT $1E'\\'' PAYLOAD\n ';\n",
		"variable and escape string":                    "SELECT :E'\\'' PAYLOAD\n ';\n",
		"number and dollar quote":                       "SELECT 1$$ ' $$ PAYLOAD\n ';\n",
		"parameter and dollar quote":                    "SELECT $1$$ ' $$ PAYLOAD\n ';\n",
		"carriage return ends a comment":                "SELECT 1; -- x\rPAYLOAD\n",
		"behind a COPY, on its line":                    "COPY t FROM stdin; PAYLOAD\nx\n\\.\n",
		"a COPY that is none":                           "COPY (SELECT 1) TO stdout;COPY t FROM stdin\n;\n\\.\nPAYLOAD\n",
		"carriage return at the rows' end":              "COPY t FROM stdin;\n\\.\r\nPAYLOAD\n\\.\n",
		"zero byte in a row":                            "COPY t FROM stdin;\nx\x00\n\\.\nSELECT '\n\\.\nPAYLOAD\n';\n",
		"trailing byte of SJIS":                         "SELECT set_config('client_' || 'encoding', 'SJIS', false);\nSELECT 'a\x83', ' PAYLOAD\n ';\n",
		"trailing byte of SJIS in a name":               "SELECT set_config('client_' || 'encoding', 'SJIS', false);\nSELECT 1 AS \"a\x83\", \" PAYLOAD\n \";\n",
		"result into a variable":                        "SELECT 'PAYLOAD' AS x \\gset\nSELECT :x\n;\n",
		"a query run":                                   "SELECT 'PAYLOAD' \\gexec\n",
		"output to a program":                           "SELECT 1 \\g |touch FILE\n",
		"all output to a program":                       "\\o |touch FILE\nSELECT 1;\n",
		"rows to a program":                             "\\copy (SELECT 1) to program 'touch FILE'\n",
		"backticks":                                     "\\set x `touch FILE`\n",
		"restricted by the dump":                        "\\restrict abc\nSELECT 1;\n\\unrestrict abc\nPAYLOAD\n",
	}
}

// loader runs scripts in a database, with a psql of each kind.
type loader struct {
	target   postgres.Target
	psql     pgtool.Tool
	evidence string // is there once a payload ran
}

func newLoader(t *testing.T) *loader {
	t.Helper()
	target, conn := database(t)
	exec(t, conn, "CREATE TABLE t (a text)")
	dir := t.TempDir()
	l := &loader{target: target, psql: tool(t, "psql"), evidence: filepath.Join(dir, "ran")}
	return l
}

// load passes a script through the filter to the server, and reports whether a
// payload ran.
func (l *loader) load(t *testing.T, script string) (ran bool, err error) {
	t.Helper()
	err = load(t.Context(), l.target, dumpsql.NewScript(strings.NewReader(script)))
	return l.gone(t, l.evidence), err
}

// bare gives a script to a psql as it was before August 2025, without us.
func (l *loader) bare(t *testing.T, script string) (ran bool) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), l.psql.Path, "-X", "-q", "-d", l.target.Conninfo(), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	_ = cmd.Run() // most of them fail
	return l.gone(t, l.evidence)
}

// gone removes a file, and reports whether it was there.
func (l *loader) gone(t *testing.T, path string) bool {
	t.Helper()
	err := os.Remove(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

func (l *loader) fill(script string) string {
	script = strings.ReplaceAll(script, "PAYLOAD", `\! touch FILE`)
	return strings.ReplaceAll(script, "FILE", l.evidence)
}

// TestLoadHidesNoCommand: no command that a script hides is run.
func TestLoadHidesNoCommand(t *testing.T) {
	l := newLoader(t)
	teeth := 0
	for name, script := range hiding() {
		script = l.fill(script)
		if l.bare(t, script) {
			teeth++
		}
		if ran, err := l.load(t, script); ran {
			t.Errorf("%s: the command ran (%v)", name, err)
		}
	}
	if teeth < 15 {
		t.Errorf("psql by itself runs %d of them: they show little", teeth)
	}
}

// TestLoadFuzzed does so with scripts made at random of what psql's language has.
func TestLoadFuzzed(t *testing.T) {
	n := testkit.Amount(60, 600, 5000)
	l := newLoader(t)
	teeth, passed := 0, 0
	for seed := range uint64(n) {
		script := l.fill(randomScript(rand.New(rand.NewPCG(seed, 1))))
		if seed%4 == 0 && l.bare(t, script) {
			teeth++
		}
		if _, err := io.Copy(io.Discard, dumpsql.NewScript(strings.NewReader(script))); err == nil {
			passed++
		} else if pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if ran, err := l.load(t, script); ran {
			t.Errorf("seed %d: the command ran (%v):\n%q", seed, err, script)
		}
	}
	t.Logf("%d scripts, %d of them passed the filter; psql by itself ran %d commands of a quarter", n, passed, teeth)
	if passed < n/20 || teeth < n/100 {
		t.Errorf("of %d scripts %d passed the filter, and psql by itself ran %d: they show little", n, passed, teeth)
	}
}

// randomScript makes a script that holds at least one payload.
func randomScript(r *rand.Rand) string {
	var b strings.Builder
	at, n := r.IntN(8), 3+r.IntN(10)
	for i := range n {
		if i == at%n {
			// Mostly where it is text, as some read it.
			b.WriteString(pick(r, "'", "'", "\"", "$$", "$x$", "E'", "/*", "-- ", "COPY t FROM stdin;\n", "\n", " "))
			b.WriteString(pick(r, "", "\n", "\r", "\\", "\\\\", " "))
			b.WriteString(pick(r, "PAYLOAD", "PAYLOAD", "PAYLOAD", "\\g |touch FILE", "\\o |touch FILE"))
			b.WriteString(pick(r, "\n", "\n\\.\n", "\r\n", "\n';\n"))
		}
		b.WriteString(piece(r))
	}
	return b.String()
}

func pick(r *rand.Rand, choices ...string) string { return choices[r.IntN(len(choices))] }

func piece(r *rand.Rand) string {
	switch r.IntN(12) {
	case 0:
		return pick(r, "SET standard_conforming_strings = off;\n", "SET standard_conforming_strings = on;\n",
			"SELECT set_config('standard_conforming_strings', 'off', false);\n")
	case 1:
		return pick(r, "SET client_encoding = 'SJIS';\n", "SET client_encoding = 'BIG5';\n", "SET client_encoding = 'GBK';\n",
			"SET client_encoding = 'GB18030';\n", "SET client_encoding = 'UTF8';\n", "\x83", "\xa3", "é", "表")
	case 2:
		return "SELECT " + pick(r, "'\\'", "'\\''", "'a''", "'a'", "E'\\''", "E'\\\\'", "U&'\\'", "N'\\'", "B'\\'", "1E'\\''", "1.E'\\''", "$1E'", ":E'", ":'a", "''") +
			pick(r, ";\n", "; ", "\n", ";\r")
	case 3:
		tag := pick(r, "", "x", "é", "_1", strings.Repeat("a", 128+r.IntN(3)))
		return "SELECT " + pick(r, "", "1", "a", "$1", "+") + "$" + tag + "$ " + pick(r, "'", "\"", "$", "/*", "--") +
			pick(r, "$"+tag+"$", "$", "$y$") + pick(r, ";\n", " ", "\n")
	case 4:
		return pick(r, "/*", "*/", "/* /* */", "/*/", "**/", "-- ' \n", "--\r", "-- $$ \n", "//*", "+--'\n")
	case 5:
		return pick(r, "(", ")", "SELECT (1;\n", ");\n", "(;", "[1:2]", "CREATE RULE r AS ON UPDATE TO t DO INSTEAD (SELECT 1; SELECT 2);\n")
	case 6:
		return pick(r, "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1;\n", "END;\n", "BEGIN;\n", "CASE ",
			"CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC\n", "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1';\n")
	case 7:
		return pick(r, "COPY t FROM stdin;\n", "COPY t (a) FROM stdin;\n", "copy t from stdin;\n", "COPY t FROM stdin; ", "COPY t TO stdout;\n", "COPY t FROM stdin\n;\n") +
			pick(r, "x\n", "\\N\n", "\\\\.\n", "\\.x\n", "'\n", "") + pick(r, "\\.\n", "\\.\r\n", "\\. \n", "")
	case 8:
		return pick(r, ":DBNAME", ":'DBNAME'", ":\"DBNAME\"", ":{?DBNAME}", ":x", "::text", ":", "`touch FILE`")
	case 9:
		return pick(r, ";\n", ";", "\n", "\r\n", "\r", "\\", "\\\n", "\\;", "\\:", "\\.\n")
	case 10:
		return fmt.Sprintf("SELECT %d;\n", r.IntN(9))
	default:
		return pick(r, "'", "''", "\"", "\"\"", "E'", "$$", "'\n'", "' ")
	}
}

// FuzzScript: what passes the filter passes it again as it is, however it comes,
// and holds no psql command at the beginning of a line that is no row and no text.
func FuzzScript(f *testing.F) {
	for _, script := range hiding() {
		f.Add(script)
	}
	for _, c := range rowCases() {
		f.Add(c.sql)
	}
	for seed := range uint64(50) {
		f.Add(randomScript(rand.New(rand.NewPCG(seed, 2))))
	}
	filter := func(r io.Reader) (string, error) {
		out, err := io.ReadAll(dumpsql.NewScript(r))
		return string(out), err
	}
	f.Fuzz(func(t *testing.T, script string) {
		whole, err := filter(strings.NewReader(script))
		parts, partsErr := filter(&slow{script})
		if (err == nil) != (partsErr == nil) || err == nil && whole != parts {
			t.Fatalf("whole: %q, %v; in parts: %q, %v", whole, err, parts, partsErr)
		}
		if err != nil {
			return
		}
		if again, err := filter(strings.NewReader(whole)); err != nil || again != whole {
			t.Errorf("again: %q, %v, want %q", again, err, whole)
		}
	})
}

// slow is a reader of three bytes at a time.
type slow struct{ rest string }

func (s *slow) Read(p []byte) (int, error) {
	if s.rest == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(3, len(p))], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
