package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/archive/expire"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// heldWAL is the WAL of one cluster in a store.
type heldWAL struct {
	server string
	state  *expire.State
}

// readWAL reads the WAL of a server in all stores, or that of all servers. A store in which
// it can't be read has its error.
func (r retainer) readWAL(ctx context.Context, stores retained, server string) {
	var reading sync.WaitGroup
	for _, s := range stores {
		if s.err == nil {
			reading.Go(func() { s.wal, s.err = readWALOf(ctx, s.catalog.Store(), server) })
		}
	}
	reading.Wait()
}

func readWALOf(ctx context.Context, s store.Store, server string) (all []heldWAL, err error) {
	servers := []string{server}
	if server == "" {
		if servers, err = walServers(ctx, s); err != nil {
			return nil, err
		}
	}
	for _, name := range servers {
		archives, err := walArchives(ctx, s, name)
		if err != nil {
			return nil, err
		}
		for _, a := range archives {
			state, err := expire.Read(ctx, a)
			if err != nil {
				return nil, fmt.Errorf("read the WAL of server %s: %w", name, err)
			}
			all = append(all, heldWAL{name, state})
		}
	}
	return all, nil
}

// walServers are the names of the servers in a store that have WAL.
func walServers(ctx context.Context, s store.Store) (all []string, err error) {
	for folder, err := range s.Folders(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("list the servers in the store: %w", err)
		}
		name, err := url.PathUnescape(strings.TrimSuffix(folder, "/"))
		if err != nil || catalog.EscapeName(name)+"/" != folder {
			continue
		}
		systems, err := archive.Systems(ctx, s, name)
		if folder == catalog.AnchorsFolder && errors.Is(err, fs.ErrPermission) {
			continue // the anchors of another user's audit log
		}
		if err != nil {
			return nil, err
		}
		if len(systems) > 0 {
			all = append(all, name)
		}
	}
	return all, nil
}

// pitrSince is the moment from which on any other stays reachable: zero where that is the
// oldest backup that is kept.
func (r retainer) pitrSince(s *heldStore) time.Time {
	length, err := pgmedic.ParseLength(s.Retention.PITR)
	if err != nil || length.IsZero() { // it was checked
		return time.Time{}
	}
	return length.Before(r.now().In(s.Retention.Zone()))
}

// walOptions are what the plan of a cluster's WAL depends on, with the backups that are
// listed; gone reports whether one of them is deleted before the WAL.
func (r retainer) walOptions(s *heldStore, w heldWAL, listing catalog.Listing, gone func(id string) bool) expire.Options {
	o := expire.Options{Since: r.pitrSince(s), Grace: s.Retention.Grace, Now: r.now(), Host: hostName(), Locks: r.stores.lockPolicy(s.Locking).On(), Leases: s.leases[clusterKey{w.server, strconv.FormatUint(w.state.System(), 10)}]}
	var entries []catalog.Entry
	for _, e := range listing.Entries {
		if e.Backup.Server.Name == w.server && e.Backup.Server.SystemIdentifier == strconv.FormatUint(w.state.System(), 10) {
			entries = append(entries, e)
		}
	}
	for _, b := range retainedBackups(entries) {
		b.Kept = !gone(b.ID)
		o.Backups = append(o.Backups, b)
	}
	for _, d := range listing.Damaged {
		if strings.HasPrefix(d.Folder, catalog.Folder(w.server, "", "")) {
			o.Stop = "base backup " + d.ID + " is damaged, and it is not known which WAL it needs"
			o.Hint = "`pgmedic show " + d.ID + "` says what is wrong; copy it from another store, or `pgmedic delete " + d.ID + "`"
		}
	}
	return o
}

// retainedBackups are the base backups of a cluster as what needs WAL. An incremental one is
// bad where what it needs is, or is not there.
func retainedBackups(entries []catalog.Entry) (all []wal.RetainedBackup) {
	var good []*pgmedic.Backup
	for _, e := range entries {
		if b, ok := retainedBackup(e); ok && !b.Bad {
			good = append(good, e.Backup)
		}
	}
	whole := chain.Whole(good)
	for _, e := range entries {
		if b, ok := retainedBackup(e); ok {
			b.Bad = !slices.Contains(whole, e.Backup)
			all = append(all, b)
		}
	}
	return all
}

// retainedBackup is a base backup as what needs WAL. It is false for other backups.
func retainedBackup(e catalog.Entry) (b wal.RetainedBackup, ok bool) {
	p := e.Backup.Physical
	if p == nil {
		return b, false
	}
	start, startErr := wal.ParseLSN(p.StartLSN)
	stop, stopErr := wal.ParseLSN(p.StopLSN)
	if startErr != nil || stopErr != nil {
		return b, false // its manifest was checked
	}
	// The history of the timeline on which it ended has that on which it began.
	return wal.RetainedBackup{
		Base: wal.Base{ID: e.Backup.ID, Timeline: wal.Timeline(p.StopTimeline), Start: start, Stop: stop},
		// One that this host refuses may be forged, to take the place of the one before a window.
		At: e.Backup.FinishedAt, Bad: e.Standing().Proof == pgmedic.ProofFailed || !e.Backup.Clean() || e.Refused(),
	}, true
}

// neededForPITR says of which backups recovery to any moment since retention.pitr begins.
func (r retainer) neededForPITR(stores retained) func(string, catalog.Entry) string {
	const why = "recovery to any moment of the last "
	needed := map[string]string{}
	for _, s := range stores {
		for _, w := range s.wal {
			for _, b := range w.state.Anchors(r.walOptions(s, w, s.listing, func(string) bool { return false })) {
				needed[s.Name+"\n"+catalog.Folder(w.server, "", b.ID)] = why + s.Retention.PITR + " begins with it"
			}
		}
	}
	return func(store string, e catalog.Entry) string {
		if e.Backup.Physical == nil {
			return ""
		}
		return needed[store+"\n"+catalog.Folder(e.Backup.Server.Name, "", e.Backup.ID)]
	}
}

// planWAL plans for the WAL that was read, with the plan of the backups: what one needs
// stays until its manifest has gone.
func (r retainer) planWAL(ctx context.Context, stores retained, series []retention.Series) (all []*expire.Plan, err error) {
	policies := stores.policies(0, "")
	for _, s := range stores {
		i := slices.IndexFunc(policies, func(p retention.Store) bool { return p.Name == s.Name })
		for _, w := range s.wal {
			if i < 0 || policies[i].Policy.Off() && r.pitrSince(s).IsZero() {
				continue // which keeps everything
			}
			o := r.walOptions(s, w, s.listing, func(id string) bool { return goes(series, s.Name, id) })
			for _, one := range series {
				if one.Store == s.Name && one.Server == w.server && one.Database == "" && one.Stopped != "" {
					o.Stop, o.Hint = one.Stopped, one.Hint
				}
			}
			if policies[i].Stop != "" {
				o.Stop, o.Hint = policies[i].Stop, policies[i].Hint
			}
			plan, err := w.state.Plan(ctx, o)
			if err != nil {
				return nil, err
			}
			plan.Store, plan.Server = s.Name, w.server
			all = append(all, plan)
		}
	}
	return all, nil
}

// goes reports whether the plan deletes a backup now.
func goes(series []retention.Series, store, id string) bool {
	return slices.ContainsFunc(series, func(s retention.Series) bool {
		return s.Store == store && slices.ContainsFunc(s.Decisions, func(d retention.Decision) bool { return d.ID == id && d.Verdict == retention.Delete })
	})
}

// applyWAL marks and deletes WAL, after the backups that needed it. It reads the backups
// and the WAL again, and plans by what is there now.
func (r retainer) applyWAL(ctx context.Context, stores retained, plans []*expire.Plan) error {
	var errs []error
	for i, p := range plans {
		if !p.Changes() {
			continue
		}
		again, err := r.againWAL(ctx, stores.named(p.Store), p)
		if err == nil {
			plans[i] = again
			err = again.Carry(ctx)
		}
		if err == nil {
			err = again.SweepLeases(ctx)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// againWAL makes a plan again, of what there is now.
func (r retainer) againWAL(ctx context.Context, s *heldStore, p *expire.Plan) (*expire.Plan, error) {
	listing, err := s.catalog.List(ctx, r.keys.trusting(catalog.Filter{Server: p.Server, Cluster: true}))
	if err != nil {
		return nil, fmt.Errorf("look at the base backups before WAL is deleted: %w", err)
	}
	system, err := strconv.ParseUint(p.System, 10, 64)
	if err != nil {
		return nil, err
	}
	state, err := expire.Read(ctx, archive.New(s.catalog.Store(), p.Server, system))
	if err != nil {
		return nil, err
	}
	w := heldWAL{p.Server, state}
	if s.leases, err = r.leasesOf(ctx, s.catalog, listing.Entries, r.now()); err != nil {
		return nil, err
	}
	again, err := state.Plan(ctx, r.walOptions(s, w, listing, func(string) bool { return false }))
	if err != nil {
		return nil, err
	}
	again.Store, again.Server = p.Store, p.Server
	return again, nil
}

// changesWAL reports whether a plan changes WAL in a store.
func changesWAL(store string, plans []*expire.Plan) bool {
	return slices.ContainsFunc(plans, func(p *expire.Plan) bool { return p.Store == store && p.Changes() })
}

// stopWALError is the error of the clusters of whose WAL nothing was deleted.
func stopWALError(plans []*expire.Plan) error {
	var errs []error
	for _, p := range plans {
		if p.Stopped != "" {
			errs = append(errs, pgmedic.Errorf(pgmedic.KindFailed, p.Hint, "nothing was deleted of the %s in %s: %s", walName(p), p.Store, p.Stopped))
		}
	}
	return errors.Join(errs...)
}

func walName(p *expire.Plan) string { return "WAL of " + p.Server + ", cluster " + p.System }

// recordedWAL is what is recorded of plans: a line for each stretch that goes.
func recordedWAL(plans []*expire.Plan) (all []string) {
	for _, p := range plans {
		for _, row := range p.Rows {
			if row.Verdict == expire.Delete {
				all = append(all, fmt.Sprintf("%s timeline %d %v-%v: %s", p.System, row.Timeline, row.From, row.To, words.Plural(row.Objects, "object")))
			}
		}
	}
	return all
}

// printWAL prints what becomes of WAL.
func (p *pruneCommand) printWAL(plans []*expire.Plan, keeps bool) {
	paint := p.paint(p.stdoutTTY)
	for _, w := range plans {
		p.wrapf("%s  %s\n", paint.bold(words.Clean(walName(w)+", in "+w.Store)), walSums(w))
		if w.Stopped != "" {
			p.wrapf("  %s %s\n", paint.bad("nothing is deleted:"), words.Clean(w.Stopped))
		}
		for _, row := range w.Rows {
			if row.Verdict == expire.Keep && (!keeps || w.Stopped != "") {
				continue
			}
			done := w.Done && (row.Verdict == expire.Mark || row.Verdict == expire.Delete)
			p.wrapf("  %s  timeline %d, %v to %v  %s\n", verdict(paint, retention.Verdict(row.Verdict), false, done), row.Timeline, row.From, row.To, words.Clean(walRowWords(row)))
		}
		for _, note := range w.Notes {
			p.wrapf("  %s  %s\n", paint.warn("note    "), words.Clean(note))
		}
	}
}

// walSums says how much WAL has which verdict.
func walSums(w *expire.Plan) string {
	var text []string
	for _, v := range []struct {
		verdict expire.Verdict
		word    string
	}{{expire.Keep, "keeps"}, {expire.Mark, "marks"}, {expire.Wait, "waits for"}, {expire.Delete, "deletes"}} {
		if n, size := w.Count(v.verdict); n > 0 {
			text = append(text, fmt.Sprintf("%s %s (%s)", v.word, words.Plural(n, "object"), words.Bytes(size)))
		}
	}
	return strings.Join(text, ", ")
}

func walRowWords(row expire.Row) string {
	text := fmt.Sprintf("%s, %s; %s", words.Plural(row.Objects, "object"), words.Bytes(row.Bytes), row.Reason)
	if !row.DeleteAfter.IsZero() {
		text += "; may go at " + row.DeleteAfter.UTC().Format("2006-01-02 15:04Z")
	}
	return text
}
