package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/docs"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

func TestEveryFindingIsExplained(t *testing.T) {
	var explained []string
	for _, s := range findingSections(docs.Findings) {
		explained = append(explained, s.ID)
		if len(s.Text) < 80 {
			t.Errorf("%s is explained by %q", s.ID, s.Text)
		}
	}
	slices.Sort(explained)
	if !slices.Equal(explained, judge.IDs()) {
		t.Errorf("explained are\n%v, and found can be\n%v", explained, judge.IDs())
	}
}

// TestExplanationsFit: at each width of a terminal no line of a finding's page is wider
// than it, but for addresses, and none has marks of Markdown; nor has the list of findings.
func TestExplanationsFit(t *testing.T) {
	sections := findingSections(docs.Findings)
	for width := 60; width <= 200; width += 7 {
		var out bytes.Buffer
		e := &env{stdout: &out, rawOut: &out, stdoutTTY: true, stdoutWidth: func() int { return width }}
		for _, s := range sections {
			if err := (&explainCommand{env: e, args: []string{s.ID}}).run(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if text := out.String(); strings.Contains(text, "**") || strings.Contains(text, "](") {
			t.Fatalf("width %d: Markdown in\n%s", width, text)
		}
		if err := (&explainCommand{env: e}).run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(out.String(), "\n") {
			if n := lipgloss.Width(line); n > width && strings.Contains(strings.TrimSpace(line), " ") {
				t.Fatalf("%d of %d columns: %s", n, width, line)
			}
		}
	}
}
