package retention

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Store is what one store holds.
type Store struct {
	// Name is what the plan calls it.
	Name    string
	Listing catalog.Listing
	Policy  Policy
	// Stop says why nothing may be deleted in this store, and Hint what to do.
	Stop, Hint string
}

// Options say what the plan of several stores depends on beside them.
type Options struct {
	Now time.Time
	// Displaced reports whether a database of that name is, or may be, set aside.
	Displaced func(database string) bool
	// Only reports whether a database is to be planned for. Nil is all.
	Only func(server, database string) bool
	// Needed says why a backup in a store is kept whatever the policy is, or returns an
	// empty text. Nil is that for all.
	Needed func(store string, e catalog.Entry) string
}

// PlanStores plans every series of every store. Proofs and holds count in whichever
// store they are; all else is of each store by itself.
func PlanStores(stores []Store, o Options) []Series {
	known := gather(stores, o.Now)
	var all []Series
	for _, s := range stores {
		groups := map[seriesKey][]catalog.Entry{}
		for _, e := range s.Listing.Entries {
			if o.Only == nil || o.Only(e.Backup.Server.Name, e.Backup.Database.Name) {
				groups[keyOf(e)] = append(groups[keyOf(e)], e)
			}
		}
		for key, entries := range groups {
			c := Circumstances{Now: o.Now, Purpose: key.purpose, Displaced: o.Displaced == nil || o.Displaced(key.database), Stop: s.Stop, Hint: s.Hint}
			if c.Stop == "" {
				c.Stop, c.Hint = stale(s, key, o.Now)
			}
			series := Series{
				Store: s.Name, Server: key.server, System: key.system, Database: key.database, Scope: key.scope, Purpose: key.purpose,
				entries: make(map[string]catalog.Entry, len(entries)),
			}
			backups := make([]Backup, 0, len(entries))
			for _, e := range entries {
				b := known.backup(e)
				if o.Needed != nil {
					b.Needed = o.Needed(s.Name, e)
				}
				backups = append(backups, b)
				series.entries[e.Backup.ID] = e
			}
			series.Decisions, series.Stopped, series.Hint = Plan(backups, s.Policy, c)
			all = append(all, series)
		}
	}
	slices.SortStableFunc(all, func(a, b Series) int {
		return cmp.Or(
			slices.IndexFunc(stores, func(s Store) bool { return s.Name == a.Store })-slices.IndexFunc(stores, func(s Store) bool { return s.Name == b.Store }),
			strings.Compare(a.Database, b.Database), strings.Compare(a.Server, b.Server), strings.Compare(string(a.Purpose), string(b.Purpose)),
			strings.Compare(a.System, b.System), strings.Compare(a.Scope, b.Scope),
		)
	})
	return all
}

// seriesKey tells the series of one store apart.
type seriesKey struct {
	server, system, database, scope string
	purpose                         pgmedic.Purpose
}

func keyOf(e catalog.Entry) seriesKey {
	b := e.Backup
	k := seriesKey{server: b.Server.Name, system: b.Server.SystemIdentifier, database: b.Database.Name, scope: e.Scope, purpose: pgmedic.PurposeRegular}
	if b.Purpose == pgmedic.PurposeSafety {
		k.purpose = pgmedic.PurposeSafety
	}
	return k
}

// elsewhere is what is known of one backup in all stores.
type elsewhere struct {
	proven, claimedOnly, failed bool
	// refused is what is proven in stores where this host refuses it.
	refused proofs
	holds   []catalog.Hold
}

// proofs are what drills proved of one backup.
type proofs struct{ any, authentic bool }

type gathered map[string]*elsewhere

// gather reads proofs and holds of all stores, by the backups' folders.
func gather(stores []Store, now time.Time) gathered {
	all := gathered{}
	for _, s := range stores {
		for _, e := range s.Listing.Entries {
			folder := folderOf(e)
			x := all[folder]
			if x == nil {
				x = &elsewhere{claimedOnly: true}
				all[folder] = x
			}
			switch standing := e.Standing(); standing.Proof {
			case pgmedic.ProofProven:
				x.proven = true
				x.claimedOnly = x.claimedOnly && standing.Claimed
			case pgmedic.ProofFailed:
				x.failed = true
			case pgmedic.ProofTaken, pgmedic.ProofIntact, pgmedic.ProofVerified:
			}
			if whoever := e.Whoever(); e.Refused() && whoever.Proof == pgmedic.ProofProven {
				x.refused.any, x.refused.authentic = true, x.refused.authentic || !whoever.Claimed
			}
			for _, h := range e.Held(now) {
				if !slices.Contains(x.holds, h) {
					x.holds = append(x.holds, h)
				}
			}
		}
	}
	return all
}

func folderOf(e catalog.Entry) string {
	return catalog.Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID)
}

func (g gathered) backup(e catalog.Entry) Backup {
	x, standing := g[folderOf(e)], e.Standing()
	claimed := x.claimedOnly
	if !x.proven {
		claimed = !x.refused.authentic
	}
	from := ""
	if e.Shrunk != nil {
		from = e.Shrunk.Before
	}
	parent := ""
	if e.Backup.Physical != nil {
		parent = e.Backup.Physical.Parent
	}
	return Backup{
		ID: e.Backup.ID, Parent: parent, ShrunkFrom: from, StartedAt: e.Backup.StartedAt, Proof: standing.Proof, ProofAt: standing.At, Unclean: !e.Backup.Clean(),
		Proven: x.proven && !x.failed, Claimed: claimed,
		Refused: x.refused.any && !x.proven && !x.failed, Holds: x.holds, Mark: e.Mark, Bytes: e.FolderBytes,
	}
}

// stale returns why backups of a database have stopped, if they have: then the old ones
// are all there is. Backups of the whole database count, by the server's name, which
// one that was replaced hands on; where there are none, those of the series.
func stale(s Store, key seriesKey, now time.Time) (why, hint string) {
	if s.Policy.StaleAfter < 0 {
		return "", ""
	}
	times := func(counts func(seriesKey) bool) (all []time.Time) {
		for _, e := range s.Listing.Entries {
			if k := keyOf(e); k.server == key.server && k.database == key.database && k.purpose == pgmedic.PurposeRegular && counts(k) {
				all = append(all, e.Backup.StartedAt)
			}
		}
		return all
	}
	all := times(func(k seriesKey) bool { return k.scope == "" })
	if len(all) == 0 {
		all = times(func(k seriesKey) bool { return k.scope == key.scope || key.purpose == pgmedic.PurposeSafety })
	}
	if len(all) == 0 {
		return "", "" // safety backups alone: no others are taken
	}
	slices.SortFunc(all, func(a, b time.Time) int { return b.Compare(a) })
	limit, usual := s.Policy.StaleAfter, time.Duration(0)
	if gaps := gapsOf(all[:min(len(all), staleOf)]); len(gaps) > 0 {
		usual = gaps[len(gaps)/2]
	}
	if limit == 0 {
		limit = max(staleAtLeast, staleGaps*usual)
	}
	age := now.Sub(all[0])
	if age <= limit {
		return "", ""
	}
	why = "its newest backup is " + words.About(age) + " old"
	if usual > 0 {
		why += ", usually there is one every " + words.About(usual)
	}
	return why, "find out why backups have stopped; where they are meant to, --stale-after off goes on"
}

// gapsOf returns the times between backups, the shortest first.
func gapsOf(newestFirst []time.Time) (gaps []time.Duration) {
	for i := 1; i < len(newestFirst); i++ {
		gaps = append(gaps, newestFirst[i-1].Sub(newestFirst[i]))
	}
	slices.Sort(gaps)
	return gaps
}

// ClockApart returns why nothing may be deleted where a store's clock is not this
// host's, or empty.
func ClockApart(now, store time.Time) string {
	if apart := now.Sub(store).Abs(); apart > maxAhead {
		return "this host's clock is " + words.About(apart) + " from the store's"
	}
	return ""
}

// Orphan is what a run without a manifest left, or a deletion that broke off, and what
// becomes of it.
type Orphan struct {
	catalog.Orphan
	Store   string  `json:"store"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	Done    bool    `json:"done"`
}

// Dead says when what has no manifest is known to be of no run that lives: after so long
// without a write, or never, for a reason.
type Dead struct {
	After  time.Duration
	Living string
}

// PlanOrphans decides what becomes of what has no manifest. It is marked and deleted as
// backups are, so that a run that was thought dead finds the mark before it commits.
func PlanOrphans(store string, orphans []catalog.Orphan, p Policy, now time.Time, dead func(catalog.Orphan) Dead) []Orphan {
	all := make([]Orphan, 0, len(orphans))
	for _, o := range orphans {
		d := Orphan{Orphan: o, Store: store, Verdict: Keep}
		lives := dead(o)
		switch quiet := now.Sub(o.NewestAt); {
		case lives.Living != "":
			d.Reason = lives.Living
		case !o.MarkedAt.IsZero() && now.Sub(o.MarkedAt) >= p.Grace:
			d.Verdict, d.Reason = Delete, "marked "+words.About(now.Sub(o.MarkedAt))+" ago"
		case !o.MarkedAt.IsZero():
			d.Verdict, d.Reason = Wait, "marked; may go at "+o.MarkedAt.Add(p.Grace).UTC().Format("2006-01-02 15:04Z")
		case quiet < lives.After:
			d.Reason = "written to less than " + words.About(lives.After) + " ago"
		default:
			d.Verdict, d.Reason = Mark, "no manifest, and not written to for "+words.About(quiet)
		}
		all = append(all, d)
	}
	return all
}
