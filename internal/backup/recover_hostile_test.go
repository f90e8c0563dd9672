package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// inFolder is a backup in a folder, and where its script runs.
type inFolder struct {
	*pgmedic.Backup
	folder, tmp, bin string
}

// backUpTo backs a database up, uncompressed where it is not encrypted, so that a
// test can write into it.
func backUpTo(t *testing.T, dsn string, method backup.Method, to age.Recipient) inFolder {
	t.Helper()
	c, dir := fixture.NewCatalogIn(t)
	o := fixture.BackupOptions(t, dsn, c)
	o.Method, o.Seal = method, seal.Options{Compression: seal.CompressionNone}
	if to != nil {
		o.Seal.Encryption, o.Wraps = seal.EncryptionAge, []seal.Wrap{{Name: "mine", To: to}}
	}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return inFolder{b, filepath.Join(dir, filepath.FromSlash(catalog.Folder(b.Server.Name, b.Database.Name, b.ID))), t.TempDir(), t.TempDir()}
}

// command is the backup's own script, with the programs of bin first.
func (s inFolder) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{filepath.Join(s.folder, "recover.sh"), "--server", server.DSN("")}, args...)
	cmd := exec.CommandContext(ctx, "bash", args...)
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":"+server.BinDir()+":"+os.Getenv("PATH"), "TMPDIR="+s.tmp, "BIN="+s.bin)
	return cmd
}

func (s inFolder) recover(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := s.command(t.Context(), args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	s.wantNothingLeft(t)
	return string(out), err
}

func (s inFolder) wantNothingLeft(t *testing.T) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(s.tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("the script left %q behind, %v", left, err)
	}
}

// shim puts a program of a few lines in the place of another.
func (s inFolder) shim(t *testing.T, name, text string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if filepath.Base(name) == "psql" || err != nil {
		path = filepath.Join(server.BinDir(), name)
	}
	text = "#!/bin/bash\nreal='" + path + "'\n" + text + "\n"
	if err := os.WriteFile(filepath.Join(s.bin, name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// rewrite changes an object.
func (s inFolder) rewrite(t *testing.T, role pgmedic.ObjectRole, change func([]byte) []byte) {
	t.Helper()
	o, ok := s.Object(role)
	if !ok {
		t.Fatalf("there is no %s", role)
	}
	path := filepath.Join(s.folder, o.Name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecoverTraps restores a database whose schema public holds operators and
// functions that anybody could have made, better matches than the server's own:
// none of them runs as the superuser who restores.
func TestRecoverTraps(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	trap := func(name, args, returns, body string) string {
		return "CREATE FUNCTION public." + name + "(" + args + ") RETURNS " + returns + " LANGUAGE plpgsql AS $$ BEGIN " +
			"RAISE EXCEPTION 'trap " + name + "'; RETURN " + body + "; END $$;"
	}
	sql := []string{"CREATE TABLE public.patients (id int PRIMARY KEY, name text)", "INSERT INTO public.patients VALUES (1, 'a')"}
	for name, body := range map[string]string{"format": "''", "quote_ident": "''", "set_config": "''", "lower": "''", "starts_with": "true"} {
		sql = append(sql, trap(name, "text, VARIADIC text[]", "text", body), trap(name, "text", "text", body), trap(name, "text, text, boolean", "text", body))
		if name == "format" {
			sql = append(sql, trap(name, "text, name", "text", body), trap(name, "text, name, name", "text", body))
		}
	}
	for i, operator := range []string{"=", "<>", "~", "!~"} {
		for j, types := range []string{"name, name", "text, text", "oid, oid", `"char", "char"`} {
			name := fmt.Sprintf("op_%d_%d", i, j)
			left, right, _ := strings.Cut(types, ", ")
			sql = append(sql, trap(name, types, "boolean", "true"),
				"CREATE OPERATOR public."+operator+" (FUNCTION = public."+name+", LEFTARG = "+left+", RIGHTARG = "+right+")")
		}
	}
	fixture.Exec(t, dsn, sql...)
	conn := testkit.Connect(t, dsn)
	if _, err := conn.Exec(t.Context(), "SET search_path = public, pg_catalog"); err != nil {
		t.Fatal(err)
	}
	for _, bare := range []string{"SELECT 'a'::name !~ '^pg_'", "SELECT format('%I', 'a'::name)", "SELECT 'a'::name <> 'b'", "SELECT c.oid = c.oid FROM pg_class AS c"} {
		if _, err := conn.Exec(t.Context(), bare); err == nil || !strings.Contains(err.Error(), "trap") {
			t.Errorf("%s runs into no trap: %v", bare, err)
		}
	}
	for name, method := range fixture.Methods(t, 1) {
		t.Run(name, func(t *testing.T) {
			s := backUpTo(t, dsn, method, nil)
			into := fixture.Name(t, server)
			// What a role's owner may set, and what an attacker would: their schema first.
			fixture.Exec(t, server.DSN("postgres"), "ALTER ROLE CURRENT_USER SET search_path = public, pg_catalog")
			defer fixture.Exec(t, server.DSN("postgres"), "ALTER ROLE CURRENT_USER RESET search_path")
			if out, err := s.recover(t, into); err != nil || strings.Contains(out, "trap") {
				t.Fatalf("%v\n%s", err, out)
			}
			if n := fixture.Query[int](t, server.DSN(into), "SELECT pg_catalog.count(*) FROM public.patients")[0]; n != 1 {
				t.Errorf("%d rows came back", n)
			}
			if stats := fixture.Query[bool](t, server.DSN(into), "SELECT reltuples OPERATOR(pg_catalog.=) 1 FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) 'public.patients'::pg_catalog.regclass"); !stats[0] {
				t.Error("no statistics were collected")
			}
		})
	}
}

// TestRecoverWraps: keys that others added to the backup don't stand in the way.
func TestRecoverWraps(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE t AS SELECT 1 AS a")
	mine, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(mine.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := backUpTo(t, dsn, backup.Parallel{Jobs: 1}, mine.Recipient())
	theirs, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var wrap bytes.Buffer
	w, err := age.Encrypt(&wrap, mine.Recipient())
	if err == nil {
		_, err = io.WriteString(w, theirs.String()+"\n")
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(s.folder, "keys")
	for name, data := range map[string][]byte{"aaa.age": wrap.Bytes(), "aab.age": make([]byte, 100_000), "aac\x1b[31m.age": wrap.Bytes()} {
		if err := os.WriteFile(filepath.Join(keys, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(keys, "aad.age"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := s.recover(t, "--identity", file, fixture.Name(t, server))
	if err != nil || !strings.Contains(out, "passing over keys/aaa.age: it holds a key") || !strings.Contains(out, "keys/aab.age: it is too large") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.ContainsRune(out, 0x1b) {
		t.Errorf("an escape was printed: %q", out)
	}
}

// TestRecoverSignals sends TERM to the script alone, in each of its steps: it ends
// at once, with all that it started, and leaves nothing.
func TestRecoverSignals(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TABLE t AS SELECT 1 AS a", "CREATE INDEX ON t (a)")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each says that it runs, and then hangs with its input and output open.
	const hang = "echo $$ >\"$BIN/pid\"; exec sleep 600"
	for name, shim := range testkit.Some(t, 2, map[string]struct{ program, when string }{
		"hashes":      {"sha256sum", ""},
		"key":         {"age", `[[ $* == *-o* ]]`},
		"definitions": {"age", `[[ $* != *-o* && -e $BIN/psql.ran ]]`},
		"section":     {"pg_restore", `[[ $* == *post-data* ]]`},
		"statistics":  {"psql", `[[ $* == *" -q -f -" ]]`},
	}) {
		t.Run(name, func(t *testing.T) {
			s := backUpTo(t, dsn, backup.Parallel{Jobs: 1}, identity.Recipient())
			s.shim(t, "psql", `[[ $1 == --version ]] || touch "$BIN/psql.ran"; exec "$real" "$@"`)
			when := shim.when
			if when == "" {
				when = "true"
			}
			s.shim(t, shim.program, `[[ $1 == --version ]] || touch "$BIN/`+shim.program+`.ran"
if [[ $1 != --version ]] && `+when+"; then "+hang+"; fi\nexec \"$real\" \"$@\"")
			cmd := s.command(t.Context(), "--identity", file, fixture.Name(t, server))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			testkit.Eventually(t, time.Minute, "the program hangs", func() bool {
				text, _ := os.ReadFile(filepath.Join(s.bin, "pid"))
				_, err := fmt.Sscan(string(text), &pid)
				return err == nil
			})
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its output is open until all that it started is gone
			if code := cmd.ProcessState.ExitCode(); code != 143 {
				t.Errorf("exit code %d:\n%s", code, out.String())
			}
			testkit.Eventually(t, time.Minute, "the program that it started is gone", func() bool { return !testkit.Alive(pid) })
			s.wantNothingLeft(t)
		})
	}
}

// TestRecoverBomb: no more of the definitions is written than the manifest says.
func TestRecoverBomb(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	s := backUpTo(t, dsn, backup.Parallel{Jobs: 1}, nil)
	s.rewrite(t, pgmedic.RoleSchema, func([]byte) []byte { return make([]byte, 64<<20) })
	s.shim(t, "head", `"$real" "$@" >"$BIN/out"; code=$?; cat "$BIN/out"; exit $code`)
	out, err := s.recover(t, "--no-check", fixture.Name(t, server))
	if err == nil || !strings.Contains(out, "the definitions are") {
		t.Errorf("%v\n%s", err, out)
	}
	o, _ := s.Object(pgmedic.RoleSchema)
	written, err := os.Stat(filepath.Join(s.bin, "out"))
	if err != nil || written.Size() != o.PlainBytes+1 {
		t.Errorf("%v bytes were written of definitions of %d, %v", written, o.PlainBytes, err)
	}
}

// TestRecoverForgedCommands: what somebody wrote into the backup's SQL or rows is
// no command of psql's.
func TestRecoverForgedCommands(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE TYPE mood AS ENUM ('sad')", // its rows are text
		"CREATE TABLE public.notes (id int, line text, mood mood[])", "INSERT INTO public.notes VALUES (1, 'an ordinary line, and a long one')",
		`COMMENT ON TABLE public.notes IS E'ends in \\'`)
	evidence := filepath.Join(t.TempDir(), "ran")
	payload := []byte("\\! touch '" + evidence + "'\n")
	dump := func(data []byte) []byte { return append(data, payload...) }
	rows := func(data []byte) []byte {
		forged := append([]byte("\\.\n"), payload...)
		return append(forged, data[min(len(forged), len(data)):]...)
	}
	const old = `for a in "$@"; do if [[ $a == \\restrict* ]]; then echo 'invalid command \restrict' >&2; exit 1; fi; done; exec "$real" "$@"`
	for _, tt := range testkit.SomeOf(t, 4, []struct {
		name   string
		method backup.Method
		role   pgmedic.ObjectRole
		change func([]byte) []byte
		old    bool
		args   []string
		fails  string // what it says
		ok     bool
	}{
		{name: "an honest dump", method: backup.Plain{}, ok: true},
		{name: "an honest dump, old psql", method: backup.Plain{}, old: true, fails: "--trust-dump"},
		{name: "an honest dump, old psql, trusted", method: backup.Plain{}, old: true, args: []string{"--trust-dump"}, ok: true},
		{name: "a dump", method: backup.Plain{}, role: pgmedic.RoleDump, change: dump, fails: "could not load"},
		{name: "a dump, old psql", method: backup.Plain{}, role: pgmedic.RoleDump, change: dump, old: true, fails: "--trust-dump"},
		{name: "globals", method: backup.Parallel{Jobs: 1}, role: pgmedic.RoleGlobals, change: dump, args: []string{"--globals"}},
		{name: "globals, old psql", method: backup.Parallel{Jobs: 1}, role: pgmedic.RoleGlobals, change: dump, old: true, args: []string{"--globals"}, fails: "--trust-dump"},
		{name: "rows", method: backup.Parallel{Jobs: 1}, role: pgmedic.RolePack, change: rows, old: true, fails: "pack-"},
	}) {
		t.Run(tt.name, func(t *testing.T) {
			s := backUpTo(t, dsn, tt.method, nil)
			if tt.change != nil {
				s.rewrite(t, tt.role, tt.change)
			}
			if tt.old {
				s.shim(t, "psql", old)
			}
			into := fixture.Name(t, server)
			out, err := s.recover(t, append(tt.args, "--no-check", into)...)
			if tt.ok && err != nil || tt.fails != "" && (err == nil || !strings.Contains(out, tt.fails)) {
				t.Errorf("%v\n%s", err, out)
			}
			if tt.ok && fixture.Query[string](t, server.DSN(into), "SELECT pg_catalog.obj_description('public.notes'::regclass)")[0] != `ends in \` {
				t.Error("the comment did not come back")
			}
			if err := os.Remove(evidence); err == nil {
				t.Errorf("a command was run:\n%s", out)
			}
		})
	}
}
