package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// maxResident is the most memory that pgmedic may have at a time, whatever the
// size of the database.
const maxResident = 256 << 20

// TestMemory backs up, verifies and restores more than that by far, over four
// connections each: small rows in one large table, and values of 64 KiB that are
// stored out of line.
func TestMemory(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	b := newBench(t,
		"CREATE TABLE events AS SELECT n, md5(n::text) AS a, md5((n + 1)::text) AS b FROM generate_series(1, 5500000) AS n",
		"CREATE TABLE scans (id int, image bytea)", "ALTER TABLE scans ALTER image SET STORAGE EXTERNAL",
		"INSERT INTO scans SELECT n, decode(repeat(md5(n::text), 4096), 'hex') FROM generate_series(1, 24000) AS n")
	size := query(t, b.database, "SELECT (pg_database_size(current_database()) >> 20)::text")
	if mib, err := strconv.Atoi(size[0]); err != nil || mib < 2000 {
		t.Fatalf("the database has %s MiB", size[0])
	}
	b.env = append(b.env, "PGMEDIC_JOBS=4", "BACKUP_METHOD=parallel", "BACKUP_ENCRYPTION_KEY=not a secret of anyone's")
	for _, args := range [][]string{{"backup", "-q"}, {"verify", "latest"}, {"restore", "latest", "--into", b.database + "_copy"}} {
		c := b.start(args...)
		peak := c.watchResident()
		if r := c.wait(10 * time.Minute); r.code != 0 {
			t.Fatalf("pgmedic %s: exit code %d\n%s", args[0], r.code, r.stderr)
		}
		resident := peak()
		t.Logf("%s: %d MiB", strings.Join(args, " "), resident>>20)
		if resident > maxResident {
			t.Errorf("pgmedic %s had %d MiB resident, more than %d", args[0], resident>>20, maxResident>>20)
		}
	}
}

// watchResident watches how much memory a child has, and returns what says the
// most of it, in bytes, once it has ended. What wait4 says would not do: on Linux it
// counts what the process was before exec, which is as large as this one.
func (c *child) watchResident() (peak func() int64) {
	t := c.b.t
	seen := c.seenResident()
	return func() int64 {
		t.Helper()
		most := seen()
		if most == 0 {
			t.Fatal("this system doesn't say how much memory a process has")
		}
		return most
	}
}

// seenResident is watchResident for a child that may end before it is looked at:
// the most is 0 then.
func (c *child) seenResident() (peak func() int64) {
	status := fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid)
	watched := make(chan int64, 1)
	go func() {
		var most int64
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, highWater(status))
			select {
			case <-c.done:
				watched <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { return <-watched }
}

// highWater reads the most memory that a process has had, 0 where it is not said.
func highWater(status string) int64 {
	text, _ := os.ReadFile(status) // a process that has ended has none
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}
