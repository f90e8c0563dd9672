package pool_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/pool"
)

// clinic is the example, running.
type clinic struct {
	t       *testing.T
	address string
	cmd     *osexec.Cmd
	mu      sync.Mutex
	said    strings.Builder
	ended   chan error
}

// startClinic builds and starts the example with this environment.
func startClinic(t *testing.T, environ ...string) *clinic {
	t.Helper()
	program := filepath.Join(t.TempDir(), "clinic")
	build := osexec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "examples", "clinic")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := &clinic{t: t, cmd: osexec.Command(program), ended: make(chan error, 1)}
	c.cmd.Env = append(append(os.Environ(), "CLINIC_LISTEN=127.0.0.1:0"), environ...)
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			c.mu.Lock()
			c.said.WriteString(lines.Text() + "\n")
			c.mu.Unlock()
		}
		c.ended <- c.cmd.Wait()
	}()
	testkit.Eventually(t, time.Minute, "the clinic listens", func() bool {
		_, after, found := strings.Cut(c.log(), "address=")
		c.address, _, _ = strings.Cut(after, "\n")
		if len(c.ended) > 0 {
			t.Fatalf("it ended: %s", c.log())
		}
		return found
	})
	return c
}

func (c *clinic) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// ask sends a request and returns the answer.
func (c *clinic) ask(method, path, body, token string) (status int, answer, newToken string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.address+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("X-Read-Token", token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error(), ""
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error(), ""
	}
	return response.StatusCode, string(text), response.Header.Get("X-Read-Token")
}

// TestClinic runs the example with a primary and a standby that stands still.
func TestClinic(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	cluster := newCluster(t, 15, 1)
	conn := testkit.Connect(t, cluster.primary.DSN(cluster.name))
	c := startClinic(t, "DATABASE_URL="+cluster.primary.URL(cluster.name), "DB_READ_REPLICA_URL="+cluster.replicas()[0], "DB_SLOW_QUERY_THRESHOLD=100", "CLINIC_DRAIN=6s")
	want := func(method, path, body, token string, status int, in string) (newToken string) {
		t.Helper()
		got, answer, newToken := c.ask(method, path, body, token)
		if got != status || !strings.Contains(answer, in) {
			t.Fatalf("%s %s: %d %s", method, path, got, answer)
		}
		return newToken
	}
	want("GET", "/healthz", "", "", 200, "alive")
	testkit.Eventually(t, time.Minute, "both servers are ready", func() bool {
		status, answer, _ := c.ask("GET", "/readyz", "", "")
		var h pool.Health
		return status == 200 && json.Unmarshal([]byte(answer), &h) == nil && h.Status == pool.StatusOK
	})

	// Read your writes.
	cluster.standbys[0].CatchUp(t)
	cluster.standbys[0].Pause(t)
	token := want("PUT", "/patients/7", `{"name": "Jane Doe"}`, "", 200, `"visits":0`)
	if token == "" {
		t.Fatal("no token")
	}
	want("GET", "/patients/7", "", token, 200, "Jane Doe")
	want("GET", "/patients/7", "", "", 404, "no such patient") // the standby is asked
	cluster.standbys[0].Resume(t)
	cluster.standbys[0].CatchUp(t)
	want("GET", "/patients/7", "", "", 200, "Jane Doe")

	// What clients get wrong.
	want("GET", "/patients/x", "", "", 400, "number")
	want("GET", "/patients/7", "", "yesterday", 400, "X-Read-Token")
	want("PUT", "/patients/7", `{"name": 7}`, "", 400, "JSON")
	want("PUT", "/patients/7", `{"name": "a\u0000b"}`, "", 400, "JSON")
	want("POST", "/patients/8/visits", "", "", 404, "no such patient")
	want("POST", "/patients/7/visits", "", "", 200, `"visits":1`)
	want("GET", "/metrics", "", "", 200, `pgmedic_pool_operation_seconds_bucket{server=`)

	// A request that waits for a lock is let end after SIGTERM.
	do(t, conn, "BEGIN", "SELECT FROM clinic_patients WHERE id = 7 FOR UPDATE")
	waiting := make(chan string, 1)
	go func() {
		status, answer, _ := c.ask("POST", "/patients/7/visits", "", "")
		waiting <- fmt.Sprint(status, " ", answer)
	}()
	testkit.Eventually(t, time.Minute, "the request waits, and is slow", func() bool {
		return ask[bool](t, conn, `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE wait_event_type = 'Lock' AND datname = current_database() AND clock_timestamp() - query_start > '150ms'`)
	})
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Whoever balances the load is told first, while all is still served.
	testkit.Eventually(t, time.Minute, "it is not ready", func() bool {
		status, answer, _ := c.ask("GET", "/readyz", "", "")
		return status == 503 && strings.Contains(answer, "ending")
	})
	want("GET", "/healthz", "", "", 200, "alive")
	want("GET", "/patients/7", "", "", 200, "Jane Doe")
	testkit.Eventually(t, time.Minute, "nothing new is taken", func() bool {
		dialed, err := net.Dial("tcp", c.address)
		if err == nil {
			_ = dialed.Close()
		}
		return err != nil
	})
	if len(c.ended) > 0 {
		t.Errorf("it ended with a request under way: %s", c.log())
	}
	do(t, conn, "COMMIT")
	if got := <-waiting; !strings.HasPrefix(got, "200") || !strings.Contains(got, `"visits":2`) {
		t.Errorf("the request under way: %s", got)
	}
	if err := <-c.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	log := c.log()
	if !strings.Contains(log, "clinic_patients SET visits") || !strings.Contains(log, "POST /patients/{id}/visits") || strings.Contains(log, "Jane") {
		t.Errorf("the log has no slow query, or too much: %s", log)
	}
	if n := ask[int](t, conn, "SELECT count(*)::int FROM clinic_visits"); n != 2 {
		t.Errorf("%d visits", n)
	}
}

// TestClinicCuts: requests that do not end are cut, and the service ends all the same,
// with an error that says so.
func TestClinicCuts(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	dsn := scratchtest.Database(t, server)
	conn := testkit.Connect(t, dsn)
	c := startClinic(t, "DATABASE_URL="+server.URL(nameOf(t, dsn)), "CLINIC_DRAIN=0s")
	if status, answer, _ := c.ask("PUT", "/patients/7", `{"name": "Jane Doe"}`, ""); status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	do(t, conn, "BEGIN", "SELECT FROM clinic_patients WHERE id = 7 FOR UPDATE")
	done := make(chan int, 1)
	go func() {
		status, _, _ := c.ask("POST", "/patients/7/visits", "", "")
		done <- status
	}()
	other := testkit.Connect(t, dsn)
	testkit.Eventually(t, time.Minute, "the request waits", func() bool {
		return ask[bool](t, other, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	})
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-c.ended; err == nil || !strings.Contains(c.log(), "error: end the requests") {
		t.Errorf("%v: %s", err, c.log())
	}
	if status := <-done; status == 200 {
		t.Error("the request was done")
	}
}

// TestClinicWithoutDatabase: a start that can't be ends with one line, and what
// to do.
func TestClinicWithoutDatabase(t *testing.T) {
	cmd := osexec.CommandContext(t.Context(), "go", "run", ".")
	cmd.Dir = filepath.Join("..", "..", "examples", "clinic")
	cmd.Env = append(os.Environ(), "DATABASE_URL=postgres://someone:secret@127.0.0.1:1/clinic", "DB_POOL_TIMEOUT=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "error: open the pool") || !strings.Contains(string(out), "hint: ") || strings.Contains(string(out), "secret") {
		t.Errorf("%v: %s", err, out)
	}
}
