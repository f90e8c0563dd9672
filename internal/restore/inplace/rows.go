package inplace

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// begin begins a transaction that waits for locks no longer than LockTimeout.
func (w *work) begin(ctx context.Context) error {
	// Each statement must see what was committed before it got its locks, whatever the
	// database's default is.
	sql := fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; %sSET LOCAL lock_timeout = %d; SET LOCAL synchronous_commit = local; SET LOCAL check_function_bodies = off", w.quiet, w.LockTimeout.Milliseconds())
	w.firing = "replica"
	return postgres.Wrap(postgres.ExecSimple(ctx, w.conn, sql), "begin the transaction")
}

func (w *work) rollback(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = postgres.ExecSimple(ctx, w.conn, "ROLLBACK") // a broken session has rolled back
}

// transaction puts everything back, or nothing: tables that are gone with their rows,
// then rows of living tables, then what locks living tables, so that it does so for the
// shortest time.
func (w *work) transaction(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	err := w.everything(ctx)
	if err == nil && w.more() {
		err = errMore
	}
	if err != nil {
		w.rollback(ctx)
		return err
	}
	// Not interrupted, so that it is known whether it was committed.
	if err := postgres.ExecSimple(context.WithoutCancel(ctx), w.conn, "COMMIT"); err != nil {
		if postgres.Code(err) == "" {
			w.uncertain = true
			return pgmedic.Errorf(pgmedic.KindUnreachable, "compare the tables before you run the command again",
				"the connection was lost during COMMIT, and whether the tables are put back is not known: %w", err)
		}
		return postgres.Wrap(err, "commit")
	}
	return nil
}

// more reports whether more was refused than was confirmed, or rows were removed or
// overwritten of a table that had none to lose.
func (w *work) more() bool {
	return w.plan.LosesMore(w.agreed) || slices.ContainsFunc(w.plan.LeftOut, func(l LeftOut) bool { return !slices.Contains(w.accepted, l) })
}

func (w *work) everything(ctx context.Context) error {
	var r *remaking
	if w.absent {
		r = newRemaking(w)
		if err := r.early(ctx); err != nil {
			return err
		}
		if err := postgres.ExecSimple(ctx, w.conn, "SET LOCAL standard_conforming_strings = on"); err != nil {
			return postgres.Wrap(err, "set up the session")
		}
		if err := r.proveMade(ctx); err != nil {
			return err
		}
	}
	if err := w.role(ctx, "origin"); err != nil { // foreign keys are checked
		return err
	}
	if err := (&replacing{w}).living(ctx); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	if err := w.role(ctx, "replica"); err != nil {
		return err
	}
	if err := r.last(ctx); err != nil {
		return err
	}
	w.plan.Made = r.names
	w.plan.LeftOut = append(w.plan.LeftOut, r.left...)
	return nil
}

// role says whether event triggers and foreign keys are to fire, where the session may say
// that.
func (w *work) role(ctx context.Context, role string) error {
	if w.quiet == "" {
		return nil
	}
	w.firing = role
	return postgres.Wrap(postgres.ExecSimple(ctx, w.conn, "SET LOCAL session_replication_role = "+role), "set up the session")
}

// replacing changes rows of the tables that are there, inside a transaction.
type replacing struct{ *work }

// living changes the rows of the tables that are there.
func (w *replacing) living(ctx context.Context) error {
	tables, err := w.ordered(ctx)
	if err != nil {
		return err
	}
	triggers := make([][]trigger, len(tables))
	for i, t := range tables {
		if err := w.lock(ctx, t); err != nil {
			return err
		}
		err := w.as(ctx, t, func() (err error) { t.comparison, err = w.compare(ctx, t); return err })
		if err != nil {
			return err
		}
		if triggers[i], err = w.disable(ctx, t); err != nil {
			return err
		}
	}
	after, err := w.removeFirst(ctx, tables)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := w.as(ctx, t, func() error { return w.insert(ctx, t, t.comparison) }); err != nil {
			return err
		}
	}
	if err := w.removeLast(ctx, after); err != nil {
		return err
	}
	// Deferred checks are made now: a table with one that is pending can't be altered.
	if err := postgres.ExecSimple(ctx, w.conn, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return postgres.Wrap(err, "check the foreign keys")
	}
	for i, t := range tables {
		if t.plan.Action == ActionReplace {
			if err := w.as(ctx, t, func() error { return w.prove(ctx, t, t.comparison) }); err != nil {
				return err
			}
		}
		if err := w.enable(ctx, t, triggers[i]); err != nil {
			return err
		}
		if err := w.moveSequences(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// lock locks a table, so that what is compared stays until the commit.
func (w *replacing) lock(ctx context.Context, t *table) error {
	mode := "ROW EXCLUSIVE"
	if t.plan.Action == ActionReplace {
		// Others read, and write when it is done. A weaker lock would let others refer to rows
		// that are about to be removed: a foreign key that cascades would take theirs along.
		mode = "EXCLUSIVE"
	}
	if _, err := w.conn.Exec(ctx, "LOCK TABLE "+t.String()+" IN "+mode+" MODE"); err != nil {
		return postgres.Wrap(err, "lock "+t.String())
	}
	// The triggers, and the keys that refer to it, are those of the table that was found.
	var same bool
	if err := w.conn.QueryRow(ctx, "SELECT coalesce(pg_catalog.to_regclass($1)::pg_catalog.oid = $2, false)", t.String(), t.oid).Scan(&same); err != nil {
		return postgres.Wrap(err, "look for table "+t.String())
	}
	if !same {
		return pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "table %s was dropped and made again meanwhile", t)
	}
	return nil
}

// ordered are the tables that are there: one to which another refers comes before it, as
// far as they don't refer to each other in a circle.
func (w *replacing) ordered(ctx context.Context) (out []*table, err error) {
	type reference struct{ From, To uint32 }
	references, err := postgres.Collect[reference](ctx, w.conn, `SELECT conrelid AS "from", confrelid AS "to" FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid <> confrelid`)
	if err != nil {
		return nil, postgres.Wrap(err, "read the foreign keys")
	}
	var rest []*table
	for _, t := range w.tables {
		if t.plan.Action != ActionMake {
			rest = append(rest, t)
		}
	}
	for len(rest) > 0 {
		next := slices.IndexFunc(rest, func(t *table) bool {
			return !slices.ContainsFunc(references, func(r reference) bool {
				return r.From == t.oid && slices.ContainsFunc(rest, func(other *table) bool { return other.oid == r.To })
			})
		})
		next = max(next, 0)
		out = append(out, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return out, nil
}

// keptName is a name for the rows that are replaced which nothing has.
func (w *work) keptName(ctx context.Context, t *table) (string, error) {
	for n := 1; ; n++ {
		name := sqltext.QuoteQualified(w.schema, databases.DerivedName(t.As, fmt.Sprintf("~replaced-%d", n)))
		var free bool
		if err := w.conn.QueryRow(ctx, "SELECT pg_catalog.to_regclass($1) IS NULL", name).Scan(&free); err != nil || free {
			return name, postgres.Wrap(err, "look for table "+name)
		}
	}
}

// removeFirst keeps the rows of the tables that are replaced, and removes those that the
// backup has not. It returns the tables of which they can't be removed yet, because rows
// that stay refer to them until those are as in the backup: a foreign key would refuse it,
// or remove the rows that stay, with what refers to those.
func (w *replacing) removeFirst(ctx context.Context, tables []*table) (after []*table, err error) {
	var changed []*table
	for i := len(tables) - 1; i >= 0; i-- { // those that refer to others first
		t := tables[i]
		if t.plan.Action != ActionReplace {
			continue
		}
		differs, err := w.aside(ctx, t, t.comparison)
		if err != nil {
			return nil, err
		}
		if differs {
			changed = append(changed, t)
		}
	}
	for _, t := range changed {
		if *t.plan.Deleted == 0 {
			continue
		}
		refers, err := w.referring(ctx, t, func(other *table) bool { return other == t })
		if err != nil {
			return nil, err
		}
		if refers != nil {
			after = append(after, t)
		} else if err := w.removeAdded(ctx, t); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// removeLast removes the rows that removeFirst could not.
func (w *replacing) removeLast(ctx context.Context, tables []*table) error {
	for _, t := range tables {
		refers, err := w.referring(ctx, t, func(*table) bool { return true })
		if err != nil {
			return err
		}
		if refers != nil {
			return refers.refused(t)
		}
	}
	for _, t := range tables {
		if err := w.removeAdded(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// aside keeps the rows of a table, and reports whether it has other rows than the backup.
func (w *replacing) aside(ctx context.Context, t *table, c *rescue.Comparison) (differs bool, err error) {
	t.plan.KeptAs, t.plan.Updated, t.plan.Deleted = "", new(int64), new(int64)
	if len(c.Key) == 0 {
		return false, nil // it is empty
	}
	var added, changed *int64
	err = w.as(ctx, t, func() (err error) {
		if added, err = w.number(ctx, c.Added()); err == nil {
			changed, err = w.number(ctx, c.Changed())
		}
		return err
	})
	if err != nil || *added+*changed == 0 {
		return false, err
	}
	t.plan.Updated, t.plan.Deleted = changed, added
	if err := w.refuseReferences(ctx, t, c); err != nil {
		return false, err
	}
	return true, w.keep(ctx, t, c)
}

// removeAdded removes the rows of a table that the backup has not.
func (w *replacing) removeAdded(ctx context.Context, t *table) error {
	return w.as(ctx, t, func() error {
		_, err := w.conn.Exec(ctx, t.comparison.DeleteAdded())
		return postgres.Wrap(err, "remove rows of "+t.String()+" that the backup has not")
	})
}

// published finds whether a publication of all tables would send out the rows that are
// kept, and returns the server's time.
func (w *work) published(ctx context.Context, t *table) (now time.Time, err error) {
	err = w.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE puballtables), pg_catalog.clock_timestamp()").Scan(&t.plan.KeptUnlogged, &now)
	return now, postgres.Wrap(err, "look for publications")
}

// keep copies the rows of a table into the schema of the rescue.
func (w *replacing) keep(ctx context.Context, t *table, c *rescue.Comparison) error {
	name, err := w.keptName(ctx, t)
	if err != nil {
		return err
	}
	now, err := w.published(ctx, t)
	if err != nil {
		return err
	}
	kind := "TABLE "
	if t.plan.KeptUnlogged {
		kind = "UNLOGGED TABLE "
	}
	comment, err := rescue.KeptStory(t.String(), w.Backup.ID, now)
	if err != nil {
		return err
	}
	sql := "CREATE " + kind + name + " AS SELECT * FROM " + c.Live() + "; COMMENT ON TABLE " + name + " IS " + comment
	t.plan.KeptAs = name
	return postgres.Wrap(w.quietly(ctx, sql, ""), "keep the rows of "+t.String())
}

// insert inserts the rows that a table lacks, and corrects those that differ.
func (w *replacing) insert(ctx context.Context, t *table, c *rescue.Comparison) error {
	attempted := "insert the missing rows of " + t.String()
	if len(c.Key) == 0 {
		done, err := w.conn.Exec(ctx, c.InsertAll())
		inserted := done.RowsAffected()
		t.plan.Inserted = &inserted
		return postgres.Wrap(err, attempted)
	}
	var inserted, other int64
	if err := w.conn.QueryRow(ctx, c.InsertMissing()).Scan(&inserted, &other); err != nil {
		return postgres.Wrap(err, attempted)
	}
	if t.plan.Inserted = &inserted; other > 0 {
		return unequal(t)
	}
	if t.plan.Action == ActionMissing {
		// By now each is there: inserted, or by another session meanwhile.
		if all, err := w.none(ctx, c.Missing()); err != nil || all {
			return err
		}
		return unequal(t)
	}
	update := c.UpdateChanged()
	if *t.plan.Updated == 0 || update == "" {
		return nil
	}
	_, err := w.conn.Exec(ctx, update)
	return postgres.Wrap(err, "correct rows of "+t.String())
}

// prove compares a table with its copy, by every value.
func (w *work) prove(ctx context.Context, t *table, c *rescue.Comparison) error {
	for _, sql := range []string{c.Missing(), c.Added(), c.Changed()} {
		if sql == "" {
			continue
		}
		none, err := w.none(ctx, sql)
		if err != nil {
			return err
		}
		if !none {
			return unequal(t)
		}
	}
	return nil
}

func unequal(t *table) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "something in the database changes rows as they are written, such as a cascading foreign key; the SQL that `restore --table` prints shows the rows",
		"the rows of %s would not be those of the backup, by their values", t)
}
