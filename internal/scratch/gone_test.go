package scratch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestKilledOwner kills the process that owns a server: the server must end,
// and a sweep must remove its folder.
func TestKilledOwner(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Run("plain", testKilledOwner)
	t.Run("caged", func(t *testing.T) {
		t.Setenv(helperCaged, "1")
		testKilledOwner(t)
	})
}

func testKilledOwner(t *testing.T) {
	parent := parentDir(t)
	owner, pid, dir := startHelper(t, parent, "wait")
	if n, err := scratch.Sweep(t.Context(), scratch.SweepOptions{Parent: parent}); n != 0 || err != nil {
		t.Fatalf("swept %d servers whose owner lives: %v", n, err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the server is gone while its owner lives: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	if runtime.GOOS == "linux" {
		testkit.Eventually(t, time.Minute, "the server has ended by itself", func() bool { return len(processesIn(t, dir)) == 0 })
	}
	if !exists(dir) {
		t.Fatal("the folder is gone before the sweep: nothing is tested")
	}
	if n, err := scratch.Sweep(t.Context(), scratch.SweepOptions{Parent: parent}); n != 1 || err != nil {
		t.Errorf("swept %d servers: %v", n, err)
	}
	if left := entries(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPanickingOwner(t *testing.T) {
	parent := parentDir(t)
	owner, _, dir := startHelper(t, parent, "panic")
	_ = owner.Wait()
	if exists(dir) {
		t.Errorf("a panic left %s", dir)
	}
	testkit.Eventually(t, time.Minute, "the server has ended", func() bool { return len(processesIn(t, dir)) == 0 })
}

// TestSweepEndsLeftover sweeps a server that still runs though its owner is
// dead, as on systems where the kernel doesn't end it.
func TestSweepEndsLeftover(t *testing.T) {
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Parent: parent})
	// A copy of the owner file is not locked: to a sweep, we are dead.
	owner := filepath.Join(server.Dir(), "owner")
	if err := os.Remove(owner); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(owner, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := scratch.Sweep(t.Context(), scratch.SweepOptions{Parent: parent}); n != 1 || err != nil {
		t.Errorf("swept %d servers: %v", n, err)
	}
	if left := entries(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	testkit.Eventually(t, time.Minute, "the server has ended", func() bool { return len(processesIn(t, server.Dir())) == 0 })
}

func TestSweepLeavesTheLiving(t *testing.T) {
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Parent: parent})
	other := scratchtest.New(t, scratch.Options{Parent: parent}) // which sweeps, too
	if n, err := scratch.Sweep(t.Context(), scratch.SweepOptions{Parent: parent}); n != 0 || err != nil {
		t.Errorf("swept %d servers: %v", n, err)
	}
	for _, s := range []*scratch.Server{server, other} {
		if got := query(t, s.DSN("postgres"), "SELECT 'here'"); got != "here" {
			t.Errorf("got %q", got)
		}
	}
}

// TestSweepIsNotFooled sweeps folders that somebody prepared: no process but a
// scratch server's is ended, nothing is waited for, nothing outside removed.
func TestSweepIsNotFooled(t *testing.T) {
	parent, outside := parentDir(t), parentDir(t)
	victim := filepath.Join(outside, "precious")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := func(name string) string {
		path := filepath.Join(parent, "pgmedic-scratch-"+name)
		if err := os.MkdirAll(filepath.Join(path, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The process id in the file is ours.
	reused := dir("reused")
	must(os.WriteFile(filepath.Join(reused, "owner"), nil, 0o600))
	must(os.WriteFile(filepath.Join(reused, "data", "postmaster.pid"), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600))
	pipes := dir("pipes")
	must(syscall.Mkfifo(filepath.Join(pipes, "owner"), 0o600))
	must(syscall.Mkfifo(filepath.Join(pipes, "data", "postmaster.pid"), 0o600))
	links := dir("links")
	must(os.WriteFile(filepath.Join(links, "owner"), nil, 0o600))
	must(os.Symlink(outside, filepath.Join(links, "out")))
	must(os.Symlink(outside, filepath.Join(parent, "pgmedic-scratch-link")))
	must(os.WriteFile(filepath.Join(parent, "pgmedic-scratch-file"), nil, 0o600))
	young := dir("young")
	old := dir("old")
	hourAgo := time.Now().Add(-time.Hour)
	must(os.Chtimes(old, hourAgo, hourAgo))

	n, err := scratch.Sweep(t.Context(), scratch.SweepOptions{Parent: parent})
	if n != 4 || err != nil {
		t.Errorf("swept %d folders: %v", n, err)
	}
	for path, want := range map[string]bool{reused: false, pipes: false, links: false, old: false, young: true, victim: true} {
		if exists(path) != want {
			t.Errorf("%s exists: %t", path, !want)
		}
	}
}

func TestFailedStart(t *testing.T) {
	for name, opts := range map[string]scratch.Options{
		"initdb fails":   {Encoding: "NONSENSE"},
		"postgres fails": {Settings: map[string]string{"shared_preload_libraries": "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := parentDir(t)
			opts.Parent, opts.SearchDirs = parent, scratchtest.SearchDirs()
			_, err := scratch.Start(t.Context(), opts)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "nonsense") {
				t.Errorf("the error doesn't say what the program said: %v", err)
			}
			if left := entries(t, parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestCancelledStart cancels the start at several moments of it.
func TestCancelledStart(t *testing.T) {
	reason := errors.New("changed my mind")
	for name, moment := range map[string]string{
		"before":        "*",
		"folder made":   "pgmedic-scratch-*",
		"initdb runs":   "pgmedic-scratch-*/data/PG_VERSION",
		"server starts": "pgmedic-scratch-*/data/postmaster.pid",
	} {
		t.Run(name, func(t *testing.T) {
			parent := parentDir(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if moment == "*" {
				cancel(reason)
			}
			ended := make(chan error, 1)
			go func() {
				server, err := scratch.Start(ctx, scratch.Options{Parent: parent, SearchDirs: scratchtest.SearchDirs()})
				if server != nil {
					// It was quicker than we, which is no fault.
					err = errors.Join(reason, context.Canceled, server.Stop(context.WithoutCancel(ctx)))
				}
				ended <- err
			}()
			testkit.Eventually(t, time.Minute, moment+" exists or it ended", func() bool {
				found, _ := filepath.Glob(filepath.Join(parent, moment))
				return len(found) > 0 || len(ended) > 0
			})
			cancel(reason)
			if err := <-ended; !errors.Is(err, reason) {
				t.Errorf("got %v", err)
			}
			if left := entries(t, parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			testkit.Eventually(t, time.Minute, "all processes are gone", func() bool { return len(processesIn(t, parent)) == 0 })
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := scratch.Start(ctx, scratch.Options{}); pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("a cancelled start is no interruption: %v", err)
	}
}

// TestStubbornServer stops a server that reacts to no signal but SIGKILL, and
// one with a session that would outlast a fast shutdown.
func TestStubbornServer(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Parent: parent})
	testkit.Connect(t, server.DSN("postgres"))
	if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
	stopAndCheck(t, server, parent)
}

// TestDeadServer stops a server whose process somebody else ended.
func TestDeadServer(t *testing.T) {
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Parent: parent})
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	stopAndCheck(t, server, parent)
}
