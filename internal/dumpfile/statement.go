package dumpfile

import (
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// Judgement is what becomes of a statement of a dump.
type Judgement int

// The judgements.
const (
	// Run is a statement of the database's content.
	Run Judgement = iota
	// LeaveOut is one about a database as a whole, which would be another one here:
	// pg_dump -C and pg_dumpall write it.
	LeaveOut
)

// Statements that pg_dump, pg_restore and pg_dumpall write. All are in capitals: what is
// written otherwise is not theirs. The patterns are for texts of normalised, which has
// one space between words and no comments.
const (
	quotedName = `(?:\w+|"(?:[^"]|"")+")`
	// privileges may name columns. They have no names of roles.
	privileges = `(?:GRANT|REVOKE) (?:[A-Z ,]|\((?:[^()"\s/-]|"(?:[^"]|"")*"|, ?)+\))+ ON `
	// objects are the kinds that CREATE, ALTER, DROP, COMMENT ON and SECURITY LABEL name
	// alike.
	objects = `ACCESS METHOD|AGGREGATE|CAST|COLLATION|CONVERSION|DOMAIN|EVENT TRIGGER|EXTENSION|FOREIGN DATA WRAPPER|FOREIGN TABLE|FUNCTION|` +
		`INDEX|(?:PROCEDURAL )?LANGUAGE|MATERIALIZED VIEW|OPERATOR(?: CLASS| FAMILY)?|POLICY|PROCEDURE|PUBLICATION|ROUTINE|RULE|SCHEMA|SEQUENCE|SERVER|` +
		`STATISTICS|SUBSCRIPTION|TABLE|TEXT SEARCH (?:CONFIGURATION|DICTIONARY|PARSER|TEMPLATE)|TRANSFORM|TRIGGER|TYPE|VIEW`
)

var (
	ofDump = regexp.MustCompile(`\A(?:` + strings.Join([]string{
		`SET SESSION AUTHORIZATION (?:DEFAULT|` + quotedName + `|'(?:[^'\\]|'')+') ?;`, `RESET SESSION AUTHORIZATION ?;`, `BEGIN ?;`, `COMMIT ?;`,
		`CREATE (?:OR REPLACE )?(?:UNIQUE |UNLOGGED |TRUSTED |DEFAULT |CONSTRAINT )?(?:` + objects + `)\b`,
		`ALTER (?:` + objects + `|DEFAULT PRIVILEGES|LARGE OBJECT)\b`, `DROP (?:` + objects + `)\b`,
		`COMMENT ON (?:` + objects + `|COLUMN|CONSTRAINT|LARGE OBJECT)\b`, `SECURITY LABEL FOR ` + quotedName + ` ON (?:` + objects + `|COLUMN|LARGE OBJECT)\b`,
		privileges + `(?:TABLE|SEQUENCE|FUNCTION|PROCEDURE|ROUTINE|LANGUAGE|SCHEMA|TYPE|DOMAIN|FOREIGN DATA WRAPPER|FOREIGN SERVER|LARGE OBJECT)\b`,
		`REFRESH MATERIALIZED VIEW\b`, `(?:CREATE|ALTER|DROP) USER MAPPING (?:IF EXISTS )?FOR\b`,
	}, "|") + `)`)
	// ofServer are those of such a form that change more than the database.
	ofServer = regexp.MustCompile(`\A(?:` + strings.Join([]string{
		`(?:CREATE|ALTER|DROP) (?:ROLE|GROUP|USER|TABLESPACE|SYSTEM)\b`, `COMMENT ON (?:ROLE|TABLESPACE)\b`,
		`SECURITY LABEL FOR ` + quotedName + ` ON (?:ROLE|TABLESPACE)\b`, privileges + `(?:TABLESPACE|PARAMETER)\b`,
	}, "|") + `)`)
	// userMapping is of the database, though it begins as a user does.
	userMapping = regexp.MustCompile(`\A(?:CREATE|ALTER|DROP) USER MAPPING (?:IF EXISTS )?FOR\b`)
	// ofDatabase are those about databases as a whole, which pg_dump -C writes.
	ofDatabase = regexp.MustCompile(`\A(?:` + strings.Join([]string{
		`(?:CREATE|ALTER|DROP) DATABASE\b`, `COMMENT ON DATABASE\b`, `SECURITY LABEL FOR ` + quotedName + ` ON DATABASE\b`,
		privileges + `DATABASE\b`, `ALTER ROLE ` + quotedName + ` IN DATABASE\b`, `UPDATE pg_catalog\.pg_database\b`,
	}, "|") + `)`)
	firstWords = regexp.MustCompile(`\A[A-Za-z]+(?: [A-Z]+){0,2}`)
)

// CheckStatement says what becomes of a statement. One that pg_dump does not write, or
// that acts on more than the database, is an error of KindIntegrity: COPY to and from
// programs and files, changes of roles, of the server's configuration, and code to be
// run at once are among them. What is in a function's body is content, and is not
// looked at, nor are the expressions of defaults, indexes and constraints, and what
// triggers and rules do: the server runs those as it loads the dump, with the rights of
// the restoring role.
//
// WholeDatabase allows those of pg_dump -C, which are left out.
func CheckStatement(st *dumpsql.Statement, wholeDatabase bool) (Judgement, error) {
	if st.Table != "" { // rows that are in the dump
		return Run, nil
	}
	s := normalised(st.SQL)
	distrust := "do not restore this dump: find out who wrote it"
	switch {
	case len(s.tokens) == 0: // a comment at its end
		return Run, nil
	case userMapping.MatchString(s.head):
		return Run, nil
	case ofDatabase.MatchString(s.head) && wholeDatabase:
		return LeaveOut, nil
	case ofDatabase.MatchString(s.head):
		return Run, pgmedic.Errorf(pgmedic.KindIntegrity, "if pg_dump -C wrote it, add --allow-connect: what it says of the database as a whole is then left out",
			"line %d of the dump changes a database as a whole (%s)", st.Line, s.words())
	case ofServer.MatchString(s.head):
		return Run, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "line %d of the dump changes the server and not the database (%s)", st.Line, s.words())
	}
	var written bool
	switch s.tokens[0].Text {
	case "SET":
		if unsafe := s.unsafeSetting(); unsafe != "" {
			return Run, pgmedic.Errorf(pgmedic.KindIntegrity, unsafe, "line %d of the dump makes the server read strings in another way than the checks do (%s)", st.Line, s.words())
		}
		written = ofDump.MatchString(s.head) || s.isSetting()
	case "SELECT":
		written = s.isCall()
	case "INSERT":
		written = s.isInsert()
	default:
		written = ofDump.MatchString(s.head) && s.runsNoQuery()
	}
	if !written {
		return Run, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "line %d of the dump is a statement that pg_dump does not write (%s)", st.Line, s.words())
	}
	return Run, nil
}

// statement is one of a dump, as the server's scanner reads it.
type statement struct {
	// head is its beginning, with one space for each comment and for white space
	// between tokens.
	head string
	// tokens are all but white space and comments, less the semicolon at the end.
	tokens []sqltext.Token
}

// maxHead is how much of a statement the patterns see: more than a kind, or the
// privileges of a GRANT, can take.
const maxHead = 4 << 10

func normalised(sql string) statement {
	var s statement
	var head strings.Builder
	space := false
	for sql != "" {
		token := sqltext.NextToken(sql)
		sql = sql[len(token.Text):]
		if token.Kind == sqltext.Space || token.Kind == sqltext.Comment {
			space = true
			continue
		}
		if head.Len() < maxHead {
			if space && head.Len() > 0 {
				head.WriteByte(' ')
			}
			head.WriteString(token.Text[:min(len(token.Text), maxHead)])
		}
		s.tokens, space = append(s.tokens, token), false
	}
	s.head = head.String()
	if n := len(s.tokens); n > 0 && s.tokens[n-1].Text == ";" {
		s.tokens = s.tokens[:n-1]
	}
	if len(s.tokens) == 0 && s.head != "" { // a lone semicolon
		s.tokens = []sqltext.Token{{Kind: sqltext.Mark, Text: ";"}}
	}
	return s
}

// words are the keywords that a statement begins with, which hold no data.
func (s statement) words() string {
	if w := firstWords.FindString(s.head); w != "" {
		return w
	}
	return "no keyword"
}

// settings are those that pg_dump sets for the session that loads its dump.
var settings = regexp.MustCompile(`\A(?:statement_timeout|lock_timeout|idle_in_transaction_session_timeout|transaction_timeout|client_encoding|` +
	`standard_conforming_strings|escape_string_warning|check_function_bodies|xmloption|client_min_messages|row_security|search_path|` +
	`default_tablespace|default_table_access_method|default_with_oids|default_transaction_read_only)\z`)

// isSetting reports whether the statement is SET name = value, with values that are
// literals or names.
func (s statement) isSetting() bool {
	r := reader{s.tokens[1:]}
	if !settings.MatchString(r.next().Text) || !r.word("=", "TO") {
		return false
	}
	for {
		if t := r.next(); t.Kind != sqltext.String && t.Kind != sqltext.Number && t.Kind != sqltext.Word && t.Kind != sqltext.QuotedName {
			return false
		}
		if r.done() {
			return true
		}
		if !r.word(",") {
			return false
		}
	}
}

// unsafeSetting returns what to do about a setting with which the server would find the
// ends of strings at other places: backslashes that escape in all strings, and encodings
// in which the byte of a backslash can be a part of a character. It is empty for others.
func (s statement) unsafeSetting() string {
	r := reader{s.tokens[1:]}
	switch name := strings.ToLower(r.next().Text); {
	case name == "standard_conforming_strings" && (!r.word("=", "TO") || !r.word("on") || !r.done()):
		return "dump the database again with standard_conforming_strings on: PGOPTIONS='-c standard_conforming_strings=on' pg_dump …"
	case name == "client_encoding" && (!r.word("=", "TO") || !dumpsql.IsServerEncoding(r.next().Text) || !r.done()):
		return "dump the database again in its own encoding: pg_dump without --encoding"
	}
	return ""
}

// calls are the functions that pg_dump calls, with their arguments: s for strings, n for
// numbers and booleans, and * for any number of either, with casts.
func calls(function string) (arguments string, known bool) {
	switch function {
	case "set_config":
		return "ssn", true
	case "setval":
		return "snn", true
	case "lo_create", "lo_unlink":
		return "s", true
	case "lo_open":
		return "sn", true
	case "lowrite":
		return "ns", true
	case "lo_close":
		return "n", true
	}
	return "", false
}

var statistics = regexp.MustCompile(`\Apg_(?:restore|clear)_(?:relation|attribute|extended)_stats\z`)

// isCall reports whether the statement is, as a whole, a call that pg_dump writes: of one
// of its functions, with arguments that are literals.
func (s statement) isCall() bool {
	r := reader{s.tokens[1:]}
	if r.word("*") {
		if !r.word("FROM") || !r.word("pg_catalog") || !r.word(".") || !statistics.MatchString(r.next().Text) {
			return false
		}
		_, ok := r.arguments()
		return ok && r.done()
	}
	if !r.word("pg_catalog") || !r.word(".") {
		return false
	}
	function := r.next().Text
	want, known := calls(function)
	if !known {
		return false
	}
	if function == "lo_unlink" && r.sequence("(", "oid", ")", "FROM", "pg_catalog", ".", "pg_largeobject_metadata", "WHERE", "oid", "=") { // of --if-exists
		return r.literal() != 0 && r.done()
	}
	first := sqltext.Token{}
	if len(r.tokens) > 1 {
		first = r.tokens[1]
	}
	if got, ok := r.arguments(); !ok || !r.done() || !sameArguments(got, want) {
		return false
	}
	return function != "set_config" || first.Text == "'search_path'"
}

// sameArguments compares what arguments are with what they should be. An object's number
// may be a string or a number; older versions write either.
func sameArguments(got, want string) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] && want[i] != 's' {
			return false
		}
	}
	return true
}

// isInsert reports whether the statement is INSERT INTO table (columns) with rows of
// literals, as pg_dump --inserts writes them.
func (s statement) isInsert() bool {
	r := reader{s.tokens[1:]}
	if !r.word("INTO") || !r.name() {
		return false
	}
	for r.word(".") {
		if !r.name() {
			return false
		}
	}
	if r.word("(") {
		for {
			if !r.name() {
				return false
			}
			if r.word(")") {
				break
			}
			if !r.word(",") {
				return false
			}
		}
	}
	if r.sequence("DEFAULT", "VALUES") {
		return r.insertEnds()
	}
	if !r.sequence("OVERRIDING", "SYSTEM", "VALUE", "VALUES") && !r.sequence("OVERRIDING", "USER", "VALUE", "VALUES") && !r.word("VALUES") {
		return false
	}
	for {
		if _, ok := r.arguments(); !ok {
			return false
		}
		if !r.word(",") {
			return r.insertEnds()
		}
	}
}

// insertEnds reports whether nothing follows, or what --on-conflict-do-nothing adds.
func (r *reader) insertEnds() bool {
	return r.done() || r.sequence("ON", "CONFLICT", "DO", "NOTHING") && r.done()
}

// runsNoQuery reports whether a statement that makes something is one that pg_dump writes
// in that it runs no query at once, connects to no other server, and holds no other
// statement.
func (s statement) runsNoQuery() bool {
	r := reader{s.tokens}
	switch {
	case r.sequence("CREATE", "SCHEMA"): // it could go on with statements of its own
		_ = r.sequence("IF", "NOT", "EXISTS")
		return r.name() && (r.done() || r.word("AUTHORIZATION") && r.name() && r.done())
	case r.sequence("CREATE", "SUBSCRIPTION"):
		return connectsNot(r.tokens)
	case r.sequence("ALTER", "SUBSCRIPTION"):
		return r.name() && r.sequence("OWNER", "TO") && r.name() && r.done()
	case r.sequence("CREATE", "MATERIALIZED", "VIEW"):
		last := reader{r.tokens[max(len(r.tokens)-3, 0):]}
		return last.sequence("WITH", "NO", "DATA")
	case r.sequence("CREATE", "TABLE"), r.sequence("CREATE", "UNLOGGED", "TABLE"):
		return !isQuery(r.tokens)
	case r.sequence("CREATE", "OR", "REPLACE"):
		return !r.word("TABLE") && !r.word("MATERIALIZED") && !r.word("SCHEMA") && !r.word("SUBSCRIPTION")
	}
	return true
}

// isQuery reports whether a CREATE TABLE has an AS that is not of a column.
func isQuery(tokens []sqltext.Token) bool {
	depth := 0
	for _, t := range tokens {
		switch {
		case t.Text == "(":
			depth++
		case t.Text == ")":
			depth--
		case depth == 0 && t.Kind == sqltext.Word && strings.EqualFold(t.Text, "AS"):
			return true
		}
	}
	return false
}

// connectsNot reports whether a subscription is made without asking its publisher.
func connectsNot(tokens []sqltext.Token) bool {
	for i, t := range tokens {
		if t.Text == "WITH" && t.Kind == sqltext.Word {
			r := reader{tokens[i+1:]}
			return r.sequence("(", "connect", "=", "false") && (r.word(",") || r.word(")"))
		}
	}
	return false
}

// reader takes tokens off the beginning of a statement.
type reader struct{ tokens []sqltext.Token }

func (r *reader) done() bool { return len(r.tokens) == 0 }

// next takes a token. Behind the last one it is empty.
func (r *reader) next() sqltext.Token {
	if r.done() {
		return sqltext.Token{}
	}
	t := r.tokens[0]
	r.tokens = r.tokens[1:]
	return t
}

// word takes a word or a mark, if it is one of these.
func (r *reader) word(texts ...string) bool {
	if r.done() || r.tokens[0].Kind == sqltext.QuotedName || r.tokens[0].Kind == sqltext.String {
		return false
	}
	for _, text := range texts {
		if r.tokens[0].Text == text {
			r.tokens = r.tokens[1:]
			return true
		}
	}
	return false
}

// sequence takes these words and marks, or nothing.
func (r *reader) sequence(texts ...string) bool {
	at := reader{r.tokens}
	for _, text := range texts {
		if !at.word(text) {
			return false
		}
	}
	*r = at
	return true
}

// name takes a name.
func (r *reader) name() bool {
	kind := r.next().Kind
	return kind == sqltext.Word || kind == sqltext.QuotedName
}

// arguments takes a list of literals in parentheses and returns the kind of each, as
// literal does.
func (r *reader) arguments() (kinds string, ok bool) {
	if !r.word("(") {
		return "", false
	}
	var all []byte
	for {
		kind := r.literal()
		if kind == 0 {
			return "", false
		}
		all = append(all, kind)
		if r.word(")") {
			return string(all), true
		}
		if !r.word(",") {
			return "", false
		}
	}
}

// literal takes a literal and returns s for a string, n for a number, a boolean, NULL and
// DEFAULT, and 0 for all else.
func (r *reader) literal() byte {
	signed := r.word("-", "+")
	kind := byte('n')
	switch t := r.next(); {
	case t.Kind == sqltext.Number:
	case t.Kind == sqltext.String && !signed:
		kind = 's'
	case t.Kind == sqltext.Word && !signed && (t.Text == "true" || t.Text == "false" || t.Text == "NULL" || t.Text == "DEFAULT"):
	default:
		return 0
	}
	// Statistics have casts, to types that have no code but the server's.
	if r.sequence(":", ":") {
		if !r.word("integer", "bigint", "real", "text", "boolean") {
			return 0
		}
		_ = r.sequence("[", "]")
	}
	return kind
}
