package test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// reportPoints are the named places in the writing of a report.
func reportPoints() []string { return []string{"report-begun", "report-written"} }

// wholeMetrics says what is wrong with a file of metrics, or nothing. The end
// counts: half a file can be valid, too.
func wholeMetrics(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	switch {
	case err != nil:
		return err.Error()
	case families["pgmedic_up"] == nil:
		return "no pgmedic_up"
	case families["pgmedic_up"].GetMetric()[0].GetGauge().GetValue() == 0:
		return "" // two metrics, which was all
	case families["pgmedic_unencrypted_sessions"] == nil:
		return "the end is missing"
	}
	return ""
}

// TestMetricsAreWhole reads a file of metrics over and over while it is
// replaced, by good ones and by those of a server that is down.
func TestMetricsAreWhole(t *testing.T) {
	b := newBench(t, "CREATE TABLE t (id int PRIMARY KEY)")
	path := filepath.Join(b.dir, "pgmedic.prom")
	b.ok("report", "--format", "prometheus", "-o", path)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if wrong := wholeMetrics(path); wrong != "" {
					t.Error(wrong)
					return
				}
			}
		})
	}
	for i := range 10 {
		if i%2 == 0 {
			if r := b.run("report", "--format", "prometheus", "-o", path, "--port", "1"); r.code != 12 {
				t.Errorf("exit code %d", r.code)
			}
			continue
		}
		b.ok("report", "--format", "prometheus", "-o", path)
	}
	close(done)
	readers.Wait()
}

// TestMetricsSurviveAKill kills the program before and after it wrote, and
// before the rename: the file is the old one, whole, and nothing that
// node_exporter would read lies beside it.
func TestMetricsSurviveAKill(t *testing.T) {
	b := newBench(t, "CREATE TABLE t (id int PRIMARY KEY)")
	path := filepath.Join(b.dir, "pgmedic.prom")
	b.ok("report", "--format", "prometheus", "-o", path)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b.program = mortal(t)
	env := b.env
	for _, point := range reportPoints() {
		for _, more := range [][]string{nil, {"--port", "1"}} {
			b.env = slices.Concat(env, []string{"PGMEDIC_FAILPOINT=kill:" + point})
			if r := b.run(append([]string{"report", "--format", "prometheus", "-o", path}, more...)...); r.code != -1 {
				t.Fatalf("%s: it was not killed: exit code %d\n%s", point, r.code, r.stderr)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != string(old) {
				t.Errorf("killed at %s it left (%v)\n%s", point, err, text)
			}
			if files, _ := filepath.Glob(filepath.Join(b.dir, "*.prom")); len(files) != 1 {
				t.Errorf("killed at %s it left %q", point, files)
			}
		}
	}
	b.env = env
	b.ok("report", "--format", "prometheus", "-o", path)
	if wrong := wholeMetrics(path); wrong != "" {
		t.Error(wrong)
	}
}
