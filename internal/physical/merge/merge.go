// Package merge reads a chain of incremental backups as one full backup.
package merge

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/chain"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/physical"
)

// Chain returns a Source that reads as one full backup what a chain of them holds: members are
// the newest first, each the child of the next, and a full one last, as chain.Of returns them.
// No file is made of it: the list that it gives names chunks of all of them. Merged files have
// no CRC, because none of the backups has all of their bytes; each chunk is checked as ever.
//
// It reads all lists, and the incremental backups' own bytes once, which say what they have of
// each file. What it has learned is in nameless files below dir, or where temporary files are
// if that is empty: some 300 bytes for each file of each member. In memory are some 16 bytes for
// each. The caller closes it when the Source is no longer used.
//
// A member that does not have what it should is a pgmedic.KindIntegrity error.
func Chain(ctx context.Context, dir string, members []physical.Source) (s physical.Source, closer io.Closer, err error) {
	backups := make([]*pgmedic.Backup, len(members))
	for i, m := range members {
		backups[i] = m.Backup
	}
	if err := chain.Check(backups); err != nil {
		return physical.Source{}, nil, err
	}
	m := &merging{ctx: ctx, dir: dir}
	defer func() {
		err = errors.Join(err, m.closeLayers())
		if err != nil && m.out != nil {
			err = errors.Join(err, m.out.Close())
		}
	}()
	for i, member := range members {
		if err := m.read(member); err != nil {
			return physical.Source{}, nil, fmt.Errorf("read backup %s, number %d of a chain of %d: %w", member.Backup.ID, len(members)-i, len(members), err)
		}
		failpoint.Hit(ctx, "merge-member")
	}
	if err := m.write(); err != nil {
		return physical.Source{}, nil, fmt.Errorf("merge the chain of backup %s: %w", members[0].Backup.ID, err)
	}
	failpoint.Hit(ctx, "merge-merged")
	s = members[0]
	s.Backup = mergedBackup(members, m.files, m.bytes)
	return s.WithParts(&merged{members: members, spool: m.out}), m.out, nil
}

// mergedBackup describes what a chain holds as a full backup.
func mergedBackup(members []physical.Source, files, plainBytes int64) *pgmedic.Backup {
	b := *members[0].Backup
	p := *b.Physical
	p.Kind, p.Parent, p.Depth, p.Truncations = pgmedic.PhysicalFull, "", 0, nil
	p.Files, p.PlainBytes = files, plainBytes
	b.Physical, b.Objects = &p, nil
	for i, m := range members {
		for _, o := range m.Backup.Objects {
			if o.Role == pgmedic.RolePack {
				o.Name = packOf(m.Backup.ID, o.Name)
			} else if i > 0 {
				continue
			}
			b.Objects = append(b.Objects, o)
		}
	}
	return &b
}

// packOf is the name of a pack in a merged list.
func packOf(id, pack string) string { return id + "/" + pack }

// merged is what a Source that Chain returned reads from.
type merged struct {
	members []physical.Source
	spool   *spool
}

// Members implements physical.Parts.
func (m *merged) Members() []string {
	ids := make([]string, len(m.members))
	for i, member := range m.members {
		ids[i] = member.Backup.ID
	}
	return ids
}

// Of implements physical.Parts.
func (m *merged) Of(pack string) (physical.Source, string) {
	id, name, _ := strings.Cut(pack, "/")
	i := slices.IndexFunc(m.members, func(s physical.Source) bool { return s.Backup.ID == id })
	return m.members[max(i, 0)], name // a merged list has no other packs
}

// Files implements physical.Parts.
func (m *merged) Files() *physical.Reader {
	next := m.spool.lines(0)
	return physical.ReaderOf(func() (physical.Entry, error) {
		var l spooled
		if err := next(&l); err != nil {
			return physical.Entry{}, err
		}
		if l.Chunk != nil {
			return physical.Entry{Chunk: l.Chunk}, nil
		}
		l.File.Path = pgmedic.UnescapeBytes(l.File.Path)
		return physical.Entry{File: l.File}, nil
	})
}

// layer is a member as far as a merge needs it.
type layer struct {
	s     physical.Source
	sizes pgdata.Sizes
	spool *spool
	// chunks is where in the spool each chunk is, and base the number of the first in the
	// merged list.
	chunks int64
	base   int64
	// index finds files by the hash of the path that they stand for.
	index []indexed
	cuts  map[[3]uint32]uint32
}

type indexed struct {
	hash uint64
	at   int64
}

func hashPath(path string) uint64 {
	sum := sha256.Sum256([]byte(path))
	return binary.LittleEndian.Uint64(sum[:])
}

// merging is a merge on its way.
type merging struct {
	ctx    context.Context //nolint:containedctx // that of one call
	dir    string
	layers []*layer
	out    *spool
	// files and bytes are what the merged list has.
	files, bytes int64
}

func (m *merging) closeLayers() (err error) {
	for _, l := range m.layers {
		err = errors.Join(err, l.spool.Close())
	}
	return err
}

// read reads the list of a member, and the heads of its incremental files.
func (m *merging) read(s physical.Source) (err error) {
	l := &layer{s: s, sizes: pgdata.Sizes{BlockBytes: s.Backup.Physical.BlockBytes, SegmentBytes: s.Backup.Physical.SegmentBytes}, cuts: map[[3]uint32]uint32{}}
	if l.spool, err = newSpool(m.dir); err != nil {
		return err
	}
	for _, last := range m.layers {
		l.base += last.chunks
	}
	m.layers = append(m.layers, l)
	for _, t := range s.Backup.Physical.Truncations {
		l.cuts[[3]uint32{t.Tablespace, t.Database, t.Relation}] = t.Block
	}
	list, closer, err := s.Files(m.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	heads := newHeads(m.ctx, s)
	defer heads.close()
	for {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.add(e, heads)
		}
		if err != nil {
			return err
		}
	}
	slices.SortFunc(l.index, func(a, b indexed) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at, b.at)) })
	return l.spool.flush()
}

// add keeps an entry of a member.
func (l *layer) add(e physical.Entry, heads *heads) error {
	if e.Chunk != nil {
		heads.note(*e.Chunk)
		c := *e.Chunk
		c.ID += l.base
		c.Pack = packOf(l.s.Backup.ID, c.Pack)
		l.chunks++
		_, err := l.spool.add(spooled{Chunk: &c})
		return err
	}
	f := *e.File
	entry := spooled{File: &f}
	stands := f.Path
	switch f.Kind {
	case physical.KindIncremental:
		head, err := pgdata.ReadIncremental(heads.reader(f.Extents), f.SizeBytes, l.sizes)
		if errors.Is(err, pgdata.ErrIncremental) {
			return physical.Damaged("%.80q: %w", f.Path, err)
		}
		if err != nil {
			return fmt.Errorf("read the head of %.80q: %w", f.Path, err)
		}
		entry.Head = &head
		stands, _ = pgdata.IncrementalOf(f.Path) // as the list's Reader has checked
	case physical.KindOther:
		if f.Path == pgdata.LabelPath && l.base == 0 {
			if err := heads.label(&f); err != nil {
				return err
			}
		}
	}
	for i := range f.Extents {
		if f.Extents[i].Chunk != physical.Hole {
			f.Extents[i].Chunk += l.base
		}
	}
	f.Path = pgmedic.EscapeBytes(f.Path)
	at, err := l.spool.add(entry)
	if f.Kind == physical.KindRelation || f.Kind == physical.KindIncremental || f.Kind == physical.KindKept {
		l.index = append(l.index, indexed{hashPath(stands), at})
	}
	return err
}

// find returns a member's version of a file, or nil.
func (l *layer) find(path string) (found *spooled, err error) {
	hash := hashPath(path)
	i, _ := slices.BinarySearchFunc(l.index, hash, func(x indexed, h uint64) int { return cmp.Compare(x.hash, h) })
	for ; i < len(l.index) && l.index[i].hash == hash; i++ {
		var e spooled
		if err := l.spool.read(l.index[i].at, &e); err != nil {
			return nil, err
		}
		own := pgmedic.UnescapeBytes(e.File.Path)
		if whole, ok := pgdata.IncrementalOf(own); ok && e.Head != nil {
			own = whole
		}
		switch {
		case own != path: // of the same hash
		case found != nil:
			return nil, physical.Damaged("%.80q is in it twice, or whole and incremental", path)
		default:
			found = &e
		}
	}
	return found, nil
}

// cut returns from which block on a file was cut, between the member before and this one.
func (l *layer) cut(path string) uint32 {
	space, database, number, ok := pgdata.MainFork(path)
	block, cut := l.cuts[[3]uint32{space, database, number}]
	if !ok || !cut {
		return pgdata.NoCut
	}
	return pgdata.CutOf(path, block, l.sizes)
}

// version turns what a member has of a file into a layer of it.
func (l *layer) version(path string, e *spooled) pgdata.Layer {
	if e.Head == nil {
		return pgdata.Layer{Whole: true, Length: uint32(min(e.File.SizeBytes, l.sizes.SegmentBytes) / l.sizes.BlockBytes), Cut: pgdata.NoCut}
	}
	return pgdata.Layer{Length: e.Head.Length, Blocks: e.Head.Blocks, Cut: l.cut(path)}
}

// write writes the merged list: all chunks, then the files of the newest member.
func (m *merging) write() (err error) {
	if m.out, err = newSpool(m.dir); err != nil {
		return err
	}
	for _, l := range m.layers {
		if err := m.copyChunks(l); err != nil {
			return err
		}
	}
	next := m.layers[0].spool.lines(0)
	for {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		var e spooled
		err := next(&e)
		if errors.Is(err, io.EOF) {
			return m.out.flush()
		}
		if err == nil && e.File != nil {
			err = m.file(&e)
		}
		if err != nil {
			return err
		}
	}
}

func (m *merging) copyChunks(l *layer) error {
	next := l.spool.lines(0)
	for {
		var e spooled
		err := next(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && e.Chunk != nil {
			_, err = m.out.add(e)
		}
		if err != nil {
			return err
		}
	}
}

// file writes a file of the newest member, merged if it is incremental.
func (m *merging) file(e *spooled) error {
	f := *e.File
	if f.Kind == physical.KindKept {
		if err := m.kept(&f); err != nil {
			return err
		}
	}
	if e.Head != nil {
		extents, whole, err := m.merge(e)
		if err != nil {
			return err
		}
		f.Path, f.Kind, f.CRC32C, f.Extents, f.SizeBytes = pgmedic.EscapeBytes(whole), physical.KindRelation, "", extents, 0
		for _, x := range extents {
			f.SizeBytes += x.Bytes
		}
	}
	m.files++
	m.bytes += f.SizeBytes
	_, err := m.out.add(spooled{File: &f})
	return err
}

// kept gives a file that is as in the parent its bytes, which are in the newest backup before that
// has read it. Each backup between them says that it is as it was, of the same size and CRC.
func (m *merging) kept(f *physical.File) error {
	path := pgmedic.UnescapeBytes(f.Path)
	for _, l := range m.layers[1:] {
		e, err := l.find(path)
		if err != nil {
			return err
		}
		if e == nil || e.File.SizeBytes != f.SizeBytes || e.File.CRC32C != f.CRC32C || e.File.ModifiedAt != f.ModifiedAt || e.File.ChangedAt != f.ChangedAt {
			return chain.Broken("%.80q is not in backup %s as a newer one says", path, l.s.Backup.ID)
		}
		if e.File.Kind == physical.KindRelation {
			f.Kind, f.Extents = physical.KindRelation, e.File.Extents
			return nil
		}
	}
	return chain.Broken("%.80q is in none of its backups", path)
}

// merge returns what a file consists of.
func (m *merging) merge(newest *spooled) (extents []physical.Extent, path string, err error) {
	path, _ = pgdata.IncrementalOf(pgmedic.UnescapeBytes(newest.File.Path))
	entries := []*spooled{newest}
	layers := []pgdata.Layer{m.layers[0].version(path, newest)}
	for _, l := range m.layers[1:] {
		e, err := l.find(path)
		if err != nil {
			return nil, path, err
		}
		if e == nil {
			return nil, path, chain.Broken("%.80q is not in backup %s, and a newer one has only changes of it", path, l.s.Backup.ID)
		}
		entries, layers = append(entries, e), append(layers, l.version(path, e))
		if e.Head == nil {
			break
		}
	}
	runs, err := pgdata.Merge(layers, pgdata.IsVisibilityMap(path), m.layers[0].sizes)
	if err != nil {
		return nil, path, chain.Broken("%.80q: %w", path, err)
	}
	block := m.layers[0].sizes.BlockBytes
	for _, run := range runs {
		n := int64(run.Count) * block
		if run.Layer == pgdata.Zero {
			extents = physical.Extend(extents, physical.Extent{Chunk: physical.Hole, Bytes: n})
			continue
		}
		from, e := int64(run.First)*block, entries[run.Layer]
		if e.Head != nil {
			from += e.Head.HeadBytes
		}
		extents = slice(extents, e.File.Extents, from, n)
	}
	return extents, path, nil
}

// slice appends a range of a file to extents.
func slice(to, from []physical.Extent, offset, n int64) []physical.Extent {
	for _, e := range from {
		if n == 0 {
			break
		}
		if offset >= e.Bytes {
			offset -= e.Bytes
			continue
		}
		take := min(n, e.Bytes-offset)
		part := physical.Extent{Chunk: e.Chunk, Bytes: take}
		if e.Chunk != physical.Hole {
			part.Offset = e.Offset + offset
		}
		to = physical.Extend(to, part)
		offset, n = 0, n-take
	}
	return to
}

// label takes the lines out of backup_label that make PostgreSQL refuse merged files.
func (h *heads) label(f *physical.File) error {
	if f.SizeBytes > pgdata.MaxLabelBytes {
		return physical.Damaged("%s has %d bytes", f.Path, f.SizeBytes)
	}
	text, err := io.ReadAll(h.reader(f.Extents))
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	kept := pgdata.WholeLabel(text)
	if !bytes.HasPrefix(text, kept) { // those are the last lines
		return physical.Damaged("%s has the lines of an incremental backup between others", f.Path)
	}
	f.Extents = slice(nil, f.Extents, 0, int64(len(kept)))
	f.SizeBytes, f.CRC32C = int64(len(kept)), ""
	return nil
}
