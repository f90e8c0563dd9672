package amcheck

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The bounds of the tables that are counted in two ways are our choice: each is read twice.
const (
	maxPairs     = 100
	maxPairBytes = 1 << 30
)

// SkippedVisibility is the result where no visibility map was checked.
func SkippedVisibility(why string) Result {
	var r Result
	r.skip(checkVisibility, why)
	r.skip(checkIndexOnly, why)
	return r
}

// Visibility holds the visibility maps against the rows, by the extension pg_visibility, which
// it makes in a schema of its own. A bit that is set and should not be, as a copy of files can
// have that was put together wrongly, makes an index-only scan return rows that were deleted.
func (c *Checker) Visibility(ctx context.Context) (r Result, err error) {
	conn, err := c.Session(ctx)
	if err != nil {
		return r, err
	}
	defer postgres.Close(ctx, conn)
	made, why, err := c.extension(ctx, conn, "pg_visibility")
	if err != nil {
		return r, err
	}
	q := &queue{Checker: c, schema: made.schema}
	if why != "" {
		r.skip(checkVisibility, "not checked: "+why)
	} else {
		heaps, err := relations(ctx, conn, heapsSQL)
		if err != nil {
			return r, postgres.Wrap(err, "list the tables")
		}
		check, err := q.each(ctx, checkVisibility, heaps, q.visible)
		if err != nil {
			return r, err
		}
		r.Checks = append(r.Checks, check)
	}
	check, err := q.indexOnly(ctx, conn)
	if err == nil {
		r.Checks = append(r.Checks, check)
	}
	return r, err
}

// visible checks the visibility map of one table.
func (q *queue) visible(ctx context.Context, conn *pgx.Conn, rel relation) (found, error) {
	count := func(function string) string {
		return "(SELECT pg_catalog.count(*) FROM " + q.schema + "." + function + "($1::pg_catalog.oid::pg_catalog.regclass))"
	}
	var hidden, thawed int64
	err := conn.QueryRow(ctx, "SELECT "+count("pg_check_visible")+", "+count("pg_check_frozen"), rel.OID).Scan(&hidden, &thawed)
	if err != nil || hidden+thawed == 0 {
		return q.verdict(err, "the visibility map of table", rel)
	}
	return found{damage: fmt.Sprintf("table %s: the map calls %s visible to all and %s frozen that are not", rel.Name, words.Plural(hidden, "row"), pgmedic.Count(thawed))}, nil
}

// pairsSQL lists the tables with a primary key, the largest first.
const pairsSQL = `SELECT c.oid, n.nspname::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_am AS a ON a.oid = c.relam JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.amname = 'heap' AND c.relkind = 'r' AND c.relpersistence <> 't'
	AND EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid)
	AND pg_catalog.pg_relation_size(c.oid) <= %d
ORDER BY c.relpages DESC, c.oid`

// indexOnly counts the rows of tables with a primary key in two ways.
func (q *queue) indexOnly(ctx context.Context, conn *pgx.Conn) (check pgmedic.Check, err error) {
	all, err := relations(ctx, conn, fmt.Sprintf(pairsSQL, int64(1<<62)))
	if err != nil {
		return check, postgres.Wrap(err, "list the tables with a primary key")
	}
	some, err := relations(ctx, conn, fmt.Sprintf(pairsSQL, maxPairBytes))
	if err != nil {
		return check, postgres.Wrap(err, "list the tables with a primary key")
	}
	some = some[:min(len(some), maxPairs)]
	check, err = q.each(ctx, checkIndexOnly, some, q.pair)
	if left := len(all) - len(some); err == nil && left > 0 {
		check.Detail += fmt.Sprintf("; %s others were not compared: at most %d are, of up to 1 GiB each", pgmedic.Count(left), maxPairs)
	}
	return check, err
}

// pair counts the rows of one table in two ways.
func (q *queue) pair(ctx context.Context, conn *pgx.Conn, rel relation) (f found, err error) {
	sql := "SELECT pg_catalog.count(*) FROM ONLY " + rel.Name
	var counts [2]int64
	for i, set := range []string{
		"SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0",
		// Without index scans, index-only ones are dear, too (cost_index in costsize.c).
		"SET enable_seqscan = off; SET enable_indexscan = on; SET enable_indexonlyscan = on",
	} {
		if _, err := conn.Exec(ctx, set); err != nil {
			return f, postgres.Wrap(err, "choose how a table is read")
		}
		rows, err := conn.Query(ctx, "EXPLAIN (COSTS off) "+sql)
		if err != nil {
			return q.verdict(err, "table", rel)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return q.verdict(err, "table", rel)
		}
		if want := []string{"->  Seq Scan", "->  Index Only Scan"}[i]; len(plan) < 2 || !strings.HasPrefix(strings.TrimSpace(plan[1]), want) {
			return found{unknown: "table " + rel.Name + " is not read in this way here: " + strings.TrimPrefix(want, "->  ")}, nil
		}
		if err := conn.QueryRow(ctx, sql).Scan(&counts[i]); err != nil {
			return q.verdict(err, "table", rel)
		}
	}
	if counts[0] != counts[1] {
		f.damage = fmt.Sprintf("table %s: %s by a sequential scan, and %s by an index-only scan", rel.Name, words.Plural(counts[0], "row"), pgmedic.Count(counts[1]))
	}
	return f, nil
}
