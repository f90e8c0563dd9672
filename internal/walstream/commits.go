package walstream

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// keptCommits bounds the commits that are remembered: 100,000 take some 3 MiB. A failover
// that loses more is counted by a reader of the store.
const keptCommits = 100000

// commit is the end of a transaction in WAL.
type commit struct {
	start, end wal.LSN
	at         time.Time
}

// commits are the last ones of a timeline, so that those can be counted that a failover
// lost: a host that streams can't read what it has stored.
type commits struct {
	timeline wal.Timeline
	// from is the position from which on all are known, and to how far.
	from, to wal.LSN
	last     []commit
}

// begin takes account of a stream of a timeline that begins at a position. What it brings
// again is known already.
func (c *commits) begin(t wal.Timeline, from wal.LSN) {
	if c.timeline == t && c.from <= from && from <= c.to {
		return
	}
	*c = commits{timeline: t, from: from, to: from, last: c.last[:0]}
}

// read takes account of WAL that was read up to a position.
func (c *commits) read(to wal.LSN) { c.to = max(c.to, to) }

// forget takes account of WAL that could not be read: what is known begins behind it.
func (c *commits) forget(to wal.LSN) { c.from, c.to, c.last = to, to, c.last[:0] }

// add takes account of a commit.
func (c *commits) add(start, end wal.LSN, at time.Time) {
	if n := len(c.last); n > 0 && end <= c.last[n-1].end {
		return // it comes again
	}
	if len(c.last) == keptCommits {
		// Half at a time, so that a busy server is not slowed down by each.
		half := keptCommits / 2
		c.from = c.last[half-1].end
		c.last = append(c.last[:0], c.last[half:]...)
	}
	c.last = append(c.last, commit{start, end, at})
}

// within counts the commits of a branch. It is false where not all of it is known.
func (c *commits) within(b wal.Branch) (found wal.Commits, known bool) {
	if c.timeline != b.Timeline || b.From < c.from || b.To > c.to {
		return wal.Commits{}, false
	}
	for _, one := range c.last {
		if one.start >= b.From && one.end <= b.To {
			found = found.Add(one.at)
		}
	}
	return found, true
}

// DescribeBranch says what a failover lost. Known is false where the commits could not be
// counted.
func DescribeBranch(b wal.Branch, lost wal.Commits, known bool) string {
	const clock = "2006-01-02 15:04:05.00"
	switch {
	case !known:
		return fmt.Sprintf("failover from timeline %d to %d at %v: %s of WAL of timeline %d are not part of timeline %d; whether they hold commits could not be counted",
			b.Timeline, b.Next, b.From, words.Bytes(int64(b.To-b.From)), b.Timeline, b.Next)
	case lost.Count == 0:
		return fmt.Sprintf("failover from timeline %d to %d at %v lost no transaction", b.Timeline, b.Next, b.From)
	}
	what := "transactions"
	if lost.Count == 1 {
		what = "transaction"
	}
	return fmt.Sprintf("failover lost %s %s, %s to %s UTC; `restore --timeline %d` has them",
		words.Count(int64(lost.Count)), what, lost.First.UTC().Format(clock), lost.Last.UTC().Format(clock), b.Timeline)
}
