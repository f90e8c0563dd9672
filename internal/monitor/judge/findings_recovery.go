package judge

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// recovery finds a server that can't be recovered to a moment of a little ago, or of which
// that is not known.
func (a *analysis) recovery() {
	r := a.reading.Recovery
	if r == nil {
		return
	}
	until := "Nothing can be recovered from it."
	if r.Until != nil {
		until = fmt.Sprintf("Until %s any moment can be recovered.", r.Until.UTC().Format("2006-01-02 15:04:05Z"))
	}
	find := func(id string, severity pgmedic.Severity, summary, fix string, evidence ...pgmedic.Evidence) {
		a.add(serverWide, pgmedic.Finding{
			ID: id, Section: reading.SectionBackups, Severity: severity, Object: "server", Summary: summary, Fix: fix,
			Evidence: append([]pgmedic.Evidence{evidenceText("state", r.State), evidenceText("reason", r.Why)}, evidence...),
		})
	}
	switch r.State {
	case "ok":
	case "behind":
		find("wal-behind", pgmedic.SeverityWarn, "The server has written WAL that is not stored, for longer than allowed. "+until, "pgmedic wal status",
			evidence("lag_bytes", r.LagBytes))
	case "broken":
		find("wal-broken", pgmedic.SeverityCritical, "WAL is missing, and what comes after it can't be recovered. "+until, "pgmedic backup --method physical",
			evidence("gaps", r.Gaps))
		return
	case "none":
		find("wal-missing", pgmedic.SeverityCritical, "WAL is to be stored, and none of this server is.", "pgmedic wal stream")
		return
	default:
		find("wal-unknown", pgmedic.SeverityWarn, "Whether the server has written more WAL than is stored is not known. "+until, "pgmedic wal status",
			evidenceTime("seen_at", r.SeenAt))
	}
	if r.Until != nil {
		a.provenMoment(r, find)
	}
	switch {
	case r.Reaches:
	case r.Unlisted:
		find("base-backup-missing", pgmedic.SeverityWarn, "The stored WAL needs a base backup, and the one that was taken is not in the store: whether it is kept is not known.",
			"pgmedic backup --method physical", evidence("base_backups", r.BaseBackups))
	default:
		find("base-backup-missing", pgmedic.SeverityCritical, "The stored WAL needs a base backup, and none in the store reaches its end. "+until,
			"pgmedic backup --method physical", evidence("base_backups", r.BaseBackups))
	}
}

// provenMoment finds that nothing of what was written lately was ever recovered by a drill.
func (a *analysis) provenMoment(r *reading.Recovery, find func(id string, severity pgmedic.Severity, summary, fix string, evidence ...pgmedic.Evidence)) {
	const id, fix = "moment-unproven", "pgmedic drill --at latest"
	p := r.Proven
	switch {
	case p == nil && r.ClaimedDrills > 0:
		find(id, pgmedic.SeverityInfo, "Whether a drill has proven any moment is not known: this host has no key that authenticates the receipts.",
			"pgmedic wal status", evidence("claimed_drills", r.ClaimedDrills))
	case p == nil:
		find(id, pgmedic.SeverityWarn, "No drill has ever proven that the server can be recovered to a moment from stored WAL.", fix)
	default:
		until := p.Until
		if until == nil { // it is older than its drill, by how much is not known
			until = &p.DrilledAt
		}
		age := a.reading.TakenAt.Sub(*until)
		if age <= a.limits.ProvenAge {
			return
		}
		find(id, pgmedic.SeverityWarn, fmt.Sprintf("The newest moment that a drill has proven is %s old; what was written since was never recovered.", words.Long(age)), fix,
			evidenceTime("proven_until", p.Until), evidenceTime("drilled_at", &p.DrilledAt), evidenceText("backups", strings.Join(p.Backups, ", ")),
			evidenceSeconds("age_seconds", age.Seconds()), evidenceSeconds("threshold_seconds", a.limits.ProvenAge.Seconds()))
	}
}
