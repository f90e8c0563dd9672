package backup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Parallel is the method that takes the rows of ordinary tables over several
// connections in one snapshot, as sealed chunks in packs, and leaves everything
// else to pg_dump in the same snapshot. Each table can be fetched alone.
type Parallel struct {
	// Jobs is how many connections read rows; zero means one for each
	// processor.
	Jobs int
}

// Name returns pgmedic.MethodParallel.
func (Parallel) Name() pgmedic.Method { return pgmedic.MethodParallel }

// jobs is how many connections read rows.
func (p Parallel) jobs() int { return postgres.Jobs(p.Jobs) }

// Take stores the schema, what is not plain rows, the rows, the globals and the
// inventory.
func (p Parallel) Take(ctx context.Context, r *Run) error {
	return underSnapshot(ctx, r, func(ctx context.Context, dump pgtool.Tool, snapshot *snapshot.Snapshot) error {
		return r.Step("data", func() error { return p.data(ctx, r, dump, snapshot) })
	})
}

// data runs pg_dump's two parts beside the copies, and then, on the snapshot's
// own connection, what has to wait for it.
func (p Parallel) data(ctx context.Context, r *Run, dump pgtool.Tool, snapshot *snapshot.Snapshot) error {
	tables, err := snapshot.RowTables(ctx)
	if err != nil {
		return err
	}
	whole, err := snapshot.WholeSchemas(ctx, tables)
	if err != nil {
		return err
	}
	taken := takeOver(tables, whole, maxArguments-argumentBytes(snapshot.LeftOut))
	// pg_dump, twice, and pg_dumpall have one each.
	jobs, err := postgres.JobsWithin(ctx, r.conn, p.jobs(), 3)
	if err != nil {
		return err
	}
	if jobs < p.jobs() {
		r.Logger.Warn("the server has few connections left: the backup takes longer", "jobs", jobs, "asked", p.jobs())
	}
	c, err := newCopier(r, snapshot, taken.tables, jobs)
	if err != nil {
		return err
	}
	little, err := littleRest(ctx, snapshot, taken.tables)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	archive := func(role pgmedic.ObjectRole, sections ...string) func() error {
		return func() error { return r.storeArchive(groupCtx, dump, snapshot, role, sections, taken) }
	}
	switch {
	case little:
		group.Go(archive(pgmedic.RoleSchema, "pre-data", "data", "post-data"))
	case snapshot.Locked:
		// Both at once, because each locks every table when it begins: a migration that
		// queued up in between would keep the second from its locks.
		group.Go(archive(pgmedic.RoleSchema, "pre-data", "post-data"))
		group.Go(archive(pgmedic.RoleRest, "data"))
	default: // the server has no room for the locks of both
		group.Go(func() error {
			if err := archive(pgmedic.RoleSchema, "pre-data", "post-data")(); err != nil {
				return err
			}
			return archive(pgmedic.RoleRest, "data")()
		})
	}
	group.Go(func() error { return c.copy(groupCtx, jobs) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	return sumRest(ctx, r, snapshot)
}

// littleObjects is the most bytes of large objects that may be staged with the
// definitions when they are restored.
const littleObjects = 1 << 20

// littleRest reports whether the data that pg_dump keeps is little enough to be
// in the archive of the definitions: no table's rows, which are never staged,
// and few large objects. pg_dump then reads the catalogue once, and takes its
// locks once.
func littleRest(ctx context.Context, snapshot *snapshot.Snapshot, taken []snapshot.RowTable) (bool, error) {
	names := make(map[string]bool, len(taken))
	for _, t := range taken {
		names[sqltext.QuoteQualified(t.Schema, t.Name)] = true
	}
	for _, t := range snapshot.Tables {
		empty := snapshot.Locked && t.SizeBytes == 0 // without locks the size is an estimate
		if !empty && !t.WithoutRows && !names[sqltext.QuoteQualified(t.Schema, t.Name)] {
			return false, nil
		}
	}
	bytes, err := snapshot.LargeObjectBytes(ctx)
	return bytes <= littleObjects, err
}

// maxArguments bounds what pg_dump's argument list may take.
const maxArguments = 1 << 20

// takenOver is what is copied, and the arguments that make pg_dump leave it out.
type takenOver struct {
	tables []snapshot.RowTable
	whole  []snapshot.WholeSchema
	named  []snapshot.RowTable // those that whole doesn't cover
}

// takeOver chooses the tables whose rows we copy: all of them, or the largest
// where pg_dump's arguments could not name all in the bytes that are left for
// them. Those of whole schemas need no name.
func takeOver(tables []snapshot.RowTable, whole []snapshot.WholeSchema, room int) takenOver {
	slices.SortStableFunc(tables, func(a, b snapshot.RowTable) int { return int(min(max(b.SizeBytes-a.SizeBytes, -1), 1)) })
	var taken takenOver
	schemas := make(map[string]snapshot.WholeSchema)
	for _, w := range whole {
		if room -= len(pgtool.ExcludeSchemaArgument(w)) + 1; room < 0 {
			room = 0
			break
		}
		taken.whole, schemas[w.Name] = append(taken.whole, w), w
	}
	for _, t := range tables {
		w, ok := schemas[t.Schema]
		if !ok {
			w, ok = schemas[""] // all of them
		}
		if !ok || !w.Covers(t.Name) {
			if room -= len(pgtool.ExcludeArgument(t)) + 1; room < 0 {
				continue
			}
			taken.named = append(taken.named, t)
		}
		taken.tables = append(taken.tables, t)
	}
	return taken
}

// storeArchive stores sections of pg_dump's archive, without the rows that are
// copied.
func (r *Run) storeArchive(ctx context.Context, tool pgtool.Tool, snapshot *snapshot.Snapshot, role pgmedic.ObjectRole, sections []string, taken takenOver) error {
	archive := pgtool.ArchiveOptions{
		Tool: tool, Target: r.Target, Snapshot: snapshot.ID, LockTimeout: r.LockTimeout,
		Encoding: r.Manifest.Database.Encoding, Sections: sections, LeftOut: snapshot.LeftOut,
	}
	if slices.Contains(sections, "data") {
		archive.WithoutSchemas, archive.Without = taken.whole, taken.named
	}
	name := "schema.dump"
	if role == pgmedic.RoleRest {
		name = "rest.dump"
	}
	return r.Store(ctx, StoreOptions{Name: name, Role: role}, func(ctx context.Context, w io.Writer) error {
		defer r.session()()
		process, err := pgtool.StartArchive(ctx, archive)
		if err != nil {
			return err
		}
		return drain(w, process)
	})
}

// drain copies a program's output and waits for its end.
func drain(w io.Writer, process *pgtool.Process) error {
	_, err := io.Copy(w, process)
	if closeErr := process.Close(); err == nil {
		err = closeErr
	}
	return err
}

// A chunk is as much of a table as can be copied alone.
const (
	// maxChunk and minChunk bound a chunk's heap and TOAST. Above, workers would
	// not end together; below, a chunk's own cost would show, and that of a
	// compressor that begins with an empty window.
	maxChunk, minChunk = 96 << 20, 24 << 20
	// chunksEach is how many chunks a worker has to do at least, where they don't
	// get too small: the last one to end then has little left.
	chunksEach = 16
)

// chunkSize returns how large the chunks of a database of the given size are to be.
func chunkSize(total int64, jobs int) int64 {
	return min(max(total/int64(jobs*chunksEach), minChunk), maxChunk)
}

// job is one chunk to copy.
type job struct {
	table  snapshot.RowTable
	index  int // in the manifest's tables
	blocks snapshot.BlockRange
	bytes  int64
}

// indexTables returns the place in the manifest of each table that is to be copied,
// by its quoted name. The rows of a table that is not there would be filed under
// another one.
func indexTables(manifest []pgmedic.Table, tables []snapshot.RowTable) (map[string]int, error) {
	index := make(map[string]int, len(manifest))
	for i, t := range manifest {
		index[sqltext.QuoteQualified(t.Schema, t.Name)] = i
	}
	for _, t := range tables {
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		if _, known := index[name]; !known {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "run the backup again while no migration changes the schema",
				"table %s is to be copied, and the snapshot does not list it", name)
		}
	}
	return index, nil
}

// planJobs cuts the tables into chunks of about size bytes, the largest first.
func planJobs(tables []snapshot.RowTable, index map[string]int, size int64, versionNum int) []job {
	var jobs []job
	for _, t := range tables {
		i := index[sqltext.QuoteQualified(t.Schema, t.Name)]
		blocks := t.HeapBlocks
		if len(t.Columns) == 0 {
			blocks = 1
		}
		ranges := snapshot.Split(blocks, t.SizeBytes, size, versionNum)
		for _, b := range ranges {
			jobs = append(jobs, job{table: t, index: i, blocks: b, bytes: t.SizeBytes / int64(len(ranges))})
		}
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return int(min(max(b.bytes-a.bytes, -1), 1)) })
	return jobs
}

// A batch of small chunks is copied in one transaction: a transaction for each would
// take longer than its rows. A batch is small, because its locks are held until its end.
const maxBatch, maxBatchBytes = 64, 8 << 20

// batchJobs puts small chunks together, in their order.
func batchJobs(jobs []job) [][]job {
	var batches [][]job
	bytes := int64(0)
	for i, j := range jobs {
		last := len(batches) - 1
		if i == 0 || len(batches[last]) == maxBatch || bytes+j.bytes > maxBatchBytes {
			batches, bytes = append(batches, []job{j}), j.bytes
			continue
		}
		batches[last], bytes = append(batches[last], j), bytes+j.bytes
	}
	return batches
}

// packNames gives packs their names, whichever worker asks.
type packNames struct{ n atomic.Int64 }

func (p *packNames) next() string { return fmt.Sprintf("pack-%04d", p.n.Add(1)) }
