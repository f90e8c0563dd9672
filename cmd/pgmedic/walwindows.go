package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// clusters reads to which moments the clusters of a server can be recovered from what a
// catalogue's store has of WAL and base backups. There are none where it has no WAL of the
// server. System is the only cluster that is asked about, or 0.
func (kr keyring) clusters(ctx context.Context, c *catalog.Catalog, server string, system uint64) ([]pitr.Cluster, error) {
	systems, err := archive.Systems(ctx, c.Store(), server)
	if err != nil || len(systems) == 0 {
		return nil, err
	}
	return kr.readClusters(ctx, c, pitr.Options{Server: server, System: system})
}

// readClusters is clusters with options of its own.
func (kr keyring) readClusters(ctx context.Context, c *catalog.Catalog, o pitr.Options) ([]pitr.Cluster, error) {
	listing, err := c.List(ctx, kr.trusting(catalog.Filter{Server: o.Server, Cluster: true}))
	if err != nil {
		return nil, err
	}
	o.Store, o.Entries, o.Now = c.Store(), listing.Entries, kr.now()
	if b := kr.cfg.Backup; len(b.IdentityFiles) > 0 || b.EncryptionKey != "" || !kr.hasMeans() {
		o.Open = func(_ context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error) {
			return kr.openWAL(epoch, wraps)
		}
	}
	return pitr.Read(ctx, o)
}

// recoveryRow is in a listing's JSON to which moments a cluster can be recovered.
type recoveryRow struct {
	// Server is the name that its WAL is filed under, SystemIdentifier is PostgreSQL's own.
	Server           string `json:"server"`
	SystemIdentifier string `json:"system_identifier"`
	// State and Why are of the stored WAL, as wal status has them.
	State wal.State `json:"state"`
	Why   string    `json:"why"`
	// Timeline is the one on which the server was seen last.
	Timeline wal.Timeline `json:"timeline"`
	// From and Until are of the window on it that goes furthest; none where nothing can be
	// recovered on it from a base backup of the catalogue.
	From  *wal.Point `json:"from,omitempty"`
	Until *wal.Point `json:"until,omitempty"`
	// Proven is the newest moment on the timeline that a drill has proven; none where that is
	// nothing. ClaimedDrills counts those of which this host can't tell who wrote the receipts.
	Proven        *pitr.Proof `json:"proven,omitempty"`
	ClaimedDrills int         `json:"claimed_drills,omitempty"`
	// CommitTimes is false where this host has no key that opens the index of the WAL: then
	// times are of observations of the server alone.
	CommitTimes bool `json:"commit_times"`
	// NotChecked is why nothing is known, where that is so.
	NotChecked string `json:"not_checked,omitempty"`
}

func recoveryOf(c *pitr.Cluster) recoveryRow {
	row := recoveryRow{
		Server: c.Server, SystemIdentifier: strconv.FormatUint(c.SystemIdentifier, 10), State: c.State, Why: c.Why, Timeline: c.Timeline, CommitTimes: c.CommitTimes,
	}
	if w, ok := c.Current(); ok {
		row.From, row.Until = &w.From, &w.Until
		row.ClaimedDrills = c.ClaimedDrills
		if proof, ok := c.Proven(w.Timeline, ""); ok {
			row.Proven = &proof
		}
	}
	return row
}

// recoveries are those of the servers that a listing has backups of, and of the one that
// is configured. A store that can't be read is said: the listing is right without it.
func (cmd *listCommand) recoveries(ctx context.Context, c *catalog.Catalog, listing catalog.Listing) []recoveryRow {
	servers := map[string]bool{}
	for _, e := range listing.Entries {
		servers[e.Backup.Server.Name] = true
	}
	if cmd.cfg.Server != "" {
		servers[cmd.cfg.Server] = true
	}
	rows := []recoveryRow{}
	for _, server := range slices.Sorted(maps.Keys(servers)) {
		all, err := cmd.keys.clusters(ctx, c, server, 0)
		if err != nil {
			rows = append(rows, recoveryRow{Server: server, State: wal.StateUnknown, NotChecked: words.OneLine(err.Error())})
			continue
		}
		for i := range all {
			rows = append(rows, recoveryOf(&all[i]))
		}
	}
	return rows
}

func (cmd *listCommand) printRecoveries(rows []recoveryRow) {
	p := cmd.paint(cmd.stdoutTTY)
	for _, r := range rows {
		of := words.Clean(r.Server)
		if n := len(slices.DeleteFunc(slices.Clone(rows), func(other recoveryRow) bool { return other.Server != r.Server })); n > 1 {
			of += ", cluster " + r.SystemIdentifier
		}
		if r.NotChecked != "" {
			cmd.wrapf("%s whether server %s can be recovered to any moment: %s\n", p.warn("not checked:"), of, words.Clean(r.NotChecked))
			continue
		}
		cmd.wrapf("server %s: %s\n", of, r.words(p, cmd.now()))
	}
}

// words say to which moments a cluster can be recovered.
func (r recoveryRow) words(p paint, now time.Time) string {
	state := p.state(r.State) + ": " + words.Clean(r.Why)
	if r.Until == nil {
		return p.bad("no moment") + " can be recovered from a base backup of this store; WAL " + state
	}
	return "recoverable to any moment from " + pointWords(*r.From) + " until " + pointWords(*r.Until) + "; " + p.proven(r.Proven, r.ClaimedDrills, now) + "; WAL " + state
}

// proven says which moment is the newest that a drill has proven. What is not proven is never
// green.
func (p paint) proven(proof *pitr.Proof, claimed int, now time.Time) string {
	switch {
	case proof != nil:
		from := ", from base backup " + words.Clean(proof.Backups[0])
		if n := len(proof.Backups) - 1; n > 0 {
			from += " and " + words.Plural(n, "backup") + " that it needs"
		}
		return p.good("proven") + " until " + pointWords(proof.Until) + " by a drill " + words.Ago(now, proof.DrilledAt) + from
	case claimed > 0:
		return p.warn("nothing proven yet") + " that this host can check: it has no key that authenticates the receipts of " + words.Plural(claimed, "drill")
	}
	return p.warn("nothing proven yet") + " by a drill of a moment"
}

// pointWords are a time, or a position where none is known.
func pointWords(p wal.Point) string {
	if p.Time.IsZero() {
		return p.LSN.String()
	}
	return p.Time.UTC().Format("2006-01-02 15:04:05Z")
}

// state colours a state of stored WAL.
func (p paint) state(s wal.State) string {
	switch s {
	case wal.StateOK:
		return p.good(string(s))
	case wal.StateBehind, wal.StateUnknown:
		return p.warn(string(s))
	case wal.StateBroken, wal.StateNone:
	}
	return p.bad(string(s))
}

// windowWords say up to which moment WAL carries a physical backup, on each timeline.
func (cmd *showCommand) windowWords(ctx context.Context, c *catalog.Catalog, e catalog.Entry) string {
	system, base, ok := pitr.BaseOf(e)
	if !ok {
		return ""
	}
	all, err := cmd.backups.keys.clusters(ctx, c, e.Backup.Server.Name, system)
	if err != nil {
		return "not checked: " + words.Clean(words.OneLine(err.Error()))
	}
	text := ""
	for _, cluster := range all {
		for _, w := range cluster.Windows {
			if !slices.ContainsFunc(w.Bases, func(b wal.Base) bool { return b.ID == base.ID }) {
				continue
			}
			if text != "" {
				text += "; "
			}
			var proof *pitr.Proof
			if found, ok := cluster.Proven(w.Timeline, base.ID); ok {
				proof = &found
			}
			p := cmd.paint(cmd.stdoutTTY)
			text += "to any moment until " + pointWords(w.Until) + " on timeline " + strconv.FormatUint(uint64(w.Timeline), 10) + ", " + p.proven(proof, cluster.ClaimedDrills, cmd.now())
		}
	}
	if text == "" {
		return cmd.paint(cmd.stdoutTTY).bad("no") + ": the WAL that it needs is not all stored"
	}
	return text
}

// timeOf is a point's time, or nil.
func timeOf(p wal.Point) *time.Time {
	if p.Time.IsZero() {
		return nil
	}
	at := p.Time.UTC()
	return &at
}
