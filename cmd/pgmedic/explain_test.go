package main

import (
	"slices"
	"testing"

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
