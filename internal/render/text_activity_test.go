package render_test

import (
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func of[T any](v T) *T { return &v }

// busy is a reading with something in every section.
func busy() *reading.Reading {
	r := healthy()
	r.Server.Settings = append(r.Server.Settings, reading.Setting{Name: "archive_mode", Value: "on"})
	blocker := reading.Session{
		PID: 811, User: "clinic_app", Database: "clinic", Application: "Prisma", State: "idle in transaction", BackendStart: at(time.Hour),
		TransactionStart: at(3 * time.Minute), TransactionSeconds: 180, Query: "update patients set name = ? where id = ?",
	}
	waiting := blocker
	waiting.PID, waiting.State, waiting.WaitEvent, waiting.Query = 812, "active", "Lock:transactionid", "delete from patients where id = ?"
	r.Connections.Longest = []reading.Session{blocker}
	r.Locks = &reading.Locks{
		Counts:       []reading.LockCount{{Type: "relation", Mode: "RowExclusiveLock", Granted: true, Locks: 4}, {Type: "transactionid", Mode: "ShareLock", Locks: 1}},
		WaitingTotal: 1, Blockers: []reading.Session{blocker},
		Waiting: []reading.LockWait{{Session: waiting, LockType: "transactionid", Mode: "ShareLock", Object: "clinic.patients", WaitSeconds: 75, BlockedBy: []int{811}}},
	}
	r.Replication = &reading.Replication{
		CurrentBytes: of(int64(9 << 30)), WALBytes: of(int64(1 << 30)), ReadyFiles: of(int64(3)),
		Standbys: []reading.Standby{{
			Application: "replica_1", Client: "10.0.0.2", State: "streaming", SyncState: "async", SendLagBytes: of(int64(0)),
			WriteLagBytes: of(int64(0)), FlushLagBytes: of(int64(8192)), ReplayLagBytes: of(int64(200 << 20)), ReplayLagSeconds: of(95.0), ReplySeconds: of(1.5),
		}},
		Slots: []reading.Slot{{Name: "left_behind", Type: "physical", RetainedBytes: of(int64(3 << 30)), WALStatus: "extended"}},
		Archiver: &reading.Archiver{
			Archived: 4000, LastArchived: "0000000100000001000000AA", LastArchivedAt: at(2 * time.Hour), Failed: 12,
			LastFailed: "0000000100000001000000AB", LastFailedAt: at(time.Minute),
		},
	}
	r.Limits = &reading.Limits{
		Databases: []reading.DatabaseAge{{Name: "clinic", XIDAge: 1_000_000_000, MultiXactAge: 5}},
		Workers:   []reading.Workers{{Kind: "wal senders", Setting: "max_wal_senders", Used: 1, Max: 10}},
		Holders:   []reading.Holder{{Kind: "session", Name: "process 811 (role clinic_app)", Database: "clinic", XIDAge: 5_000_000}},
		Sequences: []reading.Sequence{{
			Schema: "clinic", Name: "visits_id_seq", TableSchema: "clinic", Table: "visits", Column: "id", ColumnType: "integer", Type: "integer",
			LastValue: 2_040_109_465, Limit: 1<<31 - 1, Increment: 1, UsedPercent: 95,
		}},
	}
	r.Tables.Items[0].Bloat = &reading.Bloat{Bytes: 1 << 30, Method: "estimate", Confidence: "medium"}
	r.Tables.Vacuums = []reading.Vacuuming{{PID: 9, Schema: "clinic", Table: "observations", Phase: "scanning heap", HeapBlocks: 262144, ScannedBlocks: 4096, Seconds: 12}}
	index := reading.Index{
		OID: 7, Schema: "clinic", Name: "visits_note_idx", TableSchema: "clinic", Table: "visits", Method: "btree",
		Definition: "CREATE INDEX visits_note_idx ON clinic.visits USING btree (note)", EstimatedBytes: 300 << 20, Valid: true, BloatBytes: of(int64(4096)),
	}
	r.Indexes = &reading.Indexes{Total: 40, EstimatedBytes: 3 << 30, UnusedTotal: 1, Largest: []reading.Index{index}, Unused: []reading.Index{index}}
	r.Statements = &reading.Statements{
		Version: "1.10", Total: 412, Max: 5000, Evicted: of(int64(0)), StatsReset: at(48 * time.Hour), ExecSeconds: 7200,
		Items: []reading.Statement{{
			QueryID: "-5234059594760453979", Database: "clinic", User: "clinic_app",
			Query:           "select * from observations where patient_id = $1 and kind = any($2) order by taken_at desc limit $3",
			StatementCounts: reading.StatementCounts{Calls: 12_000, ExecSeconds: 3600, Rows: 1_200_000, ReadBytes: 9 << 30},
			Recent:          &reading.StatementCounts{Calls: 40, ExecSeconds: 30},
		}},
	}
	r.Size.Databases = []reading.DatabaseSize{{Name: "postgres", Bytes: 8 << 20}}
	r.Cache.Tables = []reading.TableCache{{Schema: "clinic", Name: "observations", HeapHits: 900, HeapReads: 100}}
	r.Transactions = &reading.Transactions{
		Commits: 1_000_000, Rollbacks: 100_000, Returned: 9_000_000, Inserted: 50_000, Updated: 70_000, Deleted: 10, Deadlocks: 2,
		TempFiles: 10, TempBytes: 200 << 20, Sessions: of(int64(400)), SessionSeconds: of(360_000.0),
		SessionsAbandoned: of(int64(1)), SessionsFatal: of(int64(0)), SessionsKilled: of(int64(2)),
	}
	r.Checkpoints = &reading.Checkpoints{Timed: 10, Requested: 40, WriteSeconds: 3000, SyncSeconds: 2, CheckpointBytes: 40 << 30}
	r.WAL = &reading.WAL{Records: 4_000_000, FullPageImages: 20_000, Bytes: 30 << 30, BuffersFull: 5}
	r.IO = []reading.IO{{Backend: "client backend", Object: "relation", Context: "normal", ReadBytes: 1 << 30, WriteBytes: 1 << 20, Hits: 1_000_000}}
	r.Waits = &reading.Waits{
		Samples: 11, Seconds: 10, ActiveSessions: 1.5, Events: []reading.WaitCount{{Type: "Lock", Event: "transactionid", Seen: 11}},
		Statements: []reading.StatementWait{{WaitCount: reading.WaitCount{Type: "Lock", Event: "transactionid", Seen: 11}, Query: "delete from patients where id = ?"}},
	}
	r.Before = &reading.Reading{
		TakenAt: noon.Add(-10 * time.Second), Database: r.Database, Server: r.Server, Cache: &reading.Cache{LifetimeHits: 998_000, LifetimeReads: 900},
		Transactions: &reading.Transactions{Commits: 999_000, Rollbacks: 99_990, Returned: 8_000_000, Inserted: 49_000, Updated: 70_000, Deleted: 10},
		Replication:  &reading.Replication{CurrentBytes: of(int64(9<<30 - 50<<20))}, Skipped: []reading.Skipped{},
	}
	r.Databases = []*reading.Reading{{Database: "billing", Size: &reading.Size{DatabaseBytes: 1 << 30}, Skipped: []reading.Skipped{
		{Section: "tables", Query: "bloat of tables", Reason: "it took longer than 5s (SQLSTATE 57014)"},
	}}}
	return r
}
