package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// gateScript waits for a line before it becomes the program: until then we see
// to what can be done from outside only, and nothing of the server has run.
const gateScript = `read -r go && exec "$0" "$@" </dev/null`

// ProbeKernel asks what the system offers for a cage.
func ProbeKernel() Kernel {
	return Kernel{
		Landlock: landlockVersion(), Seccomp: canFilter(),
		Namespaces: true, NoNewPrivileges: true, OwnUser: true, Limits: true,
	}
}

// machineMemory is the machine's memory, or zero.
func machineMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit) //nolint:unconvert // the type differs between machines
}

// blocks is what a file takes of the disk.
func blocks(info fs.FileInfo) uint64 {
	return uint64(max(info.Sys().(*syscall.Stat_t).Blocks, 0)) * 512
}

// gated is a process that waits for its gate to be opened.
type gated struct {
	process *process
	gate    *os.File
	seen    seen
}

// open lets the process become its program.
func (g *gated) open() error {
	_, err := g.gate.WriteString("go\n")
	return errors.Join(err, g.gate.Close())
}

// end ends the process without opening the gate.
func (g *gated) end() {
	_ = g.gate.Close()
	g.process.killGroup()
}

// launchCaged starts a program in the strongest cage that the system gives.
func (s *Server) launchCaged(path string, args ...string) (*process, error) {
	g, err := s.launchGated(path, args...)
	if err != nil {
		return nil, err
	}
	s.walls = g.seen.walls()
	if err := g.open(); err != nil {
		g.process.killGroup()
		return nil, fmt.Errorf("start the program in its cage: %w", err)
	}
	return g.process, nil
}

// launchGated tries the kinds of namespaces, the strongest first: which of them a
// process may make is known only by trying.
func (s *Server) launchGated(path string, args ...string) (*gated, error) {
	if !s.folder.who.other {
		// What we hold in memory, and were started with, is not for programs of
		// the same user.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	kinds := []uintptr{0}
	if s.cage.Kernel.Namespaces {
		kinds = []uintptr{unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC, unix.CLONE_NEWNET, 0}
	}
	var errs []error
	for _, flags := range kinds {
		if flags != 0 && os.Geteuid() != 0 {
			flags |= unix.CLONE_NEWUSER
		}
		g, err := s.launchWith(flags, path, args)
		if err == nil {
			return g, nil
		}
		s.logger.Debug("a cage could not be made with these namespaces", "flags", flags, "error", err)
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (s *Server) launchWith(flags uintptr, path string, args []string) (_ *gated, err error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = reader.Close() }()
	cmd := s.command("/bin/sh", append([]string{"-c", gateScript, path}, args...)...)
	cmd.Stdin = reader
	cmd.SysProcAttr.Cloneflags = flags
	if flags&unix.CLONE_NEWPID != 0 {
		// The first process of a namespace takes all others with it. It can't
		// ignore this signal, as it can others.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	g := &gated{gate: writer}
	t := s.newThread(flags)
	defer t.close()
	if g.process, err = launch(cmd, t.restrict); err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	for _, err := range t.errs {
		s.logger.Debug("a part of the cage could not be made", "error", err)
	}
	g.seen = t.seen
	if err := s.finish(g, flags); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// finish does to a waiting process what its parent must do, and looks at it.
func (s *Server) finish(g *gated, flags uintptr) error {
	pid := g.process.cmd.Process.Pid
	if flags&unix.CLONE_NEWUSER != 0 {
		if err := mapIDs(pid); err != nil {
			return err
		}
	}
	if s.cage.Kernel.Limits {
		s.limit(pid, &g.seen)
	}
	who := s.folder.who
	status := readStatus(pid)
	uid, gid := strconv.Itoa(who.uid), strconv.Itoa(who.gid)
	g.seen.ownUser = who.claim != nil && status["Groups"] == "" &&
		status["Uid"] == strings.Join([]string{uid, uid, uid, uid}, "\t") &&
		status["Gid"] == strings.Join([]string{gid, gid, gid, gid}, "\t")
	g.seen.noPrivileges = status["NoNewPrivs"] == "1" && strings.Trim(status["CapEff"]+status["CapPrm"], "0") == "" && status["CapEff"] != ""
	g.seen.noNetwork = flags&unix.CLONE_NEWNET != 0 && otherNamespace(pid, "net")
	g.seen.ownProcesses = flags&unix.CLONE_NEWPID != 0 && otherNamespace(pid, "pid")
	return nil
}

// mapIDs gives a process in a user namespace of its own the ids that it has.
func mapIDs(pid int) error {
	for _, m := range [][2]string{
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("%d %[1]d 1", os.Geteuid())},
		{"gid_map", fmt.Sprintf("%d %[1]d 1", os.Getegid())},
	} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m[0]), []byte(m[1]), 0); err != nil {
			return fmt.Errorf("map the ids of a user namespace: %w", err)
		}
	}
	return nil
}

// readStatus reads /proc/PID/status; what is not there is empty.
func readStatus(pid int) map[string]string {
	status := map[string]string{}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return status
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			status[name] = strings.TrimSpace(value)
		}
	}
	return status
}

// otherNamespace reports whether a process is known to be in another namespace
// than we are.
func otherNamespace(pid int, kind string) bool {
	ours, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		return false
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	return err == nil && its != ours
}

// limit bounds what a process, and all that it starts, can take.
func (s *Server) limit(pid int, sees *seen) {
	c, who := s.cage, s.folder.who
	processes := c.Processes
	if who.claim == nil {
		// The bound is one of the user's processes, of which ours are some.
		processes += threadsOf(who.uid)
	}
	type bound struct {
		resource int
		value    uint64
	}
	set := func(bounds ...bound) bool {
		for _, b := range bounds {
			if err := setLimit(pid, who, b.resource, b.value); err != nil {
				s.logger.Debug("a limit could not be set", "resource", b.resource, "error", err)
				return false
			}
		}
		return true
	}
	sees.limits = set(bound{unix.RLIMIT_NPROC, processes}, bound{unix.RLIMIT_NOFILE, 4096},
		// Half, so that one file is refused before the whole folder is too large.
		bound{unix.RLIMIT_FSIZE, c.DiskBytes / 2}, bound{unix.RLIMIT_CORE, 0})
	sees.memory = set(bound{unix.RLIMIT_AS, c.MemoryBytes}) && endFirst(pid)
}

// endFirst has the system end a process before others where memory runs out.
func endFirst(pid int) bool {
	const most = "1000"
	name := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	if os.WriteFile(name, []byte(most), 0) != nil {
		return false
	}
	text, err := os.ReadFile(name)
	return err == nil && strings.TrimSpace(string(text)) == most
}

// setLimit lowers a limit of a waiting process, and looks that it holds. A root
// without all privileges, as in a container, may do so only with the process's
// own user id, which a thread can take.
func setLimit(pid int, who account, resource int, value uint64) error {
	set := func() error {
		var now unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &now); err != nil {
			return err
		}
		value := min(value, now.Max)
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return err
		}
		if err := unix.Prlimit(pid, resource, nil, &now); err != nil {
			return err
		}
		if now.Cur != value || now.Max != value {
			return fmt.Errorf("limit %d is %d, not %d", resource, now.Cur, value)
		}
		return nil
	}
	err := set()
	if !errors.Is(err, unix.EPERM) || !who.other {
		return err
	}
	done := make(chan error, 1)
	onOwnThread(func() {
		// Of this thread alone, unlike those of package syscall.
		for _, call := range [][2]uintptr{{unix.SYS_SETRESGID, uintptr(who.gid)}, {unix.SYS_SETRESUID, uintptr(who.uid)}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[1], call[1]); errno != 0 {
				done <- errno
				return
			}
		}
		done <- set()
	})
	return <-done
}

// threadsOf counts the threads of a user.
func threadsOf(uid int) (n uint64) {
	for _, pid := range processes() {
		dir := "/proc/" + strconv.Itoa(pid)
		if info, err := os.Stat(dir); err != nil || int(ownerOf(info)) != uid {
			continue
		}
		threads, _ := strconv.ParseUint(readStatus(pid)["Threads"], 10, 32)
		n += threads
	}
	return n
}

// processes lists the process ids of the system.
func processes() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// thread is what a thread does to itself before it starts a process, and what it
// then sees.
type thread struct {
	kernel  Kernel
	ruleset *os.File
	program []unix.SockFilter
	// outside is a file that the server must not reach.
	outside string

	seen seen
	errs []error
}

// newThread prepares the rules, which takes files that the thread can't open any
// more once it is restricted.
func (s *Server) newThread(flags uintptr) *thread {
	t := &thread{kernel: *s.cage.Kernel, outside: filepath.Join(s.folder.path, ownerName)}
	if t.kernel.Landlock > 0 {
		ruleset, err := landlock(t.kernel.Landlock, s.grants())
		if err != nil {
			t.errs = append(t.errs, err)
		}
		t.ruleset = ruleset
	}
	if t.kernel.Seccomp {
		t.program = filter(filterOptions{
			userNamespaces: flags&unix.CLONE_NEWUSER != 0,
			truncate:       t.kernel.Landlock < 3,
		})
	}
	return t
}

func (t *thread) close() {
	if t.ruleset != nil {
		_ = t.ruleset.Close()
	}
}

// restrict restricts the calling thread and tries whether it is restricted.
func (t *thread) restrict() {
	note := func(err error) bool {
		if err != nil {
			t.errs = append(t.errs, err)
		}
		return err == nil
	}
	// Without it no user but root may restrict itself.
	if t.kernel.NoNewPrivileges && !note(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		return
	}
	if t.ruleset != nil && note(restrictTo(t.ruleset)) {
		fd, err := unix.Open(t.outside, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		t.seen.files, t.seen.landlock = errors.Is(err, unix.EACCES), t.kernel.Landlock
	}
	if t.program != nil && note(filterCalls(t.program)) {
		t.seen.sockets = t.refusesSockets()
	}
	runtime.KeepAlive(t.ruleset)
}

// refusesSockets tries to make a socket of the network, and to connect to a Unix
// socket: without the filter that fails for another reason.
func (t *thread) refusesSockets() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	if !errors.Is(err, unix.EACCES) {
		return false
	}
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return errors.Is(unix.Connect(fd, &unix.SockaddrUnix{Name: "@pgmedic-nobody"}), unix.EACCES)
}

// onOwnThread runs a function on a thread that nothing else runs on, before or
// after: it ends with the function.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The first thread stands for the process, and never ends. As long as we
		// hold it, another goroutine gets another.
		taken := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(taken)
			f()
		}()
		<-taken
		runtime.UnlockOSThread()
	}()
}
