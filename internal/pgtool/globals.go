package pgtool

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/pgmedic/pgmedic"
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
}

// maxGlobals bounds what is read of a server's roles: a hundred bytes each.
const maxGlobals = 64 << 20

// serverEncoding matches the encodings that a database can have. The others are
// for clients only: there a character may end in the byte of a quote or a
// backslash, so that the server would find other statements than we.
var serverEncoding = regexp.MustCompile(`\A'(SQL_ASCII|UTF8|MULE_INTERNAL|EUC_(JP|CN|KR|TW|JIS_2004)|LATIN([1-9]|10)|ISO_8859_[5-8]|WIN(125[0-8]|866|874)|KOI8[RU])'\z`)

// ReadGlobals reads what pg_dumpall --globals-only wrote. Statements of other
// kinds, psql's commands among them, are left out. Settings are for the session
// that runs the statements, so that the server reads them as they were read here:
// the script's encoding, which must be one that a database can have, and what a
// backslash means in a string. Where it means anything pg_dumpall writes E'…'.
func ReadGlobals(r io.Reader) (statements []GlobalStatement, settings []string, err error) {
	text, err := io.ReadAll(io.LimitReader(r, maxGlobals+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxGlobals {
		return nil, nil, errors.New("the list of roles is too long to be one")
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, nil, errors.New("the list of roles holds a zero byte")
	}
	settings = []string{"SET standard_conforming_strings = on"}
	for _, tokens := range splitSQL(string(text)) {
		if tokens.is(0, "SET", "client_encoding", "=") {
			if len(tokens.tokens) != 4 || !serverEncoding.MatchString(tokens.at(3)) {
				return nil, nil, pgmedic.Errorf(pgmedic.KindIntegrity, distrust, "the list of roles is in an encoding that pg_dumpall does not write")
			}
			settings = append(settings, tokens.sql())
			continue
		}
		if s, known := tokens.global(); known {
			statements = append(statements, s)
		}
	}
	return statements, settings, nil
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
		g.Roles = []string{s.at(to + 1)}
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

// splitSQL cuts a script into statements. Comments, psql's commands and a last
// statement without its semicolon are left out.
func splitSQL(text string) []sqlTokens {
	var all []sqlTokens
	now := sqlTokens{source: text}
	for i := 0; i < len(text); {
		start := i
		switch c := text[i]; {
		case c == ';':
			if len(now.tokens) > 0 {
				all = append(all, now)
			}
			now = sqlTokens{source: text}
			i++
			continue
		case strings.HasPrefix(text[i:], "--"), c == '\\' && len(now.tokens) == 0:
			i += lineLength(text[i:])
			continue
		case c == ' ', c == '\t', c == '\n', c == '\r':
			i++
			continue
		case c == '"':
			i += quotedLength(text[i:], '"', false)
			name := strings.TrimSuffix(text[start+1:i], `"`)
			name = strings.ReplaceAll(name, `""`, `"`)
			now.tokens = append(now.tokens, sqlToken{text: name, quoted: true, start: start, end: i})
			continue
		case c == '\'':
			i += quotedLength(text[i:], '\'', false)
		case (c == 'E' || c == 'e') && strings.HasPrefix(text[i+1:], "'"):
			i += 1 + quotedLength(text[i+1:], '\'', true)
		case wordByte(c):
			for i < len(text) && wordByte(text[i]) {
				i++
			}
		default:
			i++
		}
		now.tokens = append(now.tokens, sqlToken{text: text[start:i], start: start, end: i})
	}
	return all
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func lineLength(s string) int {
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		return n
	}
	return len(s)
}

// quotedLength is how long the string or name is with which s begins. A doubled
// quote is part of it.
func quotedLength(s string, quote byte, backslashes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case backslashes && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return len(s)
}
