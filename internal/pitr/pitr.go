// Package pitr says to which moments a cluster can be recovered, from the base backups that
// a catalogue has and the WAL that an archive has, and which of them drills have proven.
package pitr

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Options say what is read.
type Options struct {
	// Store holds the WAL, under the name of a server.
	Store  store.Store
	Server string
	// System is the system identifier of the only cluster that is read. Zero is all that
	// have WAL under the name.
	System uint64
	// Entries are of the server's backups. Those that are not of a whole cluster are passed
	// over.
	Entries []catalog.Entry
	// Open is that of archive.NewFetcher. With it the times of commits are known from the
	// index; where it is nil, or has no key, only observations of the server say when its
	// WAL was written.
	Open func(ctx context.Context, epoch string, wraps []archive.StoredWrap) (*seal.Key, error)
	Now  time.Time
	// RestorePoints is true where Cluster.RestorePoints are to be read, for which Open is needed.
	RestorePoints bool
}

// Cluster is what is known of one cluster.
type Cluster struct {
	Server           string
	SystemIdentifier uint64
	Survey           *archive.Survey
	// Condition is that of the WAL, whether it is of use without a base backup or not.
	wal.Condition
	// Windows are the moments to which the cluster can be recovered from base backups of
	// the catalogue, and Elsewhere those from base backups of which only the WAL says that
	// they were taken: nothing says that they are still there.
	Windows, Elsewhere []wal.Window
	// Bases is how many base backups of it the catalogue has.
	Bases int
	// CommitTimes is true where times are those of commits too, and not of observations
	// alone.
	CommitTimes bool
	// RestorePoints are those that the index of the WAL has within the Windows, each with the
	// timeline of its window, the newest first: of a name that several have none, since a name
	// says one of them. Only the newest WAL is searched.
	RestorePoints []archive.RestorePoint
	// Proofs are the moments that drills have proven, by timeline and position.
	Proofs []Proof
	// ClaimedDrills counts the drills that would be among the Proofs if this host could tell
	// who wrote their receipts. They prove nothing here.
	ClaimedDrills int
	// Problems are sentences about what is not as it should be.
	Problems []string
}

// Current returns the window that goes furthest, of those on the timeline that the server
// was seen on last. It is false where nothing can be recovered on that timeline.
func (c *Cluster) Current() (w wal.Window, ok bool) {
	for _, one := range c.Windows {
		if one.Timeline == c.Timeline && (!ok || one.Until.LSN > w.Until.LSN) {
			w, ok = one, true
		}
	}
	return w, ok
}

// Read reads what is known of the clusters that have WAL or base backups under the name of
// a server, by system identifier.
func Read(ctx context.Context, o Options) (all []Cluster, err error) {
	systems, err := archive.Systems(ctx, o.Store, o.Server)
	if err != nil {
		return nil, err
	}
	bases := map[uint64][]wal.Base{}
	restorable := Restorable(o.Entries)
	for _, e := range restorable {
		if system, b, ok := BaseOf(e); ok {
			bases[system] = append(bases[system], b)
			systems = append(systems, system)
		}
	}
	slices.Sort(systems)
	for _, system := range slices.Compact(systems) {
		if o.System != 0 && system != o.System {
			continue
		}
		c, in, points, err := one(ctx, o, system, bases[system])
		if err != nil {
			return nil, err
		}
		c.place(in, points)
		c.prove(in, restorable)
		all = append(all, c)
	}
	return all, nil
}

// Restorable returns the base backups that a recovery can begin with, as far as the catalogue
// says: those that are not about to be deleted, that were not found bad, that this host does
// not refuse, that keys open, and of incremental ones those of which all that they need is
// there and is such, too.
func Restorable(entries []catalog.Entry) (restorable []catalog.Entry) {
	var each []*pgmedic.Backup
	for _, e := range entries {
		if usable(e) {
			each = append(each, e.Backup)
		}
	}
	whole := chain.Whole(each)
	for _, e := range entries {
		if slices.Contains(whole, e.Backup) {
			restorable = append(restorable, e)
		}
	}
	return restorable
}

// usable reports whether nothing is known against a base backup by itself.
func usable(e catalog.Entry) bool {
	return e.Backup.Physical != nil && e.Mark == nil && !e.Unopenable() && !e.Refused() && e.Standing().Proof != pgmedic.ProofFailed
}

// BaseOf returns a backup as a recovery's beginning, and the system identifier of its
// cluster. It is false for one that is not of a whole cluster, that is about to be
// deleted, that was found bad, that this host refuses, or that no key opens any more. What an
// incremental one needs is not asked: see Restorable.
func BaseOf(e catalog.Entry) (system uint64, b wal.Base, ok bool) {
	p := e.Backup.Physical
	if !usable(e) {
		return 0, b, false
	}
	system, err := strconv.ParseUint(e.Backup.Server.SystemIdentifier, 10, 64)
	start, startErr := wal.ParseLSN(p.StartLSN)
	stop, stopErr := wal.ParseLSN(p.StopLSN)
	b = wal.Base{ID: e.Backup.ID, Timeline: wal.Timeline(p.StopTimeline), Start: start, Stop: stop}
	return system, b, err == nil && startErr == nil && stopErr == nil && b.Timeline > 0 && start <= stop
}

func one(ctx context.Context, o Options, system uint64, bases []wal.Base) (c Cluster, in wal.Inputs, points []archive.RestorePoint, err error) {
	a := archive.New(o.Store, o.Server, system)
	c = Cluster{Server: o.Server, SystemIdentifier: system, Bases: len(bases)}
	if c.Survey, err = a.Survey(ctx); err != nil {
		return c, in, nil, err
	}
	c.Problems = slices.Clone(c.Survey.Odd)
	in = c.Survey.Inputs()
	known := in.Bases
	in.Bases = bases
	for _, b := range known {
		// A base backup of the catalogue is one that the WAL tells of.
		if !slices.ContainsFunc(bases, func(own wal.Base) bool { return own.Start == b.Start && own.Stop == b.Stop }) {
			in.Bases = append(in.Bases, b)
		}
	}
	slices.SortStableFunc(in.Bases, func(a, b wal.Base) int { return cmp.Compare(a.Start, b.Start) })
	if o.Open != nil && len(c.Survey.Epochs) > 0 {
		points = c.commits(ctx, a, o, &in)
	}
	c.Condition = wal.Judge(in, o.Now, c.Survey.Limit())
	for _, w := range wal.Windows(in) {
		own := slices.DeleteFunc(slices.Clone(w.Bases), func(b wal.Base) bool { return b.ID == "" })
		if len(own) == 0 {
			c.Elsewhere = append(c.Elsewhere, w)
			continue
		}
		only := in
		only.Bases = own
		c.Windows = append(c.Windows, slices.DeleteFunc(wal.Windows(only), func(one wal.Window) bool { return one.Timeline != w.Timeline })...)
	}
	return c, in, points, nil
}

// newestSpans is of how many ends of stored WAL, on each timeline, the last commit is read.
const newestSpans = 4

// commits adds what the index says of the last commits before the ends of what is stored. It
// returns the restore points, where they are asked for.
func (c *Cluster) commits(ctx context.Context, a *archive.Archive, o Options, in *wal.Inputs) (points []archive.RestorePoint) {
	f, err := a.NewFetcher(ctx, o.Open)
	if err != nil {
		c.problem("the times of commits are not known: %v", err)
		return nil
	}
	x := f.NewIndex(c.Survey)
	ends := map[wal.Span]bool{}
	for _, t := range in.Timelines() {
		path := in.Path(t)
		for _, span := range path[max(0, len(path)-newestSpans):] {
			ends[wal.Span{Timeline: t, To: span.To}] = true
		}
	}
	for end := range ends {
		if m, ok := x.LastCommit(ctx, end.Timeline, end.To); ok {
			in.Marks = append(in.Marks, m)
			c.CommitTimes = true
		}
	}
	// From when on all can be reached: from the last end of a transaction in the WAL of the
	// first base backup. An observation says that only later.
	for _, w := range wal.Windows(*in) {
		b := w.Bases[0]
		if m, ok := x.LatestEnd(ctx, b.Timeline, b.Start, b.Stop); ok {
			in.Marks = append(in.Marks, m)
		}
	}
	if o.RestorePoints {
		points = x.RestorePoints(ctx)
	}
	for _, text := range x.Problems {
		c.problem("%s", text)
	}
	return points
}

// place enters the restore points that can be recovered to.
func (c *Cluster) place(in wal.Inputs, points []archive.RestorePoint) {
	names := map[string]int{}
	for _, p := range points {
		names[p.Name]++
	}
	for _, p := range points {
		for _, w := range c.Windows {
			_, on := in.At(w.Timeline, p.Timeline, p.End)
			if on && names[p.Name] == 1 && p.Name != "" && len(p.Name) <= wal.MaxRestorePointName && p.LSN >= w.From.LSN && p.End <= w.Until.LSN {
				p.Timeline = w.Timeline
				c.RestorePoints = append(c.RestorePoints, p)
				break
			}
		}
	}
}

// maxProblems is how many sentences a Cluster has.
const maxProblems = 40

func (c *Cluster) problem(format string, args ...any) {
	if len(c.Problems) < maxProblems {
		c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
	}
}
