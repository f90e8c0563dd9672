package retention_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func length(t testing.TB, text string) pgmedic.Length {
	t.Helper()
	l, err := pgmedic.ParseLength(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func production(t testing.TB) retention.Policy {
	return retention.Policy{
		Hourly: length(t, "24h"), Daily: length(t, "30d"), Weekly: length(t, "90d"), Monthly: length(t, "1y"),
		Last: 3, Safety: length(t, "14d"), Failed: length(t, "7d"), WeekStarts: time.Monday, Grace: 24 * time.Hour,
	}
}

func taken(at time.Time) retention.Backup {
	return retention.Backup{ID: catalog.NewID(at), StartedAt: at, Proof: pgmedic.ProofTaken, ProofAt: at, Bytes: 100}
}

// history is so many random backups before noon.
func history(r *rand.Rand) (all []retention.Backup) {
	span := time.Duration(1+r.IntN(3*365*24)) * time.Hour
	for range r.IntN(50) {
		b := taken(noon.Add(-time.Duration(r.Int64N(int64(span)))).Truncate(time.Second))
		b.ProofAt = b.StartedAt.Add(time.Duration(r.Int64N(int64(noon.Sub(b.StartedAt)) + 1)))
		switch r.IntN(5) {
		case 0:
			b.Proof, b.Proven, b.Claimed = pgmedic.ProofProven, r.IntN(4) > 0, r.IntN(3) == 0
		case 1:
			b.Proof = pgmedic.ProofFailed
		case 2:
			b.Proven = r.IntN(2) == 0 // in another store
		}
		if r.IntN(12) == 0 {
			b.Holds = []catalog.Hold{{Name: "legal", By: "ana", Reason: "118"}}
		}
		if r.IntN(3) == 0 {
			b.Mark = &catalog.Mark{At: noon.Add(-time.Duration(r.IntN(72)) * time.Hour)}
		}
		all = append(all, b)
	}
	return all
}

func policy(r *rand.Rand) retention.Policy {
	zones := []*time.Location{nil, time.UTC, time.FixedZone("east", 5*3600+1800), time.FixedZone("west", -11*3600)}
	p := retention.Policy{
		Last: r.IntN(5), Safety: pgmedic.Length{Days: r.IntN(20)}, Failed: pgmedic.Length{Days: r.IntN(10)},
		Location: zones[r.IntN(len(zones))], WeekStarts: []time.Weekday{time.Monday, time.Sunday}[r.IntN(2)],
		Grace: time.Duration(r.IntN(48)) * time.Hour, MaxShare: []float64{0, 0.3, 1}[r.IntN(3)], StaleAfter: -1,
	}
	if r.IntN(2) == 0 {
		p.Hourly.Rest = time.Duration(r.IntN(72)) * time.Hour
	}
	if r.IntN(2) == 0 {
		p.Daily.Days = r.IntN(60)
	}
	if r.IntN(2) == 0 {
		p.Weekly.Days = 7 * r.IntN(20)
	}
	if r.IntN(2) == 0 {
		p.Monthly.Months = r.IntN(24)
	}
	if r.IntN(2) == 0 {
		p.Yearly.Years = r.IntN(3)
	}
	if r.IntN(3) == 0 {
		p.Days.Days = r.IntN(40)
	}
	return p
}

// TestNeverDropped holds what the plan says of random histories and policies against
// what it never may say.
func TestNeverDropped(t *testing.T) {
	for seed := range testkit.Amount(1_000, 100_000, 100_000) {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		h, p := history(r), policy(r)
		c := retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular}
		if problem := brokenPromise(h, p, c); problem != "" {
			t.Fatalf("history %d: %s\npolicy %+v\nhistory %+v", seed, problem, p, h)
		}
	}
}

func brokenPromise(h []retention.Backup, p retention.Policy, c retention.Circumstances) string {
	decisions, stopped, _ := retention.Plan(h, p, c)
	verdicts := map[string]retention.Decision{}
	for _, d := range decisions {
		verdicts[d.ID] = d
		if len(d.Reasons) == 0 {
			return d.ID + " has no reason"
		}
		if stopped != "" && d.Verdict != retention.Keep {
			return d.ID + " goes though the plan stopped: " + stopped
		}
	}
	if len(decisions) != len(h) || len(verdicts) != len(h) {
		return "not one decision for each backup"
	}
	keeps := func(b retention.Backup) bool { return verdicts[b.ID].Verdict == retention.Keep }
	newest := slices.SortedFunc(slices.Values(h), func(a, b retention.Backup) int {
		if n := b.StartedAt.Compare(a.StartedAt); n != 0 {
			return n
		}
		return strings.Compare(b.ID, a.ID)
	})
	first := func(what string, is func(retention.Backup) bool) string {
		if i := slices.IndexFunc(newest, is); i >= 0 && !keeps(newest[i]) {
			return "the newest " + what + " goes: " + newest[i].ID
		}
		return ""
	}
	sound := 0
	for _, b := range newest {
		d := verdicts[b.ID]
		switch {
		case len(b.Holds) > 0 && !keeps(b):
			return b.ID + " is held and goes"
		case !p.Days.IsZero() && b.StartedAt.After(p.Days.Before(noon)) && !keeps(b):
			return b.ID + " is young and goes"
		case p.Off() && !keeps(b):
			return b.ID + " goes without a policy"
		case d.Verdict == retention.Delete && (b.Mark == nil || noon.Sub(b.Mark.At) < p.Grace):
			return b.ID + " is deleted before it was marked for the grace"
		case d.Verdict == retention.Mark && b.Mark != nil, d.Verdict == retention.Wait && b.Mark == nil, d.Unmark && (b.Mark == nil || !keeps(b)):
			return b.ID + " has a mark that its verdict contradicts"
		}
		if b.Proof != pgmedic.ProofFailed {
			if sound++; sound <= p.Last && !keeps(b) {
				return b.ID + " is one of the last and goes"
			}
		}
	}
	for _, problem := range []string{
		first("backup", func(retention.Backup) bool { return true }),
		first("that was not found bad", func(b retention.Backup) bool { return b.Proof != pgmedic.ProofFailed }),
		first("proven", func(b retention.Backup) bool { return b.Proven && b.Proof != pgmedic.ProofFailed }),
		first("proven here", func(b retention.Backup) bool { return b.Proof == pgmedic.ProofProven }),
		first("authentically proven", func(b retention.Backup) bool {
			return b.Proven && !b.Claimed && b.Proof != pgmedic.ProofFailed
		}),
		emptyBucket(h, keeps, p),
	} {
		if problem != "" {
			return problem
		}
	}
	return unstable(h, decisions, p, c)
}

// emptyBucket names a bucket that overlaps its window that has a backup and keeps none, or keeps
// a worse one than it has.
func emptyBucket(h []retention.Backup, keeps func(retention.Backup) bool, p retention.Policy) string {
	zone := p.Location
	if zone == nil {
		zone = time.UTC
	}
	monday := func(t time.Time) string {
		for t.Weekday() != p.WeekStarts {
			t = t.AddDate(0, 0, -1)
		}
		return t.Format(time.DateOnly)
	}
	for name, tier := range map[string]struct {
		window pgmedic.Length
		bucket func(time.Time) string
	}{
		"hourly":  {p.Hourly, func(t time.Time) string { return t.Format("2006-01-02 15") }},
		"daily":   {p.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		"weekly":  {p.Weekly, monday},
		"monthly": {p.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		"yearly":  {p.Yearly, func(t time.Time) string { return t.Format("2006") }},
	} {
		if tier.window.IsZero() {
			continue
		}
		has, kept := map[string]int{}, map[string]int{}
		for _, b := range h {
			if tier.bucket(b.StartedAt.In(zone)) < tier.bucket(tier.window.Before(noon.In(zone))) {
				continue
			}
			rank := 2
			if b.Proof == pgmedic.ProofFailed {
				rank = 1
			} else if b.Proven {
				rank = 3
			}
			bucket := tier.bucket(b.StartedAt.In(zone))
			has[bucket] = max(has[bucket], rank)
			if keeps(b) {
				kept[bucket] = max(kept[bucket], rank)
			}
		}
		for bucket := range has {
			if kept[bucket] < has[bucket] {
				return fmt.Sprintf("%s %s keeps none as good as it has", name, bucket)
			}
		}
	}
	return ""
}

// unstable says where the plan depends on the order of its backups, or takes more once
// it was carried out.
func unstable(h []retention.Backup, want []retention.Decision, p retention.Policy, c retention.Circumstances) string {
	shuffled := slices.Clone(h)
	slices.Reverse(shuffled)
	if got, _, _ := retention.Plan(shuffled, p, c); !reflect.DeepEqual(got, want) {
		return "another order gives another plan"
	}
	var left []retention.Backup
	for _, b := range h {
		d := want[slices.IndexFunc(want, func(d retention.Decision) bool { return d.ID == b.ID })]
		switch {
		case d.Verdict == retention.Delete:
			continue
		case d.Verdict == retention.Mark:
			b.Mark = &catalog.Mark{At: noon}
		case d.Unmark:
			b.Mark = nil
		}
		left = append(left, b)
	}
	again, _, _ := retention.Plan(left, p, c)
	for _, d := range again {
		before := want[slices.IndexFunc(want, func(w retention.Decision) bool { return w.ID == d.ID })]
		if before.Verdict == retention.Keep && d.Verdict != retention.Keep {
			return d.ID + " was kept, and goes once the plan was carried out"
		}
	}
	return ""
}

// TestReplay takes a backup each hour for three years, proves one a day, and prunes once
// a day. No older bucket ever has fewer than the policy says.
func TestReplay(t *testing.T) {
	p := production(t)
	begin := noon.AddDate(-3, 0, 0)
	var all []retention.Backup
	r := rand.New(rand.NewPCG(1, 2))
	for now := begin; now.Before(noon); now = now.Add(time.Hour) {
		all = append(all, taken(now.Add(time.Minute)))
		if now.Hour() != 3 {
			continue
		}
		i := len(all) - 1 - r.IntN(min(len(all), 24))
		all[i].Proof, all[i].Proven, all[i].ProofAt = pgmedic.ProofProven, true, now
		at := now.Add(30 * time.Minute)
		decisions, stopped, _ := retention.Plan(all, p, retention.Circumstances{Now: at, Purpose: pgmedic.PurposeRegular})
		if stopped != "" {
			t.Fatalf("%s: %s", at, stopped)
		}
		all = carryOut(all, decisions, at)
		for _, tier := range []struct {
			name   string
			window pgmedic.Length
			format string
			back   func(time.Time, int) time.Time
		}{
			{"hourly", p.Hourly, "2006-01-02 15", func(t time.Time, n int) time.Time { return t.Add(-time.Duration(n) * time.Hour) }},
			{"daily", p.Daily, time.DateOnly, func(t time.Time, n int) time.Time { return t.AddDate(0, 0, -n) }},
			{"monthly", p.Monthly, "2006-01", func(t time.Time, n int) time.Time {
				return time.Date(t.Year(), t.Month()-time.Month(n), 28, 0, 0, 0, 0, t.Location())
			}},
		} {
			there := map[string]bool{}
			for _, b := range all {
				there[b.StartedAt.Format(tier.format)] = true
			}
			for n := 1; ; n++ {
				bucket := tier.back(at, n)
				if bucket.Before(tier.window.Before(at)) || bucket.Before(begin.AddDate(0, 0, 1)) {
					break
				}
				if !there[bucket.Format(tier.format)] {
					t.Fatalf("%s: %s %s has no backup", at, tier.name, bucket.Format(tier.format))
				}
			}
		}
	}
	decisions, _, _ := retention.Plan(all, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
	counts := map[string]int{}
	for _, d := range decisions {
		for _, why := range d.Reasons {
			name, _, _ := strings.Cut(why, " ")
			counts[name]++
		}
	}
	for name, want := range map[string]int{"hourly": 24, "daily": 30, "weekly": 13, "monthly": 12} {
		if got := counts[name]; got < want-1 || got > want+1 {
			t.Errorf("%d %s, want %d and one more or less", got, name, want)
		}
	}
	if counts["newest"] < 2 || counts["last"] != 3 {
		t.Errorf("reasons are %v", counts)
	}
}

func carryOut(all []retention.Backup, decisions []retention.Decision, at time.Time) (left []retention.Backup) {
	verdicts := map[string]retention.Decision{}
	for _, d := range decisions {
		verdicts[d.ID] = d
	}
	for _, b := range all {
		switch d := verdicts[b.ID]; {
		case d.Verdict == retention.Delete:
			continue
		case d.Verdict == retention.Mark:
			b.Mark = &catalog.Mark{At: at}
		case d.Unmark:
			b.Mark = nil
		}
		left = append(left, b)
	}
	return left
}

// TestMarks: what is not needed is marked, waits for the grace, and goes; a hold, a proof
// or another policy takes the mark off.
func TestMarks(t *testing.T) {
	p := retention.Policy{Days: length(t, "30d"), Grace: 24 * time.Hour}
	old := func(mark time.Duration) retention.Backup {
		b := taken(noon.AddDate(0, 0, -40))
		if mark >= 0 {
			b.Mark = &catalog.Mark{At: noon.Add(-mark)}
		}
		return b
	}
	held := old(30 * time.Hour)
	held.Holds = []catalog.Hold{{Name: "legal"}}
	proven := old(30 * time.Hour)
	proven.Proof, proven.Proven = pgmedic.ProofProven, true
	for name, test := range map[string]struct {
		old    retention.Backup
		want   retention.Verdict
		unmark bool
	}{
		"new":            {old(-1), retention.Mark, false},
		"just marked":    {old(time.Hour), retention.Wait, false},
		"at the limit":   {old(24 * time.Hour), retention.Delete, false},
		"long since":     {old(30 * time.Hour), retention.Delete, false},
		"held meanwhile": {held, retention.Keep, true},
		"proven":         {proven, retention.Keep, true},
	} {
		t.Run(name, func(t *testing.T) {
			decisions, stopped, _ := retention.Plan([]retention.Backup{test.old, taken(noon)}, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
			if d := decisions[1]; d.Verdict != test.want || d.Unmark != test.unmark || stopped != "" {
				t.Errorf("%+v, %q", d, stopped)
			}
		})
	}
}

// TestStoreTimeCounts: a mark that says it is older than the store knows is as old as
// the store says.
func TestStoreTimeCounts(t *testing.T) {
	b := taken(noon.AddDate(0, 0, -40))
	b.Mark = &catalog.Mark{At: noon.AddDate(-1, 0, 0), StoredAt: noon.Add(-time.Hour)}
	decisions, _, _ := retention.Plan([]retention.Backup{b, taken(noon)},
		retention.Policy{Days: length(t, "30d"), Grace: 24 * time.Hour}, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
	if decisions[1].Verdict != retention.Wait {
		t.Errorf("%+v", decisions[1])
	}
}

func TestStops(t *testing.T) {
	daily := func(n int) (all []retention.Backup) {
		for i := range n {
			all = append(all, taken(noon.AddDate(0, 0, -i)))
		}
		return all
	}
	few := retention.Policy{Days: length(t, "3d"), Grace: time.Hour}
	all := few
	all.MaxShare = 1
	future := append(daily(40), taken(noon.Add(time.Hour)))
	for name, test := range map[string]struct {
		backups []retention.Backup
		policy  retention.Policy
		stop    string
		want    string
	}{
		"greedy":               {daily(40), few, "", "of 40 days that have a backup 37 would have none"},
		"allowed":              {daily(40), all, "", ""},
		"a few are never many": {daily(6), few, "", ""},
		"from the future":      {future, all, "", "began 1 h in the future"},
		"from outside":         {daily(40), all, "the clock", "the clock"},
		"nothing to delete":    {daily(3), few, "the clock", ""},
	} {
		t.Run(name, func(t *testing.T) {
			decisions, stopped, _ := retention.Plan(test.backups, test.policy,
				retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular, Stop: test.stop})
			if test.want == "" && stopped != "" || !strings.Contains(stopped, test.want) {
				t.Errorf("stopped: %q, want %q", stopped, test.want)
			}
			for _, d := range decisions {
				if stopped != "" && d.Verdict != retention.Keep {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

// TestHourlyIsNotGreedy: that most hourly backups of a day go is what daily means.
func TestHourlyIsNotGreedy(t *testing.T) {
	var all []retention.Backup
	for i := range 9 * 24 {
		all = append(all, taken(noon.Add(-time.Duration(i)*time.Hour)))
	}
	_, stopped, _ := retention.Plan(all, retention.Policy{Daily: length(t, "7d")}, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
	if stopped != "" {
		t.Error(stopped)
	}
}

func TestSafety(t *testing.T) {
	p := production(t)
	all := []retention.Backup{taken(noon.AddDate(0, 0, -5)), taken(noon.AddDate(0, 0, -20))}
	for name, test := range map[string]struct {
		backups   []retention.Backup
		displaced bool
		want      []retention.Verdict
	}{
		"young and old":                {all, false, []retention.Verdict{retention.Keep, retention.Mark}},
		"old, of a kept database":      {all[1:], true, []retention.Verdict{retention.Keep}},
		"old, of a database that left": {all[1:], false, []retention.Verdict{retention.Mark}},
	} {
		t.Run(name, func(t *testing.T) {
			decisions, _, _ := retention.Plan(test.backups, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeSafety, Displaced: test.displaced})
			for i, d := range decisions {
				if d.Verdict != test.want[i] {
					t.Errorf("%s: %s (%s), want %s", d.ID, d.Verdict, d.Why(), test.want[i])
				}
			}
		})
	}
}

// TestShrunkKeeps: while the newest backup has far less than those before it, the one that still
// has it is not deleted, however old it is; once the newest is not shrunk any more it goes.
func TestShrunkKeeps(t *testing.T) {
	full := taken(noon.Add(-400 * 24 * time.Hour))
	full.Mark = &catalog.Mark{At: noon.Add(-48 * time.Hour)}
	series := []retention.Backup{full}
	for day := range 40 {
		series = append(series, taken(noon.Add(-time.Duration(day)*24*time.Hour)))
	}
	verdict := func(from string, at int) retention.Verdict {
		all := slices.Clone(series)
		all[at].ShrunkFrom = from
		decisions, _, _ := retention.Plan(all, production(t), retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
		for _, d := range decisions {
			if d.ID == full.ID {
				return d.Verdict
			}
		}
		t.Fatal("no decision")
		return ""
	}
	if v := verdict(full.ID, 1); v != retention.Keep {
		t.Errorf("what the newest lacks: %s", v)
	}
	for name, v := range map[string]retention.Verdict{
		"the newest is not shrunk": verdict("", 1), "an older one is": verdict(full.ID, 2), "the one with more is gone": verdict("other", 1),
	} {
		if v != retention.Delete {
			t.Errorf("%s: %s", name, v)
		}
	}
}

// TestUnconditional: by the policy for one chosen backup everything goes but what no policy
// lets go, and what is held does not go whatever a person says.
func TestUnconditional(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 118))
	for range 2000 {
		all := history(r)
		for _, purpose := range []pgmedic.Purpose{pgmedic.PurposeRegular, pgmedic.PurposeSafety} {
			for _, newest := range []bool{true, false} {
				decisions, stopped, _ := retention.Plan(all, retention.Unconditional(newest), retention.Circumstances{Now: noon, Purpose: purpose, Displaced: true})
				if stopped != "" {
					t.Fatalf("stopped: %s", stopped)
				}
				for i, d := range decisions {
					j := slices.IndexFunc(all, func(b retention.Backup) bool { return b.ID == d.ID })
					kept := d.Verdict == retention.Keep
					switch {
					case len(all[j].Holds) > 0 && !kept, newest && i == 0 && !kept:
						t.Fatalf("newest %v, backup %d of %d goes: %+v", newest, i, len(all), all[j])
					case !newest && kept && len(all[j].Holds) == 0:
						t.Fatalf("backup %d of %d is kept: %v", i, len(all), d.Reasons)
					}
				}
				if first := slices.IndexFunc(decisions, func(d retention.Decision) bool {
					j := slices.IndexFunc(all, func(b retention.Backup) bool { return b.ID == d.ID })
					return all[j].Proven && all[j].Proof != pgmedic.ProofFailed
				}); newest && purpose == pgmedic.PurposeRegular && first >= 0 && decisions[first].Verdict != retention.Keep {
					t.Fatalf("the newest proven goes: %+v", decisions[first])
				}
			}
		}
	}
}
