package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// bench is one test's place: a database, a folder to work in with a store in
// it, a folder for temporary files, and the environment of the program.
type bench struct {
	t        *testing.T
	database string
	// dir is the working folder, store that of the backups, tmp that of
	// temporary files.
	dir, store, tmp string
	// mark is in the environment of every process of this test.
	mark string
	env  []string
	// program is what is run; empty means binary.
	program string
	// wire is the way to the server, or nil.
	wire *wire
}

// newBench makes a database of a unique name, filled by the statements.
func newBench(t *testing.T, statements ...string) *bench {
	t.Helper()
	b := &bench{t: t, database: "e2e_" + strings.ToLower(rand.Text()[:10]), dir: t.TempDir(), mark: "/mark-" + rand.Text()}
	b.store = filepath.Join(b.dir, "store")
	// Not t.TempDir: its path is too long for a socket.
	tmp, err := os.MkdirTemp("", "e2e-") //nolint:usetesting // see above
	if err == nil {
		err = os.Chmod(tmp, 0o755) // the server's user has to get in
	}
	if err != nil {
		t.Fatal(err)
	}
	b.tmp = tmp
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	b.env = b.environ("DATABASE_URL=" + server.URL(b.database))
	mustExec(t, "postgres", "CREATE DATABASE "+b.database+" TEMPLATE template0")
	t.Cleanup(func() { dropAll(t, b.database) })
	mustExec(t, b.database, statements...)
	return b
}

// environ is a whole environment: nothing is inherited but the path.
func (b *bench) environ(more ...string) []string {
	return append([]string{
		// Children keep little but PATH.
		"PATH=" + os.Getenv("PATH") + string(os.PathListSeparator) + b.mark,
		"HOME=" + b.tmp, "TMPDIR=" + b.tmp, "BACKUP_DIR=" + b.store,
		// Where a user's would be: root's audit log is the machine's.
		"XDG_STATE_HOME=" + filepath.Join(b.tmp, ".local", "state"),
		"PGMEDIC_POSTGRES_DIRS=" + programs,
	}, more...)
}

// result is how a run of the program ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the program to its end and checks what holds for every run.
func (b *bench) run(args ...string) result {
	b.t.Helper()
	return b.start(args...).wait(2 * time.Minute)
}

// ok is run that must end with exit code 0; it returns standard output.
func (b *bench) ok(args ...string) string {
	b.t.Helper()
	r := b.run(args...)
	if r.code != 0 {
		b.t.Fatalf("pgmedic %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// child is a program that runs.
type child struct {
	b              *bench
	args           []string
	cmd            *exec.Cmd
	stdout, stderr *buffer
	done           chan struct{}
	err            error
}

func (b *bench) start(args ...string) *child {
	b.t.Helper()
	program := b.program
	if program == "" {
		program = binary
	}
	return b.startIn(b.dir, nil, program, args...)
}

// startAs starts a program that another user can get to, as that user.
func (b *bench) startAs(who *syscall.Credential, program string, args ...string) *child {
	b.t.Helper()
	return b.startIn(b.tmp, who, program, args...)
}

func (b *bench) startIn(dir string, who *syscall.Credential, program string, args ...string) *child {
	b.t.Helper()
	c := &child{b: b, args: args, stdout: &buffer{}, stderr: &buffer{}, done: make(chan struct{})}
	c.cmd = exec.Command(program, args...)
	c.cmd.Dir, c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = dir, b.env, c.stdout, c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	c.cmd.WaitDelay = time.Minute
	if err := c.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	b.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
	})
	return c
}

func (c *child) signal(s syscall.Signal) {
	c.b.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.b.t.Fatalf("pgmedic %s ended before it was signalled: %v\n%s", c.args[0], err, c.stderr)
	}
}

// wait waits for the program's end, within the given time.
func (c *child) wait(patience time.Duration) result {
	t := c.b.t
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatalf("pgmedic %s still runs after %s\n%s", strings.Join(c.args, " "), patience, c.stderr)
	}
	var exit *exec.ExitError
	if c.err != nil && !errors.As(c.err, &exit) {
		t.Fatalf("pgmedic %s: %v", c.args[0], c.err)
	}
	r := result{code: c.cmd.ProcessState.ExitCode(), stdout: c.stdout.String(), stderr: c.stderr.String()}
	if problem := badOutput(r); problem != "" {
		t.Errorf("pgmedic %s: %s\n%s%s", strings.Join(c.args, " "), problem, r.stdout, r.stderr)
	}
	r.wantSchemas(t, c.args)
	return r
}

// badOutput says what no run of the program may print.
func badOutput(r result) string {
	for _, text := range []string{r.stdout, r.stderr} {
		switch {
		case strings.Contains(text, password), strings.Contains(text, url.QueryEscape(password)):
			return "it prints the password"
		case strings.Contains(text, "goroutine "), strings.Contains(text, "panic:"):
			return "it prints a stack trace"
		}
	}
	var problems int
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "error: ") {
			problems++
		}
	}
	switch {
	case strings.Contains(r.stdout, "error: "), strings.Contains(r.stdout, " level="):
		return "it prints errors or logs to standard output"
	case problems > 1:
		return "it prints more than one error"
	case r.code == 0 && problems > 0:
		return "it prints an error and succeeds"
	}
	return ""
}

// buffer is written by a process and read by a test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// mustExec runs statements in a session of its own.
func mustExec(t *testing.T, database string, statements ...string) {
	t.Helper()
	if err := execute(database, statements...); err != nil {
		t.Fatal(err)
	}
}

func execute(database string, statements ...string) error {
	return executeAt(server.DSN(database), statements...)
}

func executeAt(dsn string, statements ...string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer testkit.End(conn)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w: %s", err, sql)
		}
	}
	return nil
}

// query returns the first column of the rows as text.
func query(t *testing.T, database, sql string, args ...any) []string {
	t.Helper()
	conn := testkit.Dial(t, server.DSN(database))
	defer testkit.End(conn)
	rows, err := conn.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var s *string
		err := row.Scan(&s)
		if s == nil {
			return "", err
		}
		return *s, err
	})
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	return all
}

// databasesOf lists those whose names begin as the given one's.
func databasesOf(t *testing.T, name string) []string {
	t.Helper()
	return query(t, "postgres", "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, $1) ORDER BY 1", name)
}

func dropAll(t *testing.T, name string) {
	for _, d := range databasesOf(t, name) {
		mustExec(t, "postgres", "DROP DATABASE IF EXISTS "+d+" WITH (FORCE)")
	}
}

// processes are those that have the test's mark in their environment.
func (b *bench) processes() []string {
	var found []string
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		environ, err := os.ReadFile(filepath.Join(folder, "environ"))
		pid, _ := strconv.Atoi(filepath.Base(folder))
		if err != nil || pid == os.Getpid() || !bytes.Contains(environ, []byte(b.mark)) {
			continue
		}
		if status, _ := os.ReadFile(filepath.Join(folder, "status")); killed(status) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		found = append(found, fmt.Sprintf("%d %q", pid, bytes.ReplaceAll(name, []byte{0}, []byte{' '})))
	}
	return found
}

// killed reports whether a process is dead as soon as the system gets to it: whether the
// SIGKILL that it was sent is still pending, by what is in its file status.
func killed(status []byte) bool {
	pending := regexp.MustCompile(`(?m)^(?:Sig|Shd)Pnd:\s*([0-9a-f]+)$`)
	for _, m := range pending.FindAllSubmatch(status, -1) {
		if set, err := strconv.ParseUint(string(m[1]), 16, 64); err == nil && set&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// leftovers are files in the folder for temporary ones.
func (b *bench) leftovers() []string {
	entries, err := os.ReadDir(b.tmp)
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".local" { // the home folder's
			names = append(names, e.Name())
		}
	}
	return names
}

// manifests are the backups in the store, by the one file that makes them one.
func (b *bench) manifests() []string {
	found, _ := filepath.Glob(filepath.Join(b.store, "*", "*", "*", "manifest.json"))
	return found
}

// noLocks checks that nobody holds an advisory lock on behalf of pgmedic.
func (b *bench) noRunLock() {
	b.t.Helper()
	// The key is not known here, but only pgmedic's sessions have this name;
	// other tests run at the same time, on other databases.
	if r := b.run("rollback", b.database, "--yes"); r.code == 14 {
		b.t.Errorf("a lock is left: %s", r.stderr)
	}
}

func contains(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}
