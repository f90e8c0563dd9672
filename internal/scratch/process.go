package scratch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// How long a server may take to end by a fast and an immediate shutdown.
	// After five seconds of the latter the postmaster kills what is left
	// itself.
	fastPatience      = 5 * time.Second
	immediatePatience = 7 * time.Second
	// portTries bounds how often another program may take a port first.
	portTries = 5
)

// process is a child of ours that is waited for.
type process struct {
	cmd *exec.Cmd
	// done is closed once the process has ended and err is set.
	done chan struct{}
	err  error
}

// launch starts a command and waits for it in the background. Where restrict is
// not nil, it is called first, on a thread that then does nothing but this.
func launch(cmd *exec.Cmd, restrict func()) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	run := func() {
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}
	if restrict != nil {
		onOwnThread(func() {
			restrict()
			run()
		})
	} else {
		go func() {
			// The signal that a child gets at its parent's death is sent at the
			// death of the thread that started it. Go ends threads at will, but
			// not one that a goroutine is locked to.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			run()
		}()
	}
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// killGroup kills the process and those that it started in its own group, and
// waits until it is gone.
func (p *process) killGroup() {
	// The process is not reaped before done is closed, so the group is its.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// ended reports whether the process ends within the given time.
func (p *process) ended(ctx context.Context, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// command prepares a program, of the installation where the path is not absolute: run by the server's user,
// in a session of its own so that a terminal's Ctrl-C doesn't reach it, with
// its output in the log.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(s.installation.BinDir, program)
	}
	cmd := exec.Command(program, args...) //nolint:noctx // a server outlives the context of its start
	cmd.Dir = s.folder.path
	cmd.Env = childEnvironment(s.folder.path)
	cmd.Stdout, cmd.Stderr = s.folder.log, s.folder.log
	cmd.SysProcAttr = processAttributes()
	if who := s.folder.who; who.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}
	}
	return cmd
}

// childEnvironment returns what of our environment programs of PostgreSQL may
// see. Passwords, keys and PG variables are not part of it.
func childEnvironment(home string) []string {
	// Without TZ, initdb compares all time zones with the system's.
	env := []string{"HOME=" + home, "LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LOCPATH", "ICU_DATA"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// launchServer starts postgres and waits until it accepts connections.
func (s *Server) launchServer(ctx context.Context) error {
	for try := 1; ; try++ {
		if s.tcp {
			port, err := freePort(ctx)
			if err != nil {
				return err
			}
			s.port = port
		}
		process, err := s.launchPostgres()
		if err != nil {
			return s.cannotRun("postgres", err)
		}
		s.process = process
		err = s.waitReady(ctx)
		if err == nil {
			return nil
		}
		var died *diedError
		if !errors.As(err, &died) || !died.portTaken() || try == portTries {
			return err
		}
		s.logger.Debug("another program took the port of a scratch server", "port", s.port)
	}
}

// launchPostgres starts postgres, in its cage where it has one.
func (s *Server) launchPostgres() (*process, error) {
	args := []string{"-D", s.DataDir(), "-p", strconv.Itoa(s.port)}
	if s.cage == nil {
		s.walls = seen{}.walls()
		return launch(s.command("postgres", args...), nil)
	}
	// The program itself, because a link may be in a folder that only the user
	// who ran initdb can pass.
	path, err := filepath.EvalSymlinks(filepath.Join(s.installation.BinDir, "postgres"))
	if err != nil {
		return nil, err
	}
	return s.launchCaged(path, args...)
}

// freePort returns a port of 127.0.0.1 that nothing listens on now.
func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// diedError says that a program ended that should not have. A new cluster's
// log holds no rows.
type diedError struct {
	program string
	err     error
	log     string
}

func (e *diedError) Error() string {
	return fmt.Sprintf("%s ended: %v; its last words:\n%s", e.program, e.err, e.log)
}

func (e *diedError) Unwrap() error { return e.err }

func (e *diedError) portTaken() bool {
	return strings.Contains(e.log, "could not create any TCP/IP sockets")
}

// Stop ends the server and removes its folder: by a fast shutdown, which ends
// sessions, then by an immediate one, then by killing it. The end of the
// context cuts the waiting short, not the work: after Stop the server is gone
// in any case, and an error says that its folder is not. Stop may be called
// again.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.stopped {
		return nil
	}
	s.watch.end()
	if s.process != nil {
		s.end(ctx)
		endProcesses(s.folder.who.uid)
	}
	if err := s.folder.remove(); err != nil {
		return err
	}
	s.stopped = true
	s.logger.Debug("scratch server stopped", "dir", s.folder.path)
	return nil
}

func (s *Server) end(ctx context.Context) {
	for _, step := range []struct {
		signal   os.Signal
		patience time.Duration
	}{
		{syscall.SIGINT, fastPatience},
		{syscall.SIGQUIT, immediatePatience},
	} {
		// An error means that the process has ended.
		_ = s.process.cmd.Process.Signal(step.signal)
		if s.process.ended(ctx, step.patience) {
			return
		}
	}
	s.logger.Warn("scratch server had to be killed", "pid", s.PID())
	s.kill()
}

// kill kills the server and, where it has a user id of its own, whatever else
// has it.
func (s *Server) kill() {
	s.process.killGroup()
	endProcesses(s.folder.who.uid)
}
