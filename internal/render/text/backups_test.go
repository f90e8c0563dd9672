package text_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render/rendertest"
	"github.com/pgmedic/pgmedic/internal/render/text"
)

func TestBackupsInText(t *testing.T) {
	state := func(id string, age time.Duration, proof pgmedic.Proof) *reading.BackupState {
		return &reading.BackupState{ID: id, SnapshotAt: rendertest.Healthy().TakenAt.Add(-age), Proof: proof}
	}
	for want, backups := range map[string]*reading.Backups{
		"":                          nil,
		"  none of this database\n": {},
		"  1 backup · newest 3 h ago, taken · none proven\n  newest a\n": {
			Count: 1, Newest: state("a", 3*time.Hour, pgmedic.ProofTaken)},
		"  1,200 backups · newest 3 h ago, failed · newest proven 9 days ago\n  newest a · proven b\n": {
			Count: 1200, Newest: state("a", 3*time.Hour, pgmedic.ProofFailed), Proven: state("b", 9*24*time.Hour, pgmedic.ProofProven)},
	} {
		r := rendertest.Healthy()
		r.Backups, r.Recovery = backups, nil
		got := rendered(t, r, text.Options{})
		_, section, found := strings.Cut(got, "\nBackups ")
		_, section, _ = strings.Cut(section, "\n")
		section, _, _ = strings.Cut(section, "\n\n")
		if found != (backups != nil) || found && section+"\n" != want {
			t.Errorf("got %q, want %q", section, want)
		}
	}
}
