package monitor_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// at looks with a clock that says how long before noon it is.
func at(before time.Duration) collect.Options {
	return collect.Options{Now: func() time.Time { return noon.Add(-before) }}
}

func testWaitsThatRecurAreFound(t *testing.T, dsn string) {
	conn, holder, waiter := connect(t, dsn), connect(t, dsn), connect(t, dsn)
	restored(t, conn, "log_lock_waits")
	exec(t, conn, "CREATE TABLE wanted (id int PRIMARY KEY)")
	var earlier []*reading.Reading
	for i := range 3 {
		exec(t, holder, "BEGIN", "LOCK TABLE wanted")
		ends := run(t, waiter, "SELECT count(*) FROM wanted")
		moment := time.Duration(9-2*i) * time.Hour
		testkit.Eventually(t, time.Minute, "somebody has waited for a second", func() bool {
			r := look(t, conn, at(moment))
			waits := len(r.Locks.Waiting) == 1 && r.Locks.Waiting[0].WaitSeconds >= 1
			if waits {
				earlier = append(earlier, r)
			}
			return waits
		})
		exec(t, holder, "COMMIT")
		if err := ends(); err != nil {
			t.Fatal(err)
		}
		earlier = append(earlier, look(t, conn, at(moment-time.Hour)))
	}
	now := look(t, conn, at(0))
	f := mustFind(t, judge.Analyse(now, earlier, reading.DefaultThresholds()), "lock-waits-recurring", "public.wanted")
	if evidenceOf(f, "episodes") != "3" {
		t.Errorf("%+v", f)
	}
	paste(t, conn, f.Fix)
	mustNotFind(t, judge.Analyse(now, earlier[:2], reading.DefaultThresholds()), "lock-waits-recurring", "public.wanted")
	// A day later nobody has waited again.
	mustNotFind(t, judge.Analyse(look(t, conn, at(-25*time.Hour)), append(earlier, now), reading.DefaultThresholds()),
		"lock-waits-recurring", "public.wanted")
}

func testAStatementThatIsNewIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "CREATE EXTENSION pg_stat_statements", "SELECT pg_stat_statements_reset()", "SELECT count(*) FROM pg_class")
	limits := reading.DefaultThresholds()
	limits.StatementsMinTime = 0
	before := look(t, conn, at(26*time.Hour))
	var now *reading.Reading
	var f pgmedic.Finding
	seconds := 0.5
	testkit.Eventually(t, time.Minute, "statement-new is found", func() bool {
		exec(t, conn, fmt.Sprintf("SELECT pg_sleep(%g), 'new'", seconds))
		seconds *= 2 // the looks themselves take time, on a busy machine much
		now = look(t, conn, at(0))
		var found bool
		f, found = about(judge.Analyse(now, []*reading.Reading{before}, limits), "statement-new", "pg_sleep")
		return found
	})
	if f.Fix != "" {
		paste(t, conn, f.Fix)
	}
	later := look(t, conn, at(-26*time.Hour))
	mustNotFind(t, judge.Analyse(later, []*reading.Reading{before, now}, limits), "statement-new", f.Object)
}
