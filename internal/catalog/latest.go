package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (l Listing) latest(c *Catalog, f Filter) (Entry, error) {
	i := slices.IndexFunc(l.Entries, func(e Entry) bool { return counts(e.Backup) })
	if len(l.Damaged) > 0 && (i < 0 || l.Damaged[0].MayBeNewer(l.Entries[i].Backup.ID)) {
		var e *pgmedic.Error
		if err := l.Damaged[0].Err; i >= 0 && errors.As(err, &e) {
			return Entry{}, pgmedic.Errorf(e.Kind, "to use the one before it, name it: "+l.Entries[i].Backup.ID, "%w", err)
		}
		return Entry{}, l.Damaged[0].Err
	}
	if i >= 0 && f.Server == "" {
		if other := l.otherServer(l.Entries[i]); other != "" {
			return Entry{}, pgmedic.Errorf(pgmedic.KindUsage, "name one with --server, or as server: in pgmedic.yaml, or give an id",
				"latest of which server? %s has backups of this database from %s and %s", c.store, l.Entries[i].Backup.Server.Name, other)
		}
	}
	if i >= 0 {
		last, known, err := l.lastWritten(i)
		if err == nil {
			err = l.doubtful(last, known, f)
		}
		if err != nil {
			return Entry{}, err
		}
		// Of a damaged one only the clock's word is known.
		if last != i && len(l.Damaged) > 0 && l.Damaged[0].MayBeNewer(l.Entries[last].Backup.ID) {
			return Entry{}, pgmedic.Errorf(pgmedic.KindIntegrity, "to use the one that is, name it: "+l.Entries[last].Backup.ID,
				"backup %s may be the latest, and is damaged: %w", l.Damaged[0].ID, l.Damaged[0].Err)
		}
		return l.Entries[last], nil
	}
	what, hint := "", "look elsewhere with --store, see that its disk is mounted, or take one: pgmedic backup"
	if f.Database != "" {
		what = fmt.Sprintf(" of database %q", f.Database)
	}
	if slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Backup.Partial() }) {
		what, hint = " of the whole database"+strings.TrimPrefix(what, " of database"), "take one: pgmedic backup; partial ones are named by their id"
	}
	return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, hint, "no backup%s in %s", what, c.store)
}

// MayBeNewer reports whether the damaged backup can be newer than another one. An id has
// the second only, and of two backups in one second the damaged one counts as newer.
func (d Damaged) MayBeNewer(id string) bool { return second(d.ID) >= second(id) }

// counts reports whether a backup can be the latest: one that somebody asked for,
// of the whole database.
func counts(b *pgmedic.Backup) bool { return b.Purpose != pgmedic.PurposeSafety && !b.Partial() }

// lastWritten returns which of a server's backups of a database holds what was
// written last, of which i is the newest by the clocks. Positions in the WAL of one
// system and one timeline have an order that no clock has a part in; known reports
// whether all of those backups have one. It overrides the clock of the hosts where
// that of the server agrees with it. Where it does not, that clock was wrong, or the
// server was put back to an earlier moment and has taken the same timeline twice.
//
// Timelines don't: what a primary wrote after its standby was promoted has higher
// positions than what came after on the new timeline, and is lost. So a backup of
// another timeline is older if the clocks agree with that, and an error if not: then
// a clock is wrong, or two servers are primaries. Backups that lack a position or a
// timeline are where the clocks put them.
func (l Listing) lastWritten(i int) (last int, known bool, err error) {
	newest := l.Entries[i].Backup
	at, ok := walPosition(newest)
	last, known = i, ok
	for j, e := range l.Entries {
		b := e.Backup
		if j == i || !counts(b) || b.Server.Name != newest.Server.Name || b.Database.Name != newest.Database.Name {
			continue
		}
		position, has := walPosition(b)
		if !ok || !has || b.Server.SystemIdentifier != newest.Server.SystemIdentifier {
			known = false
			continue
		}
		switch {
		case b.SnapshotTimeline > newest.SnapshotTimeline:
			return 0, false, pgmedic.Errorf(pgmedic.KindUsage, "look at the clocks of "+b.Host+" and "+newest.Host+", and whether a former primary is still up; then name one: "+newest.ID+" or "+b.ID,
				"which backup is the latest can't be known: %s began later than %s by their clocks, and is of an earlier timeline (%d, the other of %d)",
				newest.ID, b.ID, newest.SnapshotTimeline, b.SnapshotTimeline)
		case b.SnapshotTimeline == newest.SnapshotTimeline && position > at:
			if best := l.Entries[last].Backup; !b.SnapshotAt.After(best.SnapshotAt) {
				return 0, false, pgmedic.Errorf(pgmedic.KindUsage, "look at the clocks, and whether the server was put back to an earlier moment; then name one: "+best.ID+" or "+b.ID,
					"which backup is the latest can't be known: %s is later by the clocks of its host and of the server, and %s by its position in the WAL (%s, the other at %s)",
					best.ID, b.ID, b.SnapshotLSN, best.SnapshotLSN)
			}
			last, at = j, position
		case b.SnapshotTimeline != newest.SnapshotTimeline:
			known = false
		}
	}
	return last, known, nil
}

// walPosition returns where in the WAL of its server and timeline a backup's moment
// is, if that is recorded.
func walPosition(b *pgmedic.Backup) (position uint64, ok bool) {
	if b.Server.SystemIdentifier == "" || b.SnapshotTimeline <= 0 {
		return 0, false
	}
	high, low, ok := strings.Cut(b.SnapshotLSN, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	n, errLow := strconv.ParseUint(low, 16, 32)
	return h<<32 | n, ok && errHigh == nil && errLow == nil
}

// maxAhead is how far in the future a backup may have begun: clocks of two hosts
// differ by less where anything keeps them right.
const maxAhead = time.Hour

// doubtful returns an error where the regular backup at i, the newest by its
// manifest, need not be the newest one that was taken: it began in the future, so
// that a clock was wrong, then or now, and the WAL does not say which came last; or
// two servers that take turns are filed under its server's name, which system
// identifiers tell apart.
func (l Listing) doubtful(i int, known bool, f Filter) error {
	newest := l.Entries[i].Backup
	if ahead := newest.StartedAt.Sub(f.Now); !known && !f.Now.IsZero() && ahead > maxAhead {
		hint := "look at the clocks of this host and of " + newest.Host + ", then name one: " + newest.ID
		believed := slices.IndexFunc(l.Entries, func(e Entry) bool {
			return counts(e.Backup) && e.Backup.StartedAt.Sub(f.Now) <= maxAhead
		})
		if believed >= 0 {
			hint += ", or the newest that is not from the future: " + l.Entries[believed].Backup.ID
		}
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "which backup is the latest can't be known: %s began %s in the future",
			newest.ID, words.Duration(ahead))
	}
	between := ""
	for j, e := range l.Entries {
		b := e.Backup
		if j == i || !counts(b) || b.Server.Name != newest.Server.Name || b.Database.Name != newest.Database.Name ||
			b.Server.SystemIdentifier == "" || newest.Server.SystemIdentifier == "" {
			continue
		}
		if b.Server.SystemIdentifier != newest.Server.SystemIdentifier {
			if between == "" {
				between = b.ID
			}
			continue
		}
		if between != "" {
			return pgmedic.Errorf(pgmedic.KindUsage, "give each server a name of its own (server:, PGMEDIC_SERVER), and name the backup: "+newest.ID+" or "+between,
				"latest of which server? Two take turns under the name %s: backup %s is not of the server that %s is of", newest.Server.Name, between, newest.ID)
		}
		break
	}
	return nil
}

// ServersByName returns the system identifiers that are filed under each name of
// a server, for the names that have more than one: two servers, or one that was
// replaced.
func (l Listing) ServersByName() map[string][]string {
	all := map[string][]string{}
	for _, e := range l.Entries {
		s := e.Backup.Server
		if s.SystemIdentifier != "" && !slices.Contains(all[s.Name], s.SystemIdentifier) {
			all[s.Name] = append(all[s.Name], s.SystemIdentifier)
		}
	}
	maps.DeleteFunc(all, func(_ string, ids []string) bool { return len(ids) < 2 })
	return all
}

// otherServer names another server that has a backup of the same database as e.
func (l Listing) otherServer(e Entry) string {
	for _, o := range l.Entries {
		if o.Backup.Database.Name == e.Backup.Database.Name && o.Backup.Server.Name != e.Backup.Server.Name {
			return o.Backup.Server.Name
		}
	}
	return ""
}
