package retention_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestCertain is the formula: days, or the finest window, whichever is longer; for safety
// backups safety instead of the window.
func TestCertain(t *testing.T) {
	at := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		policy  retention.Policy
		purpose pgmedic.Purpose
		want    string
	}{
		"production":            {production(t), pgmedic.PurposeRegular, "2026-11-29 02:00"},
		"daily":                 {retention.Policy{Daily: length(t, "30d"), Monthly: length(t, "1y")}, pgmedic.PurposeRegular, "2026-12-28 02:00"},
		"yearly":                {retention.Policy{Yearly: length(t, "5y")}, pgmedic.PurposeRegular, "2031-11-28 02:00"},
		"days":                  {retention.Policy{Days: length(t, "30d")}, pgmedic.PurposeRegular, "2026-12-28 02:00"},
		"days, longer":          {retention.Policy{Days: length(t, "7d"), Hourly: length(t, "24h")}, pgmedic.PurposeRegular, "2026-12-05 02:00"},
		"days, shorter":         {retention.Policy{Days: length(t, "1d"), Daily: length(t, "14d")}, pgmedic.PurposeRegular, "2026-12-12 02:00"},
		"safety":                {production(t), pgmedic.PurposeSafety, "2026-12-12 02:00"},
		"safety, and days":      {retention.Policy{Days: length(t, "30d"), Safety: length(t, "14d")}, pgmedic.PurposeSafety, "2026-12-28 02:00"},
		"safety, without":       {retention.Policy{Daily: length(t, "30d")}, pgmedic.PurposeSafety, "2026-11-28 02:00"},
		"in the policy's zone":  {retention.Policy{Monthly: length(t, "1mo"), Location: time.FixedZone("east", 14*3600)}, pgmedic.PurposeRegular, "2026-12-28 02:00"},
		"keeps it all, no time": {retention.Policy{Last: 3, Safety: length(t, "14d")}, pgmedic.PurposeRegular, "0001-01-01 00:00"},
	} {
		if got := c.policy.Certain(at, c.purpose).Format("2006-01-02 15:04"); got != c.want {
			t.Errorf("%s: until %s, want %s", name, got, c.want)
		}
	}
}

// TestCertainIsEnough: what days or safety keep is certain, whenever it is asked.
func TestCertainIsEnough(t *testing.T) {
	for seed := range testkit.Amount(2_000, 10_000, 50_000) {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		p := policy(r)
		if p.Off() {
			continue
		}
		began := noon.Add(-time.Duration(r.IntN(100*24)) * time.Hour)
		purpose := []pgmedic.Purpose{pgmedic.PurposeRegular, pgmedic.PurposeSafety}[r.IntN(2)]
		kept := p.Days
		if purpose == pgmedic.PurposeSafety && p.Safety.Before(noon).Before(kept.Before(noon)) {
			kept = p.Safety
		}
		if began.After(kept.Before(noon)) && !p.Certain(began, purpose).After(noon) {
			t.Fatalf("%d: kept, since it is younger than %s, and certain only until %s", seed, kept, p.Certain(began, purpose))
		}
	}
}

// TestKeptUntil: what is settled stays so, whatever backups come: only a proof changes it.
func TestKeptUntil(t *testing.T) {
	settled := 0
	for seed := range testkit.Amount(2_000, 10_000, 50_000) {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		h, p := history(r), policy(r)
		decisions, _, _ := retention.Plan(h, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
		for _, d := range decisions {
			if !d.KeptUntil.IsZero() && (d.Verdict != retention.Keep || !d.KeptUntil.After(noon)) {
				t.Fatalf("%d: %+v", seed, d)
			}
			// A month that lacks the day adds up to three.
			until := d.KeptUntil.AddDate(0, 0, -4)
			if !d.KeptUntil.After(p.Certain(d.StartedAt, pgmedic.PurposeRegular)) || !until.After(noon) {
				continue // that is of the finest tier, in which another may come
			}
			settled++
			later := noon.Add(time.Duration(r.Int64N(int64(until.Sub(noon)))))
			more := h
			for range r.IntN(20) {
				more = append(more[:len(more):len(more)], taken(noon.Add(time.Duration(1+r.Int64N(int64(later.Sub(noon))+1)))))
			}
			then, _, _ := retention.Plan(more, p, retention.Circumstances{Now: later, Purpose: pgmedic.PurposeRegular})
			for _, x := range then {
				if x.ID == d.ID && x.Verdict != retention.Keep {
					t.Fatalf("%d: %s was kept until %s at least, and goes at %s: %s\npolicy %+v", seed, d.ID, d.KeptUntil, later, x.Why(), p)
				}
			}
		}
	}
	if settled < 500 {
		t.Errorf("of %d backups something was settled: the test shows little", settled)
	}
}
