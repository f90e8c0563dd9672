package poolstate_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/egress"
	"github.com/pgmedic/pgmedic/internal/poolstate"
)

const snapshot = `{"format":1,"taken_at":"2026-11-22T12:00:00Z","application":"clinic","retries":3,"servers":[
	{"server":"db1:5432","role":"primary","in_use":2,"max":2,"waiting":1,"acquired":4,"acquire_ns":2000000000,
	 "holders":[{"pid":42,"held_ns":1500000000,"sql":"SELECT * FROM patients WHERE name = 'Ann'","running":true,"taken_by":"clinic.Find:12"}],
	 "waiters":[{"waited_ns":500000000,"tag":"GET /patients"}]}]}`

// TestParseSnapshot: a snapshot is read, and statements lose literals that a service left
// in them.
func TestParseSnapshot(t *testing.T) {
	s, err := poolstate.Parse([]byte(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Servers[0]
	h, w := p.Holders[0], p.Waiters[0]
	if s.Application != "clinic" || s.Retries != 3 || s.TakenAt == nil || p.MeanWaitSeconds() != 0.5 || p.Waiting != 1 ||
		h.PID != 42 || h.HeldSeconds != 1.5 || !h.Running || h.TakenBy != "clinic.Find:12" || w.Tag != "GET /patients" || w.WaitedSeconds != 0.5 {
		t.Errorf("%+v", s)
	}
	if h.Query != "SELECT * FROM patients WHERE name = ?" {
		t.Errorf("%q", h.Query)
	}
}

// TestParseMetrics: of metrics there are counts, by server, and nobody who holds or waits.
func TestParseMetrics(t *testing.T) {
	s, err := poolstate.Parse([]byte(`# TYPE pgmedic_pool_connections_max gauge
pgmedic_pool_connections_max{server="db1:5432"} 10
pgmedic_pool_connections_max{server="db2:5432"} 5
# TYPE pgmedic_pool_waiting gauge
pgmedic_pool_waiting{server="db2:5432"} 7
# TYPE pgmedic_pool_server_primary gauge
pgmedic_pool_server_primary{server="db1:5432"} 1
# TYPE pgmedic_pool_retries_total counter
pgmedic_pool_retries_total 3
# TYPE pgmedic_pool_acquire_seconds histogram
pgmedic_pool_acquire_seconds_bucket{server="db1:5432",le="+Inf"} 4
pgmedic_pool_acquire_seconds_sum{server="db1:5432"} 2
pgmedic_pool_acquire_seconds_count{server="db1:5432"} 4
`))
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.Servers[0], s.Servers[1]
	if len(s.Servers) != 2 || s.TakenAt != nil || s.Retries != 3 || first.Max != 10 || first.Role != "primary" || first.MeanWaitSeconds() != 0.5 ||
		second.Max != 5 || second.Waiting != 7 || second.Role != "unknown" || first.Holders != nil || first.Waiters != nil {
		t.Errorf("%+v", s)
	}
}

// TestParseRefuses: what describes no pool is no pool in which all is well, and is not
// quoted.
func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":            "",
		"text":               "a patient's name",
		"a page":             "<html>a patient's name</html>",
		"other JSON":         `{"status":"a patient's name"}`,
		"JSON of other type": `{"format":"a patient's name"}`,
		"half of it":         snapshot[:100],
		"a later format":     strings.Replace(snapshot, `"format":1`, `"format":2`, 1),
		"no servers":         `{"format":1,"taken_at":"2026-11-22T12:00:00Z","servers":[]}`,
		"other metrics":      "go_goroutines 7\n",
		"less than nothing":  strings.Replace(snapshot, `"in_use":2`, `"in_use":-2`, 1),
		"no number":          "pgmedic_pool_connections_max{server=\"a\"} 1\npgmedic_pool_connections_in_use{server=\"a\"} NaN\n",
		"no sum": "pgmedic_pool_connections_max{server=\"a\"} 1\n# TYPE pgmedic_pool_acquire_seconds histogram\n" +
			"pgmedic_pool_acquire_seconds_sum{server=\"a\"} +Inf\npgmedic_pool_acquire_seconds_count{server=\"a\"} 1\n",
		"negative metrics": "pgmedic_pool_connections_max{server=\"a\"} -1\n",
		"of another time":  "pgmedic_pool_connections_max{server=\"a\"} 1 1700000000000\n",
		"of two services": "pgmedic_pool_connections_max{server=\"a\",instance=\"1\"} 1\n" +
			"pgmedic_pool_connections_max{server=\"a\",instance=\"2\"} 1\n",
	} {
		s, err := poolstate.Parse([]byte(text))
		if err == nil || strings.Contains(err.Error(), "patient") || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// FuzzParse: whatever a service says, reading it ends, and what is read is bounded.
func FuzzParse(f *testing.F) {
	f.Add([]byte(snapshot))
	f.Add([]byte("pgmedic_pool_connections_max{server=\"a\"} 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := poolstate.Parse(data)
		if err == nil && (len(s.Servers) == 0 || len(s.Servers) > 100) {
			t.Errorf("%d servers", len(s.Servers))
		}
	})
}

func source(t *testing.T, text string) poolstate.Source {
	t.Helper()
	s, err := poolstate.ParseSource(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestParseSource: URLs that can't be asked, or that carry a password, are refused without
// being quoted.
func TestParseSource(t *testing.T) {
	for _, text := range []string{"", "ftp://clinic/pool", "http://", "http://app:hunter2@clinic/pool", "http://clinic:hunter2/", "file:///hunter2"} {
		_, err := poolstate.ParseSource(text)
		if pgmedic.KindOf(err) != pgmedic.KindUsage || strings.Contains(err.Error(), "hunter2") || pgmedic.HintOf(err) == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := source(t, "https://clinic:8080/debug/pool?token=hunter2").Name(); got != "https://clinic:8080/debug/pool" {
		t.Errorf("%q", got)
	}
}

// TestRead: a service is asked once, and an answer that is not its own is an error.
func TestRead(t *testing.T) {
	asked := 0
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/pool", http.StatusFound)
		case "/long":
			_, _ = w.Write(make([]byte, 9<<20))
		case "/pool":
			if r.URL.RawQuery == "token=hunter2" {
				_, _ = w.Write([]byte(snapshot))
				return
			}
			http.Error(w, "hunter2 is missing", http.StatusForbidden)
		}
	}))
	defer service.Close()
	s, err := source(t, service.URL+"/pool?token=hunter2").Read(t.Context())
	if err != nil || s.Source != service.URL+"/pool" || asked != 1 {
		t.Errorf("%+v, %v, asked %d times", s, err, asked)
	}
	for _, path := range []string{"/moved?x=hunter2", "/long", "/pool"} {
		asked = 0
		if _, err := source(t, service.URL+path).Read(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") || asked != 1 {
			t.Errorf("%s: %v, asked %d times", path, err, asked)
		}
	}
	service.Close()
	if _, err := source(t, service.URL+"/pool?token=hunter2").Read(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("of a service that is gone: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := source(t, service.URL).Read(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestReadRefusesAddresses: addresses by which clouds hand out credentials are not asked, and
// the message says what of.
func TestReadRefusesAddresses(t *testing.T) {
	for _, address := range []string{"http://169.254.169.254/latest/meta-data/?token=canary", "http://[fd00:ec2::254]/", "http://168.63.129.16/", "http://0xa9fea9fe/"} {
		_, err := poolstate.ParseSource(address)
		var blocked *egress.BlockedError
		if !errors.As(err, &blocked) || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" ||
			!strings.HasPrefix(err.Error(), "the host of the pool http://") || strings.Contains(err.Error(), "channel") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestCheck: a file that can't be read is known before it is needed; of a service nothing is.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	good, broken := filepath.Join(dir, "pool.json"), filepath.Join(dir, "broken.json")
	for path, text := range map[string]string{good: snapshot, broken: "{}"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []string{good, "http://127.0.0.1:1/pool"} {
		if err := source(t, from).Check(t.Context()); err != nil {
			t.Errorf("%s: %v", from, err)
		}
	}
	for from, want := range map[string]pgmedic.Kind{
		filepath.Join(dir, "missing.json"): pgmedic.KindUnreachable, dir: pgmedic.KindUsage, broken: pgmedic.KindUsage,
	} {
		err := source(t, from).Check(t.Context())
		if err == nil || pgmedic.KindOf(err) != want || pgmedic.HintOf(err) == "" || strings.Count(err.Error(), from) != 1 {
			t.Errorf("%s: %v; want %v", from, err, want)
		}
	}
}

// TestReadFile: a file is read up to a bound, and nothing that is no file.
func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.json")
	if err := os.WriteFile(path, []byte(snapshot), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := source(t, path).Read(t.Context()); err != nil || s.Source != path {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.WriteFile(path, make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := source(t, path).Read(t.Context()); err == nil {
		t.Error("a long file was read")
	}
	pipe := filepath.Join(filepath.Dir(path), "pipe") // into which nobody writes
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{filepath.Dir(path), path + ".missing", pipe} {
		if _, err := source(t, other).Read(t.Context()); err == nil {
			t.Errorf("%s was read", other)
		}
	}
}
