package test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the outputs that the scripts compare with")

// TestScripts runs testdata/script. Each script has a database of its own and
// these commands besides testscript's:
//
//	pgmedic CODE ARGS…   runs the program, which must end with the exit code
//	sql STATEMENT…       runs statements in the script's database
//	json PATH…           the last standard output is JSON that has each path
//	id NAME              sets a variable to the last standard output, one word
//	normal FILE          writes the last standard output with what differs
//	                     between runs replaced
//	damage FILE          flips a bit in the middle of the one file that matches
//	older ID NAME=HOURS… files the backup again as older ones, and sets variables
//	                     to their ids
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	// What is long, and not the main job.
	long := []string{
		"all_databases", "audit_acts", "audit_refused", "bad_server", "connect_db", "connect_pg", "diff_more", "incomplete", "partial", "report_deep", "schedule", "secrets", "shrunk", "signing",
	}
	isLong := func(path string) bool {
		return slices.Contains(long, strings.TrimSuffix(filepath.Base(path), ".txtar"))
	}
	switch {
	case testkit.Rest():
		files = slices.DeleteFunc(files, func(path string) bool { return !isLong(path) })
	case !testkit.All():
		files = slices.DeleteFunc(files, isLong)
	}
	runScripts(t, server, files...)
}

// TestGlobals makes and changes roles, which are the whole server's: each script has a
// server of its own.
func TestGlobals(t *testing.T) {
	files, err := filepath.Glob("testdata/script_roles/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		runScripts(t, scratchtest.New(t, scratch.Options{TCP: true, Password: password}), file)
	}
}

func runScripts(t *testing.T, on *scratch.Server, files ...string) {
	testscript.Run(t, testscript.Params{
		Files: files, UpdateScripts: *update, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error { return setup(env, on) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"pgmedic": pgmedicCommand, "sql": sqlCommand, "json": jsonCommand, "id": idCommand,
			"normal": normalCommand, "damage": damageCommand, "older": olderCommand,
		},
	})
}

func setup(env *testscript.Env, server *scratch.Server) error {
	name := "script_" + strings.ToLower(rand.Text()[:10])
	u, err := url.Parse(server.URL(name))
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "e2e-")
	if err == nil {
		err = os.Chmod(tmp, 0o755) // the server's user has to get in
	}
	if err != nil {
		return err
	}
	if err := executeAt(server.DSN("postgres"), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		return err
	}
	env.Values["dsn"] = server.DSN(name)
	env.Defer(func() {
		_ = os.RemoveAll(tmp)
		// What is left of a failed script goes with the server.
		_ = executeAt(server.DSN("postgres"), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	env.Vars = []string{
		"WORK=" + env.WorkDir, "PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "TMPDIR=" + tmp, "XDG_STATE_HOME=" + filepath.Join(tmp, ".local", "state"),
		"DB=" + name, "HOST=" + u.Hostname(), "PORT=" + u.Port(), "SUPERUSER=" + u.User.Username(),
		"PASS=" + password, "URL=" + server.URL(name), "SOCKET=" + server.SocketDir(), "BIN=" + server.BinDir(),
		"PGMEDIC=" + binary,
		"BACKUP_DIR=" + filepath.Join(env.WorkDir, "store"), "PGMEDIC_POSTGRES_DIRS=" + programs,
	}
	return nil
}

func pgmedicCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: pgmedic CODE ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(binary, args[1:]...)
	r := result{stdout: ts.ReadFile("stdout"), stderr: ts.ReadFile("stderr")}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if problem := badOutput(r); problem != "" {
		ts.Fatalf("%s", problem)
	}
	if r.code != want {
		ts.Fatalf("exit code %d instead of %d", r.code, want)
	}
	// A hint, if there is one, is the last line, and the error comes before.
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if n := len(lines); r.code != 0 && n > 1 && strings.HasPrefix(lines[n-1], "hint: ") && !strings.HasPrefix(lines[n-2], "error: ") {
		ts.Fatalf("the hint does not follow the error")
	}
}

func sqlCommand(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(executeAt(ts.Value("dsn").(string), args...))
}

// jsonCommand looks for dotted paths, in which a number is an index.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	var all any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &all))
	for _, arg := range args {
		path, want, compare := strings.Cut(arg, "=")
		v := all
		found := true
		for _, key := range strings.Split(path, ".") {
			switch node := v.(type) {
			case map[string]any:
				v, found = node[key]
			case []any:
				i, err := strconv.Atoi(key)
				if found = err == nil && i < len(node); found {
					v = node[i]
				}
			default:
				found = false
			}
			if !found {
				break
			}
		}
		if compare && found {
			text, err := json.Marshal(v)
			ts.Check(err)
			found = strings.Trim(string(text), `"`) == want
		}
		if found == neg {
			ts.Fatalf("%s: found %t", arg, found)
		}
	}
}

func idCommand(ts *testscript.TestScript, _ bool, args []string) {
	word := strings.TrimSpace(ts.ReadFile("stdout"))
	if word == "" || strings.ContainsAny(word, " \n") {
		ts.Fatalf("not one word: %q", word)
	}
	ts.Setenv(args[0], word)
}

func damageCommand(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s is %d files", args[0], len(found))
	}
	data, err := os.ReadFile(found[0])
	ts.Check(err)
	data[len(data)/2] ^= 4
	ts.Check(os.Chmod(found[0], 0o600))
	ts.Check(os.WriteFile(found[0], data, 0o600))
}

// normalCommand replaces ids, times, sizes and hashes.
func normalCommand(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	for _, name := range []string{"WORK", "DB"} {
		text = strings.ReplaceAll(text, ts.Getenv(name), "$"+name)
	}
	for _, r := range []struct{ pattern, with string }{
		{`\d{8}T\d{6}Z-[0-9a-f]{6}`, "ID"},
		{`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ`, "TIME"},
		{`sha256 [0-9a-f]+`, "sha256 HASH"},
		{`\b\d{19}\b`, "SYSTEM"},
		{`_[0-9a-f]{8}\b`, "_SUFFIX"},
		{`\d+ objects`, "N objects"},
		{`\d+ connections, snapshot`, "N connections, snapshot"}, // how many were open at once
		{`\d+ (B-trees|tables and their TOAST)`, "N $1"},
		// Not every system has all walls, or allows a server without a network.
		{`^ +(ok|warn) +cage .*\n( +hint.*\n)?`, ""},
		{`no network; `, ""},
		{`\b(just now|\d+ (s|min) ago)\b`, "AGO"},
		{`(< )?\d+(\.\d+)? (ms|s|min)\b`, "DURATION"},
		{`\d[\d,]*(\.\d+)? ([KMG]iB|B|bytes)\b`, "SIZE"},
		{`\d+\.\d:1`, "RATIO"},
		{`(PostgreSQL|pg_dump) \d+\.\d+`, "$1 VERSION"},
		{` on \S+$`, " on HOST"},
		{` {2,}`, "  "},
	} {
		text = regexp.MustCompile(`(?m)`+r.pattern).ReplaceAllString(text, r.with)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
