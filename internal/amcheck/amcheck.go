// Package amcheck has PostgreSQL's own extensions read the indexes and the tables of a
// database that was copied or recovered.
package amcheck

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// The names of the checks.
const (
	checkIndexes    = "indexes"
	checkHeaps      = "heaps"
	checkVisibility = "visibility"
	checkIndexOnly  = "index-only scans"
)

// Options say which database is checked. Required: Target, Refused.
type Options struct {
	Target postgres.Target
	// Jobs is how many connections check; zero means one for each processor.
	Jobs int
	// Superuser is true where the target's role is one. Nothing is checked for others.
	Superuser bool
	// Host is what is called the host on which an extension is missing; empty means the
	// server's.
	Host string
	// Refused reports whether an error with this SQLSTATE says something about the content
	// of the database: what raised it is then named as not checked. Any other error ends
	// the check, but for damage (class XX).
	Refused func(code string) bool
	// SortsOtherwise is true where indexes on text may be sorted by another version of
	// the collations than this server has. What may come from that is not called damage.
	SortsOtherwise bool
	Progress       func(pgmedic.Event)
}

// Checker checks a database. The zero value is of no use: New makes one.
type Checker struct{ o Options }

// New returns a Checker. It connects to nothing.
func New(o Options) *Checker {
	if o.Host == "" {
		o.Host = "the server's host"
	}
	return &Checker{o}
}

// Result is what was checked. An index that amcheck can't read is named in its check.
type Result struct {
	Checks []pgmedic.Check
	// Indexes and Heaps are how many were read.
	Indexes, Heaps int
}

func (r *Result) skip(name, why string) {
	r.Checks = append(r.Checks, pgmedic.Check{Name: name, Outcome: pgmedic.OutcomeSkipped, Detail: why})
}

// Skipped is the result where nothing was checked.
func Skipped(why string) Result {
	var r Result
	r.skip(checkIndexes, why)
	r.skip(checkHeaps, why)
	return r
}

// Check has the extension amcheck read every B-tree and compare it with every row of its
// table, and read every heap with its TOAST, those of the system catalogue included. It
// makes the extension in a schema of its own, unless the database has it; with remove,
// both are dropped at the end, and where they can't be, the result says so. An error means
// that the rest could not be checked, after what the result has.
func (c *Checker) Check(ctx context.Context, remove bool) (r Result, err error) {
	conn, err := c.Session(ctx)
	if err != nil {
		return r, err
	}
	defer postgres.Close(ctx, conn)
	made, why, err := c.extension(ctx, conn, "amcheck")
	if err != nil {
		return r, err
	}
	if why != "" {
		return Skipped(why), nil
	}
	err = c.read(ctx, conn, made.schema, &r)
	if remove {
		c.remove(ctx, conn, made, &r)
	}
	return r, err
}

// remove drops what was made, in a new session where the server has ended the one that was
// idle meanwhile. What stays is said in the result.
func (c *Checker) remove(ctx context.Context, conn *pgx.Conn, made extension, r *Result) {
	err := made.drop(ctx, conn)
	if err != nil && conn.IsClosed() {
		var again *pgx.Conn
		if again, err = c.Session(ctx); err == nil {
			defer postgres.Close(ctx, again)
			err = made.drop(ctx, again)
		}
	}
	if err != nil {
		r.Checks = append(r.Checks, pgmedic.Check{Name: "amcheck", Outcome: pgmedic.OutcomeWarn,
			Detail: "the extension amcheck and the schema " + made.schema + ", which were made for the checks, are still there: " + words.OneLine(err.Error())})
	}
}

// Failed adds to a result what an error kept from being checked.
func (r *Result) Failed(err error) {
	for _, name := range []string{checkIndexes, checkHeaps} {
		if !slices.ContainsFunc(r.Checks, func(c pgmedic.Check) bool { return c.Name == name }) {
			r.Checks = append(r.Checks, pgmedic.Check{Name: name, Outcome: pgmedic.OutcomeWarn, Detail: "could not be checked: " + words.OneLine(err.Error())})
		}
	}
}

// read checks with an extension that is there.
func (c *Checker) read(ctx context.Context, conn *pgx.Conn, schema string, r *Result) error {
	q := &queue{Checker: c, schema: schema}
	var heaps bool
	err := conn.QueryRow(ctx, functionsSQL, schema).Scan(&heaps, &q.unique)
	if err != nil {
		return postgres.Wrap(err, "look for amcheck's functions")
	}
	indexes, err := relations(ctx, conn, btreesSQL)
	if err != nil {
		return postgres.Wrap(err, "list the indexes")
	}
	check, err := q.each(ctx, checkIndexes, indexes, q.index)
	if err != nil {
		return err
	}
	if q.unique && check.Outcome == pgmedic.OutcomeOK {
		check.Detail += "; those that are unique have no key twice"
	}
	others, err := unchecked(ctx, conn)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		check.Detail += "; not checked, because amcheck can't: " + strings.Join(others, ", ")
	}
	r.Checks, r.Indexes = append(r.Checks, check), len(indexes)
	if !heaps {
		r.skip(checkHeaps, "amcheck reads heaps from PostgreSQL 14 on")
		return nil
	}
	tables, err := relations(ctx, conn, heapsSQL)
	if err != nil {
		return postgres.Wrap(err, "list the tables")
	}
	check, err = q.each(ctx, checkHeaps, tables, q.heap)
	if err != nil {
		return err
	}
	r.Checks, r.Heaps = append(r.Checks, check), len(tables)
	return nil
}

// unchecked counts the indexes that amcheck can't compare with their tables, by kind.
func unchecked(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `
SELECT pg_catalog.count(*) || ' ' || a.amname
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
WHERE a.amname <> 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' GROUP BY a.amname ORDER BY a.amname`)
	if err != nil {
		return nil, postgres.Wrap(err, "list the indexes")
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return others, postgres.Wrap(err, "list the indexes")
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

const (
	functionsSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'verify_heapam' AND pronamespace = $1::text::regnamespace),
	EXISTS (SELECT FROM pg_catalog.pg_proc WHERE proname = 'bt_index_check' AND pronamespace = $1::text::regnamespace
		AND pronargs = 3 AND proargtypes[0] = 'pg_catalog.regclass'::regtype AND proargtypes[1] = 'pg_catalog.bool'::regtype AND proargtypes[2] = 'pg_catalog.bool'::regtype)`
	// Largest first, so that several connections end together.
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

// Session connects to the database, so that expressions of indexes are evaluated as they
// were when the indexes were built. The caller closes it.
func (c *Checker) Session(ctx context.Context) (*pgx.Conn, error) {
	conn, err := postgres.ConnectComputing(ctx, c.o.Target)
	if err != nil {
		return nil, err
	}
	if err := postgres.AllowViews(ctx, conn); err != nil {
		postgres.Close(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// extension is one of PostgreSQL's contrib.
type extension struct {
	name string
	// schema is where its functions are, quoted.
	schema string
	// ours is true where the extension and the schema were made for the check.
	ours bool
}

// extension makes an extension in a schema of its own, unless the database has it. It
// returns why the extension can't be had.
func (c *Checker) extension(ctx context.Context, conn *pgx.Conn, name string) (e extension, why string, err error) {
	const find = `SELECT (SELECT quote_ident(n.nspname) FROM pg_catalog.pg_extension AS e
		JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = $1),
	EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = $1)`
	var there *string
	var available bool
	if err := conn.QueryRow(ctx, find, name).Scan(&there, &available); err != nil {
		return e, "", postgres.Wrap(err, "look for "+name)
	}
	e.name = name
	switch {
	case !c.o.Superuser:
		return e, name + " needs a superuser", nil
	case there != nil:
		e.schema = *there
		return e, "", nil
	case !available:
		return e, "the extension " + name + " is not installed on " + c.o.Host + " (it is part of PostgreSQL's contrib)", nil
	}
	e.schema, e.ours = sqltext.QuoteIdent("pgmedic_"+name+"_"+strings.ToLower(rand.Text()[:8])), true
	return e, "", postgres.WithoutEventTriggers(ctx, conn, func() error {
		// One message, so that both are there or neither.
		err := postgres.ExecSimple(ctx, conn, "CREATE SCHEMA "+e.schema+"; CREATE EXTENSION "+name+" SCHEMA "+e.schema)
		return postgres.Wrap(err, "make the extension "+name)
	})
}

// drop drops what was made for the check.
func (e extension) drop(ctx context.Context, conn *pgx.Conn) error {
	if !e.ours {
		return nil
	}
	return postgres.WithoutEventTriggers(ctx, conn, func() error {
		err := postgres.ExecSimple(ctx, conn, "DROP EXTENSION "+e.name+"; DROP SCHEMA "+e.schema)
		return postgres.Wrap(err, "drop them")
	})
}

// queue checks relations by the functions of an extension.
type queue struct {
	*Checker
	// schema is where they are, quoted.
	schema string
	// unique is true where amcheck finds keys that a unique index has twice: from PostgreSQL
	// 17 on, unless the database has an earlier version of the extension.
	unique bool
}

// each checks all relations over several connections, and makes one check of it.
func (q *queue) each(ctx context.Context, name string, all []relation, look func(context.Context, *pgx.Conn, relation) (found, error)) (check pgmedic.Check, err error) {
	waiting := make(chan relation, len(all))
	for _, rel := range all {
		waiting <- rel
	}
	close(waiting)
	var mu sync.Mutex
	var bad, unknown, structure []string
	err = postgres.Workers(ctx, min(postgres.Jobs(q.o.Jobs), max(len(all), 1)), q.Session, func(ctx context.Context, conn *pgx.Conn) error {
		for rel := range waiting {
			f, err := look(ctx, conn, rel)
			if err != nil {
				return err
			}
			mu.Lock()
			switch {
			case f.damage != "":
				bad = append(bad, f.damage)
			case f.unknown != "":
				unknown = append(unknown, f.unknown)
			case f.structure != "":
				structure = append(structure, f.structure)
			}
			if q.o.Progress != nil {
				q.o.Progress(pgmedic.Event{Step: "amcheck", Object: rel.Name})
			}
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return check, err
	}
	check.Name = name
	var parts []string
	check.Outcome = pgmedic.OutcomeWarn
	if len(bad) > 0 {
		parts, check.Outcome = append(parts, words.FirstFew(bad)), pgmedic.OutcomeFailed
	}
	if len(unknown) > 0 {
		parts = append(parts, "could not be checked: "+words.FirstFew(unknown))
	}
	if len(structure) > 0 {
		parts = append(parts, "checked in their structure alone, which is sound, and not for the rows of their tables: "+words.FirstFew(structure))
	}
	if check.Detail = strings.Join(parts, "; "); len(parts) > 0 {
		return check, nil
	}
	sound := map[string]string{
		checkIndexes:    "%s B-trees are sound, and hold every row of their tables",
		checkHeaps:      "%s tables and their TOAST are sound",
		checkVisibility: "of %s tables and their TOAST, all rows that the visibility map calls visible or frozen are",
		checkIndexOnly:  "of %s tables with a primary key, an index-only scan and a sequential one find the same number of rows",
	}
	check.Outcome, check.Detail = pgmedic.OutcomeOK, fmt.Sprintf(sound[name], pgmedic.Count(len(all)))
	return check, nil
}

// found is what a check of one relation found: damage, why the relation could not be checked,
// or why the rows of its table were not looked up in it, while its structure is sound.
type found struct{ damage, unknown, structure string }

// index checks one B-tree: its structure and that it has the rows of its table, or its
// structure alone where its expression can't be evaluated again.
func (q *queue) index(ctx context.Context, conn *pgx.Conn, rel relation) (found, error) {
	said, err := q.btree(ctx, conn, rel, true)
	if err != nil {
		return found{}, err
	}
	f, err := q.verdict(said, "index", rel)
	if why, ok := withoutRows(postgres.Code(said)); ok && f.unknown != "" {
		alone, otherErr := q.btree(ctx, conn, rel, false)
		if otherErr != nil {
			return found{}, otherErr
		}
		if f, err = q.verdict(alone, "index", rel); alone == nil {
			f.structure = fmt.Sprintf("index %s: %s (SQLSTATE %s)", rel.Name, why, postgres.Code(said))
		}
	}
	if err != nil || f.damage == "" || !q.o.SortsOtherwise {
		return f, err
	}
	// Only what does not depend on how text is sorted is known to be damage.
	var sorted bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.unnest(i.indcollation) AS c (oid) WHERE c.oid NOT IN (0, 950, 951)) FROM pg_catalog.pg_index AS i WHERE i.indexrelid = $1", rel.OID).Scan(&sorted)
	if err != nil {
		return f, postgres.Wrap(err, "read the collations of index "+rel.Name)
	}
	if sorted {
		return found{unknown: f.damage + ", and this host sorts text by another version than the source"}, nil
	}
	return f, nil
}

// btree has amcheck check an index, with rows also that each row of the table is in it, and
// returns what amcheck said. That a unique one has no key twice is part of its structure. The
// arguments have the very types that the function is declared with: the schema may be one in
// which others make functions, and an exact match is always taken. What the expressions of an
// index call may change the session's search path, so nothing else in the statement is a bare
// name.
func (q *queue) btree(ctx context.Context, conn *pgx.Conn, rel relation, rows bool) (said, err error) {
	unique := ""
	if q.unique {
		unique = ", true"
	}
	sql := fmt.Sprintf("SELECT %s.bt_index_check($1::pg_catalog.oid::pg_catalog.regclass, %t%s)", q.schema, rows, unique)
	_, said = conn.Exec(ctx, sql, rel.OID)
	if said == nil || !q.o.Refused(postgres.Code(said)) || strings.HasPrefix(postgres.Code(said), "XX") {
		return said, nil
	}
	// As the index was made, where it could be made only with a search path.
	if err := postgres.SearchAsApplication(ctx, conn, rel.Schema); err != nil {
		return nil, err
	}
	_, said = conn.Exec(ctx, sql, rel.OID)
	if err := postgres.SearchNothing(ctx, conn); err != nil && said == nil {
		return nil, err
	}
	return said, nil
}

// withoutRows says by the SQLSTATE with which amcheck gave up why the rows of a table could not
// be looked up in an index, and whether the index's structure may be checked all the same: not
// where that found damage, nor where it failed for what has nothing to do with the index, such
// as a lost connection, a lock or a full disk (classes 08 and 53 to 58).
func withoutRows(code string) (why string, ok bool) {
	switch code {
	case "42883", "42P01", "42704", "3F000": // no such function or operator, table, type, schema
		return "its expression names something that is not found: since 17, and since 15.20 and the releases of that date, amcheck evaluates it without a search path", true
	}
	if len(code) != 5 || slices.Contains([]string{"XX", "08", "53", "54", "55", "57", "58"}, code[:2]) {
		return "", false
	}
	return "its expression fails when it is evaluated again", true
}

// heap checks one table. Messages name blocks and lengths, never values.
func (q *queue) heap(ctx context.Context, conn *pgx.Conn, rel relation) (found, error) {
	var n int
	var first *string
	err := conn.QueryRow(ctx, "SELECT pg_catalog.count(*), pg_catalog.min(pg_catalog.format('block %s: %s', h.blkno, h.msg)) FROM "+q.schema+
		".verify_heapam($1::pg_catalog.oid::pg_catalog.regclass, true, true, 'none'::pg_catalog.text, NULL::pg_catalog.int8, NULL::pg_catalog.int8) AS h", rel.OID).Scan(&n, &first)
	if err != nil || n == 0 {
		return q.verdict(err, "table", rel)
	}
	return found{damage: fmt.Sprintf("table %s: %s problems, such as %s", rel.Name, pgmedic.Count(n), *first)}, nil
}

// verdict tells damage from an error of an index's own expression when it is evaluated
// again, and both from a check that could not be made.
func (q *queue) verdict(err error, what string, rel relation) (found, error) {
	if err == nil {
		return found{}, nil
	}
	wrapped := postgres.Wrap(err, "check "+what+" "+rel.Name)
	switch code := postgres.Code(err); {
	case strings.HasPrefix(code, "XX"):
		return found{damage: wrapped.Error()}, nil
	case q.o.Refused(code):
		return found{unknown: wrapped.Error()}, nil
	}
	return found{}, wrapped
}
