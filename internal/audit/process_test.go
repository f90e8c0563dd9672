package audit_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/audit"
)

// The tests start this very program again, as a writer of its own.
const (
	writerVariable = "PGMEDIC_TEST_AUDIT_WRITER"
	pathVariable   = "PGMEDIC_TEST_AUDIT_PATH"
)

func TestMain(m *testing.M) {
	switch job := os.Getenv(writerVariable); job {
	case "":
		os.Exit(m.Run())
	default:
		os.Exit(write(job, os.Getenv(pathVariable)))
	}
}

// began is the clock of a log's first record, for writers in other processes, too: a log goes on in
// another file when the month is over.
func began() time.Time { return time.Date(2026, 11, 5, 12, 0, 0, 123456789, time.UTC) }

// write is the job of another process: it appends records, or one with a limit to the
// size of files.
func write(job, path string) int {
	dir := filepath.Dir(path)
	l := audit.New(audit.Options{Path: path, KeyPath: filepath.Join(dir, "audit.key"), Host: "db1", Now: began})
	count := 1
	if n, ok := strings.CutPrefix(job, "limit "); ok {
		limit, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return 3
		}
		signal.Ignore(syscall.SIGXFSZ)
		if err = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return 3
		}
	} else {
		count, _ = strconv.Atoi(job)
	}
	for range count {
		if _, err := l.Append(context.Background(), entry("backup", audit.OutcomeDone)); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			return 1
		}
		_, _ = os.Stdout.WriteString("written\n")
	}
	return 0
}

func writer(t *testing.T, job, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerVariable+"="+job, pathVariable+"="+path)
	return cmd
}

func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// TestTwoProcesses: several writers at once, of which the first makes log and key, lose
// and mix nothing.
func TestTwoProcesses(t *testing.T) {
	l, _, o := newLog(t)
	const each = 25
	var running sync.WaitGroup
	for range 3 {
		cmd := writer(t, strconv.Itoa(each), o.Path)
		running.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	running.Wait()
	r := verify(t, l, audit.VerifyOptions{})
	if !r.Intact() || r.Records != 3*each+1 {
		t.Errorf("%+v", r)
	}
}

// TestKilled: a writer that is killed at any moment leaves a log that the next continues.
func TestKilled(t *testing.T) {
	l, _, o := newLog(t)
	written := 0
	for range 5 {
		cmd := writer(t, "1000000", o.Path)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 3 {
			if lines.Scan() {
				written++
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			written++
		}
		_ = cmd.Wait() // killed
		appendTo(t, l, entry("drill", audit.OutcomeDone))
		written++
		if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Records < int64(written) || r.TornEnd {
			t.Fatalf("%d were written: %+v", written, r)
		}
	}
}

// TestFullDisk: what does not fit is an error, and leaves the log as it was.
func TestFullDisk(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	before := mustRead(t, o.Path)
	for _, room := range []int{0, 1, 100, 300} {
		out, err := writer(t, "limit "+strconv.Itoa(len(before)+room), o.Path).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "write to the audit log") {
			t.Fatalf("with room for %d bytes: %v: %s", room, err, out)
		}
		if string(mustRead(t, o.Path)) != string(before) {
			t.Errorf("with room for %d bytes something is left", room)
		}
	}
	// A log that can't begin leaves no half file.
	_, _, o2 := newLog(t)
	if _, err := writer(t, "limit 120", o2.Path).CombinedOutput(); err == nil {
		t.Error("a log was begun in 120 bytes")
	}
	if _, err := os.Stat(o2.Path); err == nil {
		t.Error("half a log is there")
	}
	appendTo(t, audit.New(o2), entry("backup", audit.OutcomeDone))
	appendTo(t, l, entry("drill", audit.OutcomeDone))
	if r := verify(t, l, audit.VerifyOptions{}); !r.Intact() || r.Records != 3 || r.Torn != 0 {
		t.Errorf("%+v", r)
	}
}

// TestSyslog: a record goes to syslog's socket, as one line.
func TestSyslog(t *testing.T) {
	dir, err := os.MkdirTemp("", "a") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "log")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _, o := newLog(t)
	o.Sinks = []audit.Sink{audit.Syslog{Socket: socket}}
	appendTo(t, audit.New(o), entry("backup", audit.OutcomeDone))
	for _, action := range []string{audit.ActionOpen, "backup"} {
		got := make([]byte, 64<<10)
		n, err := conn.Read(got)
		// <37> is facility auth, severity notice.
		if text := string(got[:n]); err != nil || !strings.HasPrefix(text, "<37>") || !strings.Contains(text, "pgmedic-audit") || !strings.Contains(text, `{"action":"`+action+`"`) {
			t.Errorf("%v: %q", err, text)
		}
	}
}

// TestUnwritable: a folder that can't be made is an error that names it.
func TestUnwritable(t *testing.T) {
	l, _, o := newLog(t)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	o.Path = filepath.Join(o.Path, "below", "audit.jsonl")
	_, err := audit.New(o).Append(t.Context(), entry("backup", audit.OutcomeDone))
	if err == nil || pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "folder of the audit log") {
		t.Errorf("%v", err)
	}
}

// TestSharedWithRoot: what root makes in the folder of a service account is that account's,
// so that it can go on with the log: folder, lock, key, log, and the file of a new month.
func TestSharedWithRoot(t *testing.T) {
	_, c, o := newLog(t)
	dir := filepath.Dir(o.Path)
	uid := os.Geteuid()
	if uid == 0 {
		uid = 54321
		if err := os.Chown(dir, uid, os.Getegid()); err != nil {
			t.Fatal(err)
		}
	}
	o.Path, o.KeyPath = filepath.Join(dir, "below", "audit.jsonl"), filepath.Join(dir, "keys", "audit.key")
	l := audit.New(o)
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	c.at = c.at.AddDate(0, 1, 0)
	mustWrite(t, o.Path+".new", []byte("of a writer that was killed"))
	appendTo(t, l, entry("backup", audit.OutcomeDone))
	files := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			t.Errorf("%s belongs to uid %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		if files++; err == nil && path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil || files != 7 {
		t.Errorf("%d files, %v", files, err)
	}
}
