package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// maxReportResident is the most memory that a report may have at a time.
const maxReportResident = 100 << 20

// TestReportMemory looks at 10,000 tables, 20,000 indexes and 5,000 statements
// of 16 kB, which are 80 MB by themselves, in each format; in make test-all at 3,000
// tables with as much of the rest.
func TestReportMemory(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	b := newBench(t)
	tables := testkit.Amount(0, 3_000, 10_000)
	dsn := scratchtest.Many(t, scratchtest.New(t, scratchtest.ManyOptions()), tables, tables/2)
	b.env = slices.DeleteFunc(b.env, func(kv string) bool { return strings.HasPrefix(kv, "DATABASE_URL=") })
	b.env = append(b.env, "DATABASE_URL="+dsn)
	for _, args := range [][]string{{}, {"--json"}, {"--format", "prometheus"}, {"--interval", "1s"}} {
		c := b.start(append([]string{"report"}, args...)...)
		peak := c.watchResident()
		r := c.wait(time.Minute)
		if r.code != 0 {
			t.Fatalf("pgmedic report %q: exit code %d\n%s", args, r.code, r.stderr)
		}
		if len(args) == 0 && (!strings.Contains(r.stdout, pgmedic.Count(int64(tables))+" in all") || !strings.Contains(r.stdout, pgmedic.Count(int64(2*tables))+" indexes")) {
			t.Errorf("the report is not about what was made:\n%s", r.stdout)
		}
		resident := peak()
		t.Logf("report %s: %d MiB", strings.Join(args, " "), resident>>20)
		if resident > maxReportResident {
			t.Errorf("pgmedic report %q had %d MiB resident, more than %d", args, resident>>20, maxReportResident>>20)
		}
	}
}
