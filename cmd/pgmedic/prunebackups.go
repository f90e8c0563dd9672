package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive/expire"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/words"
)

// prunedStore is one configured store in the JSON of prune.
type prunedStore struct {
	Name string `json:"name"`
	// Error says why nothing is known of it.
	Error string `json:"error,omitempty"`
}

// prunedBackups is what prune says of backups.
type prunedBackups struct {
	Stores  []prunedStore      `json:"stores"`
	Series  []retention.Series `json:"series"`
	Orphans []retention.Orphan `json:"orphans"`
	WAL     []*expire.Plan     `json:"wal"`
	// Damaged are backups whose manifest can't be used: none is deleted.
	Damaged []prunedDamaged `json:"damaged"`
	// FreedBytes is what the backups and orphans take that are deleted, or would be, and
	// MarkedBytes those that are marked.
	FreedBytes  int64 `json:"freed_bytes"`
	MarkedBytes int64 `json:"marked_bytes"`
}

// prunedDamaged is a damaged backup in one store.
type prunedDamaged struct {
	Store string `json:"store"`
	catalog.Damaged
}

func (p *prunedBackups) orEmpty() prunedBackups {
	all := *p
	all.Damaged = orEmpty(p.Damaged)
	all.Stores, all.Series, all.Orphans, all.WAL = orEmpty(p.Stores), orEmpty(p.Series), orEmpty(p.Orphans), orEmpty(p.WAL)
	return all
}

// changes reports whether anything is to be marked, unmarked, locked or deleted.
func (p *prunedBackups) changes() bool {
	return slices.ContainsFunc(p.Series, func(s retention.Series) bool {
		return slices.ContainsFunc(s.Decisions, func(d retention.Decision) bool {
			return !d.Done && (d.Verdict == retention.Mark || d.Verdict == retention.Delete || d.Unmark) || !d.Locked && d.Lacks()
		})
	}) || slices.ContainsFunc(p.Orphans, func(o retention.Orphan) bool {
		return !o.Done && (o.Verdict == retention.Mark || o.Verdict == retention.Delete)
	}) || slices.ContainsFunc(p.WAL, (*expire.Plan).Changes)
}

// intended are what is recorded of a plan before it is carried out.
func (p *prunedBackups) intended() act {
	deleted, marked := p.recorded(func(bool) bool { return true })
	return act{
		params: map[string]string{"delete": strconv.Itoa(len(deleted)), "mark": strconv.Itoa(len(marked))},
		lists:  map[string][]string{"backups": deleted, "wal": recordedWAL(p.WAL)},
	}
}

// outcome is what is recorded of a plan that was carried out, as far as it was.
func (p *prunedBackups) outcome() act {
	deleted, marked := p.recorded(func(done bool) bool { return done })
	return act{lists: map[string][]string{"deleted": deleted, "marked": marked, "deleted_wal": recordedWAL(slices.DeleteFunc(slices.Clone(p.WAL), func(w *expire.Plan) bool { return !w.Done }))}}
}

// recorded are the ids of what is to be deleted and to be marked, and matches: of backups,
// and of what has no manifest. One that is in several stores is there once for each.
func (p *prunedBackups) recorded(matches func(done bool) bool) (deleted, marked []string) {
	add := func(id string, v retention.Verdict, done bool) {
		switch {
		case !matches(done):
		case v == retention.Delete:
			deleted = append(deleted, id)
		case v == retention.Mark:
			marked = append(marked, id)
		}
	}
	for _, s := range p.Series {
		for _, d := range s.Decisions {
			add(d.ID, d.Verdict, d.Done)
		}
	}
	for _, o := range p.Orphans {
		add(o.ID, o.Verdict, o.Done)
	}
	slices.Sort(deleted)
	slices.Sort(marked)
	return deleted, marked
}

// sum adds up what is to be marked and deleted, or, once the plan was carried out, what
// was: what could not be deleted is still marked.
func (p *prunedBackups) sum(carriedOut bool) {
	p.FreedBytes, p.MarkedBytes = 0, 0
	add := func(v retention.Verdict, done bool, size int64) {
		switch {
		case v == retention.Delete && (done || !carriedOut):
			p.FreedBytes += size
		case v == retention.Delete, v == retention.Wait, v == retention.Mark && (done || !carriedOut):
			p.MarkedBytes += size
		}
	}
	for _, s := range p.Series {
		for _, d := range s.Decisions {
			add(d.Verdict, d.Done, d.Bytes)
		}
	}
	for _, o := range p.Orphans {
		add(o.Verdict, o.Done, o.SizeBytes)
	}
	for _, w := range p.WAL {
		for _, r := range w.Rows {
			add(retention.Verdict(r.Verdict), w.Done, r.Bytes)
		}
	}
}

// planBackups plans for the backups in the configured stores. A store that can't be read
// is an error, and the plan says so.
func (p *pruneCommand) planBackups(ctx context.Context) error {
	if p.flags.only == "databases" {
		return nil
	}
	f := catalog.Filter{Database: p.flags.database}
	if !p.flags.allServers {
		var err error
		if f.Server, err = p.servers.serverName(ctx); err != nil {
			if hint := "name the server whose backups to prune: --server NAME, or --all-servers"; ctx.Err() == nil {
				err = pgmedic.Errorf(pgmedic.KindOf(err), hint, "no backups were pruned: %w", err)
			}
			return err
		}
	}
	p.server = f.Server
	p.stores = p.retainer.readStores(ctx, f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.flags.database == "" {
		p.retainer.readWAL(ctx, p.stores, f.Server)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.scope = retentionScope{maxShare: p.share, staleAfter: p.flagged("retention.stale_after", p.cfg.Retention.StaleAfter), displaced: p.displaced()}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if p.wet() && p.done.changes() && p.retainer.checkClocks(ctx, p.stores, &p.done.prunedBackups) {
		if err := p.plan(ctx); err != nil {
			return err
		}
	}
	err := p.stores.unread()
	if err != nil && pgmedic.KindOf(err) == pgmedic.KindNotFound {
		// A disk that is not mounted looks like a folder that no backup has made yet.
		return pgmedic.Errorf(pgmedic.KindNotFound, pgmedic.HintOf(err)+"; `pgmedic prune --only databases` prunes databases alone", "no backups were pruned: %w", err)
	}
	return err
}

// flagged is a setting's value where a flag gave it, else empty.
func (j job) flagged(key, value string) string {
	if j.cfg.Origin(key).Source == config.SourceFlag {
		return value
	}
	return ""
}

// plan fills in the result.
func (p *pruneCommand) plan(ctx context.Context) error {
	b := &p.done.prunedBackups
	b.Stores = nil
	for _, s := range p.stores {
		row := prunedStore{Name: s.Name}
		if s.err != nil {
			row.Error = words.OneLine(s.err.Error())
		}
		b.Stores = append(b.Stores, row)
	}
	names, err := p.stores.chosen(p.flags.stores, p.dir)
	if err != nil {
		return err
	}
	others := func(name string) bool { return len(names) > 0 && !slices.Contains(names, name) }
	b.Series = slices.DeleteFunc(p.retainer.plan(p.stores, p.scope), func(s retention.Series) bool { return others(s.Store) })
	b.Orphans = slices.DeleteFunc(p.retainer.planOrphans(ctx, p.stores), func(o retention.Orphan) bool { return others(o.Store) })
	b.Damaged = nil
	for _, s := range p.stores {
		if !others(s.Name) {
			for _, d := range s.listing.Damaged {
				b.Damaged = append(b.Damaged, prunedDamaged{s.Name, d})
			}
		}
	}
	p.locksErr = p.retainer.stores.planLocks(ctx, p.stores, b.Series, b.Orphans)
	if b.WAL, err = p.retainer.planWAL(ctx, p.stores, b.Series); err != nil {
		return err
	}
	b.WAL = slices.DeleteFunc(b.WAL, func(w *expire.Plan) bool { return others(w.Store) })
	b.sum(false)
	return nil
}

// chosen are the names of the stores that are given, each by its name or its place, seen
// from dir.
func (r retained) chosen(given []string, dir string) (names []string, err error) {
	var known []string
	for _, s := range r {
		known = append(known, s.Name)
	}
	for _, one := range given {
		i := slices.IndexFunc(r, func(s *heldStore) bool { return s.Is(one, dir) })
		if i < 0 {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "the configured stores are "+strings.Join(known, ", "),
				"--store %s is not a configured store: it has no retention", one)
		}
		names = append(names, r[i].Name)
	}
	return names, nil
}

// displaced reports of which databases a swap may have set one aside. Where that is not
// known it is so of all.
func (p *pruneCommand) displaced() func(string) bool {
	if p.noDatabases {
		return nil
	}
	var of []string
	for _, d := range p.done.Databases {
		of = append(of, d.Of)
	}
	return func(database string) bool { return slices.Contains(of, database) }
}

// pruneAfterBackup marks and deletes what retention says of the databases that were just
// backed up. The backups are complete: what goes wrong is of KindDegraded.
func (cmd *backupCommand) pruneAfterBackup(ctx context.Context, taken []backupRow) (*prunedBackups, error) {
	if !cmd.cfg.Retention.AfterBackup || len(taken) == 0 || ctx.Err() != nil {
		return nil, nil
	}
	stores := cmd.retainer.readStores(ctx, catalog.Filter{Server: taken[0].Server})
	defer stores.close()
	if slices.ContainsFunc(taken, func(r backupRow) bool { return r.Database == "" }) {
		cmd.retainer.readWAL(ctx, stores, taken[0].Server)
	}
	scope := retentionScope{only: func(server, database string) bool {
		return slices.ContainsFunc(taken, func(r backupRow) bool { return r.Server == server && r.Database == database })
	}}
	done := &prunedBackups{}
	var locksErr error
	plan := func() {
		done.Series, done.Orphans = cmd.retainer.plan(stores, scope), nil
		for _, o := range cmd.retainer.planOrphans(ctx, stores) {
			if server, database := folderNames(o.Folder); scope.only(server, strings.TrimPrefix(database, "@cluster")) {
				done.Orphans = append(done.Orphans, o)
			}
		}
		locksErr = cmd.retainer.stores.planLocks(ctx, stores, done.Series, done.Orphans)
		var err error
		done.WAL, err = cmd.retainer.planWAL(ctx, stores, done.Series)
		locksErr = errors.Join(locksErr, err)
	}
	plan()
	if cmd.retainer.checkClocks(ctx, stores, done) {
		plan()
	}
	if done.changes() {
		if err := cmd.trail.intend(ctx, done.intended()); err != nil {
			return nil, pgmedic.Errorf(pgmedic.KindDegraded, pgmedic.HintOf(err), "the backup is complete, and old backups were not pruned: %w", err)
		}
	}
	err := cmd.retainer.apply(ctx, stores, done.Series, done.Orphans)
	err = errors.Join(err, cmd.retainer.applyWAL(ctx, stores, done.WAL))
	cmd.trail.about(done.outcome())
	cmd.outcomes.noteDeleted(cmd.notifier, taken[0].Server, deletedBackups(done))
	done.sum(true)
	if !cmd.global.json && !cmd.global.quiet {
		cmd.printAfterBackup(done)
	}
	if ctx.Err() != nil {
		return done, err
	}
	if err = errors.Join(err, stores.unread(), locksErr, stopError(done.Series), stopWALError(done.WAL)); err != nil {
		hint := "the backup is complete; `pgmedic prune` shows the plan"
		if cause := pgmedic.HintOf(err); cause != "" {
			hint = strings.TrimSuffix(cause, ".") + "; " + hint
		}
		return done, pgmedic.Errorf(pgmedic.KindDegraded, hint, "old backups were not pruned as retention says: %w", err)
	}
	return done, nil
}

// printAfterBackup prints what was marked and deleted in a line for each series.
func (cmd *backupCommand) printAfterBackup(done *prunedBackups) {
	for _, s := range done.Series {
		marked, _ := s.Count(retention.Mark)
		deleted, _ := s.Count(retention.Delete)
		if marked+deleted > 0 {
			cmd.wrapf("%s %s\n", cmd.paint(cmd.stdoutTTY).good("pruned"), cmd.value(fmt.Sprintf("%s, in %s: %s", seriesName(s), s.Store, seriesSums(s))))
		}
	}
}
