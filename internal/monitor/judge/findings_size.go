package judge

import (
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// kept finds databases that were set aside for longer than they are kept, and what
// restores left or forgot.
func (a *analysis) kept() {
	if a.reading.Size == nil {
		return
	}
	for _, k := range a.reading.Size.Kept {
		limit, summary := a.limits.KeepDisplaced, "A swap set it aside %s ago, and restore.keep_displaced is over: it takes disk space and still holds its rows."
		if k.State != pgmedic.StoryKept {
			limit, summary = a.limits.LeftDatabase, "A restore or a drill began it %s ago and has not finished it: most likely that run is dead, and it takes disk space."
		}
		if k.AgeSeconds < limit.Seconds() {
			continue
		}
		size := int64(0)
		if k.Bytes != nil {
			size = *k.Bytes
		}
		a.add(size, pgmedic.Finding{
			ID: "database-kept", Section: reading.SectionSize, Severity: pgmedic.SeverityWarn, Object: "database " + k.Name,
			Summary: fmt.Sprintf(summary, words.LongSeconds(k.AgeSeconds)),
			Evidence: []pgmedic.Evidence{
				evidenceText("of", k.Of), evidenceText("state", k.State), evidenceMaybe("size_bytes", k.Bytes),
				evidenceTime("since", &k.Since), evidenceSeconds("threshold_seconds", limit.Seconds()),
			},
			Fix:  "pgmedic prune",
			Risk: "Shows what it would drop and why, and asks. A database that is dropped can't be rolled back to.",
		})
	}
}

// rescued finds schemas of rescues that nobody dropped.
func (a *analysis) rescued() {
	if a.reading.Size == nil {
		return
	}
	for _, s := range a.reading.Size.Rescued {
		if s.AgeSeconds < a.limits.RescuedSchema.Seconds() {
			continue
		}
		a.add(0, pgmedic.Finding{
			ID: "rescue-left", Section: reading.SectionSize, Severity: pgmedic.SeverityWarn, Object: "schema " + s.Name,
			Summary: fmt.Sprintf("A rescue of single tables made it %s ago. It holds old rows, takes space, and no backup holds it.", words.LongSeconds(s.AgeSeconds)),
			Evidence: []pgmedic.Evidence{
				evidenceText("backup", s.Backup), evidence("tables", s.Tables), evidenceTime("since", &s.Since),
				evidenceSeconds("threshold_seconds", a.limits.RescuedSchema.Seconds()),
			},
			Fix:  "pgmedic prune --rescued " + s.Name,
			Risk: "Drops the rescued tables, and refuses where something depends on them. Take what is still needed out of them first; the backup has them too.",
		})
	}
}
