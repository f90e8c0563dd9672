package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// storyRescued is the state in the comment of a schema and of tables that a
// rescue made; a table that is not whole has pgmedic.StoryLoading.
const storyRescued = "rescued"

// story is the comment of the rescue's schema, or of one of its tables, as an
// SQL literal.
func (r *rescue) story(of, state string) (string, error) {
	text, err := json.Marshal(pgmedic.Story{Pgmedic: state, Of: of, By: databases.ByRescue, Backup: r.Backup.ID, Since: r.began})
	if err != nil {
		return "", fmt.Errorf("write what the schema is: %w", err)
	}
	return sqltext.QuoteLiteral(string(text)), nil
}

// place checks the schema of the rescue, which may exist from an earlier one, and drops
// what that one left behind when it was killed.
func (r *rescue) place(ctx context.Context) error {
	if !r.DryRun {
		got, holder, err := databases.TryNamedLock(ctx, r.conn, "pgmedic "+r.schema)
		if err != nil {
			return err
		}
		if !got {
			return rescueLocked(r.Backup.ID, r.Target.Database(), holder)
		}
	}
	var exists, trusted bool
	var comment, owner string
	err := r.conn.QueryRow(ctx, `SELECT count(*) > 0, coalesce(min(pg_catalog.obj_description(n.oid, 'pg_namespace')), ''),
			coalesce(min(o.rolname::text), ''), coalesce(bool_and(o.rolsuper OR o.rolname = current_user), true),
			EXISTS (SELECT FROM pg_catalog.pg_publication WHERE puballtables), pg_catalog.clock_timestamp()
		FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner WHERE n.nspname = $1`, r.schema).
		Scan(&exists, &comment, &owner, &trusted, &r.unlogged, &r.began)
	if err != nil {
		return postgres.Wrap(err, "look for schema "+r.schema)
	}
	r.began = r.began.UTC()
	r.madeSchema = !exists
	if !exists {
		return nil
	}
	if s, ok := readStory(comment); !ok || s.Backup != r.Backup.ID {
		return pgmedic.Errorf(pgmedic.KindConflict, "rename or drop it", "schema %s exists and was not made by a rescue", r.schema)
	}
	if !trusted {
		// The owner of a schema can drop what is in it, and make something else of the same name.
		return pgmedic.Errorf(pgmedic.KindConflict, "rename or drop it, or rescue as that role",
			"schema %s exists and belongs to role %q, which could put other rows into it", r.schema, owner)
	}
	return r.sweep(ctx)
}

func rescueLocked(backup, database string, holder *databases.LockHolder) error {
	what, hint := fmt.Sprintf("another rescue from backup %s works in database %q", backup, database), "run the command again"
	if holder != nil {
		what, hint = what+": "+holder.String(), "wait for it to end; if you do not know that run, end it: "+holder.End()
	}
	return pgmedic.Errorf(pgmedic.KindConflict, hint, "%s", what)
}

func readStory(comment string) (s pgmedic.Story, ok bool) {
	ok = json.Unmarshal([]byte(comment), &s) == nil && s.Pgmedic != ""
	return s, ok
}

// sweep refuses tables that are there already, and drops those that a rescue
// left half loaded when it was killed: we hold the lock, so it is dead.
func (r *rescue) sweep(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `SELECT c.relname::text, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '')
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind NOT IN ('i', 't') ORDER BY 1`, r.schema)
	if err != nil {
		return postgres.Wrap(err, "list the tables of schema "+r.schema)
	}
	type relation struct{ Name, Comment string }
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	if err != nil {
		return postgres.Wrap(err, "list the tables of schema "+r.schema)
	}
	for _, f := range found {
		table := sqltext.QuoteQualified(r.schema, f.Name)
		if s, ok := readStory(f.Comment); ok && s.Pgmedic == pgmedic.StoryLoading {
			if r.DryRun {
				continue
			}
			r.Logger.Info("dropping what a rescue left behind", "table", table, "since", s.Since)
			if err := together(ctx, r.conn, r.quiet+"DROP TABLE "+table); err != nil {
				return postgres.Wrap(err, "drop "+table)
			}
			continue
		}
		if k := slices.IndexFunc(r.names, func(n tableName) bool { return n.as == f.Name }); k >= 0 {
			if s, ok := readStory(f.Comment); ok && r.Reuse && s.Pgmedic == storyRescued && s.Backup == r.Backup.ID {
				r.reused[k] = true
				continue
			}
			return pgmedic.Errorf(pgmedic.KindConflict, "check it, or drop it first: "+sqltext.Printable("DROP TABLE "+table+";"),
				"%s is there already", table)
		}
	}
	return nil
}

// sweepDead drops the schemas of killed rescues from other backups, if they hold nothing that was
// loaded to its end: what is taken out of a moment is a backup of its own each time, so that no
// later rescue would be from that one. What can't be dropped is left.
func (r *rescue) sweepDead(ctx context.Context) error {
	if r.DryRun {
		return nil
	}
	found, err := rescuedIn(ctx, r.conn, r.Target.Database())
	if err != nil {
		return err
	}
	for _, p := range found {
		if p.Schema == r.schema || !p.dead() {
			continue
		}
		// One that loaded when they were read can have come to its end since.
		err := dropIf(ctx, r.Target, &p, PrunedSchema.dead)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			r.Logger.Warn("what a rescue left behind could not be dropped", "schema", p.Schema, "error", err)
		case p.Dropped:
			r.Logger.Info("what a rescue left behind is dropped", "schema", p.Schema, "since", p.Since)
		}
	}
	return nil
}

// makeTables makes the schema, and the tables whose columns the backup records.
func (r *rescue) makeTables(ctx context.Context) error {
	if err := r.typesOfChunks(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("make the tables: %w", context.Cause(ctx))
	}
	// Not interrupted, so that it is known whether the schema was made. Only
	// the role that rescues may use it: the copies have none of the policies and
	// access lists of the living tables.
	kept := context.WithoutCancel(ctx)
	if r.madeSchema {
		comment, err := r.story(r.Backup.Database.Name, storyRescued)
		if err != nil {
			return err
		}
		schema := sqltext.QuoteIdent(r.schema)
		_, err = r.conn.PgConn().Exec(kept, "BEGIN; "+r.quiet+"CREATE SCHEMA "+schema+"; COMMENT ON SCHEMA "+schema+" IS "+comment).ReadAll()
		if err == nil {
			err = r.closeSchema(kept)
		}
		if err != nil {
			_, _ = r.conn.PgConn().Exec(kept, "ROLLBACK").ReadAll() // a broken session has rolled back
			r.madeSchema = false
			return postgres.NameEventTriggers(kept, r.conn, postgres.Wrap(err, "make schema "+r.schema), r.quiet, "CREATE SCHEMA", "COMMENT", "REVOKE")
		}
	}
	for k, n := range r.names {
		t, ok := r.recorded(n)
		if !ok || r.reused[k] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("make the tables: %w", context.Cause(ctx))
		}
		if err := r.makeTable(kept, k, t.Columns); err != nil {
			return err
		}
	}
	return nil
}

// closeSchema takes away what default privileges gave to others, and commits.
func (r *rescue) closeSchema(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, `SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
		FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a WHERE n.nspname = $1 AND a.grantee <> n.nspowner`, r.schema)
	if err != nil {
		return err
	}
	grantees, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	sql := "COMMIT"
	for _, g := range grantees {
		sql = "REVOKE ALL ON SCHEMA " + sqltext.QuoteIdent(r.schema) + " FROM " + g + "; " + sql
	}
	_, err = r.conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// makeTable makes the k-th table with columns whose types were resolved.
func (r *rescue) makeTable(ctx context.Context, k int, columns []pgmedic.Column) error {
	t := &r.done.Tables[k]
	comment, err := r.story(t.Table, pgmedic.StoryLoading)
	if err != nil {
		return err
	}
	kind := "TABLE "
	if r.unlogged {
		kind = "UNLOGGED TABLE "
	}
	lines := make([]string, len(columns))
	for i, c := range columns {
		typ, known, err := resolveType(ctx, r.conn, c.Type)
		if err != nil {
			return err
		}
		if !known {
			typ = "text"
		}
		// Each on a line of its own: the type's text is not ours.
		lines[i] = "\n" + sqltext.QuoteIdent(c.Name) + " " + typ + "\n"
	}
	r.made = append(r.made, t.As)
	sql := r.quiet + "CREATE " + kind + t.As + " (" + strings.Join(lines, ",") + "); COMMENT ON TABLE " + t.As + " IS " + comment
	if err := together(ctx, r.conn, sql); err != nil {
		if postgres.Code(err) == "42P07" { // another session made it
			r.made = r.made[:len(r.made)-1]
		}
		return postgres.NameEventTriggers(ctx, r.conn, postgres.Wrap(err, "make "+t.As), r.quiet, "CREATE TABLE", "COMMENT")
	}
	return nil
}

// typesOfChunks finds the columns whose types the live database does not have.
func (r *rescue) typesOfChunks(ctx context.Context) error {
	for k, n := range r.names {
		first, ok := r.recorded(n)
		if !ok {
			continue
		}
		for _, c := range first.Columns {
			_, known, err := resolveType(ctx, r.conn, c.Type)
			if err != nil {
				return err
			}
			if known {
				continue
			}
			if first.Format == pgmedic.CopyBinary {
				return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup",
					"the manifest gives column %s of %s a type that PostgreSQL does not have", sqltext.QuoteIdent(c.Name), n)
			}
			r.done.Tables[k].AsText = append(r.done.Tables[k].AsText, c.Name)
		}
	}
	return nil
}

// resolveType returns a type of the manifest as it can be written into SQL: the
// server has read all of it as one type's name, so that it can be nothing else.
// A domain is replaced by its base type, because its checks are meant for living rows.
func resolveType(ctx context.Context, conn *pgx.Conn, name string) (typ string, known bool, err error) {
	err = conn.QueryRow(ctx, `
WITH RECURSIVE chain AS (
	SELECT 0 AS depth, t.typtype, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type AS t WHERE t.oid = pg_catalog.to_regtype($1)
	UNION ALL
	SELECT depth + 1, t.typtype, t.typbasetype, t.typtypmod FROM chain JOIN pg_catalog.pg_type AS t ON t.oid = chain.typbasetype
	WHERE chain.typtype = 'd'
)
SELECT EXISTS (SELECT FROM chain), coalesce((SELECT pg_catalog.format_type(typbasetype, typtypmod) FROM chain
	WHERE typtype = 'd' ORDER BY depth DESC LIMIT 1), $1)`, name).Scan(&known, &typ)
	if code := postgres.Code(err); code != "" && (strings.HasPrefix(code, "42") || strings.HasPrefix(code, "22")) {
		return "", false, pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup", "the manifest names a type that is not valid")
	}
	return typ, known, postgres.Wrap(err, "look for a type")
}

// drop takes away what a rescue that failed has made, also when ctx has ended.
func (r *rescue) drop(ctx context.Context) error {
	if len(r.made) == 0 && !r.madeSchema {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := r.dropMade(ctx)
	if err != nil {
		err = pgmedic.Errorf(pgmedic.KindOf(err), "drop them: "+sqltext.Printable("DROP SCHEMA "+sqltext.QuoteIdent(r.schema)+" CASCADE;"),
			"what was rescued so far is still there, in schema %s: %w", r.schema, err)
	}
	return err
}

func (r *rescue) dropMade(ctx context.Context) error {
	conn, err := postgres.ConnectLocal(ctx, r.Target)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	superuser, err := postgres.IsSuperuser(ctx, conn)
	if err != nil {
		return err
	}
	quiet := ""
	if superuser {
		quiet = postgres.LocalWithoutEventTriggers(conn)
	}
	var statements []string
	for _, table := range r.made {
		statements = append(statements, "DROP TABLE IF EXISTS "+table)
	}
	if r.madeSchema {
		statements = append(statements, "DROP SCHEMA IF EXISTS "+sqltext.QuoteIdent(r.schema))
	}
	var errs []error
	for _, sql := range statements {
		if err := together(ctx, conn, quiet+sql); err != nil {
			errs = append(errs, postgres.Wrap(err, strings.ToLower(sql[:4])+sql[4:]))
		}
	}
	return errors.Join(errs...)
}

// together runs statements, or none of them.
func together(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, "BEGIN; "+sql+"; COMMIT").ReadAll()
	if err != nil {
		_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // a broken session has rolled back
	}
	return err
}
