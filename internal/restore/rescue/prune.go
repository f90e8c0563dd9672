package rescue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// PrunedSchema is a schema that a rescue of single tables made, and what is planned for
// it: it is dropped only if that is asked for.
type PrunedSchema struct {
	Database string `json:"database"`
	Schema   string `json:"schema"`
	// Backup is the backup that its tables are from.
	Backup string `json:"backup"`
	// Since and AgeSeconds are by the server's clock.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	Tables     int       `json:"tables"`
	// Replaced is how many of the tables hold rows that living tables had before a restore
	// in place: what was written to them after the last backup is nowhere else.
	Replaced int `json:"replaced,omitempty"`
	// unfinished is how many of the tables a rescue had not loaded to their end.
	unfinished int
	// Drop is the plan, Reason why, and Dropped what was done.
	Drop    bool   `json:"drop"`
	Reason  string `json:"reason"`
	Dropped bool   `json:"dropped"`
}

// Unread is a database that could not be read, and why.
type Unread struct {
	Database string `json:"database"`
	Reason   string `json:"reason"`
}

// PlanPrune lists the schemas that rescues made in any database of t's server. The
// list of its databases is read in maintenance; empty means postgres.
// Those that are asked for, by SCHEMA or DATABASE.SCHEMA, are to be dropped. Databases
// that can't be connected to are returned as unread.
func PlanPrune(ctx context.Context, t postgres.Target, maintenance string, asked []string) ([]PrunedSchema, []Unread, error) {
	plan, unread, databases, err := readAllRescued(ctx, t, cmp.Or(maintenance, postgres.DefaultMaintenance))
	if err != nil {
		return nil, nil, err
	}
	for _, a := range asked {
		matches := 0
		for i := range plan {
			if p := &plan[i]; a == p.Schema || a == p.Database+"."+p.Schema {
				p.Drop, p.Reason = true, "it is asked for"
				if p.Replaced > 0 {
					p.Reason += "; rows that --in-place replaced, which may be in no backup, are in " + words.Plural(int64(p.Replaced), "table") + " of it"
				}
				matches++
			}
		}
		switch {
		case matches == 0 && len(unread) > 0:
			return nil, nil, pgmedic.Errorf(pgmedic.KindUnreachable, "`pgmedic prune` says why they could not be read",
				"no schema %q that a rescue made was found, and %d of %d databases could not be read", a, len(unread), databases)
		case matches == 0:
			return nil, nil, pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic prune` lists those that are there", "no schema %q that a rescue made", a)
		case matches > 1:
			return nil, nil, pgmedic.Errorf(pgmedic.KindUsage, "write DATABASE.SCHEMA", "schema %q is in %d databases", a, matches)
		}
	}
	return plan, unread, nil
}

// readAllRescued reads all databases of the server and returns how many they are. Where
// one can't be connected to, the list is read again: one that was dropped since does not
// count as unread, and one that was renamed is read under its new name.
func readAllRescued(ctx context.Context, t postgres.Target, maintenance string) (plan []PrunedSchema, unread []Unread, databases int, err error) {
	const tries = 3
	plan, unread = []PrunedSchema{}, []Unread{}
	read := map[string]bool{}
	for range tries {
		names, err := listDatabases(ctx, t, maintenance)
		if err != nil {
			return nil, nil, 0, err
		}
		databases = len(names)
		unread = slices.DeleteFunc(unread, func(u Unread) bool { return !slices.Contains(names, u.Database) })
		failed := false
		for _, name := range names {
			if read[name] {
				continue
			}
			read[name] = true
			found, err := readRescued(ctx, t.WithDatabase(name), name)
			if ctx.Err() != nil {
				return nil, nil, 0, context.Cause(ctx)
			}
			if err != nil {
				failed = true
				unread = append(unread, Unread{Database: name, Reason: err.Error()})
			}
			plan = append(plan, found...)
		}
		if !failed {
			break
		}
	}
	return plan, unread, databases, nil
}

func listDatabases(ctx context.Context, t postgres.Target, maintenance string) ([]string, error) {
	conn, err := postgres.ConnectAdmin(ctx, t, maintenance)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	return databases.List(ctx, conn)
}

func readRescued(ctx context.Context, t postgres.Target, database string) ([]PrunedSchema, error) {
	conn, err := postgres.Connect(ctx, t)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	return rescuedIn(ctx, conn, database)
}

// rescuedIn reads them in the database of a session.
func rescuedIn(ctx context.Context, conn *pgx.Conn, database string) ([]PrunedSchema, error) {
	names, err := postgres.RescuedSchemas(ctx, conn)
	if err != nil {
		return nil, err
	}
	rows, err := conn.Query(ctx, `SELECT n.nspname::text AS schema, coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') AS comment,
			pg_catalog.clock_timestamp() AS now,
			(SELECT count(*)::int FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'm', 'v', 'f')) AS tables,
			ARRAY(SELECT d.description FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_description AS d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
				WHERE c.relnamespace = n.oid AND c.relkind = 'r') AS stories
		FROM pg_catalog.pg_namespace AS n WHERE n.nspname = ANY ($1) ORDER BY 1`, names)
	if err != nil {
		return nil, postgres.Wrap(err, "read the schemas of rescues")
	}
	type row struct {
		Schema, Comment string
		Now             time.Time
		Tables          int
		Stories         postgres.TextArray
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return nil, postgres.Wrap(err, "read the schemas of rescues")
	}
	var plan []PrunedSchema
	for _, f := range found {
		s, ok := databases.RescueStory(f.Schema, f.Comment)
		if !ok {
			continue // it has the name of one, but no rescue made it
		}
		replaced, unfinished := 0, 0
		for _, comment := range f.Stories {
			switch of, _ := readStory(comment); of.Pgmedic {
			case storyKept:
				replaced++
			case pgmedic.StoryLoading:
				unfinished++
			}
		}
		plan = append(plan, PrunedSchema{
			Replaced: replaced, unfinished: unfinished,
			Database: database, Schema: f.Schema, Backup: s.Backup, Since: s.Since.UTC(), AgeSeconds: progress.Seconds(f.Now.Sub(s.Since)), Tables: f.Tables,
			Reason: "no rescue is dropped unless it is asked for: --rescued " + f.Schema,
		})
	}
	return plan, nil
}

// Drop drops the schema of a rescue on t's server, if it holds nothing but tables and
// nothing outside of it depends on them; else it says in p why not. It waits five
// seconds for those who read them.
func Drop(ctx context.Context, t postgres.Target, p *PrunedSchema) error {
	return dropIf(ctx, t, p, func(PrunedSchema) bool { return true })
}

// dead reports whether nothing in it was loaded to its end: a rescue that still runs has its lock.
func (p PrunedSchema) dead() bool { return p.unfinished >= p.Tables }

// dropIf is Drop of a schema of which something holds still when no other rescue can work on it.
func dropIf(ctx context.Context, t postgres.Target, p *PrunedSchema, still func(PrunedSchema) bool) error {
	conn, err := postgres.ConnectLocal(ctx, t.WithDatabase(p.Database))
	if err != nil {
		return err
	}
	defer databases.CloseUnlocked(ctx, conn)
	superuser, err := postgres.IsSuperuser(ctx, conn)
	if err != nil {
		return err
	}
	quiet := ""
	if superuser {
		quiet = postgres.LocalWithoutEventTriggers(conn)
	}
	refuse := func(reason string) error {
		p.Drop, p.Reason = false, reason
		return nil
	}
	got, holder, err := databases.TryNamedLock(ctx, conn, "pgmedic "+p.Schema)
	if err != nil {
		return err
	}
	if !got {
		reason := "another rescue works on it"
		if holder != nil {
			reason += ": " + holder.String()
		}
		return refuse(reason)
	}
	now, err := readRescued(ctx, t.WithDatabase(p.Database), p.Database)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(now, func(s PrunedSchema) bool { return s.Schema == p.Schema && s.Backup == p.Backup })
	if i < 0 {
		return refuse("it is gone, or was not made by a rescue")
	}
	if !still(now[i]) {
		return refuse("a rescue has loaded it to its end meanwhile")
	}
	tables, err := tablesOf(ctx, conn, p.Schema)
	if err != nil {
		return err
	}
	sql := quiet + "SET LOCAL lock_timeout = '5s'; "
	if len(tables) > 0 {
		sql += "DROP TABLE " + strings.Join(tables, ", ") + "; "
	}
	err = together(ctx, conn, sql+"DROP SCHEMA "+sqltext.QuoteIdent(p.Schema))
	switch postgres.Code(err) {
	case "2BP01": // dependent_objects_still_exist
		return refuse("something else depends on its tables, or is in it: look, and drop it by hand")
	case "55P03": // lock_not_available
		return refuse("a session reads its tables")
	}
	if p.Dropped = err == nil; !p.Dropped {
		return postgres.Wrap(err, fmt.Sprintf("drop schema %s of database %s", p.Schema, p.Database))
	}
	return nil
}

// tablesOf returns the tables of a schema, as SQL names them.
func tablesOf(ctx context.Context, conn *pgx.Conn, schema string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT c.relname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY 1`, schema)
	if err != nil {
		return nil, postgres.Wrap(err, "list the tables of schema "+schema)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, postgres.Wrap(err, "list the tables of schema "+schema)
	}
	for i, name := range tables {
		tables[i] = sqltext.QuoteQualified(schema, name)
	}
	return tables, nil
}
