package main

import (
	"context"
	"strconv"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/pitr"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// recovery is what a report says of the stored WAL of a server: nothing where none is
// stored, and the configuration asks for none.
func (cmd *reportCommand) recovery(ctx context.Context, server, system string) (*reading.Recovery, error) {
	// Where the role may not read it, the name says which server is meant.
	id, err := strconv.ParseUint(system, 10, 64)
	if err != nil {
		id = 0
	}
	c, closed, err := cmd.stores.openCatalog(ctx)
	if err != nil {
		return nil, err
	}
	defer closed()
	all, err := cmd.keys.clusters(ctx, c, server, id)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		if !cmd.cfg.WALGiven() {
			return nil, nil
		}
		return &reading.Recovery{State: string(wal.StateNone), Why: "no WAL of this server is stored"}, nil
	}
	// The newest of several that were not told apart.
	of := &all[0]
	for i := range all {
		if at := all[i].Seen; at != nil && (of.Seen == nil || at.At.After(of.Seen.At)) {
			of = &all[i]
		}
	}
	return recoveryFacts(of), nil
}

// recoveryFacts are what a report tells of a cluster.
func recoveryFacts(c *pitr.Cluster) *reading.Recovery {
	r := &reading.Recovery{
		State: string(c.State), Why: c.Why, Timeline: uint32(c.Timeline), LagBytes: int64(min(c.LagBytes, 1<<62)), Gaps: len(c.Survey.Stored.Gaps()),
		BaseBackups: c.Bases, CommitTimes: c.CommitTimes,
	}
	if w, ok := c.Current(); ok {
		r.From, r.Until, r.Reaches = timeOf(w.From), timeOf(w.Until), w.Until.LSN >= c.Until.LSN
		r.ClaimedDrills = c.ClaimedDrills
		if proof, ok := c.Proven(w.Timeline, ""); ok {
			r.Proven = &reading.ProvenMoment{Until: timeOf(proof.Until), LSN: proof.Until.LSN.String(), Backups: proof.Backups, DrilledAt: proof.DrilledAt.UTC()}
		}
	}
	for _, w := range c.Elsewhere {
		r.Unlisted = r.Unlisted || w.Timeline == c.Timeline && w.Until.LSN >= c.Until.LSN
	}
	if c.Seen != nil {
		at := c.Seen.At.UTC()
		r.SeenAt = &at
	}
	return r
}
