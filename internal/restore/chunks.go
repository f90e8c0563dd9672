package restore

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/words"
)

// ChunkLoader copies chunks of a backup into tables, its own or others. Several
// sessions may use it at once.
type ChunkLoader struct {
	source Source
	meter  *progress.Meter
}

// NewChunkLoader returns a ChunkLoader that counts the bytes of rows, as they were
// before they were sealed, by a meter.
func NewChunkLoader(s Source, meter *progress.Meter) *ChunkLoader {
	return &ChunkLoader{source: s, meter: meter}
}

// Load copies the parts of a chunk into the tables named, with a quoted name for
// each part, or an empty one to leave it. All of their rows come, or none. Nothing is
// believed before the chunk's end: one that is damaged leaves no row, and is an error
// of KindIntegrity. What the server refuses is the server's error (RefusedContent of
// package postgres).
func (l *ChunkLoader) Load(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk, into []string) error {
	wanted := 0
	for _, table := range into {
		if table != "" {
			wanted++
		}
	}
	passed := &passing{to: l.meter}
	load := func() error { return l.copyChunk(ctx, conn, c, into, passed, snapshot.CopyInSQL) }
	var err error
	if wanted > 1 { // a single COPY is atomic
		err = inTransaction(ctx, conn, load)
	} else {
		err = load()
	}
	if err != nil {
		passed.takeBack()
	}
	return err
}

// copyInSQL is postgres.CopyInSQL, or the one for frozen rows.
type copyInSQL func(table string, columns []pgmedic.Column, format pgmedic.CopyFormat, encoding string) string

// copyChunk reads a chunk and copies its parts into the tables named. After an error
// the transaction has to be rolled back.
func (l *ChunkLoader) copyChunk(ctx context.Context, conn *pgx.Conn, c pgmedic.Chunk, into []string, passed *passing, copyIn copyInSQL) error {
	last := -1
	for i, table := range into {
		if table != "" {
			last = i
		}
	}
	r, err := l.source.OpenChunk(ctx, c)
	if err != nil {
		return err
	}
	load := func() error {
		for i, p := range c.Parts[:last+1] {
			part := &partReader{r: r, left: p.PlainBytes, last: i == last}
			if into[i] == "" {
				if _, err := io.Copy(io.Discard, part); err != nil {
					return err
				}
				continue
			}
			if err := l.part(ctx, conn, p, io.TeeReader(part, passed), into[i], copyIn); err != nil {
				return err
			}
		}
		return nil
	}
	err = load()
	if postgres.RefusedContent(err) { // for what was written, or because it is damaged: its end tells
		_, _ = io.Copy(io.Discard, r)
	}
	closeErr := r.Close()
	if cause := r.failure(); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	return closeErr
}

// part copies one part into a table. CopyFrom ends the COPY with an error of r's,
// so that a chunk that turns out to be damaged at its end leaves no row.
func (l *ChunkLoader) part(ctx context.Context, conn *pgx.Conn, p pgmedic.Part, r io.Reader, into string, copyIn copyInSQL) error {
	t := l.source.Backup.Tables[p.Table]
	l.meter.Object(into)
	tag, err := postgres.CopyIn(ctx, conn, r, copyIn(into, t.Columns, t.Format, l.source.Backup.Database.Encoding))
	if err != nil {
		return postgres.Wrap(err, "load table "+into)
	}
	if tag.RowsAffected() != p.Rows {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup",
			"a chunk of %s holds %s, the manifest says %s", into, words.Plural(tag.RowsAffected(), "row"), pgmedic.Count(p.Rows))
	}
	return nil
}

// inTransaction commits what do did, if it did it.
func inTransaction(ctx context.Context, conn *pgx.Conn, do func() error) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return postgres.Wrap(err, "begin to load a chunk")
	}
	if err := do(); err != nil {
		if !conn.IsClosed() {
			_, _ = conn.Exec(ctx, "ROLLBACK") // what went wrong is known
		}
		return err
	}
	_, err := conn.Exec(ctx, "COMMIT")
	return postgres.Wrap(err, "load a chunk")
}

// partReader reads one part of a chunk. The last one that is wanted ends only when
// the chunk has ended, because nothing of it is trusted before.
type partReader struct {
	r    io.Reader
	left int64
	last bool
}

func (p *partReader) Read(b []byte) (int, error) {
	if p.left > 0 {
		n, err := p.r.Read(b[:min(int64(len(b)), p.left)])
		p.left -= int64(n)
		if err == io.EOF { // the chunk's own, which knows its length
			err = io.ErrUnexpectedEOF
			if p.left == 0 {
				err = nil
			}
		}
		return n, err
	}
	if p.last {
		if _, err := io.Copy(io.Discard, p.r); err != nil {
			return 0, err
		}
	}
	return 0, io.EOF
}

// passing counts bytes that may have to be taken back.
type passing struct {
	to *progress.Meter
	n  atomic.Int64 // a read may go on for a moment when a COPY has failed
}

// Write never fails.
func (p *passing) Write(b []byte) (int, error) {
	p.n.Add(int64(len(b)))
	return p.to.Write(b)
}

func (p *passing) takeBack() {
	p.to.Add(-p.n.Swap(0))
}
