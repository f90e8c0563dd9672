package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
)

// TestLatestBesideBases: where there are base backups alone, that is said.
func TestLatestBesideBases(t *testing.T) {
	f := newFixture(t)
	b := backup(0)
	f.put(t, "main/@cluster/"+b.ID+"/manifest.json", "{}")
	_, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main"})
	if pgmedic.KindOf(err) != pgmedic.KindNotFound || !strings.Contains(err.Error(), "base backups") || !strings.Contains(pgmedic.HintOf(err), "--target-dir") {
		t.Errorf("%v (%s)", err, pgmedic.HintOf(err))
	}
}

// TestLatestOfClocks: which of two is newer is what the manifests say, as long as
// no clock is plainly wrong.
func TestLatestOfClocks(t *testing.T) {
	const now, ahead = 3 * 60, 30 * 24 * 60 // minutes after noon
	for name, test := range map[string]struct {
		taken  []int // in this order, in minutes by the clock of their host
		safety int   // a safety backup, too, at this minute
		want   int   // or -1 for an error
		hint   int   // that names this one
	}{
		"in order":                              {[]int{10, 20, 30}, 0, 30, 0},
		"a clock went back":                     {[]int{30, 20, 10}, 0, 30, 0},
		"a little ahead":                        {[]int{10, now + 59}, 0, now + 59, 0},
		"from the future":                       {[]int{10, ahead}, 0, -1, 10},
		"from the future, taken first":          {[]int{ahead, 10}, 0, -1, 10},
		"all from the future":                   {[]int{ahead, ahead + 1}, 0, -1, ahead + 1},
		"only the safety backup":                {[]int{10, 20}, ahead, 20, 0},
		"a safety backup is not what is hinted": {[]int{10, ahead}, 20, -1, 10},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			commit := func(minute int, purpose pgmedic.Purpose) {
				b := backup(0)
				b.StartedAt = noon.Add(time.Duration(minute) * time.Minute)
				b.FinishedAt = b.StartedAt
				b.ID = catalog.NewID(b.StartedAt)
				b.Purpose = purpose
				b.Labels = map[string]string{"minute": b.StartedAt.String()}
				f.commit(t, b)
			}
			for _, minute := range test.taken {
				commit(minute, pgmedic.PurposeRegular)
			}
			if test.safety != 0 {
				commit(test.safety, pgmedic.PurposeSafety)
			}
			id := func(minute int) string {
				return noon.Add(time.Duration(minute) * time.Minute).Format("20060102T150405Z")
			}
			e, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main", Now: noon.Add(now * time.Minute)})
			if test.want >= 0 {
				if err != nil || !strings.HasPrefix(e.Backup.ID, id(test.want)) {
					t.Fatalf("latest is %v %v", e.Backup, err)
				}
				return
			}
			if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "in the future") || !strings.Contains(pgmedic.HintOf(err), id(test.hint)) {
				t.Errorf("got %v, hint %s", err, pgmedic.HintOf(err))
			}
			// By its id it is had, whatever the clocks say.
			if e, err := f.Get(t.Context(), id(test.hint), catalog.Filter{}); err != nil || e.Backup == nil {
				t.Errorf("by its id: %v", err)
			}
			if _, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main"}); err != nil {
				t.Errorf("without a clock: %v", err)
			}
		})
	}
}

// TestLatestOfTwoServers: two servers under one name that take turns can't be
// told apart; one that was replaced by another can.
func TestLatestOfTwoServers(t *testing.T) {
	for name, test := range map[string]struct {
		servers string // the system identifiers, oldest first
		refused bool
		shared  bool // more than one is filed under the name
	}{
		"one":                      {"AAA", false, false},
		"replaced":                 {"AAB", false, true},
		"replaced, and again":      {"ABBC", false, true},
		"in turns":                 {"ABA", true, true},
		"in turns, for long":       {"ABABAB", true, true},
		"many of the other":        {"ABBBA", true, true},
		"once, and named since":    {"ABABB", false, true},
		"identifiers are unknown":  {"A?A", false, false},
		"another without one last": {"ABA?", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for i, id := range test.servers {
				b := backup(i + 1)
				if id != '?' {
					b.Server.SystemIdentifier = string(id)
				}
				f.commit(t, b)
			}
			newest := backup(len(test.servers))
			e, err := f.Get(t.Context(), catalog.Latest, catalog.Filter{Server: "main", Database: "shop"})
			if test.refused && (pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), "Two take turns under the name main") || !strings.Contains(pgmedic.HintOf(err), newest.ID)) {
				t.Errorf("got %v %v", e.Backup, err)
			}
			if !test.refused && (err != nil || e.Backup.ID != newest.ID) {
				t.Errorf("got %v %v", e.Backup, err)
			}
			if got := len(f.list(t, catalog.Filter{}).ServersByName()["main"]) > 1; got != test.shared {
				t.Errorf("shared is %v", got)
			}
		})
	}
}

// TestUnopenable: a backup whose keys are all gone has failed, whatever was
// proven before.
func TestUnopenable(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	f.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptDrill, 2)
	state := func() (catalog.Entry, pgmedic.Proof) {
		e, err := f.Get(t.Context(), b.ID, catalog.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := e.Proof()
		return e, p
	}
	for _, step := range []struct {
		remove string
		keys   int
		proof  pgmedic.Proof
	}{{"", 2, pgmedic.ProofProven}, {"one", 1, pgmedic.ProofProven}, {"two", 0, pgmedic.ProofFailed}} {
		if step.remove != "" {
			if err := f.RemoveKey(t.Context(), b, step.remove); err != nil {
				t.Fatal(err)
			}
		}
		if e, proof := state(); e.Keys != step.keys || proof != step.proof || e.Unopenable() != (step.keys == 0) {
			t.Errorf("without %s: %d keys, %s, unopenable %v", step.remove, e.Keys, proof, e.Unopenable())
		}
	}
	plain := f.commit(t, backup(5))
	if e, err := f.Get(t.Context(), plain.ID, catalog.Filter{}); err != nil || e.Unopenable() {
		t.Errorf("one that is not encrypted: %v %v", e.Unopenable(), err)
	}
	if err := f.RestoreKey(t.Context(), b, "two", []byte("wrapped for two")); err != nil {
		t.Fatal(err)
	}
	if _, proof := state(); proof != pgmedic.ProofProven {
		t.Errorf("with a key again: %s", proof)
	}
}

// TestProofOfSamples: samples find damage and prove nothing.
func TestProofOfSamples(t *testing.T) {
	const ok, bad = pgmedic.OutcomeOK, pgmedic.OutcomeFailed
	type step struct {
		kind    pgmedic.ReceiptKind
		outcome pgmedic.Outcome
		sample  bool
	}
	full, drilled := step{pgmedic.ReceiptVerify, ok, false}, step{pgmedic.ReceiptDrill, ok, false}
	good, found := step{pgmedic.ReceiptVerify, ok, true}, step{pgmedic.ReceiptVerify, bad, true}
	for name, test := range map[string]struct {
		steps []step
		want  pgmedic.Proof
	}{
		"none":                        {nil, pgmedic.ProofTaken},
		"samples alone":               {[]step{good, good, good}, pgmedic.ProofTaken},
		"after a whole one":           {[]step{full, good}, pgmedic.ProofVerified},
		"after a drill":               {[]step{drilled, good}, pgmedic.ProofProven},
		"damage":                      {[]step{full, found}, pgmedic.ProofFailed},
		"damage after a drill":        {[]step{drilled, found}, pgmedic.ProofFailed},
		"damage is not sampled away":  {[]step{found, good}, pgmedic.ProofFailed},
		"damage, mended and verified": {[]step{found, full}, pgmedic.ProofVerified},
		"damage, mended and drilled":  {[]step{found, drilled}, pgmedic.ProofProven},
	} {
		t.Run(name, func(t *testing.T) {
			e := catalog.Entry{Backup: backup(1)}
			for i, s := range test.steps {
				r := pgmedic.Receipt{Kind: s.kind, Outcome: s.outcome, At: noon.Add(time.Duration(i+1) * time.Hour), Proof: pgmedic.ProofVerified}
				if s.sample {
					r.Sample, r.Proof = &pgmedic.Sample{Percent: 5}, pgmedic.ProofTaken
				}
				if s.outcome == bad {
					r.Proof = pgmedic.ProofFailed
				}
				e.Receipts = append(e.Receipts, r)
			}
			if got, _ := e.Proof(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestSampled(t *testing.T) {
	e := catalog.Entry{Backup: backup(1)}
	e.Backup.Objects = []pgmedic.Object{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	add := func(hour int, store string, sample bool, names ...string) {
		r := pgmedic.Receipt{Kind: pgmedic.ReceiptVerify, At: noon.Add(time.Duration(hour) * time.Hour), Store: store}
		if sample {
			r.Sample = &pgmedic.Sample{}
		}
		for _, name := range names {
			r.Checks = append(r.Checks, pgmedic.Check{Name: name})
		}
		e.Receipts = append(e.Receipts, r)
	}
	add(1, "here", false, "a", "row counts")
	add(2, "there", true, "a", "b", "c")
	add(3, "here", true, "b")
	if c := e.Sampled("here"); c.Samples != 1 || c.Objects != 2 || c.OfObjects != 3 || !c.OldestAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("two of three: %+v", c)
	}
	add(4, "here", true, "a", "c")
	if c := e.Sampled("here"); c.Samples != 2 || c.Objects != 3 || !c.OldestAt.Equal(noon.Add(3*time.Hour)) {
		t.Errorf("all: %+v", c)
	}
}
