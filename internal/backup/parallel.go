package backup

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
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

// Take stores the schema, what is not plain rows, the rows, the globals and the
// inventory.
func (p Parallel) Take(ctx context.Context, r *Run) error {
	if p.Jobs <= 0 {
		p.Jobs = runtime.NumCPU()
	}
	return underSnapshot(ctx, r, func(dump pgtool.Tool, snapshot *postgres.Snapshot) error {
		return r.Step("data", func() error { return p.data(ctx, r, dump, snapshot) })
	})
}

// data runs pg_dump's two parts beside the copies, and then, on the snapshot's
// own connection, what has to wait for it.
func (p Parallel) data(ctx context.Context, r *Run, dump pgtool.Tool, snapshot *postgres.Snapshot) error {
	tables, err := snapshot.RowTables(ctx)
	if err != nil {
		return err
	}
	tables = takeOver(tables, maxArguments-argumentBytes(snapshot.LeftOut))
	c, err := newCopier(r, snapshot, tables)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := r.storeArchive(groupCtx, dump, snapshot, nil); err != nil {
			return err
		}
		return r.storeArchive(groupCtx, dump, snapshot, tables)
	})
	for range p.Jobs {
		group.Go(func() error { return c.work(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	return countRest(ctx, r, snapshot)
}

// maxArguments bounds what pg_dump's argument list may take.
const maxArguments = 1 << 20

// takeOver chooses the tables whose rows we copy: all of them, or the largest
// where pg_dump's arguments could not name all. The result is never nil.
func takeOver(tables []postgres.RowTable, room int) []postgres.RowTable {
	slices.SortStableFunc(tables, func(a, b postgres.RowTable) int { return int(min(max(b.SizeBytes-a.SizeBytes, -1), 1)) })
	size := 0
	for i, t := range tables {
		size += len(pgtool.ExcludeArgument(t)) + 1
		if size > room {
			return tables[:i]
		}
	}
	return tables
}

// countRest counts the rows that no chunk holds, so that a copy can be compared
// table by table whoever brought it back.
func countRest(ctx context.Context, r *Run, snapshot *postgres.Snapshot) error {
	for i := range r.Manifest.Tables {
		t := &r.Manifest.Tables[i]
		if t.Format != "" || t.Extension != "" || t.WithoutRows {
			continue
		}
		var err error
		if t.Rows, err = snapshot.CountUnder(ctx, *t); err != nil {
			return err
		}
	}
	return nil
}

// storeArchive stores pg_dump's archive of the definitions, or, with the tables
// that are copied, of all other data.
func (r *Run) storeArchive(ctx context.Context, tool pgtool.Tool, snapshot *postgres.Snapshot, without []postgres.RowTable) error {
	o, sections := StoreOptions{Name: "schema.dump", Role: pgmedic.RoleSchema}, []string{"pre-data", "post-data"}
	if without != nil {
		o, sections = StoreOptions{Name: "rest.dump", Role: pgmedic.RoleRest}, []string{"data"}
	}
	return r.Store(ctx, o, func(ctx context.Context, w io.Writer) error {
		process, err := pgtool.StartArchive(ctx, pgtool.ArchiveOptions{
			Tool: tool, Target: r.Target, Snapshot: snapshot.ID, LockTimeout: r.LockTimeout,
			Encoding: r.Manifest.Database.Encoding, Sections: sections, LeftOut: snapshot.LeftOut, Without: without,
		})
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

// targetChunk is the size of a chunk's heap and TOAST: small enough that several
// workers end together, large enough that a chunk's own cost does not show.
const targetChunk = 96 << 20

// job is one chunk to copy.
type job struct {
	table  postgres.RowTable
	index  int // in the manifest's tables
	blocks postgres.BlockRange
	bytes  int64
}

// indexTables returns where in the manifest each table is that is to be copied,
// by its quoted name. A table that is not there would have its rows filed under
// another's.
func indexTables(manifest []pgmedic.Table, tables []postgres.RowTable) (map[string]int, error) {
	index := make(map[string]int, len(manifest))
	for i, t := range manifest {
		index[pgmedic.QuoteQualified(t.Schema, t.Name)] = i
	}
	for _, t := range tables {
		name := pgmedic.QuoteQualified(t.Schema, t.Name)
		if _, known := index[name]; !known {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "run the backup again while no migration changes the schema",
				"table %s is to be copied, and the snapshot does not list it", name)
		}
	}
	return index, nil
}

// planJobs cuts the tables into chunks, the largest first. Without TID range
// scans (before 14) a part of a table would cost a scan of all of it, so a
// table is one chunk.
func planJobs(tables []postgres.RowTable, index map[string]int, ranges bool) []job {
	var jobs []job
	for _, t := range tables {
		i := index[pgmedic.QuoteQualified(t.Schema, t.Name)]
		parts := (t.SizeBytes + targetChunk - 1) / targetChunk
		parts = min(max(parts, 1), max(t.HeapBlocks, 1))
		if !ranges || len(t.Columns) == 0 {
			parts = 1
		}
		step := (t.HeapBlocks + parts - 1) / parts
		for n := range parts {
			b := postgres.BlockRange{From: n * step, To: (n + 1) * step}
			if n == parts-1 {
				b.To = 0 // open, for rows behind the size that was read
			}
			jobs = append(jobs, job{table: t, index: i, blocks: b, bytes: t.SizeBytes / parts})
			if b.To == 0 || b.To >= t.HeapBlocks {
				jobs[len(jobs)-1].blocks.To = 0
				break
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return int(min(max(b.bytes-a.bytes, -1), 1)) })
	return jobs
}

// packNames gives packs their names, whichever worker asks.
type packNames struct{ n atomic.Int64 }

func (p *packNames) next() string { return fmt.Sprintf("pack-%04d", p.n.Add(1)) }
