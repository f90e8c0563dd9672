package scratchtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// BouncerOptions say how PgBouncer works.
type BouncerOptions struct {
	// Mode is its pool_mode: session, transaction or statement.
	Mode string
	// PoolSize is how many sessions with the server a database and role have.
	PoolSize int
	// Database is the one database that it knows; empty means all.
	Database string
	// User and Password are with whom it logs in to the server; empty means the
	// superuser.
	User, Password string
	// Settings are further lines of its configuration.
	Settings []string
	// Newer is a major version of PostgreSQL with client programs of its own: it takes
	// the PgBouncer that came with them. Zero means that of the machine.
	Newer int
}

// Bouncer starts PgBouncer in front of a server, stops it at the end of the test,
// and returns a function that gives the connection string to a database through it. Whoever connects is logged in as the one role.
// Its port was free a moment ago; if somebody else has taken it since, it takes another.
func Bouncer(tb testing.TB, server *scratch.Server, o BouncerOptions) (dsn func(database string) string) {
	tb.Helper()
	program := bouncerProgram(tb, o.Newer)
	if o.User == "" {
		o.User, o.Password = server.Superuser(), server.Password()
	}
	var said []byte
	for range 10 {
		port := freePort(tb)
		dsn = func(database string) string {
			return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", o.User, port, database)
		}
		var started bool
		if started, said = tryBouncer(tb, program, server, o, port, dsn(cmp.Or(o.Database, "postgres"))); started {
			return dsn
		}
	}
	tb.Fatalf("PgBouncer does not start:\n%s", said)
	return nil
}

// freePort returns a port that nothing listened on just now.
func freePort(tb testing.TB) int {
	tb.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// tryBouncer starts PgBouncer at a port, and reports whether it answers there; else it
// has ended, and said returns its log.
func tryBouncer(tb testing.TB, program string, server *scratch.Server, o BouncerOptions, port int, dsn string) (started bool, said []byte) {
	tb.Helper()
	// PgBouncer runs as another user, who can't reach the test's own folder.
	dir, err := os.MkdirTemp("", "pgmedic-bouncer-") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	log := filepath.Join(dir, "log")
	cmd := bouncerCommand(tb, program, dir, bouncerConfig(server, o, port, log))
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if said, err := os.ReadFile(log); err == nil && tb.Failed() {
			tb.Logf("PgBouncer ended with %v and said:\n%s", cmd.ProcessState, said[max(0, len(said)-3000):])
		}
	})
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	for {
		said, err := os.ReadFile(log)
		// Who answers might be somebody else, unless this one says that it has the port.
		if err == nil && bytes.Contains(said, fmt.Appendf(nil, "listening on 127.0.0.1:%d\n", port)) {
			var conn *pgx.Conn
			if conn, err = pgx.Connect(ctx, dsn+"&default_query_exec_mode=exec"); err == nil {
				_ = conn.Close(ctx)
				return true, nil
			}
		}
		select {
		case <-done:
			said, _ = os.ReadFile(log)
			return false, said
		case <-ctx.Done():
			tb.Fatalf("PgBouncer does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// bouncerConfig returns the configuration of a PgBouncer at a port.
func bouncerConfig(server *scratch.Server, o BouncerOptions, port int, log string) string {
	return fmt.Sprintf(`[databases]
%s = host=127.0.0.1 port=%d user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = %d
max_client_conn = 200
logfile = %s
%s
`, cmp.Or(o.Database, "*"), server.Port(), o.User, o.Password, port, o.Mode, o.PoolSize, log, strings.Join(o.Settings, "\n"))
}

// bouncerCommand returns what runs PgBouncer with a configuration, in a folder, as a user
// that is not root.
func bouncerCommand(tb testing.TB, program, dir, text string) *exec.Cmd {
	tb.Helper()
	config := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "-q", config)
	if os.Geteuid() == 0 { // which it refuses to be
		account, err := user.Lookup("nobody")
		if err != nil {
			tb.Fatal(err)
		}
		uid, _ := strconv.ParseUint(account.Uid, 10, 32)
		gid, _ := strconv.ParseUint(account.Gid, 10, 32)
		for _, path := range []string{dir, config} {
			if err := os.Chown(path, int(uid), int(gid)); err != nil {
				tb.Fatal(err)
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
}

// bouncerProgram finds PgBouncer, or skips the test where only Debian has so new a one.
func bouncerProgram(tb testing.TB, newer int) string {
	tb.Helper()
	if newer != 0 {
		major := strconv.Itoa(newer)
		program := filepath.Join(CacheDir(), "debian", major, "lib", "postgresql", major, "bin", "pgbouncer")
		if _, err := os.Stat(program); err != nil {
			testkit.Elsewhere(tb, fmt.Sprintf("no PgBouncer of PostgreSQL %d's release here: scripts/setup.sh --all gets it on Debian: %v", newer, err))
		}
		return program
	}
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		// Debian's is where the path of users does not lead.
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			tb.Fatalf("run scripts/setup.sh: %v", err)
		}
	}
	return program
}
