package scratch_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// helperVariable makes the test binary a program that starts a server in the
// named folder and then, by helperEnds, waits to be killed or panics.
const (
	helperVariable = "SCRATCH_TEST_HELPER_PARENT"
	helperEnds     = "SCRATCH_TEST_HELPER_ENDS"
	// helperCaged has the server start in a cage.
	helperCaged = "SCRATCH_TEST_HELPER_CAGED"
	// attackArgument makes it a program that content runs in a cage.
	attackArgument = "attack-from-the-cage"
)

func TestMain(m *testing.M) {
	if parent := os.Getenv(helperVariable); parent != "" {
		helper(parent)
		return
	}
	if len(os.Args) > 2 && os.Args[1] == attackArgument {
		attack(os.Args[2:])
		return
	}
	os.Exit(m.Run())
}

func helper(parent string) {
	ctx := context.Background()
	opts := scratch.Options{Parent: parent, SearchDirs: scratchtest.SearchDirs()}
	if os.Getenv(helperCaged) != "" {
		opts.Cage = &scratch.Cage{}
	}
	server, err := scratch.Start(ctx, opts)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer func() { _ = server.Stop(ctx) }()
	fmt.Println(server.PID(), server.Dir())
	if os.Getenv(helperEnds) == "panic" {
		panic("as asked")
	}
	// A goroutine that ends while it is locked to its thread ends the thread:
	// the server must outlive the death of all threads but its own.
	for range time.Tick(time.Millisecond) {
		go runtime.LockOSThread()
	}
}

// startHelper runs the test binary as the helper and returns what it started.
func startHelper(t *testing.T, parent, ends string) (cmd *exec.Cmd, pid int, dir string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+parent, helperEnds+"="+ends)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("read from the helper: %v %s", err, line)
	}
	if _, err := fmt.Sscanf(line, "%d %s", &pid, &dir); err != nil {
		t.Fatalf("the helper said %q: %v", line, err)
	}
	return cmd, pid, dir
}

// parentDir returns a folder that a server's user can pass.
func parentDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "scratch-test-") //nolint:usetesting // t.TempDir's names can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// entries returns the names in a folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// processesIn returns the processes that work in a folder or below it, on
// systems with a /proc.
func processesIn(t *testing.T, dir string) []int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// statusLine returns a line of /proc/PID/status.
func statusLine(t *testing.T, pid int, name string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return strings.Fields(string(value))
		}
	}
	t.Fatalf("no %s in the status of process %d", name, pid)
	return nil
}

// query returns one text from a database.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	var value string
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}
