package test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// damageTrials do to each stored object what a disk, a network or a person may
// do. TestDamageParallel has more kinds, and make test has all of those.
func damageTrials() (all []trial) {
	flip := func(good, _ []byte) []byte {
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 0x10
		return bad
	}
	for _, kind := range []struct {
		name, done string
		harm       func(good, other []byte) []byte
	}{
		{"cut", "its second half is gone", func(good, _ []byte) []byte { return good[:len(good)/2] }},
		{"flipped", "one bit in its middle is another", flip},
		{"removed", "it is gone", func(_, _ []byte) []byte { return nil }},
		{"swapped", "another backup's is in its place", func(_, other []byte) []byte { return other }},
	} {
		for _, method := range []string{"parallel, encrypted", "plain"} {
			all = append(all, trial{
				family: byDamage, name: "each object of a " + method + " backup " + kind.name,
				done: kind.done + "; `verify`, `restore --into`, `restore --swap`, `drill`",
				want: "exit code 11, or 10 where the manifest is gone, or 12; nothing changed",
				run:  func(c *chaos) { c.damaged(method, kind.harm) },
			})
		}
	}
	return all
}

func (c *chaos) damaged(method string, harm func(good, other []byte) []byte) {
	t := c.t
	rows := "CREATE TABLE public.visits AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 500) AS n"
	if method == "plain" {
		c.bench = newBench(t, rows)
		c.env = append(c.env, "BACKUP_METHOD=plain")
	} else {
		c.bench = sealedBench(t, append(damagedRows()[:1], rows, "SELECT lo_from_bytea(0, 'x-ray')")...)
	}
	id := c.backup()
	mustExec(t, c.database, "INSERT INTO public.visits SELECT generate_series(1, 10)", "CREATE TABLE public.later (id int)")
	other := c.backup()
	before := databasesOf(t, c.database)
	c.live(alive)
	for _, object := range c.carried(id) {
		path := filepath.Join(c.folder(id), object)
		good := readFile(t, path)
		theirs, err := os.ReadFile(filepath.Join(c.folder(other), object))
		bad := harm(good, theirs)
		if bad != nil && bytes.Equal(bad, good) || err != nil && bad == nil && bytes.Equal(harm(good, good), good) {
			continue // the other backup has the same, or none of that name
		}
		put(t, path, bad)
		for _, args := range [][]string{{"verify", id}, {"restore", id, "--into", c.database + "_copy"}, {"restore", id, "--swap", "--yes"}, {"drill", id}} {
			r := c.run(args...)
			codes := []int{10, 11, 12}
			if bad == nil && strings.HasPrefix(object, "keys/") {
				codes = []int{2} // keys come and go: without this one the backup is one for others' keys
			}
			c.refused(r, codes...)
			if r.code == 10 && object != "manifest.json" {
				t.Errorf("%s: pgmedic %s says that there is nothing: %s", object, args[0], r.stderr)
			}
			if after := databasesOf(t, c.database); !slices.Equal(after, before) {
				t.Errorf("%s: pgmedic %s: databases are %q instead of %q", object, args[0], after, before)
			}
			if t.Failed() {
				t.Fatalf("%s: pgmedic %s", object, strings.Join(args, " "))
			}
		}
		put(t, path, good)
	}
	c.ok("verify", id)
	c.ok("restore", id, "--into", c.database+"_copy", "-q")
	if got := query(t, c.database+"_copy", "SELECT count(*)::text FROM public.visits"); got[0] != backedUp {
		c.silent("the copy of the mended backup has %s visits", got)
	}
	if n := c.seen(); n < 4*3 {
		t.Errorf("only %d runs", n)
	}
}

// seen is how many outcomes the trial has so far.
func (c *chaos) seen() (n int) {
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	for _, count := range c.tally.outcomes {
		n += count
	}
	return n
}

// sum tells the rows of a database apart from others.
func (c *chaos) sum(database string) string {
	return strings.Join(query(c.t, database, `SELECT (SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM public.patients AS p)
		|| (SELECT count(*) FROM public.visits)`), "")
}
