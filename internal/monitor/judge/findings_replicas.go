package judge

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// unseenReplicas names the standbys that may use an index and were not asked:
// those that are configured and did not answer, those connected now, and those
// that a slot is kept for. It is false where it is not known which there are.
func (a *analysis) unseenReplicas() (names []string, known bool) {
	names = append(names, a.reading.UnaskedReplicas...)
	r := a.whole.Replication
	if r == nil || r.Standbys == nil {
		return names, false
	}
	var streams, ends []pgmedic.Stream
	follow := func(all []reading.Standby) {
		for _, s := range all {
			streams = append(streams, pgmedic.Stream{Name: s.Application, Slot: s.Slot})
		}
	}
	follow(r.Physical())
	for _, s := range r.Slots {
		if s.Type == "physical" && !s.Active && !s.Temporary {
			streams = append(streams, pgmedic.Stream{Slot: s.Name})
		}
	}
	for _, p := range a.reading.Replicas {
		follow(p.Standbys)
		ends = append(ends, pgmedic.Stream{Name: p.Application, Slot: p.Slot})
	}
	unmatched := pgmedic.Unmatched(streams, ends)
	for _, s := range a.lateStandbys() {
		same := func(x pgmedic.Stream) bool { return x == s }
		if !slices.ContainsFunc(streams, same) && !slices.ContainsFunc(ends, same) {
			unmatched = append(unmatched, s)
		}
	}
	for _, s := range unmatched {
		switch {
		case s.Name != "":
			names = append(names, sqltext.Readable(s.Name))
		case s.Slot != "":
			names = append(names, "the standby of slot "+sqltext.Readable(s.Slot))
		default:
			names = append(names, "a standby that this role may not see")
		}
	}
	return names, true
}

// lateStandbys are those that earlier looks, as far back as an index has to be known
// to be unused, saw connected to the server or to one of its replicas: one that is
// gone without a slot may come back.
func (a *analysis) lateStandbys() []pgmedic.Stream {
	var late []pgmedic.Stream
	for _, e := range a.earlier {
		if e.Server.SystemIdentifier != a.whole.Server.SystemIdentifier || a.reading.TakenAt.Sub(e.TakenAt) > max(a.limits.UnusedIndexAge, newAfter) {
			continue
		}
		var all []reading.Standby
		if e.Replication != nil {
			all = append(all, e.Replication.Physical()...)
		}
		for _, p := range e.Replicas {
			all = append(all, p.Standbys...)
		}
		for _, s := range all {
			stream := pgmedic.Stream{Name: s.Application, Slot: s.Slot}
			if stream != (pgmedic.Stream{}) && !slices.Contains(late, stream) {
				late = append(late, stream)
			}
		}
	}
	return late
}

// onReplicas says what the replicas that were asked know of an index: whether
// one of them uses it, and since when all of them are known not to. It is false
// where one of them doesn't know the index.
func (a *analysis) onReplicas(x reading.Index) (scans int64, since time.Time, known bool) {
	known = true
	for _, p := range a.reading.Replicas {
		i := slices.IndexFunc(p.Indexes, func(y reading.ReplicaIndex) bool { return y.OID == x.OID })
		if i < 0 {
			known = false
			continue
		}
		scans += p.Indexes[i].Scans
		if at := p.CountedSince(); at.After(since) {
			since = at
		}
	}
	return scans, since, known
}

// replicasSeen names the replicas that were asked.
func (a *analysis) replicasSeen() string {
	if len(a.reading.Replicas) == 0 {
		return "none"
	}
	var names []string
	for _, p := range a.reading.Replicas {
		names = append(names, fmt.Sprintf("%s since %s", p.Name, p.CountedSince().UTC().Format(time.DateOnly)))
	}
	return strings.Join(names, ", ")
}
