package maintain

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// leftover is an index that a REINDEX CONCURRENTLY of this run left.
type leftover struct {
	step         *Step
	oid          int64
	schema, name string
}

// transient ends the names of the indexes that REINDEX CONCURRENTLY works with: see
// "Rebuilding Indexes Concurrently" in PostgreSQL's manual.
var transient = regexp.MustCompile(`_cc(new|old)[0-9]*$`)

// transientOf reports whether the name is that of a copy that REINDEX CONCURRENTLY made
// of an index. PostgreSQL cuts the index's name where the whole would be longer than a
// name can be.
func transientOf(name, index string) bool {
	at := transient.FindStringIndex(name)
	return at != nil && at[0] > 0 && strings.HasPrefix(index, name[:at[0]])
}

// reindex rebuilds an index, if nothing speaks against it now.
func (r *runner) reindex(ctx context.Context, step *Step) (skipped string, err error) {
	why, err := r.refuseReindex(ctx, step.relation)
	if postgres.Code(err) == "55P03" {
		return "another session holds a lock on it", nil
	}
	if why != "" || err != nil {
		return why, err
	}
	before, err := r.siblings(ctx, step)
	if err != nil {
		return "", err
	}
	err = r.exec(ctx, step, r.watchReindex(step))
	if err == nil {
		return "", nil
	}
	r.dropLeftovers(ctx, step, before)
	switch {
	case postgres.Code(err) == "55P03" && step.Detail == "":
		return "another session held a lock on its table for longer than " + lockTimeout + "; nothing is left of the attempt", nil
	case postgres.Code(err) == "42P01" || postgres.Code(err) == "42704":
		return gone, nil
	}
	return "", err
}

// sibling is an index of the same table.
type sibling struct {
	OID          int64
	Schema, Name string
	Valid        bool
	Building     bool
}

// siblings are the indexes of the table that an index is of.
func (r *runner) siblings(ctx context.Context, step *Step) ([]sibling, error) {
	all, err := postgres.Collect[sibling](ctx, r.conn, `
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, i.indisvalid AS valid,
	EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid AND p.pid <> pg_catalog.pg_backend_pid()) AS building
FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.indrelid = (SELECT x.indrelid FROM pg_catalog.pg_index AS x WHERE x.indexrelid = $1::oid)`, int64(step.relation.OID))
	return all, postgres.Wrap(err, "read the indexes of the table")
}

// dropLeftovers drops what the REINDEX of a step left: an invalid index by the name of a
// transient copy, of the same table, which was not there before. Whatever else is invalid
// is somebody else's.
func (r *runner) dropLeftovers(ctx context.Context, step *Step, before []sibling) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftoverPatience)
	defer cancel()
	if err := r.reconnect(ctx); err != nil {
		step.Detail = "whether it left an invalid index is not known: look for " + sqltext.Readable(step.relation.Name) + "_ccnew, and drop it with DROP INDEX CONCURRENTLY"
		return
	}
	after, err := r.siblings(ctx, step)
	if err != nil {
		step.Detail = "whether it left an invalid index is not known: " + err.Error()
		return
	}
	for _, x := range after {
		mine := !x.Valid && !x.Building && transientOf(x.Name, step.relation.Name) &&
			!slices.ContainsFunc(before, func(b sibling) bool { return b.OID == x.OID })
		if !mine {
			continue
		}
		if l := (leftover{step: step, oid: x.OID, schema: x.Schema, name: x.Name}); r.drop(ctx, l) != nil {
			r.left = append(r.left, l)
			step.Detail = strings.Join(append(step.details(), l.told()), "; ")
		}
	}
}

// reconnect opens the session again where the statement that was cancelled took it along.
func (r *runner) reconnect(ctx context.Context) error {
	if !r.conn.IsClosed() {
		return nil
	}
	r.session.Close(ctx)
	if err := r.session.connect(ctx); err != nil {
		r.gone = err
		return err
	}
	r.conn = r.session.conn
	err := r.session.lock(ctx)
	if err != nil {
		r.gone = err
	}
	return err
}

// dropSQL drops a leftover.
func (l leftover) dropSQL() string {
	return "DROP INDEX CONCURRENTLY IF EXISTS " + sqltext.QuoteQualified(l.schema, l.name)
}

// drop drops a leftover without holding anybody up.
func (r *runner) drop(ctx context.Context, l leftover) error {
	same, err := r.same(ctx, Relation{OID: uint32(l.oid), Schema: l.schema, Name: l.name})
	if err != nil || !same {
		return err
	}
	err = postgres.ExecSimple(ctx, r.conn, l.dropSQL())
	if err == nil {
		r.o.Logger.Info("dropped an invalid index that the interrupted REINDEX left", "index", sqltext.ReadableTable(l.schema, l.name))
	}
	return postgres.Wrap(err, "drop an invalid index")
}

// retryLeftovers tries once more, at the end of a run, to drop what is left.
func (r *runner) retryLeftovers(ctx context.Context) {
	if len(r.left) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leftoverPatience)
	defer cancel()
	for _, l := range r.left {
		if r.reconnect(ctx) == nil && r.drop(ctx, l) == nil {
			l.step.Detail = strings.Replace(l.step.Detail, l.told(), "the invalid index that it left was dropped at the end of the run", 1)
		}
	}
}

// told says what is left.
func (l leftover) told() string {
	return "an invalid index is left: " + sqltext.Printable(l.dropSQL()) + ";"
}
