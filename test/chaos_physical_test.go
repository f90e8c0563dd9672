package test

import (
	"fmt"
	"strings"
	"testing"
)

// physicalFault is what befalls base backups, stored WAL and recoveries, what must hold, and
// the test that shows it.
type physicalFault struct{ done, want, folder, test string }

// physicalFaults are those of each kind, in the order of the page.
func physicalFaults() []struct {
	name   string
	faults []physicalFault
} {
	return []struct {
		name   string
		faults []physicalFault
	}{
		{"1. The streamer is killed", []physicalFault{
			{"SIGKILL again and again, wherever it is: 10 times for PostgreSQL 12, 15 and 18 in make test-all, 50 times for each version in make chaos", "no gap; no segment with two contents; a recovery from the store alone has every row", "./test", "TestWALKilled"},
			{"SIGKILL at each named place between the server and the store", "the next stream leaves no gap", "./test", "TestWALKilledAt"},
		}},
		{"2. The server is killed or set back", []physicalFault{
			{"it crashes 4 times, in make chaos 20, half of them together with the streamer", "no gap; a recovery from the store alone has every acknowledged row", "./test", "TestWALServerKilled"},
			{"with `--sync`: the streamer is killed 4 times and the server crashes 2 times, in make chaos 50 and 20 times, for PostgreSQL 12, 15 and 18; then the store is away while clients commit, and the server is lost", "what the spool has is stored without the server; a recovery from the store alone has every acknowledged row", "./test", "TestWALSyncKilled"},
			{"with `--sync`: SIGKILL at each named place between the server, the spool and the store", "no acknowledged row is lost", "./test", "TestWALSyncKilledAt"},
			{"with `--sync`: the spool's last file cut at random places, with zeros or other bytes behind", "each byte that was flushed is there, and none that was not written", "./internal/walspool", "TestTorn"},
			{"with `--sync`: the spool is full", "nothing is acknowledged, the connection leaves its place to another candidate, and commits go on once there is room", "./internal/walstream", "TestSyncFull"},
			{"it is away, and comes back", "the stream goes on without a gap", "./internal/walstream", "TestRun"},
			{"it was set back to an earlier state under the same name", "refused: nothing is stored over what is there", "./internal/walstream", "TestSetBack"},
		}},
		{"3. Failover", []physicalFault{
			{"to a standby that is behind by 3, 1 and no transactions", "the lost transactions are counted exactly, and none that was aborted", "./internal/walstream", "TestFailover"},
			{"with `--sync`: the store is away, and the new server lacks what the old one had acknowledged", "all that was acknowledged is stored on its timeline, and the lost transactions are counted", "./internal/walstream", "TestSyncFailover"},
			{"to a standby, and the old server writes on", "both timelines are stored whole", "./internal/walstream", "TestPromoted"},
			{"recoveries along the old and the new timeline", "each has its own rows", "./test", "TestRestoreClusterAlongTimelines"},
			{"a transaction is prepared in the segment in which the timelines part", "targets before and after the failover are reached", "./test", "TestRestoreClusterPreparedBeforeFailover"},
			{"two servers write on one timeline", "noticed, and neither is believed", "./internal/archive", "TestSplit"},
		}},
		{"4. The slot is lost", []physicalFault{
			{"by max_slot_wal_keep_size", "the gap is recorded when the stream comes back", "./internal/walstream", "TestLost"},
			{"it was dropped, with the last stored segment removed on the server", "what was not compared is reported; nothing is taken for lost", "./internal/walstream", "TestLastSegmentRemoved"},
			{"it belongs to another program", "left alone", "./internal/walstream", "TestOthersSlot"},
		}},
		{"5. The store", []physicalFault{
			{"away for longer than the server waits", "the slot keeps the WAL, the connection lives, nothing is missing afterwards", "./internal/walstream", "TestStoreAway"},
			{"away for longer than five minutes, with a clock that is set", "noticed, and its end", "./internal/walstream", "TestLongOutage"},
			{"refuses what is left when the stream is stopped", "the stream does not end with success", "./internal/walstream", "TestFlushRefused"},
		}},
		{"6. Stored objects damaged", []physicalFault{
			{"2 objects of each kind of base backups and WAL, in make chaos all: a bit flipped, cut, emptied, removed, replaced by a neighbour, by one of another epoch, by one of another server", "exit code 10, 11 or 12, 1 where PostgreSQL met it while it recovered, or all rows; no server opens that lacks a row; the time until which it is said to be recoverable is reached", "./test", "TestRestoreClusterDamaged"},
			{"an object of each kind of the backups of a chain, of the history of a timeline and of a recorded gap, in make chaos all: a bit flipped, cut, removed; a history with another position", "exit code 10, 11 or 12 and one error, with nothing left that starts, or all rows; the old timeline is not taken for the new one", "./test", "TestRestoreChainDamaged"},
			{"the same for what PostgreSQL fetches", "the right bytes, or an error that is not that of absence", "./internal/archive", "TestDamage"},
		}},
		{"7. Fetching WAL fails", []physicalFault{
			{"no store, another key, a gap, damage, no room, killed, no plan, for PostgreSQL 12, 15 and 18, in make chaos all", "exit code 255; PostgreSQL stops with FATAL and is not opened; mended, it gets to the end", "./test", "TestFetchFaults"},
			{"each cause of an exit code", "1 for proven absence alone", "./test", "TestWALFetchExitCodes"},
		}},
		{"8. Base backups are disturbed", []physicalFault{
			{"SIGKILL at each step", "a backup is listed whole or not at all; no slot is left; the next run works", "./test", "TestPhysicalKilled"},
			{"SIGKILL at each step of an incremental one", "the next one is of a whole chain, and what is restored from it is what the server has", "./test", "TestIncrementalKilled"},
			{"a backup that an incremental one needs is deleted while it is taken", "it is not committed, or is a full one", "./internal/physical", "TestParentDeletedMeanwhile"},
			{"interrupted", "nothing is listed, and no slot is left", "./internal/physical", "TestInterrupted"},
			{"a server that is written to all the time", "pages that are being written are not taken for damage: 5 backups, in make chaos 100", "./internal/physical", "TestUnderLoad"},
			{"the store takes no more", "the backup ends with its error", "./internal/physical", "TestStoreFails"},
		}},
		{"9. Incremental base backups", []physicalFault{
			{"one random history, in make chaos 100, of definitions, vacuums, copies, unlogged tables and databases made again under their OIDs, with chains of 7 in one of five", "the restored cluster is that of the source, by value and by amcheck; what pg_combinebackup makes of the long chains is logged", "./internal/physical", "TestIncrementalHistories"},
			{"the faults of PostgreSQL's own merge", "ours are right where its own are wrong", "./internal/physical", "TestIncrementalChain"},
			{"random chains and policies of retention", "what a backup needs stays with it, and a chain until the next is proven", "./internal/retention", "TestParentsStay"},
			{"SIGKILL at each step of a backup by SQL", "the next one is whole", "./test", "TestSQLReaderKilled"},
		}},
		{"10. Pages damaged on the server", []physicalFault{
			{"pages that are wrong", "the backup ends, and names them", "./internal/physical", "TestDamagedPages"},
		}},
		{"11. Recovery targets", []physicalFault{
			{"9 random targets, in make chaos 200, in storms of concurrent transactions, idle times, around a failover; 1 µs before and after commits, positions, first records of segments, restore points", "exactly the rows of the commit that follows from pg_waldump and from what the sessions did; the commits that the failover lost are counted exactly", "./test", "TestRandomTargets"},
			{"ends, backups, and what can't be reached", "reached; refused with what can be reached", "./test", "TestRestoreClusterTargets"},
			{"where WAL is missing", "the position before the gap is named, and reached", "./test", "TestRestoreClusterGap"},
		}},
		{"12. Tablespaces", []physicalFault{
			{"a restore on the machine of the live server, with tablespaces from before and after the backup", "no file of the live server changes; PostgreSQL 12 to 18", "./test", "TestRestoreClusterOnEveryMajor"},
			{"a tablespace's path in WAL at each place around pages and segments", "valid WAL with the new path, and nothing else has changed", "./internal/wal", "TestRelocate"},
		}},
		{"13. Reading WAL", []physicalFault{
			{"the WAL of real servers", "the records, times and checkpoints of pg_waldump", "./internal/wal", "TestWalkerIsPgWaldump"},
			{"a record that a crash left unfinished", "not reported; what follows is", "./internal/wal", "TestWalkerOverwritten"},
		}},
		{"14. Idle, and clocks", []physicalFault{
			{"a server that does nothing", "no WAL is caused; an object a minute; ok for a day of it, and unknown two minutes after the stream has died", "./internal/walstream", "TestIdle"},
			{"clocks that are set back, servers that were replaced", "the end of what can be recovered is not overstated", "./internal/wal", "TestUntilIsNotOverstated"},
		}},
		{"15. Retention", []physicalFault{
			{"random histories", "every moment that is promised can be reached with what is kept", "./internal/wal", "TestRetainedWALKeepsEveryPromise"},
			{"random lives of a cluster: chains, holds, bad backups, failovers, gaps, and prunes that break off", "every moment that is promised stays reachable, and what is held is whole", "./internal/retention", "TestEveryPromise"},
			{"three prunes at once", "none fails, and nothing is listed that can't be restored", "./cmd/pgmedic", "TestPruneTogether"},
			{"SIGKILL at each step of a deletion", "nothing is deleted that a base backup needs", "./test", "TestWALPruneKilled"},
		}},
		{"16. Restoring over a folder", []physicalFault{
			{"SIGKILL while a chain is merged, written and recovered", "nothing is left that starts before all of it is there, and no server; the next restore is right", "./test", "TestRestoreChainKilled"},
			{"whatever became of the folder", "`--delta` makes it that of a fresh restore", "./internal/restore/cluster", "TestDelta"},
			{"folders of others, and running servers", "refused, and left as they are", "./internal/restore/cluster", "TestFoldersRefused"},
		}},
		{"17. Memory", []physicalFault{
			{"20 MB of WAL a second into a bucket, with segments of 16 and 64 MiB, and with `--sync`, for 5 seconds, in make chaos 60 (`PGMEDIC_WAL_SECONDS`)", "at most 256 MiB resident; no gap; the stored lag is logged", "./test", "TestWALLoad"},
			{"the bucket is away while the server writes 20 MB of WAL a second, for 5 seconds, in make chaos 30 (`PGMEDIC_WAL_OUTAGE`)", "all is stored beside what goes on to be written; no gap; at most 256 MiB resident", "./test", "TestWALOutage"},
			{"a base backup, its verification and restore, of 0.4 GB, in make chaos 1.6 GB", "at most 256 MiB resident", "./test", "TestPhysicalMemory"},
			{"a base backup of a million files", "at most 256 MiB resident", "./internal/physical", "TestMillionFiles"},
		}},
		{"18. Moments that are drilled or brought back", []physicalFault{
			{"a damaged page, record and segment, a stale visibility map, deleted rows that are back; SIGKILL at steps of the drill", "found, with the exit code of its kind, rows in a table without an index by an assertion; the next drill works", "./test", "TestDrillMomentFaults"},
			{"SIGKILL while a private server recovers, and while the rows of a moment are loaded into the living server", "no server is left, no living table changes, and the next rescue drops what was left and brings the rows", "./test", "TestRescueMomentKilled"},
			{"a drill of a moment, and of a random one, on the host of the live server", "no file of it changes", "./test", "TestDrillMoment"},
			{"a rescue of a moment is interrupted, or killed before it loads", "nothing is left in the living server", "./test", "TestRescueMomentInterrupted"},
			{"`prune` beside what a recovery is reading", "a lease keeps it", "./cmd/pgmedic", "TestPruneKeepsWhatIsLeased"},
		}},
	}
}

// physicalPage is the part of docs/reliability.md about physical backups.
func physicalPage() string {
	var b strings.Builder
	b.WriteString("\n## Base backups, WAL and recoveries\n\nThese faults have tests of their own. Each row has the command of its test; `PGMEDIC_TEST_ALL=1` has to be set for those that `make test` leaves out, and `PGMEDIC_CAMPAIGNS=1` too for the whole of a campaign, as `make chaos` runs it. A test of random cases prints its seed. What they say passes or fails; no figure of them is on this page.\n\n| what is done | what must hold | test |\n|---|---|---|\n")
	for _, kind := range physicalFaults() {
		fmt.Fprintf(&b, "| **%s** | | |\n", kind.name)
		for _, f := range kind.faults {
			fmt.Fprintf(&b, "| %s | %s | `go test %s -run '^%s$'` |\n", f.done, f.want, f.folder, f.test)
		}
	}
	return b.String()
}

// TestPhysicalPage: the page has this part as it is written here. That its tests are there is
// held by the test of all commands of the docs.
func TestPhysicalPage(t *testing.T) {
	if page := string(readFile(t, "../docs/reliability.md")); !strings.Contains(page, physicalPage()) {
		t.Errorf("docs/reliability.md does not have this part as the campaign writes it:\n%s", physicalPage())
	}
	seen := map[string]bool{}
	for _, kind := range physicalFaults() {
		for _, f := range kind.faults {
			if f.done == "" || f.want == "" || strings.Contains(f.done+f.want, "|") || seen[f.folder+f.test] {
				t.Errorf("%s: %s is not whole, or is there twice", kind.name, f.test)
			}
			seen[f.folder+f.test] = true
		}
	}
}
