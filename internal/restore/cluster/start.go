package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// StartOptions say how a restored cluster is recovered and started.
type StartOptions struct {
	Dir  string
	Plan *recovery.Plan
	// BinDir has the program postgres of the plan's version.
	BinDir string
	// Owner is the user who runs it; nil is the user of the process.
	Owner *owner.ID
	// Environ is the environment of the server, and so of restore_command.
	Environ []string
	// Port overrides the configured port. Zero does not.
	Port int
	// Preload are libraries that the WAL needs, for a cluster without postgresql.conf.
	Preload []string
}

// Recovered is how far a recovery got.
type Recovered struct {
	// Redone is where the last record begins that PostgreSQL has replayed: 0 where it had
	// nothing to replay.
	Redone wal.LSN `json:"redone"`
	// Running is true where the server was started after that, as process PID.
	Running bool `json:"running"`
	PID     int  `json:"pid,omitempty"`
	// Log is the file of what PostgreSQL wrote.
	Log string `json:"log"`
}

const (
	logName = "pgmedic-recovery.log"
	// stopPatience is how long a server may take to stop that has nothing to do.
	stopPatience = time.Minute
	poll         = 50 * time.Millisecond
	// firstSummaries is the first major version that can summarize its WAL.
	firstSummaries = 17
)

// Start has PostgreSQL recover the cluster where no client can connect to it, compares how far
// it got with the plan, and only then starts it as it is configured. A recovery that ended
// elsewhere is a pgmedic.KindIntegrity error: the server is stopped then. It waits as long
// as the recovery takes.
func Start(ctx context.Context, o StartOptions) (*Recovered, error) {
	private, err := o.privateFolder()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	r := &Recovered{Log: filepath.Join(o.Dir, logName)}
	args, err := o.privately(private)
	if err != nil {
		return nil, err
	}
	server, err := o.launch(r.Log, args, true)
	if err != nil {
		return nil, err
	}
	failpoint.Hit(ctx, "cluster-recovering")
	seen, err := server.wait(ctx, func(l Log) bool { return l.ready })
	if err == nil {
		err = seen.Compare(o.Plan)
	}
	r.Redone = seen.Redone
	if stopErr := server.stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return r, err
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "postgresql.conf")); errors.Is(err, fs.ErrNotExist) {
		return r, pgmedic.Errorf(pgmedic.KindDegraded, "put postgresql.conf, pg_hba.conf and pg_ident.conf there, and start it", "the cluster is recovered, and not started: %s has no postgresql.conf", o.Dir)
	}
	return r, o.open(ctx, r)
}

// open starts the recovered server as it is configured.
func (o StartOptions) open(ctx context.Context, r *Recovered) error {
	args := []string{"-c", o.dataDirectory()}
	if o.Port > 0 {
		args = append(args, "-p", strconv.Itoa(o.Port))
	}
	server, err := o.launch(r.Log, args, false)
	if err != nil {
		return err
	}
	for {
		if o.accepts() {
			r.Running, r.PID = true, server.cmd.Process.Pid
			return nil
		}
		select {
		case <-server.done:
			return pgmedic.Errorf(pgmedic.KindFailed, "see "+r.Log+" and the server's own log; start it yourself, it is recovered", "the cluster is recovered as planned, and does not start as it is configured: %s", server.said().Why())
		case <-ctx.Done():
			return context.Cause(ctx) // it goes on starting
		case <-time.After(poll):
		}
	}
}

// accepts reports whether the server says that it is ready, in the eighth line of
// postmaster.pid (LOCK_FILE_LINE_PM_STATUS in miscadmin.h).
func (o StartOptions) accepts() bool {
	text, err := os.ReadFile(filepath.Join(o.Dir, pidFile))
	lines := strings.Split(string(text), "\n")
	return err == nil && len(lines) >= 8 && strings.TrimSpace(lines[7]) == "ready"
}

// privateFolder makes a folder for the server's socket, which this user and the server's
// alone can enter.
func (o StartOptions) privateFolder() (dir string, err error) {
	dir, err = os.MkdirTemp("/tmp", "pgmedic-")
	if err == nil && o.Owner != nil {
		err = os.Chown(dir, o.Owner.UID, o.Owner.GID)
	}
	if err != nil {
		return "", fmt.Errorf("make a folder for the recovering server: %w", err)
	}
	return dir, nil
}

// privately are the arguments with which no client can connect, and the log says in English
// how far it got.
func (o StartOptions) privately(private string) ([]string, error) {
	args := []string{"-p", "5432", "-c", o.dataDirectory()}
	for _, setting := range []string{
		"listen_addresses=", "unix_socket_directories=" + private, "unix_socket_permissions=0700", "hot_standby=off",
		"logging_collector=off", "log_destination=stderr", "log_min_messages=log", "log_line_prefix=", "log_error_verbosity=terse",
		"log_min_error_statement=panic", "lc_messages=C", "timezone=UTC", "log_timezone=UTC", "autovacuum=off", "archive_mode=off", "ssl=off",
	} {
		args = append(args, "-c", setting)
	}
	if o.Plan.Major >= firstSummaries {
		// One that misses a segment waits for 10 seconds, and a server that stops waits for it.
		args = append(args, "-c", "summarize_wal=off")
	}
	// Its own files can lie where they are not on this machine.
	access, users := filepath.Join(private, "pg_hba.conf"), filepath.Join(private, "pg_ident.conf")
	if err := errors.Join(o.writePrivate(access, "local all all reject\n"), o.writePrivate(users, "")); err != nil {
		return nil, err
	}
	args = append(args, "-c", "hba_file="+access, "-c", "ident_file="+users)
	if _, err := os.Stat(filepath.Join(o.Dir, "postgresql.conf")); err == nil {
		return args, nil
	}
	// The server had its configuration outside of the data folder.
	config := filepath.Join(private, "postgresql.conf")
	text := fmt.Sprintf("shared_preload_libraries = %s\n", quote(strings.Join(o.Preload, ",")))
	return append(args, "-c", "config_file="+config), o.writePrivate(config, text)
}

// dataDirectory is the setting that has the server open this folder, whatever a file says
// that its configuration includes.
func (o StartOptions) dataDirectory() string { return "data_directory=" + o.Dir }

func (o StartOptions) writePrivate(file, text string) error {
	err := os.WriteFile(file, []byte(text), fileMode)
	if err == nil && o.Owner != nil {
		err = os.Chown(file, o.Owner.UID, o.Owner.GID)
	}
	if err != nil {
		return fmt.Errorf("write the configuration of the recovering server: %w", err)
	}
	return nil
}

// running is a server that was started.
type running struct {
	cmd  *exec.Cmd
	log  string
	from int64 // up to where the log was read
	seen Log
	done chan struct{}
}

// launch starts postgres, which goes on when this process ends, unless it is private: no client
// can connect to such a one, and nothing else would stop it.
func (o StartOptions) launch(log string, args []string, private bool) (_ *running, err error) {
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	out, err := root.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if o.Owner != nil {
		if err := out.Chown(o.Owner.UID, o.Owner.GID); err != nil {
			return nil, fmt.Errorf("start PostgreSQL: %w", err)
		}
	}
	info, err := out.Stat()
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	r := &running{log: log, from: info.Size(), done: make(chan struct{})}
	r.cmd = exec.Command(filepath.Join(o.BinDir, "postgres"), append([]string{"-D", o.Dir}, args...)...) //nolint:noctx // it outlives the context
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = o.Dir, o.Environ, out, out
	r.cmd.SysProcAttr = processAttributes(private)
	if o.Owner != nil {
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.Owner.UID), Gid: uint32(o.Owner.GID)}
	}
	if err := r.run(); err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "let the user that runs PostgreSQL read its programs, and the data folder", "start PostgreSQL: %w", err)
	}
	return r, nil
}

// run starts the process, and waits for it in the background.
func (r *running) run() error {
	started := make(chan error, 1)
	go func() {
		// The signal at our death is sent at that of the thread that started it. Go ends threads
		// at will, but not one that a goroutine is locked to.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := r.cmd.Start()
		started <- err
		if err == nil {
			_ = r.cmd.Wait() // its log says why it ended
			close(r.done)
		}
	}()
	return <-started
}

// wait waits until the log says something, or the server has ended.
func (r *running) wait(ctx context.Context, until func(Log) bool) (Log, error) {
	for {
		select {
		case <-r.done:
			s := r.said()
			hint := "see " + r.log + "; start PostgreSQL again when the cause is gone: it goes on with the recovery"
			return s, pgmedic.Errorf(pgmedic.KindFailed, hint, "the recovery stopped, and the server is not open: %s", s.Why())
		case <-ctx.Done():
			return r.said(), context.Cause(ctx)
		case <-time.After(poll):
		}
		if s := r.said(); until(s) {
			return s, nil
		}
	}
}

// stop stops the server.
func (r *running) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGINT) // an error means that it has ended
	select {
	case <-r.done:
		return nil
	case <-time.After(stopPatience):
		_ = r.cmd.Process.Signal(syscall.SIGQUIT)
		<-r.done
		return pgmedic.Errorf(pgmedic.KindFailed, "see "+r.log, "the recovering server did not stop in %s, and was ended", words.Duration(stopPatience))
	}
}

// said reads what the log has more than at the last call.
func (r *running) said() Log {
	f, err := os.Open(r.log)
	if err != nil {
		return r.seen
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(r.from, io.SeekStart); err != nil {
		return r.seen
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // the rest of a line is read with its end
			return r.seen
		}
		r.from += int64(len(line))
		r.seen.read(strings.TrimRight(line, "\n"))
	}
}
