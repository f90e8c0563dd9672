package databases

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// texts are the fields of a story that come from the server, in whatever encoding.
func texts(s *pgmedic.Story) []*string { return []*string{&s.Name, &s.Of, &s.Owner, &s.Comment} }

// Kept is a database with a story, and what stands in the way of dropping it.
type Kept struct {
	Name string
	OID  uint32
	// Open is true where it accepts connections, Invalid where a DROP DATABASE of
	// it was begun and not finished.
	Open, Invalid bool
	Story         pgmedic.Story
	// Owner owns it and so writes its story. OwnerSuperuser is true where that is
	// a superuser, OwnerUs where it is the role that asks.
	Owner                   string
	OwnerSuperuser, OwnerUs bool
	// LiveOwner owns the database that the story is of; empty where there is none.
	LiveOwner string
	// SizeBytes is zero where the role may not know it.
	SizeBytes int64
	// Sessions are those connected now, Strangers those of them that are not ours.
	Sessions, Strangers int
	// LogicalSlots, PreparedTransactions and Subscriptions are bound to it.
	LogicalSlots, PreparedTransactions, Subscriptions int
}

// Own reports whether the story is the database's own: one that somebody renamed
// is theirs, and a backup may have carried another's story along.
func (k Kept) Own() bool {
	if k.Story.Name != "" && k.Story.Name != k.Name {
		return false
	}
	return k.Name != k.Story.Of || k.Story.Pgmedic == pgmedic.StoryLoading && k.Story.Name != ""
}

// RefuseInUse returns an error where what a restore left is of use to somebody.
// The sessions of the dead restore itself are ended when it is dropped.
func (k Kept) RefuseInUse() error {
	switch {
	case k.Strangers > 0:
		return pgmedic.Errorf(pgmedic.KindConflict, "end them, or rename the database: then it is theirs",
			"database %q, which a restore left half done, would be dropped, and it is in use (sessions: %d)", k.Name, k.Strangers)
	case k.LogicalSlots > 0 || k.PreparedTransactions > 0:
		return pgmedic.Errorf(pgmedic.KindConflict, "drop them, or rename the database: then it is yours",
			"database %q, which a restore left half done, would be dropped, and replication slots or prepared transactions are bound to it", k.Name)
	}
	return nil
}

// ReadStories returns the databases that a swap set aside or a restore left,
// newest first, except those whose story is not their own. Who wrote a story is
// for Kept.Distrust to say.
func ReadStories(ctx context.Context, conn *pgx.Conn) ([]Kept, error) {
	all, err := ReadAllStories(ctx, conn)
	return slices.DeleteFunc(all, func(k Kept) bool { return !k.Own() }), err
}

// databaseSize is an expression with pg_database_size of a database, or another where
// the role may not know it, or where the database was dropped while the query ran: the
// size is NULL then, or an error, by version. Whether the database is there
// is asked as everybody, since of a superuser the server asks nothing.
func databaseSize(oid, size, otherwise string) string {
	return fmt.Sprintf(`CASE WHEN NOT (pg_catalog.has_database_privilege(%[1]s, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'))
		THEN %[3]s WHEN pg_catalog.has_database_privilege('public', %[1]s, 'CONNECT') IS NULL THEN %[3]s ELSE %[2]s END`, oid, size, otherwise)
}

// ReadAllStories returns every database with a story, whoever's it is, newest
// first.
func ReadAllStories(ctx context.Context, conn *pgx.Conn) ([]Kept, error) {
	type row struct {
		Kept
		Comment string
	}
	rows, err := conn.Query(ctx, `
SELECT d.datname::text, d.oid, d.datallowconn, d.datconnlimit = -2, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
	pg_catalog.pg_get_userbyid(d.datdba)::text, coalesce((SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.oid = d.datdba), false),
	pg_catalog.pg_get_userbyid(d.datdba) = current_user,
	`+databaseSize("d.oid", "coalesce(pg_catalog.pg_database_size(d.oid), 0)", "0")+`,
	(SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid = d.oid),
	(SELECT count(*) FROM pg_catalog.pg_stat_activity AS a WHERE a.datid = d.oid
		AND a.application_name NOT LIKE 'pgmedic%' AND a.backend_type IN ('client backend', 'walsender')),
	(SELECT count(*) FROM pg_catalog.pg_replication_slots AS s WHERE s.datoid = d.oid),
	(SELECT count(*) FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database = d.datname),
	(SELECT count(*) FROM pg_catalog.pg_subscription AS s WHERE s.subdbid = d.oid)
FROM pg_catalog.pg_database AS d
WHERE pg_catalog.shobj_description(d.oid, 'pg_database') LIKE '{"pgmedic":%'
	AND pg_catalog.octet_length(pg_catalog.shobj_description(d.oid, 'pg_database')) <= 1048576 -- a gigabyte is somebody's own`)
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (row, error) {
		var k row
		err := r.Scan(&k.Name, &k.OID, &k.Open, &k.Invalid, &k.Comment, &k.Owner, &k.OwnerSuperuser, &k.OwnerUs,
			&k.SizeBytes, &k.Sessions, &k.Strangers,
			&k.LogicalSlots, &k.PreparedTransactions, &k.Subscriptions)
		return k, err
	})
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	owners, err := ownersByDatabase(ctx, conn)
	if err != nil {
		return nil, err
	}
	var all []Kept
	for _, r := range found {
		if json.Unmarshal([]byte(r.Comment), &r.Story) == nil {
			for _, field := range texts(&r.Story) {
				*field = pgmedic.UnescapeBytes(*field)
			}
			r.LiveOwner = owners[r.Story.Of]
			all = append(all, r.Kept)
		}
	}
	slices.SortFunc(all, later)
	return all, nil
}

// later sorts what was set aside last to the front. Stories without a number are
// older than those with one.
func later(a, b Kept) int {
	return cmp.Or(cmp.Compare(b.Story.Number, a.Story.Number), b.Story.Since.Compare(a.Story.Since), cmp.Compare(a.Name, b.Name))
}

func ownersByDatabase(ctx context.Context, conn *pgx.Conn) (map[string]string, error) {
	type owned struct{ Name, Owner string }
	rows, err := postgres.Collect[owned](ctx, conn,
		"SELECT datname::text AS name, pg_catalog.pg_get_userbyid(datdba)::text AS owner FROM pg_catalog.pg_database")
	if err != nil {
		return nil, postgres.Wrap(err, "list the databases")
	}
	owners := make(map[string]string, len(rows))
	for _, r := range rows {
		owners[r.Name] = r.Owner
	}
	return owners, nil
}

// SetStory writes a story into a database's comment.
func SetStory(ctx context.Context, conn *pgx.Conn, database string, s pgmedic.Story) error {
	sql, err := storySQL(database, s)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return postgres.Wrap(err, "comment on database "+sqltext.QuoteIdent(database))
}

// SetLastingStory is SetStory that waits until the story, and all that was
// written before it, is on the server's own disk.
func SetLastingStory(ctx context.Context, conn *pgx.Conn, database string, s pgmedic.Story) error {
	text, err := storyText(database, s)
	if err != nil {
		return err
	}
	return SetComment(ctx, conn, database, text)
}

// SetComment replaces a database's comment and waits until that is on the server's
// own disk, for no standby; empty removes it.
func SetComment(ctx context.Context, conn *pgx.Conn, database, comment string) error {
	err := postgres.ExecSimple(ctx, conn, "BEGIN; SET LOCAL synchronous_commit = local; "+commentSQL(database, comment)+"; COMMIT")
	if err != nil {
		_ = postgres.ExecSimple(ctx, conn, "ROLLBACK") // or the session stays in the failed transaction
	}
	return postgres.Wrap(err, "comment on database "+sqltext.QuoteIdent(database))
}

// SetOwnComment gives a database its own comment, as ReadDatabase read it, through
// conn, which is of ConnectBytes, or where that can't say it, through a session with
// the database.
func SetOwnComment(ctx context.Context, conn *pgx.Conn, own postgres.Target, comment string) error {
	says, err := says(ctx, conn, own.Database(), comment)
	if err == nil && !says {
		if conn, err = postgres.ConnectBytes(ctx, own); err == nil {
			defer postgres.Close(ctx, conn)
		}
	}
	if err != nil {
		return err
	}
	return SetComment(ctx, conn, own.Database(), comment)
}

// says reports whether a session writes text as a session with the database does.
func says(ctx context.Context, conn *pgx.Conn, database, text string) (same bool, err error) {
	if postgres.IsASCII(text) {
		return true, nil
	}
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_encoding_to_char(encoding) = pg_catalog.current_setting('server_encoding')
		FROM pg_catalog.pg_database WHERE datname = $1`, database).Scan(&same)
	return same, postgres.Wrap(err, "look at the encoding of database "+sqltext.QuoteIdent(database))
}

func storySQL(database string, s pgmedic.Story) (string, error) {
	text, err := storyText(database, s)
	return commentSQL(database, text), err
}

func storyText(database string, s pgmedic.Story) (string, error) {
	s.Name = database
	for _, field := range texts(&s) {
		*field = pgmedic.EscapeBytes(*field)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("write the story of database %q: %w", database, err)
	}
	return string(text), nil
}

func commentSQL(database, comment string) string {
	value := "NULL"
	if comment != "" {
		value = sqltext.QuoteLiteral(comment)
	}
	return "COMMENT ON DATABASE " + sqltext.QuoteIdent(database) + " IS " + value
}

// Nameless returns the databases whose names begin with a prefix and that are as
// CreateDatabase leaves them: closed, without a comment, and with nothing in them
// but what template0 has. No session can have read one, not even ours.
// Those of other roles than superusers, the role that asks and the owners given
// are left out: who made them may have bound something to them.
func Nameless(ctx context.Context, conn *pgx.Conn, prefix string, owners []string) ([]string, error) {
	// The names are compared here: functions of text refuse one that is not in the encoding of
	// the database that is asked.
	names, err := postgres.CollectScalar[string](ctx, conn, `
SELECT d.datname::text FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_roles AS r ON r.oid = d.datdba
WHERE NOT d.datallowconn AND pg_catalog.shobj_description(d.oid, 'pg_database') IS NULL
	AND (r.rolsuper OR r.rolname = current_user OR r.rolname::text = ANY ($1))
	AND `+databaseSize("d.oid", "coalesce(pg_catalog.pg_database_size(d.oid) <= pg_catalog.pg_database_size('template0'), false)", "false"), owners)
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	return names, postgres.Wrap(err, "list the databases")
}

// ByRescue is who a Story says wrote it where that is a rescue of single tables.
const ByRescue = "rescue"

// RescueStory reads the comment of a schema, and reports whether a rescue made that:
// its name and the comment have to agree, for anybody may write either.
func RescueStory(schema, comment string) (s pgmedic.Story, ok bool) {
	named, err := regexp.MatchString(postgres.RescuedPattern, schema)
	ok = err == nil && named && json.Unmarshal([]byte(comment), &s) == nil &&
		s.By == ByRescue && s.Pgmedic != "" && !s.Since.IsZero() && postgres.RescueSchema(s.Backup) == schema
	return s, ok
}
