package inplace

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// remaking makes tables again inside a transaction. Each statement has a savepoint: what
// the server refuses is left out and named.
type remaking struct {
	*work
	// rehearsal is whether there are no rows, and all is rolled back.
	rehearsal bool
	// made are the entries that were made, and pending those that are left for last.
	made, pending map[string]bool
	names         []string
	left          []LeftOut
	late          []*entry
	// notValid is whether a foreign key was made to which rows don't fit.
	notValid bool
}

func newRemaking(w *work) *remaking {
	return &remaking{work: w, made: map[string]bool{}, pending: map[string]bool{}}
}

// rehearse makes the tables without rows, and rolls all of it back: what the server refuses
// is known before rows are fetched. Foreign keys check no row, and no partition is attached.
func (w *work) rehearse(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	r := newRemaking(w)
	r.rehearsal = true
	err := r.early(ctx)
	if err == nil {
		err = r.last(ctx)
	}
	w.rollback(ctx)
	w.plan.Made, w.plan.LeftOut = r.names, r.left
	if err != nil {
		return fmt.Errorf("rehearse without rows: %w", err)
	}
	return nil
}

// early makes the tables, loads their rows before the first index, and makes what belongs
// to them. What locks a living table is left for last.
func (r *remaking) early(ctx context.Context) error {
	loaded := false
	for _, e := range r.definitions.entries {
		if e.Type == "" {
			if err := r.run(ctx, e.statements[0]); err != nil {
				return postgres.Wrap(err, "set up the session")
			}
			continue
		}
		if e.IsPostData() && !loaded {
			if err := r.load(ctx); err != nil {
				return err
			}
			loaded = true
		}
		if !r.wanted(e) {
			continue
		}
		if r.isLate(e) {
			r.late = append(r.late, e)
			r.pending[e.ID] = true
			continue
		}
		if err := r.make(ctx, e); err != nil {
			return err
		}
	}
	if !loaded {
		return r.load(ctx)
	}
	return nil
}

// wanted reports whether an entry is a table that is to be made, or depends on something
// that was made.
func (r *remaking) wanted(e *entry) bool {
	if e.table != nil || e.part {
		return true
	}
	if !slices.ContainsFunc(e.dependsOn, func(id string) bool { return r.made[id] || r.pending[id] }) {
		return false
	}
	if e.Type != "TABLE" && e.Type != "FOREIGN TABLE" {
		return true
	}
	r.left = append(r.left, LeftOut{Object: e.String(), Reason: "it depends on the table and has rows of its own: if it is gone, name it with --table, too"})
	return false
}

// isLate reports whether an entry changes a living table, or needs what such an entry does.
func (r *remaking) isLate(e *entry) bool {
	if slices.ContainsFunc(e.dependsOn, func(id string) bool { return r.pending[id] }) {
		return true
	}
	switch e.Type {
	case "FK CONSTRAINT", "PUBLICATION TABLE", "INDEX ATTACH", "MATERIALIZED VIEW DATA", "ACL", "ROW SECURITY":
		return true
	case "TABLE ATTACH":
		return e.attaches
	case "TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE", "SEQUENCE", "SEQUENCE SET":
		return false
	}
	return slices.ContainsFunc(e.dependsOn, func(id string) bool { return r.definitions.tables[id] && !r.made[id] })
}

// lateRank orders what comes last: partitions, so that keys are whole; keys; the rest.
func lateRank(e *entry) int {
	switch e.Type {
	case "TABLE ATTACH":
		return 0
	case "INDEX ATTACH":
		return 1
	case "FK CONSTRAINT":
		return 2
	case "MATERIALIZED VIEW DATA":
		return 3
	}
	return 4
}

// last makes what locks living tables.
func (r *remaking) last(ctx context.Context) error {
	if err := r.withoutDefaultPrivileges(ctx); err != nil {
		return err
	}
	slices.SortStableFunc(r.late, func(a, b *entry) int { return cmp.Compare(lateRank(a), lateRank(b)) })
	for _, e := range r.late {
		if !slices.ContainsFunc(e.dependsOn, func(id string) bool { return r.made[id] }) {
			continue // it is about something that was left out
		}
		if err := r.make(ctx, e); err != nil {
			return err
		}
	}
	if !r.notValid {
		return nil
	}
	for _, t := range r.tables {
		if t.plan.Action == ActionMake {
			if err := r.moveSequences(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// make runs the statements of an entry.
func (r *remaking) make(ctx context.Context, e *entry) error {
	if r.rehearsal && (e.attaches || e.Type == "INDEX ATTACH" && r.attaches()) {
		r.made[e.ID] = true
		r.names = append(r.names, e.String())
		return nil
	}
	for i, sql := range e.statements {
		refused, err := r.try(ctx, r.asRehearsed(e, sql))
		if err != nil {
			return err
		}
		code := postgres.Code(refused)
		switch {
		case refused == nil:
		case e.Type == "FK CONSTRAINT" && r.rehearsal && (code == "42809" || code == "0A000"):
			// A partitioned table takes no key that checks no row: this is known with the rows.
		case e.Type == "FK CONSTRAINT" && !r.rehearsal && code == "23503":
			return r.keyNotValid(ctx, e, sql)
		case i == 0 && (e.table != nil || e.part):
			return pgmedic.Errorf(pgmedic.KindFailed, "make what it needs, or restore the whole backup beside it, --into NAME",
				"%s can't be made as it was: %w", e, postgres.Wrap(refused, "define it"))
		default:
			r.leave(e, sql, refused)
			if i == 0 {
				return nil // the rest is about what was not made
			}
		}
	}
	r.made[e.ID] = true
	r.names = append(r.names, e.String())
	return nil
}

// attaches reports whether a partition is attached to a living table, and its indexes with it.
func (r *remaking) attaches() bool {
	return slices.ContainsFunc(r.definitions.entries, func(e *entry) bool { return e.attaches })
}

// leave notes what was refused: an entry, or one statement about it.
func (r *remaking) leave(e *entry, sql string, refused error) {
	object := e.String()
	if strings.Contains(sql, " OWNER TO ") {
		object = "OWNER of " + object
	}
	reason := postgres.Wrap(refused, "define it").Error()
	switch postgres.Code(refused) {
	case "42P07", "42710", "42723":
		reason = "there is one of that name, which stays as it is"
	}
	r.left = append(r.left, LeftOut{Object: object, Reason: reason})
}

// asRehearsed has a foreign key check no row, because there is none.
func (r *remaking) asRehearsed(e *entry, sql string) string {
	if e.Type != "FK CONSTRAINT" || !r.rehearsal {
		return sql
	}
	return notValid(sql)
}

// notValid has a foreign key check new rows alone.
func notValid(sql string) string {
	sql = strings.TrimSuffix(strings.TrimSpace(sql), ";")
	if strings.HasSuffix(sql, " NOT VALID") {
		return sql
	}
	return sql + " NOT VALID"
}

// keyNotValid makes a foreign key for new rows, where rows that are there don't fit.
func (r *remaking) keyNotValid(ctx context.Context, e *entry, sql string) error {
	refused, err := r.try(ctx, notValid(sql))
	if err != nil {
		return err
	}
	reason := "rows point to rows that are not there; it is made NOT VALID, which checks new rows alone"
	if refused != nil {
		reason = "rows point to rows that are not there"
	} else {
		r.made[e.ID], r.notValid = true, true
	}
	r.left = append(r.left, LeftOut{Object: e.String(), Reason: reason})
	return nil
}

// run runs one statement of the backup.
func (r *remaking) run(ctx context.Context, sql string) error {
	err := dumpsql.RunStatement(ctx, r.conn, sql)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// try runs a statement. One that the server refuses for what it says has not been run; any
// other error ends the transaction.
func (r *remaking) try(ctx context.Context, sql string) (refused, err error) {
	if err := postgres.ExecSimple(ctx, r.conn, "SAVEPOINT pgmedic"); err != nil {
		return nil, postgres.Wrap(err, "set a savepoint")
	}
	err = r.run(ctx, sql)
	switch {
	case err == nil:
		return nil, postgres.Wrap(postgres.ExecSimple(ctx, r.conn, "RELEASE SAVEPOINT pgmedic"), "set a savepoint")
	case !postgres.RefusedContent(err):
		return nil, postgres.Wrap(err, "make what belongs to the tables again")
	}
	return err, postgres.Wrap(postgres.ExecSimple(ctx, r.conn, "ROLLBACK TO SAVEPOINT pgmedic; RELEASE SAVEPOINT pgmedic"), "go back to a savepoint")
}

// load inserts the rows of the tables that were made.
func (r *remaking) load(ctx context.Context) error {
	if r.rehearsal {
		return nil
	}
	for _, t := range r.tables {
		if t.plan.Action != ActionMake {
			continue
		}
		c, err := r.comparison(ctx, t)
		if err != nil {
			return err
		}
		if !c.Comparable() {
			continue
		}
		err = r.as(ctx, t, func() error {
			_, err := r.conn.Exec(ctx, c.InsertAll())
			return postgres.Wrap(err, "insert the rows of "+t.String())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// proveMade compares the tables that were made with what was rescued.
func (r *remaking) proveMade(ctx context.Context) error {
	for _, t := range r.tables {
		if t.plan.Action != ActionMake {
			continue
		}
		c, err := r.comparison(ctx, t)
		if err != nil {
			return err
		}
		if c.Comparable() {
			if err := r.as(ctx, t, func() error { return r.prove(ctx, t, c) }); err != nil {
				return err
			}
		}
		n, err := r.number(ctx, "SELECT 1 FROM "+c.Live())
		if err != nil {
			return err
		}
		if *n != t.plan.Rows {
			return unequal(t)
		}
		t.plan.Inserted = n
		if err := r.moveSequences(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// withoutDefaultPrivileges takes from what was made the privileges that ALTER DEFAULT
// PRIVILEGES gave: those of the backup are granted after it. What this session has locked
// wholly is what it made.
func (r *remaking) withoutDefaultPrivileges(ctx context.Context) error {
	rows, err := postgres.CollectScalar[string](ctx, r.conn, `
SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %I.%I FROM %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname,
	CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	CROSS JOIN pg_catalog.aclexplode(c.relacl) AS a
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
	AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
	AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee <> c.relowner`)
	if err != nil {
		return postgres.Wrap(err, "read default privileges")
	}
	for _, sql := range rows {
		if _, err := r.conn.Exec(ctx, sql); err != nil {
			return postgres.Wrap(err, "take default privileges back")
		}
	}
	return nil
}
