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
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// packSize is where a worker begins a new pack: few objects for many tables,
// and none too large for a store.
const packSize = 256 << 20

// copier copies tables into packs, from several workers at once.
type copier struct {
	run      *Run
	snapshot *snapshot.Snapshot
	batches  chan []job
	names    packNames
	progress *shares

	mu      sync.Mutex
	waiting []job // those whose lock had to be waited for
}

func newCopier(r *Run, s *snapshot.Snapshot, tables []snapshot.RowTable, workers int) (*copier, error) {
	r.Manifest.Tables = s.Tables
	index, err := indexTables(r.Manifest.Tables, tables)
	if err != nil {
		return nil, err
	}
	c := &copier{run: r, snapshot: s}
	total := int64(0)
	for _, t := range tables {
		m := &r.Manifest.Tables[index[sqltext.QuoteQualified(t.Schema, t.Name)]]
		m.Format, m.Columns = t.Format, t.Columns
		total += t.SizeBytes
	}
	c.progress = r.newShares("data", total)
	jobs := planJobs(tables, index, chunkSize(total, workers), r.Manifest.Server.VersionNum)
	c.queue(batchJobs(jobs))
	return c, nil
}

// queue hands out batches, in their order, to the workers.
func (c *copier) queue(batches [][]job) {
	c.batches = make(chan []job, len(batches))
	for _, b := range batches {
		c.batches <- b
	}
	close(c.batches)
}

// copy copies all chunks, over as many connections as jobs says, or fewer.
func (c *copier) copy(ctx context.Context, jobs int) error {
	connect := func(ctx context.Context) (*pgx.Conn, error) { return postgres.Connect(ctx, c.run.Target) }
	return postgres.Workers(ctx, min(jobs, len(c.batches)), connect, c.work)
}

// work copies chunks until none is left.
func (c *copier) work(ctx context.Context, conn *pgx.Conn) (err error) {
	defer func() { postgres.Close(ctx, conn) }() // which may be another by then
	next, ok := <-c.batches
	if ok {
		defer c.run.session()()
	}
	for ok {
		if next, ok, err = c.fillPack(ctx, &conn, next, true); err != nil {
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
	c.queue(batchJobs(c.waiting))
	conn := c.snapshot.Conn()
	next, ok := <-c.batches
	for ok {
		var err error
		if next, ok, err = c.fillPack(ctx, &conn, next, false); err != nil {
			return err
		}
	}
	return nil
}

// pack is a pack being filled.
type pack struct {
	name   string
	own    bool // the connection is the worker's own, and not the snapshot's
	out    packWriter
	seal   *seal.Writer
	buffer *bufio.Writer
	plain  int64
	chunks int

	open   *pgmedic.Chunk // the one being written, if any
	shares []*share       // of its parts
	reads  []rowsRead     // of its parts
}

// shared is the most bytes of small tables that are sealed as one chunk. Each
// seal takes a key exchange, and each chunk that is restored a request to the
// store; but to read one table is to read its whole chunk.
const shared = 1 << 20

// begin begins a chunk, if none is open.
func (p *pack) begin() error {
	if p.open != nil {
		return nil
	}
	p.open = &pgmedic.Chunk{Pack: p.name, Offset: p.out.n}
	return p.seal.Reset(&p.out)
}

// abandon leaves what was written of the open chunk as bytes that no chunk has.
func (p *pack) abandon() {
	for _, s := range p.shares {
		s.end(false)
	}
	p.open, p.shares, p.reads = nil, nil, nil
}

// end ends the open chunk and returns it, with what its parts add to the sums.
func (p *pack) end() (pgmedic.Chunk, []rowsRead, error) {
	if err := p.seal.Close(); err != nil {
		return pgmedic.Chunk{}, nil, err
	}
	sum, err := p.seal.Sum()
	if err != nil {
		return pgmedic.Chunk{}, nil, err
	}
	chunk := *p.open
	chunk.StoredBytes, chunk.SHA256, chunk.PlainBytes = sum.StoredBytes, sum.SHA256, sum.PlainBytes
	for _, s := range p.shares {
		s.end(true)
	}
	reads := p.reads
	p.open, p.shares, p.reads = nil, nil, nil
	p.plain += chunk.PlainBytes
	p.chunks++
	return chunk, reads, nil
}

// takes reports whether another part belongs in the open chunk.
func (p *pack) takes(j job) bool {
	size := j.bytes
	for _, part := range p.open.Parts {
		size += part.PlainBytes
	}
	return size <= shared
}

// fillPack stores one pack: the given batch's chunks and further ones until the
// pack is full. It returns the first batch of the next pack, if there is one.
func (c *copier) fillPack(ctx context.Context, conn **pgx.Conn, batch []job, own bool) (next []job, more bool, err error) {
	p := &pack{name: c.names.next(), own: own, out: packWriter{hash: sha256.New()}}
	err = c.run.put(ctx, p.name, func(ctx context.Context, w io.Writer) error {
		p.out.dst = w
		sealer, err := seal.NewWriter(io.Discard, c.run.Seal) // each chunk begins its own stream
		if err != nil {
			return err
		}
		p.seal = sealer
		// A row is a write; the compressor likes larger ones.
		p.buffer = bufio.NewWriterSize(p.seal, 256<<10)
		for more = true; more && p.out.n < packSize; batch, more = <-c.batches {
			if err := c.batch(ctx, conn, batch, p); err != nil {
				return err
			}
		}
		if p.chunks == 0 {
			return errEmptyPack
		}
		return nil
	})
	if errors.Is(err, errEmptyPack) {
		return batch, more, nil
	}
	if err != nil {
		return nil, false, err
	}
	c.run.record(pgmedic.Object{
		Name: p.name, Role: pgmedic.RolePack, StoredBytes: p.out.n, SHA256: hex.EncodeToString(p.out.hash.Sum(nil)), PlainBytes: p.plain,
	})
	return batch, more, nil
}

func (c *copier) record(chunk pgmedic.Chunk, reads []rowsRead) {
	for _, read := range reads {
		c.run.sums.add(read)
	}
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	m := c.run.Manifest
	m.Chunks = append(m.Chunks, chunk)
	for _, p := range chunk.Parts {
		m.Tables[p.Table].Rows += p.Rows
	}
}

// errEmptyPack keeps a pack from being stored when none of its tables could be locked.
var errEmptyPack = errors.New("no chunk in the pack")

// errLockBusy says that a table's lock could not be had at once.
var errLockBusy = errors.New("another session waits for the table")

// batch copies jobs in one transaction. Where one of their tables can't be locked
// at once, each is tried by itself, and that one left for later. A lost
// connection is replaced, because the snapshot lives in another session; what the
// first try wrote of a chunk stays in the pack as bytes that no chunk points to.
func (c *copier) batch(ctx context.Context, conn **pgx.Conn, jobs []job, p *pack) error {
	const tries = 3
	for try := 1; ; try++ {
		done, err := c.copyBatch(ctx, *conn, jobs, p)
		jobs = jobs[done:]
		switch {
		case err == nil, len(jobs) == 0 && (*conn).IsClosed() && ctx.Err() == nil:
			return nil // where only the end was lost, the rows are out, and the next batch connects again
		case errors.Is(err, errLockBusy):
			return c.oneByOne(ctx, conn, jobs, p)
		case !p.own || ctx.Err() != nil || try == tries || p.out.failed || !(*conn).IsClosed():
			return err
		}
		if done > 0 {
			try = 1
		}
		c.run.Logger.Warn("a connection was lost; copying the chunk again", "schema", jobs[0].table.Schema, "table", jobs[0].table.Name)
		again, connectErr := postgres.Connect(ctx, c.run.Target)
		if connectErr != nil {
			return fmt.Errorf("%w; connecting again: %w", err, connectErr)
		}
		*conn = again
	}
}

func (c *copier) oneByOne(ctx context.Context, conn **pgx.Conn, jobs []job, p *pack) error {
	if len(jobs) == 1 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiting = append(c.waiting, jobs[0])
		return nil
	}
	for i := range jobs {
		if err := c.batch(ctx, conn, jobs[i:i+1], p); err != nil {
			return err
		}
	}
	return nil
}

// copyBatch copies jobs in one transaction, and returns how many of them are done:
// they are in chunks that have ended.
func (c *copier) copyBatch(ctx context.Context, conn *pgx.Conn, jobs []job, p *pack) (done int, err error) {
	tables := make([]snapshot.RowTable, len(jobs))
	for i, j := range jobs {
		tables[i] = j.table
	}
	if p.own {
		err := c.snapshot.BeginChunk(ctx, conn, tables)
		if busy := postgres.Code(err) == "55P03"; busy || err != nil && len(jobs) > 1 && !conn.IsClosed() {
			// One by one they also say which of them it was.
			return 0, errors.Join(errLockBusy, snapshot.EndChunk(ctx, conn))
		}
		if err != nil {
			return 0, err
		}
	} else if err := c.snapshot.HoldChunk(ctx, tables); err != nil {
		return 0, err
	}
	defer p.abandon() // what an error left open
	for i, j := range jobs {
		if err := c.part(ctx, conn, j, p); err != nil {
			return done, err
		}
		if i+1 < len(jobs) && p.takes(jobs[i+1]) {
			continue
		}
		chunk, reads, err := p.end()
		if err != nil {
			return done, fmt.Errorf("seal a chunk of %s: %w", p.name, err)
		}
		c.record(chunk, reads)
		done = i + 1
	}
	if p.own {
		return done, snapshot.EndChunk(ctx, conn)
	}
	return done, nil
}

// part copies one job into the pack's open chunk.
func (c *copier) part(ctx context.Context, conn *pgx.Conn, j job, p *pack) error {
	name := sqltext.QuoteQualified(j.table.Schema, j.table.Name)
	if err := p.begin(); err != nil {
		return fmt.Errorf("begin a chunk of %s: %w", p.name, err)
	}
	share := c.progress.share(name, j.bytes)
	p.shares = append(p.shares, share)
	p.buffer.Reset(io.MultiWriter(p.seal, share))
	rows := &digest.Rows{Format: j.table.Format}
	encoding := c.run.Manifest.Database.Encoding
	err := postgres.CopyOut(ctx, conn, io.MultiWriter(rows, p.buffer), snapshot.CopyOutSQL(j.table, j.blocks, encoding))
	if err == nil {
		err = p.buffer.Flush()
	}
	if err != nil {
		return refuseText(j.table, postgres.Wrap(err, "copy table "+name))
	}
	read := rowsRead{index: j.index, table: j.table, rows: rows.Count(), sum: rows.Sum()}
	if len(j.table.Generated) > 0 {
		all := &digest.Rows{Format: j.table.Format}
		if err := postgres.CopyOut(ctx, conn, all, snapshot.CopyAllSQL(j.table, j.blocks, encoding)); err != nil {
			return postgres.Wrap(err, "read the generated columns of table "+name)
		}
		read.generated = all.Sum()
	}
	p.reads = append(p.reads, read)
	p.open.Parts = append(p.open.Parts, pgmedic.Part{Table: j.index, PlainBytes: share.seen, Rows: rows.Count()})
	return nil
}

// refuseText says of a value that is too large for the text form why its table is
// not copied in binary.
func refuseText(t snapshot.RowTable, err error) error {
	var server *postgres.ServerError
	if !errors.As(err, &server) || !server.TooLarge || t.TextFor == "" {
		return err
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "move the large column into a table of its own with columns of built-in types and enums, or leave the rows out: --exclude-table-data",
		"%w; the table is copied as text because %s", err, t.TextFor)
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
