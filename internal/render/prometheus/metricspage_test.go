package prometheus_test

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
)

const (
	metricsPage  = "../../../docs/metrics.md"
	metricsBegin = "<!-- From the table of metrics: go test ./internal/render/prometheus -update writes it. -->\n"
	metricsEnd   = "<!-- End of the table of metrics. -->\n"
)

// metricsTables are the tables of the page, a section each.
func metricsTables() string {
	var b strings.Builder
	for _, section := range append([]string{""}, reading.Sections()...) {
		var rows strings.Builder
		for _, m := range prometheus.Metrics() {
			if m.Section != section {
				continue
			}
			labels := ""
			if len(m.Labels) > 0 {
				labels = "`" + strings.Join(m.Labels, "`, `") + "`"
			}
			fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", m.Name, m.Type(), labels, m.Help)
		}
		if rows.Len() == 0 {
			continue
		}
		title := cmp.Or(section, "report")
		fmt.Fprintf(&b, "\n### %s\n\n| metric | type | labels | what |\n|---|---|---|---|\n%s", strings.ToUpper(title[:1])+title[1:], rows.String())
	}
	return b.String() + "\n"
}

// TestMetricsPage holds docs/metrics.md to the table of metrics, both ways.
func TestMetricsPage(t *testing.T) {
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), metricsBegin)
	tables, after, ok2 := strings.Cut(rest, metricsEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks of its tables", metricsPage)
	}
	want := metricsTables()
	if tables == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the table of metrics says: go test ./internal/render/prometheus -run TestMetricsPage -update", metricsPage)
	}
	if err := os.WriteFile(metricsPage, []byte(before+metricsBegin+want+metricsEnd+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
