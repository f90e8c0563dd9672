package text_test

import (
	"bytes"
	"flag"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/render/text"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files anew")

func rendered(t *testing.T, r *reading.Reading, opts text.Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := text.Write(&b, rendertest.ReportOn(r), opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTextGolden(t *testing.T) {
	tests := map[string]*reading.Reading{
		"troubled": rendertest.Clinic(),
		"healthy":  rendertest.Healthy(),
		"busy":     rendertest.Busy(),
		"nothing":  {Format: 1, TakenAt: rendertest.Noon(), Database: "d", Server: reading.Server{Version: "19beta1", Role: reading.RoleStandby}},
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			got := rendered(t, r, text.Options{})
			testkit.Golden(t, filepath.Join("testdata", name+".golden"), got, *update)
		})
	}
}

// TestTextFitsItsWidth: at each width of a terminal no line is wider than it, but for SQL
// to paste.
func TestTextFitsItsWidth(t *testing.T) {
	r := rendertest.Clinic()
	r.Indexes.ForeignKeysWithoutIndex[0].Table = strings.Repeat("long_", 40)
	for _, reading := range []*reading.Reading{r, rendertest.Healthy(), rendertest.Busy()} {
		fits(t, reading, 0)
		for width := 60; width <= 200; width++ {
			fits(t, reading, width)
		}
	}
}

func fits(t *testing.T, r *reading.Reading, width int) {
	t.Helper()
	limit := width
	if width == 0 {
		limit = 100
	}
	fix := false
	for line := range strings.SplitSeq(rendered(t, r, text.Options{Width: width}), "\n") {
		switch {
		case line == "    Fix:":
			fix = true
		case fix && strings.HasPrefix(line, "      "):
			continue // SQL is never broken.
		default:
			fix = false
		}
		if n := lipgloss.Width(line); n > limit {
			t.Errorf("%d of %d columns: %s", n, limit, line)
		}
	}
}

func TestFixesArePastable(t *testing.T) {
	r := rendertest.ReportOn(rendertest.Clinic())
	out := rendered(t, rendertest.Clinic(), text.Options{})
	for _, f := range r.Findings {
		for line := range strings.SplitSeq(f.Fix, "\n") {
			if line != "" && !strings.Contains(out, "\n      "+line+"\n") {
				t.Errorf("not on a line of its own: %s", line)
			}
		}
	}
}

func TestColourChangesNoText(t *testing.T) {
	coloured := rendered(t, rendertest.Clinic(), text.Options{Color: true})
	stripped := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured, "")
	if stripped == coloured {
		t.Fatal("there is no colour")
	}
	if want := rendered(t, rendertest.Clinic(), text.Options{}); stripped != want {
		t.Errorf("the text differs:\n%s", stripped)
	}
}

func TestNamesCannotDriveTheTerminal(t *testing.T) {
	for _, r := range rendered(t, rendertest.Clinic(), text.Options{}) {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
			t.Errorf("the report holds %U", r)
		}
	}
}
