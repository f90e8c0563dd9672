package retention_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// chained turns backups of a history into chains, each the child of the one that was taken before,
// or a full one.
func chained(r *rand.Rand, h []retention.Backup) []retention.Backup {
	for i := range h {
		for j := range h {
			if h[j].StartedAt.Before(h[i].StartedAt) && r.IntN(3) > 0 && (h[i].Parent == "" || r.IntN(4) == 0) {
				h[i].Parent = h[j].ID
			}
		}
	}
	return h
}

// TestParentsStay: in random histories nothing that is kept, or that is still there, loses what it
// needs, in each run of prune until all that may go has gone, wherever a run breaks off.
func TestParentsStay(t *testing.T) {
	deleted := 0
	for seed := range uint64(testkit.Amount(2_000, 100_000, 100_000)) {
		r := rand.New(rand.NewPCG(seed, 7))
		h, p := chained(r, history(r)), policy(r)
		there := map[string]bool{}
		for _, b := range h {
			there[b.ID] = true
		}
		for i := range h { // what was lost before is not prune's
			if !there[h[i].Parent] {
				h[i].Parent = ""
			}
		}
		now := noon
		for range 4 {
			decisions, _, _ := retention.Plan(h, p, retention.Circumstances{Now: now, Purpose: pgmedic.PurposeRegular})
			verdicts := map[string]retention.Verdict{}
			for _, d := range decisions {
				verdicts[d.ID] = d.Verdict
			}
			for _, b := range h {
				if b.Parent == "" {
					continue
				}
				if verdicts[b.ID] == retention.Keep && verdicts[b.Parent] != retention.Keep {
					t.Fatalf("seed %d: %s is kept, and %s, which it needs, is not: %s", seed, b.ID, b.Parent, verdicts[b.Parent])
				}
				if verdicts[b.Parent] == retention.Delete {
					t.Fatalf("seed %d: %s is deleted, and %s, which needs it, is there", seed, b.Parent, b.ID)
				}
			}
			var left []retention.Backup
			for _, b := range h {
				switch verdicts[b.ID] {
				case retention.Delete:
					if deleted++; r.IntN(3) > 0 { // or the run breaks off
						continue
					}
				case retention.Mark:
					b.Mark = &catalog.Mark{At: now}
				case retention.Keep:
					b.Mark = nil
				case retention.Wait:
				}
				left = append(left, b)
			}
			h, now = left, now.Add(p.Grace+time.Hour)
		}
	}
	if deleted == 0 {
		t.Error("nothing was ever deleted, so that this proves nothing")
	}
}

// TestParentsReasons: a parent says what needs it, and is locked as long.
func TestParentsReasons(t *testing.T) {
	day := func(n int) time.Time { return noon.AddDate(0, 0, -n) }
	var h []retention.Backup
	for i := range 4 {
		b := retention.Backup{ID: fmt.Sprintf("b%d", i), StartedAt: day(40 - 10*i), Proof: pgmedic.ProofIntact}
		if i > 0 {
			b.Parent = fmt.Sprintf("b%d", i-1)
		}
		h = append(h, b)
	}
	decisions, _, _ := retention.Plan(h, retention.Policy{Days: length(t, "15d"), Grace: time.Hour}, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
	for _, d := range decisions {
		if d.Verdict != retention.Keep {
			t.Errorf("%s goes: %q", d.ID, d.Reasons)
		}
	}
	if got := decisions[3]; got.ID != "b0" || got.Why() != "backup b1 needs it" || !got.KeptUntil.Equal(decisions[0].KeptUntil) {
		t.Errorf("the full backup: %+v, and the newest is kept until %v", got, decisions[0].KeptUntil)
	}
}
