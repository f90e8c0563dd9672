package pgmedic_test

import (
	"regexp"
	"slices"
	"testing"
)

// TestCountsInMessages: a number of things is written by words.Plural, which knows that one
// is "1 table". A format with the plural behind its verb is found, unless a word before
// the verb shows that the number is a part or a limit, or the number can't be one.
func TestCountsInMessages(t *testing.T) {
	plural := regexp.MustCompile(`(\S+ )?%[dsv]? (objects|tables|rows|backups|databases|segments|files|copies|sessions|servers|keys|stores|commits|transactions|findings|checks|chunks|epochs|schemas|ways|connections|columns)\b`)
	parts := []string{"of ", "than ", "most ", "last ", "to ", "its ", "all "}
	// Those that are never one, or where the number is not of things.
	known := []string{
		"%d servers are filed under %s, or one that was replaced: system identifiers %s",
		"%q names %d backups",
		"%q names %d backups: %s",
		"the chain has %d backups, which is its limit",
		"schema %q is in %d databases",
		"%d tables are to be left out, more than fit on pg_dump's command line",
		"%d tables instead of %d",
		"%s in %s: %s rows, %s stored", // of the demo
		"It was read whole %s times (%s), %s rows each time on average: an index may be missing.",
		"%s tables and their TOAST are sound",                  // of a whole cluster
		"%d connections were", "% objects", "% rows missing: ", // of which the code knows one
		// Even an empty database has more: its schema and its extension.
		"% objects are there; without owners their definitions can't be compared", "% objects have the recorded definitions",
		"%d segments take %d bytes",
		// Of manifests that contradict themselves: the root has no Plural.
		"a %s backup has %d objects of role %.40q", "table %q.%q has %d rows, and its chunks %d", "%d backups before it",
		"%d connections kept open, %d kept idle, of at most %d",
	}
	unused := slices.Clone(known)
	read := 0
	eachText(t, func(position, text string) {
		read++
		if slices.Contains(known, text) {
			unused = slices.DeleteFunc(unused, func(s string) bool { return s == text })
			return
		}
		for _, m := range plural.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(parts, m[1]) {
				t.Errorf("%s: %q is \"1 %s\" where there is one: use words.Plural", position, text, m[2])
			}
		}
	})
	if read < 4000 || len(unused) > 0 {
		t.Errorf("%d texts were read, and these are nowhere: %q", read, unused)
	}
}
