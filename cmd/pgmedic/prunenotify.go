package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/words"
)

// pruneDeleted is the event about what retention has deleted.
const pruneDeleted = "prune.deleted"

// mostDeletedNamed bounds the ids of deleted backups that a message has of one store; it
// counts all.
const mostDeletedNamed = 10

// deletions are what was deleted of one database of a server.
type deletions struct {
	backups, orphans, wal amount
	// gone are the ids of the deleted backups, which backups counts in each store, and left
	// those that some store still has, where listed is true.
	gone, left map[string]bool
	listed     bool
	evidence   []pgmedic.Evidence
	dropped    int
}

// amount is how many there are, and what they take.
type amount struct {
	n     int
	bytes int64
}

func (a *amount) add(bytes int64) { a.n, a.bytes = a.n+1, a.bytes+bytes }

// prunedOf is what deletions are gathered by. A backup of the whole server has no database.
type prunedOf struct{ server, database string }

// deletedBackups gathers what was deleted of backups, of what dead runs left, and of WAL.
func deletedBackups(done *prunedBackups) map[prunedOf]*deletions {
	all := map[prunedOf]*deletions{}
	of := func(server, database string) *deletions {
		if database == "@cluster" {
			database = ""
		}
		key := prunedOf{server, database}
		if all[key] == nil {
			all[key] = &deletions{gone: map[string]bool{}, left: map[string]bool{}}
		}
		return all[key]
	}
	for _, s := range done.Series {
		d, here := of(s.Server, s.Database), amount{}
		d.listed = true
		var ids []string
		for _, one := range s.Decisions {
			if one.Verdict != retention.Delete || !one.Done {
				d.left[one.ID] = true
				continue
			}
			d.gone[one.ID] = true
			d.backups.add(one.Bytes)
			if here.add(one.Bytes); here.n <= mostDeletedNamed {
				ids = append(ids, one.ID)
			}
		}
		if here.n == 0 {
			continue
		}
		if more := here.n - len(ids); more > 0 {
			ids = append(ids, fmt.Sprintf("and %d more", more))
		}
		d.evidence = append(d.evidence, pgmedic.Evidence{Name: "deleted in " + s.Store, Value: strings.Join(ids, ", ") + " (" + words.Bytes(here.bytes) + ")"})
	}
	for _, o := range done.Orphans {
		if o.Verdict == retention.Delete && o.Done {
			d := of(folderNames(o.Folder))
			d.orphans.add(o.SizeBytes)
			d.evidence = append(d.evidence, pgmedic.Evidence{Name: "deleted in " + o.Store, Value: "what the run " + o.ID + " left (" + words.Bytes(o.SizeBytes) + ")"})
		}
	}
	for _, w := range done.WAL {
		here := amount{}
		for _, r := range w.Rows {
			if retention.Verdict(r.Verdict) == retention.Delete && w.Done {
				here.add(r.Bytes)
			}
		}
		if here.n > 0 {
			d := of(w.Server, "")
			d.wal = amount{d.wal.n + here.n, d.wal.bytes + here.bytes}
			d.evidence = append(d.evidence, pgmedic.Evidence{Name: "deleted in " + w.Store, Value: "WAL (" + words.Bytes(here.bytes) + ")"})
		}
	}
	return all
}

// noteDeleted hands on what was deleted, an event for each database of which something was.
// here is the server that the job is about, or empty if it is about all.
func (o *outcomes) noteDeleted(n *notifier, here string, all map[prunedOf]*deletions) {
	if o == nil || n == nil {
		return
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b prunedOf) int {
		return cmp.Or(strings.Compare(a.server, b.server), strings.Compare(a.database, b.database))
	})
	for _, key := range keys {
		d := all[key]
		summary := d.summary()
		if summary == "" {
			continue
		}
		e := notify.Event{
			Name: pruneDeleted, State: notify.StateInfo, Severity: pgmedic.SeverityInfo, At: n.now(), Target: n.target(key.database),
			Summary: summary, Evidence: d.evidence, Command: "pgmedic list --why",
		}
		if key.server != here {
			e.Target.Server = key.server
		}
		e.Fingerprint = notify.Fingerprint("prune", key.server, key.database, "deleted", n.run)
		o.events = append(o.events, e)
	}
}

// summary says in one sentence what was deleted and what remains; nothing if nothing was.
func (d *deletions) summary() string {
	var parts []string
	if d.backups.n > 0 {
		parts = append(parts, words.Plural(len(d.gone), "backup")+" ("+words.Bytes(d.backups.bytes)+")")
	}
	if d.orphans.n > 0 {
		parts = append(parts, "what "+words.Plural(d.orphans.n, "dead run")+" left ("+words.Bytes(d.orphans.bytes)+")")
	}
	if d.wal.n > 0 {
		parts = append(parts, "WAL ("+words.Bytes(d.wal.bytes)+")")
	}
	if d.dropped > 0 {
		parts = append(parts, words.Plural(d.dropped, "database or schema that was set aside", "databases and schemas that were set aside"))
	}
	if len(parts) == 0 {
		return ""
	}
	text := "deleted by retention: " + strings.Join(parts, ", ")
	if d.listed {
		text += "; " + words.Plural(len(d.left), "backup remains", "backups remain")
	}
	return text
}

// deleted is all that prune deleted and dropped.
func (p *pruneCommand) deleted() map[prunedOf]*deletions {
	all := deletedBackups(&p.done.prunedBackups)
	drop := func(database, what string) {
		key := prunedOf{p.server, database}
		if all[key] == nil {
			all[key] = &deletions{}
		}
		all[key].dropped++
		all[key].evidence = append(all[key].evidence, pgmedic.Evidence{Name: "dropped", Value: what})
	}
	for _, d := range p.done.Databases {
		if d.Dropped {
			drop(d.Of, "database "+d.Database+" ("+words.Bytes(d.SizeBytes)+")")
		}
	}
	for _, s := range p.done.Rescued {
		if s.Dropped {
			drop(s.Database, "schema "+s.Schema)
		}
	}
	return all
}
