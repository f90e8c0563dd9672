package judge

import (
	"cmp"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// trendItems bounds the lists of Trends.
const trendItems = 20

// TrendsOf compares a Reading with earlier ones, in any order, and returns nil
// where none is of the same database before it. Earlier Readings may be
// Outlines; tables and statements are compared where they have details, see
// DetailsWanted. Of the thresholds it takes those of statements.
func TrendsOf(got *reading.Reading, earlier []*reading.Reading, thresholds reading.Thresholds) *Trends {
	all := sameDatabase(got, earlier)
	if len(all) == 0 {
		return nil
	}
	all = append(all, got)
	t := &Trends{
		Since: all[0].TakenAt.UTC(), Readings: len(all), Points: points(all),
		Tables: tableGrowth(all), Statements: statementChanges(all, thresholds),
	}
	if l, ok := fit(sizes(all, func(r *reading.Reading) (int64, bool) {
		if r.Size == nil {
			return 0, false
		}
		return r.Size.DatabaseBytes, true
	})); ok && got.Size != nil {
		t.Database = &Growth{
			Name: got.Database, Bytes: got.Size.DatabaseBytes,
			BytesPerDay: l.perDay, LowPerDay: l.low, HighPerDay: l.high,
		}
	}
	t.Disk = diskForecast(all)
	return t
}

// sameDatabase returns the Readings of the same database before this one,
// oldest first.
func sameDatabase(got *reading.Reading, earlier []*reading.Reading) []*reading.Reading {
	var all []*reading.Reading
	for _, e := range earlier {
		if e != nil && e.TakenAt.Before(got.TakenAt) && e.Database == got.Database &&
			e.Server.SystemIdentifier == got.Server.SystemIdentifier {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y *reading.Reading) int { return x.TakenAt.Compare(y.TakenAt) })
	return all
}

// sizes returns one size of each Reading that knows it.
func sizes(all []*reading.Reading, size func(*reading.Reading) (int64, bool)) []sample {
	var samples []sample
	for _, r := range all {
		if bytes, ok := size(r); ok {
			samples = append(samples, sample{r.TakenAt, bytes})
		}
	}
	return samples
}

// diskForecast fits what is used of the disk, by whomever, as far back as the
// disk has its present size. What else is on the disk fills it, too.
func diskForecast(all []*reading.Reading) *DiskForecast {
	used := diskUsed(all)
	l, ok := fit(used)
	if !ok {
		return nil
	}
	return forecast(all[len(all)-1].Host.DiskFreeBytes, l)
}

// diskUsed is what was used of the disk that the newest Reading knows.
func diskUsed(all []*reading.Reading) []sample {
	host := all[len(all)-1].Host
	if host == nil || host.DiskBytes <= 0 {
		return nil
	}
	return sizes(all, func(r *reading.Reading) (int64, bool) {
		if r.Host == nil || r.Host.DiskBytes != host.DiskBytes || r.Host.Source != host.Source {
			return 0, false
		}
		return r.Host.DiskBytes - r.Host.DiskFreeBytes, true
	})
}

// tableGrowth returns the tables that grow, fastest first, out of those that
// enough Readings have measured.
func tableGrowth(all []*reading.Reading) []Growth {
	type name struct{ schema, name string }
	measured := map[name][]sample{}
	for _, r := range all {
		if r.Tables == nil {
			continue
		}
		for i := range r.Tables.Items {
			if t := &r.Tables.Items[i]; t.Exact {
				n := name{t.Schema, t.Name}
				measured[n] = append(measured[n], sample{r.TakenAt, t.TotalBytes})
			}
		}
	}
	grown := []Growth{}
	now := all[len(all)-1].TakenAt
	for n, samples := range measured {
		last := samples[len(samples)-1]
		if l, ok := fit(samples); ok && l.grows() && last.at.Equal(now) {
			grown = append(grown, Growth{
				Name: sqltext.ReadableTable(n.schema, n.name), Bytes: last.bytes, BytesPerDay: l.perDay, LowPerDay: l.low, HighPerDay: l.high,
			})
		}
	}
	slices.SortFunc(grown, func(x, y Growth) int {
		return cmp.Or(cmp.Compare(y.BytesPerDay, x.BytesPerDay), cmp.Compare(x.Name, y.Name))
	})
	return grown[:min(len(grown), trendItems)]
}

// points turns Readings, oldest first, into at most MaxPoints. The last two
// always are among them.
func points(all []*reading.Reading) []Point {
	moments := make([]time.Time, len(all))
	for i, r := range all {
		moments[i] = r.TakenAt
	}
	kept := evenly(moments, MaxPoints-1)
	made := make([]Point, 0, MaxPoints)
	var before *reading.Reading
	for i, r := range all {
		_, found := slices.BinarySearchFunc(kept, r.TakenAt, time.Time.Compare)
		if !found && i != len(all)-2 {
			continue
		}
		made = append(made, point(r, before))
		before = r
	}
	return made
}

// point is a Reading as a Point, with rates since the one before, which may be
// nil.
func point(r, before *reading.Reading) Point {
	p := Point{At: r.TakenAt.UTC()}
	if r.Size != nil {
		p.DatabaseBytes = &r.Size.DatabaseBytes
	}
	if r.Host != nil && r.Host.DiskBytes > 0 {
		p.DiskFreeBytes = &r.Host.DiskFreeBytes
	}
	if c := r.Connections; c != nil {
		p.Connections, p.Waiting = &c.Used, &c.WaitingForLock
		if c.ByState != nil {
			active := 0
			for _, s := range c.ByState {
				if s.State == "active" {
					active += s.Connections
				}
			}
			p.Active = &active
		}
	}
	p.LagSeconds = lagOf(r)
	if before != nil {
		p.rates(r, before)
	}
	return p
}

// lagOf is the lag of the standby that is furthest behind, or of this one; nil
// where nobody knows it.
func lagOf(r *reading.Reading) *float64 {
	if r.Replication == nil {
		return nil
	}
	if replay := r.Replication.Replay; replay != nil {
		caughtUp := replay.ReceiverStatus == "streaming" && replay.ReceivedBytes != nil && replay.ReplayedBytes != nil &&
			*replay.ReceivedBytes == *replay.ReplayedBytes
		if caughtUp {
			// What is late on a quiet primary is nobody's.
			return new(float64)
		}
		return replay.DelaySeconds
	}
	var worst *float64
	for _, s := range r.Replication.Standbys {
		if s.WALStream() {
			continue
		}
		lag := s.ReplayLagSeconds
		if lag == nil && s.ReplayLagBytes != nil && *s.ReplayLagBytes == 0 && s.State == "streaming" {
			lag = new(float64)
		}
		if lag != nil && (worst == nil || *lag > *worst) {
			worst = lag
		}
	}
	return worst
}

// rates computes what happened since the Reading before. Counters that began
// anew in between say nothing.
func (p *Point) rates(r, before *reading.Reading) {
	span := r.TakenAt.Sub(before.TakenAt)
	if span <= 0 || !sameRun(r, before) {
		return
	}
	perSecond := func(n int64) *float64 {
		if n < 0 {
			return nil
		}
		rate := float64(n) / span.Seconds()
		return &rate
	}
	if x, y := r.Cache, before.Cache; x != nil && y != nil && sameMoment(x.StatsReset, y.StatsReset) {
		hits, reads := x.LifetimeHits-y.LifetimeHits, x.LifetimeReads-y.LifetimeReads
		if hits >= 0 && reads >= 0 && hits+reads > 0 {
			percent := 100 * float64(hits) / float64(hits+reads)
			p.CacheHitPercent = &percent
		}
	}
	if x, y := r.Transactions, before.Transactions; x != nil && y != nil && sameMoment(x.StatsReset, y.StatsReset) && x.Commits >= y.Commits {
		p.CommitsPerSecond = perSecond(x.Commits - y.Commits)
		p.RollbacksPerSecond = perSecond(x.Rollbacks - y.Rollbacks)
		p.TempBytesPerSecond = perSecond(x.TempBytes - y.TempBytes)
		if n := x.Deadlocks - y.Deadlocks; n >= 0 {
			p.Deadlocks = &n
		}
	}
	switch x, y := r.WAL, before.WAL; {
	case x != nil && y != nil:
		if sameMoment(x.StatsReset, y.StatsReset) {
			p.WALBytesPerSecond = perSecond(x.Bytes - y.Bytes)
		}
	case r.Replication != nil && before.Replication != nil && r.Server.Role == reading.RolePrimary:
		// Before PostgreSQL 14 the position in the WAL stands for what was
		// written.
		if x, y := r.Replication.CurrentBytes, before.Replication.CurrentBytes; x != nil && y != nil {
			p.WALBytesPerSecond = perSecond(*x - *y)
		}
	}
}

// sameRun reports whether both Readings are of one server that has not been
// restarted between. After a crash it starts anew by itself without a new start
// time; then the counters run backwards.
func sameRun(x, y *reading.Reading) bool {
	return x.Server.StartedAt.Equal(y.Server.StartedAt) && sameStatistics(x, y)
}

// sameStatistics reports whether both Readings, of one server's name, are of one
// machine's statistics and of one database: no failover or crash has put others
// in their place, and no restore or DROP DATABASE another database. What either
// doesn't know differs in nothing.
func sameStatistics(x, y *reading.Reading) bool {
	if x.Server.StatsReset != nil && y.Server.StatsReset != nil && !x.Server.StatsReset.Equal(*y.Server.StatsReset) {
		return false
	}
	return x.Server.Role == y.Server.Role && (x.DatabaseOID == y.DatabaseOID || x.DatabaseOID == 0 || y.DatabaseOID == 0)
}

// sameMoment reports whether statistics were last reset at the same moment, or
// never.
func sameMoment(x, y *time.Time) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	return x.Equal(*y)
}
