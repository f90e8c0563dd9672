package render_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/render/rendertest"
)

func TestVerdictCountsAndNamesTheWorst(t *testing.T) {
	if v := rendertest.ReportOn(rendertest.Clinic()).Verdict; v != "1 critical, 5 warnings, 5 notes. Most urgent: connections near limit (server). 2 checks were skipped." {
		t.Error(v)
	}
	if v := rendertest.ReportOn(rendertest.Healthy()).Verdict; v != "Nothing needs doing now." {
		t.Error(v)
	}
}
