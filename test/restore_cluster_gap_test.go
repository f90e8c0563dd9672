package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRestoreClusterGap: where WAL is missing, the end of what is stored is not where the
// WAL before it ends. The position up to which there is no gap is named, and reached. The
// WAL also drops a tablespace, and makes another one in its folder.
func TestRestoreClusterGap(t *testing.T) {
	testkit.OnlyAll(t, "two servers")
	b := newWALBench(t, 0)
	old := b.serverFolder("tablespace-whose-path-is-long")
	b.streamed(func() {
		b.sql("INSERT INTO ledger VALUES (1, 'before')")
		b.sql("CREATE TABLESPACE early LOCATION '" + old + "'")
		b.sql("CREATE TABLE aside TABLESPACE early AS SELECT 1 AS n")
	}, func() {
		b.sql("DROP TABLE aside")
		b.sql("DROP TABLESPACE early")
		b.sql("CREATE TABLESPACE late LOCATION '" + old + "'")
		b.sql("CREATE TABLE aside TABLESPACE late AS SELECT generate_series(1, 1000) AS n")
		for n := '2'; n <= '4'; n++ {
			b.sql("INSERT INTO ledger VALUES (" + string(n) + ", 'after')")
			b.sql("SELECT pg_switch_wal()")
		}
		b.sql("INSERT INTO ledger VALUES (5, 'end')")
	})
	c := b.restoring()
	segments, err := filepath.Glob(filepath.Join(c.store, "clinic", "@wal/*/*/seg/*/*"))
	if err != nil || len(segments) < 3 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	slices.Sort(segments)
	if err := os.Remove(segments[len(segments)-2]); err != nil {
		t.Fatal(err)
	}
	port, moved := c.port(), filepath.Join(c.place, "m")
	args := []string{"--tablespace", old + "=" + moved, "--start", "--start-port", port}
	_, r := c.restore(10, "end", append(args, "--to-end")...)
	to := regexp.MustCompile(`--to-lsn [0-9A-F]+/[0-9A-F]+`).FindString(r.stderr)
	if to == "" {
		t.Fatalf("the end behind the gap: %s", r.stderr)
	}
	c.restore(0, "gap", append(args, "--to-lsn", to[len("--to-lsn "):])...)
	if got := c.asks(port, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM ledger"); got != "1 2" {
		t.Errorf("the ledger has %s", got)
	}
	if got := c.asks(port, "SELECT count(*) || ' ' || (SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'late') FROM aside"); got != "1000 "+moved {
		t.Errorf("in the tablespace: %s", got)
	}
}
