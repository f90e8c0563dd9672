package prometheus

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// ofReplication makes a metric of what a server sends and receives.
func ofReplication(name, help string, labels []string, counter bool, read func(x *reading.Replication, put put)) metricRow {
	return metricRow{Metric: Metric{Name: name, Counter: counter, Section: reading.SectionReplication, Labels: labels, Help: help},
		read: part(func(r *reading.Reading) *reading.Replication { return r.Replication }, read)}
}

func replicationMetrics() []metricRow {
	labels := []string{"application", "client", "slot"}
	each := func(name, help string, read func(x *reading.Standby, put put, labels ...string)) metricRow {
		return ofReplication(name, help, labels, false, func(x *reading.Replication, put put) {
			for i := range first(x.Standbys, slotSeries) {
				s := &x.Standbys[i]
				read(s, put, s.Application, s.Client, s.Slot)
			}
		})
	}
	return []metricRow{
		ofReplication("pgmedic_wal_position_bytes_total", "The position in the WAL that the server writes, or, on a standby, has received.", nil, true,
			func(x *reading.Replication, put put) { known(put, x.CurrentBytes) }),
		ofReplication("pgmedic_wal_directory_bytes", "Size of pg_wal.", nil, false,
			func(x *reading.Replication, put put) { known(put, x.WALBytes) }),
		ofReplication("pgmedic_standbys", "WAL senders: connected standbys, subscribers and other receivers.", nil, false,
			func(x *reading.Replication, put put) {
				if x.Standbys != nil {
					put(float64(len(x.Standbys)))
				}
			}),
		ofReplication("pgmedic_standby_info", "A receiver of WAL and its state; always 1.",
			append(labels, "user", "state", "sync_state"), false, func(x *reading.Replication, put put) {
				for _, s := range first(x.Standbys, slotSeries) {
					put(1, s.Application, s.Client, s.Slot, s.User, s.State, s.SyncState)
				}
			}),
		each("pgmedic_standby_send_lag_bytes", "WAL not yet sent to a standby.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.SendLagBytes, labels...) }),
		each("pgmedic_standby_write_lag_bytes", "WAL not yet written by a standby.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.WriteLagBytes, labels...) }),
		each("pgmedic_standby_flush_lag_bytes", "WAL not yet flushed to disk by a standby.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.FlushLagBytes, labels...) }),
		each("pgmedic_standby_replay_lag_bytes", "WAL not yet replayed by a standby.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.ReplayLagBytes, labels...) }),
		each("pgmedic_standby_write_lag_seconds", "Write lag of a standby, as the server measures it; absent while no WAL is written.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.WriteLagSeconds, labels...) }),
		each("pgmedic_standby_flush_lag_seconds", "Flush lag of a standby, as the server measures it; absent while no WAL is written.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.FlushLagSeconds, labels...) }),
		each("pgmedic_standby_replay_lag_seconds", "Replay lag of a standby, as the server measures it; absent while no WAL is written.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.ReplayLagSeconds, labels...) }),
		each("pgmedic_standby_silent_seconds", "Time since the last message from a standby.",
			func(x *reading.Standby, put put, labels ...string) { known(put, x.ReplySeconds, labels...) }),
	}
}

func slotMetrics() []metricRow {
	each := func(name, help string, read func(x *reading.Slot, put put, labels ...string)) metricRow {
		return ofReplication(name, help, []string{"slot", "type"}, false, func(x *reading.Replication, put put) {
			for i := range first(x.Slots, slotSeries) {
				read(&x.Slots[i], put, x.Slots[i].Name, x.Slots[i].Type)
			}
		})
	}
	return []metricRow{
		each("pgmedic_slot_active", "Whether a replication slot is in use.",
			func(x *reading.Slot, put put, labels ...string) { flag(put, x.Active, labels...) }),
		each("pgmedic_slot_retained_bytes", "WAL kept for a slot; absent if the slot was never used.",
			func(x *reading.Slot, put put, labels ...string) { known(put, x.RetainedBytes, labels...) }),
		each("pgmedic_slot_safe_bytes", "WAL that can still be written before a slot is lost; absent without max_slot_wal_keep_size.",
			func(x *reading.Slot, put put, labels ...string) { known(put, x.SafeBytes, labels...) }),
		each("pgmedic_slot_lost", "Whether a slot has lost the WAL that it needs, or is invalid; from PostgreSQL 13.",
			func(x *reading.Slot, put put, labels ...string) {
				// A slot that never was used has no status.
				if x.WALStatus != "" || x.InvalidationReason != "" {
					flag(put, x.WALStatus == "lost" || x.InvalidationReason != "", labels...)
				}
			}),
		each("pgmedic_slot_inactive_since_timestamp_seconds", "Since when a slot has been inactive; from PostgreSQL 17.",
			func(x *reading.Slot, put put, labels ...string) { moment(put, x.InactiveSince, labels...) }),
		each("pgmedic_slot_xmin_age", "Age of the oldest transaction whose rows VACUUM keeps for a slot.",
			func(x *reading.Slot, put put, labels ...string) { known(put, x.XminAge, labels...) }),
		each("pgmedic_slot_catalog_xmin_age", "Age of the oldest transaction whose system catalogue rows VACUUM keeps for a slot.",
			func(x *reading.Slot, put put, labels ...string) { known(put, x.CatalogXminAge, labels...) }),
	}
}

func replayMetrics() []metricRow {
	replay := func(name, help string, counter bool, read func(x *reading.Replay, put put)) metricRow {
		return ofReplication(name, help, nil, counter, func(x *reading.Replication, put put) {
			if x.Replay != nil {
				read(x.Replay, put)
			}
		})
	}
	each := func(name, help string, counter bool, read func(x *reading.Subscription, put put)) metricRow {
		return ofReplication(name, help, []string{"subscription"}, counter, func(x *reading.Replication, into put) {
			for i := range first(x.Subscriptions, slotSeries) {
				s := &x.Subscriptions[i]
				read(s, func(value float64, _ ...string) { into(value, s.Name) })
			}
		})
	}
	return []metricRow{
		replay("pgmedic_replay_receiving", "On a standby, whether a WAL receiver is streaming; absent if this role may not see it.", false,
			func(x *reading.Replay, put put) {
				if x.ReceiverStatus != "hidden" {
					flag(put, x.ReceiverStatus == "streaming")
				}
			}),
		replay("pgmedic_replay_silent_seconds", "On a standby, time since the last message from the primary.", false,
			func(x *reading.Replay, put put) { known(put, x.MessageSeconds) }),
		replay("pgmedic_replay_received_bytes_total", "On a standby, the position in the WAL that it has received.", true,
			func(x *reading.Replay, put put) { known(put, x.ReceivedBytes) }),
		replay("pgmedic_replay_replayed_bytes_total", "On a standby, the position in the WAL that it has replayed.", true,
			func(x *reading.Replay, put put) { known(put, x.ReplayedBytes) }),
		replay("pgmedic_replay_delay_seconds", "On a standby, time since the last replayed transaction ended on the primary; also grows while the primary is idle.", false,
			func(x *reading.Replay, put put) { known(put, x.DelaySeconds) }),
		replay("pgmedic_replay_paused", "On a standby, whether replay is paused.", false,
			func(x *reading.Replay, put put) { flag(put, x.Paused) }),
		ofReplication("pgmedic_replay_conflicts_total", "On a standby, statements cancelled because of recovery conflicts.", []string{"type"}, true,
			func(x *reading.Replication, put put) {
				if c := x.Conflicts; c != nil {
					put(float64(c.Tablespace), "tablespace")
					put(float64(c.Lock), "lock")
					put(float64(c.Snapshot), "snapshot")
					put(float64(c.BufferPin), "buffer_pin")
					put(float64(c.Deadlock), "deadlock")
				}
			}),
		each("pgmedic_subscription_enabled", "Whether a logical subscription is enabled.", false,
			func(x *reading.Subscription, put put) { flag(put, x.Enabled) }),
		each("pgmedic_subscription_running", "Whether the apply worker of a subscription is running.", false,
			func(x *reading.Subscription, put put) { flag(put, x.Running) }),
		each("pgmedic_subscription_silent_seconds", "Time since the last message from a subscription's publisher.", false,
			func(x *reading.Subscription, put put) { known(put, x.MessageSeconds) }),
		each("pgmedic_subscription_tables_not_ready", "Tables of a subscription whose initial copy is not finished.", false,
			func(x *reading.Subscription, put put) { put(float64(x.TablesNotReady)) }),
		each("pgmedic_subscription_apply_errors_total", "Errors while applying changes; from PostgreSQL 15.", true,
			func(x *reading.Subscription, put put) { known(put, x.ApplyErrors) }),
		each("pgmedic_subscription_sync_errors_total", "Errors during the initial copy of tables; from PostgreSQL 15.", true,
			func(x *reading.Subscription, put put) { known(put, x.SyncErrors) }),
	}
}

func archiverMetrics() []metricRow {
	of := func(name, help string, counter bool, read func(x *reading.Archiver, put put)) metricRow {
		return ofReplication(name, help, nil, counter, func(x *reading.Replication, put put) {
			if x.Archiver != nil {
				read(x.Archiver, put)
			}
		})
	}
	return []metricRow{
		of("pgmedic_archiver_archived_files_total", "WAL files archived.", true,
			func(x *reading.Archiver, put put) { put(float64(x.Archived)) }),
		of("pgmedic_archiver_failures_total", "Failed attempts to archive a WAL file.", true,
			func(x *reading.Archiver, put put) { put(float64(x.Failed)) }),
		of("pgmedic_archiver_failing", "Whether the last attempt to archive a WAL file failed.", false,
			func(x *reading.Archiver, put put) {
				flag(put, x.LastFailedAt != nil && (x.LastArchivedAt == nil || x.LastFailedAt.After(*x.LastArchivedAt)))
			}),
		of("pgmedic_archiver_last_archived_timestamp_seconds", "When a WAL file was last archived.", false,
			func(x *reading.Archiver, put put) { moment(put, x.LastArchivedAt) }),
		of("pgmedic_archiver_last_failed_timestamp_seconds", "When archiving last failed.", false,
			func(x *reading.Archiver, put put) { moment(put, x.LastFailedAt) }),
		ofReplication("pgmedic_archiver_waiting_files", "Finished WAL files waiting to be archived.", nil, false,
			func(x *reading.Replication, put put) { known(put, x.ReadyFiles) }),
	}
}

func backupMetrics() []metricRow {
	of := func(name, help string, labels []string, read func(x *reading.Backups, put put)) metricRow {
		return metricRow{once: true, Metric: Metric{Name: name, Section: reading.SectionBackups, Labels: labels, Help: help},
			read: part(func(r *reading.Reading) *reading.Backups { return r.Backups }, read)}
	}
	return []metricRow{
		of("pgmedic_backups", "Backups of the database in the store; absent where no store was read.", nil,
			func(x *reading.Backups, put put) { put(float64(x.Count)) }),
		of("pgmedic_backup_last_timestamp_seconds", "The point in time of the newest backup; absent if there is none.", nil,
			func(x *reading.Backups, put put) {
				if x.Newest != nil {
					moment(put, &x.Newest.SnapshotAt)
				}
			}),
		of("pgmedic_backup_last_failed", "Whether the newest backup was found to be damaged.", nil,
			func(x *reading.Backups, put put) {
				if x.Newest != nil {
					flag(put, x.Newest.Proof == pgmedic.ProofFailed)
				}
			}),
		of("pgmedic_backup_last_shrunk", "Whether the newest backup has far less than those before it, and no label announced that.", nil,
			func(x *reading.Backups, put put) {
				if x.Newest != nil {
					flag(put, x.NewestShrunk())
				}
			}),
		of("pgmedic_backup_last_info", "What is known of the newest backup: taken, intact, verified, proven or failed; always 1.", []string{"proof"},
			func(x *reading.Backups, put put) {
				if x.Newest != nil {
					put(1, string(x.Newest.Proof))
				}
			}),
		of("pgmedic_backup_last_proven_timestamp_seconds", "The point in time of the newest backup that a drill has proven; absent if there is none.", nil,
			func(x *reading.Backups, put put) {
				if x.Proven != nil {
					moment(put, &x.Proven.SnapshotAt)
				}
			}),
		of("pgmedic_backup_last_drill_timestamp_seconds", "When a drill proved the newest proven backup.", nil,
			func(x *reading.Backups, put put) {
				if x.Proven != nil {
					moment(put, &x.Proven.ProofAt)
				}
			}),
		of("pgmedic_backup_recovery_seconds", "Recovery time measured by the drill of the newest proven backup.", nil,
			func(x *reading.Backups, put put) {
				if x.Proven != nil && x.Proven.RecoverySeconds > 0 {
					put(x.Proven.RecoverySeconds)
				}
			}),
	}
}
