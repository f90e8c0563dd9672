package monitor_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// pastedElsewhere are the findings whose fixes change something and are not among
// pastedAround, with the test that pastes each beside what it could hurt.
var pastedElsewhere = map[string]string{
	"fsync-off":                   "none: the server would wait for the disk, and do nothing else",
	"random-page-cost-default":    "testASettingIsFoundAndMended: only plans change",
	"table-bloat":                 "TestFixesHurtNobodyAroundOnAServer, where it gives up by itself beside a row that is held",
	"index-unused":                "dropWhatNobodyUses",
	"idle-in-transaction":         "testASessionIdleInTransactionIsFoundAndEnded, beside a dump that idles, too",
	"long-transaction":            "endThoseInTheWay",
	"lock-wait":                   "endThoseInTheWay",
	"slot-lost":                   "dropALostSlot",
	"subscription-down":           "enableASubscription",
	"synchronous-standby-missing": "giveUpOnAStandby",
}

// changes reports whether a fix does more than show something.
func changes(f pgmedic.Finding) bool {
	for line := range strings.SplitSeq(f.Fix, "\n") {
		for _, verb := range []string{"ALTER ", "DROP ", "CREATE ", "REINDEX ", "VACUUM", "ANALYZE", "UPDATE ", "DELETE ", "INSERT ", "TRUNCATE "} {
			if strings.HasPrefix(strings.TrimSpace(line), verb) {
				return true
			}
		}
		if strings.Contains(line, "_backend(") || strings.Contains(line, "pg_drop_replication_slot(") {
			return true
		}
	}
	return false
}

// TestEachFixThatChangesIsPastedBesideOthers fails for a fix that changes something, in a
// reading of any version, and that no test pastes where it could hurt somebody.
func TestEachFixThatChangesIsPastedBesideOthers(t *testing.T) {
	recorded, err := filepath.Glob(filepath.Join(readings, "*.json"))
	if err != nil || len(recorded) == 0 {
		t.Fatal(recorded, err)
	}
	seen := map[string]bool{}
	for _, path := range recorded {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := reading.Decode(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range judge.Analyse(r, nil, goldenThresholds()) {
			if changes(f) {
				seen[f.ID] = true
			}
		}
	}
	for id := range seen {
		if _, ok := pastedElsewhere[id]; !ok && !slices.Contains(pastedAround, id) {
			t.Errorf("the fix of %s changes something, and no test pastes it beside others", id)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d fixes of the recorded readings change something", len(seen))
	}
}

// dropALostSlot pastes the fix of a slot that has lost its WAL, beside those of a
// subscriber and a standby.
func dropALostSlot(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	others := func() (n int) {
		if err := conn.QueryRow(t.Context(), "SELECT count(*)::int FROM pg_replication_slots WHERE slot_name <> 'too_late'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := others()
	exec(t, conn, "SELECT pg_create_physical_replication_slot('too_late', true)")
	for range 3 {
		exec(t, conn, "SELECT txid_current()", "SELECT pg_switch_wal()")
	}
	var written string
	if err := conn.QueryRow(t.Context(), "SELECT pg_current_wal_lsn()::text").Scan(&written); err != nil {
		t.Fatal(err)
	}
	// Only then may there be a bound, which is theirs, too. A subscriber's slot moves with
	// the list of running transactions that a checkpoint writes.
	testkit.Eventually(t, time.Minute, "the others have come so far", func() bool {
		exec(t, conn, "SELECT txid_current()", "CHECKPOINT")
		var all bool
		err := conn.QueryRow(t.Context(), "SELECT bool_and(restart_lsn >= $1::text::pg_lsn) FROM pg_replication_slots WHERE slot_name <> 'too_late'", written).Scan(&all)
		return err == nil && all
	})
	exec(t, conn, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
	const object = "replication slot too_late"
	findings := func() []pgmedic.Finding {
		exec(t, conn, "SELECT txid_current()", "CHECKPOINT")
		return judgeNow(t, conn)
	}
	var f pgmedic.Finding
	testkit.Eventually(t, time.Minute, "the slot is lost", func() bool {
		f = comes(t, "slot-lost", object, findings)
		return f.Severity == pgmedic.SeverityWarn // critical while it may still be saved
	})
	exec(t, conn, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
	paste(t, conn, f.Fix)
	if after := others(); after != before || before < 2 {
		t.Errorf("%d other slots, and %d before", after, before)
	}
	mustNotFind(t, judgeNow(t, conn), "slot-lost", object)
}

// enableASubscription pastes the fix of a subscription that somebody disabled, after rows
// that it did not get.
func enableASubscription(t *testing.T, conn, subscriber *pgx.Conn) {
	t.Helper()
	exec(t, subscriber, "ALTER SUBSCRIPTION s DISABLE")
	exec(t, conn, "INSERT INTO clinics VALUES (1000, 'while disabled')")
	findings := func() []pgmedic.Finding { return judgeNow(t, subscriber) }
	paste(t, subscriber, comes(t, "subscription-down", "subscription s", findings).Fix)
	testkit.Eventually(t, time.Minute, "it gets what it missed", func() bool {
		var there bool
		err := subscriber.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM clinics WHERE id = 1000)").Scan(&there)
		return err == nil && there
	})
	exec(t, conn, "DELETE FROM clinics WHERE id = 1000")
}

// giveUpOnAStandby pastes the fix of a synchronous standby that is not there, while
// somebody's commit waits for it and another standby, which is not synchronous, follows.
func giveUpOnAStandby(t *testing.T, dsn string) {
	t.Helper()
	conn, writer := connect(t, dsn), connect(t, dsn)
	exec(t, conn, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	exec(t, writer, "SET synchronous_commit = on")
	// Sessions know the setting before the checkpointer has them wait.
	done := make(chan error, 1)
	ended := func() (over bool, err error) {
		select {
		case err := <-done:
			return true, err
		default:
			return false, nil
		}
	}
	testkit.Eventually(t, time.Minute, "commits wait", func() bool {
		ends := run(t, writer, "INSERT INTO clinics VALUES (1001, 'waits') ON CONFLICT (id) DO UPDATE SET name = 'waits still'")
		go func() { done <- ends() }()
		waits := false
		testkit.Eventually(t, time.Minute, "a commit waits, or does not", func() bool {
			over, err := ended()
			if err != nil {
				t.Fatal(err)
			}
			if !over {
				err = conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')").Scan(&waits)
			}
			return over || err == nil && waits
		})
		return waits
	})
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, comes(t, "synchronous-standby-missing", "server", findings).Fix)
	testkit.Eventually(t, time.Minute, "the commit waits no longer", func() bool {
		over, err := ended()
		if err != nil {
			t.Error(err)
		}
		return over
	})
	exec(t, conn, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()", "DELETE FROM clinics WHERE id = 1001")
}
