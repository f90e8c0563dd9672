package scratchtest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// userVariable says to a test binary as whom it was started by AsUsers.
const userVariable = "PGMEDIC_TEST_AS"

// AsUsers runs the calling test once more in a process of its own for each user
// that matters to it: the present one and, if that is root, nobody. It returns
// the user's name in such a process, in which the test does its work, and an
// empty text in the first one, in which the test is over. The environment of the
// processes has what is given.
func AsUsers(t *testing.T, env ...string) (name string) {
	t.Helper()
	if name := os.Getenv(userVariable); name != "" {
		return name
	}
	if os.Geteuid() != 0 {
		t.Run("as an ordinary user", func(t *testing.T) { runAs(t, "ordinary", nil, env) })
		return ""
	}
	t.Run("as root", func(t *testing.T) { runAs(t, "root", nil, env) })
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("as nobody", func(t *testing.T) { runAs(t, "nobody", nobody, env) })
	return ""
}

// runAs runs the test that t is a part of in a copy of the binary, which lies
// where other users may not pass.
func runAs(t *testing.T, name string, who *user.User, env []string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "as-") //nolint:usetesting // t.TempDir's are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "test")
	temporary := filepath.Join(dir, "tmp")
	if err := copyProgram(os.Args[0], binary); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o755, temporary: os.ModeDir | 0o755} {
		if mode.IsDir() {
			err = os.Mkdir(path, 0o755)
		} else {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	parent := filepath.Dir(t.Name()) // without the name that t.Run gave
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^"+parent+"$", "-test.v", "-test.count=1", "-test.timeout=9m")
	cmd.Dir = temporary
	cmd.Env = append(os.Environ(), userVariable+"="+name, "TMPDIR="+temporary, "HOME="+temporary, "PGMEDIC_CACHE="+CacheDir())
	cmd.Env = append(cmd.Env, env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if who != nil {
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		if err := os.Chown(temporary, uid, gid); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	if err := target.Chmod(0o755); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}
