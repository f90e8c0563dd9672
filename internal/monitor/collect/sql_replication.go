package collect

// walHere is the server's position in its WAL: what a primary has written, or
// what a standby has.
const walHere = `
here as materialized (
  select case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
              else pg_current_wal_lsn() end as lsn
)`

const sqlWALPosition = `with` + walHere + ` select pg_wal_lsn_diff(lsn, '0/0')::bigint as current_bytes from here`

// A standby that has caught up has no lag in seconds, as nothing tells how
// long nothing takes; its bytes say that it has caught up.
const sqlStandbys = `with` + walHere + `
select r.pid, coalesce(r.application_name, '') as application, coalesce(r.usename::text, '') as user,
       coalesce(host(r.client_addr), '') as client, coalesce(r.state, '') as state, coalesce(r.sync_state, '') as sync_state,
       coalesce(s.slot_name::text, '') as slot,
       greatest(pg_wal_lsn_diff(here.lsn, r.sent_lsn), 0)::bigint as send_lag_bytes,
       greatest(pg_wal_lsn_diff(here.lsn, r.write_lsn), 0)::bigint as write_lag_bytes,
       greatest(pg_wal_lsn_diff(here.lsn, r.flush_lsn), 0)::bigint as flush_lag_bytes,
       greatest(pg_wal_lsn_diff(here.lsn, r.replay_lsn), 0)::bigint as replay_lag_bytes,
       extract(epoch from r.write_lag)::float8 as write_lag_seconds,
       extract(epoch from r.flush_lag)::float8 as flush_lag_seconds,
       extract(epoch from r.replay_lag)::float8 as replay_lag_seconds,
       extract(epoch from greatest(statement_timestamp() - r.reply_time, '0'))::float8 as reply_seconds
from pg_stat_replication r cross join here
left join pg_replication_slots s on s.active_pid = r.pid
order by r.application_name, r.pid`

// What the slots query can know, by version.
const (
	slotColumns12 = `'' as wal_status, null::bigint as safe_bytes, null::timestamptz as inactive_since, '' as invalidation_reason`
	slotColumns13 = `coalesce(s.wal_status, '') as wal_status, s.safe_wal_size as safe_bytes,
       null::timestamptz as inactive_since, '' as invalidation_reason`
	slotColumns17 = `coalesce(s.wal_status, '') as wal_status, s.safe_wal_size as safe_bytes,
       s.inactive_since, coalesce(s.invalidation_reason, '') as invalidation_reason`
)

func sqlSlots(versionColumns string) string {
	return `with` + walHere + `
select s.slot_name::text as name, s.slot_type as type, coalesce(s.plugin::text, '') as plugin,
       coalesce(s.database::text, '') as database, s.active, s.temporary,
       greatest(pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::bigint as retained_bytes,
       age(s.xmin)::bigint as xmin_age, age(s.catalog_xmin)::bigint as catalog_xmin_age,
       ` + versionColumns + `
from pg_replication_slots s cross join here
order by retained_bytes desc nulls last, name`
}

// The connection string of the receiver holds a password and is not read.
const sqlReplay = `
select coalesce(w.status, case when w.pid is null then '' else 'hidden' end) as receiver_status, coalesce(w.sender_host, '') as sender_host, coalesce(w.slot_name, '') as slot,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint as received_bytes,
       pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint as replayed_bytes,
       extract(epoch from greatest(statement_timestamp() - w.last_msg_receipt_time, '0'))::float8 as message_seconds,
       pg_last_xact_replay_timestamp() as last_replayed_at,
       extract(epoch from greatest(statement_timestamp() - pg_last_xact_replay_timestamp(), '0'))::float8 as delay_seconds,
       pg_is_wal_replay_paused() as paused
from (select) one left join pg_stat_wal_receiver w on true`

const sqlConflicts = `
select confl_tablespace as tablespace, confl_lock as lock, confl_snapshot as snapshot, confl_bufferpin as buffer_pin,
       confl_deadlock as deadlock
from pg_stat_database_conflicts where datname = current_database()`

// What the subscriptions query can know, by version.
const (
	subscriptionColumns12 = `null::bigint as apply_errors, null::bigint as sync_errors`
	subscriptionColumns15 = `(select e.apply_error_count from pg_stat_subscription_stats e where e.subid = s.oid) as apply_errors,
       (select e.sync_error_count from pg_stat_subscription_stats e where e.subid = s.oid) as sync_errors`
	subscriptionColumns19 = `(select e.apply_error_count from pg_stat_subscription_stats e where e.subid = s.oid) as apply_errors,
       (select e.sync_table_error_count + e.sync_seq_error_count from pg_stat_subscription_stats e where e.subid = s.oid) as sync_errors`
)

func sqlSubscriptions(versionColumns string) string {
	return `
select s.subname::text as name, s.subenabled as enabled, coalesce(s.subslotname::text, '') as slot,
       exists (select from pg_stat_subscription w where w.subid = s.oid and w.relid is null and w.pid is not null) as running,
       (select extract(epoch from greatest(statement_timestamp() - max(w.last_msg_receipt_time), '0'))::float8
        from pg_stat_subscription w where w.subid = s.oid and w.relid is null) as message_seconds,
       (select count(*)::int from pg_subscription_rel r where r.srsubid = s.oid and r.srsubstate <> 'r') as tables_not_ready,
       array(select x from pg_subscription_rel r join pg_class c on c.oid = r.srrelid join pg_namespace n on n.oid = c.relnamespace
             cross join unnest(array[n.nspname::text, c.relname::text]) with ordinality as u(x, part)
             where r.srsubid = s.oid and r.srsubstate <> 'r' order by n.nspname, c.relname, u.part limit 20) as not_ready_names,
       (select count(*)::int from pg_stat_subscription w where w.subid = s.oid and w.relid is not null and w.pid is not null) as sync_workers,
       ` + versionColumns + `
from pg_subscription s
where s.subdbid = (select oid from pg_database where datname = current_database())
order by 1`
}

const sqlArchiver = `
select archived_count as archived, coalesce(last_archived_wal, '') as last_archived, last_archived_time as last_archived_at,
       failed_count as failed, coalesce(last_failed_wal, '') as last_failed, last_failed_time as last_failed_at, stats_reset
from pg_stat_archiver`

const sqlReadyFiles = `select count(*) from pg_ls_archive_statusdir() where name like '%.ready'`

const sqlWALBytes = `select coalesce(sum(size), 0)::bigint from pg_ls_waldir()`
