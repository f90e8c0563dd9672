package prometheus_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/pgmedic/pgmedic/internal/render/prometheus"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

const rulesFolder = "../../../contrib/prometheus"

var metricName = regexp.MustCompile(`\bpgmedic_[a-z0-9_]+`)

// alert is one rule of the example.
type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(rulesFolder + "/pgmedic.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("read %d rules", len(all))
	}
	return all
}

// TestRulesKnowTheirMetrics: an alert on a metric that nobody writes never
// fires, and nothing says so.
func TestRulesKnowTheirMetrics(t *testing.T) {
	known := map[string]prometheus.Metric{}
	for _, m := range prometheus.Metrics() {
		known[m.Name] = m
	}
	page, err := os.ReadFile("../../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range readRules(t) {
		names := metricName.FindAllString(rule.Expr, -1)
		if len(names) == 0 {
			t.Errorf("%s looks at no metric: %s", rule.Alert, rule.Expr)
		}
		labels := []string{"server", "database"}
		for _, name := range names {
			m, ok := known[name]
			if !ok {
				t.Errorf("%s looks at %s, which is not among Metrics()", rule.Alert, name)
			}
			labels = append(labels, m.Labels...)
		}
		words := strings.Join([]string{rule.Annotations["summary"], rule.Annotations["description"]}, " ")
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(words, -1) {
			if !slices.Contains(labels, m[1]) {
				t.Errorf("%s speaks of the label %s, which its metrics don't have", rule.Alert, m[1])
			}
		}
		if s := rule.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s has severity %q", rule.Alert, s)
		}
		if !bytes.Contains(page, []byte("`"+rule.Alert+"`")) {
			t.Errorf("docs/monitoring.md doesn't name %s", rule.Alert)
		}
	}
}

// TestEveryRuleIsTested: each has a test of its own name in the file that
// promtool runs.
func TestEveryRuleIsTested(t *testing.T) {
	text, err := os.ReadFile(rulesFolder + "/pgmedic.rules.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range readRules(t) {
		if !bytes.Contains(text, []byte("- name: "+rule.Alert+"\n")) {
			t.Errorf("no test of %s", rule.Alert)
		}
	}
}

// promtool runs Prometheus's own checker.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	cmd := exec.CommandContext(ctx, scratchtest.Tool(t, "promtool"), args...)
	cmd.Dir, cmd.Stdin = rulesFolder, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtoolTakesTheRules(t *testing.T) {
	promtool(t, "", "check", "rules", "pgmedic.rules.yml")
	promtool(t, "", "test", "rules", "pgmedic.rules.test.yml")
}

func TestPromtoolTakesTheMetrics(t *testing.T) {
	promtool(t, metrics(t, rendertest.FullReport()), "check", "metrics")
	promtool(t, metrics(t, rendertest.ReportOn(rendertest.Busy())), "check", "metrics")
}
