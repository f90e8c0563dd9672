package monitor_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func testAnArchiverThatIsBehindIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "archive_command")
	var folder string
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&folder); err != nil {
		t.Fatal(err)
	}
	// The command waits in the data folder for a file that says go. The file stays
	// there: a command that began last would wait for ever, and DROP DATABASE for it.
	name := "go-on-" + rand.Text()
	goOn := func() {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	defer goOn()
	exec(t, conn, "ALTER SYSTEM SET archive_command = 'until test -e "+name+"; do sleep 0.05; done'", "SELECT pg_reload_conf()")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.ArchiveBacklog = 2 })
	}
	for range 4 {
		exec(t, conn, "SELECT txid_current()", "SELECT pg_switch_wal()")
	}
	paste(t, conn, comes(t, "archiver-behind", "server", findings).Fix)
	goOn()
	goes(t, "archiver-behind", "server", findings)
}

// replicationConn is a connection that speaks the replication protocol.
func replicationConn(t *testing.T, dsn string) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "true"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func testASlotWhoseReaderIsBehindIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	exec(t, conn, "SELECT pg_create_physical_replication_slot('slow_reader', true)")
	reader := replicationConn(t, dsn)
	var lsn string
	if err := conn.QueryRow(t.Context(), "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'slow_reader'").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	// It takes what is sent and never says that it has.
	reader.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION SLOT slow_reader PHYSICAL " + lsn})
	if err := reader.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "CREATE TABLE written AS SELECT repeat('x', 100) FROM generate_series(1, 10000)", "SELECT pg_switch_wal()")
	findings := func() []pgmedic.Finding {
		return judgeBy(t, conn, func(l *reading.Thresholds) { l.SlotRetainedBytes = 64 << 10 })
	}
	const object = "replication slot slow_reader"
	paste(t, conn, comes(t, "slot-behind", object, findings).Fix)
	if err := reader.Conn().Close(); err != nil {
		t.Fatal(err)
	}
	goes(t, "slot-behind", object, findings)
	paste(t, conn, comes(t, "slot-inactive", object, findings).Fix)
	mustFind(t, findings(), "slot-inactive", object)
	exec(t, conn, "SELECT pg_drop_replication_slot('slow_reader')")
	mustNotFind(t, findings(), "slot-inactive", object)
}

func testASlotThatLosesItsWALIsFoundAndDropped(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	if major(t, conn) < 13 {
		return // PostgreSQL 12 keeps WAL for a slot until the disk is full
	}
	for _, s := range []struct{ name, value string }{{"max_slot_wal_keep_size", "1MB"}, {"min_wal_size", "32MB"}, {"max_wal_size", "32MB"}} {
		restored(t, conn, s.name)
		exec(t, conn, "ALTER SYSTEM SET "+s.name+" = '"+s.value+"'")
	}
	exec(t, conn, "SELECT pg_reload_conf()", "SELECT pg_create_physical_replication_slot('too_late', true)")
	const object = "replication slot too_late"
	findings := func() []pgmedic.Finding {
		exec(t, conn, "SELECT txid_current()", "SELECT pg_switch_wal()", "CHECKPOINT")
		return judgeNow(t, conn)
	}
	var f pgmedic.Finding
	testkit.Eventually(t, time.Minute, "the slot is lost", func() bool {
		f = comes(t, "slot-lost", object, findings)
		return f.Severity == pgmedic.SeverityWarn // critical while it may still be saved
	})
	paste(t, conn, f.Fix)
	goes(t, "slot-lost", object, findings)
}

func testReplicationSlotsThatAreAllTakenAreFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	restored(t, conn, "max_replication_slots")
	exec(t, conn, "SELECT pg_create_physical_replication_slot('slot_' || i) FROM generate_series(1, "+
		"current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots)) i")
	drop := func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ '^slot_\\d+$'")
		if err != nil {
			t.Error(err)
		}
	}
	defer drop()
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	paste(t, conn, comes(t, "workers-exhausted", "max_replication_slots", findings).Fix)
	drop()
	goes(t, "workers-exhausted", "max_replication_slots", findings)
}

func testASubscriptionThatFailsIsFound(t *testing.T, dsn string, server *scratch.Server) {
	publisher := connect(t, dsn)
	subscriber := connect(t, scratchtest.Database(t, server))
	exec(t, publisher, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t",
		"SELECT pg_create_logical_replication_slot('sub', 'pgoutput')")
	database := look(t, publisher, collect.Options{}).Database
	exec(t, subscriber, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
		"CREATE SUBSCRIPTION s CONNECTION '"+strings.ReplaceAll(server.DSN(database), "'", "''")+
			"' PUBLICATION p WITH (create_slot = false, slot_name = 'sub', copy_data = false)")
	defer exec(t, publisher, "DROP PUBLICATION p")
	defer exec(t, subscriber, "DROP SUBSCRIPTION s")
	findings := func() []pgmedic.Finding { return judgeNow(t, subscriber) }
	goes(t, "subscription-down", "subscription s", findings)
	// The row is there already: the worker fails, and again, and again. It is
	// started anew every 5 s and lives for a moment, in which it counts as running.
	exec(t, publisher, "INSERT INTO t VALUES (1)")
	paste(t, subscriber, comes(t, "subscription-down", "subscription s", findings).Fix)
	exec(t, subscriber, "DELETE FROM t")
	goes(t, "subscription-down", "subscription s", func() []pgmedic.Finding {
		var applied bool
		if err := subscriber.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM t)").Scan(&applied); err != nil {
			t.Fatal(err)
		}
		if !applied {
			return []pgmedic.Finding{{ID: "subscription-down", Object: "subscription s"}}
		}
		return findings()
	})
	goesOnAfterADisable(t, subscriber, findings)
}

// goesOnAfterADisable disables a subscription that runs and pastes what enables
// it again.
func goesOnAfterADisable(t *testing.T, subscriber *pgx.Conn, findings func() []pgmedic.Finding) {
	t.Helper()
	exec(t, subscriber, "ALTER SUBSCRIPTION s DISABLE")
	f := comes(t, "subscription-down", "subscription s", findings)
	if f.Severity != pgmedic.SeverityInfo {
		t.Errorf("%+v", f)
	}
	paste(t, subscriber, f.Fix)
	goes(t, "subscription-down", "subscription s", findings)
}

// testAStandbyThatLosesItsPrimaryIsFound cuts the link between a primary and a standby
// in every way that a report tells apart.
func testAStandbyThatLosesItsPrimaryIsFound(t *testing.T, _ string, primary *scratch.Server) {
	standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{Settings: map[string]string{"max_standby_streaming_delay": "10ms"}})
	conn, there := connect(t, primary.DSN("postgres")), connect(t, standby.DSN("postgres"))
	t.Run("silent", func(t *testing.T) {
		name := "standby " + look(t, conn, collect.Options{}).Replication.Standbys[0].Application
		findings := func() []pgmedic.Finding {
			return judgeBy(t, conn, func(l *reading.Thresholds) { l.StandbySilence = 2500 * time.Millisecond })
		}
		goes(t, "standby-silent", name, findings)
		var receiver int
		if err := there.QueryRow(t.Context(), "SELECT pid FROM pg_stat_wal_receiver").Scan(&receiver); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(receiver, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(receiver, syscall.SIGCONT) }()
		f := comes(t, "standby-silent", name, findings)
		paste(t, conn, f.Fix)
		mustNotFind(t, findings(), "standby-lagging", name)
		there := func() []pgmedic.Finding {
			return judgeBy(t, there, func(l *reading.Thresholds) { l.StandbySilence = time.Second })
		}
		paste(t, connect(t, standby.DSN("postgres")), comes(t, "standby-not-receiving", "server", there).Fix)
		if err := syscall.Kill(receiver, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		goes(t, "standby-silent", name, findings)
		// The primary writes now and then, or a keepalive comes: enough to be heard.
		goes(t, "standby-not-receiving", "server", func() []pgmedic.Finding {
			exec(t, conn, "SELECT txid_current()")
			return there()
		})
	})
	t.Run("without a receiver", func(t *testing.T) {
		if primary.Major() < 13 {
			return // there primary_conninfo changes at a restart only
		}
		findings := func() []pgmedic.Finding { return judgeNow(t, there) }
		mustNotFind(t, findings(), "standby-not-receiving", "server")
		exec(t, there, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
		paste(t, there, comes(t, "standby-not-receiving", "server", findings).Fix)
		exec(t, there, "ALTER SYSTEM RESET primary_conninfo", "SELECT pg_reload_conf()")
		goes(t, "standby-not-receiving", "server", findings)
	})
	t.Run("conflicts", func(t *testing.T) { testReplayConflicts(t, conn, there, standby) })
}

// testReplayConflicts has VACUUM remove rows that a query on the standby needs.
func testReplayConflicts(t *testing.T, conn, there *pgx.Conn, standby *scratchtest.Standby) {
	exec(t, conn, "CREATE TABLE conflict (id int)", "INSERT INTO conflict SELECT generate_series(1, 1000)")
	defer exec(t, conn, "DROP TABLE conflict")
	standby.CatchUp(t)
	cancelled := func() bool {
		reader := connect(t, standby.DSN("postgres"))
		defer func() { _ = reader.Close(t.Context()) }()
		exec(t, reader, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM conflict")
		exec(t, conn, "DELETE FROM conflict", "VACUUM conflict", "INSERT INTO conflict SELECT generate_series(1, 1000)")
		standby.CatchUp(t)
		_, err := reader.Exec(t.Context(), "SELECT count(*) FROM conflict")
		return err != nil
	}
	// What autovacuum has begun to look at keeps the rows, too.
	testkit.Eventually(t, time.Minute, "a query is cancelled", cancelled)
	findings := func() []pgmedic.Finding { return judgeNow(t, there) }
	paste(t, there, comes(t, "replay-conflicts", "server", findings).Fix)
	testkit.Eventually(t, time.Minute, "the standby reports what its queries need", func() bool {
		var feedback string
		if err := there.QueryRow(t.Context(), "SHOW hot_standby_feedback").Scan(&feedback); err != nil {
			t.Fatal(err)
		}
		return feedback == "on" && !cancelled()
	})
	// What was counted stays until statistics are reset.
	exec(t, there, "SELECT pg_stat_reset()")
	goes(t, "replay-conflicts", "server", findings)
}

func testASlotWithoutABoundIsFound(t *testing.T, dsn string) {
	conn := connect(t, dsn)
	findings := func() []pgmedic.Finding { return judgeNow(t, conn) }
	object := "max_slot_wal_keep_size"
	if major(t, conn) < 13 {
		object = "server"
	} else {
		restored(t, conn, object)
	}
	// One of a standby may be so on purpose.
	exec(t, conn, "SELECT pg_create_physical_replication_slot('standby_unbounded', true)")
	mustNotFind(t, findings(), "slot-unbounded", object)
	exec(t, conn, "SELECT pg_drop_replication_slot('standby_unbounded')", "SELECT pg_create_physical_replication_slot('pgmedic_unbounded', true)")
	dropped := false
	drop := func() {
		if !dropped {
			dropped = true
			if _, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_drop_replication_slot('pgmedic_unbounded')"); err != nil {
				t.Error(err)
			}
		}
	}
	defer drop()
	f := comes(t, "slot-unbounded", object, findings)
	if object == "server" {
		if f.Severity != pgmedic.SeverityCritical || f.Fix != "" {
			t.Errorf("on PostgreSQL 12: %+v", f)
		}
		drop()
	} else {
		paste(t, conn, f.Fix)
	}
	goes(t, "slot-unbounded", object, findings)
}
