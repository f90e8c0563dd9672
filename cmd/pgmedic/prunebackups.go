package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
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
	// FreedBytes is what the backups and orphans take that are deleted, or would be, and
	// MarkedBytes those that are marked.
	FreedBytes  int64 `json:"freed_bytes"`
	MarkedBytes int64 `json:"marked_bytes"`
}

func (p *prunedBackups) orEmpty() prunedBackups {
	all := *p
	all.Stores, all.Series, all.Orphans = orEmpty(p.Stores), orEmpty(p.Series), orEmpty(p.Orphans)
	return all
}

// changes reports whether anything is to be marked, unmarked or deleted.
func (p *prunedBackups) changes() bool {
	return slices.ContainsFunc(p.Series, func(s retention.Series) bool {
		return slices.ContainsFunc(s.Decisions, func(d retention.Decision) bool {
			return !d.Done && (d.Verdict == retention.Mark || d.Verdict == retention.Delete || d.Unmark)
		})
	}) || slices.ContainsFunc(p.Orphans, func(o retention.Orphan) bool {
		return !o.Done && (o.Verdict == retention.Mark || o.Verdict == retention.Delete)
	})
}

// sum adds up what is marked and deleted.
func (p *prunedBackups) sum() {
	p.FreedBytes, p.MarkedBytes = 0, 0
	for _, s := range p.Series {
		_, freed := s.Count(retention.Delete)
		_, marked := s.Count(retention.Mark)
		_, waiting := s.Count(retention.Wait)
		p.FreedBytes, p.MarkedBytes = p.FreedBytes+freed, p.MarkedBytes+marked+waiting
	}
	for _, o := range p.Orphans {
		switch o.Verdict {
		case retention.Delete:
			p.FreedBytes += o.SizeBytes
		case retention.Mark, retention.Wait:
			p.MarkedBytes += o.SizeBytes
		case retention.Keep:
		}
	}
}

// planBackups plans for the backups in the configured stores. A store that can't be read
// is an error, and the plan says so.
func (p *pruning) planBackups(ctx context.Context) error {
	if p.flags.only == "databases" {
		return nil
	}
	a := p.app
	f := catalog.Filter{Database: p.flags.database}
	if !p.flags.allServers {
		var err error
		if f.Server, err = a.serverName(ctx); err != nil {
			if hint := "name the server whose backups to prune: --server NAME, or --all-servers"; ctx.Err() == nil {
				err = pgmedic.Errorf(pgmedic.KindOf(err), hint, "no backups were pruned: %w", err)
			}
			return err
		}
	}
	p.stores = a.readStores(ctx, f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.scope = retentionScope{maxShare: p.share, staleAfter: a.flagged("retention.stale_after", a.cfg.Retention.StaleAfter), displaced: p.displaced()}
	if err := p.plan(ctx); err != nil {
		return err
	}
	if p.wet() && p.done.changes() && a.checkClocks(ctx, p.stores, p.done.Series, p.done.Orphans) {
		if err := p.plan(ctx); err != nil {
			return err
		}
	}
	return p.stores.unread()
}

// flagged is a setting's value where a flag gave it, else empty.
func (a *app) flagged(key, value string) string {
	if a.cfg.Origin(key).Source == config.SourceFlag {
		return value
	}
	return ""
}

// plan fills in the result.
func (p *pruning) plan(ctx context.Context) error {
	a, b := p.app, &p.done.prunedBackups
	b.Stores = nil
	for _, s := range p.stores {
		row := prunedStore{Name: s.Name}
		if s.err != nil {
			row.Error = words.OneLine(s.err.Error())
		}
		b.Stores = append(b.Stores, row)
	}
	names, err := p.chosenStores()
	if err != nil {
		return err
	}
	others := func(name string) bool { return len(names) > 0 && !slices.Contains(names, name) }
	b.Series = slices.DeleteFunc(a.planRetention(p.stores, p.scope), func(s retention.Series) bool { return others(s.Store) })
	b.Orphans = slices.DeleteFunc(a.planOrphans(ctx, p.stores), func(o retention.Orphan) bool { return others(o.Store) })
	b.sum()
	return nil
}

// chosenStores are the names of the stores that --store names: each by its name or its
// place.
func (p *pruning) chosenStores() (names []string, err error) {
	var known []string
	for _, s := range p.stores {
		known = append(known, s.Name)
	}
	for _, given := range p.flags.stores {
		i := slices.IndexFunc(p.stores, func(s *heldStore) bool { return s.Is(given, p.app.dir) })
		if i < 0 {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "the configured stores are "+strings.Join(known, ", "),
				"--store %s is not a configured store: it has no retention", given)
		}
		names = append(names, p.stores[i].Name)
	}
	return names, nil
}

// displaced reports of which databases a swap may have set one aside. Where that is not
// known it is so of all.
func (p *pruning) displaced() func(string) bool {
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
func (a *app) pruneAfterBackup(ctx context.Context, taken []backupRow) (*prunedBackups, error) {
	if !a.cfg.Retention.AfterBackup || len(taken) == 0 || ctx.Err() != nil {
		return nil, nil
	}
	stores := a.readStores(ctx, catalog.Filter{Server: taken[0].Server})
	defer stores.close()
	scope := retentionScope{only: func(server, database string) bool {
		return slices.ContainsFunc(taken, func(r backupRow) bool { return r.Server == server && r.Database == database })
	}}
	done := &prunedBackups{}
	plan := func() {
		done.Series, done.Orphans = a.planRetention(stores, scope), nil
		for _, o := range a.planOrphans(ctx, stores) {
			if server, database := folderNames(o.Folder); scope.only(server, database) {
				done.Orphans = append(done.Orphans, o)
			}
		}
	}
	plan()
	if a.checkClocks(ctx, stores, done.Series, done.Orphans) {
		plan()
	}
	err := a.applyRetention(ctx, stores, done.Series, done.Orphans)
	done.sum()
	if !a.global.json && !a.global.quiet {
		a.printAfterBackup(done)
	}
	if ctx.Err() != nil {
		return done, err
	}
	if err = errors.Join(err, stores.unread(), stopError(done.Series)); err != nil {
		hint := "the backup is complete; `pgmedic prune` shows the plan"
		if cause := pgmedic.HintOf(err); cause != "" {
			hint = strings.TrimSuffix(cause, ".") + "; " + hint
		}
		return done, pgmedic.Errorf(pgmedic.KindDegraded, hint, "old backups were not pruned as retention says: %w", err)
	}
	return done, nil
}

// printAfterBackup prints what was marked and deleted in a line for each series.
func (a *app) printAfterBackup(done *prunedBackups) {
	for _, s := range done.Series {
		marked, _ := s.Count(retention.Mark)
		deleted, _ := s.Count(retention.Delete)
		if marked+deleted > 0 {
			a.printf("%s %s\n", a.paint(a.stdoutTTY).good("pruned"), a.value(fmt.Sprintf("%s, in %s: %s", seriesName(s), s.Store, seriesSums(s))))
		}
	}
}
