package main

import (
	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/shrunk"
)

// The events about backups that have far less than those before them.
const (
	backupShrunk    = "backup.shrunk"
	backupNotShrunk = "backup.not_shrunk"
)

// hintShrunk says what to do about one, once it is known what changed.
func hintShrunk(s *shrunk.Fall) string {
	return "if it was deleted by mistake, restore " + s.Before + "; if on purpose, the next backup --label " + shrunk.Label + "=" + shrunk.Expected
}

// tellShrunk warns of a backup that has far less than those before it.
func (j job) tellShrunk(id string, s *shrunk.Fall) {
	if s != nil {
		j.log.Warn("the backup has far less than those before it", "backup", id, "has", s.String(), "before", s.Before,
			"hint", "pgmedic diff "+s.Before+" "+id+" shows what changed; "+hintShrunk(s))
	}
}

// noteShrunk hands on that a backup has far less than those before it, or that it does not,
// which ends what was reported before. A partial backup says neither: it is not compared.
func (o *outcomes) noteShrunk(n *notifier, b *pgmedic.Backup, s *shrunk.Fall) {
	if o == nil || n == nil || b.Partial() {
		return
	}
	e := notify.Event{
		Name: backupNotShrunk, State: notify.StateResolved, Severity: pgmedic.SeverityInfo, At: n.now(), Target: n.target(b.Database.Name),
		Summary:  "backup " + b.ID + " no longer has far less than those before it",
		Evidence: []pgmedic.Evidence{{Name: "backup", Value: b.ID}},
	}
	switch {
	case s != nil:
		e.Name, e.State, e.Severity = backupShrunk, notify.StateFiring, pgmedic.SeverityWarn
		e.Summary = "backup " + b.ID + " has far less than those before it: " + s.String() + "; was data deleted?"
		e.Hint, e.Command = hintShrunk(s), "pgmedic diff "+s.Before+" "+b.ID
		e.Evidence = append(e.Evidence, pgmedic.Evidence{Name: "before", Value: s.Before})
	case b.Labels[shrunk.Label] == shrunk.Expected:
		e.Summary = "the label " + shrunk.Label + "=" + shrunk.Expected + " of backup " + b.ID + " says that the deletion was intended"
	}
	e.Fingerprint = notify.Fingerprint("backup", e.Target.Server, n.place(), b.Database.Name, "shrunk")
	o.events = append(o.events, e)
}
