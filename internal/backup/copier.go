package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/seal"
)

// packSize is where a worker begins a new pack: few objects for many tables,
// and none too large for a store.
const packSize = 256 << 20

// copier copies tables into packs, from several workers at once.
type copier struct {
	run      *Run
	snapshot *postgres.Snapshot
	jobs     chan job
	names    packNames
	total    int64

	mu      sync.Mutex
	done    int64
	waiting []job // those whose lock had to be waited for
}

func newCopier(r *Run, s *postgres.Snapshot, tables []postgres.RowTable) (*copier, error) {
	r.Manifest.Tables = s.Tables
	index, err := indexTables(r.Manifest.Tables, tables)
	if err != nil {
		return nil, err
	}
	c := &copier{run: r, snapshot: s}
	for _, t := range tables {
		m := &r.Manifest.Tables[index[pgmedic.QuoteQualified(t.Schema, t.Name)]]
		m.Format, m.Columns = t.Format, t.Columns
		c.total += t.SizeBytes
	}
	jobs := planJobs(tables, index, r.Manifest.Server.VersionNum >= 140000)
	c.jobs = make(chan job, len(jobs))
	for _, j := range jobs {
		c.jobs <- j
	}
	close(c.jobs)
	return c, nil
}

// work copies chunks until none is left, on a connection of its own.
func (c *copier) work(ctx context.Context) error {
	first, ok := <-c.jobs
	if !ok {
		return nil
	}
	conn, err := postgres.Connect(ctx, c.run.Target)
	if err != nil {
		return err
	}
	defer func() { postgres.Close(ctx, conn) }()
	for ok {
		first, ok, err = c.fillPack(ctx, &conn, first, true)
		if err != nil {
			return err
		}
	}
	return nil
}

// finish copies, on the connection that holds every lock or may wait for one,
// what the workers could not lock at once.
func (c *copier) finish(ctx context.Context) error {
	if len(c.waiting) == 0 {
		return nil
	}
	left := c.waiting
	c.jobs = make(chan job, len(left))
	for _, j := range left {
		c.jobs <- j
	}
	close(c.jobs)
	conn := c.snapshot.Conn()
	next, ok := <-c.jobs
	for ok {
		var err error
		if next, ok, err = c.fillPack(ctx, &conn, next, false); err != nil {
			return err
		}
	}
	return nil
}

// fillPack stores one pack: the given job's chunk and further ones until the
// pack is full. It returns the first job of the next pack, if there is one.
func (c *copier) fillPack(ctx context.Context, conn **pgx.Conn, j job, own bool) (next job, more bool, err error) {
	name := c.names.next()
	pack := &packWriter{hash: sha256.New()}
	var plain int64
	chunks := 0
	err = c.run.put(ctx, name, func(ctx context.Context, w io.Writer) error {
		pack.dst = w
		sealer, err := seal.NewWriter(pack, c.run.Seal)
		if err != nil {
			return err
		}
		for more = true; more && pack.n < packSize; j, more = <-c.jobs {
			chunk, err := c.chunk(ctx, conn, j, pack, sealer, own)
			if errors.Is(err, errLockBusy) {
				c.mu.Lock()
				c.waiting = append(c.waiting, j)
				c.mu.Unlock()
				continue
			}
			if err != nil {
				return err
			}
			chunk.Pack = name
			plain += chunk.PlainBytes
			chunks++
			c.record(j, chunk)
		}
		if chunks == 0 {
			return errEmptyPack
		}
		return nil
	})
	if errors.Is(err, errEmptyPack) {
		return j, more, nil
	}
	if err != nil {
		return job{}, false, err
	}
	c.run.record(pgmedic.Object{
		Name: name, Role: pgmedic.RolePack, StoredBytes: pack.n, SHA256: hex.EncodeToString(pack.hash.Sum(nil)), PlainBytes: plain,
	})
	return j, more, nil
}

func (c *copier) record(j job, chunk pgmedic.Chunk) {
	c.run.mu.Lock()
	m := c.run.Manifest
	m.Chunks = append(m.Chunks, chunk)
	m.Tables[j.index].Rows += chunk.Rows
	c.run.mu.Unlock()
	c.mu.Lock()
	c.done += j.bytes
	done := c.done
	c.mu.Unlock()
	c.run.report(pgmedic.Event{
		Step: "data", Object: pgmedic.QuoteQualified(j.table.Schema, j.table.Name), DoneBytes: done, TotalBytes: c.total,
	})
}

// errEmptyPack keeps a pack from being stored for which no table could be locked.
var errEmptyPack = errors.New("no chunk in the pack")

// errLockBusy says that a table's lock could not be had at once.
var errLockBusy = errors.New("another session waits for the table")

// chunk copies one job, and once more on a new connection if the first was
// lost: the snapshot lives in another session. What the first try wrote stays
// in the pack as bytes that no chunk points to.
func (c *copier) chunk(ctx context.Context, conn **pgx.Conn, j job, pack *packWriter, s *seal.Writer, own bool) (pgmedic.Chunk, error) {
	const tries = 3
	for try := 1; ; try++ {
		chunk, err := c.copyOnce(ctx, *conn, j, pack, s, own)
		if err == nil || !own || ctx.Err() != nil || try == tries || pack.failed || !(*conn).IsClosed() {
			return chunk, err
		}
		c.run.Logger.Warn("a connection was lost; copying the chunk again", "schema", j.table.Schema, "table", j.table.Name)
		again, connectErr := postgres.Connect(ctx, c.run.Target)
		if connectErr != nil {
			return chunk, errors.Join(err, connectErr)
		}
		*conn = again
	}
}

func (c *copier) copyOnce(ctx context.Context, conn *pgx.Conn, j job, pack *packWriter, s *seal.Writer, own bool) (pgmedic.Chunk, error) {
	chunk := pgmedic.Chunk{Table: j.index, Offset: pack.n}
	what := "copy table " + pgmedic.QuoteQualified(j.table.Schema, j.table.Name)
	if own {
		err := c.snapshot.BeginChunk(ctx, conn, j.table)
		if postgres.Code(err) == "55P03" {
			return chunk, errors.Join(errLockBusy, postgres.EndChunk(ctx, conn))
		}
		if err != nil {
			return chunk, err
		}
	} else if err := c.snapshot.HoldChunk(ctx, j.table); err != nil {
		return chunk, err
	}
	if err := s.Reset(pack); err != nil {
		return chunk, err
	}
	// A row is a write; the compressor likes larger ones.
	w := bufio.NewWriterSize(s, 256<<10)
	tag, err := conn.PgConn().CopyTo(ctx, w, postgres.CopyOutSQL(j.table, j.blocks, c.run.Manifest.Database.Encoding))
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return chunk, postgres.Wrap(err, what)
	}
	if err := s.Close(); err != nil {
		return chunk, fmt.Errorf("%s: %w", what, err)
	}
	sum, err := s.Sum()
	if err != nil {
		return chunk, fmt.Errorf("%s: %w", what, err)
	}
	chunk.StoredBytes, chunk.SHA256, chunk.PlainBytes, chunk.Rows = sum.StoredBytes, sum.SHA256, sum.PlainBytes, tag.RowsAffected()
	if own {
		return chunk, postgres.EndChunk(ctx, conn)
	}
	return chunk, nil
}

// packWriter counts and hashes the bytes of a pack.
type packWriter struct {
	dst    io.Writer
	hash   hash.Hash
	n      int64
	failed bool
}

func (p *packWriter) Write(b []byte) (int, error) {
	n, err := p.dst.Write(b)
	p.hash.Write(b[:n])
	p.n += int64(n)
	p.failed = p.failed || err != nil
	return n, err
}
