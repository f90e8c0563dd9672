package monitor_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestRecovery: each state of the stored WAL has its finding, and only one in which any
// moment can be recovered has none.
func TestRecovery(t *testing.T) {
	now := time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC)
	old := now.Add(-9 * 24 * time.Hour)
	proven := &reading.ProvenMoment{Until: &now, LSN: "0/5000128", Backups: []string{"b"}, DrilledAt: now}
	for name, tt := range map[string]struct {
		recovery *reading.Recovery
		want     []string
	}{
		"none is stored":          {nil, nil},
		"ok":                      {&reading.Recovery{State: "ok", Reaches: true, Until: &now, Proven: proven, BaseBackups: 1}, nil},
		"behind":                  {&reading.Recovery{State: "behind", Reaches: true, Until: &now, Proven: proven}, []string{"wal-behind warn"}},
		"unknown":                 {&reading.Recovery{State: "unknown", Reaches: true, Until: &now, Proven: proven}, []string{"wal-unknown warn"}},
		"broken":                  {&reading.Recovery{State: "broken", Until: &now}, []string{"wal-broken critical"}},
		"missing":                 {&reading.Recovery{State: "none"}, []string{"wal-missing critical"}},
		"no base backup":          {&reading.Recovery{State: "ok"}, []string{"base-backup-missing critical"}},
		"one before a gap":        {&reading.Recovery{State: "ok", Until: &now, Proven: proven, BaseBackups: 1}, []string{"base-backup-missing critical"}},
		"one that is not stored":  {&reading.Recovery{State: "ok", Unlisted: true}, []string{"base-backup-missing warn"}},
		"unknown, no base backup": {&reading.Recovery{State: "unknown"}, []string{"base-backup-missing critical", "wal-unknown warn"}},
		"nothing proven":          {&reading.Recovery{State: "ok", Reaches: true, Until: &now}, []string{"moment-unproven warn"}},
		"nothing but claims":      {&reading.Recovery{State: "ok", Reaches: true, Until: &now, ClaimedDrills: 2}, []string{"moment-unproven info"}},
		"an old moment": {&reading.Recovery{State: "ok", Reaches: true, Until: &now, Proven: &reading.ProvenMoment{Until: &old, Backups: []string{"b"}, DrilledAt: now}},
			[]string{"moment-unproven warn"}},
		"an old drill": {&reading.Recovery{State: "ok", Reaches: true, Until: &now, Proven: &reading.ProvenMoment{LSN: "0/1", Backups: []string{"b"}, DrilledAt: old}},
			[]string{"moment-unproven warn"}},
		"a position alone": {&reading.Recovery{State: "ok", Reaches: true, Until: &now, Proven: &reading.ProvenMoment{LSN: "0/1", Backups: []string{"b"}, DrilledAt: now}}, nil},
		"a state of later": {&reading.Recovery{State: "other", Reaches: true}, []string{"wal-unknown warn"}},
	} {
		findings := judge.Analyse(&reading.Reading{Database: "clinic", TakenAt: now, Recovery: tt.recovery}, nil, reading.DefaultThresholds())
		var got []string
		for _, f := range findings {
			got = append(got, f.ID+" "+string(f.Severity))
			if f.Object != "server" || f.Summary == "" || f.Fix == "" || f.Docs != "findings.md#"+f.ID || f.Section != reading.SectionBackups {
				t.Errorf("%s: %+v", name, f)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
