package retention

import (
	"time"

	"github.com/pgmedic/pgmedic"
)

// Certain returns until when a backup that began at a time is kept at least, whatever
// backups come after it: as long as Days says, or the window of the finest tier that
// there is, whichever is longer; a safety backup as long as Safety says, too. The finest
// tier keeps the newest of each of its buckets, and every backup is that once, unless
// another comes in the same hour, or day: then the policy keeps it for less.
//
// It is the zero time where the policy is off, which keeps everything for as long as
// that does not change.
func (p Policy) Certain(startedAt time.Time, purpose pgmedic.Purpose) time.Time {
	if p.Off() {
		return time.Time{}
	}
	at := startedAt.In(p.location())
	lengths := []pgmedic.Length{p.Days}
	if tiers := p.tiers(); len(tiers) > 0 && purpose != pgmedic.PurposeSafety {
		lengths = append(lengths, tiers[0].window)
	}
	if purpose == pgmedic.PurposeSafety {
		lengths = append(lengths, p.Safety)
	}
	until := at
	for _, l := range lengths {
		if then := l.After(at); then.After(until) {
			until = then
		}
	}
	return until.UTC()
}
