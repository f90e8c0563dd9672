package judge_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

// TestMostUrgent: a critical finding comes before a warning, unless the warning does harm now and the
// critical one does not; notes are never urgent.
func TestMostUrgent(t *testing.T) {
	first := func(findings ...pgmedic.Finding) string {
		f, ok := judge.MostUrgent(findings)
		if !ok {
			return ""
		}
		return f.ID
	}
	find := func(id string, s pgmedic.Severity) pgmedic.Finding { return pgmedic.Finding{ID: id, Severity: s} }
	for _, id := range judge.IDs() {
		urgency, known := judge.UrgencyOf(id)
		if !known {
			t.Fatalf("%s has no urgency", id)
		}
		if got := first(find(id, pgmedic.SeverityInfo)); got != "" {
			t.Errorf("the note %s is urgent", got)
		}
		for _, worse := range judge.IDs() {
			// The list of Analyse: the critical one is first.
			got := first(find(worse, pgmedic.SeverityCritical), find(id, pgmedic.SeverityWarn))
			want := worse
			if now, _ := judge.UrgencyOf(worse); urgency == judge.UrgencyNow && now > judge.UrgencyGrows {
				want = id
			}
			if got != want {
				t.Errorf("of %s, critical, and %s, a warning, %s is the most urgent", worse, id, got)
			}
		}
	}
	for _, c := range []struct {
		name     string
		findings []pgmedic.Finding
		want     string
	}{
		{"nothing", nil, ""},
		{"one that is not known", []pgmedic.Finding{find("of-a-later-version", pgmedic.SeverityWarn)}, "of-a-later-version"},
		{"a lock wait before an index before a minor release", []pgmedic.Finding{
			find("lock-wait", pgmedic.SeverityWarn), find("index-missing", pgmedic.SeverityWarn), find("version-outdated", pgmedic.SeverityWarn),
		}, "lock-wait"},
		{"a lock wait before a backup that is missing", []pgmedic.Finding{
			find("backup-missing", pgmedic.SeverityCritical), find("lock-wait", pgmedic.SeverityWarn),
		}, "lock-wait"},
		{"wraparound that is near before a lock wait", []pgmedic.Finding{
			find("wraparound-database", pgmedic.SeverityCritical), find("lock-wait", pgmedic.SeverityWarn),
		}, "wraparound-database"},
		{"a lock wait that is only noted", []pgmedic.Finding{
			find("version-outdated", pgmedic.SeverityWarn), find("lock-wait", pgmedic.SeverityInfo),
		}, "version-outdated"},
	} {
		if got := first(c.findings...); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
