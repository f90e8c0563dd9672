package drill

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// SampleOptions say what is sampled. Required: Entries, Percent, Store, Now.
type SampleOptions struct {
	// Entries are the backups to choose from.
	Entries []catalog.Entry
	// Percent is the least share of all their stored bytes that is chosen.
	Percent float64
	// Store is the name of the place that is read, as receipts have it.
	Store string
	// HasKey reports whether encrypted backups can be read here.
	HasKey func(*pgmedic.Backup) bool
	Now    time.Time
}

// SamplePart is what a sample has of one backup.
type SamplePart struct {
	Percent float64
	Objects []pgmedic.Object
}

func (p *SamplePart) record(b *pgmedic.Backup, degree pgmedic.Proof) *pgmedic.Sample {
	s := &pgmedic.Sample{Percent: p.Percent, Objects: len(p.Objects), OfObjects: len(b.Objects), OfBytes: b.StoredBytes(), Degree: degree}
	for _, o := range p.Objects {
		s.Bytes += o.StoredBytes
	}
	return s
}

// piece is an object that a sample may have.
type piece struct {
	entry, object int
	size          int64
	since         time.Time
}

// ChooseSample chooses whole objects, those first that were not read for the
// longest time, until they are the share that is asked for, and at least one. It
// returns a part for each entry, nil where nothing is chosen.
//
// An object that was never read counts from when its backup was finished, so
// that new backups don't push old ones out: of runs with p percent each, every
// object of n stored bytes has been read once after some 100/p runs, however
// many backups come. When one was read is taken from the receipts of this store,
// those of drills apart; one that only had its hash compared counts as not read
// where this run can decrypt. Times in the future count as never.
func ChooseSample(o SampleOptions) []*SamplePart {
	var pieces []piece
	var total int64
	for i, e := range o.Entries {
		read := lastRead(e, o)
		for j, object := range e.Backup.Objects {
			since := e.Backup.FinishedAt
			if at, ok := read[object.Name]; ok && at.After(since) {
				since = at
			}
			if since.After(o.Now) {
				since = read[object.Name]
			}
			pieces = append(pieces, piece{entry: i, object: j, size: object.StoredBytes, since: since})
			total += object.StoredBytes
		}
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.since.Compare(b.since) })
	wanted := int64(math.Ceil(float64(total) * o.Percent / 100))
	var chosen int64
	n := 0
	for n < len(pieces) && (n == 0 || chosen < wanted) {
		chosen += pieces[n].size
		n++
	}
	pieces = pieces[:n]
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.object, b.object) }) // the manifest's order
	parts := make([]*SamplePart, len(o.Entries))
	for _, p := range pieces {
		if parts[p.entry] == nil {
			parts[p.entry] = &SamplePart{Percent: o.Percent}
		}
		parts[p.entry].Objects = append(parts[p.entry].Objects, o.Entries[p.entry].Backup.Objects[p.object])
	}
	return parts
}

// lastRead returns when each object was last read in this store, to the degree
// that this run reaches.
func lastRead(e catalog.Entry, o SampleOptions) map[string]time.Time {
	reach := degree(e.Backup, o.HasKey(e.Backup))
	read := map[string]time.Time{}
	for _, r := range e.Reads(o.Store) {
		had := r.Proof
		if r.Sample != nil {
			had = r.Sample.Degree
		}
		if r.At.After(o.Now) || reach == pgmedic.ProofVerified && had == pgmedic.ProofIntact {
			continue
		}
		for _, check := range r.Checks {
			if r.At.After(read[check.Name]) {
				read[check.Name] = r.At
			}
		}
	}
	return read
}

// ParsePercent reads 5% or 5. Its error is of KindUsage.
func ParsePercent(text string) (float64, error) {
	percent, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "%")), 64)
	if err != nil || math.IsNaN(percent) || percent <= 0 || percent > 100 {
		return 0, pgmedic.Errorf(pgmedic.KindUsage, "write it as 5%, more than 0 and not more than 100", "%q is not a percentage", text)
	}
	return percent, nil
}
