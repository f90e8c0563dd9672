package html

import (
	"fmt"

	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// trendsSection is what earlier readings say; their charts stand in the sections
// that they are of.
func (s *sheet) trendsSection(x *htmlSection) {
	t := s.trends
	if t == nil {
		return
	}
	x.facts(
		htmlFact{Name: "Readings", Value: whole(t.Readings)}, htmlFact{Name: "Since", Value: utc(t.Since)},
		htmlFact{Name: "The oldest", Value: words.Ago(s.r.TakenAt, t.Since)},
	)
	s.changes(x)
	s.growing(x)
}

// changes are statements that got slower, or are new.
func (s *sheet) changes(x *htmlSection) {
	t := htmlTable{Caption: "Slower than in the same hours before, or new", Columns: columns("Statement", "Change#", "Mean#", "Before#", "Calls#", "Calls before#")}
	for _, c := range s.trends.Statements {
		change, before := "new", "-"
		if c.BeforeCalls > 0 && c.BeforeMeanSeconds > 0 {
			change = fmt.Sprintf("%.1f times", c.MeanSeconds/c.BeforeMeanSeconds)
			before = words.FineSeconds(c.BeforeMeanSeconds)
		}
		t.Rows = append(t.Rows, []cell{
			name(c.Query), text(change), text(words.FineSeconds(c.MeanSeconds)), text(before), text(words.Count(c.Calls)), text(words.Count(c.BeforeCalls)),
		})
	}
	x.table(t, 20, 0)
}

// growing are the tables that grow most.
func (s *sheet) growing(x *htmlSection) {
	t := htmlTable{
		Caption: "Tables that grow most", Columns: columns("Table", "A day#", "At least#", "At most#", "Size#"),
		Note: "At least and at most are the ends of the 95 % interval.",
	}
	for _, g := range s.trends.Tables {
		t.Rows = append(t.Rows, []cell{name(g.Name), text(words.PerDay(g.BytesPerDay)), text(words.PerDay(g.LowPerDay)), text(words.PerDay(g.HighPerDay)), text(words.Bytes(g.Bytes))})
	}
	x.table(t, render.RowsShown, 0)
}
