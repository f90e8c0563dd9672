package monitor_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

func TestBackups(t *testing.T) {
	now := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	state := func(age time.Duration, proof pgmedic.Proof) *reading.BackupState {
		return &reading.BackupState{ID: "20261122T020000Z-7f3a9c", SnapshotAt: now.Add(-age), Proof: proof, ProofAt: now.Add(-age)}
	}
	const day = 24 * time.Hour
	for name, tt := range map[string]struct {
		backups *reading.Backups
		want    []string // id and severity
	}{
		"not looked at": {nil, nil},
		"none":          {&reading.Backups{}, []string{"backup-missing critical"}},
		"fresh and proven": {&reading.Backups{Count: 1, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven)},
			nil},
		"at the lines": {&reading.Backups{Count: 2, Newest: state(26*time.Hour, pgmedic.ProofTaken), Proven: state(8*day, pgmedic.ProofProven)},
			nil},
		"beyond the lines": {&reading.Backups{Count: 2, Newest: state(26*time.Hour+time.Second, pgmedic.ProofTaken), Proven: state(8*day+time.Second, pgmedic.ProofProven)},
			[]string{"backup-old warn", "backup-unproven warn"}},
		"never proven": {&reading.Backups{Count: 2, Newest: state(time.Hour, pgmedic.ProofVerified)},
			[]string{"backup-unproven warn"}},
		"failed": {&reading.Backups{Count: 2, Newest: state(time.Hour, pgmedic.ProofFailed), Proven: state(2*day, pgmedic.ProofProven)},
			[]string{"backup-failed critical"}},
		"shrunk": {&reading.Backups{
			Count: 2, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven),
			Shrunk: &reading.ShrunkBackup{ID: "new", SnapshotAt: now.Add(-7 * day), Before: "old", RowsBefore: 10, Rows: 1},
		}, []string{"backup-shrunk warn"}},
		"shrunk long ago": {&reading.Backups{
			Count: 2, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven),
			Shrunk: &reading.ShrunkBackup{ID: "new", SnapshotAt: now.Add(-7*day - time.Second), Before: "old", RowsBefore: 10, Rows: 1},
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reading.Reading{TakenAt: now, Database: "clinic", Backups: tt.backups}
			var got []string
			for _, f := range judge.Analyse(r, nil, reading.DefaultThresholds()) {
				got = append(got, f.ID+" "+string(f.Severity))
				if f.Object != "database clinic" || f.Summary == "" || f.Fix == "" || f.Docs != "findings.md#"+f.ID || f.Evidence == nil {
					t.Errorf("%+v", f)
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// TestBackupMissing: base backups by which the server can be recovered are backups of its
// databases, and what is not known of them is no clean bill.
func TestBackupMissing(t *testing.T) {
	now := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		recovery *reading.Recovery
		want     pgmedic.Severity
		says     string
	}{
		"no WAL":               {nil, pgmedic.SeverityCritical, "no backup of this database."},
		"WAL alone":            {&reading.Recovery{State: "ok"}, pgmedic.SeverityCritical, "no backup of this database."},
		"a window":             {&reading.Recovery{State: "ok", Reaches: true, Until: &now, BaseBackups: 1}, pgmedic.SeverityInfo, "any moment until 2026-11-23 02:00:00Z."},
		"a window, no time":    {&reading.Recovery{State: "ok", Reaches: true, BaseBackups: 1}, pgmedic.SeverityInfo, "until the end of the stored WAL."},
		"behind":               {&reading.Recovery{State: "behind", Reaches: true, Until: &now, BaseBackups: 1}, pgmedic.SeverityWarn, "is not known"},
		"not known":            {&reading.Recovery{State: "unknown", Reaches: true, Until: &now, BaseBackups: 1}, pgmedic.SeverityWarn, "is not known"},
		"before a gap":         {&reading.Recovery{State: "broken", Until: &now, BaseBackups: 1}, pgmedic.SeverityWarn, "is not known"},
		"one that is bad":      {&reading.Recovery{State: "ok", BaseBackups: 1}, pgmedic.SeverityCritical, "no backup of this database."},
		"a state of a version": {&reading.Recovery{State: "other", Reaches: true}, pgmedic.SeverityWarn, "is not known"},
	} {
		r := &reading.Reading{TakenAt: now, Database: "clinic", Backups: &reading.Backups{}, Recovery: tt.recovery}
		found := false
		for _, f := range judge.Analyse(r, nil, reading.DefaultThresholds()) {
			if f.ID != "backup-missing" {
				continue
			}
			found = true
			if f.Severity != tt.want || !strings.Contains(f.Summary, tt.says) || f.Fix == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !found {
			t.Errorf("%s: nothing is found", name)
		}
	}
}
