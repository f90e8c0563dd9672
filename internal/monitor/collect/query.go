package collect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// query is one row of the table of queries: what to ask, of which versions,
// and where the answer goes.
type query struct {
	// name says in words what is read. Variants for different versions share
	// it, and their version ranges don't overlap.
	name    string
	section string
	sql     string
	// since is the first server_version_num that understands sql, before the
	// first that doesn't; zero means no bound.
	since, before int
	// extension must be installed for the query, in extensionSince (such as
	// "1.8") or later; empty is none.
	extension, extensionSince string
	// single is true of a query of one object, whose reason is no other's.
	single bool
	// absent is what it means that a relation, column or function of it is not
	// there, where that says nothing of the server.
	absent string
	// install is added to the reason where the extension is missing.
	install string
	// privilege is what a role that was refused is missing.
	privilege string
	// may says whether the role has that privilege, nil where nothing tells.
	may func(reading.Privileges) bool
	// timeout replaces Options.QueryTimeout where it is not zero.
	timeout time.Duration
	// only asks servers of one role, and no word is lost about it elsewhere.
	only reading.Role
	// replica is true of what replicas alone are asked, see Replica.
	replica bool
	// wanted says whether the look asks for it, nil of what every look does.
	wanted func(Options) bool
	// counts is true of counters, which are also read when an interval begins;
	// each of what every database has for itself.
	counts, each bool
	// words is true of what only a reader of words wants, and what costs more
	// than a number is worth.
	words bool
	// judges are other sections whose judgements need the answer.
	judges []string
	// build makes the SQL where it depends on an extension's version. In the
	// SQL, @extension@ is the schema of the extension.
	build func(extensionVersion string) string
	// args are the arguments of sql; they may depend on earlier answers.
	args func(*reading.Reading, Options) []any
	// listed is true where args is one list, and an empty one is not asked about.
	listed bool
	// scan puts the whole answer into the Reading, or nothing.
	scan func(pgx.Rows, *reading.Reading) error
	// deep replaces sql and scan where one answer decides on the next question.
	// Its error means that the connection is gone.
	deep func(context.Context, *collector, query) error
}

// limit is how long the query may take on the server.
func (q *query) limit(opts Options) time.Duration {
	if q.timeout > 0 {
		return q.timeout
	}
	return opts.QueryTimeout
}

// covers reports whether the query fits a server's version.
func (q *query) covers(versionNum int) bool {
	return versionNum >= q.since && (q.before == 0 || versionNum < q.before)
}

// text returns the SQL to ask.
func (q *query) text(r *reading.Reading) string {
	if q.extension == "" {
		return ours + q.sql
	}
	e, _ := r.Server.Extension(q.extension)
	sql := q.sql
	if q.build != nil {
		sql = q.build(e.Version)
	}
	return ours + strings.ReplaceAll(sql, "@extension@", sqltext.QuoteIdent(e.Schema))
}

// ours begins our questions: pg_stat_statements keeps it, so that a look knows its
// own among the statements.
const ours = "/* pgmedic */ "

// choose returns one variant of each query: the one for the version, or, where
// none fits, any, which will then be skipped. The order is that of the table.
func choose(table []query, versionNum int) []query {
	var chosen []query
	at := map[string]int{}
	for _, q := range table {
		i, seen := at[q.name]
		switch {
		case !seen:
			at[q.name] = len(chosen)
			chosen = append(chosen, q)
		case q.covers(versionNum):
			chosen[i] = q
		}
	}
	return chosen
}

// unfit says why a query can't be asked of this server, or nothing.
func (q *query) unfit(r *reading.Reading) string {
	v := r.Server.VersionNum
	switch {
	case v < q.since:
		return fmt.Sprintf("needs PostgreSQL %d or later", q.since/10000)
	case !q.covers(v):
		return fmt.Sprintf("PostgreSQL %d no longer has it", v/10000)
	case q.may != nil && r.May != nil && !q.may(*r.May):
		return "this role lacks " + q.privilege
	case q.extension == "":
		return ""
	}
	e, ok := r.Server.Extension(q.extension)
	if !ok {
		return fmt.Sprintf("needs the extension %s, which is not installed in this database", q.extension) + q.install
	}
	if compareVersions(e.Version, q.extensionSince) < 0 {
		return fmt.Sprintf("needs the extension %s %s or later and finds %s", q.extension, q.extensionSince, e.Version)
	}
	if q.extension != "pg_stat_statements" || r.May == nil {
		return ""
	}
	refused := func(may *bool) bool { return may != nil && !*may }
	switch {
	case !r.May.StatementsLoaded:
		return "pg_stat_statements is not in shared_preload_libraries"
	case refused(r.May.StatementsSchema):
		return fmt.Sprintf("this role may not see the extension's schema: GRANT USAGE ON SCHEMA %s TO %s;", sqltext.PrintableIdent(e.Schema), sqltext.PrintableIdent(r.May.RoleName))
	case refused(r.May.StatementsCall):
		return fmt.Sprintf("this role may not call the extension's functions: GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %s TO %s;",
			sqltext.PrintableIdent(e.Schema), sqltext.PrintableIdent(r.May.RoleName))
	}
	return ""
}

// isEmptyList reports whether an argument is a list of nothing.
func isEmptyList(arg any) bool {
	switch list := arg.(type) {
	case []uint32:
		return len(list) == 0
	case []int32:
		return len(list) == 0
	case []string:
		return len(list) == 0
	}
	return false
}

// compareVersions compares dotted numbers such as 1.8 and 1.10. What is not a
// number counts as zero.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y int
		x, a = nextNumber(a)
		y, b = nextNumber(b)
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return 0
}

// nextNumber takes the number before the first dot off a version.
func nextNumber(s string) (n int, rest string) {
	for i, c := range s {
		if c == '.' {
			return n, s[i+1:]
		}
		if c >= '0' && c <= '9' && n < 1e6 {
			n = n*10 + int(c-'0')
		}
	}
	return n, ""
}

// reasonFor says in words why a query failed. It holds the SQLSTATE and names
// from the table of queries only: a server's message can quote data.
func reasonFor(err error, q query, opts Options) string {
	var pgErr *pgconn.PgError
	if errors.Is(err, pgx.ErrNoRows) {
		return "it is no longer there"
	}
	if !errors.As(err, &pgErr) {
		return "the answer has a form that this version of pgmedic doesn't know"
	}
	text := "the server refused it"
	switch pgErr.Code {
	case "42501": // insufficient_privilege
		text = "this role may not"
		if q.privilege != "" {
			text = "this role lacks " + q.privilege
		}
	case "57014": // query_canceled
		text = fmt.Sprintf("it took longer than %s", words.Duration(q.limit(opts)))
	case "55P03": // lock_not_available
		text = fmt.Sprintf("somebody holds a lock, and it waited longer than %s", words.Duration(opts.LockTimeout))
	case "55000": // object_not_in_prerequisite_state
		if q.extension != "" {
			text = q.extension + " is not in shared_preload_libraries"
		}
	case "42725", "42P18": // ambiguous_function, indeterminate_datatype
		text = "the types of its parameters are not known"
	case "42601": // syntax_error, of a statement whose literals are gone
		text = "pg_stat_statements keeps it in a form that is not SQL"
	case "22021", "22P05": // character_not_in_repertoire, untranslatable_character
		text = "it holds text of a database in another encoding, which this one can't show"
	case "42P01", "42703", "42883": // undefined table, column, function
		text = "this server has no such view, column or function"
		if q.absent != "" {
			text = q.absent
		}
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", text, pgErr.Code)
}

// withoutData returns an error that says the SQLSTATE of a server's error and
// nothing else of it; other errors come back as they are.
func withoutData(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return fmt.Errorf("the server answered with SQLSTATE %s", pgErr.Code)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the server doesn't answer")
	}
	return err
}

// wanted reports whether a look asks a query. What every judgement and the
// choice of queries rests on is always asked.
func (o *Options) wanted(q query) bool {
	switch {
	case q.replica, o.DatabaseOnly && !q.each, o.Numbers && q.words, q.wanted != nil && !q.wanted(*o):
		return false
	case o.Sections == nil, q.section == reading.SectionOverview:
		return true
	}
	// Of trends anything can be a part.
	return slices.Contains(o.Sections, q.section) || slices.Contains(o.Sections, reading.SectionTrends) ||
		slices.ContainsFunc(q.judges, func(s string) bool { return slices.Contains(o.Sections, s) })
}
