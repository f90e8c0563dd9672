package text

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

// backups writes how far back the database could be brought, and how that is
// known.
func (p *page) backups() {
	b := p.report.Reading.Backups
	if b == nil {
		return
	}
	p.title("Backups")
	if b.Newest == nil {
		p.items(2, plainly, []string{"none of this database"})
		return
	}
	facts := []string{
		words.Plural(b.Count, "backup"),
		"newest " + p.ago(b.Newest) + ", " + render.Claimed(b.Newest) + string(b.Newest.Proof),
	}
	if b.Proven == nil {
		facts = append(facts, "none proven")
	} else {
		proven := "newest " + render.Claimed(b.Proven) + "proven " + p.ago(b.Proven)
		if b.Proven.RecoverySeconds > 0 {
			proven += ", recovers in " + words.Seconds(b.Proven.RecoverySeconds)
		}
		facts = append(facts, proven)
	}
	p.items(2, plainly, facts)
	ids := []string{"newest " + b.Newest.ID}
	if b.Newest.Proof != pgmedic.ProofProven && b.Proven != nil {
		ids = append(ids, "proven "+b.Proven.ID)
	}
	p.items(2, p.paint.Faint, ids)
}

// ago is a backup's age when the reading was taken.
func (p *page) ago(b *reading.BackupState) string {
	return words.Ago(p.report.Reading.TakenAt, b.SnapshotAt)
}
