package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
)

// Story is what pgmedic writes into the comment of a database that it made or
// set aside, so that the database explains itself to anyone who lists it.
type Story struct {
	// Pgmedic is "kept" for a database that a swap set aside, "loading" for
	// one that a restore is filling.
	Pgmedic string `json:"pgmedic"`
	// Of is the name that the database had, or is to have.
	Of string `json:"of"`
	// By is restore, rollback or drill.
	By string `json:"by"`
	// Backup is the backup that took the database's place, or fills it.
	Backup string    `json:"backup,omitempty"`
	Since  time.Time `json:"since"`
	// Comment is the database's own comment, given back by a rollback.
	Comment string `json:"comment,omitempty"`
	// SafetyBackup is the id of the backup taken before the swap.
	SafetyBackup string `json:"safety_backup,omitempty"`
}

// The states in Story.Pgmedic.
const (
	StoryKept    = "kept"
	StoryLoading = "loading"
)

// Kept is a database with a story.
type Kept struct {
	Name  string
	Story Story
}

// ReadStories returns the databases that a swap set aside or a restore left,
// newest first.
func ReadStories(ctx context.Context, conn *pgx.Conn) ([]Kept, error) {
	type row struct{ Name, Comment string }
	rows, err := collect[row](ctx, conn, `
SELECT d.datname::text AS name, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), '') AS comment
FROM pg_catalog.pg_database AS d`)
	if err != nil {
		return nil, Wrap(err, "list the databases")
	}
	var all []Kept
	for _, r := range rows {
		k := Kept{Name: r.Name}
		if strings.HasPrefix(r.Comment, `{"pgmedic":`) && json.Unmarshal([]byte(r.Comment), &k.Story) == nil {
			all = append(all, k)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Story.Since.After(all[j].Story.Since) })
	return all, nil
}

// SetStory writes a story into a database's comment.
func SetStory(ctx context.Context, conn *pgx.Conn, database string, s Story) error {
	sql, err := storySQL(database, s)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return Wrap(err, "comment on database "+pgmedic.QuoteIdent(database))
}

// SetComment replaces a database's comment and waits until that is on disk;
// empty removes it.
func SetComment(ctx context.Context, conn *pgx.Conn, database, comment string) error {
	err := execSimple(ctx, conn, "BEGIN; SET LOCAL synchronous_commit = on; "+commentSQL(database, comment)+"; COMMIT")
	if err != nil {
		_ = execSimple(ctx, conn, "ROLLBACK") // or the session stays in the failed transaction
	}
	return Wrap(err, "comment on database "+pgmedic.QuoteIdent(database))
}

func storySQL(database string, s Story) (string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("write the story of database %q: %w", database, err)
	}
	return commentSQL(database, string(text)), nil
}

func commentSQL(database, comment string) string {
	value := "NULL"
	if comment != "" {
		value = pgmedic.QuoteLiteral(comment)
	}
	return "COMMENT ON DATABASE " + pgmedic.QuoteIdent(database) + " IS " + value
}

// SwapOptions name the two databases of a swap.
type SwapOptions struct {
	// Live is the name that clients use. LiveExists is false where there is
	// no such database, so that nothing is set aside.
	Live       string
	LiveExists bool
	// Incoming takes Live's name, and then has IncomingComment as its comment.
	Incoming        string
	IncomingComment string
	// Kept is the name that the live database gets, with Story as its comment.
	Kept  string
	Story Story
	// Target and Maintenance say how to reach the server and through which
	// database; neither Live nor Incoming will do.
	Target      Target
	Maintenance string
	Logger      *slog.Logger
	// Now is the clock that Outage is measured with.
	Now func() time.Time
}

// Swap makes Incoming the live database by two renames in one transaction: a
// reader of the server sees either the old pair of names or the new one, and
// whoever dies in between leaves the old. A second session ends the sessions of
// both databases meanwhile, because a database in use can't be renamed, and
// clients that connect wait. The database that was live is kept, closed to
// connections.
//
// It returns how long the live name could not be connected to. An error means
// that nothing has changed, except where it says that the outcome is unknown.
// Swap tries a few times where sessions come back faster than they can be ended.
func Swap(ctx context.Context, o SwapOptions) (outage time.Duration, err error) {
	const tries = 5
	for try := 1; ; try++ {
		var denied bool
		outage, denied, err = swapOnce(ctx, o)
		code := Code(err)
		if denied && code == "55006" {
			break // each further try would only keep everyone else out
		}
		if err == nil || ctx.Err() != nil || try == tries || (code != "55006" && code != "55P03" && code != "40P01") {
			break
		}
		o.Logger.Info("sessions came back during the swap; trying again", "try", try)
	}
	if Code(err) == "55006" {
		return 0, pgmedic.Errorf(pgmedic.KindConflict,
			"stop the clients that reconnect, or those that pgmedic's role may not end, then run the command again",
			"swap: database %q stayed in use: %w", o.Live, err)
	}
	return outage, err
}

// swapOnce reports denied where a session could not be ended for want of
// privilege.
func swapOnce(ctx context.Context, o SwapOptions) (outage time.Duration, denied bool, err error) {
	conn, err := Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return 0, false, err
	}
	defer Close(ctx, conn)
	statements, err := swapSQL(ctx, conn, o)
	if err != nil {
		return 0, false, err
	}
	sessions, err := endSessions(ctx, o)
	if err != nil {
		return 0, false, err
	}
	defer sessions.stop()
	began := o.Now()
	// synchronous_commit: the copy may have been loaded without; once this
	// commit is on disk, so is all that went before it.
	begin := "BEGIN; SET LOCAL lock_timeout = '3s'; SET LOCAL synchronous_commit = on"
	if err := execSimple(ctx, conn, begin); err != nil {
		return 0, false, Wrap(err, "begin the swap")
	}
	for _, sql := range statements {
		if err := execSimple(ctx, conn, sql); err != nil {
			return 0, sessions.denied.Load(), Wrap(err, "swap the databases")
		}
	}
	// From here on an interrupt must not leave us ignorant of the outcome.
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := execSimple(commit, conn, "COMMIT"); err != nil {
		return 0, false, commitUnknown(commit, o, err)
	}
	return o.Now().Sub(began), false, nil
}

func swapSQL(ctx context.Context, conn *pgx.Conn, o SwapOptions) ([]string, error) {
	var allowed bool
	err := conn.QueryRow(ctx, "SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = $1", o.Incoming).
		Scan(&allowed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "", "swap: there is no database %q", o.Incoming)
	}
	if err != nil {
		return nil, Wrap(err, "look for database "+pgmedic.QuoteIdent(o.Incoming))
	}
	live, incoming, kept := pgmedic.QuoteIdent(o.Live), pgmedic.QuoteIdent(o.Incoming), pgmedic.QuoteIdent(o.Kept)
	var statements []string
	if o.LiveExists {
		story, err := storySQL(o.Kept, o.Story)
		if err != nil {
			return nil, err
		}
		statements = append(statements,
			"ALTER DATABASE "+live+" RENAME TO "+kept,
			"ALTER DATABASE "+kept+" ALLOW_CONNECTIONS false", story)
	}
	statements = append(statements, "ALTER DATABASE "+incoming+" RENAME TO "+live)
	if !allowed {
		statements = append(statements, "ALTER DATABASE "+live+" ALLOW_CONNECTIONS true")
	}
	return append(statements, commentSQL(o.Live, o.IncomingComment)), nil
}

// commitUnknown finds out what a COMMIT without an answer did.
func commitUnknown(ctx context.Context, o SwapOptions, cause error) error {
	conn, err := Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err == nil {
		defer Close(ctx, conn)
		exists, err := DatabaseExists(ctx, conn, o.Incoming)
		if err == nil && !exists {
			return nil // its name is gone: the renames are in force
		}
		if err == nil {
			return Wrap(cause, "commit the swap (it did not take place)")
		}
	}
	return pgmedic.Errorf(pgmedic.KindUnreachable,
		"list the databases: if "+o.Incoming+" is gone, the swap is done; else the old database is live",
		"commit the swap: the connection was lost and the outcome is unknown: %w", cause)
}

// ending is a loop that ends sessions until stop is called.
type ending struct {
	stop func()
	// denied is true once a session could not be ended for want of privilege.
	denied atomic.Bool
}

// endSessions keeps ending the sessions of both databases. It goes by OID, for
// the names change under it.
func endSessions(ctx context.Context, o SwapOptions) (*ending, error) {
	e := &ending{}
	conn, err := Connect(ctx, o.Target.WithDatabase(o.Maintenance))
	if err != nil {
		return nil, err
	}
	oids, err := collectScalar[uint32](ctx, conn,
		"SELECT oid FROM pg_catalog.pg_database WHERE datname IN ($1, $2)", o.Live, o.Incoming)
	if err != nil {
		Close(ctx, conn)
		return nil, Wrap(err, "look for the databases")
	}
	loop, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for loop.Err() == nil {
			e.terminate(loop, conn, oids, o.Logger)
			select {
			case <-tick.C:
			case <-loop.Done():
			}
		}
	}()
	e.stop = func() {
		cancel()
		<-done
		Close(ctx, conn)
	}
	return e, nil
}

func (e *ending) terminate(ctx context.Context, conn *pgx.Conn, oids []uint32, log *slog.Logger) {
	pids, err := collectScalar[int32](ctx, conn,
		"SELECT pid FROM pg_catalog.pg_stat_activity WHERE datid = ANY ($1) AND pid <> pg_backend_pid()", oids)
	if err != nil {
		return // the renames report what matters
	}
	for _, pid := range pids {
		// One by one: a session that we may not end must not save the others.
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", pid); err != nil && ctx.Err() == nil {
			if Code(err) == "42501" {
				e.denied.Store(true)
			}
			log.Debug("a session could not be ended", "pid", pid, "sqlstate", Code(err))
		}
	}
}

// SwapObstacles returns what makes a swap of the live database unsafe, each as
// an Error with what to do about it.
func SwapObstacles(ctx context.Context, conn *pgx.Conn, live string, standbysHandled bool) ([]error, error) {
	var obstacles []error
	for _, o := range []struct {
		sql, what, hint string
		skip            bool
	}{
		{`SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = $1`,
			"prepared transaction", "COMMIT PREPARED or ROLLBACK PREPARED it; it would block the rename", false},
		{`SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = $1`,
			"logical replication slot", "drop the slot and set replication up again after the swap; it would stay with the old database", false},
		{`SELECT s.subname::text FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d
			ON d.oid = s.subdbid WHERE d.datname = $1`,
			"subscription", "disable and drop it, and make it again after the swap; it would stay with the old database", false},
		{`SELECT coalesce(nullif(r.application_name, ''), r.pid::text) FROM pg_catalog.pg_stat_replication AS r
			WHERE $1 <> '' AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots AS s
				WHERE s.active_pid = r.pid AND s.slot_type = 'logical')`,
			"standby", "sessions on it go on reading the old database: end them after the swap, and say --standbys-handled", standbysHandled},
	} {
		if o.skip {
			continue
		}
		names, err := collectScalar[string](ctx, conn, o.sql, live)
		if err != nil {
			return nil, Wrap(err, "look for a "+o.what)
		}
		for _, name := range names {
			obstacles = append(obstacles, pgmedic.Errorf(pgmedic.KindConflict, o.hint,
				"swap: database %q has a %s: %s", live, o.what, name))
		}
	}
	return obstacles, nil
}
