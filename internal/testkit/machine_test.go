package testkit_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestAlive: a process runs until it has ended, also while nobody waits for it.
func TestAlive(t *testing.T) {
	if !testkit.Alive(os.Getpid()) {
		t.Error("the test itself does not run")
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !testkit.Alive(cmd.Process.Pid) {
		t.Error("a process that was started does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" { // whose /proc tells
		testkit.Eventually(t, time.Minute, "one that was killed is gone", func() bool { return !testkit.Alive(cmd.Process.Pid) })
	}
	_ = cmd.Wait() // it was killed
	if testkit.Alive(cmd.Process.Pid) {
		t.Error("one that was waited for runs")
	}
}

// TestClosedPort: nobody answers at the port, and nobody can take it.
func TestClosedPort(t *testing.T) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.ClosedPort(t)))
	if _, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody answers: %v", err)
	}
	if _, err := net.Listen("tcp", address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("it can be taken: %v", err)
	}
}
