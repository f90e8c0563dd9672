package test

import (
	"fmt"
	"strings"
)

// killTrials kill the program at each of its named places. make test has the
// quick ones of TestKillAtEveryPoint.
func killTrials() (all []trial) {
	for _, k := range killings() {
		command := strings.Join(k.args, " ")
		if k.rolling {
			command = "rollback"
		}
		times := 1
		if k.times > 1 {
			times = 2
		}
		all = append(all, trial{
			family: byKill, name: fmt.Sprintf("`%s` at `%s`", strings.TrimSuffix(strings.ReplaceAll(command, " latest", ""), " --yes"), k.point),
			done: "SIGKILL", want: killWanted(k), times: times,
			run: func(c *chaos) {
				c.bench = newBench(c.t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
				role := c.prepareKill(k)
				backups := len(c.manifests())
				w := c.live(backedUp, alive)
				w.swapping.Store(strings.HasPrefix(k.point, "swap-") || k.swapped)
				c.dies(k, role)
				w.swapping.Store(true)
				c.mends(k, backups)
				if !c.t.Failed() {
					c.saw("as wanted")
				}
			},
		})
	}
	return all
}

// killWanted is what dies and mends look at.
func killWanted(k killing) string {
	switch {
	case k.args[0] == "backup":
		return "old database live; no half backup listed; the next backup works"
	case k.args[0] == "drill":
		return "old database live; the next drill works and sweeps"
	case len(k.args) > 2 && k.args[2] == "--into":
		return "old database live; the next restore works"
	case k.rolling && k.swapped:
		return "rolled back; `rollback` undoes it"
	case k.rolling:
		return "not rolled back; `rollback` does it"
	case k.swapped:
		return "new database live; `restore --resume` says so; `rollback` works"
	case k.ready:
		return "old database live; `restore --resume` swaps; `rollback` works"
	}
	return "old database live; `restore --resume` clears away; the next swap and `rollback` work"
}
