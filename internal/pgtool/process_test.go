package pgtool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// helperVariable makes the test binary a program that starts the named script
// as a client program, prints what that prints, and waits to be killed.
const helperVariable = "PGTOOL_TEST_HELPER"

func helper(script string) {
	p, err := pgtool.Start(context.Background(), pgtool.Command{Tool: pgtool.Tool{Name: "pg_dump", Path: script}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, err = io.Copy(os.Stdout, p)
	fmt.Println(err)
}

func start(t *testing.T, ctx context.Context, c pgtool.Command) *pgtool.Process { //nolint:revive // t first, as in every helper
	t.Helper()
	p, err := pgtool.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestStatusBeforeEOF(t *testing.T) {
	for name, test := range map[string]struct {
		script, output, want string
	}{
		"success":           {"echo rows", "rows\n", ""},
		"silent failure":    {"echo rows; exit 1", "rows\n", "pg_dump: ended with exit status 1"},
		"failure":           {"echo rows; echo 'pg_dump: error: server closed the connection unexpectedly' >&2; exit 1", "rows\n", "pg_dump: server closed the connection unexpectedly"},
		"killed":            {"echo rows; kill -9 $$", "rows\n", "pg_dump: ended with signal: killed"},
		"closes its output": {"echo rows; exec >&-; exit 3", "rows\n", "pg_dump: ended with exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, t.Context(), pgtool.Command{Tool: fake(t, "pg_dump", test.script)})
			output, err := io.ReadAll(p)
			if string(output) != test.output {
				t.Errorf("read %q", output)
			}
			if got := message(err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			// Asked again, it says the same.
			if n, again := p.Read(make([]byte, 1)); n != 0 || test.want == "" && !errors.Is(again, io.EOF) ||
				test.want != "" && message(again) != test.want {
				t.Errorf("a further read gives %d, %v", n, again)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestStartFails(t *testing.T) {
	if _, err := pgtool.Start(t.Context(), pgtool.Command{Tool: pgtool.Tool{Name: "x", Path: "/no/such/program"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	cause := errors.New("the caller had enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := pgtool.Start(ctx, pgtool.Command{Tool: fake(t, "pg_dump", "exit 0")}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// family prints its own process id and that of a child, and waits for ever.
const family = "sleep 600 & echo $$ $!; wait"

// pids reads what family prints.
func pids(t *testing.T, r io.Reader) (parent, child int) {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("%v %s", err, line)
	}
	if _, err := fmt.Sscan(line, &parent, &child); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	return parent, child
}

func TestCancelled(t *testing.T) {
	for name, script := range map[string]string{
		"ends when asked":   family,
		"children hold out": "(trap '' TERM; sleep 600; sleep 600) & echo $$ $!; wait",
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New("the caller had enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			p := start(t, ctx, pgtool.Command{Tool: fake(t, "pg_dump", script)})
			parent, child := pids(t, p)
			cancel(cause)
			_, err := io.Copy(io.Discard, p)
			if !errors.Is(err, cause) || strings.Contains(err.Error(), "signal") {
				t.Errorf("got %v", err)
			}
			if testkit.Alive(parent) {
				t.Error("the program still runs")
			}
			if runtime.GOOS == "linux" {
				testkit.Eventually(t, time.Minute, "its child is gone", func() bool { return !testkit.Alive(child) })
			}
		})
	}
}

func TestClose(t *testing.T) {
	p := start(t, t.Context(), pgtool.Command{Tool: fake(t, "pg_dump", "echo $$ 0; while :; do echo rows; done")})
	pid, _ := pids(t, p)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if testkit.Alive(pid) {
		t.Error("it still runs")
	}
	if _, err := p.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a read after Close gives %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		testkit.Elsewhere(t, "only Linux ends a child with its parent")
	}
	script := write(t, t.TempDir(), "pg_dump", "echo $$ 0; exec sleep 600")
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+script)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	pid, _ := pids(t, stdout)
	if !testkit.Alive(pid) {
		t.Fatal("it does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, "the program is gone", func() bool { return !testkit.Alive(pid) })
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://u:our-secret@h/d", "BACKUP_ENCRYPTION_KEY": "our-secret", "DB_PASSWORD": "our-secret",
		"AWS_SECRET_ACCESS_KEY": "our-secret", "PGMEDIC_PASSPHRASE": "our-secret",
		"PGPASSWORD": "of-the-environment", "PGSSLMODE": "disable", "PG_COLOR": "always", "PGCLIENTENCODING": "LATIN1",
		"PGOPTIONS": "-c work_mem=5MB", "LANG": "de_DE.UTF-8",
	} {
		t.Setenv(name, value)
	}
	target := func(s string) postgres.Target { return parse(t, s) }
	const unhurried = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
	for name, test := range map[string]struct {
		target  postgres.Target
		options string
		want    []string
		not     []string
	}{
		"nothing given": {
			target("host=h"), "",
			[]string{"PGPASSWORD=of-the-environment", "PGSSLMODE=disable", "PGAPPNAME=pgmedic", "LC_ALL=C", "PGOPTIONS=-c work_mem=5MB -c role=none " + unhurried},
			nil,
		},
		"password":                  {target("host=h password=its-own"), "", []string{"PGPASSWORD=its-own"}, []string{"of-the-environment"}},
		"options join":              {target("host=h"), "-c jit=off", []string{"PGOPTIONS=-c work_mem=5MB -c role=none " + unhurried + " -c jit=off"}, nil},
		"options join the target's": {target("host=h options='-c geqo=off'"), "-c jit=off", []string{"PGOPTIONS=-c geqo=off -c role=none " + unhurried + " -c jit=off"}, []string{"work_mem", "options='"}},
		"the role it asks for":      {target("host=h options='-c role=app'"), "", []string{"PGOPTIONS=-c role=app " + unhurried}, []string{"role=none"}},
		"through a pooler":          {target("postgres://h/?pgbouncer=true&options=-c%20geqo%3Doff"), "", []string{"options='-c geqo=off'"}, []string{"statement_timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, t.Context(), pgtool.Command{
				Tool: fake(t, "pg_dump", `tr '\0' '\n' </proc/$$/environ; echo "$@"`), Target: test.target, Options: test.options,
			})
			output, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %s in\n%s", want, output)
				}
			}
			for _, not := range append(test.not, "our-secret", "DATABASE_URL", "PG_COLOR", "PGCLIENTENCODING") {
				if strings.Contains(string(output), not) {
					t.Errorf("%s is in\n%s", not, output)
				}
			}
		})
	}
}

// TestNoPasswordInArguments looks where every user of the machine can.
func TestNoPasswordInArguments(t *testing.T) {
	if runtime.GOOS != "linux" {
		testkit.Elsewhere(t, "looks into /proc")
	}
	target := parse(t, "host=h password=its-own sslpassword=of-the-key dbname=d")
	p := start(t, t.Context(), pgtool.Command{Tool: fake(t, "pg_dump", "echo $$ 0; sleep 600; exit 1"), Target: target})
	pid, _ := pids(t, p)
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// It is the shell that tells its number and stays: what becomes another program has
	// neither arguments nor an environment for a moment.
	if text := read("environ"); !strings.Contains(text, "PGPASSWORD=its-own") {
		t.Error("the password is not in the environment")
	}
	if text := read("cmdline"); strings.Contains(text, "its-own") || strings.Contains(text, "of-the-key") || !strings.Contains(text, "host='h'") {
		t.Errorf("the password is among the arguments, or the target is not: %q", text)
	}
}

// TestWrongPassword asks a real server by a real program.
func TestWrongPassword(t *testing.T) {
	t.Setenv("PG_COLOR", "always")
	target := parse(t, server.URL("postgres"))
	err := pgtool.Run(t.Context(), pgtool.Command{Tool: tool(t, "pg_dump"), Target: target, Args: []string{"--schema-only"}})
	if err != nil {
		t.Errorf("with the right password: %v", err)
	}
	err = pgtool.Run(t.Context(), pgtool.Command{Tool: tool(t, "pg_dump"), Target: target.With("password", "guessed-wrongly")})
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(message(err), "password authentication failed") ||
		!strings.Contains(pgmedic.HintOf(err), "DB_PASSWORD") || strings.Contains(message(err), "guessed") {
		t.Errorf("%s: %v (%s)", pgmedic.KindOf(err), err, pgmedic.HintOf(err))
	}
}
