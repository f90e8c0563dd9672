package backup

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// sums gathers the sums of the database's values while they are read.
type sums struct {
	mu sync.Mutex
	digest.Database
	at map[int]int // where in Tables the sum of each of the manifest's tables is
}

func newSums() *sums {
	return &sums{Database: digest.Database{Format: digest.Format}, at: map[int]int{}}
}

// rowsRead is what a part of a table adds to its sum.
type rowsRead struct {
	index     int // in the manifest's tables
	table     snapshot.RowTable
	rows      int64
	sum       digest.Sum
	generated digest.Sum
}

// add enters rows that are in the backup.
func (s *sums) add(read rowsRead) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.at[read.index]
	if !known {
		i, s.at[read.index] = len(s.Tables), len(s.Tables)
		entry := digest.Table{Index: read.index, Format: read.table.Format, Columns: []string{}, Generated: read.table.Generated}
		for _, c := range read.table.Columns {
			entry.Columns = append(entry.Columns, c.Name)
		}
		if len(read.table.Generated) > 0 {
			entry.GeneratedSum = new(digest.Sum)
		}
		s.Tables = append(s.Tables, entry)
	}
	t := &s.Tables[i]
	t.Rows += read.rows
	t.Sum.Add(read.sum)
	if t.GeneratedSum != nil {
		t.GeneratedSum.Add(read.generated)
	}
}

// storeSums stores what has been gathered. The sums are sealed like the rows: from
// that of a table with few possible rows anyone could tell which it has.
func (r *Run) storeSums(ctx context.Context) error {
	r.sums.mu.Lock()
	defer r.sums.mu.Unlock()
	slices.SortFunc(r.sums.Tables, func(a, b digest.Table) int { return a.Index - b.Index })
	return r.Store(ctx, StoreOptions{Name: "sums.json", Role: pgmedic.RoleSums}, func(_ context.Context, w io.Writer) error {
		text, err := r.sums.Marshal()
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			return fmt.Errorf("write the sums: %w", err)
		}
		return nil
	})
}

// sumRest reads, on the snapshot's own connection, the rows that no chunk holds: a
// copy is compared table by table, however it was restored.
func sumRest(ctx context.Context, r *Run, taken *snapshot.Snapshot) error {
	var rest []pgmedic.Table
	var index []int
	for i, t := range r.Manifest.Tables {
		if t.Format == "" && t.Extension == "" && !t.WithoutRows {
			rest, index = append(rest, t), append(index, i)
		}
	}
	tables, err := taken.Describe(ctx, rest)
	if err != nil {
		return err
	}
	for i, t := range tables {
		read := rowsRead{index: index[i], table: t}
		readable, err := taken.Readable(ctx, t)
		if err == nil && readable {
			sql := snapshot.CopyOutSQL(t, snapshot.BlockRange{}, r.Manifest.Database.Encoding)
			read.rows, read.sum, err = r.sum(ctx, taken, t, sql)
		}
		if err == nil && readable {
			read.generated, err = r.sumGenerated(ctx, taken, t)
		}
		if err != nil {
			return err
		}
		r.Manifest.Tables[index[i]].Rows = read.rows
		r.sums.add(read)
	}
	return nil
}

// sum reads rows on the snapshot's connection.
func (r *Run) sum(ctx context.Context, snapshot *snapshot.Snapshot, t snapshot.RowTable, sql string) (int64, digest.Sum, error) {
	rows := &digest.Rows{Format: t.Format}
	err := postgres.CopyOut(ctx, snapshot.Conn(), rows, sql)
	return rows.Count(), rows.Sum(), postgres.Wrap(err, "read table "+sqltext.QuoteQualified(t.Schema, t.Name))
}

// sumGenerated sums whole rows of a table that has generated columns.
func (r *Run) sumGenerated(ctx context.Context, taken *snapshot.Snapshot, t snapshot.RowTable) (digest.Sum, error) {
	if len(t.Generated) == 0 {
		return digest.Sum{}, nil
	}
	_, sum, err := r.sum(ctx, taken, t, snapshot.CopyAllSQL(t, snapshot.BlockRange{}, r.Manifest.Database.Encoding))
	return sum, err
}
