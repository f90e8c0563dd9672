package notify_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// newAlertmanager starts Alertmanager, and returns its URL.
func newAlertmanager(t *testing.T) string {
	t.Helper()
	program, dir := scratchtest.Tool(t, "alertmanager"), t.TempDir()
	settings := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(settings, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "--config.file="+settings, "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(log)
	listening := regexp.MustCompile(`"Listening on".* address=(127\.0\.0\.1:[0-9]+)`)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			drained := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, log)
				close(drained)
			}()
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				<-drained
				_ = cmd.Wait()
			})
			return "http://" + m[1]
		}
	}
	t.Fatalf("Alertmanager does not start: %v\n%s", cmd.Wait(), &said)
	return ""
}

// TestAlertmanager: a real one takes what is sent: one alert that fires, of the severity that
// it has now, until it is resolved.
func TestAlertmanager(t *testing.T) {
	testkit.OnlyAll(t, "it takes Alertmanager")
	server := newAlertmanager(t)
	firing := func() (all []string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/api/v2/alerts", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var alerts []struct {
			Labels, Annotations map[string]string
			Status              struct{ State string }
		}
		if err := json.NewDecoder(answer.Body).Decode(&alerts); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status, err)
		}
		for _, a := range alerts {
			if a.Annotations["event"] == "" || a.Annotations["summary"] == "" {
				t.Errorf("%+v", a)
			}
			all = append(all, a.Labels["alertname"]+" "+a.Labels["severity"]+" "+a.Labels["server"])
		}
		slices.Sort(all)
		return all
	}
	wait := func(what string, want ...string) {
		t.Helper()
		var got []string
		testkit.Eventually(t, time.Minute, what, func() bool {
			got = firing()
			return slices.Equal(got, want)
		})
	}
	o := options(t, notify.Channel{Name: "am", Type: notify.TypeAlertmanager, URL: server})
	begun := time.Now().Add(-time.Hour) // its clock is the machine's
	o.Now = func() time.Time { return begun }
	send := func(e notify.Event, later time.Duration) {
		t.Helper()
		e.At = begun.Add(later)
		if results, err := sender(t, o).Send(t.Context(), []notify.Event{e}); err != nil || outcomes(results) != "am sent" {
			t.Fatalf("%v: %q", err, outcomes(results))
		}
	}
	warning := failed("")
	warning.Severity = pgmedic.SeverityWarn
	send(warning, 0)
	wait("the warning fires", "pgmedic warning main")
	send(failed(""), time.Minute)
	wait("the critical one fires, and the warning does not", "pgmedic critical main")
	end := succeeded("", 0)
	send(end, 2*time.Minute)
	wait("nothing fires")
}
