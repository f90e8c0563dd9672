package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The bounds of what is asked for on request.
const (
	// measured is how many tables and how many indexes, the largest, are read
	// for their bloat.
	measured = 10
	// measureTimeout is how long one may take, and measureBudget how long all of
	// them.
	measureTimeout, measureBudget = 30 * time.Second, time.Minute
	// plansShown is how many statements are planned, and planTimeout how long one
	// may take.
	plansShown, planTimeout = 20, 2 * time.Second
)

// deepQueries are what is asked on request only.
func deepQueries() []query {
	const install = ": CREATE EXTENSION pgstattuple;"
	exact := func(o Options) bool { return o.ExactBloat }
	return []query{
		{
			name: "exact bloat of tables", section: reading.SectionTables, each: true, wanted: exact, timeout: measureTimeout,
			extension: "pgstattuple", extensionSince: "1.3", install: install,
			privilege: "pg_stat_scan_tables", deep: measureTables,
		},
		{
			name: "exact bloat of indexes", section: reading.SectionIndexes, each: true, wanted: exact, timeout: measureTimeout,
			extension: "pgstattuple", extensionSince: "1.3", install: install,
			privilege: "pg_stat_scan_tables", deep: measureIndexes,
		},
		{
			name: "plans of statements", section: reading.SectionStatements, since: pg16, timeout: planTimeout,
			wanted:    func(o Options) bool { return o.Plans },
			extension: "pg_stat_statements", extensionSince: "1.4", deep: planStatements,
		},
	}
}

// measureTables replaces the estimates of the largest tables by what
// pgstattuple_approx says: it reads the pages that the visibility map doesn't
// vouch for and takes the free space of the others from the free space map.
func measureTables(ctx context.Context, c *collector, q query) error {
	if c.reading.Tables == nil {
		return nil
	}
	items := slices.Clone(c.reading.Tables.Items)
	slices.SortStableFunc(items, func(a, b reading.Table) int { return cmp.Compare(b.Bytes(), a.Bytes()) })
	const sql = `
select s.table_len, s.dead_tuple_len::bigint as dead, s.approx_free_space::bigint as free,
       coalesce((select substring(o from '^fillfactor=(\d+)')::float8 from unnest(c.reloptions) o where o ~ '^fillfactor=\d+$'), 100)
         as fillfactor
from pg_class c cross join lateral @extension@.pgstattuple_approx(c.oid::regclass) s where c.oid = $1::oid`
	var each []query
	for _, t := range items[:min(measured, len(items))] {
		each = append(each, q.of(sqltext.ReadableTable(t.Schema, t.Name), sql, t.OID, func(rows pgx.Rows, r *reading.Reading) error {
			type row struct {
				TableLen, Dead, Free int64
				Fillfactor           float64
			}
			got, err := one[row](rows)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(r.Tables.Items, func(x reading.Table) bool { return x.OID == t.OID })
			// What fillfactor keeps free is meant to be.
			kept := int64(float64(got.TableLen) * (100 - got.Fillfactor) / 100)
			r.Tables.Items[i].Bloat = &reading.Bloat{Bytes: max(0, got.Dead+got.Free-kept), Method: reading.BloatByPgstattuple, Confidence: "high"}
			return nil
		}))
	}
	return c.askWithin(ctx, each)
}

// measureIndexes does the same for the largest B-trees: what their leaves lack
// to be as full as a build leaves them, and their empty and deleted pages.
func measureIndexes(ctx context.Context, c *collector, q query) error {
	if c.reading.Indexes == nil {
		return nil
	}
	const sql = `
select s.leaf_pages, s.empty_pages + s.deleted_pages as unused_pages, s.avg_leaf_density as density,
       current_setting('block_size')::bigint as block_size,
       coalesce((select substring(o from '^fillfactor=(\d+)')::float8 from unnest(c.reloptions) o where o ~ '^fillfactor=\d+$'), 90)
         as fillfactor
from pg_class c cross join lateral @extension@.pgstatindex(c.oid::regclass) s where c.oid = $1::oid`
	var each []query
	for _, x := range c.reading.Indexes.Largest {
		if x.Method != "btree" || !x.Valid || len(each) == measured {
			continue
		}
		each = append(each, q.of(sqltext.ReadableTable(x.Schema, x.Name), sql, x.OID, func(rows pgx.Rows, r *reading.Reading) error {
			type row struct {
				LeafPages, UnusedPages, BlockSize int64
				Density, Fillfactor               float64
			}
			got, err := one[row](rows)
			if err != nil {
				return err
			}
			bytes := got.UnusedPages * got.BlockSize
			// The density of an index without leaves is not a number.
			if got.LeafPages > 0 && got.Density < got.Fillfactor {
				bytes += int64(float64(got.LeafPages*got.BlockSize) * (1 - got.Density/got.Fillfactor))
			}
			for _, list := range [][]reading.Index{r.Indexes.Largest, r.Indexes.Unused} {
				for i := range list {
					if list[i].OID == x.OID {
						list[i].BloatBytes, list[i].BloatMethod, list[i].BloatConfidence = &bytes, reading.BloatByPgstattuple, "high"
					}
				}
			}
			return nil
		}))
	}
	return c.askWithin(ctx, each)
}

// of is a query of one object of those that a deep query is of.
func (q query) of(object, sql string, oid uint32, scan func(pgx.Rows, *reading.Reading) error) query {
	q.name += " (" + object + ")"
	q.sql, q.deep, q.scan, q.single = sql, nil, scan, true
	q.args = func(*reading.Reading, Options) []any { return []any{oid} }
	return q
}

// askWithin asks queries until the time for all of them is up. The rest is
// skipped. One that failed loses nothing but itself.
func (c *collector) askWithin(ctx context.Context, each []query) error {
	end := c.opts.Now().Add(measureBudget)
	for i, q := range each {
		if c.opts.Now().After(end) {
			q.name = words.Plural(len(each)-i, "more object") + ", from " + q.name
			c.skip(q, fmt.Sprintf("the %s for all of them were used up", words.Duration(measureBudget)))
			return nil
		}
		if err := c.ask(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
