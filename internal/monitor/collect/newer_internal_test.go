package collect

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestNewerServerIsSaid: a report on a server of a later major version says under "Not
// checked" that it is newer than this version knows, once, and one on a known version does not.
func TestNewerServerIsSaid(t *testing.T) {
	for _, c := range []struct {
		name    string
		version int
		opts    Options
		want    int
	}{
		{"known", 180004, Options{}, 0},
		{"newer", 190000, Options{}, 1},
		{"newer by two", 200001, Options{}, 1},
		{"another database of the server", 190000, Options{DatabaseOnly: true}, 0},
		{"another section", 190000, Options{Sections: []string{reading.SectionLocks}}, 0},
	} {
		c.opts.Now = func() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) }
		look := newCollector(c.opts)
		look.reading.Server.VersionNum = c.version
		look.finish()
		said := 0
		for _, s := range look.reading.Skipped {
			if strings.Contains(s.Reason, "newer than this version of pgmedic knows") {
				said++
			}
		}
		if said != c.want {
			t.Errorf("%s: said %d times, want %d: %v", c.name, said, c.want, look.reading.Skipped)
		}
	}
}

// TestNewerServersGetTheNewestQueries: for a later version there is each query that there is
// for the newest known one, once.
func TestNewerServersGetTheNewestQueries(t *testing.T) {
	names := func(version int) []string {
		var all []string
		for _, q := range choose(queryTable(), version) {
			all = append(all, q.name+", "+string(q.only)+", "+q.section)
		}
		slices.Sort(all)
		return all
	}
	want := names(180004)
	if len(slices.Compact(slices.Clone(want))) != len(want) {
		t.Errorf("a query is asked twice: %q", want)
	}
	for _, version := range []int{190000, 200000} {
		if got := names(version); !slices.Equal(got, want) {
			t.Errorf("%d: %q, want %q", version, got, want)
		}
	}
}
