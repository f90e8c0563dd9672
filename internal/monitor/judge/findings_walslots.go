package judge

import (
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// streamSlot begins the names that pgmedic gives the slots of its streams of WAL.
const streamSlot = "pgmedic_"

// unboundedSlots finds slots of streams of WAL for which the server keeps WAL without a
// bound. Others, of standbys, may be so on purpose.
func (a *analysis) unboundedSlots(r *reading.Replication) {
	var names []string
	retained := int64(0)
	for _, s := range r.Slots {
		if s.Type != "physical" || s.Temporary || !strings.HasPrefix(s.Name, streamSlot) {
			continue
		}
		names = append(names, sqltext.Readable(s.Name))
		if s.RetainedBytes != nil {
			retained = max(retained, *s.RetainedBytes)
		}
	}
	const setting = "max_slot_wal_keep_size" // which came with 13
	value, known := a.reading.Server.Setting(setting)
	old := a.reading.Server.VersionNum > 0 && a.reading.Server.VersionNum < 130000
	if len(names) == 0 || !old && (!known || value != "-1") {
		return
	}
	f := pgmedic.Finding{
		ID: "slot-unbounded", Section: reading.SectionReplication, Severity: pgmedic.SeverityWarn, Object: setting,
		Summary:  "It is not set, and pgmedic streams WAL from a slot: while nothing streams, WAL fills the disk, and the server stops.",
		Evidence: []pgmedic.Evidence{evidenceText("slots", strings.Join(names, ", ")), evidence("retained_bytes", retained)},
		Fix:      "ALTER SYSTEM SET " + setting + " = '50GB';\nSELECT pg_catalog.pg_reload_conf();",
		Risk: "Takes effect at once. Write as much as the disk has room for. A stream that is away for longer than the server takes to write that loses WAL, and a " +
			"new base backup is needed.",
	}
	if old {
		f.Severity, f.Object, f.Fix = pgmedic.SeverityCritical, "server", ""
		f.Summary = "PostgreSQL 12 can't bound how much WAL it keeps for a slot, and pgmedic streams WAL from one: while nothing streams, WAL fills the disk, and the server stops."
		f.Risk = "There is no fix to paste: upgrade, or alert on the free space of the disk and drop the slot in time (pgmedic wal stream --drop-slot)."
	}
	a.add(retained, f)
}
