package render

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
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
		plural(b.Count, "backup"),
		"newest " + p.ago(b.Newest) + ", " + claimed(b.Newest) + string(b.Newest.Proof),
	}
	if b.Proven == nil {
		facts = append(facts, "none proven")
	} else {
		proven := "newest " + claimed(b.Proven) + "proven " + p.ago(b.Proven)
		if b.Proven.RecoverySeconds > 0 {
			proven += ", recovers in " + seconds(b.Proven.RecoverySeconds)
		}
		facts = append(facts, proven)
	}
	p.items(2, plainly, facts)
	ids := []string{"newest " + b.Newest.ID}
	if b.Newest.Proof != pgmedic.ProofProven && b.Proven != nil {
		ids = append(ids, "proven "+b.Proven.ID)
	}
	p.items(2, p.paint.faint, ids)
}

// claimed says that this host could not tell who wrote a proof.
func claimed(b *reading.BackupState) string {
	if b.Claimed {
		return "claimed: "
	}
	return ""
}

// ago is a backup's age when the reading was taken.
func (p *page) ago(b *reading.BackupState) string {
	return Ago(p.report.Reading.TakenAt, b.SnapshotAt)
}
