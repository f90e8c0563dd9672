package backup

import (
	"context"
	"io"
	"maps"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Plain is the method of one pg_dump SQL stream in one object. What it writes
// needs nothing but gunzip and psql to come back.
type Plain struct{}

// Name returns pgmedic.MethodPlain.
func (Plain) Name() pgmedic.Method { return pgmedic.MethodPlain }

// Take stores dump.sql, the globals and the inventory.
func (p Plain) Take(ctx context.Context, r *Run) error {
	return underSnapshot(ctx, r, func(ctx context.Context, dump pgtool.Tool, snapshot *snapshot.Snapshot) error {
		return r.Step("dump", func() error { return p.dump(ctx, r, dump, snapshot) })
	})
}

func (Plain) dump(ctx context.Context, r *Run, tool pgtool.Tool, snapshot *snapshot.Snapshot) error {
	hearing, err := newHearing(ctx, r, snapshot)
	if err != nil {
		return err
	}
	counter := hearing.counter
	err = r.Store(ctx, StoreOptions{Name: "dump.sql", Role: pgmedic.RoleDump},
		func(ctx context.Context, w io.Writer) error {
			defer r.session()()
			progress := r.newShares("dump", tableBytes(snapshot.Tables))
			counter.OnTable = progress.tables(snapshot.Tables)
			w = io.MultiWriter(w, counter, progress)
			o := pgtool.DumpOptions{
				Tool: tool, Target: r.Target, Snapshot: snapshot.ID, Encoding: r.Manifest.Database.Encoding,
				LockTimeout: r.LockTimeout, LeftOut: snapshot.LeftOut,
				LoginTriggersOff: hearing.triggersOff,
			}
			if len(snapshot.LeftOut.ForeignKeys) > 0 {
				return r.dumpWithoutKeys(ctx, w, o)
			}
			process, err := pgtool.StartDump(ctx, o)
			if err != nil {
				return err
			}
			return drain(w, process)
		})
	if err != nil {
		return err
	}
	if !counter.Complete() {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "run the backup again", "pg_dump's output ends in the middle of a table")
	}
	counts, err := decodeCounts(ctx, snapshot, r.Manifest.Database.Encoding, counter.Counts())
	if err != nil {
		return err
	}
	tables, err := withRows(snapshot.Tables, counts)
	if err != nil {
		return err
	}
	r.Manifest.Tables = tables
	return hearing.enter(ctx, snapshot)
}

// decodeCounts returns counts by names as the snapshot has them. In a dump they are
// in the database's encoding.
func decodeCounts(ctx context.Context, snapshot *snapshot.Snapshot, encoding string, counts map[string]int64) (map[string]int64, error) {
	names := slices.Collect(maps.Keys(counts))
	decoded, err := postgres.Decode(ctx, snapshot.Conn(), encoding, names)
	if err != nil {
		return nil, err
	}
	by := make(map[string]int64, len(counts))
	for i, name := range names {
		by[decoded[i]] += counts[name]
	}
	return by, nil
}

// withRows enters the counted rows. A counted table that is not in the snapshot would
// be missing from the manifest.
func withRows(tables []pgmedic.Table, counts map[string]int64) ([]pgmedic.Table, error) {
	known := make(map[string]bool, len(tables))
	for i := range tables {
		t := &tables[i]
		name := sqltext.QuoteQualified(t.Schema, t.Name)
		known[name] = true
		t.Rows = counts[name]
		// pg_dump loads partitions by an enum's hash through their root and
		// writes its name; those rows are counted once, with the first leaf.
		if root := sqltext.CountedAs(*t); root != name && !known[root] {
			known[root] = true
			t.Rows += counts[root]
		}
	}
	for name := range counts {
		if !known[name] {
			return nil, pgmedic.Errorf(pgmedic.KindIntegrity, "run the backup again while no migration changes the schema",
				"pg_dump wrote rows of %s, which the snapshot does not list", name)
		}
	}
	return tables, nil
}

func tableBytes(tables []pgmedic.Table) int64 {
	var n int64
	for _, t := range tables {
		n += t.SizeBytes
	}
	return n
}
