package physical

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// task is a chunk on its way through a worker.
type task struct {
	id     int64
	buffer []byte // of ChunkBytes; plain is what is used
	plain  []byte
	pages  []pageRange
	// sealed is closed once chunk is filled.
	sealed chan struct{}
	chunk  Chunk
}

// pageRange is a part of a chunk that holds pages of a relation.
type pageRange struct {
	path       string
	from, to   int    // within the chunk
	first      uint32 // the number of the first page within the fork
	firstOfAll int64  // and within the file
	// blocks are, of an incremental file, the numbers of the pages from those two on.
	blocks []uint32
}

// batch is what is listed next: a chunk, if there is one, and the files that end in it.
type batch struct {
	task  *task
	files []File
}

// maxBatch is how many files are listed together: a list of empty files has no chunks.
const maxBatch = 4096

// arrival is a file that arrived, to be compared with the server's manifest: the beginning of
// a SHA-256 of its path, size and CRC, for there can be millions.
type arrival [16]byte

func arrivalOf(path string, size int64, crc uint32) arrival {
	text := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64([]byte(path), uint64(size)), crc)
	hash := sha256.Sum256(text)
	return arrival(hash[:16])
}

// files receives the files of a base backup, cuts them into chunks, and has those sealed,
// stored and listed. One goroutine receives, workers seal, one lists: each waits for the
// others, so that 2·workers+2 chunks are in memory at most.
type files struct {
	r     *run
	ctx   context.Context //nolint:containedctx // that of one backup
	group *errgroup.Group

	free  chan []byte
	tasks chan *task
	order chan batch
	meter *progress.Meter
	begun bool

	current *task
	next    int64
	pending []File

	arrived []arrival
	// tablespaces and databases are the sizes of each, by OID.
	tablespaces, databases map[uint32]int64
	// kept is the content of the small files that the manifest is made from.
	kept        map[string][]byte
	pages       pages
	manifestSum string
	packs       packNames
	// listed and bytes are what the list has, once finish has returned.
	listed, bytes int64
	listSum       string
}

// newFiles returns what receives files, and the context that ends where they can't be stored.
func (r *run) newFiles(ctx context.Context) (*files, context.Context) {
	group, ctx := errgroup.WithContext(ctx)
	f := &files{
		r: r, ctx: ctx, group: group, tablespaces: map[uint32]int64{}, databases: map[uint32]int64{}, kept: map[string][]byte{},
		tasks: make(chan *task), order: make(chan batch, 2*r.Workers+2), free: make(chan []byte, 2*r.Workers+2),
	}
	for range cap(f.free) {
		f.free <- nil // made when it is first used
	}
	return f, ctx
}

// begin starts the workers.
func (f *files) begin(expected int64) {
	f.begun = true
	start, _ := wal.ParseLSN(f.r.manifest.Physical.StartLSN) // as it was printed
	f.pages.options = pgdata.PageOptions{BlockBytes: int(f.r.layout.BlockBytes), Checksums: f.r.layout.Checksums, Start: uint64(start)}
	f.pages.again = f.r.sql
	f.meter = progress.NewMeter(progress.MeterOptions{Step: "files", TotalBytes: expected, Report: f.r.report, Now: f.r.Now})
	for range f.r.Workers {
		f.group.Go(f.work)
	}
	f.group.Go(f.list)
}

// archive receives the archive of a tablespace.
func (f *files) archive(tablespace uint32, archive io.Reader) error {
	return pgdata.Files(archive, tablespace, func(e pgdata.Entry, content io.Reader) error {
		f.tablespaces[tablespace] += e.SizeBytes
		return f.file(e, content)
	})
}

// file receives a file.
func (f *files) file(e pgdata.Entry, content io.Reader) error {
	file := File{Path: e.Path, Kind: KindOther, SizeBytes: e.SizeBytes, Mode: Mode(e.Mode), ModifiedAt: e.ModifiedAt.Unix(), ChangedAt: changedAt(e)}
	if !ValidPath(e.Path) || e.SizeBytes > maxFileBytes {
		return fmt.Errorf("the server sent a file named %.80q of %d bytes", e.Path, e.SizeBytes)
	}
	if !Restorable(e.Path) {
		return pgmedic.Errorf(pgmedic.KindUsage, "see what made it, since PostgreSQL makes no such file, and delete or rename it",
			"the data directory has a file whose name can't be restored: %.200q", e.Path)
	}
	if e.Folder {
		file.Kind = KindFolder
		return f.add(file)
	}
	f.databases[pgdata.DatabaseOf(e.Path)] += e.SizeBytes
	if pgdata.IsRelation(e.Path) {
		file.Kind = KindRelation
	}
	content, head, err := f.head(&file, content)
	if err != nil {
		return err
	}
	keep := e.Path == pgdata.ControlPath || e.Path == pgdata.LabelPath
	if keep && (e.SizeBytes > pgdata.MaxLabelBytes || f.kept[e.Path] != nil) {
		return fmt.Errorf("the server sent %s twice, or with %d bytes", e.Path, e.SizeBytes)
	}
	crc, err := f.content(&file, content, head, keep)
	if err != nil {
		return err
	}
	file.CRC32C = fmt.Sprintf("%08x", crc)
	if f.r.cluster == nil {
		f.arrived = append(f.arrived, arrivalOf(e.Path, e.SizeBytes, crc))
	}
	return f.add(file)
}

// changedAt is when the inode of a file was changed, in seconds.
func changedAt(e pgdata.Entry) int64 {
	if e.ChangedAt.IsZero() {
		return 0
	}
	return e.ChangedAt.Unix()
}

// content receives the bytes of a file, in units of HoleBytes, so that pages never lie in two
// chunks.
func (f *files) content(file *File, content io.Reader, head *pgdata.Incremental, keep bool) (crc uint32, err error) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for at := int64(0); at < file.SizeBytes; {
		unit := min(HoleBytes, file.SizeBytes-at)
		if err := f.room(int(unit)); err != nil {
			return 0, err
		}
		t := f.current
		from := len(t.plain)
		b := t.buffer[from : from+int(unit)]
		if _, err := io.ReadFull(content, b); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("the server sent less of %.80q than it said", file.Path)
			}
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, b)
		f.meter.Add(unit)
		if keep {
			f.kept[file.Path] = append(f.kept[file.Path], b...)
		}
		pageBytes := f.r.layout.BlockBytes
		if unit == HoleBytes && isZero(b) {
			file.Extents = Extend(file.Extents, Extent{Hole, 0, unit})
			if file.Kind == KindRelation || file.Kind == KindIncremental {
				f.pages.unused(unit / pageBytes)
			}
		} else {
			if head != nil {
				t.pages = append(t.pages, f.changedPages(file, head, at, unit, from)...)
			}
			if file.Kind == KindRelation {
				perFile := f.r.layout.SegmentBytes / pageBytes
				t.pages = append(t.pages, pageRange{
					path: file.Path, from: from, to: from + int(unit/pageBytes*pageBytes), firstOfAll: at / pageBytes,
					first: uint32(int64(pgdata.SegmentNumber(path.Base(file.Path)))*perFile + at/pageBytes),
				})
			}
			file.Extents = Extend(file.Extents, Extent{t.id, int64(from), unit})
			t.plain = t.buffer[:from+int(unit)]
		}
		at += unit
	}
	return crc, nil
}

// Extend adds an extent, to the last one if it goes on there.
func Extend(all []Extent, e Extent) []Extent {
	if n := len(all); n > 0 {
		last := &all[n-1]
		if last.Chunk == e.Chunk && (e.Chunk == Hole || last.Offset+last.Bytes == e.Offset) {
			last.Bytes += e.Bytes
			return all
		}
	}
	return append(all, e)
}

// isZero reports whether all bytes are zero: each is the same as the one before it.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// room makes sure that the current chunk has room for n bytes.
func (f *files) room(n int) error {
	if f.current != nil && len(f.current.plain)+n > ChunkBytes {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if f.current != nil {
		return nil
	}
	select {
	case b := <-f.free:
		if b == nil {
			b = make([]byte, ChunkBytes)
		}
		f.current = &task{id: f.next, buffer: b, plain: b[:0], sealed: make(chan struct{})}
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// add lists a file behind the chunks that it has bytes in.
func (f *files) add(file File) error {
	f.pending = append(f.pending, file)
	if len(f.pending) < maxBatch {
		return nil
	}
	return f.flush()
}

// flush sends the current chunk to a worker, and the files that have ended to the list.
func (f *files) flush() error {
	b := batch{files: f.pending}
	f.pending = nil
	if t := f.current; t != nil && len(t.plain) > 0 {
		b.task = t
		f.next++
		f.current = nil
	}
	select {
	case f.order <- b:
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	if b.task == nil {
		return nil
	}
	select {
	case f.tasks <- b.task:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// finish waits until all that was received is stored. received is how receiving it ended.
func (f *files) finish(received error) error {
	if received == nil && f.begun {
		received = f.flush()
	}
	if received != nil {
		// What failed here may be why the server's connection ended, or the other way round:
		// what came first is the reason.
		f.group.Go(func() error { return received })
	}
	close(f.tasks)
	close(f.order)
	if err := f.group.Wait(); err != nil {
		return err
	}
	return received
}

// list writes the list of files.
func (f *files) list() error {
	return f.r.putSealed(f.ctx, "files.ndjson", pgmedic.RoleFiles, func(ctx context.Context, out io.Writer) error {
		hash := sha256.New()
		w, err := NewWriter(io.MultiWriter(f.r.keepList(out), hash), f.r.manifest)
		if err != nil {
			return err
		}
		for {
			var b batch
			var more bool
			select {
			case b, more = <-f.order:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !more {
				break
			}
			if err := f.listBatch(ctx, w, b); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.listed, f.bytes, err = w.Close()
		f.listSum = hex.EncodeToString(hash.Sum(nil))
		return err
	})
}

func (f *files) listBatch(ctx context.Context, w *Writer, b batch) error {
	if b.task != nil {
		select {
		case <-b.task.sealed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.Chunk(b.task.chunk); err != nil {
			return err
		}
	}
	for _, file := range b.files {
		if err := w.File(file); err != nil {
			return err
		}
	}
	return nil
}

// serverManifest stores the server's manifest as it is, and compares it with what arrived.
func (f *files) serverManifest(manifest io.Reader) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.r.putSealed(f.ctx, "pg_manifest.json", pgmedic.RoleServerManifest, func(_ context.Context, w io.Writer) (err error) {
		c := comparison{arrived: f.arrived}
		f.manifestSum, err = pgdata.ReadManifest(io.TeeReader(manifest, f.r.keep(w)), c.file)
		switch {
		case errors.Is(err, pgdata.ErrManifest):
			err = pgmedic.Errorf(pgmedic.KindIntegrity, "run it again; if it fails again, see whether the server's memory and network are sound", "%w", err)
		case err == nil && c.seen != len(f.arrived):
			err = pgmedic.Errorf(pgmedic.KindIntegrity, "run it again", "the server sent %s that its manifest does not have", words.Plural(len(f.arrived)-c.seen, "file"))
		}
		return err
	})
}

// comparison compares the server's manifest with what arrived. The server writes both in one
// order, but does not promise it.
type comparison struct {
	arrived []arrival
	seen    int
	// others are those that are still to be seen, once the order was another one.
	others map[arrival]bool
}

func (c *comparison) file(m pgdata.ManifestFile) error {
	key := arrivalOf(m.Path, m.SizeBytes, m.CRC32C)
	if c.others == nil && c.seen < len(c.arrived) && c.arrived[c.seen] == key {
		c.seen++
		return nil
	}
	if c.others == nil {
		c.others = make(map[arrival]bool, len(c.arrived)-c.seen)
		for _, a := range c.arrived[c.seen:] {
			c.others[a] = true
		}
	}
	if !c.others[key] {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "run it again; if it fails again, see whether the memory of both hosts and the network are sound",
			"%.80q did not arrive as the server's manifest has it, or is there twice", m.Path)
	}
	delete(c.others, key)
	c.seen++
	return nil
}
