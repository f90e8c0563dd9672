package dumpsql_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
)

const (
	ended = "--\n-- PostgreSQL database dump complete\n--\n"
	// cluster is what pg_dumpall writes, shortened.
	cluster = "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE nurse;\n" +
		"--\n-- Database \"clinic\" dump\n--\nCREATE DATABASE clinic;\n\\connect clinic\n\\restrict a1\nCREATE TABLE t (a text);\n" +
		"COPY public.t (a) FROM stdin;\n\\\\connect other\n\\.\n" + ended + "\\unrestrict a1\n" +
		"--\n-- Database \"Dr. \"\"Who\"\"'s\" dump\n--\n\\connect -reuse-previous=on \"dbname='Dr. \"\"Who\"\"\\'s'\"\nCREATE TABLE w ();\n" + ended +
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
		"not allowed":       {in: "SET a = 1;\n\\connect clinic\nSELECT 1;\n", err: `psql command (\connect)`},
		"pg_dump -C":        {in: "CREATE DATABASE clinic;\n\\connect clinic\nSELECT 1;\n\\connect clinic\nSELECT 2;\n" + ended, connects: true, has: []string{"CREATE DATABASE", "SELECT 1", "SELECT 2"}, not: []string{"connect"}, ended: true},
		"another database":  {in: "\\connect clinic\nSELECT 1;\n\\connect postgres\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"a service":         {in: "\\connect -reuse-previous=on \"service='x'\"\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"another host":      {in: "\\connect clinic postgres elsewhere\nSELECT 2;\n", connects: true, err: `psql command (\connect)`},
		"short":             {in: "\\c clinic\nSELECT 2;\n", connects: true, err: `psql command (\c)`},
		"a part":            {in: cluster, connects: true, database: "clinic", has: []string{"CREATE TABLE t", "\\\\connect other\n\\."}, not: []string{"nurse", "CREATE DATABASE", "CREATE TABLE w"}, ended: true},
		"an odd name":       {in: cluster, connects: true, database: `Dr. "Who"'s`, has: []string{"CREATE TABLE w"}, not: []string{"nurse", "CREATE TABLE t", "other"}, ended: true},
		"a part not there":  {in: cluster, connects: true, database: "elsewhere", not: []string{"CREATE TABLE"}},
		"shell in a part":   {in: strings.Replace(cluster, "CREATE TABLE w ();", "\\! id", 1), connects: true, database: "clinic", err: `psql command (\!)`},
		"cut":               {in: "SELECT 1;\n--\n-- PostgreSQL database dump comp", has: []string{"SELECT 1"}},
		"more behind it":    {in: "SELECT 1;\n" + ended + "SELECT 2;\n", has: []string{"SELECT 2"}},
		"a literal says so": {in: "SELECT '\n-- PostgreSQL database dump complete\n';\n", has: []string{"complete"}},
		"lines of Windows":  {in: "SELECT 1;\r\n--\r\n-- PostgreSQL database dump complete\r\n--\r\n", has: []string{"SELECT 1"}, ended: true},
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
