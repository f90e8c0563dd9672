package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestRescueMomentRoom: a folder that has room for the cluster, and not for what is taken out of
// it, is refused with the numbers: for a database before anything is fetched, for tables once their
// size is known. Nothing is left of either, and compressed it may fit all the same.
func TestRescueMomentRoom(t *testing.T) {
	testkit.OnlyAll(t, "a server, a small file system and three recoveries")
	b := &momentBench{walBench: newWALBench(t, 0)}
	b.scratches = filepath.Join(b.tmp, "scratches")
	if err := os.MkdirAll(b.scratches, 0o755); err != nil {
		t.Fatal(err)
	}
	// 80 MB, which compress well. They are there at the base backup, so that there is little WAL.
	b.sql("CREATE TABLE wide AS SELECT g AS n, repeat('w', 7000) AS note FROM generate_series(1, 10) AS g")
	b.sql("ALTER TABLE wide ALTER COLUMN note SET STORAGE PLAIN")
	b.sql("INSERT INTO wide SELECT g, repeat('w', 7000) FROM generate_series(11, 10000) AS g")
	b.base = b.streamed(func() {}, func() {
		b.before = b.ask("SELECT clock_timestamp()::timestamptz(6)::text")
		b.sql("DELETE FROM ledger")
		b.sql("INSERT INTO ledger VALUES (1, 'later')")
	})
	b.reader = append(b.reader, "DATABASE_URL="+b.server.URL("postgres"), "PGMEDIC_POSTGRES_DIRS="+b.server.BinDir())
	moment := []string{"--to-time", b.before, "--database", "postgres"}
	database, tables := slices.Concat(moment, []string{"--into", "back"}), slices.Concat(moment, []string{"--table", "wide"})
	var plan struct {
		NeededBytes int64 `json:"needed_bytes"`
		TakenBytes  int64 `json:"taken_bytes"`
	}
	if r := b.restore(0, slices.Concat(database, []string{"--dry-run", "--json"})...); json.Unmarshal([]byte(r.stdout), &plan) != nil || plan.TakenBytes < 80e6 || plan.NeededBytes < plan.TakenBytes {
		t.Fatalf("the plan: %s", r.stdout)
	}
	// Half of the table fits beside the cluster, which PostgreSQL gives more segments of WAL.
	size := plan.NeededBytes + 40<<20
	if err := unix.Mount("tmpfs", b.scratches, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		testkit.Elsewhere(t, fmt.Sprintf("mounting needs root: %v", err))
	}
	t.Cleanup(func() { _ = unix.Unmount(b.scratches, unix.MNT_DETACH) })
	for _, more := range [][]string{nil, {"--dry-run"}} {
		if r := b.restore(1, slices.Concat(database, more)...); !strings.Contains(r.stderr, `database "postgres" that is taken out of it up to`) || !strings.Contains(r.stderr, "--skip-disk-check") {
			t.Errorf("the database, %q: %s", more, r.stderr)
		}
	}
	r := b.restore(1, tables...)
	if !strings.Contains(r.stderr, "there may be no room for the tables") || !strings.Contains(r.stderr, "the cluster is recovered, and what is to be taken out of it has") {
		t.Errorf("a table: %s", r.stderr)
	}
	if n := b.ask("SELECT count(*)::text FROM pg_namespace WHERE nspname ~ '^pgmedic'"); n != "0" {
		t.Errorf("%s schemas are left", n)
	}
	b.restore(0, slices.Concat(tables, []string{"--skip-disk-check"})...)
	b.restore(0, slices.Concat(moment, []string{"--table", "ledger"})...) // which is small
	b.restore(0, slices.Concat(database, []string{"--skip-disk-check"})...)
}
