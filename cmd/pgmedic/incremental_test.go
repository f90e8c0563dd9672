package main

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// TestLeaseOfChain: what an incremental backup will need is not deleted while it is taken.
func TestLeaseOfChain(t *testing.T) {
	b := newWALBench(t)
	needed := b.backups[0]
	j, out := b.configured("")
	release := j.leaseChain(t.Context(), catalog.New(b.store), []*pgmedic.Backup{needed})
	try := func() error {
		out.Reset()
		return (&deleteCommand{job: j, retainer: newRetainer(j), backups: newBackups(j), id: needed.ID, flags: deleteFlags{reason: "x", dryRun: true, newest: true}}).run(t.Context())
	}
	if err := try(); pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), "a backup by ") || !strings.Contains(out.String(), " of all databases of clinic, taken ") {
		t.Errorf("%v\n%s", err, out)
	}
	release()
	if err := try(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
