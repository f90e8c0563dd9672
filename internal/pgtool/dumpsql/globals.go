package dumpsql

import (
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// GlobalStatement is one statement of pg_dumpall --globals-only that makes or
// changes a role or a tablespace.
type GlobalStatement struct {
	// SQL is the statement, without its semicolon. It may hold a password's hash.
	SQL string
	// Creates is true for CREATE ROLE and CREATE TABLESPACE.
	Creates bool
	// Roles are those that the statement is about: one, or, for a membership, the
	// group and the member. None for a statement about a tablespace.
	Roles []string
	// Membership is true for GRANT role TO role. Who granted it is left out: there
	// that role may have no right to, or not be.
	Membership bool
	// Tablespace is the one that the statement is about.
	Tablespace string
	// Superuser is true where it makes its role a superuser.
	Superuser bool
	// Powers are what it lets its role do beyond the role's own databases: the attributes
	// CREATEROLE, BYPASSRLS and REPLICATION, and PARAMETER for a privilege on a setting.
	Powers []string
	// Provider is that of a security label, whose library the server must have
	// loaded.
	Provider string
}

// GlobalsScript is what pg_dumpall --globals-only wrote.
type GlobalsScript struct {
	Statements []GlobalStatement
	// Settings are the script's own, such as its encoding, for the session that runs
	// the statements.
	Settings []string
	// Unknown names what is in the script besides and is not run, each kind once, by
	// the words that it begins with.
	Unknown []string
}

// maxGlobals bounds what is read of a server's roles: a hundred bytes each.
const maxGlobals = 24 << 20

// maxGlobalStatements and maxGlobalTokens bound what is held of them: a server has
// fewer roles, and a statement fewer words. maxUnknown is how many kinds of others
// are named.
const maxGlobalStatements, maxGlobalTokens, maxUnknown = 250_000, 10_000, 100

func errManyGlobals() error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore from another backup, or without --globals", "the list of roles is too long to be one")
}

// serverEncoding matches the encodings that a database can have. The others are
// for clients only: there a character may end in the byte of a quote or a
// backslash, so that the server would find other statements than we.
var serverEncoding = regexp.MustCompile(`\A'(SQL_ASCII|UTF8|MULE_INTERNAL|EUC_(JP|CN|KR|TW|JIS_2004)|LATIN([1-9]|10)|ISO_8859_[5-8]|WIN(125[0-8]|866|874)|KOI8[RU])'\z`)

// IsServerEncoding reports whether a literal in quotes names an encoding that a database
// can have. In the others, which are for clients only, a text can't be read byte by byte.
func IsServerEncoding(literal string) bool { return serverEncoding.MatchString(literal) }

// ReadGlobals reads what pg_dumpall --globals-only wrote. Of statements of other
// kinds, psql's commands among them, nothing is run, and all are named. Settings
// are for the session that runs the statements, so that the server reads them as
// they were read here: the script's encoding, which must be one that a database can
// have, and what a backslash means in a string. Where it means anything pg_dumpall
// writes E'…'.
func ReadGlobals(r io.Reader) (script GlobalsScript, err error) { return readGlobals(r, false) }

// ReadClusterGlobals is ReadGlobals of what pg_dumpall wrote of a whole server: it reads
// what comes before the databases, which begin at the first \connect behind a role or a
// tablespace. Older versions write one before, too.
func ReadClusterGlobals(r io.Reader) (script GlobalsScript, err error) { return readGlobals(r, true) }

func readGlobals(r io.Reader, cluster bool) (script GlobalsScript, err error) {
	text := &strings.Builder{}
	if _, err := io.Copy(text, io.LimitReader(r, maxGlobals+1)); err != nil {
		return script, err
	}
	if text.Len() > maxGlobals && !cluster {
		return script, errManyGlobals()
	}
	if strings.IndexByte(text.String(), 0) >= 0 {
		return script, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the list of roles holds a zero byte")
	}
	script.Settings = []string{"SET standard_conforming_strings = on"}
	unknown := func(words string) {
		if len(script.Unknown) < maxUnknown && !slices.Contains(script.Unknown, words) {
			script.Unknown = append(script.Unknown, words)
		}
	}
	ended := false
	command := func(name string) {
		switch name {
		case `\connect`:
			ended = ended || cluster && len(script.Statements) > 0
		case `\restrict`, `\unrestrict`: // for psql alone
		default:
			if cluster && name == `\encoding` { // ahead of a \connect
				return
			}
			unknown("a command of psql")
		}
	}
	for tokens, finished := range splitSQL(text.String(), command) {
		if ended {
			return script, nil
		}
		if len(tokens.tokens) > maxGlobalTokens || len(script.Statements)+len(script.Settings) > maxGlobalStatements {
			return script, errManyGlobals()
		}
		if !finished {
			unknown("a statement that is not finished: " + tokens.beginning())
			continue
		}
		if tokens.is(0, "SET", "client_encoding", "=") {
			if len(tokens.tokens) != 4 || !IsServerEncoding(tokens.at(3)) {
				return script, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the list of roles is in an encoding that pg_dumpall does not write")
			}
			script.Settings = append(script.Settings, tokens.sql())
			continue
		}
		// Of the session, which can write; and of databases, whose own backups have it.
		if tokens.is(0, "SET", "default_transaction_read_only") || tokens.is(0, "SET", "standard_conforming_strings") || tokens.is(0, "ALTER", "ROLE") && tokens.is(3, "IN", "DATABASE") {
			continue
		}
		// Of the databases, which --clean and versions before 11 write among the roles, and what
		// --clean drops.
		if cluster && (otherDatabase.MatchString(tokens.sql()+";") || tokens.is(0, "DROP", "ROLE") || tokens.is(0, "DROP", "TABLESPACE")) {
			continue
		}
		if s, known := tokens.global(); known {
			script.Statements = append(script.Statements, s)
		} else {
			unknown(tokens.beginning())
		}
	}
	if text.Len() > maxGlobals && !ended {
		return script, errManyGlobals()
	}
	return script, nil
}

// sqlToken is a word, a quoted name, a string or a sign, with where it is.
type sqlToken struct {
	text       string // of a quoted name what it means, else as it is written
	quoted     bool
	start, end int
}

// sqlTokens are those of one statement.
type sqlTokens struct {
	source string
	tokens []sqlToken
}

func (s sqlTokens) sql() string {
	if len(s.tokens) == 0 {
		return ""
	}
	return s.source[s.tokens[0].start:s.tokens[len(s.tokens)-1].end]
}

// is reports whether the tokens from i on are these keywords.
func (s sqlTokens) is(i int, words ...string) bool {
	for n, word := range words {
		if i+n >= len(s.tokens) || s.tokens[i+n].quoted || s.tokens[i+n].text != word {
			return false
		}
	}
	return true
}

// beginning is the first of a statement's keywords: what they are about may be a
// secret.
func (s sqlTokens) beginning() string {
	var words []string
	for _, t := range s.tokens {
		if t.quoted || len(words) == 3 || strings.Trim(t.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			break
		}
		words = append(words, t.text)
	}
	if len(words) == 0 {
		return "a statement of an unknown kind"
	}
	return strings.Join(words, " ")
}

func (s sqlTokens) at(i int) string {
	if i >= len(s.tokens) {
		return ""
	}
	return s.tokens[i].text
}

// global says what a statement is about, if pg_dumpall writes such ones.
func (s sqlTokens) global() (g GlobalStatement, known bool) {
	g.SQL = s.sql()
	switch {
	case s.is(0, "CREATE", "ROLE") && len(s.tokens) == 3:
		g.Creates, g.Roles = true, []string{s.at(2)}
	case s.is(0, "ALTER", "ROLE") && (s.is(3, "WITH") || s.is(3, "SET")), s.is(0, "COMMENT", "ON", "ROLE"):
		g.Roles = []string{s.at(2)}
		if s.is(0, "COMMENT") {
			g.Roles = []string{s.at(3)}
		}
		for i := range s.tokens {
			if i <= 3 || !s.is(3, "WITH") {
				continue
			}
			g.Superuser = g.Superuser || s.is(i, "SUPERUSER")
			for _, attribute := range []string{"CREATEROLE", "BYPASSRLS", "REPLICATION"} {
				if s.is(i, attribute) {
					g.Powers = append(g.Powers, attribute)
				}
			}
		}
	case s.is(0, "GRANT") && s.is(2, "TO"):
		g.Membership, g.Roles = true, []string{s.at(1), s.at(3)}
		if n := len(s.tokens) - 3; n > 3 && s.is(n, "GRANTED", "BY") {
			g.SQL = s.source[s.tokens[0].start:s.tokens[n-1].end]
		}
	case s.is(0, "GRANT", "SET", "ON", "PARAMETER"), s.is(0, "GRANT", "ALTER", "SYSTEM", "ON", "PARAMETER"), s.is(0, "GRANT", "ALL", "ON", "PARAMETER"):
		to := len(s.tokens) - 1
		for to > 4 && !s.is(to, "TO") {
			to--
		}
		g.Roles, g.Powers = []string{s.at(to + 1)}, []string{"PARAMETER"}
	case s.is(0, "SECURITY", "LABEL", "FOR") && s.is(4, "ON", "ROLE"):
		g.Provider, g.Roles = s.at(3), []string{s.at(6)}
	case s.is(0, "SECURITY", "LABEL", "FOR") && s.is(4, "ON", "TABLESPACE"):
		g.Provider, g.Tablespace = s.at(3), s.at(6)
	case s.is(0, "CREATE", "TABLESPACE"):
		g.Creates, g.Tablespace = true, s.at(2)
	case s.is(0, "ALTER", "TABLESPACE"):
		g.Tablespace = s.at(2)
	case s.is(0, "COMMENT", "ON", "TABLESPACE"):
		g.Tablespace = s.at(3)
	case s.is(0, "GRANT", "CREATE", "ON", "TABLESPACE"), s.is(0, "GRANT", "ALL", "ON", "TABLESPACE"), s.is(0, "REVOKE", "ALL", "ON", "TABLESPACE"):
		g.Tablespace = s.at(4)
	default:
		return g, false
	}
	return g, true
}

// splitSQL cuts a script into statements, and says whether each has its semicolon.
// command is called with the first word of each of psql's commands. Comments are
// left out. Of a statement that has too many tokens it gives the beginning, and
// nothing more.
func splitSQL(text string, command func(name string)) iter.Seq2[sqlTokens, bool] {
	return func(yield func(sqlTokens, bool) bool) { cutSQL(text, command, yield) }
}

func cutSQL(text string, command func(string), yield func(sqlTokens, bool) bool) {
	now := sqlTokens{source: text}
	for i := 0; i < len(text) && len(now.tokens) <= maxGlobalTokens; {
		start := i
		if text[i] == '\\' && len(now.tokens) == 0 {
			i += lineLength(text[i:])
			name, _, _ := strings.Cut(strings.TrimRight(text[start:i], "\r"), " ")
			command(name)
			continue
		}
		token := sqltext.NextToken(text[i:])
		i += len(token.Text)
		switch {
		case token.Kind == sqltext.Space || token.Kind == sqltext.Comment:
		case token.Text == ";":
			if len(now.tokens) > 0 && !yield(now, true) {
				return
			}
			now = sqlTokens{source: text}
		case token.Kind == sqltext.QuotedName:
			name := strings.TrimSuffix(token.Text[1:], `"`)
			name = strings.ReplaceAll(name, `""`, `"`)
			now.tokens = append(now.tokens, sqlToken{text: name, quoted: true, start: start, end: i})
		default:
			now.tokens = append(now.tokens, sqlToken{text: token.Text, start: start, end: i})
		}
	}
	if len(now.tokens) > 0 {
		yield(now, false)
	}
}

func lineLength(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}
