package monitor_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

var shared *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, options(0), func(s *scratch.Server) { shared = s }))
}

// options are of a server on which every section has something to read.
func options(major int) scratch.Options {
	return scratch.Options{Major: major, Password: "of the scratch server", Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "max_prepared_transactions": "10", "track_commit_timestamp": "on",
		"wal_level": "logical", "archive_mode": "on", "archive_command": "true", "track_io_timing": "on",
	}}
}

// connect opens a session, as a role other than the superuser if one is named.
func connect(t *testing.T, dsn string, role ...string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	for _, r := range role {
		// Unlike SET ROLE, this changes what the session's own privileges are.
		exec(t, conn, "SET SESSION AUTHORIZATION "+pgmedic.QuoteIdent(r))
	}
	return conn
}

// connectTo opens a session outside of the test's goroutine.
func connectTo(t *testing.T, dsn string) (*pgx.Conn, error) { return pgx.Connect(t.Context(), dsn) }

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// paste applies a fix as somebody at a psql prompt would: line by line.
func paste(t *testing.T, conn *pgx.Conn, fix string) {
	t.Helper()
	if fix == "" {
		t.Fatal("there is no fix to apply")
	}
	exec(t, conn, strings.Split(fix, "\n")...)
}

func look(t *testing.T, conn monitor.Conn, opts monitor.CollectOptions) *monitor.Reading {
	t.Helper()
	reading, err := monitor.Collect(t.Context(), conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	return reading
}

// judge looks and analyses with the default thresholds.
func judge(t *testing.T, conn monitor.Conn) []pgmedic.Finding {
	t.Helper()
	return monitor.Analyse(look(t, conn, monitor.CollectOptions{}), nil, monitor.DefaultThresholds())
}

func find(findings []pgmedic.Finding, id, object string) (pgmedic.Finding, bool) {
	i := slices.IndexFunc(findings, func(f pgmedic.Finding) bool { return f.ID == id && f.Object == object })
	if i < 0 {
		return pgmedic.Finding{}, false
	}
	return findings[i], true
}

func mustFind(t *testing.T, findings []pgmedic.Finding, id, object string) pgmedic.Finding {
	t.Helper()
	f, ok := find(findings, id, object)
	if !ok {
		t.Fatalf("no finding %s on %s; have %s", id, object, names(findings))
	}
	return f
}

func mustNotFind(t *testing.T, findings []pgmedic.Finding, id, object string) {
	t.Helper()
	if _, ok := find(findings, id, object); ok {
		t.Fatalf("finding %s on %s is there and should not be", id, object)
	}
}

func names(findings []pgmedic.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s on %s", f.ID, f.Object))
	}
	return strings.Join(out, "; ")
}

// eventually polls a condition; statistics and process states arrive late.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// flushed waits until the statistics say that a table has dead rows.
func flushed(t *testing.T, conn *pgx.Conn, table string, least int64) {
	t.Helper()
	eventually(t, table+" has dead rows in the statistics", func() bool {
		exec(t, conn, "DO $$ BEGIN IF current_setting('server_version_num')::int >= 150000 THEN "+
			"PERFORM pg_stat_force_next_flush(); END IF; END $$")
		var dead int64
		if err := conn.QueryRow(t.Context(), "SELECT pg_stat_get_dead_tuples($1::regclass)", table).Scan(&dead); err != nil {
			t.Fatal(err)
		}
		return dead >= least
	})
}

// skipReason returns why a query was skipped.
func skipReason(r *monitor.Reading, query string) string {
	for _, s := range r.Skipped {
		if s.Query == query {
			return s.Reason
		}
	}
	return ""
}

// TestOnEveryMajor runs what depends on the server's version on each version
// that is asked for, with one server for all of it.
func TestOnEveryMajor(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, dsn string)
	}{
		{"Every query answers on every version", testEveryQueryAnswersOnEveryVersion},
		{"Every section is read", testEverySectionIsRead},
		{"A dead table is found and vacuumed", testADeadTableIsFoundAndVacuumed},
		{"Foreign keys without index are found and mended", testForeignKeysWithoutIndexAreFoundAndMended},
		{"Foreign keys of partitions are one finding", testForeignKeysOfPartitionsAreOneFinding},
		{"Tables without primary key are found and mended", testTablesWithoutPrimaryKeyAreFoundAndMended},
		{"A session idle in transaction is found and ended", testASessionIdleInTransactionIsFoundAndEnded},
		{"A session that blocks is found and ended", testASessionThatBlocksIsFoundAndEnded},
		{"A long transaction is found and cancelled", testALongTransactionIsFoundAndCancelled},
		{"A prepared transaction is found and finished", testAPreparedTransactionIsFoundAndFinished},
		{"A slot that nobody reads is found and dropped", testASlotThatNobodyReadsIsFoundAndDropped},
		{"A table near wraparound is found and frozen", testATableNearWraparoundIsFoundAndFrozen},
		{"A sequence near its end is found and widened", testASequenceNearItsEndIsFoundAndWidened},
		{"A bloated table is found and rewritten", testABloatedTableIsFoundAndRewritten},
		{"A bloated index is found and rebuilt", testABloatedIndexIsFoundAndRebuilt},
		{"A table never analyzed is found and analyzed", testATableNeverAnalyzedIsFoundAndAnalyzed},
		{"A table never vacuumed is found and vacuumed", testATableNeverVacuumedIsFoundAndVacuumed},
		{"An invalid index is found and rebuilt", testAnInvalidIndexIsFoundAndRebuilt},
		{"Needless indexes are found and dropped", testNeedlessIndexesAreFoundAndDropped},
		{"A missing index is found and built", testAMissingIndexIsFoundAndBuilt},
		{"Slow statements are found", testSlowStatementsAreFound},
		{"A failing archiver is found", testAFailingArchiverIsFound},
		{"A missing synchronous standby is found and given up", testAMissingSynchronousStandbyIsFoundAndGivenUp},
		{"A setting is found and mended", testASettingIsFoundAndMended},
		{"Statements that nobody counts are counted", testStatementsThatNobodyCountsAreCounted},
		{"A superuser's application is found", testASuperusersApplicationIsFound},
		{"A disabled subscription is found", testADisabledSubscriptionIsFound},
		{"Rollbacks and checkpoints are counted", testRollbacksAndCheckpointsAreCounted},
		{"Exact bloat is measured on request", testExactBloatIsMeasuredOnRequest},
		{"Plans are shown on request", testPlansAreShownOnRequest},
		{"A plan runs nothing of another role", testAPlanRunsNothingOfAnotherRole},
		{"Roles see what they may", testRolesSeeWhatTheyMay},
		{"Every version of the statements", testEveryVersionOfTheStatements},
		{"The server of tomorrow is read", testTheServerOfTomorrowIsRead},
		{"A look under locks is quick", testALookUnderLocksIsQuick},
		{"An archiver that is behind is found", testAnArchiverThatIsBehindIsFound},
		{"A slot whose reader is behind is found", testASlotWhoseReaderIsBehindIsFound},
		{"A slot that loses its WAL is found and dropped", testASlotThatLosesItsWALIsFoundAndDropped},
		{"Replication slots that are all taken are found", testReplicationSlotsThatAreAllTakenAreFound},
		{"A deadlock is counted", testADeadlockIsCounted},
		{"Temporary files are found and work_mem is raised", testTemporaryFilesAreFoundAndWorkMemIsRaised},
		{"A statement that takes all the time is found", testAStatementThatTakesAllTheTimeIsFound},
		{"A statement that got slower is found", testAStatementThatGotSlowerIsFound},
		{"Settings that lose data are found and mended", testSettingsThatLoseDataAreFoundAndMended},
		{"Memory settings are found and mended", testMemorySettingsAreFoundAndMended},
		{"Passwords kept as MD5 are found", testPasswordsKeptAsMD5AreFound},
		{"A database near wraparound is found and frozen", testADatabaseNearWraparoundIsFoundAndFrozen},
		{"A version without fixes is found", testAVersionWithoutFixesIsFound},
		{"Missing checksums are found", testMissingChecksumsAreFound},
	}
	for _, major := range scratchtest.Majors(t) {
		t.Run(fmt.Sprintf("PostgreSQL %d", major), func(t *testing.T) {
			server := shared
			if major != shared.Major() {
				server = scratchtest.New(t, options(major))
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) { tt.run(t, scratchtest.Database(t, server)) })
			}
			t.Run("A standby is read and judged", func(t *testing.T) {
				testAStandbyIsReadAndJudged(t, scratchtest.Database(t, server), server)
			})
			t.Run("An index that a replica uses is kept", func(t *testing.T) {
				testAnIndexThatAReplicaUsesIsKept(t, scratchtest.Database(t, server), server)
			})
			t.Run("No literal leaves the server", func(t *testing.T) {
				testNoLiteralLeavesTheServer(t, scratchtest.Database(t, server), server)
			})
			t.Run("A subscription that fails is found", func(t *testing.T) {
				testASubscriptionThatFailsIsFound(t, scratchtest.Database(t, server), server)
			})
			t.Run("A standby that loses its primary is found", func(t *testing.T) {
				testAStandbyThatLosesItsPrimaryIsFound(t, server)
			})
			t.Run("A server with checksums", func(t *testing.T) { testAServerWithChecksums(t, server.Major()) })
		})
	}
}
