package monitor_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor"
)

func TestBackups(t *testing.T) {
	now := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	state := func(age time.Duration, proof pgmedic.Proof) *monitor.BackupState {
		return &monitor.BackupState{ID: "20261122T020000Z-7f3a9c", SnapshotAt: now.Add(-age), Proof: proof, ProofAt: now.Add(-age)}
	}
	const day = 24 * time.Hour
	for name, tt := range map[string]struct {
		backups *monitor.Backups
		want    []string // id and severity
	}{
		"not looked at": {nil, nil},
		"none":          {&monitor.Backups{}, []string{"backup-missing critical"}},
		"fresh and proven": {&monitor.Backups{Count: 1, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven)},
			nil},
		"at the lines": {&monitor.Backups{Count: 2, Newest: state(26*time.Hour, pgmedic.ProofTaken), Proven: state(8*day, pgmedic.ProofProven)},
			nil},
		"beyond the lines": {&monitor.Backups{Count: 2, Newest: state(26*time.Hour+time.Second, pgmedic.ProofTaken), Proven: state(8*day+time.Second, pgmedic.ProofProven)},
			[]string{"backup-old warn", "backup-unproven warn"}},
		"never proven": {&monitor.Backups{Count: 2, Newest: state(time.Hour, pgmedic.ProofVerified)},
			[]string{"backup-unproven warn"}},
		"failed": {&monitor.Backups{Count: 2, Newest: state(time.Hour, pgmedic.ProofFailed), Proven: state(2*day, pgmedic.ProofProven)},
			[]string{"backup-failed critical"}},
		"shrunk": {&monitor.Backups{
			Count: 2, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven),
			Shrunk: &monitor.ShrunkBackup{ID: "new", SnapshotAt: now.Add(-7 * day), Before: "old", RowsBefore: 10, Rows: 1},
		}, []string{"backup-shrunk warn"}},
		"shrunk long ago": {&monitor.Backups{
			Count: 2, Newest: state(time.Hour, pgmedic.ProofProven), Proven: state(time.Hour, pgmedic.ProofProven),
			Shrunk: &monitor.ShrunkBackup{ID: "new", SnapshotAt: now.Add(-7*day - time.Second), Before: "old", RowsBefore: 10, Rows: 1},
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			reading := &monitor.Reading{TakenAt: now, Database: "clinic", Backups: tt.backups}
			var got []string
			for _, f := range monitor.Analyse(reading, nil, monitor.DefaultThresholds()) {
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
