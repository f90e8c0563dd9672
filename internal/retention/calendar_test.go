package retention_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/retention"
)

// TestCalendar holds the calendar in docs/retention.md against the plan: what there is
// of a backup a day at 02:00, pruned once a day for two years.
func TestCalendar(t *testing.T) {
	page, err := os.ReadFile(filepath.FromSlash("../../docs/retention.md"))
	if err != nil {
		t.Fatal(err)
	}
	want := calendar(t)
	if !strings.Contains(string(page), "\n```text\n"+want+"```\n") {
		t.Errorf("docs/retention.md lacks this calendar:\n%s", want)
	}
}

func calendar(t *testing.T) string {
	p := production(t)
	now := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	var all []retention.Backup
	var decisions []retention.Decision
	for day := 730; day >= 0; day-- {
		at := now.AddDate(0, 0, -day)
		all = append(all, taken(at.Add(-7*time.Hour)))
		decisions, _, _ = retention.Plan(all, p, retention.Circumstances{Now: at, Purpose: pgmedic.PurposeRegular})
		if day > 0 {
			all = carryOut(all, decisions, at)
		}
	}
	days := map[string][]string{}
	for _, d := range decisions {
		if d.Verdict != retention.Keep {
			continue
		}
		mark := "."
		for _, why := range d.Reasons {
			switch {
			case strings.HasPrefix(why, "monthly"):
				mark = "M"
			case strings.HasPrefix(why, "weekly") && mark != "M":
				mark = "W"
			case strings.HasPrefix(why, "daily") && mark == ".":
				mark = "d"
			}
		}
		days[d.StartedAt.Format("2006-01")] = append([]string{fmt.Sprintf("%s%d", mark, d.StartedAt.Day())}, days[d.StartedAt.Format("2006-01")]...)
	}
	var b strings.Builder
	n := 0
	for month := 13; month >= 0; month-- {
		at := time.Date(2026, 11-time.Month(month), 1, 0, 0, 0, 0, time.UTC)
		if kept := days[at.Format("2006-01")]; len(kept) > 0 {
			fmt.Fprintf(&b, "%s  %s\n", at.Format("Jan 2006"), strings.Join(kept, " "))
			n += len(kept)
		}
	}
	fmt.Fprintf(&b, "%d backups\n", n)
	return b.String()
}
