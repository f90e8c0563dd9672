package monitor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// What a fix must not do to somebody who pastes it at night without a thought.
func TestFixesAreCareful(t *testing.T) {
	setting := func(r *reading.Reading, name, value string) {
		r.Server.Settings = append(r.Server.Settings, reading.Setting{Name: name, Value: value})
	}
	blocked := func(kind, state string) func(*reading.Reading) {
		return func(r *reading.Reading) {
			r.Locks = &reading.Locks{
				Waiting:  []reading.LockWait{{Session: reading.Session{PID: 2, User: "app"}, LockType: kind, WaitSeconds: 600, BlockedBy: []int{1}}},
				Blockers: []reading.Session{{PID: 1, User: "app", State: state}},
			}
		}
	}
	slot := func(kept int64) func(*reading.Reading) {
		return func(r *reading.Reading) {
			r.Replication = &reading.Replication{Slots: []reading.Slot{{Name: "s", Type: "physical", RetainedBytes: &kept}}}
		}
	}
	tests := []struct {
		name, id string
		change   func(*reading.Reading)
		want     pgmedic.Severity
		has, not string
	}{
		{"a row's lock is ended", "lock-wait", blocked("transactionid", "idle in transaction"), pgmedic.SeverityCritical, "pg_terminate_backend", "advisory"},
		{"who leads by an advisory lock is not", "lock-wait", blocked("advisory", "idle"), pgmedic.SeverityInfo, "pg_locks", "pg_terminate_backend"},
		{"nor one that is hidden", "lock-wait", blocked("relation", ""), pgmedic.SeverityCritical, "", "pg_terminate_backend"},
		{"a standby that restarts keeps its slot", "slot-inactive", slot(1 << 20), pgmedic.SeverityInfo, "pg_replication_slots", "pg_drop"},
		{"one that fills the disk too", "slot-inactive", slot(1 << 40), pgmedic.SeverityWarn, "pg_replication_slots", "pg_drop"},
		{"so does one that holds VACUUM back", "vacuum-held-back", func(r *reading.Reading) {
			r.Limits = &reading.Limits{Holders: []reading.Holder{{Kind: "replication slot", Name: "s", CatalogXIDAge: 1 << 30}}}
		}, pgmedic.SeverityWarn, "pg_replication_slots", "pg_drop"},
		{"paused replay stays so", "replay-paused", func(r *reading.Reading) {
			r.Server.Role = reading.RoleStandby
			r.Replication = &reading.Replication{Replay: &reading.Replay{ReceiverStatus: "streaming", Paused: true}}
		}, pgmedic.SeverityWarn, "pg_is_wal_replay_paused", "resume"},
		{"standbys get the larger value first", "workers-exhausted", func(r *reading.Reading) {
			r.Limits = &reading.Limits{Workers: []reading.Workers{{Kind: "wal senders", Setting: "max_wal_senders", Used: 1, Max: 1}}}
			r.Replication = &reading.Replication{Standbys: []reading.Standby{{Application: "a", State: "streaming"}}, Slots: []reading.Slot{}}
		}, pgmedic.SeverityWarn, "pg_stat_replication", "ALTER SYSTEM"},
		{"also those that can't be known of", "workers-exhausted", func(r *reading.Reading) {
			r.Limits = &reading.Limits{Workers: []reading.Workers{{Kind: "wal senders", Setting: "max_wal_senders", Used: 1, Max: 1}}}
		}, pgmedic.SeverityWarn, "pg_stat_replication", "ALTER SYSTEM"},
		{"where there are none it is raised", "workers-exhausted", func(r *reading.Reading) {
			r.Limits = &reading.Limits{Workers: []reading.Workers{{Kind: "wal senders", Setting: "max_wal_senders", Used: 1, Max: 1}}}
			r.Replication = &reading.Replication{Standbys: []reading.Standby{}, Slots: []reading.Slot{}}
		}, pgmedic.SeverityWarn, "ALTER SYSTEM", ""},
		{"a process of replication is not ended", "lock-wait", func(r *reading.Reading) {
			blocked("relation", "idle")(r)
			r.Locks.Blockers[0].BackendType = "logical replication worker"
		}, pgmedic.SeverityCritical, "", "pg_terminate_backend"},
		{"nor is a concurrent index build", "lock-wait", func(r *reading.Reading) {
			blocked("relation", "active")(r)
			r.Locks.Blockers[0].Maintenance = "a concurrent index build"
		}, pgmedic.SeverityCritical, "", "pg_cancel_backend"},
		{"a full disk gets no more WAL", "checkpoints-requested", func(r *reading.Reading) {
			r.Checkpoints = &reading.Checkpoints{Requested: 100}
			setting(r, "max_wal_size", "1024")
			r.Host = &reading.Host{DiskBytes: 100 << 30, DiskFreeBytes: 30 << 30 / 10}
		}, pgmedic.SeverityWarn, "", "ALTER SYSTEM"},
		{"nor a disk that a slot fills", "checkpoints-requested", func(r *reading.Reading) {
			r.Checkpoints = &reading.Checkpoints{Requested: 100}
			setting(r, "max_wal_size", "1024")
			slot(1 << 20)(r)
			r.Replication.Slots[0].WALStatus = "extended"
		}, pgmedic.SeverityWarn, "", "ALTER SYSTEM"},
		{"more than max_wal_size is too much", "slot-inactive", func(r *reading.Reading) {
			slot(1 << 20)(r)
			r.Replication.Slots[0].WALStatus = "extended"
		}, pgmedic.SeverityWarn, "pg_replication_slots", "pg_drop"},
		{"a library that is not there is not loaded", "statements-not-tracked", func(r *reading.Reading) {
			r.Server.Extensions = []reading.Extension{}
			setting(r, "shared_preload_libraries", "")
		}, pgmedic.SeverityInfo, "", "ALTER SYSTEM"},
		{"libraries that are hidden stay", "statements-not-tracked", func(r *reading.Reading) {
			r.Server.Extensions = []reading.Extension{}
		}, pgmedic.SeverityInfo, "current_setting", "ALTER SYSTEM"},
		{"those that are known too", "statements-not-tracked", func(r *reading.Reading) {
			r.Server.Extensions = []reading.Extension{}
			r.Server.StatementsAvailable = true
			setting(r, "shared_preload_libraries", "timescaledb")
		}, pgmedic.SeverityInfo, "'timescaledb', 'pg_stat_statements'", ""},
		{"an idle session's temporary table stays", "wraparound-table", func(r *reading.Reading) {
			r.Limits = &reading.Limits{Tables: []reading.TableAge{{Schema: "pg_temp_12", Name: "t", XIDAge: 2 << 30 * 9 / 10}}}
		}, pgmedic.SeverityCritical, "'12'", "DROP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := aReading(tt.change)
			r.Statements = nil
			for _, f := range analyse(r) {
				if f.ID != tt.id {
					continue
				}
				if f.Severity != tt.want || !strings.Contains(f.Fix, tt.has) || tt.has == "" && f.Fix != "" || tt.not != "" && strings.Contains(f.Fix, tt.not) {
					t.Errorf("%s: %s", f.Severity, f.Fix)
				}
				return
			}
			t.Errorf("%s was not found", tt.id)
		})
	}
}

// A statement whose number a plain role may not see still has a name.
func TestAHiddenStatementIsSaidToBeHidden(t *testing.T) {
	r := aReading(func(r *reading.Reading) {
		x := reading.Statement{User: "app", Database: "clinic"}
		x.Calls, x.ExecSeconds = 10, 600
		r.Statements = &reading.Statements{Total: 1, ExecSeconds: 600, Items: []reading.Statement{x}}
	})
	mustFind(t, analyse(r), "statement-slow", "a statement of role app that is hidden from this role")
}

// Of many dead rows and a living one not all are dead.
func TestNotAllRowsAreDeadWhileOneLives(t *testing.T) {
	for live, want := range map[int64]string{0: "100 %", 5: "99 %"} {
		r := aReading(func(r *reading.Reading) {
			r.Tables.Items = []reading.Table{{Schema: "s", Name: "t", LiveTuples: live, DeadTuples: 41_000}}
		})
		if f := mustFind(t, analyse(r), "table-dead-tuples", "s.t"); !strings.HasPrefix(f.Summary, want+" of the rows") {
			t.Errorf("%d live: %s", live, f.Summary)
		}
	}
}

// An archive that was given up left its counts behind; nothing fails any more.
func TestAnArchiveThatIsOffDoesNotFail(t *testing.T) {
	for mode, want := range map[string]int{"off": 0, "on": 1} {
		r := aReading(func(r *reading.Reading) {
			now := r.TakenAt
			r.Server.Settings = append(r.Server.Settings, reading.Setting{Name: "archive_mode", Value: mode})
			r.Replication = &reading.Replication{Archiver: &reading.Archiver{Failed: 3, LastFailedAt: &now}}
		})
		if got := analyse(r); len(got) != want {
			t.Errorf("%s: %s", mode, names(got))
		}
	}
}

// TestADropWaitsForWhoeverMayUseTheIndex: no index is to be dropped while one that
// could need it is not seen, nor beside the index whose work it does.
func TestADropWaitsForWhoeverMayUseTheIndex(t *testing.T) {
	day := 24 * time.Hour
	long := func(r *reading.Reading) time.Time { return r.TakenAt.Add(-30 * day) }
	base := func(r *reading.Reading) {
		changed := long(r)
		r.Transactions = &reading.Transactions{}
		r.Replication = &reading.Replication{Standbys: []reading.Standby{}, Slots: []reading.Slot{}}
		r.Indexes = &reading.Indexes{Unused: []reading.Index{{
			OID: 7, Schema: "s", Name: "i", Table: "t", Definition: "CREATE INDEX", EstimatedBytes: 1 << 30, Valid: true, ChangedAt: &changed,
		}}}
	}
	twins := func(r *reading.Reading) {
		r.Indexes.Redundant = []reading.IndexPair{{Exact: true, Redundant: reading.Index{OID: 8, Schema: "s", Name: "j"}, Kept: r.Indexes.Unused[0]}}
	}
	tests := []struct {
		name    string
		now     func(*reading.Reading)
		earlier func(*reading.Reading)
		drop    bool
	}{
		{"nobody may", func(*reading.Reading) {}, nil, true},
		{"a configured standby did not answer", func(r *reading.Reading) { r.UnaskedReplicas = []string{"db2:5432"} }, nil, false},
		{"a standby was there yesterday", func(*reading.Reading) {}, func(r *reading.Reading) {
			r.Replication.Standbys = []reading.Standby{{Application: "b", State: "streaming"}}
		}, false},
		{"one followed a replica yesterday", func(*reading.Reading) {}, func(r *reading.Reading) {
			r.Replicas = []reading.Replica{{Standbys: []reading.Standby{{Application: "c", State: "streaming"}}}}
		}, false},
		{"its twin is to go", twins, nil, false},
		{"its twin went since yesterday", func(*reading.Reading) {}, twins, false},
		{"its table is locked", func(r *reading.Reading) { r.Indexes.Unused[0].Definition = "" }, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := aReading(base)
			tt.now(r)
			var earlier []*reading.Reading
			if tt.earlier != nil {
				e := aReading(base)
				e.TakenAt = r.TakenAt.Add(-day)
				tt.earlier(e)
				earlier = append(earlier, e)
			}
			f := mustFind(t, judge.Analyse(r, earlier, reading.DefaultThresholds()), "index-unused", "s.i")
			if drops := strings.Contains(f.Fix, "DROP"); drops != tt.drop {
				t.Errorf("%s; %s", f.Summary, f.Fix)
			}
		})
	}
}

// Findings of one severity come in the order in which they do harm.
func TestHarmNowComesFirst(t *testing.T) {
	r := aReading(func(r *reading.Reading) {
		r.Server.Settings = append(r.Server.Settings, reading.Setting{Name: "fsync", Value: "off"})
		r.Limits = &reading.Limits{Databases: []reading.DatabaseAge{{Name: "d", XIDAge: 2 << 30 * 9 / 10}}}
		r.Locks = &reading.Locks{
			Waiting:  []reading.LockWait{{Session: reading.Session{PID: 2}, LockType: "relation", WaitSeconds: 600, BlockedBy: []int{1}}},
			Blockers: []reading.Session{{PID: 1, User: "app", State: "idle in transaction"}},
		}
	})
	var ids []string
	for _, f := range analyse(r) {
		ids = append(ids, f.ID)
	}
	if got := strings.Join(ids, " "); got != "lock-wait wraparound-database fsync-off" {
		t.Error(got)
	}
}

// What looks and backups take of the server is no alarm.
func TestOwnStatementsAreNotJudged(t *testing.T) {
	r := aReading(func(r *reading.Reading) {
		own, dump := reading.Statement{QueryID: "1", Own: true, Database: "clinic"}, reading.Statement{QueryID: "2", Query: "COPY s.t TO STDOUT", Database: "clinic"}
		own.Calls, own.ExecSeconds, dump.Calls, dump.ExecSeconds = 10, 600, 10, 600
		r.Statements = &reading.Statements{Total: 2, ExecSeconds: 1200, Items: []reading.Statement{own, dump}}
	})
	findings := analyse(r)
	mustNotFind(t, findings, "statement-heavy", "statement 1")
	mustNotFind(t, findings, "statement-slow", "statement 1")
	if f := mustFind(t, findings, "statement-heavy", "statement 2"); f.Severity != pgmedic.SeverityInfo {
		t.Errorf("%+v", f)
	}
}
