package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/shirou/gopsutil/v4/disk"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The events about the file system of a store that is a folder.
const (
	storeNearlyFull = "store.nearly_full"
	storeHasRoom    = "store.has_room"
)

// hintStoreFull says what to do about one.
const hintStoreFull = "give the file system more room, or keep fewer backups: docs/retention.md"

// storeRoom is how full the file system of a store is.
type storeRoom struct {
	store    config.StoreOf
	used     float64
	free     uint64
	of       uint64
	severity pgmedic.Severity
}

// storeRooms are those of all configured stores that are folders and are there. The severity
// is SeverityInfo where there is room, by the thresholds of report.thresholds for disks.
func (j job) storeRooms(ctx context.Context) (all []storeRoom) {
	t := j.cfg.Report.Thresholds
	for _, s := range j.cfg.Stores() {
		if s.Place.Dir == "" {
			continue
		}
		usage := diskUsage(ctx, s.Place.Dir)
		if usage == nil || usage.Total == 0 {
			continue
		}
		r := storeRoom{store: s, used: usage.UsedPercent, free: usage.Free, of: usage.Total, severity: pgmedic.SeverityInfo}
		switch {
		case r.used > t.DiskCriticalPercent:
			r.severity = pgmedic.SeverityCritical
		case r.used > t.DiskWarnPercent:
			r.severity = pgmedic.SeverityWarn
		}
		all = append(all, r)
	}
	return all
}

// diskUsage returns nil for a folder that is not there, which has other messages, and for a
// file system that does not answer before ctx ends: a question to it can't be taken back.
func diskUsage(ctx context.Context, dir string) *disk.UsageStat {
	answer := make(chan *disk.UsageStat, 1)
	go func() {
		usage, err := disk.UsageWithContext(ctx, dir)
		if err != nil {
			usage = nil
		}
		answer <- usage
	}()
	select {
	case usage := <-answer:
		return usage
	case <-ctx.Done():
		return nil
	}
}

func (r storeRoom) sentence() string {
	free, of := words.Bytes(int64(min(r.free, 1<<62))), words.Bytes(int64(min(r.of, 1<<62)))
	if r.severity == pgmedic.SeverityInfo {
		return fmt.Sprintf("the file system of the store has room: %s of %s are free", free, of)
	}
	return fmt.Sprintf("the file system of the store is %.1f %% full: %s of %s are free", r.used, free, of)
}

// roomEvents are about each store that is nearly full, after a job that writes into stores or
// checks them, and about each that has room: it ends what was reported before.
func (n *notifier) roomEvents(ctx context.Context) (events []notify.Event) {
	if !slices.Contains([]string{"backup", "copy", "prune", checkJob}, n.name) {
		return nil
	}
	for _, r := range n.storeRooms(ctx) {
		e := notify.Event{
			Name: storeNearlyFull, State: notify.StateFiring, Severity: r.severity, At: n.now(), Target: n.target(""),
			Object: r.store.Name, Summary: r.sentence(), Hint: hintStoreFull, Command: "pgmedic prune --dry-run",
			Evidence: []pgmedic.Evidence{{Name: "store", Value: r.store.Name}},
		}
		if r.severity == pgmedic.SeverityInfo {
			e.Name, e.State, e.Hint, e.Command = storeHasRoom, notify.StateResolved, "", ""
		}
		e.Fingerprint = notify.Fingerprint("store", e.Target.Server, r.store.Name, "room")
		events = append(events, e)
	}
	return events
}

// checkRooms warns of stores that are nearly full.
func (cmd *checkCommand) checkRooms(ctx context.Context, l *checklist) {
	for _, r := range cmd.storeRooms(ctx) {
		name, of := "store", ""
		if !r.store.Primary {
			name, of = "copy", r.store.Name+": "
		}
		if r.severity != pgmedic.SeverityInfo {
			l.add(name, pgmedic.OutcomeWarn, of+r.sentence(), hintStoreFull)
		}
	}
}
