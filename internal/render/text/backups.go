package text

import (
	"strings"
	"time"

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
	defer p.recovery()
	if b.Newest == nil {
		p.items(2, plainly, []string{"none of this database"})
		return
	}
	facts := []string{
		words.Plural(b.Count, "backup"),
		"newest " + p.ago(b.Newest) + ", " + render.Claimed(b.Newest) + string(b.Newest.Proof),
	}
	if b.NewestShrunk() {
		facts[1] += ", shrunk"
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

// recovery writes to which moments the server could be recovered.
func (p *page) recovery() {
	r := p.report.Reading.Recovery
	if r == nil {
		return
	}
	facts := []string{"WAL " + r.State, "no moment can be recovered from it"}
	if r.Until != nil {
		facts[1] = "any moment until " + words.Ago(p.report.Reading.TakenAt, *r.Until) + " can be recovered"
		if r.From != nil {
			facts[1] = "any moment from " + words.Ago(p.report.Reading.TakenAt, *r.From) + strings.TrimPrefix(facts[1], "any moment")
		}
	}
	if r.Until != nil {
		facts = append(facts, provenWords(p.report.Reading.TakenAt, r))
	}
	if r.LagBytes > 0 {
		facts = append(facts, words.Bytes(r.LagBytes)+" not stored yet")
	}
	if r.Gaps > 0 {
		facts = append(facts, words.Plural(r.Gaps, "gap"))
	}
	p.items(2, plainly, facts)
}

// provenWords say which moment is the newest that a drill has proven.
func provenWords(now time.Time, r *reading.Recovery) string {
	switch {
	case r.Proven == nil && r.ClaimedDrills > 0:
		return "no moment proven that can be checked: " + words.Plural(r.ClaimedDrills, "drill") + " claimed"
	case r.Proven == nil:
		return "no moment proven yet"
	case r.Proven.Until == nil:
		return "proven until " + r.Proven.LSN
	}
	return "proven until " + words.Ago(now, *r.Proven.Until)
}
