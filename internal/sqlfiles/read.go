package sqlfiles

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic/internal/pgdata"
)

// Visit is what is done with files, each after the one before.
type Visit struct {
	// Keep reports whether a file need not be read. Nil reads all.
	Keep func(e pgdata.Entry) bool
	// File receives a folder or a file. content has exactly as many bytes as the entry says.
	File func(e pgdata.Entry, content io.Reader) error
	// Kept receives a file of which Keep is true.
	Kept func(e pgdata.Entry) error
}

const (
	// pieceBytes is how much one statement reads: the server needs less time for a byte in pieces
	// of this size than in larger ones.
	pieceBytes = 1 << 20
	// pieceFiles is of how many files, where these are small.
	pieceFiles = 256
	// smallBytes is up to where a file that is not of a relation is read to its end, whatever its
	// size was when its folder was listed: the server replaces such files whole.
	smallBytes = pieceBytes / 4
	// smallest is what such a file may have grown by.
	smallest = 64 << 10
)

// read is a file, or a part of one, that is read or not.
type read struct {
	entry         pgdata.Entry
	kept          bool
	offset, bytes int64
	// toEnd reads a small file to its end.
	toEnd bool
}

// last reports whether nothing follows of the file.
func (r *read) last() bool { return r.toEnd || r.offset+r.bytes >= r.entry.SizeBytes }

// batch is what one statement reads.
type batch struct {
	reads []read
	bytes int64
	// plain is closed over by done: the bytes of each, nil where the file is gone.
	plain [][]byte
	done  chan struct{}
}

// Files reads all files but pg_control, which End has. A file that is gone meanwhile is left
// out; one that became shorter ends in zeros, as in the server's own base backups: WAL has what
// happened to it.
func (c *Cluster) Files(ctx context.Context, v Visit) error {
	group, ctx := errgroup.WithContext(ctx)
	w := &walk{c: c, ctx: ctx, keep: v.Keep, order: make(chan *batch, 2*len(c.readers)), work: make(chan *batch, 2*len(c.readers)), next: newBatch()}
	group.Go(func() error {
		defer close(w.order)
		defer close(w.work)
		if err := w.folder("."); err != nil {
			return err
		}
		return w.flush()
	})
	for _, conn := range c.readers {
		group.Go(func() error { return work(ctx, conn, w.work) })
	}
	group.Go(func() error { return (&arrivals{ctx: ctx, order: w.order}).visit(v) })
	return group.Wait()
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// walk goes through the folders, and cuts what is in them into batches.
type walk struct {
	c    *Cluster
	ctx  context.Context //nolint:containedctx // that of one call
	keep func(e pgdata.Entry) bool
	// order has the batches in their order, work for whoever reads next.
	order, work chan *batch
	next        *batch
}

// folder takes the files of a folder, and then its folders.
func (w *walk) folder(dir string) error {
	all, err := w.c.list(w.ctx, dir)
	if err != nil {
		return err
	}
	all = taken(dir, all, w.c.version, w.c.start.Tablespaces)
	for _, e := range all {
		if !e.Folder {
			if err := w.file(e); err != nil {
				return err
			}
		}
	}
	for _, e := range all {
		if !e.Folder {
			continue
		}
		if err := w.add(read{entry: e}); err != nil {
			return err
		}
		if !hollow(e.Path) {
			if err := w.folder(e.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) file(e pgdata.Entry) error {
	switch {
	case w.keep != nil && w.keep(e):
		return w.add(read{entry: e, kept: true})
	case e.SizeBytes == 0:
		return w.add(read{entry: e})
	case e.SizeBytes <= smallBytes && !pgdata.IsRelation(e.Path):
		return w.add(read{entry: e, bytes: 2*e.SizeBytes + smallest, toEnd: true})
	}
	for at := int64(0); at < e.SizeBytes; at += pieceBytes {
		if err := w.add(read{entry: e, offset: at, bytes: min(pieceBytes, e.SizeBytes-at)}); err != nil {
			return err
		}
	}
	return nil
}

// add adds to the next batch, which is sent before it becomes too large.
func (w *walk) add(r read) error {
	expected := r.bytes
	if r.toEnd {
		expected = r.entry.SizeBytes
	}
	if len(w.next.reads) == pieceFiles || w.next.bytes+expected > pieceBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.next.reads = append(w.next.reads, r)
	w.next.bytes += expected
	return nil
}

func (w *walk) flush() error {
	for _, to := range []chan *batch{w.order, w.work} {
		select {
		case to <- w.next:
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		}
	}
	w.next = newBatch()
	return nil
}

// work reads batches.
func work(ctx context.Context, conn *pgx.Conn, batches <-chan *batch) error {
	for {
		select {
		case b, more := <-batches:
			if !more {
				return nil
			}
			if err := b.read(ctx, conn); err != nil {
				return err
			}
			close(b.done)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read reads the files of a batch. Those of which nothing is read have no bytes, and are there.
func (b *batch) read(ctx context.Context, conn *pgx.Conn) error {
	b.plain = make([][]byte, len(b.reads))
	var paths []string
	var from, length []int64
	var which []int
	for i, r := range b.reads {
		if r.bytes == 0 {
			b.plain[i] = []byte{}
			continue
		}
		paths, from, length, which = append(paths, r.entry.Path), append(from, r.offset), append(length, r.bytes), append(which, i)
	}
	if len(paths) == 0 {
		return nil
	}
	var params [][]byte
	for _, list := range []struct {
		oid   uint32
		value any
	}{{pgtype.TextArrayOID, paths}, {pgtype.Int8ArrayOID, from}, {pgtype.Int8ArrayOID, length}} {
		text, err := conn.TypeMap().Encode(list.oid, pgtype.TextFormatCode, list.value, nil)
		if err != nil {
			return fmt.Errorf("ask for files: %w", err)
		}
		params = append(params, text)
	}
	// By the protocol itself, so that the bytes come as they are and are copied once.
	rows := conn.PgConn().ExecParams(ctx, `
SELECT pg_catalog.pg_read_binary_file(r.path, r.first, r.length, true)
FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::bigint[])) WITH ORDINALITY AS r (path, first, length, n) ORDER BY r.n`,
		params, nil, nil, []int16{pgtype.BinaryFormatCode})
	n, err := b.take(rows, which)
	if _, closeErr := rows.Close(); closeErr != nil {
		return lost(ctx, closeErr, attemptedRead)
	}
	if err == nil && n != len(which) {
		err = errors.New("the server did not send all files that it was asked for")
	}
	return err
}

// take takes the bytes of files, and returns how many there were.
func (b *batch) take(rows *pgconn.ResultReader, which []int) (n int, err error) {
	for ; rows.NextRow(); n++ {
		if n == len(which) {
			return n, errors.New("the server sent more files than it was asked for")
		}
		i, raw := which[n], rows.Values()[0]
		if raw == nil {
			continue // it is gone
		}
		size := b.reads[i].bytes
		if int64(len(raw)) > size {
			return n, errors.New("the server sent more of a file than it was asked for")
		}
		if b.reads[i].toEnd {
			size = int64(len(raw))
		}
		b.plain[i] = make([]byte, size) // what is missing is zero
		copy(b.plain[i], raw)
	}
	return n, nil
}

const attemptedRead = "read files of the data directory"

// arrivals are batches that have been read, in their order.
type arrivals struct {
	ctx   context.Context //nolint:containedctx // that of one call
	order <-chan *batch
	b     *batch
	at    int
}

// next returns the next read, and false behind the last.
func (a *arrivals) next() (r *read, plain []byte, more bool, err error) {
	for a.b == nil || a.at == len(a.b.reads) {
		select {
		case b, more := <-a.order:
			if !more {
				return nil, nil, false, nil
			}
			a.b, a.at = b, 0
		case <-a.ctx.Done():
			return nil, nil, false, context.Cause(a.ctx)
		}
		select {
		case <-a.b.done:
		case <-a.ctx.Done():
			return nil, nil, false, context.Cause(a.ctx)
		}
	}
	r, plain = &a.b.reads[a.at], a.b.plain[a.at]
	a.b.plain[a.at] = nil
	a.at++
	return r, plain, true, nil
}

// visit hands all files over.
func (a *arrivals) visit(v Visit) error {
	for {
		r, plain, more, err := a.next()
		if err != nil {
			return err
		}
		if !more {
			if a.ctx.Err() != nil { // or the walk has not ended
				return context.Cause(a.ctx)
			}
			return nil
		}
		if err := a.file(v, r, plain); err != nil {
			return err
		}
	}
}

func (a *arrivals) file(v Visit, r *read, plain []byte) error {
	content := &content{a: a, r: r, plain: plain}
	if r.kept {
		return v.Kept(r.entry)
	}
	if plain != nil {
		e := r.entry
		if r.toEnd {
			e.SizeBytes = int64(len(plain))
		}
		if err := v.File(e, content); err != nil {
			return err
		}
	}
	for !content.r.last() { // of a file that is gone
		if err := content.more(); err != nil {
			return err
		}
	}
	return nil
}

// content is the bytes of a file.
type content struct {
	a     *arrivals
	r     *read
	plain []byte
}

// more takes the next part of the file. Of one that is gone meanwhile the rest is zero.
func (c *content) more() error {
	r, plain, more, err := c.a.next()
	if err == nil && (!more || r.entry.Path != c.r.entry.Path) {
		err = errors.New("the parts of a file did not arrive in their order")
	}
	if err != nil {
		return err
	}
	if plain == nil {
		plain = make([]byte, r.bytes)
	}
	c.r, c.plain = r, plain
	return nil
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		if c.r.last() {
			return 0, io.EOF
		}
		if err := c.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}
