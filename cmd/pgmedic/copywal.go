package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/archive/expire"
	"github.com/pgmedic/pgmedic/internal/archive/mirror"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// walCopyRow is the WAL of one cluster and one place in the JSON of pgmedic copy.
type walCopyRow struct {
	Server           string `json:"server"`
	SystemIdentifier string `json:"system_identifier"`
	To               string `json:"to"`
	Store            string `json:"store"`
	mirror.Copied
	// Error says why the copy is not whole.
	Error string `json:"error,omitempty"`
}

// copyWAL brings to one place the WAL that it lacks of the clusters whose base backups are
// to be copied, or of all in the store. It comes before the backups, so that no base backup
// is listed there whose WAL is not. What the retention of the place would delete there
// again is left out.
func (cp copier) copyWAL(ctx context.Context, from *catalog.Catalog, target config.Copy, entries []catalog.Entry, all bool) (rows []walCopyRow, err error) {
	archives, err := walToCopy(ctx, from.Store(), entries, all)
	if err != nil || len(archives) == 0 {
		return nil, err
	}
	to, closed, err := cp.stores.openPlace(ctx, target.Place(), target.Access, false)
	if err != nil {
		return nil, fmt.Errorf("open copy store %s: %w", target.Name, err)
	}
	defer closed()
	there, err := to.List(ctx, catalog.Filter{})
	if err != nil {
		return nil, fmt.Errorf("list copy store %s: %w", target.Name, err)
	}
	there.Entries = append(there.Entries, entries...)
	var problem error
	for _, named := range archives {
		row := walCopyRow{Server: named.server, SystemIdentifier: strconv.FormatUint(named.archive.System(), 10), To: target.Name, Store: location(to)}
		row.Copied, err = cp.copyOneWAL(ctx, to, target, named, there)
		if err != nil {
			row.Error = words.OneLine(err.Error())
			problem = errors.Join(problem, err)
		}
		rows = append(rows, row)
		cp.printWALCopy(row)
		if kind := pgmedic.KindOf(err); err != nil && (ctx.Err() != nil || kind == pgmedic.KindUnreachable) {
			break
		}
	}
	return rows, problem
}

// namedArchive is the WAL of a cluster, with the name of its server.
type namedArchive struct {
	server  string
	archive *archive.Archive
}

// walToCopy are the clusters whose WAL is copied.
func walToCopy(ctx context.Context, s store.Store, entries []catalog.Entry, all bool) (found []namedArchive, err error) {
	var servers []string
	if all {
		if servers, err = walServers(ctx, s); err != nil {
			return nil, err
		}
	}
	wanted := map[string]bool{}
	for _, e := range entries {
		if e.Backup.Physical == nil {
			continue
		}
		wanted[e.Backup.Server.Name+"\n"+e.Backup.Server.SystemIdentifier] = true
		if !slices.Contains(servers, e.Backup.Server.Name) {
			servers = append(servers, e.Backup.Server.Name)
		}
	}
	for _, server := range servers {
		archives, err := walArchives(ctx, s, server)
		if err != nil {
			return nil, err
		}
		for _, a := range archives {
			if all || wanted[server+"\n"+strconv.FormatUint(a.System(), 10)] {
				found = append(found, namedArchive{server, a})
			}
		}
	}
	return found, nil
}

func (cp copier) copyOneWAL(ctx context.Context, to *catalog.Catalog, target config.Copy, named namedArchive, there catalog.Listing) (mirror.Copied, error) {
	o := mirror.Options{Jobs: min(cp.cfg.Backup.Jobs, maxCopyJobs)}
	r := newRetainer(cp.job)
	held := &heldStore{StoreOf: config.StoreOf{Name: target.Name, Retention: target.Retention}}
	if !policyOf(target.Retention, 0, "").Off() || !r.pitrSince(held).IsZero() {
		state, err := expire.Read(ctx, named.archive)
		if err != nil {
			return mirror.Copied{}, err
		}
		o.Wants = state.Needs(r.walOptions(held, heldWAL{named.server, state}, there, func(string) bool { return false }))
	}
	return mirror.Copy(ctx, named.archive, archive.New(to.Store(), named.server, named.archive.System()), o)
}

func (cp copier) printWALCopy(r walCopyRow) {
	if cp.global.json || cp.global.quiet || r.Error != "" {
		return
	}
	phrase := words.Plural(r.Copied.Copied, "object") + ", " + words.Bytes(r.CopiedBytes)
	switch {
	case r.Copied.Copied == 0:
		phrase = "was whole"
	case r.Kept > 0:
		phrase += fmt.Sprintf("; %d were there", r.Kept)
	}
	cp.wrapf("%s WAL of %s to %s: %s\n", cp.paint(cp.stdoutTTY).good("copied"), words.Clean(r.Server), words.Clean(r.Store), phrase)
}

// withoutBase leaves out the base backups, which must not be listed where their WAL is not.
func withoutBase(entries []catalog.Entry) []catalog.Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e catalog.Entry) bool { return e.Backup.Physical != nil })
}
