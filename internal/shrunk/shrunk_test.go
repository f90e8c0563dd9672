package shrunk_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/shrunk"
)

var first = time.Date(2026, time.November, 1, 2, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// series makes a backup of each number of rows, so much time apart, named b0, b1, ….
func series(apart time.Duration, rows ...int64) []shrunk.Backup {
	all := make([]shrunk.Backup, len(rows))
	for i, n := range rows {
		all[i] = shrunk.Backup{ID: fmt.Sprintf("b%d", i), At: first.Add(time.Duration(i) * apart), Rows: n, Tables: 4, Bytes: 100 * n, Written: "x"}
	}
	return all
}

// marks writes . for each backup that is not marked, and else the digit of the one that it
// is compared with.
func marks(backups []shrunk.Backup) string {
	falls := shrunk.Falls(backups)
	var b strings.Builder
	for _, x := range backups {
		if f := falls[x.ID]; f != nil {
			b.WriteString(strings.TrimPrefix(f.Before, "b") + " ")
			continue
		}
		b.WriteString(". ")
	}
	return strings.TrimSpace(b.String())
}

func TestFalls(t *testing.T) {
	announce := func(all []shrunk.Backup, at int) []shrunk.Backup {
		all[at].Announced = true
		return all
	}
	for name, test := range map[string]struct {
		backups []shrunk.Backup
		want    string
	}{
		"nothing":                       {nil, ""},
		"one":                           {series(day, 0), "."},
		"steady":                        {series(day, 5000, 5100, 4900, 5000), ". . . ."},
		"half at once":                  {series(day, 5000, 2500), ". 0"},
		"less than half":                {series(day, 5000, 2501), ". ."},
		"few":                           {series(day, 999, 0), ". ."},
		"it stays marked":               {series(day, 5000, 100, 100, 100), ". 0 0 0"},
		"it comes back":                 {series(day, 5000, 100, 5000, 5000), ". 0 . ."},
		"a week of days":                {series(day, 5000, 5000, 100, 100, 100, 100, 100, 100, 100, 100, 100), ". . 1 1 1 1 1 1 1 . ."},
		"weeks settle after three":      {series(7*day, 5000, 100, 100, 100, 100), ". 0 0 0 ."},
		"hours are marked for a week":   {series(time.Hour, 5000, 100, 100, 100, 100, 100), ". 0 0 0 0 0"},
		"by and by within a week":       {series(day, 10000, 10000, 7500, 5500, 3700), ". . . . 2"},
		"a spike is no usual level":     {series(day, 5000, 5000, 5000, 15000, 5000, 5000), ". . . . 3 ."},
		"growth is followed":            {series(day, 1000, 2000, 4000, 8000, 3500), ". . . . 3"},
		"announced":                     {announce(series(day, 5000, 100, 100), 1), ". . ."},
		"announced later":               {announce(series(day, 5000, 100, 100, 100), 2), ". . . ."},
		"announced, and lost again":     {announce(series(day, 50000, 5000, 5000, 100), 1), ". . . 2"},
		"an earlier fall stays one":     {announce(series(day, 5000, 100, 5000, 100, 100), 4), ". 0 . . ."},
		"a second fall before the week": {series(day, 500000, 50000, 50000, 1000, 1000), ". 0 0 2 0"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := marks(test.backups); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFallsOfTablesAndContents(t *testing.T) {
	two := func(change func(before, now *shrunk.Backup)) []shrunk.Backup {
		all := series(day, 5000, 5000)
		all[0].Bytes, all[1].Bytes = 2<<20, 2<<20
		change(&all[0], &all[1])
		return all
	}
	for name, test := range map[string]struct {
		change func(before, now *shrunk.Backup)
		want   string
	}{
		"a third of the tables":    {func(b, n *shrunk.Backup) { b.Tables, n.Tables = 3, 2 }, "2 tables instead of 3"},
		"less":                     {func(b, n *shrunk.Backup) { b.Tables, n.Tables = 4, 3 }, ""},
		"few tables":               {func(b, n *shrunk.Backup) { b.Tables, n.Tables = 2, 0 }, ""},
		"half the contents":        {func(_, n *shrunk.Backup) { n.Bytes = 1 << 20 }, "1.0 MiB of contents instead of 2.0 MiB"},
		"little less":              {func(_, n *shrunk.Backup) { n.Bytes = 1<<20 + 1 }, ""},
		"little there":             {func(b, n *shrunk.Backup) { b.Bytes, n.Bytes = 1<<20-1, 1 }, ""},
		"written in another way":   {func(_, n *shrunk.Backup) { n.Bytes, n.Written = 1, "y" }, ""},
		"contents are not known":   {func(_, n *shrunk.Backup) { n.Bytes = 0 }, ""},
		"all three are told":       {func(_, n *shrunk.Backup) { n.Rows, n.Tables, n.Bytes = 0, 0, 1 }, "100 % fewer rows (0 instead of 5,000), 0 tables instead of 4, 1 B of contents instead of 2.0 MiB"},
		"more of everything":       {func(_, n *shrunk.Backup) { n.Rows, n.Tables, n.Bytes = 1e9, 99, 1<<40 }, ""},
		"the largest numbers":      {func(b, n *shrunk.Backup) { b.Rows, n.Rows = 1<<63-1, 0 }, "100 % fewer rows (0 instead of 9,223,372,036,854,775,807)"},
		"rows, written in another": {func(_, n *shrunk.Backup) { n.Rows, n.Bytes, n.Written = 1, 1, "y" }, "100 % fewer rows (1 instead of 5,000)"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if f := shrunk.Falls(two(test.change))["b1"]; f != nil {
				got = f.String()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestFallsProperties: whatever a series does, a backup with half the rows of the one before
// it is marked unless a label announces it, what is marked has more to show in the backup
// that it names, an earlier one, and a backup that has as much as all before it is not.
func TestFallsProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		rows := make([]int64, 1+random.IntN(30))
		level := int64(1000 + random.IntN(100000))
		for i := range rows {
			if random.IntN(4) == 0 {
				level = int64(random.IntN(100000))
			}
			rows[i] = level + int64(random.IntN(50))
		}
		backups := series(time.Duration(1+random.IntN(200))*time.Hour, rows...)
		for i := range backups {
			backups[i].Announced = random.IntN(15) == 0
		}
		falls := shrunk.Falls(backups)
		at := map[string]int{}
		most := int64(0)
		for i, b := range backups {
			at[b.ID] = i
			f := falls[b.ID]
			switch {
			case f == nil && i > 0 && backups[i-1].Rows >= 1000 && 2*b.Rows <= backups[i-1].Rows && !explained(backups, i):
				t.Fatalf("not marked: %d of %v", i, rows)
			case f != nil && (b.Announced || b.Rows >= most && i > 0):
				t.Fatalf("marked: %d of %v", i, rows)
			case f != nil && (at[f.Before] >= i || f.RowsBefore != rows[at[f.Before]] || f.Rows != b.Rows || f.String() == ""):
				t.Fatalf("%d of %v: %+v", i, rows, f)
			}
			most = max(most, b.Rows)
		}
	}
}

// explained reports whether a backup or one after it announces a deletion: its mark may then
// be taken off, which the table of TestFalls has case by case.
func explained(backups []shrunk.Backup, i int) bool {
	for _, b := range backups[i:] {
		if b.Announced {
			return true
		}
	}
	return false
}
