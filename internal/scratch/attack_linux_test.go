package scratch_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// attack is what content runs in a cage: a program of its own, which calls the
// kernel directly. It is given a process to attack, a folder and a socket
// outside, and the server's own folder, and prints what succeeded.
func attack(args []string) {
	if args[0] == "whoami" {
		fmt.Println(os.Geteuid(), "is who it is")
		return
	}
	victim, _ := strconv.Atoi(args[0])
	outside, socket, own := args[1], args[2], args[3]
	note := filepath.Join(outside, "note")
	for name, err := range attacks(victim, outside, note, socket, own) {
		if err == nil {
			fmt.Println("succeeded:", name)
		}
	}
	// These say that they succeed, and the test looks whether they did.
	_ = unix.Chmod(note, 0)
	_ = unix.Fchmodat(unix.AT_FDCWD, note, 0, 0)
	_ = unix.Truncate(note, 0)
	if nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || nnp != 1 {
		fmt.Println("succeeded: new privileges")
	}
	if len(args) > 4 {
		out, err := exec.Command(args[4], attackArgument, "whoami").CombinedOutput()
		fmt.Printf("set-user-ID: %s %v\n", out, err)
	}
	fmt.Println("attacked")
}

func call(number uintptr, args ...uintptr) error {
	for len(args) < 6 {
		args = append(args, 0)
	}
	if _, _, errno := unix.Syscall6(number, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
		return errno
	}
	return nil
}

func path(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s + "\x00"))) }

func openSocket(domain, kind int) error {
	fd, err := unix.Socket(domain, kind, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func connect(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

func attacks(victim int, outside, note, socket, own string) map[string]error {
	pid := uintptr(victim)
	pair := [2]int32{}
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	socketDir := filepath.Join(own, "socket")
	file := filepath.Join(own, "data", "from-inside")
	_ = os.WriteFile(file, nil, 0o600)
	_, readErr := os.ReadFile(note)
	_, listErr := os.ReadDir(outside)
	_, environErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", victim))
	return map[string]error{
		"read outside": readErr, "list outside": listErr, "read an environment": environErr,
		"write outside":    os.WriteFile(filepath.Join(outside, "new"), nil, 0o600),
		"append outside":   func() error { _, err := os.OpenFile(note, os.O_APPEND|os.O_WRONLY, 0); return err }(),
		"remove outside":   unix.Unlink(filepath.Join(outside, "other")),
		"rename outside":   unix.Rename(filepath.Join(outside, "other"), filepath.Join(outside, "another")),
		"link from inside": unix.Link(note, filepath.Join(own, "data", "linked")),
		"folder outside":   unix.Mkdir(filepath.Join(outside, "folder"), 0o700),
		"owner":            unix.Lchown(note, os.Getuid(), os.Getgid()),
		"own owner":        unix.Lchown(file, 0, 0),
		"times":            unix.Utimes(note, []unix.Timeval{{}, {}}),
		"attribute":        unix.Setxattr(note, "user.mark", []byte("x"), 0),
		"watch": func() error {
			fd, err := unix.InotifyInit1(0)
			if err == nil {
				_, err = unix.InotifyAddWatch(fd, outside, unix.IN_ALL_EVENTS)
			}
			return err
		}(),
		// What would lead us to another server, or to files of ours.
		"link in the socket's folder":     unix.Symlink(outside, filepath.Join(socketDir, "link")),
		"move into the socket's folder":   unix.Rename(file, filepath.Join(socketDir, ".s.PGSQL.5432")),
		"replace the socket's folder":     unix.Rename(socketDir, filepath.Join(own, "elsewhere")),
		"link in the server's folder":     unix.Symlink(outside, filepath.Join(own, "link")),
		"remove the lock":                 unix.Unlink(filepath.Join(own, "owner")),
		"kill":                            unix.Kill(victim, 0),
		"trace":                           unix.PtraceAttach(victim),
		"limits of another":               unix.Prlimit(victim, unix.RLIMIT_CPU, &unix.Rlimit{Cur: 1, Max: 1}, nil),
		"raise own limits":                unix.Setrlimit(unix.RLIMIT_NPROC, &limit),
		"raise own memory":                unix.Setrlimit(unix.RLIMIT_AS, &limit),
		"priority of the user":            unix.Setpriority(unix.PRIO_USER, os.Getuid(), 19),
		"memory of another":               call(unix.SYS_PROCESS_VM_READV, pid, 0, 0, 0, 0, 0),
		"connect":                         connect(socket),
		"connect to a name":               connect("@pgmedic-test-" + filepath.Base(outside)),
		"network":                         openSocket(unix.AF_INET, unix.SOCK_STREAM),
		"network of version 6":            openSocket(unix.AF_INET6, unix.SOCK_DGRAM),
		"netlink":                         openSocket(unix.AF_NETLINK, unix.SOCK_RAW),
		"virtual machines' sockets":       openSocket(unix.AF_VSOCK, unix.SOCK_STREAM),
		"datagrams":                       openSocket(unix.AF_UNIX, unix.SOCK_DGRAM),
		"packets of Unix sockets":         openSocket(unix.AF_UNIX, unix.SOCK_SEQPACKET),
		"a pair of datagrams":             call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM, 0, uintptr(unsafe.Pointer(&pair))),
		"requests that pass by filters":   call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&[120]byte{}))),
		"a user namespace":                call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
		"a mount":                         unix.Mount("none", filepath.Join(own, "data"), "tmpfs", 0, ""),
		"keys of the kernel":              call(unix.SYS_KEYCTL, 0, ^uintptr(2), 1),
		"programs in the kernel":          call(unix.SYS_BPF, 0, 0, 0),
		"handles":                         call(unix.SYS_NAME_TO_HANDLE_AT, ^uintptr(99), path(note), 0, 0, 0),
		"become root":                     unix.Setuid(0),
		"another root folder":             unix.Chroot(filepath.Join(own, "data")),
		"a device":                        unix.Mknod(filepath.Join(own, "data", "device"), unix.S_IFCHR|0o600, 0x103),
		"calls of another interface":      call(0x40000000 + 39),
		"end the test by a process group": unix.Kill(-victim, 0),
	}
}

// TestAttackFromCage has a program run inside a cage call the kernel directly.
func TestAttackFromCage(t *testing.T) {
	as := scratchtest.AsUsers(t)
	if as == "" {
		return
	}
	scratchtest.NeedCage(t)
	outside, programs := parentDir(t), filepath.Dir(os.Args[0])
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(outside, "note")
	for _, name := range []string{note, filepath.Join(outside, "other")} {
		if err := os.WriteFile(name, []byte("here"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(outside, "socket")
	for _, name := range []string{socket, "@pgmedic-test-" + filepath.Base(outside)} {
		listener, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
	}
	if err := os.Chmod(socket, 0o777); err != nil {
		t.Fatal(err)
	}
	server := scratchtest.New(t, scratch.Options{Cage: &scratch.Cage{Readable: []string{programs}}, Parent: parentDir(t)})
	command := []string{os.Args[0], attackArgument, strconv.Itoa(os.Getpid()), outside, socket, server.Dir()}
	if as == "root" {
		privileged := filepath.Join(programs, "privileged")
		text, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = os.WriteFile(privileged, text, 0o755)
		}
		if err == nil {
			err = os.Chmod(privileged, os.ModeSetuid|0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		command = append(command, privileged)
	}
	said := program(t, server, strings.Join(command, " "))
	if !strings.HasSuffix(said, "attacked\n") {
		t.Errorf("the attack did not run: %s", said)
	}
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "succeeded:") {
			t.Error(line)
		}
		if uid, ok := strings.CutPrefix(line, "set-user-ID: "); ok && strings.HasPrefix(uid, "0 ") {
			t.Errorf("a program became root: %s", line)
		}
	}
	info, err := os.Stat(note)
	if err != nil || info.Mode().Perm() != 0o666 || info.Size() != 4 {
		t.Errorf("a file was changed: %+v, %v", info, err)
	}
	if got := len(entries(t, outside)); got != 3 {
		t.Errorf("the folder holds %d things", got)
	}
	if got := query(t, server.DSN("postgres"), "SELECT 'here'"); got != "here" {
		t.Errorf("the server says %q", got)
	}
}

// program runs a program as content does, and returns what it printed.
func program(t *testing.T, server *scratch.Server, command string) string {
	t.Helper()
	conn := testkit.Dial(t, server.DSN("postgres"))
	defer testkit.End(conn)
	if _, err := conn.Exec(t.Context(), "CREATE TEMP TABLE said (line text)"); err != nil {
		t.Fatal(err)
	}
	// Its status is no matter: what it printed is.
	if _, err := conn.Exec(t.Context(), "COPY said FROM PROGRAM "+sqltext.QuoteLiteral("( "+command+"\n) 2>&1 || true")); err != nil {
		t.Fatal(err)
	}
	var text *string
	if err := conn.QueryRow(t.Context(), "SELECT string_agg(line || E'\\n', '') FROM said").Scan(&text); err != nil {
		t.Fatal(err)
	}
	if text == nil {
		return ""
	}
	return *text
}

// TestBounds has content take all that it can: processes, memory, and the disk.
func TestBounds(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	if scratchtest.AsUsers(t) == "" {
		return
	}
	scratchtest.NeedCage(t)
	cage := &scratch.Cage{Processes: 60, MemoryBytes: 2 << 30, DiskBytes: 160 << 20}
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Cage: cage, Parent: parent})
	if missing := server.Walls().Missing; len(missing) > 1 {
		t.Fatalf("missing: %q", missing)
	}
	// They live until the pipe is closed, which the first of them keeps open.
	said := program(t, server, "rm -f stop; (while ! [ -e stop ]; do :; done) | ((exec 3<&0; i=0; while [ $i -lt 400 ]; do (read x <&3) & i=$((i+1)); done; echo never); : > stop)")
	if !strings.Contains(strings.ToLower(said), "fork") || strings.Contains(said, "never") {
		t.Errorf("more processes than are allowed: %s", said)
	}
	said = program(t, server, "dd if=/dev/zero of=/dev/null bs=8G count=1")
	if !strings.Contains(said, "memory exhausted") {
		t.Errorf("more memory than is allowed: %s", said)
	}
	said = program(t, server, "dd if=/dev/zero of=one bs=1M count=320; rm -f one")
	if !strings.Contains(said, "File too large") && !strings.Contains(said, "Killed") {
		t.Errorf("a larger file than is allowed: %s", said)
	}
	if core := program(t, server, "ulimit -c"); core != "0\n" {
		t.Errorf("core dumps of %s", core)
	}
	if server.Overrun() != nil {
		t.Errorf("ended too early: %v", server.Overrun())
	}
	// Small files have no bound but that of the folder.
	go func() {
		conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
		if err == nil {
			_, _ = conn.Exec(t.Context(), "COPY (SELECT 1) TO PROGRAM 'i=0; while true; do dd if=/dev/zero of=file$i bs=1M count=20 2>/dev/null; i=$((i+1)); done'")
		}
	}()
	<-server.Done()
	if err := server.Overrun(); err == nil || !strings.Contains(err.Error(), "grew to") || pgmedic.HintOf(err) == "" {
		t.Errorf("ended, and says %v", err)
	}
	stopAndCheck(t, server, parent)
}
