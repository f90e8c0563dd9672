// Package inplace puts tables of a backup back where they were, in a living database: one
// that is gone with all that belonged to it, one that is there with the rows that it lacks
// or with all of its rows. They are first rescued into a schema of their own; then one
// transaction does all of it or nothing.
package inplace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Options say which tables are put back, and how.
type Options struct {
	rescue.Options
	// MissingRows keeps the rows of tables that are there, and adds those of the backup
	// whose primary key they lack. Without it such a table gets the rows of the backup
	// alone, and those that it had are kept in the schema of the rescue.
	MissingRows bool
	// LockTimeout bounds each wait for a lock; zero means 30 s. Tries is how often the
	// transaction is tried when it met another session's lock; zero means 3.
	LockTimeout time.Duration
	Tries       int
	// Of is the backup that the plan names, and Moment that of which the tables are, in words,
	// where Backup was taken of a cluster that was recovered to it. Empty means Backup itself.
	Of, Moment string
	// Confirm is called with the plan once the rows are rescued and before a living table
	// is changed. It is called again if more can't be put back than the plan said, or if rows
	// are overwritten or removed where the plan said that none are (LosesMore). An error ends
	// the run, and the living tables stay as they are. Nil confirms all.
	Confirm func(Plan) error
}

// Plan is what is done to the living database.
type Plan struct {
	Database string `json:"database"`
	BackupID string `json:"backup_id"`
	// Moment is that of which the tables are, in words; empty means that of the backup.
	Moment string `json:"moment,omitempty"`
	// Schema holds the copies that were rescued, and the rows that are replaced.
	Schema string  `json:"schema"`
	Tables []Table `json:"tables"`
	// Made are the objects that are made again, in pg_dump's words.
	Made []string `json:"made,omitempty"`
	// LeftOut is what can't be put back.
	LeftOut []LeftOut `json:"left_out,omitempty"`
}

// LosesMore reports whether rows of a table are overwritten or removed of which an earlier
// plan said that none are.
func (p Plan) LosesMore(before Plan) bool {
	more := func(now, then *int64) bool { return now != nil && *now > 0 && (then == nil || *then == 0) }
	for i, t := range p.Tables {
		var then Table
		if i < len(before.Tables) {
			then = before.Tables[i]
		}
		if t.Action == ActionReplace && (more(t.Updated, then.Updated) || more(t.Deleted, then.Deleted)) {
			return true
		}
	}
	return false
}

// Action is what is done with a table.
type Action string

// The actions.
const (
	// ActionMake makes a table again that is not there.
	ActionMake Action = "make"
	// ActionReplace gives a table that is there the rows of the backup.
	ActionReplace Action = "replace rows"
	// ActionMissing adds the rows that a table lacks.
	ActionMissing Action = "add missing rows"
)

// Table is what is done with one table.
type Table struct {
	// Table is its quoted name, and As that of its rescued copy.
	Table  string `json:"table"`
	As     string `json:"as"`
	Action Action `json:"action"`
	// Rows are those of the backup. Inserted, Updated and Deleted are rows of the living
	// table; in a plan they are what was counted before, or nil in a dry run.
	Rows     int64  `json:"rows"`
	Inserted *int64 `json:"inserted,omitempty"`
	Updated  *int64 `json:"updated,omitempty"`
	Deleted  *int64 `json:"deleted,omitempty"`
	// KeptAs is the quoted name of the table that holds the rows which were replaced.
	KeptAs string `json:"kept_as,omitempty"`
	// KeptUnlogged is whether that table is unlogged, because a publication would send its
	// rows out: a crash or a failover empties it.
	KeptUnlogged bool `json:"kept_unlogged,omitempty"`
	// TriggersOff is whether the table's triggers are disabled meanwhile, for which its
	// writers wait.
	TriggersOff bool `json:"triggers_off,omitempty"`
	// Compared says how the rescued rows were compared with what the backup recorded.
	Compared pgmedic.Comparison `json:"compared,omitempty"`
	Notes    []string           `json:"notes,omitempty"`
}

// LeftOut is something of the backup that is not put back, and why.
type LeftOut struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
}

// Result is what was done.
type Result struct {
	Plan
	DryRun  bool    `json:"dry_run,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// CleanUp is the SQL that drops the rescued copies and the rows that were replaced.
	CleanUp string `json:"clean_up,omitempty"`
}

// Degraded is an error of KindDegraded that names what was left out; nil if nothing was.
func (r *Result) Degraded() error {
	if len(r.LeftOut) == 0 {
		return nil
	}
	names := make([]string, len(r.LeftOut))
	for i, l := range r.LeftOut {
		names[i] = l.Object
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, "make them by hand: `pgmedic restore` with --into NAME brings their definitions back beside the living ones",
		"the tables are back, and not put back are: %s", strings.Join(names, ", "))
}

// work is a run going on.
type work struct {
	Options
	steps  progress.Steps
	conn   *pgx.Conn
	schema string
	quiet  string
	tables []*table
	// absent says that some are not there, and definitions are what they were made of.
	absent      bool
	definitions *definitions
	plan        Plan
	// accepted is what was confirmed that can't be put back.
	accepted []LeftOut
	// agreed is the plan that was confirmed last.
	agreed Plan
	// lost are columns of the backup that living tables have not.
	lost []LeftOut
	// firing is the session_replication_role of the transaction.
	firing string
	// uncertain is whether the connection was lost while the transaction was committed.
	uncertain bool
}

// table is one table, and what the plan says of it.
type table struct {
	rescue.Selected
	plan *Table
	oid  uint32
	// comparison is that of the transaction, for one that is there.
	comparison *rescue.Comparison
}

// Run rescues tables, and puts them back in one transaction. After an error the living
// tables are as they were, unless it says otherwise; the rescued copies stay. What can't be
// put back is in the result: see Degraded.
func Run(ctx context.Context, o Options) (*Result, error) {
	w := &work{Options: o, steps: progress.Steps{Report: o.Progress, Now: o.Now}}
	w.LockTimeout, w.Tries = cmp.Or(o.LockTimeout, 30*time.Second), cmp.Or(o.Tries, 3)
	began := o.Now()
	foresee := o.Options
	foresee.DryRun, foresee.Reuse, foresee.CompareValues = true, true, true
	seen, err := rescue.Run(ctx, foresee)
	if err != nil {
		return nil, err
	}
	var selected []rescue.Selected
	if w.schema, selected, err = rescue.Select(o.Options); err != nil {
		return nil, err
	}
	w.plan = Plan{Database: seen.Database, BackupID: cmp.Or(o.Of, seen.BackupID), Moment: o.Moment, Schema: w.schema, Tables: make([]Table, len(selected))}
	for i, s := range selected {
		w.plan.Tables[i] = Table{Table: s.String(), As: sqltext.QuoteQualified(w.schema, s.As), Rows: seen.Tables[i].Rows}
		w.tables = append(w.tables, &table{Selected: s, plan: &w.plan.Tables[i]})
	}
	if w.conn, err = postgres.ConnectLocal(ctx, o.Target); err != nil {
		return nil, err
	}
	defer func() { databases.CloseUnlocked(ctx, w.conn) }()
	if err := w.foresee(ctx); err != nil {
		return nil, err
	}
	if o.DryRun {
		return &Result{Plan: w.plan, DryRun: true}, nil
	}
	if err := w.rescue(ctx); err != nil {
		return nil, err
	}
	if err := w.putBack(ctx); w.uncertain {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("the living tables are as they were, and the rescued ones are in schema %s: %w", w.schema, err)
	}
	return &Result{
		Plan: w.plan, Seconds: progress.Seconds(o.Now().Sub(began)),
		CleanUp: sqltext.Printable("DROP SCHEMA " + sqltext.QuoteIdent(w.schema) + " CASCADE;"),
	}, nil
}

// foresee finds what is to be done, and what would stop it, before rows are fetched.
func (w *work) foresee(ctx context.Context) error {
	if err := postgres.AllowViews(ctx, w.conn); err != nil {
		return err
	}
	superuser, err := postgres.IsSuperuser(ctx, w.conn)
	if err != nil {
		return err
	}
	if superuser {
		w.quiet = postgres.LocalWithoutEventTriggers(w.conn)
	}
	for _, t := range w.tables {
		if err := w.find(ctx, t); err != nil {
			return err
		}
	}
	if !w.absent {
		return nil
	}
	if err := w.steps.Do("definitions", func() error { return w.readDefinitions(ctx) }); err != nil {
		return err
	}
	return w.rehearse(ctx)
}

// find looks whether a table is there, and refuses what can't be done with it.
func (w *work) find(ctx context.Context, t *table) error {
	if t.WithoutRows {
		return pgmedic.Errorf(pgmedic.KindUsage, "name a backup that has its rows",
			"backup %s has the definition of %s and not all of its rows, which would be replaced by nothing", w.plan.BackupID, t)
	}
	var kind, persistence string
	var rules bool
	err := w.conn.QueryRow(ctx, `SELECT c.oid, c.relkind::text, c.relpersistence::text, EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_type <> '1')
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
		t.Schema, t.Name).Scan(&t.oid, &kind, &persistence, &rules)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		t.plan.Action, w.absent = ActionMake, true
		return nil
	case err != nil:
		return postgres.Wrap(err, "look for table "+t.String())
	case kind != "r" && kind != "p":
		return pgmedic.Errorf(pgmedic.KindConflict, "rename it, then run the command again", "%s is there, and is not a table", t)
	case persistence == "u" && w.Moment != "":
		return pgmedic.Errorf(pgmedic.KindUsage, "restore it from a logical backup", "table %s is unlogged: neither base backups nor WAL have its rows", t)
	case rules:
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --in-place out: the SQL that `restore --table` prints shows the rows",
			"table %s has rules, which would change what is put back", t)
	}
	t.plan.Action = ActionReplace
	if w.MissingRows {
		t.plan.Action = ActionMissing
	}
	c, err := rescue.Compare(ctx, w.conn, t.Selected, w.schema)
	if err == nil && w.MissingRows && len(c.Key) == 0 {
		err = noKey(t, "leave --missing-rows out to have the rows of the backup in place of those that are there")
	}
	return err
}

// noKey refuses a table whose rows can't be told apart.
func noKey(t *table, hint string) error {
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "table %s has no primary key that the backup has, too, by which its rows could be matched", t)
}

// rescue brings the copies, and counts what they would change.
func (w *work) rescue(ctx context.Context) error {
	o := w.Options.Options
	o.Reuse, o.CompareValues = true, true
	saved, err := rescue.Run(ctx, o)
	if err != nil {
		return err
	}
	for i, t := range w.tables {
		t.plan.Compared = saved.Tables[i].Compared
		if why := saved.Tables[i].NotByValue; why != "" {
			t.plan.Notes = append(t.plan.Notes, "compared with the backup by its number of rows alone: "+why)
		}
		if len(saved.Tables[i].AsText) > 0 && t.plan.Action == ActionMake {
			t.plan.Notes = append(t.plan.Notes, "rescued as text, because the type was not there: "+strings.Join(saved.Tables[i].AsText, ", "))
		}
	}
	return w.steps.Do("compare with living", func() error {
		for _, t := range w.tables {
			if t.plan.Action == ActionMake {
				t.plan.Inserted = &t.plan.Rows
				continue
			}
			if err := w.begin(ctx); err != nil { // for what the owner may read meanwhile
				return err
			}
			err := w.foreseeRows(ctx, t)
			w.rollback(ctx)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// foreseeRows counts what a table lacks and has, and finds what would refuse the change.
func (w *work) foreseeRows(ctx context.Context, t *table) (err error) {
	var c *rescue.Comparison
	err = w.as(ctx, t, func() (err error) {
		if c, err = w.compare(ctx, t); err == nil {
			err = w.count(ctx, t, c)
		}
		return err
	})
	if err != nil {
		return err
	}
	triggers, err := w.triggers(ctx, t)
	if err != nil {
		return err
	}
	t.plan.TriggersOff = len(triggers) > 0
	t.plan.Notes = append(t.plan.Notes, c.Notes...)
	if len(c.Lost) > 0 {
		w.lost = append(w.lost, LeftOut{
			Object: "COLUMN " + strings.Join(c.Lost, ", ") + " of " + t.String(), Reason: "the living table does not have it",
		})
	}
	if t.plan.Action == ActionMissing {
		return nil
	}
	if *t.plan.Updated+*t.plan.Deleted == 0 {
		return nil
	}
	if t.plan.KeptAs, err = w.keptName(ctx, t); err != nil {
		return err
	}
	if _, err := w.published(ctx, t); err != nil {
		return err
	}
	return w.refuseReferences(ctx, t, c)
}

// comparison is rescue.Compare of a table of which both are there.
func (w *work) comparison(ctx context.Context, t *table) (*rescue.Comparison, error) {
	c, err := rescue.Compare(ctx, w.conn, t.Selected, w.schema)
	switch {
	case err != nil:
		return nil, err
	case !c.Exists:
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "table %s was dropped meanwhile", t)
	case !c.Rescued:
		return nil, pgmedic.Errorf(pgmedic.KindConflict, "run the command again", "the rescued copy of %s was dropped meanwhile", t)
	}
	return c, nil
}

// compare is comparison for a living table, with what would be refused.
func (w *work) compare(ctx context.Context, t *table) (*rescue.Comparison, error) {
	c, err := w.comparison(ctx, t)
	switch {
	case err != nil:
		return nil, err
	case !c.Comparable():
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave --in-place out", "table %s has no column in common with the backup's", t)
	}
	if len(c.Key) == 0 {
		if empty, err := w.none(ctx, "SELECT 1 FROM "+c.Live()); err != nil || empty {
			return c, err
		}
		return nil, noKey(t, "rename the table to have it made again, or leave --in-place out: the SQL that `restore --table` prints compares the rows")
	}
	once, err := w.none(ctx, c.Repeated())
	if err == nil && !once {
		err = pgmedic.Errorf(pgmedic.KindUsage, "leave --in-place out: the SQL that `restore --table` prints shows the rows",
			"the backup has several rows of %s with one value of today's primary key", t)
	}
	return c, err
}

// none reports whether a query has no row.
func (w *work) none(ctx context.Context, sql string) (none bool, err error) {
	err = w.conn.QueryRow(ctx, "SELECT NOT EXISTS ("+sql+")").Scan(&none)
	return none, postgres.Wrap(err, "compare the rows")
}

// number counts the rows of a query; an empty one has none.
func (w *work) number(ctx context.Context, sql string) (*int64, error) {
	n := new(int64)
	if sql == "" {
		return n, nil
	}
	err := w.conn.QueryRow(ctx, "SELECT pg_catalog.count(*) FROM ("+sql+") AS q").Scan(n)
	return n, postgres.Wrap(err, "compare the rows")
}

func (w *work) count(ctx context.Context, t *table, c *rescue.Comparison) (err error) {
	if t.plan.Inserted, err = w.number(ctx, c.Missing()); err != nil {
		return err
	}
	if t.plan.Updated, err = w.number(ctx, c.Changed()); err != nil {
		return err
	}
	if t.plan.Deleted, err = w.number(ctx, c.Added()); err != nil {
		return err
	}
	if t.plan.Action == ActionMissing {
		if n := *t.plan.Updated; n > 0 {
			t.plan.Notes = append(t.plan.Notes, words.Plural(n, "row")+" with other values than in the backup stay as they are")
		}
		t.plan.Updated, t.plan.Deleted = nil, nil
	}
	return nil
}

// confirm asks, where there is something to ask.
func (w *work) confirm(left []LeftOut) error {
	w.plan.LeftOut = left
	p := w.plan
	p.Tables, p.LeftOut = slices.Clone(p.Tables), slices.Clone(left)
	if w.Confirm != nil {
		if err := w.Confirm(p); err != nil {
			return err
		}
	}
	w.accepted, w.agreed = left, p
	return nil
}

// errMore ends a transaction in which more was refused or removed than was confirmed.
var errMore = errors.New("less can be put back, or more is removed, than the plan said")

// putBack runs the transaction, until it meets no other session's lock.
func (w *work) putBack(ctx context.Context) error {
	if got, holder, err := databases.TryNamedLock(ctx, w.conn, "pgmedic "+w.schema); err != nil {
		return err
	} else if !got {
		said := ""
		if holder != nil {
			said = ": " + holder.String()
		}
		return pgmedic.Errorf(pgmedic.KindConflict, "wait for it to end, then run the command again", "another run works with schema %s%s", w.schema, said)
	}
	if err := w.confirm(slices.Concat(w.lost, w.plan.LeftOut)); err != nil {
		return err
	}
	return w.steps.Do("put back", func() error {
		for try := 1; ; try++ {
			w.plan.LeftOut = slices.Clone(w.lost)
			err := w.transaction(ctx)
			code := postgres.Code(err)
			switch {
			case errors.Is(err, errMore):
				if err := w.confirm(w.plan.LeftOut); err != nil {
					return err
				}
			case ctx.Err() != nil:
				return errors.Join(err, context.Cause(ctx))
			case (code == "55P03" || code == "40P01" || code == "40001") && try < w.Tries:
				w.Logger.Info("another session holds a lock; trying again", "try", try)
			default:
				return err
			}
		}
	})
}
