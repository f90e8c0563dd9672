package test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestReportOfASessionThatIsEndedMidway wants the part of a report that was read,
// and the exit code of a server that can't be reached.
func TestReportOfASessionThatIsEndedMidway(t *testing.T) {
	b := newBench(t, `CREATE TABLE public.visits (id int PRIMARY KEY)`,
		// The report passes an oid, so this is chosen before the real one.
		`CREATE FUNCTION pg_catalog.pg_total_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT pg_sleep(4); SELECT 1::bigint'`)
	c := b.start("report")
	const midway = `FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgmedic' AND wait_event = 'PgSleep'`
	testkit.Eventually(t, time.Minute, "the report is midway", func() bool {
		if all := query(t, "postgres", "SELECT pid::text FROM pg_stat_activity WHERE datname = $1", b.database); len(all) > 2 {
			t.Errorf("it takes %d connections", len(all))
		}
		return len(query(t, "postgres", "SELECT pg_terminate_backend(pid)::text "+midway, b.database)) > 0
	})
	r := c.wait(time.Minute)
	if r.code != 12 || !strings.Contains(r.stderr, "error: ") || !strings.Contains(r.stderr, "hint: ") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	for _, words := range []string{"Connections", "the server went away", "the server was gone by then"} {
		if !strings.Contains(r.stdout, words) {
			t.Errorf("%q is not in the report:\n%s", words, r.stdout)
		}
	}
}
