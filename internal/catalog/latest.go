package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
)

func (l Listing) latest(c *Catalog, f Filter) (Entry, error) {
	i := slices.IndexFunc(l.Entries, func(e Entry) bool { return counts(e.Backup) })
	// An id has the second only: of two in one second the damaged one counts.
	if len(l.Damaged) > 0 && (i < 0 || second(l.Damaged[0].ID) >= second(l.Entries[i].Backup.ID)) {
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
		if err := l.doubtful(i, f); err != nil {
			return Entry{}, err
		}
		return l.Entries[i], nil
	}
	what, hint := "", "take one: pgmedic backup"
	if f.Database != "" {
		what = fmt.Sprintf(" of database %q", f.Database)
	}
	if slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Backup.Partial() }) {
		what, hint = " of the whole database"+strings.TrimPrefix(what, " of database"), "take one: pgmedic backup; partial ones are named by their id"
	}
	return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, hint, "no backup%s in %s", what, c.store)
}

// counts reports whether a backup can be the latest: one that somebody asked for,
// of the whole database.
func counts(b *pgmedic.Backup) bool { return b.Purpose != pgmedic.PurposeSafety && !b.Partial() }

// maxAhead is how far in the future a backup may have begun: clocks of two hosts
// differ by less where anything keeps them right.
const maxAhead = time.Hour

// doubtful returns an error where the regular backup at i, the newest by its
// manifest, need not be the newest one that was taken: it began in the future, so
// that a clock was wrong, then or now; or two servers that take turns are filed
// under its server's name, which system identifiers tell apart.
func (l Listing) doubtful(i int, f Filter) error {
	newest := l.Entries[i].Backup
	if ahead := newest.StartedAt.Sub(f.Now); !f.Now.IsZero() && ahead > maxAhead {
		hint := "look at the clocks of this host and of " + newest.Host + ", then name one: " + newest.ID
		believed := slices.IndexFunc(l.Entries, func(e Entry) bool {
			return counts(e.Backup) && e.Backup.StartedAt.Sub(f.Now) <= maxAhead
		})
		if believed >= 0 {
			hint += ", or the newest that is not from the future: " + l.Entries[believed].Backup.ID
		}
		return pgmedic.Errorf(pgmedic.KindUsage, hint, "which backup is the latest can't be known: %s began %s in the future",
			newest.ID, ahead.Round(time.Minute))
	}
	between := ""
	for _, e := range l.Entries[i+1:] {
		b := e.Backup
		if !counts(b) || b.Server.Name != newest.Server.Name || b.Database.Name != newest.Database.Name ||
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
