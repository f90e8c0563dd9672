package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walstream"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walFacts are what a server says that streaming its WAL, and base backups of it, depend on.
type walFacts struct {
	Version    int
	Standby    bool
	Level      string
	MaxSenders int
	// Senders are in use, by streams, standbys and base backups.
	Senders  int
	MaxSlots int
	// KeepMB is max_slot_wal_keep_size: -1 is without a bound. Before 13 it is always.
	KeepMB         int
	FullPageWrites bool
	Checksums      bool
	SegmentBytes   int64
	// IdleTimeout is idle_replication_slot_timeout, 0 where it is off or not known to the
	// version.
	IdleTimeout time.Duration
	// Synchronous is synchronous_standby_names, and Commit synchronous_commit of new sessions.
	Synchronous, Commit string
	// BytesPerSecond is what the server writes on average, since Since; negative where the
	// version does not count it.
	BytesPerSecond float64
	Since          time.Time
	Slots          []walSlot
	// FreeBytes is free on the disk of pg_wal; negative where that is not known.
	FreeBytes int64
}

// walSlot is a replication slot.
type walSlot struct {
	Name, Type, Status string
	Active             bool
	// Retained is WAL that the server keeps for it, in bytes; 0 where it keeps none.
	Retained int64
}

// slot returns the slot of a name, or nil.
func (f *walFacts) slot(name string) *walSlot {
	for i := range f.Slots {
		if f.Slots[i].Name == name {
			return &f.Slots[i]
		}
	}
	return nil
}

// readWALFacts asks a server. Any role may ask.
func readWALFacts(ctx context.Context, conn *pgx.Conn) (*walFacts, error) {
	f := &walFacts{BytesPerSecond: -1, FreeBytes: -1}
	var seconds int64
	var folder string
	var here bool
	err := conn.QueryRow(ctx, `
SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery(),
	pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('max_wal_senders')::int,
	(SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication)::int, pg_catalog.current_setting('max_replication_slots')::int,
	coalesce((SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'), -1),
	pg_catalog.current_setting('full_page_writes') = 'on', pg_catalog.current_setting('data_checksums') = 'on',
	(SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'),
	coalesce((SELECT CASE unit WHEN 'min' THEN 60 WHEN 'ms' THEN 0.001 ELSE 1 END * setting::numeric
		FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout'), 0)::bigint,
	pg_catalog.current_setting('synchronous_standby_names'),
	(SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit'),
	coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'), ''),
	pg_catalog.inet_server_addr() IS NULL OR pg_catalog.inet_server_addr() <<= '127.0.0.0/8' OR pg_catalog.inet_server_addr() = '::1'`).
		Scan(&f.Version, &f.Standby, &f.Level, &f.MaxSenders, &f.Senders, &f.MaxSlots, &f.KeepMB, &f.FullPageWrites, &f.Checksums,
			&f.SegmentBytes, &seconds, &f.Synchronous, &f.Commit, &folder, &here)
	if err != nil {
		return nil, postgres.Wrap(err, "read the settings of WAL")
	}
	f.IdleTimeout = time.Duration(seconds) * time.Second
	rows, err := conn.Query(ctx, `
SELECT slot_name::text, slot_type, coalesce(pg_catalog.to_jsonb(s) ->> 'wal_status', ''), active,
	greatest(coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
		ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0), 0)::bigint
FROM pg_catalog.pg_replication_slots AS s WHERE NOT temporary ORDER BY 1`)
	if err == nil {
		f.Slots, err = pgx.CollectRows(rows, pgx.RowToStructByPos[walSlot])
	}
	if err != nil {
		return nil, postgres.Wrap(err, "read the replication slots")
	}
	if f.Version >= 140000 {
		err := conn.QueryRow(ctx, `
SELECT stats_reset, (wal_bytes / greatest(extract(epoch FROM pg_catalog.now() - stats_reset)::numeric, 1))::float8
FROM pg_catalog.pg_stat_wal WHERE stats_reset IS NOT NULL`).Scan(&f.Since, &f.BytesPerSecond)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, postgres.Wrap(err, "read how much WAL the server writes")
		}
	}
	if here && folder != "" {
		if usage, err := disk.UsageWithContext(ctx, filepath.Join(folder, "pg_wal")); err == nil {
			f.FreeBytes = int64(min(usage.Free, 1<<62))
		}
	}
	return f, nil
}

// checkWAL checks what streaming WAL and base backups need, where this host or the server
// streams: users who only take base backups read that nothing does, and nothing is said
// to others.
func (cmd *checkCommand) checkWAL(ctx context.Context, l *checklist) {
	wanted := cmd.cfg.WALGiven() || cmd.cfg.Backup.Method == "physical" || cmd.cfg.Backup.Reader == readerSQL
	stored, storeErr := cmd.storedWAL(ctx)
	t, err := cmd.servers.target()
	var facts *walFacts
	if err == nil {
		facts, err = cmd.askWAL(ctx, t)
	}
	ours := false
	if facts != nil {
		for _, s := range facts.Slots {
			ours = ours || isOurs(s, cmd.slot())
		}
	}
	if !wanted && !ours && !streamed(stored) {
		// What nothing asks for is not a fault, but a user who takes base backups should know.
		if n := countBases(stored); n > 0 {
			l.add("wal stored", pgmedic.OutcomeSkipped, fmt.Sprintf("not streamed: %s in the store, each of which recovers to its own end and no later moment", words.Plural(n, "base backup")), "")
		}
		return
	}
	if facts == nil {
		l.add("wal server", pgmedic.OutcomeSkipped, "not checked: "+words.OneLine(err.Error()), pgmedic.HintOf(err))
	} else {
		cmd.tryReplication(ctx, l, t)
		cmd.checkReader(ctx, l, t)
		q := walQuestion{Slot: cmd.slot(), Streams: cmd.cfg.WAL.Stream || len(stored) > 0 || facts.slot(cmd.slot()) != nil, Sync: cmd.cfg.WAL.Sync, Now: cmd.now()}
		for _, c := range q.judge(facts) {
			if c.Outcome == pgmedic.OutcomeFailed {
				l.fail(c.Name, pgmedic.Errorf(c.kind, c.Hint, "%s", c.Detail))
				continue
			}
			l.add(c.Name, c.Outcome, c.Detail, c.Hint)
		}
	}
	cmd.checkStoredWAL(l, stored, storeErr)
	cmd.checkSpool(ctx, l)
}

// streamed reports whether anything has ever streamed WAL, or handed it over, besides what
// base backups need of it.
func streamed(all []pitr.Cluster) bool {
	return slices.ContainsFunc(all, func(c pitr.Cluster) bool {
		return len(c.Survey.Seen) > 0 || len(c.Survey.Gaps) > 0 || c.State == wal.StateBroken ||
			slices.ContainsFunc(c.Survey.Epochs, func(e archive.EpochInfo) bool { return e.Writer == archive.WriterPush })
	})
}

// countBases is how many base backups clusters have.
func countBases(all []pitr.Cluster) (n int) {
	for _, c := range all {
		n += c.Bases
	}
	return n
}

// isOurs reports whether a slot is one that pgmedic made, as far as its name says.
func isOurs(s walSlot, configured string) bool {
	return s.Type == "physical" && (s.Name == configured || strings.HasPrefix(s.Name, slotPrefix))
}

// askWAL asks the server over a session of its own: that of other checks is one with a
// database.
func (cmd *checkCommand) askWAL(ctx context.Context, t postgres.Target) (*walFacts, error) {
	if t.Database() == "" {
		t = t.WithDatabase(cmd.cfg.Database.MaintenanceDatabase)
	}
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	return readWALFacts(ctx, conn)
}

// tryReplication opens a connection for replication, which only trying can show: pg_hba.conf
// has lines of its own for it.
func (cmd *checkCommand) tryReplication(ctx context.Context, l *checklist, t postgres.Target) {
	const name = "wal replication"
	conn, err := replication.Connect(ctx, t)
	if err != nil {
		l.fail(name, err)
		return
	}
	defer conn.Close(ctx)
	system, err := conn.Identify(ctx)
	if err != nil {
		l.fail(name, err)
		return
	}
	if err := walstream.CheckSegmentSize(system.SegmentSize); err != nil {
		l.fail(name, err)
		return
	}
	l.ok(name, "the server takes this role's connections for replication; WAL at %v of timeline %d", system.Flushed, system.Timeline)
}

// storedWAL reads what the store has of the server's WAL, and of its base backups.
func (cmd *checkCommand) storedWAL(ctx context.Context) ([]pitr.Cluster, error) {
	server, err := cmd.servers.serverName(ctx)
	if err != nil {
		return nil, err
	}
	c, closed, err := cmd.stores.openPlace(ctx, cmd.cfg.Backup.Place(), cmd.cfg.Backup.Access, true)
	if err != nil {
		return nil, err
	}
	defer closed()
	return cmd.keys.clusters(ctx, c, server, 0)
}

// checkStoredWAL says how far the stored WAL is, and whether a recovery has anything to
// begin with.
func (cmd *checkCommand) checkStoredWAL(l *checklist, all []pitr.Cluster, err error) {
	const name = "wal stored"
	if err != nil {
		l.add(name, pgmedic.OutcomeSkipped, "not checked: "+words.OneLine(err.Error()), pgmedic.HintOf(err))
		return
	}
	if len(all) == 0 {
		if cmd.cfg.WAL.Stream {
			l.add(name, pgmedic.OutcomeWarn, "nothing has streamed WAL into the store yet", "`pgmedic schedule install` starts the stream, or run `pgmedic wal stream`")
		} else {
			l.add(name, pgmedic.OutcomeSkipped, "there is no WAL of this server in the store", "")
		}
		return
	}
	for _, c := range all {
		detail := string(c.State) + ": " + c.Why
		if len(all) > 1 {
			detail = "cluster " + strconv.FormatUint(c.SystemIdentifier, 10) + ", " + detail
		}
		switch c.State {
		case wal.StateOK:
			l.ok(name, "%s", detail)
		case wal.StateBroken:
			l.fail(name, pgmedic.Errorf(pgmedic.KindFailed, "`pgmedic wal status` says what is missing; take a base backup", "%s", detail))
		case wal.StateBehind, wal.StateUnknown, wal.StateNone:
			l.add(name, pgmedic.OutcomeWarn, detail, "see the log of `pgmedic wal stream`, and whether it runs")
		}
		if _, found := c.Current(); !found && c.State != wal.StateBroken {
			l.add("wal base backup", pgmedic.OutcomeWarn, "the store has no base backup that a recovery along this WAL can begin with", "take one; "+pointInTimePage+" has the steps")
		}
	}
}

// pointInTimePage is the page about WAL.
const pointInTimePage = "docs/point-in-time.md"
