package notify_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
)

// killedURL names the variable by which a test runs itself as the program that is killed,
// and killedDir its folder.
const killedURL, killedDir = "PGMEDIC_TEST_KILLED_URL", "PGMEDIC_TEST_KILLED_DIR"

// TestKilledHelper is not a test: it is the program that TestKilled kills.
func TestKilledHelper(t *testing.T) {
	if os.Getenv(killedURL) == "" {
		return
	}
	o := options(t, hook(os.Getenv(killedURL)))
	o.Dir = os.Getenv(killedDir)
	o.Reached = func(context.Context) { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	_, _ = sender(t, o).Send(t.Context(), []notify.Event{failed("")})
}

// TestKilled: a run that is killed between the answer of a service and its own record of
// it sends the message again, with the same id; and nothing that was written down is
// lost.
func TestKilled(t *testing.T) {
	svc := newService(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledHelper$")
	cmd.Env = append(os.Environ(), killedURL+"="+svc.URL, killedDir+"="+dir)
	cmd.WaitDelay = 10 * time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the program was not killed: %v", err)
	}
	o := options(t, hook(svc.URL))
	o.Dir = dir
	results, err := sender(t, o).Send(t.Context(), []notify.Event{succeeded("", time.Hour)})
	if err != nil || outcomes(results) != "own sent, own sent" {
		t.Fatalf("%v: %s", err, outcomes(results))
	}
	ids := svc.ids(t)
	if len(ids) != 3 || ids[0] != ids[1] || ids[2] == ids[1] {
		t.Errorf("sent %v, want the first twice, and then its end", ids)
	}
	if states := statesOf(t, svc); !slices.Equal(states, []string{"firing", "firing", "resolved"}) {
		t.Errorf("%s", strings.Join(states, ", "))
	}
}

func statesOf(t *testing.T, svc *service) (all []string) {
	t.Helper()
	for _, r := range svc.all() {
		all = append(all, string(decode(t, r.Body).State))
	}
	return all
}
