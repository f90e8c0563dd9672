package physical

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/replication"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// Incremental says how a backup can be incremental. Where it can't be, a full one is taken, and
// the log says why.
type Incremental struct {
	// MaxChain is how many backups a restore may need, the full one included: at least 2.
	MaxChain int
	// Manifest opens the server's manifest of a backup, the object of role
	// pgmedic.RoleServerManifest, or of a backup that was read by SQL its list of files, of role
	// pgmedic.RoleFiles. Only a host that can open the backup has them. An error of it, such as that
	// no key is there, makes the backup a full one.
	Manifest func(ctx context.Context, b *pgmedic.Backup) (io.ReadCloser, error)
	// Keep receives the same of this backup, for the next one: a host that can
	// only write to the store keeps it outside of it. Nil keeps nothing. Its errors do not end the
	// backup.
	Keep io.Writer
	// Reading is called with the backups that the new one will need, before anything of it is taken: until it
	// is committed no listing says that they are needed. It keeps them from being deleted until
	// what it returns is called. Nil keeps nothing.
	Reading func(ctx context.Context, needed []*pgmedic.Backup) (release func())
}

// keep is where the server's manifest goes besides the store.
func (r *run) keep(w io.Writer) io.Writer {
	if r.Incremental == nil || r.Incremental.Keep == nil {
		return w
	}
	return io.MultiWriter(w, careless{r.Incremental.Keep})
}

// keepList is where the list of files goes besides the store: it is what the next backup needs
// where files are read by SQL.
func (r *run) keepList(w io.Writer) io.Writer {
	if r.cluster == nil {
		return w
	}
	return r.keep(w)
}

// careless is a writer whose errors are its own.
type careless struct{ w io.Writer }

func (c careless) Write(p []byte) (int, error) {
	_, _ = c.w.Write(p) // which it remembers
	return len(p), nil
}

// Child is what it depends on which backup can be a parent: the server that is backed up.
type Child struct {
	SystemIdentifier string
	VersionNum       int
	Timeline         wal.Timeline
	Standby          bool
	// SQL is there where the files are read by SQL: then the parent's must have been, too.
	SQL *SQLChild
	// MaxChain is as in Incremental.
	MaxChain int
}

// ParentOf returns the newest backup of a listing, newest first, that another one of the server can be
// incremental to, and after it what that needs; or why there is none: the newest one that is sound
// decides. It is pure.
func ParentOf(entries []catalog.Entry, s Child) (needed []*pgmedic.Backup, why string) {
	if s.VersionNum/10000 < replication.FirstIncremental && s.SQL == nil {
		return nil, "PostgreSQL takes incremental backups from version 17 on; --reader sql leaves out whole files, with every version"
	}
	if s.Standby {
		return nil, "the server is a standby"
	}
	var sound []*pgmedic.Backup
	for _, e := range entries {
		if b := e.Backup; b.Physical != nil && b.Clean() && e.Mark == nil && !failed(e) && b.Server.SystemIdentifier == s.SystemIdentifier && (b.Physical.SQL != nil) == (s.SQL != nil) {
			sound = append(sound, b)
		}
	}
	for _, b := range sound { // the newest first
		needed, err := chain.Of(b, sound)
		if err != nil {
			continue // a part of it is not sound, or gone
		}
		p := b.Physical
		switch {
		case p.FromStandby:
			return nil, "the backup before, " + b.ID + ", was taken from a standby"
		case p.Timeline != int64(s.Timeline) || p.StopTimeline != int64(s.Timeline):
			return nil, fmt.Sprintf("the backup before, %s, is of timeline %d, and the server is on timeline %d", b.ID, p.Timeline, s.Timeline)
		case b.Server.VersionNum/10000 != s.VersionNum/10000:
			return nil, "the backup before, " + b.ID + ", is of another version of PostgreSQL"
		case len(needed) >= s.MaxChain:
			return nil, fmt.Sprintf("the chain has %d backups, which is its limit", len(needed))
		}
		if why := s.SQL.refuses(b); why != "" {
			return nil, why
		}
		return needed, ""
	}
	return nil, "the store has no backup of this cluster that is sound and not about to be deleted"
}

// failed reports whether the backup was found damaged, or can't be opened.
func failed(e catalog.Entry) bool {
	proof, _ := e.Proof()
	return proof == pgmedic.ProofFailed
}

// chooseParent decides whether the backup is incremental.
func (r *run) chooseParent(ctx context.Context) error {
	if r.Incremental == nil {
		return nil
	}
	if r.Incremental.MaxChain < 2 || r.Incremental.MaxChain > pgmedic.MaxDepth {
		return pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("use a number from 2 to %d", pgmedic.MaxDepth), "a chain of at most %d backups has no incremental one, or too many", r.Incremental.MaxChain)
	}
	listing, err := r.Catalog.List(ctx, catalog.Filter{Server: r.manifest.Server.Name, Cluster: true, Now: r.Now()})
	if err != nil {
		return err
	}
	needed, why := ParentOf(listing.Entries, Child{
		SystemIdentifier: r.manifest.Server.SystemIdentifier, VersionNum: r.layout.VersionNum, Timeline: r.system.Timeline, Standby: r.system.Standby, SQL: r.sqlChild(), MaxChain: r.Incremental.MaxChain,
	})
	if needed == nil || r.sql == nil {
		r.inFull(cmp.Or(why, "no ordinary session with the server, by which the WAL summaries are read"))
		return nil
	}
	parent := needed[0]
	r.parent, r.needed = parent, needed
	if r.Incremental.Reading != nil {
		r.release = r.Incremental.Reading(ctx, r.needed)
		// Once more: a prune may have begun before Reading was called.
		if err := r.checkNeeded(ctx); err != nil {
			r.inFull(err.Error())
			return nil
		}
	}
	failpoint.Hit(ctx, "incremental-chosen")
	p := r.manifest.Physical
	p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, parent.ID, parent.Physical.Depth+1
	return r.readParent(ctx)
}

// checkNeeded returns an error where a backup that this one needs has gone, or is about to be
// deleted: without it this one could not be restored.
func (r *run) checkNeeded(ctx context.Context) error {
	if r.parent == nil {
		return nil
	}
	listing, err := r.Catalog.List(ctx, catalog.Filter{Server: r.manifest.Server.Name, Cluster: true, Now: r.Now()})
	if err != nil {
		return fmt.Errorf("look for the backups that this one needs: %w", err)
	}
	for _, b := range r.needed {
		i := slices.IndexFunc(listing.Entries, func(e catalog.Entry) bool { return e.Backup.ID == b.ID })
		if i < 0 || listing.Entries[i].Mark != nil {
			return pgmedic.Errorf(pgmedic.KindConflict, "run it again: it will be incremental to another one, or a full one",
				"backup %s, which this one needs, was deleted meanwhile, or is about to be", b.ID)
		}
	}
	return nil
}

// inFull makes the backup a full one.
func (r *run) inFull(why string) {
	r.Logger.Warn("a full backup is taken, not an incremental one", "reason", why)
	p := r.manifest.Physical
	r.parent, r.needed, r.unchanged = nil, nil, nil
	p.Kind, p.Parent, p.Depth, p.Truncations = pgmedic.PhysicalFull, "", 0, nil
}

// inFullError is the error of an attempt at an incremental backup that becomes a full one.
type inFullError struct{ why string }

func (e *inFullError) Error() string { return e.why }

// baseBackup takes the backup, incrementally if that is possible.
func (r *run) baseBackup(ctx context.Context, f *files, o replication.BaseBackupOptions) (replication.BaseBackupEnd, error) {
	if r.cluster != nil {
		return r.baseBackupBySQL(ctx, f, o)
	}
	if r.parent == nil {
		return r.conn.BaseBackup(ctx, o)
	}
	end, err := r.increment(ctx, o)
	var full *inFullError
	if !errors.As(err, &full) {
		return end, err
	}
	// Nothing has been received.
	r.inFull(full.why)
	r.conn.Close(ctx)
	if r.conn, err = replication.Connect(ctx, r.Target); err != nil {
		return replication.BaseBackupEnd{}, err
	}
	return r.conn.BaseBackup(ctx, o)
}

// increment takes an incremental backup. An inFullError comes before anything was received.
func (r *run) increment(ctx context.Context, o replication.BaseBackupOptions) (end replication.BaseBackupEnd, err error) {
	manifest, err := r.Incremental.Manifest(ctx, r.parent)
	if err == nil {
		err = r.conn.UploadManifest(ctx, manifest)
		err = errors.Join(err, manifest.Close())
	}
	if err != nil && ctx.Err() == nil {
		return end, &inFullError{"the server's manifest of backup " + r.parent.ID + " is not usable: " + err.Error()}
	}
	if err != nil {
		return end, context.Cause(ctx)
	}
	begin := o.Started
	o.Incremental = true
	o.Started = func(s replication.BaseBackupStart) error {
		cuts, err := r.truncations(ctx, s)
		if err != nil {
			return err
		}
		r.manifest.Physical.Truncations = cuts
		failpoint.Hit(ctx, "incremental-begun")
		return begin(s)
	}
	end, err = r.conn.BaseBackup(ctx, o)
	if errors.Is(err, replication.ErrNotIncremental) {
		return end, &inFullError{err.Error()}
	}
	return end, err
}

// truncations returns which relations were cut since the parent began. The server has written its
// summaries of that WAL before it says where the backup begins. Where they are not exactly of that
// WAL, an older cut would hide pages that the parent has, and a missing one bring back others.
func (r *run) truncations(ctx context.Context, s replication.BaseBackupStart) ([]pgmedic.Truncation, error) {
	from, err := wal.ParseLSN(r.parent.Physical.StartLSN)
	if err != nil {
		return nil, err
	}
	summaries, err := r.sql.summaries(ctx, s.Timeline, from, s.LSN)
	if err != nil {
		return nil, inFullUnless(ctx, err)
	}
	at := from
	for _, summary := range summaries {
		if summary.Start != at {
			break
		}
		at = summary.End
	}
	if at != s.LSN || s.Timeline != r.system.Timeline {
		return nil, &inFullError{fmt.Sprintf("the WAL summaries are not exactly of the WAL from %v to %v", from, s.LSN)}
	}
	cuts, err := r.sql.cuts(ctx, s.Timeline, from, s.LSN)
	if err != nil {
		return nil, inFullUnless(ctx, err)
	}
	if len(cuts) > pgmedic.MaxTruncations {
		return nil, &inFullError{fmt.Sprintf("more than %d relations were cut since the backup before", pgmedic.MaxTruncations)}
	}
	all := make([]pgmedic.Truncation, len(cuts))
	for i, c := range cuts {
		if c.Regrown {
			// PostgreSQL reads its summaries in the order of the folder, not in that of the WAL: a cut
			// that it reads last makes it forget blocks that came after it.
			return nil, &inFullError{fmt.Sprintf("relation %d of database %d was cut and grew again in different WAL summaries, of which PostgreSQL can lose blocks", c.Relation, c.Database)}
		}
		all[i] = pgmedic.Truncation{Tablespace: c.Tablespace, Database: c.Database, Relation: c.Relation, Block: c.Block}
	}
	slices.SortFunc(all, pgmedic.CompareTruncations)
	return all, nil
}

func inFullUnless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &inFullError{err.Error()}
}

// summary is the range of WAL that a file of pg_wal/summaries is of.
type summary struct{ Start, End wal.LSN }

// summaries returns the ranges that have WAL between two positions, in order.
func (s *sqlSession) summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) ([]summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type row struct{ Start, End string }
	rows, err := postgres.Collect[row](ctx, s.conn, `
SELECT start_lsn::text AS start, end_lsn::text AS end FROM pg_catalog.pg_available_wal_summaries()
WHERE tli = $1 AND end_lsn > $2::text::pg_lsn AND start_lsn < $3::text::pg_lsn ORDER BY start_lsn, end_lsn`, int64(t), from.String(), to.String())
	if err != nil {
		return nil, postgres.Wrap(err, "read which WAL summaries the server has")
	}
	all := make([]summary, len(rows))
	for i, row := range rows {
		if all[i].Start, err = wal.ParseLSN(row.Start); err == nil {
			all[i].End, err = wal.ParseLSN(row.End)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cut is a relation that was cut. Regrown is true where a later summary has blocks of it from
// there on.
type cut struct {
	Tablespace, Database, Relation, Block uint32
	Regrown                               bool
}

// cuts returns the relations that were cut between two positions, at most one more than a
// manifest takes. A relation that was made or dropped there counts as cut at its first block; the
// server sends it whole.
func (s *sqlSession) cuts(ctx context.Context, t wal.Timeline, from, to wal.LSN) ([]cut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := postgres.Collect[cut](ctx, s.conn, `
WITH r AS (
  SELECT s.start_lsn, r.reltablespace, r.reldatabase, r.relfilenode,
    min(r.relblocknumber) FILTER (WHERE r.is_limit_block) AS cut, max(r.relblocknumber) FILTER (WHERE NOT r.is_limit_block) AS last
  FROM pg_catalog.pg_available_wal_summaries() AS s, pg_catalog.pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) AS r
  WHERE s.tli = $1 AND s.end_lsn > $2::text::pg_lsn AND s.start_lsn < $3::text::pg_lsn AND r.relforknumber = 0
  GROUP BY 1, 2, 3, 4)
SELECT c.reltablespace AS tablespace, c.reldatabase AS database, c.relfilenode AS relation, min(c.cut) AS block, bool_or(EXISTS (
  SELECT FROM r AS later WHERE later.relfilenode = c.relfilenode AND later.reldatabase = c.reldatabase AND later.reltablespace = c.reltablespace
    AND later.start_lsn > c.start_lsn AND later.last >= c.cut)) AS regrown
FROM r AS c WHERE c.cut IS NOT NULL GROUP BY 1, 2, 3 HAVING min(c.cut) > 0 LIMIT $4`, int64(t), from.String(), to.String(), pgmedic.MaxTruncations+1)
	if err != nil {
		return nil, postgres.Wrap(err, "read the server's WAL summaries")
	}
	return all, nil
}

// head reads the head of an incremental file, and returns the file with it. Other files have
// none.
func (f *files) head(file *File, content io.Reader) (io.Reader, *pgdata.Incremental, error) {
	if _, named := pgdata.IncrementalOf(file.Path); !named || f.r.parent == nil || f.r.cluster != nil {
		return content, nil, nil
	}
	file.Kind = KindIncremental
	var read bytes.Buffer
	head, err := pgdata.ReadIncremental(io.TeeReader(content, &read), file.SizeBytes, pgdata.Sizes{BlockBytes: f.r.layout.BlockBytes, SegmentBytes: f.r.layout.SegmentBytes})
	if errors.Is(err, pgdata.ErrIncremental) {
		return nil, nil, pgmedic.Errorf(pgmedic.KindIntegrity, "take a full backup: leave out --incremental", "the server sent %.80q: %w", file.Path, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return io.MultiReader(&read, content), &head, nil
}

// changedPages are the pages in a part of an incremental file, from an offset on, that lies in a chunk.
func (f *files) changedPages(file *File, head *pgdata.Incremental, offset, n int64, inChunk int) []pageRange {
	pageBytes := f.r.layout.BlockBytes
	begin := max(offset, head.HeadBytes)
	pages := (offset + n - begin) / pageBytes
	if pages <= 0 {
		return nil
	}
	whole, _ := pgdata.IncrementalOf(file.Path) // as head has checked
	from := inChunk + int(begin-offset)
	first := (begin - head.HeadBytes) / pageBytes
	return []pageRange{{
		path: whole, from: from, to: from + int(pages*pageBytes), blocks: head.Blocks[first : first+pages],
		first: uint32(int64(pgdata.SegmentNumber(path.Base(whole))) * (f.r.layout.SegmentBytes / pageBytes)),
	}}
}
