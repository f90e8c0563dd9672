package judge

import (
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// backups finds a database that could not be brought back, or not as it was
// lately, or of which nobody knows whether it could.
func (a *analysis) backups() {
	b := a.reading.Backups
	if b == nil {
		return
	}
	object := "database " + a.reading.Database
	find := func(id string, severity pgmedic.Severity, summary, fix string, evidence ...pgmedic.Evidence) {
		a.add(serverWide, pgmedic.Finding{
			ID: id, Section: reading.SectionBackups, Severity: severity, Object: object, Summary: summary, Fix: fix,
			Evidence: append([]pgmedic.Evidence{}, evidence...),
		})
	}
	if b.Newest == nil {
		a.backupMissing(find)
		return
	}
	if b.Newest.Proof == pgmedic.ProofFailed {
		find("backup-failed", pgmedic.SeverityCritical,
			"The newest backup was found bad: it is damaged, or does not restore to what it was.", "pgmedic show "+b.Newest.ID,
			evidenceText("backup", b.Newest.ID), evidenceTime("found_at", &b.Newest.ProofAt))
	}
	if s := b.Shrunk; s != nil && a.reading.TakenAt.Sub(s.SnapshotAt) <= a.limits.ShrunkAge {
		find("backup-shrunk", pgmedic.SeverityWarn,
			fmt.Sprintf("Backup %s has far less than those before it: was data deleted?", s.ID), "pgmedic diff "+s.Before+" "+s.ID,
			evidenceText("backup", s.ID), evidenceText("before", s.Before), evidence("rows_before", s.RowsBefore), evidence("rows", s.Rows),
			evidence("tables_before", s.TablesBefore), evidence("tables", s.Tables),
			evidence("bytes_before", s.BytesBefore), evidence("bytes", s.Bytes))
	}
	if age := a.reading.TakenAt.Sub(b.Newest.SnapshotAt); age > a.limits.BackupAge {
		find("backup-old", pgmedic.SeverityWarn,
			fmt.Sprintf("The newest backup is %s old; what was written since is in none.", words.Long(age)), "pgmedic backup",
			evidenceText("backup", b.Newest.ID), evidenceSeconds("age_seconds", age.Seconds()),
			evidenceSeconds("threshold_seconds", a.limits.BackupAge.Seconds()))
	}
	if b.Proven == nil {
		find("backup-unproven", pgmedic.SeverityWarn, "No backup of this database was ever proven to restore.", "pgmedic drill latest",
			evidence("backups", b.Count))
		return
	}
	if age := a.reading.TakenAt.Sub(b.Proven.SnapshotAt); age > a.limits.ProvenAge {
		find("backup-unproven", pgmedic.SeverityWarn,
			fmt.Sprintf("The newest backup that is proven to restore is %s old.", words.Long(age)), "pgmedic drill latest",
			evidenceText("backup", b.Proven.ID), evidenceSeconds("age_seconds", age.Seconds()),
			evidenceSeconds("threshold_seconds", a.limits.ProvenAge.Seconds()))
	}
}

// backupMissing finds a database without a backup of its own. Base backups of its server hold
// it, too, as far as it is known that they can be recovered.
func (a *analysis) backupMissing(find func(id string, severity pgmedic.Severity, summary, fix string, evidence ...pgmedic.Evidence)) {
	const id = "backup-missing"
	r := a.reading.Recovery
	if r == nil || !r.Reaches && r.Until == nil {
		find(id, pgmedic.SeverityCritical, "The store holds no backup of this database.", "pgmedic backup")
		return
	}
	until := "the end of the stored WAL"
	if r.Until != nil {
		until = r.Until.UTC().Format("2006-01-02 15:04:05Z")
	}
	bases := evidence("base_backups", r.BaseBackups)
	if r.Reaches && r.State == "ok" {
		find(id, pgmedic.SeverityInfo, "The store holds no backup of this database alone. Base backups of its server have it, and recover any moment until "+until+".", "pgmedic wal status", bases)
		return
	}
	find(id, pgmedic.SeverityWarn, "The store holds no backup of this database alone. Base backups of its server have it, and recover it until "+until+
		": whether that is all that was written is not known.", "pgmedic wal status", bases, evidenceText("state", r.State))
}
