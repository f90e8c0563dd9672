package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
)

// Latest is the reference to the newest regular backup of a whole database.
const Latest = "latest"

// Filter narrows a listing. Empty fields match everything.
type Filter struct {
	// Server is the name that backups are filed under.
	Server   string
	Database string
}

// Entry is one backup with what was found out about it later.
type Entry struct {
	Backup   *pgmedic.Backup   `json:"backup"`
	Receipts []pgmedic.Receipt `json:"receipts,omitempty"`
}

// Damaged is a backup whose manifest can't be used.
type Damaged struct {
	ID     string `json:"id"`
	Folder string `json:"folder"`
	Err    error  `json:"-"`
	Reason string `json:"reason"`
}

// Orphan is what a run that never committed left behind, or one that is still
// going on.
type Orphan struct {
	ID        string    `json:"id"`
	Folder    string    `json:"folder"`
	Objects   int       `json:"objects"`
	SizeBytes int64     `json:"size_bytes"`
	NewestAt  time.Time `json:"newest_at"`
}

// Listing is what a store holds, newest backup first. Objects that are not
// pgmedic's are left alone and not shown.
type Listing struct {
	Entries []Entry   `json:"entries"`
	Damaged []Damaged `json:"damaged,omitempty"`
	Orphans []Orphan  `json:"orphans,omitempty"`
}

// folder is what a listing of keys shows of one backup.
type folder struct {
	path, id string
	manifest bool
	receipts []string
	orphan   Orphan
}

// List returns every backup that matches the filter. A manifest that can't be
// used is listed as damaged; only a store that can't be read is an error.
func (c *Catalog) List(ctx context.Context, f Filter) (Listing, error) {
	folders, err := c.folders(ctx, f)
	if err != nil {
		return Listing{}, fmt.Errorf("list the backups in %s: %w", c.store, err)
	}
	var (
		out Listing
		mu  sync.Mutex
	)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, d := range folders {
		if !d.manifest {
			out.Orphans = append(out.Orphans, d.orphan)
			continue
		}
		group.Go(func() error {
			entry, err := c.load(groupCtx, d)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				out.Entries = append(out.Entries, entry)
			case pgmedic.KindOf(err) == pgmedic.KindIntegrity, pgmedic.KindOf(err) == pgmedic.KindUsage:
				out.Damaged = append(out.Damaged, Damaged{ID: d.id, Folder: d.path, Err: err, Reason: err.Error()})
			case pgmedic.KindOf(err) == pgmedic.KindNotFound: // deleted meanwhile
			default:
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Listing{}, err
	}
	sort.Slice(out.Entries, func(i, j int) bool {
		a, b := out.Entries[i].Backup, out.Entries[j].Backup
		if !a.StartedAt.Equal(b.StartedAt) { // an id has the second only
			return a.StartedAt.After(b.StartedAt)
		}
		return a.ID > b.ID
	})
	sort.Slice(out.Damaged, func(i, j int) bool { return out.Damaged[i].ID > out.Damaged[j].ID })
	return out, nil
}

func (c *Catalog) folders(ctx context.Context, f Filter) ([]*folder, error) {
	prefix := ""
	if f.Server != "" {
		prefix = EscapeName(f.Server) + "/"
		if f.Database != "" {
			prefix += EscapeName(f.Database) + "/"
		}
	}
	var all []*folder
	byPath := map[string]*folder{}
	for object, err := range c.store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		m := backupKey.FindStringSubmatch(object.Key)
		if m == nil || f.Database != "" && path.Base(path.Dir(m[1])) != EscapeName(f.Database) {
			continue
		}
		d := byPath[m[1]]
		if d == nil {
			d = &folder{path: m[1], id: m[2], orphan: Orphan{ID: m[2], Folder: m[1]}}
			byPath[m[1]] = d
			all = append(all, d)
		}
		switch name := m[3]; {
		case name == manifestName:
			d.manifest = true
		case strings.HasPrefix(name, receiptsFolder+"/") && strings.HasSuffix(name, ".json"):
			d.receipts = append(d.receipts, object.Key)
		}
		d.orphan.Objects++
		d.orphan.SizeBytes += object.SizeBytes
		if object.ModifiedAt.After(d.orphan.NewestAt) {
			d.orphan.NewestAt = object.ModifiedAt
		}
	}
	return all, nil
}

func (c *Catalog) load(ctx context.Context, d *folder) (Entry, error) {
	b, err := c.readManifest(ctx, d.path, d.id)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Backup: b}
	for _, key := range d.receipts {
		data, err := c.read(ctx, key, 16<<20)
		switch kind := pgmedic.KindOf(err); {
		case err == nil:
		case kind == pgmedic.KindIntegrity, kind == pgmedic.KindNotFound:
			continue // as none; it must not take the backup from the list
		default:
			return Entry{}, fmt.Errorf("read receipt %s: %w", path.Base(key), err)
		}
		var r pgmedic.Receipt
		// A receipt carries no weight in a restore: a bad one is as none.
		if json.Unmarshal(data, &r) == nil && r.BackupID == d.id && r.Format <= pgmedic.ReceiptFormat &&
			(r.Outcome == pgmedic.OutcomeOK || r.Outcome == pgmedic.OutcomeFailed) {
			entry.Receipts = append(entry.Receipts, r)
		}
	}
	slices.SortFunc(entry.Receipts, func(a, b pgmedic.Receipt) int { return a.At.Compare(b.At) })
	return entry, nil
}

// Get returns the backup that ref names: an id, the beginning of one, the six
// hex digits at its end, or Latest, which is the newest regular backup that
// matches the filter. Safety backups are never the latest: one holds what a
// restore replaced. Nor are partial ones. If the newest is damaged Get says so and does not quietly
// return an older one.
func (c *Catalog) Get(ctx context.Context, ref string, f Filter) (Entry, error) {
	listing, err := c.List(ctx, f)
	if err != nil {
		return Entry{}, err
	}
	if ref == Latest {
		return listing.latest(c, f)
	}
	var (
		match error // of the last that matches, if it is damaged
		entry Entry
		ids   []string
	)
	for _, e := range listing.Entries {
		if matchesID(e.Backup.ID, ref) {
			entry, ids = e, append(ids, e.Backup.ID)
		}
	}
	for _, d := range listing.Damaged {
		if matchesID(d.ID, ref) {
			match, ids = d.Err, append(ids, d.ID)
		}
	}
	switch len(ids) {
	case 0:
		for _, o := range listing.Orphans {
			if matchesID(o.ID, ref) {
				return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, "a backup without a manifest does not exist; run a new one",
					"backup %s was never finished, or its manifest is gone", o.ID)
			}
		}
		return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic list` shows what is there",
			"no backup %q in %s", ref, c.store)
	case 1:
		return entry, match
	}
	return Entry{}, pgmedic.Errorf(pgmedic.KindUsage, "give more of the id",
		"%q names %d backups: %s", ref, len(ids), strings.Join(ids[:min(len(ids), 5)], ", "))
}

func matchesID(id, ref string) bool {
	return ref != "" && (strings.HasPrefix(id, ref) || strings.HasSuffix(id, "-"+ref))
}

// second returns the part of an id that tells when the backup began.
func second(id string) string {
	s, _, _ := strings.Cut(id, "-")
	return s
}

func (l Listing) latest(c *Catalog, f Filter) (Entry, error) {
	i := slices.IndexFunc(l.Entries, func(e Entry) bool {
		return e.Backup.Purpose != pgmedic.PurposeSafety && !e.Backup.Partial()
	})
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
	if i < 0 {
		what := ""
		if f.Database != "" {
			what = fmt.Sprintf(" of database %q", f.Database)
		}
		hint := "take one: pgmedic backup"
		if slices.ContainsFunc(l.Entries, func(e Entry) bool { return e.Backup.Partial() }) {
			what, hint = " of the whole database"+strings.TrimPrefix(what, " of database"), "take one: pgmedic backup; partial ones are named by their id"
		}
		return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, hint, "no backup%s in %s", what, c.store)
	}
	return l.Entries[i], nil
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

// Proof returns how much is known of the backup, and since when. A failed drill
// stands until a later drill succeeds; bytes found damaged after a drill stand
// until then too.
func (e Entry) Proof() (pgmedic.Proof, time.Time) {
	var drill, verify *pgmedic.Receipt
	for i := range e.Receipts { // oldest first
		switch r := &e.Receipts[i]; r.Kind {
		case pgmedic.ReceiptDrill:
			drill = r
		case pgmedic.ReceiptVerify:
			verify = r
		case pgmedic.ReceiptRestore:
		}
	}
	failed := func(r *pgmedic.Receipt) bool { return r != nil && r.Outcome == pgmedic.OutcomeFailed }
	switch {
	case failed(drill):
		return pgmedic.ProofFailed, drill.At
	case failed(verify) && (drill == nil || verify.At.After(drill.At)):
		return pgmedic.ProofFailed, verify.At
	case drill != nil:
		return pgmedic.ProofProven, drill.At
	case verify != nil && !failed(verify):
		return verify.Proof, verify.At
	}
	return pgmedic.ProofTaken, e.Backup.FinishedAt
}

// LastDrill returns the newest drill that proved the backup.
func (e Entry) LastDrill() (pgmedic.Receipt, bool) {
	for _, r := range slices.Backward(e.Receipts) {
		if r.Kind == pgmedic.ReceiptDrill && r.Outcome != pgmedic.OutcomeFailed {
			return r, true
		}
	}
	return pgmedic.Receipt{}, false
}
