package retention_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// entry is a backup of a database in a store.
func entry(server, system, database string, at time.Time) catalog.Entry {
	return catalog.Entry{Backup: &pgmedic.Backup{
		ID: catalog.NewID(at), StartedAt: at, FinishedAt: at, Purpose: pgmedic.PurposeRegular,
		Server: pgmedic.Server{Name: server, SystemIdentifier: system}, Database: pgmedic.Database{Name: database},
		Seal: pgmedic.Seal{Encryption: "none"},
	}}
}

func daily(server, system, database string, n int) (all []catalog.Entry) {
	for i := range n {
		all = append(all, entry(server, system, database, noon.AddDate(0, 0, -i)))
	}
	return all
}

func proven(e catalog.Entry) catalog.Entry {
	e.Receipts = append(slices.Clone(e.Receipts), pgmedic.Receipt{Kind: pgmedic.ReceiptDrill, Outcome: pgmedic.OutcomeOK, Proof: pgmedic.ProofProven, At: noon, BackupID: e.Backup.ID})
	return e
}

func bad(e catalog.Entry) catalog.Entry {
	e.Receipts = append(slices.Clone(e.Receipts), pgmedic.Receipt{Kind: pgmedic.ReceiptVerify, Outcome: pgmedic.OutcomeFailed, At: noon, BackupID: e.Backup.ID})
	return e
}

func holding(name string, entries ...catalog.Entry) retention.Store {
	return retention.Store{
		Name: name, Listing: catalog.Listing{Entries: entries},
		Policy: retention.Policy{Days: pgmedic.Length{Days: 3}, Last: 1, MaxShare: 1, Grace: time.Hour},
	}
}

// verdictOf is what becomes of a backup in a store.
func verdictOf(t *testing.T, plan []retention.Series, store string, e catalog.Entry) retention.Decision {
	t.Helper()
	for _, s := range plan {
		for _, d := range s.Decisions {
			if s.Store == store && d.ID == e.Backup.ID && s.Database == e.Backup.Database.Name {
				return d
			}
		}
	}
	t.Fatalf("%s is not in the plan of %s", e.Backup.ID, store)
	return retention.Decision{}
}

// TestSeriesApart: whatever one database has in the stores, the plan of another is the
// same, be they of one server, of two servers or of two systems under one name; and each
// plan is of all of its backups, and of no others.
func TestSeriesApart(t *testing.T) {
	type name struct{ server, system, database string }
	names := []name{{"main", "1", "clinic"}, {"main", "1", "billing"}, {"other", "1", "clinic"}, {"main", "3", "clinic"}}
	for seed := range testkit.Amount(200, 2_000, 10_000) {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		var groups [][]catalog.Entry
		var all []catalog.Entry
		for _, n := range names {
			var group []catalog.Entry
			for range r.IntN(20) {
				e := entry(n.server, n.system, n.database, noon.Add(-time.Duration(r.IntN(100*24))*time.Hour))
				switch r.IntN(4) {
				case 0:
					e = proven(e)
				case 1:
					e = bad(e)
				}
				group = append(group, e)
			}
			groups, all = append(groups, group), append(all, group...)
		}
		p := policy(r)
		plan := func(entries []catalog.Entry) map[name][]retention.Decision {
			decisions := map[name][]retention.Decision{}
			for _, s := range retention.PlanStores([]retention.Store{{Name: "x", Listing: catalog.Listing{Entries: entries}, Policy: p}}, retention.Options{Now: noon}) {
				n := name{s.Server, s.System, s.Database}
				decisions[n] = append(decisions[n], s.Decisions...)
			}
			return decisions
		}
		together := plan(all)
		for i, n := range names {
			alone := plan(groups[i])
			if want, got := idsOf(groups[i]), decided(alone[n]); !slices.Equal(got, want) {
				t.Fatalf("%d: the plan of %+v decides on %q, want %q", seed, n, got, want)
			}
			if !reflect.DeepEqual(alone[n], together[n]) {
				t.Fatalf("%d: %+v is planned otherwise beside others", seed, n)
			}
		}
	}
}

// idsOf are the ids of backups, in order.
func idsOf(entries []catalog.Entry) (ids []string) {
	for _, e := range entries {
		ids = append(ids, e.Backup.ID)
	}
	slices.Sort(ids)
	return ids
}

// decided are the ids of the backups that a plan is of, in order.
func decided(decisions []retention.Decision) (ids []string) {
	for _, d := range decisions {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestEverywhere: what is held or proven in one store is kept in all that have it.
func TestEverywhere(t *testing.T) {
	all := daily("main", "1", "clinic", 10)
	held, proof, plain := all[9], all[8], all[7]
	here, there := slices.Clone(all), slices.Clone(all)
	here[9].Holds = []catalog.Hold{{Name: "legal", Until: noon.Add(time.Hour)}}
	there[8] = proven(proof)
	ended := slices.Clone(all)
	ended[9].Holds = []catalog.Hold{{Name: "legal", Until: noon.Add(-time.Hour)}}
	plan := retention.PlanStores([]retention.Store{holding("a", here...), holding("b", there...)}, retention.Options{Now: noon})
	for _, store := range []string{"a", "b"} {
		for _, e := range []catalog.Entry{held, proof} {
			if d := verdictOf(t, plan, store, e); d.Verdict != retention.Keep {
				t.Errorf("%s in %s: %+v", e.Backup.ID, store, d)
			}
		}
		if d := verdictOf(t, plan, store, plain); d.Verdict != retention.Mark {
			t.Errorf("in %s: %+v", store, d)
		}
	}
	plan = retention.PlanStores([]retention.Store{holding("a", ended...)}, retention.Options{Now: noon})
	if d := verdictOf(t, plan, "a", held); d.Verdict != retention.Mark {
		t.Errorf("the hold has ended: %+v", d)
	}
}

// TestNewestProvenEverywhere: of the newest proven no copy goes, also where another store
// found its own bytes bad; each store keeps the newest that is proven as far as it knows.
func TestNewestProvenEverywhere(t *testing.T) {
	all := daily("main", "1", "clinic", 10)
	a, b := slices.Clone(all), slices.Clone(all)
	a[5], b[5] = proven(all[5]), bad(all[5]) // proven in a, its copy in b is bad
	b[8] = proven(all[8])
	plan := retention.PlanStores([]retention.Store{holding("a", a...), holding("b", b...)}, retention.Options{Now: noon})
	for _, want := range []struct {
		store   string
		i       int
		verdict retention.Verdict
	}{{"a", 5, retention.Keep}, {"a", 8, retention.Keep}, {"b", 8, retention.Keep}, {"a", 7, retention.Mark}, {"b", 7, retention.Mark}} {
		if d := verdictOf(t, plan, want.store, all[want.i]); d.Verdict != want.verdict {
			t.Errorf("%d in %s: %+v", want.i, want.store, d)
		}
	}
}

func TestStale(t *testing.T) {
	weekly := func() (all []catalog.Entry) {
		for i := range 8 {
			all = append(all, entry("main", "1", "clinic", noon.AddDate(0, 0, -7*i-5)))
		}
		return all
	}
	safety := entry("main", "1", "clinic", noon.AddDate(0, 0, -40))
	safety.Backup.Purpose = pgmedic.PurposeSafety
	old := daily("main", "1", "clinic", 20)[5:]
	replaced := append(daily("main", "2", "clinic", 2), old...)
	for name, test := range map[string]struct {
		entries []catalog.Entry
		after   time.Duration
		want    string
	}{
		"fresh":                        {daily("main", "1", "clinic", 10), 0, ""},
		"five days, daily":             {old, 0, "its newest backup is 5 days old, usually there is one every 24 hours"},
		"five days, weekly":            {weekly(), 0, ""},
		"a limit":                      {weekly(), 72 * time.Hour, "its newest backup is 5 days old"},
		"no limit":                     {old, -1, ""},
		"the server was replaced":      {replaced, 0, ""},
		"safety backups stop with it":  {append(slices.Clone(old), safety), 0, "its newest backup"},
		"another database goes on":     {append(daily("main", "1", "billing", 3), old...), 0, "its newest backup is 5 days old"},
		"nothing would be deleted":     {old[:1], 0, ""},
		"two backups, two weeks apart": {[]catalog.Entry{old[0], old[14]}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := holding("a", test.entries...)
			s.Policy.StaleAfter = test.after
			stopped := ""
			for _, series := range retention.PlanStores([]retention.Store{s}, retention.Options{Now: noon}) {
				if series.Database == "clinic" && series.Stopped != "" {
					stopped = series.Stopped
				}
			}
			if test.want == "" && stopped != "" || len(stopped) < len(test.want) || stopped[:len(test.want)] != test.want {
				t.Errorf("stopped: %q, want %q", stopped, test.want)
			}
		})
	}
}

func TestClockApart(t *testing.T) {
	for apart, want := range map[time.Duration]bool{0: false, 4 * time.Minute: false, -4 * time.Minute: false, 6 * time.Minute: true, -48 * time.Hour: true} {
		if got := retention.ClockApart(noon, noon.Add(apart)); (got != "") != want {
			t.Errorf("%s: %q", apart, got)
		}
	}
}

func TestOrphans(t *testing.T) {
	for name, test := range map[string]struct {
		quiet, marked time.Duration // marked is negative where it is not
		dead          retention.Dead
		want          retention.Verdict
	}{
		"written to lately":   {time.Hour, -1, retention.Dead{After: 24 * time.Hour}, retention.Keep},
		"of a dead run":       {25 * time.Hour, -1, retention.Dead{After: 24 * time.Hour}, retention.Mark},
		"of a run that lives": {90 * time.Hour, -1, retention.Dead{Living: "a run is at work"}, retention.Keep},
		"not asked":           {90 * time.Hour, -1, retention.Dead{After: 168 * time.Hour}, retention.Keep},
		"just marked":         {90 * time.Hour, 0, retention.Dead{After: 24 * time.Hour}, retention.Wait},
		"marked long since":   {90 * time.Hour, 2 * time.Hour, retention.Dead{After: 24 * time.Hour}, retention.Delete},
		"marked, and lives":   {90 * time.Hour, 2 * time.Hour, retention.Dead{Living: "a run is at work"}, retention.Keep},
	} {
		t.Run(name, func(t *testing.T) {
			o := catalog.Orphan{NewestAt: noon.Add(-test.quiet)}
			if test.marked >= 0 {
				o.MarkedAt = noon.Add(-test.marked)
			}
			got := retention.PlanOrphans("a", []catalog.Orphan{o}, retention.Policy{Grace: time.Hour}, noon, func(catalog.Orphan) retention.Dead { return test.dead })
			if got[0].Verdict != test.want || got[0].Reason == "" {
				t.Errorf("%+v", got[0])
			}
		})
	}
}

// TestReasons is what a plan says to people.
func TestReasons(t *testing.T) {
	p := production(t)
	p.MaxShare = 1
	var all []retention.Backup
	for _, back := range []string{"0", "5h", "30h", "20d", "50d", "51d", "4mo", "2y"} {
		all = append(all, taken(length(t, back).Before(noon)))
	}
	all[1].Proof, all[1].Proven = pgmedic.ProofProven, true
	all[4].Holds = []catalog.Hold{{Name: "legal", By: "ana", Reason: "118", Until: noon.AddDate(0, 0, 1)}}
	decisions, _, _ := retention.Plan(all, p, retention.Circumstances{Now: noon, Purpose: pgmedic.PurposeRegular})
	var got []string
	for _, d := range decisions {
		got = append(got, fmt.Sprintf("%s: %s", d.Verdict, d.Why()))
	}
	want := []string{
		"keep: hourly 12h; newest; last 3",
		"keep: hourly 07h; daily 28 Nov; weekly of 23 Nov; monthly Nov 2026; newest proven; last 3",
		"keep: daily 27 Nov; last 3",
		"keep: daily 8 Nov; weekly of 2 Nov",
		"keep: weekly of 5 Oct; monthly Oct 2026; held \"legal\" by ana: 118, until 2026-11-29 12:00Z",
		"mark: no tier needs it",
		"keep: monthly Jul 2026",
		"mark: no tier needs it",
	}
	if !slices.Equal(got, want) {
		for i := range want {
			t.Errorf("%s\nwant %s", got[i], want[i])
		}
	}
}

// TestShrunkKeepsInStores: what a listing says of the newest backup reaches the plan.
func TestShrunkKeepsInStores(t *testing.T) {
	entries := daily("main", "1", "clinic", 10)
	plan := func() retention.Decision {
		return verdictOf(t, retention.PlanStores([]retention.Store{holding("x", entries...)}, retention.Options{Now: noon}), "x", entries[9])
	}
	if d := plan(); d.Verdict != retention.Mark {
		t.Errorf("without a shrunk backup: %s (%s)", d.Verdict, d.Why())
	}
	entries[0].Shrunk = &shrunk.Fall{Before: entries[9].Backup.ID}
	if d := plan(); d.Verdict != retention.Keep || d.Why() != "has what the newest lacks, which is shrunk" {
		t.Errorf("with one: %s (%s)", d.Verdict, d.Why())
	}
}
