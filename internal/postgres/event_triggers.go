package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// LocalWithoutEventTriggers begins a superuser's transaction in which event triggers
// don't fire for what is done, as far as the server can: before PostgreSQL 17 those
// that are set to ENABLE ALWAYS fire all the same. It lasts no longer: foreign keys
// and triggers of the application would not fire either in a session that a pooler
// gives to it next.
func LocalWithoutEventTriggers(conn *pgx.Conn) string {
	sql := "SET LOCAL session_replication_role = replica; "
	if majorOf(conn) >= 17 {
		sql += "SET LOCAL event_triggers = off; "
	}
	return sql
}

// eventTrigger is one that would fire.
type eventTrigger struct{ Name, Enabled string }

// WithoutEventTriggers does something to a copy in one transaction in which no event
// trigger fires, whatever it is set to. The triggers are what they were before when
// it ends. A role that may not disable them has them fire.
//
// It is not for a live database: others would wait for its locks.
func WithoutEventTriggers(ctx context.Context, conn *pgx.Conn, do func() error) (err error) {
	triggers, err := Collect[eventTrigger](ctx, conn, `
SELECT evtname::text AS name, CASE evtenabled WHEN 'A' THEN ' ENABLE ALWAYS' WHEN 'R' THEN ' ENABLE REPLICA' ELSE ' ENABLE' END AS enabled
FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND pg_catalog.pg_has_role(evtowner, 'USAGE') ORDER BY 1`)
	if err != nil {
		return Wrap(err, "list the event triggers")
	}
	if len(triggers) == 0 {
		return do()
	}
	var off, on []string
	for _, t := range triggers { // no event trigger fires for these statements
		off = append(off, "ALTER EVENT TRIGGER "+sqltext.QuoteIdent(t.Name)+" DISABLE")
		on = append(on, "ALTER EVENT TRIGGER "+sqltext.QuoteIdent(t.Name)+t.Enabled)
	}
	if err := ExecSimple(ctx, conn, "BEGIN; "+strings.Join(off, "; ")); err != nil {
		rollback(ctx, conn)
		return Wrap(err, "disable the copy's event triggers")
	}
	if err := do(); err != nil {
		rollback(ctx, conn)
		return err
	}
	if err := ExecSimple(ctx, conn, strings.Join(on, "; ")+"; COMMIT"); err != nil {
		rollback(ctx, conn)
		return Wrap(err, "enable the copy's event triggers again")
	}
	return nil
}

func rollback(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = ExecSimple(ctx, conn, "ROLLBACK") // a broken session has rolled back
}

// NameEventTriggers adds to an error of statements with the given tags, such as
// CREATE TABLE, which event triggers fire for them: one of them may have refused
// them. Quiet is what their transaction began with, from LocalWithoutEventTriggers, or
// empty. Conn is in no transaction any more.
func NameEventTriggers(ctx context.Context, conn *pgx.Conn, err error, quiet string, tags ...string) error {
	var refused *ServerError
	if !errors.As(err, &refused) || !maybeRaised(refused.Code) {
		return err
	}
	fires := "O"
	if quiet != "" {
		if fires = "R"; majorOf(conn) >= 17 {
			return err // none fired
		}
	}
	names, listErr := CollectScalar[string](ctx, conn, `
SELECT t.evtname::text FROM pg_catalog.pg_event_trigger AS t
WHERE t.evtenabled::text IN ('A', $2) AND t.evtevent IN ('ddl_command_start', 'ddl_command_end')
	AND (t.evttags IS NULL OR t.evttags && $1::text[])
ORDER BY 1`, tags, fires)
	if listErr != nil || len(names) == 0 {
		return err
	}
	quoted, statements := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		quoted[i] = sqltext.QuoteIdent(name)
		statements[i] = "ALTER EVENT TRIGGER " + quoted[i] + " DISABLE;"
	}
	which := "event trigger " + quoted[0] + ", which fires in every session, refuses it"
	if len(names) > 1 {
		which = "one of the event triggers " + strings.Join(quoted, ", ") + ", which fire in every session, may refuse it"
	}
	return pgmedic.Errorf(pgmedic.KindConflict, "disable it while the command runs, if nothing else is to be kept from changing: "+strings.Join(statements, " "),
		"%w: %s", err, which)
}

// maybeRaised reports whether a function may have raised an error with this code on
// purpose.
func maybeRaised(code string) bool {
	switch code {
	case "", "42P07", "42P06", "55P03", "57014": // there already, and what waited too long
		return false
	}
	return !strings.HasPrefix(code, "08") && !strings.HasPrefix(code, "57P") && !strings.HasPrefix(code, "53")
}
