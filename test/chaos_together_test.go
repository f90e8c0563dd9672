package test

import (
	"slices"
	"strings"
)

// togetherTrials begin a second run while a first one, on a narrow wire, is
// midway.
func togetherTrials() (all []trial) {
	backup, swap, into := serverJobs()[0], serverJobs()[3], serverJobs()[2]
	for _, pair := range []struct {
		first  job
		second []string
		want   string
		codes  []int
		quick  bool
	}{
		{first: backup, second: []string{"backup"}, codes: []int{14}, quick: true},
		{first: backup, second: []string{"restore", "latest", "--swap", "--yes"}, codes: []int{14}},
		{first: swap, second: []string{"backup"}, codes: []int{14}},
		{first: swap, second: []string{"restore", "latest", "--swap", "--yes"}, codes: []int{14}},
		{first: swap, second: []string{"rollback"}, codes: []int{14}},
		{first: into, second: []string{"restore", "latest", "--into"}, codes: []int{14}},
	} {
		all = append(all, trial{
			family: byTogether, name: "`" + pair.first.name + "`, then `" + strings.ReplaceAll(strings.TrimSuffix(strings.Join(pair.second, " "), " --yes"), " latest", "") + "`",
			done: "the second begins while the first is midway", want: "the second ends with exit code 14, the first with 0 and the right rows",
			quick: pair.quick,
			run:   func(c *chaos) { c.together(pair.first, pair.second, pair.codes) },
		})
	}
	return all
}

func (c *chaos) together(first job, second []string, codes []int) {
	before := c.prepare()
	switch {
	case second[0] == "rollback":
		second = append(slices.Clone(second), c.database, "--yes")
	case slices.Contains(second, "--into"):
		second = append(slices.Clone(second), c.database+"_copy")
	}
	c.live(first.rows()...).swapping.Store(first.name == "restore --swap")
	w := newWire(c.t, serverAddress())
	f := fault{befalls: func(w *wire) {
		w.poison(`{"name": "crawl", "type": "bandwidth", "stream": "%", "attributes": {"rate": 100}}`)
		c.refused(c.run(second...), codes...)
		w.heal()
	}}
	r := c.over(w, first, f, func(env []string) []string { return append(env, "DATABASE_URL="+throughPort(c.t, c.database, w.port)) })
	if r.code != 0 {
		c.t.Fatalf("the first: exit code %d\n%s", r.code, r.stderr)
	}
	c.right(first, before)
}
