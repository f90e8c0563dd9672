package test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// setting is where and when a campaign ran.
type setting struct {
	date, version, postgres, machine string
	took                             time.Duration
}

func circumstances(began time.Time) setting {
	version := "of an unknown version"
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	machine := fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if model := procField("/proc/cpuinfo", "model name"); model != "" {
		machine += " (" + model + ")"
	}
	if kb, err := strconv.Atoi(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		machine += fmt.Sprintf(", %d GiB of memory", (kb+1<<19)>>20)
	}
	return setting{
		date: began.UTC().Format("2006-01-02 15:04 UTC"), version: version, postgres: server.Version(),
		machine: machine, took: time.Since(began),
	}
}

// procField is the value of the first line of a name in a file of /proc.
func procField(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// families say of each what is done.
var families = []struct{ name, intro string }{
	{byKill, "SIGKILL at a named place in the program, built with `-tags failpoint`. The live database is checked immediately, and again when the server has noticed; then the next runs clean up what is left. \"Old\" and \"new\" are the database as it was and the one brought back. Each once in `make test-all`, and ten times over where the server may differ in `make chaos`."},
	{byServer, "toxiproxy between pgmedic, its `pg_dump` and `psql` included, and PostgreSQL; a database of 5 MB at 4 MB/s. \"Midway\" is after 1.5 MB, among the rows; \"in the safety backup\" after 7 MB."},
	{byStore, "toxiproxy between pgmedic and a bucket of versitygw."},
	{byDisk, "The store's folder on a file system of 3 MiB, a limit on the size of files, and a tablespace with 2 MiB left, each for 5 MB of rows."},
	{byDamage, "Each object that a restore relies on in turn: the manifest, its hash and HMAC, schema, globals, packs, the wrapped key. All four commands are run on each. More kinds of damage are in the ordinary tests."},
	{byRestart, "A process of the server gets SIGKILL midway: PostgreSQL ends all sessions and recovers, as in an immediate restart. While it is down for recovery, the live database is not checked."},
	{byTogether, "The first is slowed down on its wire, the second goes straight."},
}

// chaosPage is docs/reliability.md.
func chaosPage(r *record, s setting) string {
	var b strings.Builder
	failed := 0
	for _, one := range r.tallies {
		failed += one.failed
	}
	fmt.Fprintf(&b, `# Reliability

<!-- Written by make chaos. Edit the campaign in test/, not this page. -->

What becomes of a backup, a restore and the live database when something breaks in the middle. This page is written by the campaign that tries it:

`+"```sh\nmake chaos\n```"+`

It runs the built program against real PostgreSQL servers, a real S3 server and real files, has something befall it, judges what came of it, and writes what it saw here. A silent success or a live database out of reach fails it.

| | |
|---|---|
| **silent successes** | **%d** |
| **live database out of reach** | **%d** |
| cases, and of those not run | %d, %d |
| runs | %d |
| runs that did not end as expected | %d |
| looks at the live database | %d |
| longest moment of a swap | %s |
| date | %s |
| pgmedic | %s |
| PostgreSQL | %s |
| machine | %s |
| took | %s |

- A **silent success** is an exit code of 0 for something that could not be done, or was not: rows are compared afterwards, in the copy, in the restored database and after the rollback.
- A client opens a new connection to the **live database** every 100 ms, while the program runs, is killed and recovers, and counts its rows. The database is out of reach if a check fails, or finds rows other than the old or the new ones. While a swap is under way a client may be refused for a moment ([restoring](restore.md#what-the-swap-does)); more than %s of that count as out of reach, too. The longest moment is the maximum over all swaps and rollbacks of the campaign, on a machine that does other work at the same time, including swaps that were killed midway.
- **How often** counts what was seen; one run can be seen more than once, as a refusal and as what its repetition came to.
`, r.silent, r.away, len(r.tallies), r.notRun(), r.runs, failed, r.looks, r.moment.Round(time.Millisecond), s.date, s.version, s.postgres, s.machine,
		s.took.Round(time.Second), longestMoment)
	for _, family := range families {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| case | what is done | expected | what came of it, how often |\n|---|---|---|---|\n", family.name, family.intro)
		for _, one := range r.tallies {
			if one.family == family.name {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", one.name, one.done, one.want, one.came())
			}
		}
	}
	b.WriteString(physicalPage())
	b.WriteString(`
## What is not covered

- Power failures, and file systems or disks that lose what they said was flushed. The servers of the campaign run without fsync.
- A network that falls silent with no reset: the ordinary tests have it for backups with ` + "`--max-duration`" + ` and for the commit of a swap. Elsewhere the system's TCP timeouts end it.
- The disk of the server's WAL: PostgreSQL itself stops there.
- Other stores than folders and versitygw, other versions of PostgreSQL than the one above (the ordinary tests run on 12 to 18), other systems than Linux.
- Standbys; what they do in a swap is tested, not in this campaign.
- Bugs of PostgreSQL, of its client programs, or of memory.
`)
	return b.String()
}

// came tells the outcomes of a trial, the most frequent first.
func (n *tally) came() string {
	names := slices.SortedFunc(maps.Keys(n.outcomes), func(a, b string) int {
		if n.outcomes[a] != n.outcomes[b] {
			return n.outcomes[b] - n.outcomes[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%s: %d", name, n.outcomes[name]))
	}
	if n.failed > 0 {
		parts = append(parts, fmt.Sprintf("**not as expected: %d**", n.failed))
	}
	if len(parts) == 0 {
		return "not run"
	}
	return strings.Join(parts, "; ")
}

// TestChaosPage: the page tells of what went wrong, and every trial has its place
// on it and a name of its own.
func TestChaosPage(t *testing.T) {
	r := &record{silent: 3, away: 4, runs: 7, looks: 1234, moment: 150 * time.Millisecond}
	names := map[string]bool{}
	for _, one := range trials() {
		if one.done == "" || one.want == "" || one.run == nil || strings.Contains(one.name, "|") {
			t.Errorf("%s: %s is not whole", one.family, one.name)
		}
		if names[one.family+one.name] {
			t.Errorf("two are %s: %s", one.family, one.name)
		}
		names[one.family+one.name] = true
		r.add(one)
	}
	r.tallies[0].outcomes["exit code 12"], r.tallies[0].outcomes["silent success"], r.tallies[0].failed = 1, 2, 2
	page := chaosPage(r, setting{date: "2026-01-02 03:04 UTC", version: "v1", postgres: "15.1", machine: "one", took: time.Minute})
	for _, want := range []string{
		"| **silent successes** | **3** |", "| **live database out of reach** | **4** |", "| looks at the live database | 1234 |",
		"| silent success: 2; exit code 12: 1; **not as expected: 2** |", "| 150ms |", fmt.Sprintf("| cases, and of those not run | %d, %d |", len(r.tallies), len(r.tallies)-1), "| runs that did not end as expected | 2 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if rows := strings.Count(page, "| not run |"); rows != len(r.tallies)-1 {
		t.Errorf("%d cases are on the page, want %d", rows+1, len(r.tallies))
	}
}
