package walstream

import (
	"slices"

	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// failedOver says, once the server is on a timeline that is not stored yet, what of the
// stored WAL is not part of it.
func (r *runner) failedOver(survey *archive.Survey, h wal.History) {
	if slices.ContainsFunc(survey.Histories, func(known wal.History) bool { return known.Timeline == h.Timeline }) || len(h.Switches) == 0 {
		return
	}
	before := survey.Branches()
	after := survey.Stored
	after.Histories = append([]wal.History{h}, after.Histories...)
	for _, b := range after.Branches() {
		if slices.Contains(before, b) || r.told[b] {
			continue
		}
		r.told[b] = true // though its history may not be stored yet
		lost, known := r.commits.within(b)
		text := DescribeBranch(b, lost, known)
		if known && lost.Count == 0 {
			r.o.Logger.Info("the server has failed over", "summary", text, "from", b.From, "to", b.To)
			continue
		}
		r.o.Logger.Warn("the server has failed over", "summary", text, "from", b.From, "to", b.To)
		r.watch.news(NoticeFailover, "%s", text)
	}
}
