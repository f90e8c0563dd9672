package test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// maxResident is the most memory that pgmedic may have at a time, whatever the
// size of the database.
const maxResident = 256 << 20

// TestMemory backs up, verifies and restores more than that by far, over four
// connections each: small rows in one large table, and values of 64 KiB that are
// stored out of line.
func TestMemory(t *testing.T) {
	thorough(t)
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
		if r := c.wait(10 * time.Minute); r.code != 0 {
			t.Fatalf("pgmedic %s: exit code %d\n%s", args[0], r.code, r.stderr)
		}
		usage, ok := c.cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			t.Fatal("this system doesn't say how much memory a process had")
		}
		resident := usage.Maxrss << 10 // KiB on Linux
		t.Logf("%s: %d MiB", strings.Join(args, " "), resident>>20)
		if resident > maxResident {
			t.Errorf("pgmedic %s had %d MiB resident, more than %d", args[0], resident>>20, maxResident>>20)
		}
	}
}
