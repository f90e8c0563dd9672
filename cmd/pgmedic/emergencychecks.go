package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/inspect"
	"github.com/pgmedic/pgmedic/internal/monitor/collect"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// emergencyPatience bounds each check: a guide that waits is of no use. A server that is
// busy and a store that lists a year of backups answer within it; it is our choice.
const emergencyPatience = 20 * time.Second

// bounded does what may hang, such as a folder on a server that is gone, and which may not
// heed its context. Then it is left to end with the process.
func bounded[T any](ctx context.Context, find func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, emergencyPatience)
	defer cancel()
	type found struct {
		value T
		err   error
	}
	done := make(chan found, 1)
	go func() {
		value, err := find(ctx)
		done <- found{value, err}
	}()
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
		var none T
		return none, pgmedic.Errorf(pgmedic.KindUnreachable, "", "there was no answer within %s", words.Duration(emergencyPatience))
	}
}

// check finds out what is known. What can't be checked ends nothing.
func (cmd *emergencyCommand) check(ctx context.Context) {
	f := &cmd.facts
	f.Global, f.Connection, f.Store, f.Named = cmd.repeated.global, cmd.repeated.connection, cmd.repeated.store, cmd.repeated.server
	if cmd.loadErr != nil {
		cmd.list.fail("configuration", cmd.loadErr)
	}
	if cmd.cfg == nil {
		for _, name := range []string{"server", "backups", "keys"} {
			cmd.skip(name, "not checked: there is no configuration that can be read")
		}
		return
	}
	cmd.checkSecrets(ctx)
	r := cmd.checkServer(ctx)
	cmd.checkStores(ctx, r)
	cmd.checkRoom(ctx)
}

func (cmd *emergencyCommand) skip(name, why string) {
	cmd.list.add(name, pgmedic.OutcomeSkipped, why, "")
}

// checkSecrets reads the secrets that are kept elsewhere and that the server or the stores
// need.
func (cmd *emergencyCommand) checkSecrets(ctx context.Context) {
	for _, r := range cmd.cfg.Unread() {
		if config.ForNotifications(r.Key) {
			continue
		}
		// One at a time and in this goroutine: it changes the configuration.
		within, cancel := context.WithTimeout(ctx, emergencyPatience)
		if err := cmd.cfg.Read(within, r.Key, cmd.secrets.Resolve); err != nil {
			cmd.list.fail("secret "+r.Key, err)
		}
		cancel()
	}
}

// checkServer reads the server, and returns what it said, or nil.
func (cmd *emergencyCommand) checkServer(ctx context.Context) *reading.Reading {
	f := &cmd.facts
	unreached := func(err error) *reading.Reading {
		cmd.list.fail("server", err)
		for _, name := range []string{"disk of the data", "slots", "locks", "wraparound"} {
			cmd.skip(name, "not checked: the server can't be reached")
		}
		return nil
	}
	f.Maintenance = cmd.cfg.Database.MaintenanceDatabase
	t, err := cmd.servers.target()
	if err != nil {
		return unreached(err)
	}
	f.Database = cmp.Or(f.Database, databaseName(t))
	f.Conninfo = t.With("dbname", "").With("connect_timeout", "").Conninfo()
	read := func(database string) (*reading.Reading, error) {
		return bounded(ctx, func(ctx context.Context) (*reading.Reading, error) {
			return inspect.Server(ctx, inspect.Options{
				Target: t.WithDatabase(database),
				Collect: collect.Options{Now: cmd.now, Logger: cmd.log, Sections: []string{
					reading.SectionLocks, reading.SectionReplication, reading.SectionLimits, reading.SectionSize,
				}},
				Host: inspect.Stated{DiskMB: cmd.cfg.Report.ServerDiskMB},
			})
		})
	}
	maintenance := cmd.cfg.Database.MaintenanceDatabase
	r, err := read(cmp.Or(f.Database, maintenance))
	if err != nil && f.Database != "" && f.Database != maintenance && ctx.Err() == nil {
		// The database itself may be gone.
		if other, otherErr := read(maintenance); otherErr == nil {
			cmd.list.fail("database "+f.Database, err)
			f.Server.DatabaseGone = postgres.Code(err) == codeNoDatabase
			r, err = other, nil
		}
	}
	if err != nil || r == nil {
		return unreached(cmp.Or(err, pgmedic.Errorf(pgmedic.KindUnreachable, "", "the server did not answer")))
	}
	cmd.serverFacts(r)
	return r
}

// serverFacts takes over what a server said of itself.
func (cmd *emergencyCommand) serverFacts(r *reading.Reading) {
	s := &cmd.facts.Server
	s.Reached, s.Major, s.Standby = true, r.Server.VersionNum/10000, r.Server.Role == reading.RoleStandby
	role := "primary"
	if s.Standby {
		role = "standby"
	}
	cmd.list.ok("server", "PostgreSQL %s, %s, up for %s", words.Clean(r.Server.Version), role, words.Duration(time.Duration(r.Server.UptimeSeconds)*time.Second))
	cmd.diskFacts(r)
	cmd.slotFacts(r)
	cmd.lockFacts(r)
	cmd.ageFacts(r)
	for _, skipped := range r.Skipped {
		cmd.skip(skipped.Query, "not checked: "+words.OneLine(skipped.Reason))
	}
}

func (cmd *emergencyCommand) diskFacts(r *reading.Reading) {
	s := &cmd.facts.Server
	if r.Size != nil {
		s.Kept = len(r.Size.Kept)
		for _, d := range r.Size.Databases {
			cmd.facts.Room.NeedsBytes += d.Bytes
			if d.Name == cmd.facts.Database {
				s.DatabaseBytes = d.Bytes
			}
		}
	}
	if r.Replication != nil && r.Replication.WALBytes != nil {
		s.WALBytes = *r.Replication.WALBytes
		cmd.list.ok("pg_wal", "%s", words.Bytes(s.WALBytes))
	}
	if r.Host == nil || r.Host.DiskBytes == 0 {
		return // the reading's own list has why
	}
	s.DiskBytes, s.DiskFreeBytes = r.Host.DiskBytes, r.Host.DiskFreeBytes
	detail := fmt.Sprintf("%s of %s free", words.Bytes(s.DiskFreeBytes), words.Bytes(s.DiskBytes))
	if 100*(1-float64(s.DiskFreeBytes)/float64(s.DiskBytes)) >= cmd.cfg.Report.Thresholds.DiskWarnPercent {
		cmd.list.add("disk of the data", pgmedic.OutcomeWarn, detail, "")
	} else {
		cmd.list.ok("disk of the data", "%s", detail)
	}
}

func (cmd *emergencyCommand) slotFacts(r *reading.Reading) {
	s := &cmd.facts.Server
	if r.Replication == nil {
		return
	}
	cmd.facts.OwnSlot = cmd.slot()
	idle := 0
	var most emergency.Slot
	for _, slot := range r.Replication.Slots {
		one := emergency.Slot{Name: slot.Name, Type: slot.Type, Database: slot.Database, Active: slot.Active}
		if slot.RetainedBytes != nil {
			one.RetainedBytes = *slot.RetainedBytes
		}
		if !one.Active {
			if idle++; idle == 1 || one.RetainedBytes > most.RetainedBytes {
				most = one
			}
		}
		s.Slots = append(s.Slots, one)
	}
	if idle > 0 {
		cmd.list.add("slots", pgmedic.OutcomeWarn, fmt.Sprintf("%d of %s without a consumer; %s keeps %s of WAL", idle, words.Plural(len(s.Slots), "slot"), words.Clean(most.Name), words.Bytes(most.RetainedBytes)), "")
	} else {
		cmd.list.ok("slots", "%s, all with a consumer", words.Plural(len(s.Slots), "slot"))
	}
	if a := r.Replication.Archiver; a != nil && a.LastFailedAt != nil && (a.LastArchivedAt == nil || a.LastFailedAt.After(*a.LastArchivedAt)) {
		s.ArchiverFails = true
		cmd.list.add("archiving", pgmedic.OutcomeWarn, "archive_command failed last at "+a.LastFailedAt.UTC().Format("2006-01-02 15:04:05Z"), "")
	}
}

func (cmd *emergencyCommand) lockFacts(r *reading.Reading) {
	if r.Locks == nil {
		return
	}
	waits := map[int][]int{}
	for _, w := range r.Locks.Waiting {
		waits[w.PID] = w.BlockedBy
	}
	var prepared []reading.PreparedTransaction
	if r.Limits != nil {
		prepared = r.Limits.Prepared
	}
	for _, head := range emergency.Heads(waits) {
		if head.PID == 0 && len(prepared) == 1 {
			cmd.facts.Server.Blockers = append(cmd.facts.Server.Blockers, emergency.Blocker{Prepared: prepared[0].GID, Database: prepared[0].Database, Waiting: head.Waiting})
		}
		for _, b := range r.Locks.Blockers {
			if b.PID != head.PID || b.PID == 0 || b.BackendStart == nil {
				continue
			}
			cmd.facts.Server.Blockers = append(cmd.facts.Server.Blockers, emergency.Blocker{
				PID: b.PID, User: b.User, Application: b.Application, Database: b.Database, State: b.State, BackendStart: *b.BackendStart,
				TransactionSeconds: b.TransactionSeconds, Waiting: head.Waiting, Maintenance: b.Maintenance,
			})
		}
	}
	if n := r.Locks.WaitingTotal; n > 0 {
		cmd.list.add("locks", pgmedic.OutcomeWarn, words.Plural(n, "session")+" waiting for a lock", "")
	} else {
		cmd.list.ok("locks", "no session waits for a lock")
	}
}

func (cmd *emergencyCommand) ageFacts(r *reading.Reading) {
	s := &cmd.facts.Server
	if r.Limits == nil || len(r.Limits.Databases) == 0 {
		return
	}
	for _, d := range r.Limits.Databases {
		s.Ages = append(s.Ages, emergency.Age{Database: d.Name, Transactions: max(d.XIDAge, d.MultiXactAge)})
	}
	slices.SortStableFunc(s.Ages, func(a, b emergency.Age) int { return cmp.Compare(b.Transactions, a.Transactions) })
	for _, h := range r.Limits.Holders {
		name := h.Name
		s.Holders = append(s.Holders, emergency.Holder{Kind: h.Kind, Name: name, Database: h.Database, XIDAge: max(h.XIDAge, h.CatalogXIDAge)})
	}
	percent := s.Ages[0].Used()
	detail := fmt.Sprintf("database %s has used up %.0f %% of the transaction numbers", words.Clean(s.Ages[0].Database), percent)
	if percent >= cmd.cfg.Report.Thresholds.LimitWarnPercent {
		cmd.list.add("wraparound", pgmedic.OutcomeWarn, detail, "")
	} else {
		cmd.list.ok("wraparound", "%s", detail)
	}
}

// storeFacts is what one store has.
type storeFacts struct {
	store   emergency.Store
	backups []emergency.Backup
	// bases is how many base backups there are, where there is no backup of the database.
	bases  int
	window *emergency.Window
	// tried is true where there was a backup to try the keys on; opens says what became of it.
	tried, opens bool
	keyErr       error
	// windowErr is why the moments are not known.
	windowErr error
	err       error
}

// places are the store that is meant, which a flag may name, and the other configured ones.
func (cmd *emergencyCommand) places() []config.StoreOf {
	all := []config.StoreOf{{Place: cmd.cfg.Backup.Place(), Access: cmd.cfg.Backup.Access}}
	for _, s := range cmd.cfg.Stores() {
		if s.Place == all[0].Place {
			all[0].Name = s.Name
		} else {
			all = append(all, s)
		}
	}
	return all
}

// checkStores reads all configured stores. Backups and moments are those of the first.
func (cmd *emergencyCommand) checkStores(ctx context.Context, r *reading.Reading) {
	f := &cmd.facts
	for i, s := range cmd.places() {
		name := "backups"
		if i > 0 {
			name = "copy " + s.Name
		}
		got, err := bounded(ctx, func(ctx context.Context) (storeFacts, error) {
			return cmd.readStore(ctx, s, r, i == 0), nil
		})
		if err = cmp.Or(err, got.err); err != nil {
			f.Stores = append(f.Stores, emergency.Store{Name: s.Name, Unread: words.OneLine(err.Error())})
			cmd.list.fail(name, err)
			if i == 0 {
				cmd.skip("moments", "not checked: the store can't be read")
			}
			continue
		}
		f.Stores = append(f.Stores, got.store)
		cmd.storeChecks(name, got, i == 0)
	}
	ids, err := cmd.keys.identities()
	f.Keys.Count = len(ids)
	if err != nil {
		cmd.list.fail("keys", err)
	}
}

// readStore lists a store. It changes nothing of the command, because it may go on after
// nothing waits for it any more.
func (cmd *emergencyCommand) readStore(ctx context.Context, s config.StoreOf, r *reading.Reading, first bool) (got storeFacts) {
	got.store.Name = s.Name
	c, closed, err := cmd.stores.openPlace(ctx, s.Place, s.Access, true)
	if err != nil {
		got.err = err
		return got
	}
	defer closed()
	server := cmd.cfg.Server
	if server == "" && r != nil {
		server = r.Server.SystemIdentifier
	}
	listing, err := c.List(ctx, cmd.keys.trusting(catalog.Filter{Server: server, Database: cmd.facts.Database}))
	if err != nil {
		got.err = err
		return got
	}
	for _, e := range listing.Entries {
		if e.Backup.Partial() || e.Scope != "" || e.Refused() || e.Unopenable() || e.Backup.Physical != nil {
			continue
		}
		standing := e.Standing()
		b := emergency.Backup{
			ID: e.Backup.ID, Database: e.Backup.Database.Name, At: e.Backup.SnapshotAt,
			Proof: standing.Proof, Claimed: standing.Claimed, Shrunk: e.Shrunk != nil, NotInPlace: notInPlace(e.Backup),
		}
		if drill, ok := e.LastDrill(); ok && standing.Proof == pgmedic.ProofProven {
			b.RecoverySeconds = drill.RecoverySeconds
		}
		got.backups = append(got.backups, b)
	}
	if got.store.Count = len(got.backups); got.store.Count > 0 {
		got.store.Newest = got.backups[0].At
	}
	if !first {
		return got
	}
	if len(got.backups) == 0 {
		bases, err := c.List(ctx, cmd.keys.trusting(catalog.Filter{Server: server, Cluster: true}))
		if err != nil {
			got.err = err
			return got
		}
		if got.bases = len(bases.Entries); len(listing.Entries) == 0 {
			listing = bases
		}
	}
	if len(listing.Entries) > 0 {
		e := listing.Entries[0]
		_, key, err := cmd.keys.wholeBackup(ctx, c, e)
		got.tried, got.keyErr = true, err
		got.opens = err == nil && (key != nil || e.Backup.Seal.Encryption == string(seal.EncryptionNone))
	}
	got.window, got.windowErr = cmd.readWindow(ctx, c, server, r)
	return got
}

// readWindow reads to which moments the server can be recovered.
func (cmd *emergencyCommand) readWindow(ctx context.Context, c *catalog.Catalog, server string, r *reading.Reading) (*emergency.Window, error) {
	if server == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "name it: --server NAME", "the server has no name in the configuration, and does not answer")
	}
	all, err := cmd.keys.clusters(ctx, c, server, 0)
	if err != nil {
		return nil, err
	}
	if r != nil {
		if system, err := strconv.ParseUint(r.Server.SystemIdentifier, 10, 64); err == nil {
			all = slices.DeleteFunc(all, func(one pitr.Cluster) bool { return one.SystemIdentifier != system })
		}
	}
	if len(all) > 1 {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "see `pgmedic wal status`", "the store has WAL of %d clusters of this name", len(all))
	}
	if len(all) == 0 {
		return nil, nil
	}
	w, ok := all[0].Current()
	if !ok {
		return nil, nil
	}
	window := &emergency.Window{From: w.From.Time, Until: w.Until.Time, Timeline: int64(w.Timeline)}
	if proof, ok := all[0].Proven(w.Timeline, ""); ok {
		window.Proven = proof.Until.Time
	}
	return window, nil
}

// storeChecks says what a store has.
func (cmd *emergencyCommand) storeChecks(name string, got storeFacts, first bool) {
	f := &cmd.facts
	age := func(b emergency.Backup) string { return words.Ago(f.Now, b.At) }
	switch {
	case len(got.backups) == 0 && got.bases > 0:
		cmd.list.ok(name, "%s of the whole cluster, and none of the database alone", words.Plural(got.bases, "base backup"))
	case len(got.backups) == 0:
		cmd.list.add(name, pgmedic.OutcomeWarn, "no backup of the database that can be used", "")
	default:
		detail := fmt.Sprintf("%s; the newest, %s, is of %s and %s", words.Plural(len(got.backups), "backup"), got.backups[0].ID, age(got.backups[0]), got.backups[0].Proof)
		if i := slices.IndexFunc(got.backups, func(b emergency.Backup) bool { return b.Proof == pgmedic.ProofProven && !b.Claimed }); i > 0 {
			detail += fmt.Sprintf("; the newest proven one, %s, is of %s", got.backups[i].ID, age(got.backups[i]))
		}
		cmd.list.ok(name, "%s", detail)
	}
	if !first {
		return
	}
	f.Backups, f.WAL, f.Keys.Opens = got.backups, got.window, got.opens
	switch {
	case got.windowErr != nil:
		cmd.list.fail("moments", got.windowErr)
	case got.window == nil:
		cmd.list.add("moments", pgmedic.OutcomeOK, "none: no stored WAL and base backup that reach one", "")
	default:
		proven := "nothing of it proven by a drill"
		if !got.window.Proven.IsZero() {
			proven = "proven until " + got.window.Proven.UTC().Format("2006-01-02 15:04:05Z")
		}
		cmd.list.ok("moments", "recoverable from %s until %s, %s", got.window.From.UTC().Format("2006-01-02 15:04:05Z"), got.window.Until.UTC().Format("2006-01-02 15:04:05Z"), proven)
	}
	switch {
	case !got.tried:
		cmd.skip("keys", "not checked: there is no backup to try them on")
	case got.keyErr != nil:
		cmd.list.fail("keys", got.keyErr)
	case got.opens:
		cmd.list.ok("keys", "this host can read the newest backup")
	default:
		cmd.list.add("keys", pgmedic.OutcomeWarn, "the newest backup is encrypted, and this host has no key", "")
	}
}

// checkRoom measures the folders of this host that a restore and a backup write to.
func (cmd *emergencyCommand) checkRoom(ctx context.Context) {
	f := &cmd.facts
	type room struct {
		dir  string
		free int64
	}
	got, err := bounded(ctx, func(ctx context.Context) (room, error) {
		dir, free, err := cmd.scratchRoom(ctx)
		return room{dir, free}, err
	})
	if err != nil {
		cmd.list.fail("room for a restore", err)
	} else {
		f.Room.Dir, f.Room.FreeBytes = got.dir, got.free
		cmd.list.ok("room for a restore", "%s free in %s", words.Bytes(got.free), got.dir)
	}
	dir := cmd.cfg.Backup.Place().Dir
	if dir == "" {
		return
	}
	got, err = bounded(ctx, func(ctx context.Context) (room, error) {
		usage, err := disk.UsageWithContext(ctx, nearestFolder(filepath.Clean(dir)))
		if err != nil {
			return room{}, fmt.Errorf("read how much is free in %s: %w", dir, err)
		}
		return room{dir, int64(min(usage.Free, 1<<62))}, nil
	})
	if err != nil {
		cmd.list.fail("room for backups", err)
		return
	}
	cmd.list.ok("room for backups", "%s free in %s", words.Bytes(got.free), got.dir)
}
