package render_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
)

func TestVerdictCountsAndNamesTheWorst(t *testing.T) {
	if v := rendertest.ReportOn(rendertest.Clinic()).Verdict; v != "1 critical, 6 warnings, 5 notes. Most urgent: connections near limit (server). 2 checks were skipped." {
		t.Error(v)
	}
	if v := rendertest.ReportOn(rendertest.Healthy()).Verdict; v != "Nothing needs doing now." {
		t.Error(v)
	}
}

// TestVerdictNamesWhatDoesHarmNow: a session that blocks others comes before what is worse
// and can wait, and a minor release is last.
func TestVerdictNamesWhatDoesHarmNow(t *testing.T) {
	got := rendertest.Healthy()
	findings := []pgmedic.Finding{
		{ID: "backup-missing", Severity: pgmedic.SeverityCritical, Object: "database clinic"},
		{ID: "lock-wait", Severity: pgmedic.SeverityWarn, Object: "process 4242"},
		{ID: "index-missing", Severity: pgmedic.SeverityWarn, Object: "clinic.claims"},
		{ID: "version-outdated", Severity: pgmedic.SeverityWarn, Object: "server"},
	}
	for _, want := range []string{
		"1 critical, 3 warnings. Most urgent: lock wait (process 4242).", "1 critical, 2 warnings. Most urgent: backup missing (database clinic).",
	} {
		if v := render.NewReport(rendertest.Noon(), got, findings).Verdict; v != want {
			t.Errorf("%q, want %q", v, want)
		}
		findings = slices.Delete(findings, 1, 2)
	}
	if v := render.NewReport(rendertest.Noon(), got, findings[1:]).Verdict; v != "1 warning. Most urgent: version outdated (server)." {
		t.Error(v)
	}
}
