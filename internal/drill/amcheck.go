package drill

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// amcheck has PostgreSQL's own checker read every B-tree, and hold every row of
// its table against it, and every heap with its TOAST. The system catalogue's
// are among them.
func (r *rehearsal) amcheck(ctx context.Context) error {
	if r.SkipAmcheck != "" {
		r.add("indexes", pgmedic.OutcomeSkipped, r.SkipAmcheck)
		r.add("heaps", pgmedic.OutcomeSkipped, r.SkipAmcheck)
		return nil
	}
	conn, err := r.amcheckSession(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	a := &amchecker{rehearsal: r}
	why, err := a.install(ctx, conn)
	if err != nil {
		return err
	}
	if why != "" {
		r.add("indexes", pgmedic.OutcomeSkipped, why)
		r.add("heaps", pgmedic.OutcomeSkipped, why)
		return nil
	}
	indexes, err := relations(ctx, conn, btreesSQL)
	if err != nil {
		return postgres.Wrap(err, "list the indexes")
	}
	if err := a.each(ctx, "indexes", indexes, a.index); err != nil {
		return err
	}
	if err := r.nameUnchecked(ctx, conn); err != nil {
		return err
	}
	r.receipt.Counted.Indexes = len(indexes)
	if !a.heaps {
		r.add("heaps", pgmedic.OutcomeSkipped, "amcheck reads heaps from PostgreSQL 14 on")
		return nil
	}
	heaps, err := relations(ctx, conn, heapsSQL)
	if err != nil {
		return postgres.Wrap(err, "list the tables")
	}
	r.receipt.Counted.Heaps = len(heaps)
	return a.each(ctx, "heaps", heaps, a.heap)
}

// nameUnchecked adds to the check of the indexes those that amcheck can't hold
// against their tables.
func (r *rehearsal) nameUnchecked(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `
SELECT pg_catalog.count(*) || ' ' || a.amname
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
WHERE a.amname <> 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' GROUP BY a.amname ORDER BY a.amname`)
	if err != nil {
		return postgres.Wrap(err, "list the indexes")
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return postgres.Wrap(err, "list the indexes")
	}
	if len(others) > 0 {
		r.receipt.Checks[len(r.receipt.Checks)-1].Detail += "; not checked, because amcheck can't: " + strings.Join(others, ", ")
	}
	return nil
}

// relation is an index or a table.
type relation struct {
	OID    uint32
	Schema string
	Name   string // quoted, with its schema
}

func relations(ctx context.Context, conn *pgx.Conn, sql string) ([]relation, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
}

// Largest first, so that several connections end together.
const (
	btreesSQL = `SELECT c.oid, n.nspname::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
	JOIN pg_catalog.pg_am AS a ON a.oid = c.relam JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid
ORDER BY c.relpages DESC, c.oid`
	heapsSQL = `SELECT c.oid, n.nspname::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.amname = 'heap' AND c.relkind IN ('r', 't', 'm') AND c.relpersistence <> 't'
ORDER BY c.relpages DESC, c.oid`
)

// amchecker calls the functions of the extension amcheck.
type amchecker struct {
	*rehearsal
	// schema is where they are, quoted.
	schema string
	// heaps is true where it can check them.
	heaps bool
}

// amcheckSession is one that may evaluate the expressions of indexes as they
// were when the indexes were built.
func (r *rehearsal) amcheckSession(ctx context.Context) (*pgx.Conn, error) {
	conn, err := postgres.ConnectComputing(ctx, r.place.copied())
	if err != nil {
		return nil, err
	}
	if err := postgres.AllowViews(ctx, conn); err != nil {
		postgres.Close(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// install makes the extension in a schema of its own, unless the copy has it. It
// returns why it can't be had.
func (a *amchecker) install(ctx context.Context, conn *pgx.Conn) (why string, err error) {
	const find = `SELECT (SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension AS e
		JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'),
	EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck')`
	var schema *string
	var available bool
	if err := conn.QueryRow(ctx, find).Scan(&schema, &available); err != nil {
		return "", postgres.Wrap(err, "look for amcheck")
	}
	switch {
	case !a.place.superuser:
		return "amcheck takes a superuser", nil
	case schema != nil:
		a.schema = *schema
	case !available:
		return "the extension amcheck is not installed on the scratch server's host (it is part of PostgreSQL's contrib)", nil
	default:
		a.schema = sqltext.QuoteIdent("pgmedic_amcheck_" + strings.ToLower(rand.Text()[:8]))
		err := postgres.WithoutEventTriggers(ctx, conn, func() error {
			for _, sql := range []string{"CREATE SCHEMA " + a.schema, "CREATE EXTENSION amcheck SCHEMA " + a.schema} {
				if _, err := conn.Exec(ctx, sql); err != nil {
					return postgres.Wrap(err, "make the extension amcheck")
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'verify_heapam' AND pronamespace = $1::text::regnamespace)",
		a.schema).Scan(&a.heaps)
	return "", postgres.Wrap(err, "look for amcheck's functions")
}

// each looks at all relations over several connections, and adds one check.
func (a *amchecker) each(ctx context.Context, name string, all []relation, look func(context.Context, *pgx.Conn, relation) (found, error)) error {
	queue := make(chan relation, len(all))
	for _, rel := range all {
		queue <- rel
	}
	close(queue)
	var mu sync.Mutex
	var bad, unknown []string
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(a.jobs(), max(len(all), 1)) {
		group.Go(func() error {
			conn, err := a.amcheckSession(groupCtx)
			if err != nil {
				return err
			}
			defer postgres.Close(groupCtx, conn)
			for rel := range queue {
				f, err := look(groupCtx, conn, rel)
				if err != nil {
					return err
				}
				mu.Lock()
				switch {
				case f.damage != "":
					bad = append(bad, f.damage)
				case f.unknown != "":
					unknown = append(unknown, f.unknown)
				}
				a.report(pgmedic.Event{Step: "amcheck", Object: rel.Name})
				mu.Unlock()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	switch {
	case len(bad) > 0:
		a.add(name, pgmedic.OutcomeFailed, few(bad))
		return nil
	case len(unknown) > 0:
		a.add(name, pgmedic.OutcomeWarn, "could not be checked: "+few(unknown))
		return nil
	}
	words := map[string]string{
		"indexes": "%s B-trees are sound, and hold every row of their tables",
		"heaps":   "%s tables and their TOAST are sound",
	}
	a.add(name, pgmedic.OutcomeOK, fmt.Sprintf(words[name], pgmedic.Count(len(all))))
	return nil
}

// found is what a check of one relation found: damage, or why nothing is known.
type found struct{ damage, unknown string }

// index looks at one B-tree. The arguments have the very types that the function
// is declared with: the schema may be one in which others make functions, and an
// exact match is always taken. What the expressions of an index call may change
// the session's search path, so nothing else in the statement is a bare name.
func (a *amchecker) index(ctx context.Context, conn *pgx.Conn, rel relation) (found, error) {
	sql := "SELECT " + a.schema + ".bt_index_check($1::pg_catalog.oid::pg_catalog.regclass, true)"
	_, err := conn.Exec(ctx, sql, rel.OID)
	if err != nil && a.refusedFor(postgres.Code(err)) && !strings.HasPrefix(postgres.Code(err), "XX") {
		// As the index was made, where it could be made only with a search path.
		if err := restore.SearchAsApplication(ctx, conn, rel.Schema); err != nil {
			return found{}, err
		}
		_, err = conn.Exec(ctx, sql, rel.OID)
		if pathErr := restore.SearchNothing(ctx, conn); pathErr != nil && err == nil {
			return found{}, pathErr
		}
	}
	return a.verdict(err, "index", rel)
}

// heap looks at one table. Messages name blocks and lengths, never values.
func (a *amchecker) heap(ctx context.Context, conn *pgx.Conn, rel relation) (found, error) {
	var n int
	var first *string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.count(*), pg_catalog.min(pg_catalog.format('block %s: %s', h.blkno, h.msg)) FROM "+a.schema+
		".verify_heapam($1::pg_catalog.oid::pg_catalog.regclass, true, true, 'none'::pg_catalog.text, NULL::pg_catalog.int8, NULL::pg_catalog.int8) AS h", rel.OID).Scan(&n, &first)
	if err != nil || n == 0 {
		return a.verdict(err, "table", rel)
	}
	return found{damage: fmt.Sprintf("table %s: %s problems, such as %s", rel.Name, pgmedic.Count(n), *first)}, nil
}

// verdict tells damage from what an index's own expression says when it is asked
// again, and both from a check that could not be made.
func (a *amchecker) verdict(err error, what string, rel relation) (found, error) {
	if err == nil {
		return found{}, nil
	}
	wrapped := postgres.Wrap(err, "check "+what+" "+rel.Name)
	switch code := postgres.Code(err); {
	case strings.HasPrefix(code, "XX"):
		return found{damage: wrapped.Error()}, nil
	case a.refusedFor(code):
		return found{unknown: wrapped.Error()}, nil
	}
	return found{}, wrapped
}
