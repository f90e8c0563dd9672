package monitor_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// trial is what every version of PostgreSQL is put through, in a database of its
// own.
type trial struct {
	name string
	run  func(t *testing.T, dsn string)
	// on is run where the server itself is needed.
	on func(t *testing.T, dsn string, server *scratch.Server)
}

func trials() []trial {
	return []trial{
		{name: "Every query answers on every version", run: testEveryQueryAnswersOnEveryVersion},
		{name: "Every section is read", run: testEverySectionIsRead},
		{name: "Metrics of every version are clean", run: testMetricsOfEveryVersionAreClean},
		{name: "A dead table is found and vacuumed", run: testADeadTableIsFoundAndVacuumed},
		{name: "Foreign keys without index are found and mended", run: testForeignKeysWithoutIndexAreFoundAndMended},
		{name: "Foreign keys of partitions are one finding", run: testForeignKeysOfPartitionsAreOneFinding},
		{name: "Tables without primary key are found and mended", run: testTablesWithoutPrimaryKeyAreFoundAndMended},
		{name: "A session idle in transaction is found and ended", run: testASessionIdleInTransactionIsFoundAndEnded},
		{name: "A session that blocks is found and ended", run: testASessionThatBlocksIsFoundAndEnded},
		{name: "A full pool is found and what keeps it ended", run: testAFullPoolIsFoundAndWhatKeepsItEnded},
		{name: "A long transaction is found and cancelled", run: testALongTransactionIsFoundAndCancelled},
		{name: "A prepared transaction is found and finished", run: testAPreparedTransactionIsFoundAndFinished},
		{name: "A slot that nobody reads is found and dropped", run: testASlotThatNobodyReadsIsFoundAndDropped},
		{name: "A table near wraparound is found and frozen", run: testATableNearWraparoundIsFoundAndFrozen},
		{name: "A sequence near its end is found and widened", run: testASequenceNearItsEndIsFoundAndWidened},
		{name: "A bloated table is found and rewritten", run: testABloatedTableIsFoundAndRewritten},
		{name: "A bloated index is found and rebuilt", run: testABloatedIndexIsFoundAndRebuilt},
		{name: "A table never analyzed is found and analyzed", run: testATableNeverAnalyzedIsFoundAndAnalyzed},
		{name: "A table never vacuumed is found and vacuumed", run: testATableNeverVacuumedIsFoundAndVacuumed},
		{name: "An invalid index is found and rebuilt", run: testAnInvalidIndexIsFoundAndRebuilt},
		{name: "An index that is invalid by its mark alone is found and set right", run: testAnIndexInvalidByItsMarkIsFoundAndSetRight},
		{name: "Needless indexes are found and dropped", run: testNeedlessIndexesAreFoundAndDropped},
		{name: "A missing index is found and built", run: testAMissingIndexIsFoundAndBuilt},
		{name: "Slow statements are found", run: testSlowStatementsAreFound},
		{name: "A failing archiver is found", run: testAFailingArchiverIsFound},
		{name: "A missing synchronous standby is found and given up", run: testAMissingSynchronousStandbyIsFoundAndGivenUp},
		{name: "A setting is found and mended", run: testASettingIsFoundAndMended},
		{name: "Statements that nobody counts are counted", run: testStatementsThatNobodyCountsAreCounted},
		{name: "A superuser's application is found", run: testASuperusersApplicationIsFound},
		{name: "A disabled subscription is found", run: testADisabledSubscriptionIsFound},
		{name: "Rollbacks and checkpoints are counted", run: testRollbacksAndCheckpointsAreCounted},
		{name: "Exact bloat is measured on request", run: testExactBloatIsMeasuredOnRequest},
		{name: "Plans are shown on request", run: testPlansAreShownOnRequest},
		{name: "A plan runs nothing of another role", run: testAPlanRunsNothingOfAnotherRole},
		{name: "Roles see what they may", run: testRolesSeeWhatTheyMay},
		{name: "The server of tomorrow is read", run: testTheServerOfTomorrowIsRead},
		{name: "A look under locks is quick", run: testALookUnderLocksIsQuick},
		{name: "An archiver that is behind is found", run: testAnArchiverThatIsBehindIsFound},
		{name: "A slot whose reader is behind is found", run: testASlotWhoseReaderIsBehindIsFound},
		{name: "Temporary files are found and work_mem is raised", run: testTemporaryFilesAreFoundAndWorkMemIsRaised},
		{name: "A statement that takes all the time is found", run: testAStatementThatTakesAllTheTimeIsFound},
		{name: "Settings that lose data are found and mended", run: testSettingsThatLoseDataAreFoundAndMended},
		{name: "Disks of tablespaces are listed", on: testDisksOfTablespacesAreListed},
		{name: "Databases that were set aside are found", run: testDatabasesThatWereSetAsideAreFound},
		{name: "A forgotten rescue is found and dropped", run: testAForgottenRescueIsFoundAndDropped},
		{name: "Passwords kept as MD5 are found", run: testPasswordsKeptAsMD5AreFound},
		{name: "A standby is read and judged", on: testAStandbyIsReadAndJudged},
		{name: "An index that a replica uses is kept", on: testAnIndexThatAReplicaUsesIsKept},
		{name: "No literal leaves the server", on: testNoLiteralLeavesTheServer},
		{name: "Fixes hurt nobody around", on: testFixesHurtNobodyAround},
		{name: "A first copy that fails is found", on: testAFirstCopyThatFailsIsFound},
		{name: "A locked table hides itself only", run: testALockedTableHidesItselfOnly},
		{name: "Maintenance is no long transaction", run: testMaintenanceIsNoLongTransaction},
		{name: "Looks roll nothing back", run: testLooksRollNothingBack},
		{name: "Uncounted statements are found", run: testUncountedStatementsAreFound},
		{name: "A column's own limit counts", run: testAColumnsOwnLimitCounts},
		{name: "A dropped column is not called empty", run: testADroppedColumnIsNotCalledEmpty},
		{name: "Twins are found", run: testTwinsAreFound},
		{name: "Statistics that are hidden are said to be", run: testStatisticsThatAreHiddenAreSaidToBe},
	}
}

// thoroughTrials are those of make test-all.
func thoroughTrials() []trial {
	return []trial{
		{name: "Every version of the statements", run: testEveryVersionOfTheStatements},
		{name: "A slot of a stream without a bound is found", run: testASlotWithoutABoundIsFound},
		{name: "A slot that loses its WAL is found and dropped", run: testASlotThatLosesItsWALIsFoundAndDropped},
		{name: "Replication slots that are all taken are found", run: testReplicationSlotsThatAreAllTakenAreFound},
		{name: "A deadlock is counted", run: testADeadlockIsCounted},
		{name: "Memory settings are found and mended", run: testMemorySettingsAreFoundAndMended},
		{name: "A database near wraparound is found and frozen", run: testADatabaseNearWraparoundIsFoundAndFrozen},
		{name: "A statement that got slower is found", run: testAStatementThatGotSlowerIsFound},
		{name: "Missing checksums are found", run: testMissingChecksumsAreFound},
		{name: "A version without fixes is found", run: testAVersionWithoutFixesIsFound},
		{name: "Waits that recur are found", run: testWaitsThatRecurAreFound},
		{name: "A statement that is new is found", run: testAStatementThatIsNewIsFound},
		{name: "A subscription that fails is found", on: testASubscriptionThatFailsIsFound},
		{name: "A standby that loses its primary is found", on: testAStandbyThatLosesItsPrimaryIsFound},
		{name: "A server with checksums", on: testAServerWithChecksums},
	}
}

// trialsOn are the trials on a server: on that of make test a part there and the rest in
// make test-all, on others all of them.
func trialsOn(t *testing.T, server *scratch.Server) []trial {
	t.Helper()
	chosen := trials()
	if server == shared {
		chosen = testkit.SomeOf(t, 30, chosen)
	}
	if testkit.All() {
		chosen = append(slices.Clone(chosen), thoroughTrials()...)
	}
	return chosen
}

// TestOnEveryMajor runs what depends on the server's version on each version
// that is asked for, with one server for all of it.
func TestOnEveryMajor(t *testing.T) {
	for _, major := range scratchtest.EndsWith15(t) {
		t.Run(fmt.Sprintf("PostgreSQL %d", major), func(t *testing.T) {
			server := shared
			if major != shared.Major() {
				server = scratchtest.New(t, options(major))
			}
			for _, tt := range trialsOn(t, server) {
				t.Run(tt.name, func(t *testing.T) {
					dsn := scratchtest.Database(t, server)
					if tt.on != nil {
						tt.on(t, dsn, server)
						return
					}
					tt.run(t, dsn)
				})
			}
		})
	}
}
