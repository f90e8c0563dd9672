//go:build linux

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// helperEnv makes the test binary put its standard input as "a/key" into the
// folder that it names, and print the kind of the error.
const helperEnv = "PGMEDIC_STORE_TEST_PUT"

func TestMain(m *testing.M) {
	dir, isHelper := os.LookupEnv(helperEnv)
	if !isHelper {
		os.Exit(m.Run())
	}
	l, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err == nil && os.Getenv(helperEnv+"_LIMIT") != "" {
		signal.Ignore(syscall.SIGXFSZ)
		err = syscall.Setrlimit(unix.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	}
	if err == nil {
		_, err = l.Put(context.Background(), "a/key", os.Stdin)
	}
	if err != nil {
		fmt.Println(pgmedic.KindOf(err), err, "hint:", pgmedic.HintOf(err))
		os.Exit(1)
	}
}

// helper is this test binary as described at helperEnv.
func helper(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), append(env, helperEnv+"="+dir)...)
	return cmd
}

func TestLocalModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o277, 0o777} {
		base := t.TempDir()
		old := syscall.Umask(umask)
		l, err := store.NewLocal(store.LocalOptions{Dir: base + "/parent/store"})
		if err == nil {
			_, err = l.Put(t.Context(), "a/b/key", strings.NewReader("x"))
		}
		syscall.Umask(old)
		if err != nil {
			t.Fatalf("umask %o: %v", umask, err)
		}
		l.Close()
		for _, name := range []string{"parent", "parent/store", "parent/store/a", "parent/store/a/b", "parent/store/a/b/key"} {
			want := fs.ModeDir | 0o700
			if strings.HasSuffix(name, "key") {
				want = 0o600
			}
			if info, err := os.Lstat(filepath.Join(base, name)); err != nil || info.Mode() != want {
				t.Errorf("umask %o: %s has mode %v, %v", umask, name, info.Mode(), err)
			}
		}
	}
}

// TestLocalKilled kills a process in the middle of a Put.
func TestLocalKilled(t *testing.T) {
	l, dir := newLocal(t)
	cmd := helper(t, dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	var temps []string
	for written := false; !written; { // until something of it is in the file
		if t.Context().Err() != nil {
			t.Fatal("nothing was written")
		}
		temps, _ = filepath.Glob(dir + "/a/" + store.TempPrefix + "*")
		if len(temps) == 1 {
			info, err := os.Stat(temps[0])
			written = err == nil && info.Size() > 1<<20
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := files(t, dir); len(got) != 2 || got[0] != "a/" || dir+"/"+got[1] != temps[0] {
		t.Errorf("a killed Put left %q", got)
	}
	if got := keys(t, l); len(got) != 0 {
		t.Errorf("List shows %q of a killed Put", got)
	}
	put(t, l, "a/key", "next")
	if n, err := l.SweepTemp(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("SweepTemp removed %d young files, %v", n, err)
	}
	if n, err := l.SweepTemp(t.Context(), 0); n != 1 || err != nil {
		t.Errorf("SweepTemp removed %d files, %v", n, err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"a/", "a/key"}) {
		t.Errorf("after SweepTemp there is %q", got)
	}
}

func TestLocalFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	cmd := helper(t, dir, helperEnv+"_LIMIT=1")
	cmd.Stdin = bytes.NewReader(make([]byte, 3<<20))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "failed put a/key: file too large hint: raise the limit") {
		t.Errorf("Put beyond the limit: %v, %s", err, out)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("Put beyond the limit left %q", got)
	}
}

// TestLocalFullDisk fills a small file system of its own.
func TestLocalFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		testkit.Elsewhere(t, fmt.Sprintf("mounting needs root: %v", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l := openLocal(t, dir)
	put(t, l, "small", "x")
	for range 2 {
		_, err := l.Put(t.Context(), "a/key", bytes.NewReader(make([]byte, 6<<20)))
		if !errors.Is(err, syscall.ENOSPC) || pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.HasPrefix(pgmedic.HintOf(err), "free space on "+dir) {
			t.Errorf("Put to a full disk: %v (%v), hint %q", err, pgmedic.KindOf(err), pgmedic.HintOf(err))
		}
		if got := files(t, dir); !slices.Equal(got, []string{"small"}) {
			t.Errorf("Put to a full disk left %q", got)
		}
	}
	if _, err := l.Put(t.Context(), "fits", bytes.NewReader(make([]byte, 2<<20))); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		testkit.Elsewhere(t, fmt.Sprintf("remounting: %v", err))
	}
	for op, err := range map[string]error{
		"Put":    func() error { _, err := l.Put(t.Context(), "b/c", strings.NewReader("x")); return err }(),
		"Delete": l.Delete(t.Context(), "small"),
	} {
		if !errors.Is(err, syscall.EROFS) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "read-only") {
			t.Errorf("%s on a read-only disk: %v, hint %q", op, err, pgmedic.HintOf(err))
		}
	}
	if got := keys(t, l); !slices.Equal(got, []string{"fits", "small"}) {
		t.Errorf("a read-only disk lists %q", got)
	}
}

// TestLocalNotAllowed uses a store whose folders belong to somebody else.
func TestLocalNotAllowed(t *testing.T) {
	l, dir := newLocal(t)
	put(t, l, "open/key", "x")
	put(t, l, "closed/key", "x")
	for name, mode := range map[string]fs.FileMode{"": 0o555, "open": 0o555, "closed": 0, "open/key": 0} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		os.Chmod(dir, 0o700)
		os.Chmod(dir+"/open", 0o700)
		os.Chmod(dir+"/closed", 0o700)
	})
	errs := map[string]error{}
	asNobody(t, func() {
		errs["Delete"] = l.Delete(t.Context(), "open/key")
		errs["Delete in closed"] = l.Delete(t.Context(), "closed/key")
		_, errs["Put"] = l.Put(t.Context(), "new", strings.NewReader("x"))
		_, errs["Put in folder"] = l.Put(t.Context(), "open/new", strings.NewReader("x"))
		_, errs["Put in new folder"] = l.Put(t.Context(), "new/new", strings.NewReader("x"))
		_, errs["Open"] = l.Open(t.Context(), "open/key", 0, -1)
		_, errs["Open in closed"] = l.Open(t.Context(), "closed/key", 0, -1)
		_, errs["Stat in closed"] = l.Stat(t.Context(), "closed/key")
		for _, err := range l.List(t.Context(), "") {
			errs["List"] = err
		}
	})
	for op, err := range errs {
		if !errors.Is(err, fs.ErrPermission) || pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(pgmedic.HintOf(err), "read and write") {
			t.Errorf("%s: %v (%v), hint %q", op, err, pgmedic.KindOf(err), pgmedic.HintOf(err))
		}
	}
}

// asNobody calls f as a user who may do no more than the modes of files say. Root
// may do anything, so then the file system is told that we are another user. It
// takes that per thread: this one is locked to a goroutine that ends without
// unlocking it, and ends with it.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := syscall.Setfsuid(65534)
		if err == nil {
			f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		testkit.Elsewhere(t, err.Error())
	}
}

// TestLocalNamedPipe checks that opening what is no file doesn't wait.
func TestLocalNamedPipe(t *testing.T) {
	l, dir := newLocal(t)
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(t.Context(), "pipe", 0, -1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Open of a named pipe: %v", err)
	}
	if got := keys(t, l); len(got) != 0 {
		t.Errorf("List shows %q", got)
	}
}
