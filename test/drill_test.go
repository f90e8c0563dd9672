package test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// sleepy is a configuration whose drills wait for a minute at their end.
const sleepy = `drill:
  assertions:
    - name: sleepy
      sql: SELECT pg_sleep(60) IS NOT NULL
`

// TestDrillKilled kills drills with SIGKILL while the copy is there. The next
// one removes what is left, and the database that was backed up is as it was.
func TestDrillKilled(t *testing.T) {
	for name, args := range map[string][]string{"private": nil, "on-server": {"--on-server"}} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
			b.ok("backup", "--quiet")
			config := filepath.Join(b.dir, "sleepy.yaml")
			if err := os.WriteFile(config, []byte(sleepy), 0o600); err != nil {
				t.Fatal(err)
			}
			drill := append([]string{"drill", "latest", "--no-amcheck"}, args...)
			c := b.start(append(drill, "--config", config)...)
			scratches := func() []string {
				dirs, err := filepath.Glob(filepath.Join(b.tmp, "pgmedic-scratch-*"))
				if err != nil {
					t.Fatal(err)
				}
				return append(dirs, query(t, "postgres", `SELECT datname::text FROM pg_database
					WHERE starts_with(datname::text, 'pgmedic_drill_') AND shobj_description(oid, 'pg_database') LIKE '%"drill"%'`)...)
			}
			testkit.Eventually(t, time.Minute, "the drill has a copy", func() bool { return len(scratches()) > 0 })
			left := scratches()
			c.signal(syscall.SIGKILL)
			<-c.done
			if now := scratches(); !slices.Equal(now, left) {
				t.Fatalf("a killed drill cleaned up: %q, then %q", left, now)
			}
			// The server may take a moment to let the lock of a dead client go.
			testkit.Eventually(t, time.Minute, "the next drill runs", func() bool {
				r := b.run(drill...)
				if r.code != 0 && r.code != 14 {
					t.Fatalf("exit code %d: %s", r.code, r.stderr)
				}
				return r.code == 0
			})
			if now := scratches(); len(now) > 0 {
				t.Errorf("left behind: %q", now)
			}
			if n := query(t, b.database, "SELECT count(*)::text FROM visits"); n[0] != "500" {
				t.Errorf("%s rows are left in the database", n[0])
			}
		})
	}
}
