package pgtool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Command is one run of a client program.
type Command struct {
	Tool Tool
	// Args are its arguments, without the connection. They hold no secret:
	// every user of the machine can read them.
	Args []string
	// Target is the database; its password goes into the environment of this
	// one process.
	Target postgres.Target
	// Offline is true for a run that talks to no server; Target is not used.
	Offline bool
	// Options are server settings for the session, as PGOPTIONS takes them.
	// Through a pooler it gets none.
	Options string
	// Stdin is the program's input; nil means none.
	Stdin io.Reader
	// watch reads the program's standard error first, if it is not nil.
	watch *entryWatch
}

// Process is a running client program whose output is being read.
type Process struct {
	stdout io.ReadCloser
	wait   func() error
	cancel context.CancelFunc
	ended  bool // io.EOF was returned
}

// Start begins a client program. It dies with ctx, and on Linux also when this
// process is killed. The caller reads it to its end or calls Close.
func Start(ctx context.Context, c Command) (*Process, error) {
	run, cancel := context.WithCancel(ctx)
	cmd, stderr := command(run, c)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", c.Tool.Name, err)
	}
	// A child that is to die with its parent dies with the *thread* that
	// started it, so one goroutine keeps that thread to the end.
	started, readDone, result := make(chan error, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-readDone // Wait closes the pipe, so it must not come before the last read
		err = cmd.Wait()
		if run.Err() != nil {
			killRest(cmd.Process)
		}
		result <- err
	}()
	if err := <-started; err != nil {
		cancel()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("start %s: %w", c.Tool.Path, err)
	}
	finish := sync.OnceFunc(func() { close(readDone) })
	// A read of the pipe must not outlive ctx where a grandchild holds it open.
	stop := context.AfterFunc(run, finish)
	return &Process{
		stdout: stdout,
		cancel: cancel,
		wait: sync.OnceValue(func() error {
			finish()
			err := <-result
			stop()
			cancel()
			return exitError(ctx, c.Tool.Name, err, stderr.String())
		}),
	}, nil
}

// Read returns the program's standard output. It returns io.EOF only after the
// program has ended with success; output that ends in any other way ends in
// an error.
func (p *Process) Read(b []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	n, err := p.stdout.Read(b)
	if err == nil {
		return n, nil
	}
	if waitErr := p.wait(); waitErr != nil {
		return n, waitErr
	}
	if !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read a client program's output: %w", err)
	}
	p.ended = true
	return n, io.EOF
}

// Close ends the program if it still runs, and waits until it is gone.
func (p *Process) Close() error {
	p.cancel()
	_ = p.wait() // ended by us; what it says of that is of no use
	return nil
}

// Run runs a client program to its end and returns its error, if any. Its
// output is discarded.
func Run(ctx context.Context, c Command) error {
	p, err := Start(ctx, c)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, p)
	return err
}

func command(ctx context.Context, c Command) (*exec.Cmd, *tail) {
	switch {
	case c.Offline:
	case c.Target.ThroughPooler():
		c.Options = "" // a pooler refuses settings at the beginning of a session, or ignores them
	default:
		// pg_dump turns timeouts off itself, with statements that one of milliseconds
		// would end.
		c.Options = strings.TrimSpace(c.Target.Unhurried() + " " + c.Options)
		if c.Target.SpeaksEnglish() {
			c.Options += " -c lc_messages=C" // or explain can't read them
		}
	}
	if c.Options != "" {
		// Options in the connection string would win over PGOPTIONS, so ours
		// join what stands in either.
		theirs := c.Target.Value("options")
		if theirs == "" {
			theirs = os.Getenv("PGOPTIONS")
		}
		// As in our own sessions: a role that the database sets for its sessions is
		// not wanted, one that the connection string names is.
		if !postgres.AsksRole(theirs) {
			c.Options = "-c role=none " + c.Options
		}
		c.Options = strings.TrimSpace(theirs + " " + c.Options)
		c.Target = c.Target.With("options", "")
	}
	// libpq takes a whole connection string in place of a database's name.
	args := append([]string{"--no-password", "--dbname=" + c.Target.KeptAlive().Conninfo()}, c.Args...)
	if c.Offline {
		args = c.Args
	}
	cmd := exec.CommandContext(ctx, c.Tool.Path, args...)
	cmd.Env = environment(c)
	cmd.Stdin = c.Stdin
	stderr := &tail{}
	cmd.Stderr = stderr
	if c.watch != nil {
		c.watch.next, cmd.Stderr = stderr, c.watch
	}
	// SIGTERM lets pg_dump cancel its query on the server before it goes.
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	cmd.WaitDelay = 5 * time.Second
	dieWithParent(cmd)
	return cmd, stderr
}

// setSQL is what gives a session the settings of options, which are ours: words
// of the form -c name=value.
func setSQL(options string) string {
	var statements []string
	for _, word := range strings.Fields(options) {
		if name, value, ok := strings.Cut(word, "="); ok {
			statements = append(statements, "SET "+name+" = "+sqltext.QuoteLiteral(value))
		}
	}
	return strings.Join(statements, "; ")
}

// environment is what a client program may see: enough to find its libraries
// and to connect, and none of our own secrets.
func environment(c Command) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PGPASSWORD" && c.Target.Password() != "", name == "PGOPTIONS" && c.Options != "":
		case name == "PG_COLOR", name == "PG_COLORS": // colours would hide messages from explain
		case name == "PGCLIENTENCODING": // a dump is in the database's own encoding
		case strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "PGMEDIC"), strings.HasPrefix(name, "KRB5"),
			strings.HasPrefix(name, "LD_"), strings.HasPrefix(name, "DYLD_"), strings.HasPrefix(name, "SSL_CERT_"):
			env = append(env, kv)
		case name == "PATH", name == "HOME", name == "USER", name == "LOGNAME", name == "TMPDIR":
			env = append(env, kv)
		}
	}
	env = append(env, "LC_ALL=C", "PGAPPNAME=pgmedic")
	if password := c.Target.Password(); password != "" {
		env = append(env, "PGPASSWORD="+password)
	}
	if c.Options != "" {
		env = append(env, "PGOPTIONS="+c.Options)
	}
	return env
}

// tail keeps the first and the last part of what a program wrote to its
// standard error.
type tail struct {
	mu   sync.Mutex
	head []byte
	last []byte
}

const tailBytes = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if room := tailBytes - len(t.head); room > 0 {
		take := min(room, len(p))
		t.head, p = append(t.head, p[:take]...), p[take:]
	}
	t.last = append(t.last, p...)
	if len(t.last) > tailBytes {
		t.last = append([]byte(nil), t.last[len(t.last)-tailBytes:]...)
	}
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.head) + string(t.last)
}
