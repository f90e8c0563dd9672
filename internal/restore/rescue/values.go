package rescue

import (
	"context"
	"slices"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// recordedRows is what a backup recorded of the rows of a table, of all its partitions
// together.
type recordedRows struct {
	format  pgmedic.CopyFormat
	columns []string
	rows    int64
	sum     digest.Sum
}

// recordedOf adds up what a backup recorded of some of its tables. Why says why that can't
// be compared with the rows of one table.
func recordedOf(sums *digest.Database, tables []int) (all recordedRows, why string) {
	if sums == nil {
		return all, "the backup has no sums that this version can compare"
	}
	for n, i := range tables {
		at := slices.IndexFunc(sums.Tables, func(t digest.Table) bool { return t.Index == i })
		if at < 0 {
			return all, "the backup has no sum of the rows"
		}
		t := sums.Tables[at]
		if n == 0 {
			all.format, all.columns = t.Format, t.Columns
		}
		if t.Format != all.format || !slices.Equal(t.Columns, all.columns) {
			return all, "partitions have their columns in different orders or forms"
		}
		all.rows += t.Rows
		all.sum.Add(t.Sum)
	}
	return all, ""
}

// compareValues reads the tables that came back, and compares their rows with what the
// backup recorded when it read them.
func (r *rescue) compareValues(ctx context.Context) error {
	source := r.Source()
	sums, err := source.Sums(ctx)
	if err != nil {
		return err
	}
	conn, err := postgres.Connect(ctx, r.Target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	for k, n := range r.names {
		t := &r.done.Tables[k]
		r.report(pgmedic.Event{Step: "compare", Object: t.Table})
		want, why := recordedOf(sums, n.tables)
		if why != "" {
			t.Compared, t.NotByValue = pgmedic.ComparedCounts, why
			continue
		}
		table := snapshot.RowTable{Schema: r.schema, Name: n.as, Format: want.format}
		for _, name := range want.columns {
			table.Columns = append(table.Columns, pgmedic.Column{Name: name})
		}
		rows := &digest.Rows{Format: want.format}
		if err := postgres.CopyOut(ctx, conn, rows, snapshot.CopyOutSQL(table, snapshot.BlockRange{}, r.Backup.Database.Encoding)); err != nil {
			return postgres.Wrap(err, "read "+sqltext.QuoteQualified(r.schema, n.as)+" back")
		}
		if rows.Count() != want.rows || rows.Sum() != want.sum {
			return pgmedic.Errorf(pgmedic.KindIntegrity, "a type may print its values otherwise here than on the source: restore the whole database beside it, "+r.whole(),
				"the rows of %s that came back are not those that were read, by their values: %s, and %s were read", t.Table, words.Plural(rows.Count(), "row"), pgmedic.Count(want.rows))
		}
		t.Compared = pgmedic.ComparedValues
	}
	return nil
}
