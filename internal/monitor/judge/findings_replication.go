package judge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// replication finds what is wrong with the way changes go to other servers and
// to the archive.
func (a *analysis) replication() {
	r := a.reading.Replication
	if r == nil {
		return
	}
	for _, s := range r.Standbys {
		a.standby(s)
	}
	for _, s := range r.Slots {
		a.slot(s)
	}
	a.unboundedSlots(r)
	for _, s := range r.Subscriptions {
		a.subscription(s)
	}
	a.synchronous(r)
	a.archiver(r)
	a.replay(r)
}

// seconds turns a measure of the server into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// lagSeverity says how bad a lag is by the thresholds, nothing if it is below them.
func lagSeverity(t reading.Thresholds, bytes *int64, lag *float64) pgmedic.Severity {
	var worst pgmedic.Severity
	if bytes != nil && *bytes > t.LagWarnBytes || lag != nil && seconds(*lag) > t.LagWarn {
		worst = pgmedic.SeverityWarn
	}
	if bytes != nil && *bytes > t.LagCriticalBytes || lag != nil && seconds(*lag) > t.LagCritical {
		worst = pgmedic.SeverityCritical
	}
	return worst
}

const showStandbys = "SELECT application_name, client_addr, state, sync_state, sent_lsn, replay_lsn, replay_lag, reply_time " +
	"FROM pg_catalog.pg_stat_replication;"

// standby judges one process that WAL is sent to.
func (a *analysis) standby(s reading.Standby) {
	if s.State == "backup" || s.State == "" {
		// A base backup has no lag, and what is hidden can't be judged.
		return
	}
	object := "standby " + sqltext.Readable(s.Application)
	if s.WALStream() {
		object = "WAL stream " + sqltext.Readable(s.Application)
	}
	facts := []pgmedic.Evidence{
		evidenceText("client", s.Client), evidenceText("state", s.State), evidenceText("sync_state", s.SyncState),
		evidenceMaybe("replay_lag_bytes", s.ReplayLagBytes), evidenceMaybe("send_lag_bytes", s.SendLagBytes),
		evidenceMaybeSeconds("replay_lag_seconds", s.ReplayLagSeconds), evidenceMaybeSeconds("last_heard_seconds", s.ReplySeconds),
	}
	if s.ReplySeconds != nil && seconds(*s.ReplySeconds) > a.limits.StandbySilence {
		severity, lag := pgmedic.SeverityWarn, "its lag is not known"
		// What was never sent it surely lacks.
		if s.SendLagBytes != nil && *s.SendLagBytes > a.limits.LagWarnBytes {
			lag = "it lacks " + words.Size(*s.SendLagBytes) + " at least"
			severity = lagSeverity(a.limits, s.SendLagBytes, nil)
		}
		a.add(serverWide, pgmedic.Finding{
			ID: "standby-silent", Section: reading.SectionReplication, Severity: severity, Object: object,
			Summary: fmt.Sprintf("It has not been heard of for %s: %s, and the link may be dead.", words.LongSeconds(*s.ReplySeconds), lag),
			Evidence: append(facts, evidenceSeconds("threshold_seconds", a.limits.StandbySilence.Seconds()),
				evidence("threshold_bytes", a.limits.LagWarnBytes)),
			Fix:  showStandbys,
			Risk: "Changes nothing. Look at the standby and the network between; the server ends a dead link after wal_sender_timeout.",
		})
		return
	}
	if s.WALStream() {
		a.walStream(s, object, facts)
		return
	}
	severity := lagSeverity(a.limits, s.ReplayLagBytes, s.ReplayLagSeconds)
	if severity == "" {
		return
	}
	behind := "behind"
	if s.ReplayLagBytes != nil {
		behind = words.Size(*s.ReplayLagBytes) + " behind"
	}
	where := "it replays more slowly than it receives"
	if s.SendLagBytes != nil && s.ReplayLagBytes != nil && *s.SendLagBytes > *s.ReplayLagBytes/2 {
		where = "the network, or the standby's disk, takes less than is written here"
	}
	a.add(serverWide, pgmedic.Finding{
		ID: "standby-lagging", Section: reading.SectionReplication, Severity: severity, Object: object,
		Summary: fmt.Sprintf("It is %s: %s. What is read there is old, and failing over to it now could lose what it has not received.",
			behind, where),
		Evidence: append(facts, evidence("threshold_bytes", a.limits.LagWarnBytes), evidenceSeconds("threshold_seconds", a.limits.LagWarn.Seconds())),
		Fix:      showStandbys,
		Risk: "Changes nothing: run it again to see whether the lag shrinks. On the standby look for a paused replay, a long query " +
			"that replay waits for (max_standby_streaming_delay), or a busy disk.",
	})
}

// walStream judges pgmedic's own stream of WAL by the bytes that are not stored: what it
// has received may wait for as long as --max-delay says.
func (a *analysis) walStream(s reading.Standby, object string, facts []pgmedic.Evidence) {
	severity := lagSeverity(a.limits, s.FlushLagBytes, nil)
	if severity == "" {
		return
	}
	a.add(serverWide, pgmedic.Finding{
		ID: "standby-lagging", Section: reading.SectionReplication, Severity: severity, Object: object,
		Summary:  fmt.Sprintf("%s of WAL is not stored yet. If the server were lost now, so would be what it holds.", words.Size(*s.FlushLagBytes)),
		Evidence: append(facts, evidenceMaybe("flush_lag_bytes", s.FlushLagBytes), evidence("threshold_bytes", a.limits.LagWarnBytes)),
		Fix:      showStandbys,
		Risk:     "Changes nothing: run it again to see whether the lag shrinks. Check the log of `pgmedic wal stream`, the network, and the store.",
	})
}

// dropSlot drops a slot unless it is in use.
func dropSlot(name string) string {
	return fmt.Sprintf("SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "+
		"WHERE slot_name OPERATOR(pg_catalog.=) %s AND NOT active;", sqltext.PrintableLiteral(name))
}

// showSlot shows one slot.
func showSlot(name string) string {
	return fmt.Sprintf("SELECT slot_name, slot_type, active, restart_lsn, confirmed_flush_lsn FROM pg_catalog.pg_replication_slots "+
		"WHERE slot_name OPERATOR(pg_catalog.=) %s;", sqltext.PrintableLiteral(name))
}

// slotRisk is the risk of what only shows a slot: whether its reader is gone for
// good nobody but its owner knows, and to paste a drop would end one that restarts.
func slotRisk(name string) string {
	return "Changes nothing: run it again to see whether its standby or subscriber is back. If that is to come back, start it. Only if it is " +
		"gone for good, because it would have to be made again: " + dropSlot(name)
}

// keepsTooMuch reports whether nobody reads from a slot for which the server keeps more
// WAL than max_wal_size.
func keepsTooMuch(s reading.Slot) bool {
	return !s.Active && (s.WALStatus == "extended" || s.WALStatus == "unreserved")
}

// slot judges one replication slot.
func (a *analysis) slot(s reading.Slot) {
	f := pgmedic.Finding{
		ID: "slot-inactive", Section: reading.SectionReplication, Severity: pgmedic.SeverityInfo,
		Object: "replication slot " + sqltext.Readable(s.Name),
		Evidence: []pgmedic.Evidence{
			evidenceText("type", s.Type), evidenceText("database", s.Database), evidenceMaybe("retained_bytes", s.RetainedBytes),
			evidenceText("wal_status", s.WALStatus), evidenceMaybe("safe_bytes", s.SafeBytes),
			evidenceMaybe("transactions_held_back", s.XminAge), evidenceText("invalidation_reason", s.InvalidationReason),
		},
		Fix: showSlot(s.Name), Risk: slotRisk(s.Name),
	}
	if s.InactiveSince != nil && !s.Active {
		f.Evidence = append(f.Evidence, evidenceTime("inactive_since", s.InactiveSince))
	}
	retained := int64(0)
	if s.RetainedBytes != nil {
		retained = *s.RetainedBytes
	}
	f.Evidence = append(f.Evidence, evidence("threshold_bytes", a.limits.SlotRetainedBytes))
	switch {
	case s.WALStatus == "lost" || s.InvalidationReason != "":
		f.ID, f.Severity = "slot-lost", pgmedic.SeverityWarn
		f.Summary = "WAL that it still needed is gone, or it was invalidated: its standby or subscriber can't go on and must be made again."
		f.Fix = dropSlot(s.Name)
		f.Risk = "No reader can use the slot any more. It drops nothing while the slot is in use."
	case s.WALStatus == "unreserved":
		f.ID, f.Severity = "slot-lost", pgmedic.SeverityCritical
		f.Summary = "WAL that it needs is about to be removed, as it keeps more than max_slot_wal_keep_size allows: at the next " +
			"checkpoint its standby or subscriber may not be able to go on."
		f.Fix = "SELECT slot_name, active, wal_status, safe_wal_size FROM pg_catalog.pg_replication_slots;"
		f.Risk = "Changes nothing. Let the reader of the slot catch up, or raise max_slot_wal_keep_size if the disk has the room."
	case s.Active && retained > a.limits.SlotRetainedBytes:
		f.ID, f.Severity = "slot-behind", pgmedic.SeverityWarn
		f.Summary = fmt.Sprintf("Its reader is behind, and the server keeps %s of WAL for it.", words.Size(retained))
		f.Fix = "SELECT slot_name, active_pid, restart_lsn, confirmed_flush_lsn FROM pg_catalog.pg_replication_slots;"
		f.Risk = "Changes nothing: run it again to see whether the slot moves on. The disk fills while it doesn't."
	case !s.Active && !s.Temporary:
		f.Summary = fmt.Sprintf("Nothing reads from it, and the server keeps all WAL since then (%s) until something does, or the disk is full.", words.Size(retained))
		if retained > a.limits.SlotRetainedBytes || keepsTooMuch(s) {
			f.Severity = pgmedic.SeverityWarn
		}
	default:
		return
	}
	a.add(retained, f)
}

// subscription judges one logical subscription.
func (a *analysis) subscription(s reading.Subscription) {
	errors := int64(0)
	if s.ApplyErrors != nil && s.SyncErrors != nil {
		errors = *s.ApplyErrors + *s.SyncErrors
	}
	f := pgmedic.Finding{
		ID: "subscription-down", Section: reading.SectionReplication, Severity: pgmedic.SeverityWarn,
		Object:  "subscription " + sqltext.Readable(s.Name),
		Summary: "It is enabled and no worker applies its changes: its tables fall behind, and the publisher keeps the WAL.",
		Evidence: []pgmedic.Evidence{
			evidence("errors", errors), evidence("tables_not_ready", s.TablesNotReady),
			evidenceMaybeSeconds("last_heard_seconds", s.MessageSeconds),
		},
		Fix: "SELECT * FROM pg_catalog.pg_stat_subscription;",
		Risk: "Changes nothing. The server's log says why the worker ends: often a row that is there already, or a column that the " +
			"publisher has and this table has not.",
	}
	if len(s.NotReady) > 0 {
		f.Evidence = append(f.Evidence, evidenceText("not_ready", strings.Join(s.NotReady, ", ")))
	}
	switch {
	case s.Enabled && !s.Running:
	case s.Enabled && a.copyFails(s):
		f.Summary = fmt.Sprintf("The first copy of %s fails or doesn't begin: nothing arrives there, and the publisher keeps the WAL.",
			words.Plural(s.TablesNotReady, "table"))
		f.Fix = "SELECT s.subname, r.srrelid::pg_catalog.regclass AS table, r.srsubstate FROM pg_catalog.pg_subscription_rel r " +
			"JOIN pg_catalog.pg_subscription s ON s.oid OPERATOR(pg_catalog.=) r.srsubid WHERE r.srsubstate OPERATOR(pg_catalog.<>) 'r';"
		f.Risk = "Changes nothing. The server's log says why the copy ends: often rows that are in the table already, or a column that the " +
			"publisher has and the table has not. It is tried again by itself, and goes on once the cause is gone."
	case !s.Enabled:
		f.Severity = pgmedic.SeverityInfo
		f.Summary = "It is disabled: its tables fall behind, and the publisher keeps the WAL for its slot."
		f.Fix = "ALTER SUBSCRIPTION " + sqltext.PrintableIdent(s.Name) + " ENABLE;"
		f.Risk = "It goes on where it stopped. If it disabled itself because of an error, that error comes back."
		if s.Slot == "" {
			f.Summary = "It is disabled, and no slot on the publisher belongs to it: its tables fall behind."
			f.Fix = ""
			f.Risk = "There is no fix to paste: it is detached, as after a restore. Make a slot on the publisher, tell it (ALTER SUBSCRIPTION " +
				"… SET (slot_name = …)) and enable it, or drop it."
		}
	default:
		return
	}
	a.add(serverWide, f)
}

// copyFails reports whether first copies of a subscription's tables fail: errors
// were counted, from PostgreSQL 15, and no copy runs, or there are more of them than
// at an earlier look; or tables were not ready some minutes ago either, and no copy
// runs. A copy that fails is begun again every few seconds and soon ends.
func (a *analysis) copyFails(s reading.Subscription) bool {
	if s.TablesNotReady == 0 {
		return false
	}
	if s.SyncErrors != nil && *s.SyncErrors > 0 && s.SyncWorkers == 0 {
		return true
	}
	for _, e := range a.earlier {
		if e.Database != a.reading.Database || e.Replication == nil || !e.TakenAt.Before(a.reading.TakenAt) {
			continue
		}
		i := slices.IndexFunc(e.Replication.Subscriptions, func(x reading.Subscription) bool { return x.Name == s.Name })
		if i < 0 {
			continue
		}
		was := e.Replication.Subscriptions[i]
		if s.SyncErrors != nil && was.SyncErrors != nil && *s.SyncErrors > *was.SyncErrors {
			return true
		}
		same := slices.ContainsFunc(s.NotReady, func(table string) bool { return slices.Contains(was.NotReady, table) })
		if same && s.SyncWorkers == 0 && was.SyncWorkers == 0 && a.reading.TakenAt.Sub(e.TakenAt) >= copyPatience {
			return true
		}
	}
	return false
}

// copyPatience is how long first copies may await their turn.
const copyPatience = 2 * time.Minute

// synchronous finds a server on which every commit waits for a standby that
// isn't there.
func (a *analysis) synchronous(r *reading.Replication) {
	names, ok := a.reading.Server.Setting("synchronous_standby_names")
	if !ok || strings.TrimSpace(names) == "" || a.reading.Server.Role != reading.RolePrimary || r.Standbys == nil ||
		slices.ContainsFunc(r.Standbys, func(s reading.Standby) bool {
			return s.SyncState == "sync" || s.SyncState == "quorum" || s.State == ""
		}) {
		return
	}
	a.add(serverWide, pgmedic.Finding{
		ID: "synchronous-standby-missing", Section: reading.SectionReplication, Severity: pgmedic.SeverityCritical, Object: "server",
		Summary:  "No synchronous standby is connected, so every commit that wants one waits, without end.",
		Evidence: []pgmedic.Evidence{evidenceText("synchronous_standby_names", names), evidence("standbys", len(r.Standbys))},
		Fix:      "ALTER SYSTEM SET synchronous_standby_names = '';\nSELECT pg_catalog.pg_reload_conf();",
		Risk: "Commits go on and are on this server alone until a standby is back; then set it again. The better cure is to bring " +
			"the standby back.",
	})
}

// archiver finds WAL that doesn't get into the archive.
func (a *analysis) archiver(r *reading.Replication) {
	w := r.Archiver
	if mode, _ := a.reading.Server.Setting("archive_mode"); w == nil || mode == "off" || a.reading.Server.Role == reading.RoleStandby && mode != "always" {
		// A standby leaves archiving to its primary, and the counts outlive an archive that was given up.
		return
	}
	facts := []pgmedic.Evidence{
		evidence("failed", w.Failed), evidenceText("last_failed", w.LastFailed), evidenceTime("last_failed_at", w.LastFailedAt),
		evidenceText("last_archived", w.LastArchived), evidenceTime("last_archived_at", w.LastArchivedAt),
		evidenceMaybe("files_waiting", r.ReadyFiles), evidenceMaybe("wal_bytes", r.WALBytes),
	}
	f := pgmedic.Finding{
		ID: "archiver-failing", Section: reading.SectionReplication, Severity: pgmedic.SeverityCritical, Object: "server",
		Summary: "Archiving of WAL fails: the archive has a gap from here on, and the disk fills, as the server keeps what is not archived.",
		Fix:     "SELECT last_failed_wal, last_failed_time, last_archived_wal, last_archived_time FROM pg_catalog.pg_stat_archiver;",
		Risk: "Changes nothing. The server's log has what archive_command printed. The server tries again by itself, so that nothing " +
			"is lost once the command works.",
	}
	switch {
	case w.LastFailedAt != nil && (w.LastArchivedAt == nil || w.LastFailedAt.After(*w.LastArchivedAt)):
	case r.ReadyFiles != nil && *r.ReadyFiles > a.limits.ArchiveBacklog:
		f.ID, f.Severity = "archiver-behind", pgmedic.SeverityWarn
		f.Summary = fmt.Sprintf("%s of WAL wait to be archived: were the server lost now, the archive would lack them.", words.Plural(*r.ReadyFiles, "file"))
		facts = append(facts, evidence("threshold_files", a.limits.ArchiveBacklog))
	default:
		return
	}
	f.Evidence = facts
	a.add(serverWide, f)
}

// replay judges how a standby follows.
func (a *analysis) replay(r *reading.Replication) {
	p := r.Replay
	if p == nil {
		return
	}
	var lag *int64
	if p.ReceivedBytes != nil && p.ReplayedBytes != nil {
		n := *p.ReceivedBytes - *p.ReplayedBytes
		lag = &n
	}
	facts := []pgmedic.Evidence{
		evidenceText("receiver", p.ReceiverStatus), evidenceText("from", p.SenderHost), evidenceMaybe("not_replayed_bytes", lag),
		evidenceTime("last_replayed_at", p.LastReplayedAt), evidenceMaybeSeconds("last_heard_seconds", p.MessageSeconds),
	}
	find := func(id string, severity pgmedic.Severity, summary, fix, risk string) {
		a.add(serverWide, pgmedic.Finding{
			ID: id, Section: reading.SectionReplication, Severity: severity, Object: "server", Summary: summary,
			Evidence: facts, Fix: fix, Risk: risk,
		})
	}
	if p.Paused {
		find("replay-paused", pgmedic.SeverityWarn, "Replay is paused on this standby: what is read here gets older, and its WAL piles up.",
			showReplay, "Changes nothing: it shows how far replay is. Somebody may have paused it to keep rows that are gone on the primary; or "+
				"the server did, as a recovery target was reached or settings such as max_connections are lower here than on the primary: its log says "+
				"so. Replay that goes on can't go back, at a target it ends recovery, and with settings that are too low the server shuts down. If "+
				"none of that is so: SELECT pg_catalog.pg_wal_replay_resume();")
	}
	switch {
	case p.ReceiverStatus == "":
		find("standby-not-receiving", pgmedic.SeverityWarn,
			"No WAL receiver runs: this standby gets nothing from its primary, unless it restores from an archive.",
			"SELECT pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_last_xact_replay_timestamp();",
			"Changes nothing. Look at primary_conninfo, the primary's log, and whether its slot was lost.")
	case p.MessageSeconds != nil && seconds(*p.MessageSeconds) > a.limits.StandbySilence:
		find("standby-not-receiving", pgmedic.SeverityWarn,
			fmt.Sprintf("The primary has not been heard of for %s: the link may be dead.", words.LongSeconds(*p.MessageSeconds)),
			"SELECT status, last_msg_receipt_time, latest_end_time FROM pg_catalog.pg_stat_wal_receiver;",
			"Changes nothing. The receiver gives up by itself after wal_receiver_timeout and connects again.")
	case !p.Paused && lag != nil && *lag > a.limits.LagWarnBytes:
		find("standby-lagging", lagSeverity(a.limits, lag, nil),
			words.Size(*lag)+" have been received and not replayed: what is read here is old.",
			"SELECT pid, usename, state, xact_start, query_start FROM pg_catalog.pg_stat_activity WHERE state OPERATOR(pg_catalog.<>) 'idle' ORDER BY xact_start;",
			"Changes nothing: it shows queries that replay may be waiting for, as long as max_standby_streaming_delay allows.")
	}
	if c, since := a.conflicts(r.Conflicts); c != nil && c.Total() > 0 {
		facts = []pgmedic.Evidence{
			evidence("snapshot", c.Snapshot), evidence("lock", c.Lock), evidence("buffer_pin", c.BufferPin),
			evidence("deadlock", c.Deadlock), evidence("tablespace", c.Tablespace),
		}
		find("replay-conflicts", pgmedic.SeverityInfo,
			fmt.Sprintf("%s been cancelled here so that replay could go on%s.", queriesHave(c.Total()), since),
			"ALTER SYSTEM SET hot_standby_feedback = on;\nSELECT pg_catalog.pg_reload_conf();",
			"Cancellations for removed rows (snapshot) end; for as long as queries run here, the primary's VACUUM keeps those rows. "+
				"Or raise max_standby_streaming_delay, and let what is read here be older.")
	}
}

// conflicts returns those of the last day where the history reaches back so far,
// else all that were counted.
func (a *analysis) conflicts(c *reading.Conflicts) (recent *reading.Conflicts, since string) {
	day := a.dayAgo(func(e *reading.Reading) bool { return e.Replication != nil && e.Replication.Conflicts != nil })
	if c == nil || day == nil {
		return c, ""
	}
	x := day.Replication.Conflicts
	return &reading.Conflicts{
		Snapshot: c.Snapshot - x.Snapshot, Lock: c.Lock - x.Lock, BufferPin: c.BufferPin - x.BufferPin,
		Deadlock: c.Deadlock - x.Deadlock, Tablespace: c.Tablespace - x.Tablespace,
	}, " (" + a.inTheLast(day) + ")"
}

// showReplay shows how far replay is, and what may have paused it.
const showReplay = "SELECT pg_catalog.pg_is_wal_replay_paused() AS paused, pg_catalog.pg_last_wal_replay_lsn() AS replayed, " +
	"pg_catalog.pg_last_xact_replay_timestamp() AS replayed_until, (SELECT pg_catalog.string_agg(name, ', ') FROM pg_catalog.pg_settings " +
	"WHERE pg_catalog.starts_with(name, 'recovery_target') AND source OPERATOR(pg_catalog.<>) 'default' AND setting OPERATOR(pg_catalog.<>) '') AS targets;"

// queriesHave begins a sentence about a number of queries.
func queriesHave(n int64) string {
	if n == 1 {
		return "1 query has"
	}
	return pgmedic.Count(n) + " queries have"
}
