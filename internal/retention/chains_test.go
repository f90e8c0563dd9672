package retention_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// chained turns backups of a history into chains, each the child of one that was taken before,
// or a full one.
func chained(r *rand.Rand, h []retention.Backup) []retention.Backup {
	if r.IntN(2) == 0 {
		return inTurns(r, h)
	}
	for i := range h {
		for j := range h {
			if h[j].StartedAt.Before(h[i].StartedAt) && r.IntN(3) > 0 && (h[i].Parent == "" || r.IntN(4) == 0) {
				h[i].Parent = h[j].ID
			}
		}
	}
	return h
}

// inTurns makes chains that follow each other: some backups are full, and others need the one
// before, or another one of its chain.
func inTurns(r *rand.Rand, h []retention.Backup) []retention.Backup {
	slices.SortFunc(h, func(a, b retention.Backup) int { return a.StartedAt.Compare(b.StartedAt) })
	full := 0
	for i := range h {
		h[i].Unclean, h[i].Refused = r.IntN(20) == 0, r.IntN(20) == 0 && !h[i].Proven
		switch r.IntN(8) {
		case 0, 1:
			full = i
		case 2:
			if full < i {
				h[i].Parent = h[full+r.IntN(i-full)].ID
			}
		default:
			if full < i {
				h[i].Parent = h[i-1].ID
			}
		}
	}
	return h
}

// restorable is the full backup that each backup is restored with, for those that can be: all that
// they need is there, and nothing bad is known of it. It looks from parents to children.
func restorable(h []retention.Backup) map[string]string {
	with := map[string]string{}
	for before := -1; before < len(with); {
		before = len(with)
		for _, b := range h {
			switch _, ok := with[b.Parent]; {
			case b.Proof == pgmedic.ProofFailed || b.Unclean:
			case b.Parent == "":
				with[b.ID] = b.ID
			case ok:
				with[b.ID] = with[b.Parent]
			}
		}
	}
	return with
}

// lostChain names a chain that goes before its time: there is no newer one, or one that was never
// proven. Full backups that have no incremental ones are not its matter.
func lostChain(h []retention.Backup, keeps func(id string) bool) string {
	with := restorable(h)
	newest, proven := map[string]retention.Backup{}, map[string]bool{}
	for _, b := range h {
		full, ok := with[b.ID]
		if !ok {
			continue
		}
		if other, taken := newest[full]; !taken || b.StartedAt.After(other.StartedAt) || b.StartedAt.Equal(other.StartedAt) && b.ID > other.ID {
			newest[full] = b
		}
		proven[full] = proven[full] || b.Proven
	}
	for full, b := range newest {
		if keeps(b.ID) {
			continue
		}
		newer, incremental, enough := 0, b.Parent != "", false
		for other, n := range newest {
			if n.StartedAt.After(b.StartedAt) || n.StartedAt.Equal(b.StartedAt) && n.ID > b.ID {
				newer, incremental, enough = newer+1, incremental || n.Parent != "", enough || proven[other]
			}
		}
		if newer == 0 || newer == 1 && incremental && !enough {
			return fmt.Sprintf("%s, the newest of the chain of %s, goes, and %d newer chains are not proven", b.ID, full, newer)
		}
	}
	return ""
}

// TestParentsStay: in random histories nothing that is kept, or that is still there, loses what it
// needs, in each run of prune until all that may go has gone, wherever a run breaks off; and no
// chain goes before one that came after it was proven.
func TestParentsStay(t *testing.T) {
	deleted, before := 0, 0
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
				if len(d.Reasons) == 1 && strings.HasPrefix(d.Reasons[0], "newest of the chain before") {
					before++
				}
			}
			if lost := lostChain(h, func(id string) bool { return verdicts[id] == retention.Keep }); lost != "" {
				t.Fatalf("seed %d: %s", seed, lost)
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
	if deleted == 0 || before < 10 {
		t.Errorf("%d backups were deleted, and %d kept for their chain alone: that proves little", deleted, before)
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

// TestChainBefore: the chain before the newest one stays until one of the newest is proven, and
// the one before that goes, as do full backups without incremental ones.
func TestChainBefore(t *testing.T) {
	// Three chains, of days 40 to 37, 30 to 27 and 20 to 17; the names say which.
	chains := func() (h []retention.Backup) {
		for i, first := range []int{40, 30, 20} {
			for n := range 3 {
				b := retention.Backup{ID: fmt.Sprintf("%d%d", i, n), StartedAt: noon.AddDate(0, 0, -first+n), Proof: pgmedic.ProofIntact}
				if n > 0 {
					b.Parent = fmt.Sprintf("%d%d", i, n-1)
				}
				h = append(h, b)
			}
		}
		return h
	}
	const newest, middle = "20 21 22", "10 11 12"
	for name, c := range map[string]struct {
		change func(h map[string]*retention.Backup)
		policy retention.Policy
		want   string
	}{
		"never drilled":          {func(map[string]*retention.Backup) {}, retention.Policy{}, middle + " " + newest},
		"the newest is proven":   {func(h map[string]*retention.Backup) { h["22"].Proven = true }, retention.Policy{}, newest},
		"its full one is proven": {func(h map[string]*retention.Backup) { h["20"].Proven = true }, retention.Policy{}, newest},
		"by a claim":             {func(h map[string]*retention.Backup) { h["21"].Proven, h["21"].Claimed = true, true }, retention.Policy{}, newest},
		"this host refuses it":   {func(h map[string]*retention.Backup) { h["22"].Refused = true }, retention.Policy{}, middle + " " + newest},
		"proven, and found bad":  {func(h map[string]*retention.Backup) { h["22"].Proven, h["22"].Proof = true, pgmedic.ProofFailed }, retention.Policy{}, middle + " " + newest},
		"proven, and its full one was found bad": {
			func(h map[string]*retention.Backup) { h["22"].Proven, h["20"].Proof = true, pgmedic.ProofFailed }, retention.Policy{}, "00 01 02 " + middle + " " + newest,
		},
		"the oldest is proven": {func(h map[string]*retention.Backup) { h["01"].Proven = true }, retention.Policy{}, "00 01 " + middle + " " + newest},
		"the middle is proven": {func(h map[string]*retention.Backup) { h["11"].Proven = true }, retention.Policy{}, middle + " " + newest},
		"the newest of the middle was found bad": {
			func(h map[string]*retention.Backup) { h["12"].Proof = pgmedic.ProofFailed }, retention.Policy{}, "10 11 " + newest,
		},
		"the full one of the middle is not clean": {func(h map[string]*retention.Backup) { h["10"].Unclean = true }, retention.Policy{}, "00 01 02 " + newest},
		"the newest is a full one":                {func(h map[string]*retention.Backup) { delete(h, "21"); delete(h, "22") }, retention.Policy{}, middle + " 20"},
		"the middle is a full one":                {func(h map[string]*retention.Backup) { delete(h, "11"); delete(h, "12") }, retention.Policy{}, "10 " + newest},
		"two full ones": {func(h map[string]*retention.Backup) {
			delete(h, "11")
			delete(h, "12")
			delete(h, "21")
			delete(h, "22")
		}, retention.Policy{}, "20"},
		"by hand":            {func(map[string]*retention.Backup) {}, retention.Unconditional(true), middle + " " + newest},
		"by hand, and meant": {func(map[string]*retention.Backup) {}, retention.Unconditional(false), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, byID := chains(), map[string]*retention.Backup{}
			for i := range h {
				byID[h[i].ID] = &h[i]
			}
			c.change(byID)
			h = slices.DeleteFunc(h, func(b retention.Backup) bool { return byID[b.ID] == nil })
			p := c.policy
			if p.Off() {
				p = retention.Policy{Days: length(t, "1d"), MaxShare: 1}
			}
			decisions, _, _ := retention.Plan(h, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
			var kept []string
			for _, d := range decisions {
				if d.Verdict == retention.Keep {
					kept = append(kept, d.ID)
				}
				if why := "newest of the chain before, and no backup of the chain of 20 is proven yet"; name == "never drilled" && d.ID == "12" && d.Why() != why {
					t.Errorf("it is kept because: %s", d.Why())
				}
			}
			slices.Sort(kept)
			if got := strings.Join(kept, " "); got != c.want {
				t.Errorf("kept are %s, want %s", got, c.want)
			}
		})
	}
}

// TestUndrilledChainsEnd: of a database that is never drilled two chains are left, however many
// there were, and one as soon as the newest is proven.
func TestUndrilledChainsEnd(t *testing.T) {
	p := retention.Policy{Days: length(t, "3d"), Last: 1, MaxShare: 1}
	var all []retention.Backup
	left := func(now time.Time) int {
		decisions, _, _ := retention.Plan(all, p, retention.Circumstances{Now: now, Purpose: pgmedic.PurposeRegular})
		all = carryOut(all, decisions, now)
		fulls := 0
		for _, b := range all {
			if b.Parent == "" {
				fulls++
			}
		}
		return fulls
	}
	now := noon
	for day := range 200 {
		b := taken(now)
		if day%7 > 0 {
			b.Parent = all[len(all)-1].ID
		}
		all = append(all, b)
		// What goes is marked first, and leaves from its newest end on, in a run each.
		for range 9 {
			left(now.Add(time.Hour))
		}
		if fulls := left(now.Add(time.Hour)); fulls != min(2, 1+day/7) {
			t.Fatalf("on day %d there are %d chains", day, fulls)
		}
		now = now.AddDate(0, 0, 1)
	}
	all[len(all)-1].Proven = true
	for range 9 {
		left(now)
	}
	if fulls := left(now); fulls != 1 {
		t.Errorf("after a drill there are %d chains", fulls)
	}
}
