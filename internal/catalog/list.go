package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/shrunk"
	"github.com/pgmedic/pgmedic/internal/signature"
)

// Latest is the reference to the newest regular backup of a whole database.
const Latest = "latest"

// ForeignDump is what to do with a dump that no backup of pgmedic is, as a hint.
const ForeignDump = "for a dump of another program: pgmedic restore --file FILE"

// Filter narrows a listing. Empty fields match everything.
type Filter struct {
	// Server is the name that backups are filed under.
	Server   string
	Database string
	// Cluster matches physical backups alone. Database is not used then.
	Cluster bool
	// databasesOnly leaves physical backups out.
	databasesOnly bool
	// Now is the time by which Get refuses a Latest from the future, and receipts
	// from the future count for nothing good. Zero asks no clock.
	Now time.Time
	// Trust tells who wrote what is said of encrypted backups. With nil it is all a
	// claim.
	Trust Trust
}

// Entry is one backup with what was found out about it later.
type Entry struct {
	// Backup is whole where Get returned it. In a listing it is a summary, without
	// what takes much memory: no chunks, no tables, no hashes, and format 0, so that
	// Check refuses it. Whole reads the rest.
	Backup   *pgmedic.Backup   `json:"backup"`
	Receipts []pgmedic.Receipt `json:"receipts,omitempty"`
	// Keys is how many ways to open the backup are stored beside it. Only
	// backups encrypted with age have any.
	Keys int `json:"keys,omitempty"`
	// Rows and Tables are how many the backup has, which a summary does not list.
	Rows   int64 `json:"-"`
	Tables int   `json:"-"`
	// Shrunk says that the backup has far less than those before it in the listing, or, of
	// Get, that the latest has.
	Shrunk *shrunk.Fall `json:"shrunk,omitempty"`
	// Holds keep the backup from being deleted, Mark says that it will be.
	Holds []Hold `json:"holds,omitempty"`
	Mark  *Mark  `json:"mark,omitempty"`
	// FolderBytes is what everything in the backup's folder takes.
	FolderBytes int64 `json:"-"`
	// Signing says who signed the manifest, where Filter.Trust names signers.
	Signing signature.Signing `json:"signing"`
	// Scope tells backups of different parts of a database apart. It is empty for one
	// of the whole database.
	Scope string `json:"-"`

	beside string // the names of receipts and holds

	facts []fact // of each receipt
	// claims is true where the backup is encrypted and nothing tells who wrote its
	// receipts, costly where a passphrase might.
	claims, costly bool
	// incomplete is true where there were more receipts than were read.
	incomplete bool
	// capped is true of a backup that this host refuses: an unencrypted one, or one that
	// no trusted signer signed, or one whose trusted signature does not fit.
	capped bool
}

// Unopenable reports whether no key opens the backup any more: it is
// encrypted with a key of its own, and no wrap of that is left.
func (e Entry) Unopenable() bool {
	return e.Backup.Seal.Encryption == sealedByAge && e.Keys == 0
}

// Orphan is what a run that never committed left behind, or one that is still
// going on.
type Orphan struct {
	// ID is that of the backup which it would have become, and Folder is where it is in
	// the store.
	ID     string `json:"id"`
	Folder string `json:"folder"`
	// Objects counts those in the folder. SizeBytes is what they take together, NewestAt is
	// when the last of them was stored.
	Objects   int       `json:"objects"`
	SizeBytes int64     `json:"size_bytes"`
	NewestAt  time.Time `json:"newest_at"`
	// MarkedAt is when it was marked for deletion, by the store's clock. What is
	// deleted loses its manifest first, and its mark last.
	MarkedAt time.Time `json:"marked_at,omitzero"`
}

// Listing is what a store holds, newest backup first. Objects that are not
// pgmedic's are left alone and not shown.
type Listing struct {
	Entries []Entry   `json:"entries"`
	Damaged []Damaged `json:"damaged,omitempty"`
	Orphans []Orphan  `json:"orphans,omitempty"`
}

// List returns every backup that matches the filter, as a summary. A manifest that
// can't be used is listed as damaged; only a store that can't be read is an error.
//
// Where it is costly to find out who wrote the receipts of a backup, that is done for the
// newest few; for the others the result is only what they claim.
func (c *Catalog) List(ctx context.Context, f Filter) (Listing, error) {
	out, folders, limits, err := c.list(ctx, f, nil)
	if err == nil {
		err = c.judgeNewest(ctx, f, &out, folders, limits)
	}
	if err != nil {
		return Listing{}, err
	}
	out.markShrunk()
	return out, nil
}

// list is List without telling what is costly. With a reference it is of the
// backups that this may mean, and without their receipts.
func (c *Catalog) list(ctx context.Context, f Filter, ref *string) (Listing, map[string]*folder, *limits, error) {
	f.databasesOnly = ref != nil && *ref == Latest && !f.Cluster
	folders, err := c.folders(ctx, f)
	if err != nil {
		return Listing{}, nil, nil, fmt.Errorf("list the backups: %w", err)
	}
	var (
		out Listing
		mu  sync.Mutex
	)
	limits := newLimits()
	byPath := make(map[string]*folder, len(folders))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, d := range folders {
		if ref != nil && *ref != Latest && !MatchesID(d.id, *ref) {
			continue
		}
		byPath[d.path] = d
		lost := !d.manifest && d.lost(f.Now)
		if !d.manifest && !lost {
			out.Orphans = append(out.Orphans, d.orphan)
			continue
		}
		group.Go(func() error {
			var entry Entry
			err := lostManifest(d)
			if !lost {
				entry, err = c.load(groupCtx, d, &loading{limits: limits, Filter: f, bare: ref != nil})
			}
			var damaged Damaged
			unusable := err != nil && (pgmedic.KindOf(err) == pgmedic.KindIntegrity || pgmedic.KindOf(err) == pgmedic.KindUsage)
			if unusable {
				damaged, err = damagedOf(groupCtx, c, d, err)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && unusable:
				out.Damaged = append(out.Damaged, damaged)
			case err == nil:
				out.Entries = append(out.Entries, entry)
			case pgmedic.KindOf(err) == pgmedic.KindNotFound: // deleted meanwhile
			default:
				return err
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Listing{}, nil, nil, err
	}
	out.sort()
	return out, byPath, limits, nil
}

func (l *Listing) sort() {
	sort.Slice(l.Entries, func(i, j int) bool {
		a, b := l.Entries[i].Backup, l.Entries[j].Backup
		if !a.StartedAt.Equal(b.StartedAt) { // an id has the second only
			return a.StartedAt.After(b.StartedAt)
		}
		return a.ID > b.ID
	})
	sort.Slice(l.Damaged, func(i, j int) bool { return l.Damaged[i].ID > l.Damaged[j].ID })
}

// costlyEntries is for how many backups a listing tells who wrote their receipts,
// where that takes a passphrase: a quarter of a second for each.
const costlyEntries = 4

// judgeNewest tells of the newest backups what was too costly to tell of all. Those
// of which nothing is said yet need none.
func (c *Catalog) judgeNewest(ctx context.Context, f Filter, l *Listing, folders map[string]*folder, limits *limits) error {
	left := costlyEntries
	for i := 0; i < len(l.Entries) && left > 0; i++ {
		e := l.Entries[i]
		if !e.costly || len(e.Receipts) == 0 {
			continue
		}
		left--
		d := folders[Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID)]
		again, err := c.load(ctx, d, &loading{limits: limits, Filter: f, costly: true})
		switch {
		case err == nil:
			l.Entries[i] = again
		case pgmedic.KindOf(err) == pgmedic.KindIntegrity:
			damaged, err := damagedOf(ctx, c, d, err)
			if err != nil && pgmedic.KindOf(err) != pgmedic.KindNotFound { // deleted meanwhile
				return err
			}
			l.Entries = slices.Delete(l.Entries, i, i+1)
			if err == nil {
				l.Damaged = append(l.Damaged, damaged)
			}
			l.sort()
			i--
		case pgmedic.KindOf(err) == pgmedic.KindNotFound: // deleted meanwhile
		default:
			return err
		}
	}
	return nil
}

// Costly counts the entries whose proof is a claim only because telling more was
// too costly.
func (l Listing) Costly() int {
	n := 0
	for _, e := range l.Entries {
		if e.costly && e.Standing().Claimed {
			n++
		}
	}
	return n
}

// limits are what all reads of one listing have together.
type limits struct {
	room   atomic.Int64 // for receipts
	memory *semaphore.Weighted
}

// decodingRoom is how much memory the texts may take that are decoded at a time.
const decodingRoom = maxManifestMemory

func newLimits() *limits {
	l := &limits{memory: semaphore.NewWeighted(decodingRoom)}
	l.room.Store(receiptRoom)
	return l
}

// acquire waits until there is memory to decode a JSON text of that size, which may
// take thirty times as much.
func (l *limits) acquire(ctx context.Context, size int64) (release func(), err error) {
	n := min(max(size, 0), decodingRoom/32) * 32
	if err := l.memory.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { l.memory.Release(n) }, nil
}

// loading says how one backup is read.
type loading struct {
	*limits
	Filter
	// whole reads all of it, costly also tries what takes long, bare leaves receipts
	// out.
	whole, costly, bare bool
	// check checks receipts; where it is nil and mustCheck is true, none is known to
	// be authentic.
	check     CheckReceipt
	mustCheck bool
}

// load reads a backup and what was found out about it.
func (c *Catalog) load(ctx context.Context, d *folder, l *loading) (Entry, error) {
	entry, err := c.loadManifest(ctx, d, l)
	if err != nil || l.bare {
		return entry, err
	}
	if err := readHolds(ctx, c, d, &entry); err != nil {
		return entry, err
	}
	return entry, c.readReceipts(ctx, d, &entry, l)
}

func (c *Catalog) loadManifest(ctx context.Context, d *folder, l *loading) (Entry, error) {
	release, err := l.acquire(ctx, d.size)
	if err != nil {
		return Entry{}, err
	}
	defer release()
	b, data, err := c.readManifest(ctx, d.path, d.id)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Backup: b, Keys: d.keys, Rows: b.Rows(), Tables: len(b.Tables), FolderBytes: d.orphan.SizeBytes, Scope: scopeOf(b)}
	if err := c.authenticate(ctx, d, b, data, &entry, l); err != nil {
		return Entry{}, err
	}
	if err := judgeSigning(ctx, signable(c, d.path, d.id, data), d.signatures, &entry, l); err != nil {
		return Entry{}, err
	}
	if l.whole {
		c.remember(b, data)
		return entry, nil
	}
	entry.Backup = summary(b)
	return entry, nil
}

// authenticate asks who wrote the manifest, where this host can tell.
func (c *Catalog) authenticate(ctx context.Context, d *folder, b *pgmedic.Backup, data []byte, e *Entry, l *loading) (err error) {
	if b.Seal.Encryption == notEncrypted {
		e.capped = l.Trust != nil && l.Trust.RefusesUnencrypted()
		return nil
	}
	l.mustCheck = true
	if l.Trust != nil && !e.Unopenable() {
		m, err := c.signed(ctx, d.path, d.id, data)
		if err != nil {
			return err
		}
		l.check, err = l.Trust.Open(ctx, c, b, m, l.costly)
		if e.costly = errors.Is(err, ErrCostly); err != nil && !e.costly {
			return err
		}
	}
	e.claims = l.check == nil
	return nil
}

// judgeSigning asks who signed the manifest, where this host trusts anybody to.
func judgeSigning(ctx context.Context, m signature.Manifest, stored int, e *Entry, l *loading) (err error) {
	var by signature.Signers
	if l.Trust != nil && !l.bare {
		by = l.Trust.Signers()
	}
	e.Signing, err = m.SigningOf(ctx, stored, by)
	// A trusted key's signature that does not fit is refused wherever unsigned ones are not.
	invalid := e.Signing.State == signature.Invalid
	if by != nil && (invalid || e.Signing.State != signature.Trusted && l.Trust.RefusesUnsigned()) {
		e.capped = true
	}
	return err
}

// summary is what a listing keeps of a backup.
func summary(b *pgmedic.Backup) *pgmedic.Backup {
	s := &pgmedic.Backup{
		ID: b.ID, Method: b.Method, Purpose: b.Purpose, StartedAt: b.StartedAt, SnapshotAt: b.SnapshotAt, SnapshotLSN: b.SnapshotLSN, SnapshotTimeline: b.SnapshotTimeline,
		FinishedAt: b.FinishedAt, Host: b.Host, Programs: b.Programs, Server: b.Server, Labels: b.Labels, Seal: b.Seal,
		Database: pgmedic.Database{Name: b.Database.Name, Owner: b.Database.Owner, Encoding: b.Database.Encoding, SizeBytes: b.Database.SizeBytes},
		Objects:  make([]pgmedic.Object, 0, len(b.Objects)),
		Audit:    b.Audit,
	}
	if b.Physical != nil {
		p := *b.Physical
		p.Databases, p.PageErrors, p.Preload, p.Truncations = nil, nil, nil, nil
		s.Physical = &p
	}
	if b.Scope != nil {
		s.Scope = &pgmedic.Scope{}
	}
	for _, o := range b.Objects {
		s.Objects = append(s.Objects, pgmedic.Object{Name: o.Name, Role: o.Role, StoredBytes: o.StoredBytes, PlainBytes: o.PlainBytes})
	}
	return s
}

// Whole reads all of a backup that List returned a summary of.
func (c *Catalog) Whole(ctx context.Context, e Entry) (*pgmedic.Backup, error) {
	if e.Backup.Format != 0 {
		return e.Backup, nil
	}
	b, data, err := c.readManifest(ctx, Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID), e.Backup.ID)
	if err != nil {
		return nil, err
	}
	c.remember(b, data)
	return b, nil
}

// Get returns the backup that ref names: an id, the beginning of one, the six
// hex digits at its end, or Latest, which is the newest regular backup that
// matches the filter, and a physical one only where Filter.Cluster asks for it. Safety backups are never the latest: one holds what a
// restore replaced. Nor are partial ones. If the newest is damaged Get says so and does not quietly
// return an older one.
//
// The backup is whole. Its receipts are authenticated with Filter.Trust, whatever
// that takes.
func (c *Catalog) Get(ctx context.Context, ref string, f Filter) (Entry, error) {
	unasked := f
	unasked.Trust = nil
	listing, folders, _, err := c.list(ctx, unasked, &ref)
	if err != nil {
		return Entry{}, err
	}
	if ref == Latest {
		listing.markShrunk() // by an id no other backup is read
	}
	e, err := listing.find(c, ref, f)
	if err != nil {
		return Entry{}, besideBases(ctx, c, f, ref, err)
	}
	d := folders[Folder(e.Backup.Server.Name, e.Backup.Database.Name, e.Backup.ID)]
	fall := e.Shrunk
	e, err = c.load(ctx, d, &loading{limits: newLimits(), Filter: f, whole: true, costly: true})
	e.Shrunk = fall
	return e, err
}

// besideBases adds to the error that there is no latest backup that there are base backups, which
// are not backups of a database.
func besideBases(ctx context.Context, c *Catalog, f Filter, ref string, missing error) error {
	if ref != Latest || f.Cluster || pgmedic.KindOf(missing) != pgmedic.KindNotFound {
		return missing
	}
	bases, err := c.folders(ctx, Filter{Server: f.Server, Cluster: true})
	if err != nil || !slices.ContainsFunc(bases, func(d *folder) bool { return d.manifest }) {
		return missing
	}
	return pgmedic.Errorf(pgmedic.KindNotFound, "give the id of a base backup (`pgmedic list`), or restore it with --target-dir; a backup of a database is taken by: pgmedic backup",
		"%w: there are base backups of whole clusters alone", missing)
}

// find is Get in a listing.
func (l Listing) find(c *Catalog, ref string, f Filter) (Entry, error) {
	if ref == Latest {
		return l.latest(c, f)
	}
	var (
		match error // of the last that matches, if it is damaged
		entry Entry
		ids   []string
	)
	for _, e := range l.Entries {
		if MatchesID(e.Backup.ID, ref) {
			entry, ids = e, append(ids, e.Backup.ID)
		}
	}
	for _, d := range l.Damaged {
		if MatchesID(d.ID, ref) {
			match, ids = d.Err, append(ids, d.ID)
		}
	}
	switch len(ids) {
	case 0:
		for _, o := range l.Orphans {
			if MatchesID(o.ID, ref) {
				return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, "a backup without a manifest does not exist; run a new one",
					"backup %s was never finished, or its manifest is gone", o.ID)
			}
		}
		hint := "`pgmedic list` shows what is there"
		if strings.ContainsAny(ref, "./") {
			hint = "name a backup by its id (`pgmedic list`); " + ForeignDump
		}
		return Entry{}, pgmedic.Errorf(pgmedic.KindNotFound, hint, "no backup %q in %s", ref, c.store)
	case 1:
		return entry, match
	}
	return Entry{}, pgmedic.Errorf(pgmedic.KindUsage, "give more of the id",
		"%q names %d backups: %s", ref, len(ids), strings.Join(ids[:min(len(ids), 5)], ", "))
}

// MatchesID reports whether a reference, which people write, means a backup: the beginning of
// its id, or the part behind its time.
func MatchesID(id, ref string) bool {
	return ref != "" && (strings.HasPrefix(id, ref) || strings.HasSuffix(id, "-"+ref))
}

// second returns the part of an id that tells when the backup began.
func second(id string) string {
	s, _, _ := strings.Cut(id, "-")
	return s
}
