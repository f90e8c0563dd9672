package catalog

import (
	"context"
	"encoding/json"
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
	// Now is the time by which Get refuses a Latest from the future. Zero asks
	// no clock.
	Now time.Time
}

// Entry is one backup with what was found out about it later.
type Entry struct {
	Backup   *pgmedic.Backup   `json:"backup"`
	Receipts []pgmedic.Receipt `json:"receipts,omitempty"`
	// Keys is how many ways to open the backup are stored beside it. Only
	// backups encrypted with age have any.
	Keys int `json:"keys,omitempty"`
}

// Unopenable reports whether nobody can open the backup any more: it is
// encrypted with a key of its own, and no wrap of that is left.
func (e Entry) Unopenable() bool {
	return e.Backup.Seal.Encryption == sealedByAge && e.Keys == 0
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
	keys     int
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
		case strings.HasPrefix(name, keysFolder+"/") && strings.HasSuffix(name, ".age"):
			d.keys++
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
	entry := Entry{Backup: b, Keys: d.keys}
	for _, key := range d.receipts {
		data, err := c.read(ctx, key, maxReceiptBytes)
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
