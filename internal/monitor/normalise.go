package monitor

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Normalise writes an SQL statement without what can be data: literals become
// ?, comments and line breaks a space. It takes any text, cut off anywhere, and
// errs towards hiding: a literal that doesn't end hides the rest, and so does a
// string whose end depends on a setting of the session. pg_stat_statements
// keeps the literals of utility statements, so its texts need this too.
//
// What is kept: keywords, names (quoted ones too, except where SET takes one
// for a value), operators and parameters ($1).
func Normalise(text string) string {
	l := lexer{rest: text}
	for l.rest != "" {
		l.next()
	}
	return strings.TrimSpace(l.out.String())
}

// lexer reads SQL as PostgreSQL's scan.l does, as far as needed to tell
// literals from the rest.
type lexer struct {
	rest string
	out  strings.Builder
	// first is the statement's first keyword, in lower case.
	first string
	// setting is true after the SET of a statement that sets parameters, and
	// value within what it sets them to, where names are data too.
	setting, value bool
	// space is true where a gap is to be written before the next token.
	space bool
	// data is true in a COPY from the client: rows may follow its semicolon.
	data bool
	// lastLiteral is true where the last thing written was a ?.
	lastLiteral bool
}

// next takes one token off the rest.
func (l *lexer) next() {
	s := l.rest
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case unicode.IsSpace(r) || r == 0 || r == utf8.RuneError && size == 1:
		l.space, l.rest = true, s[size:]
	case strings.HasPrefix(s, "--"):
		l.space = true
		if i := strings.IndexAny(s, "\r\n"); i >= 0 {
			l.rest = s[i:]
		} else {
			l.rest = ""
		}
	case strings.HasPrefix(s, "/*"):
		l.space, l.rest = true, afterComment(s)
	case r == '\'':
		l.literal(afterString(s, false))
	case r == '"':
		l.quotedName(s)
	case r == '$':
		l.dollar()
	case isDigit(r) || r == '.' && len(s) > 1 && isDigit(rune(s[1])):
		l.literal(afterNumber(s))
	case isNameStart(r):
		l.name()
	default:
		l.operator(r, size)
	}
}

// put writes a token, after a gap if there was one.
func (l *lexer) put(token string) {
	if l.space && l.out.Len() > 0 {
		l.out.WriteByte(' ')
	}
	l.space, l.lastLiteral = false, false
	l.out.WriteString(token)
}

// literal writes ? for a literal, once for parts that SQL joins.
func (l *lexer) literal(rest string) {
	if !l.lastLiteral {
		l.put("?")
	}
	l.lastLiteral, l.space, l.rest = true, false, rest
	// What follows a literal stands apart from it, as it did.
	if r, _ := utf8.DecodeRuneInString(rest); unicode.IsSpace(r) {
		l.space = true
	}
}

// operator writes punctuation. After the = of a SET comes its value, and a
// semicolon ends all.
func (l *lexer) operator(r rune, size int) {
	switch {
	case r == ';' && l.data:
		l.put(";")
		l.rest = ""
		return
	case r == ';':
		l.first, l.setting, l.value = "", false, false
	case r == '=' && l.setting:
		l.value = true
	}
	l.put(l.rest[:size])
	l.rest = l.rest[size:]
}

// name writes a keyword or a name, or takes the string that it is the prefix
// of: E'…', B'…', X'…', N'…' and U&'…'.
func (l *lexer) name() {
	end := strings.IndexFunc(l.rest, func(r rune) bool { return !isNamePart(r) })
	if end < 0 {
		end = len(l.rest)
	}
	word, rest := l.rest[:end], l.rest[end:]
	lower := strings.ToLower(word)
	switch {
	case strings.HasPrefix(rest, "'") && (lower == "e" || lower == "b" || lower == "x" || lower == "n"):
		l.literal(afterString(rest, lower == "e"))
		return
	case lower == "u" && strings.HasPrefix(rest, "&'"):
		l.literal(afterString(rest[1:], false))
		return
	case l.value:
		l.literal(rest)
		return
	}
	if l.first == "" {
		l.first = lower
	}
	switch {
	case lower == "set" && (l.first == "set" || l.first == "alter" || l.first == "create"):
		l.setting = true
	case lower == "to" && l.setting:
		l.value = true
	case lower == "stdin" && l.first == "copy":
		l.data = true
	}
	l.put(word)
	l.rest = rest
}

// quotedName writes a name in quotes, or hides it where it is a value.
func (l *lexer) quotedName(s string) {
	rest := afterQuote(s, '"')
	if l.value {
		l.literal(rest)
		return
	}
	l.put(s[:len(s)-len(rest)])
	l.rest = rest
}

// dollar writes a parameter, or hides a string in dollar quotes: the body of a
// DO, or data.
func (l *lexer) dollar() {
	s := l.rest
	end := 1
	for end < len(s) && isDigit(rune(s[end])) {
		end++
	}
	if end > 1 {
		l.put(s[:end])
		l.rest = s[end:]
		return
	}
	tag := strings.IndexFunc(s[1:], func(r rune) bool { return !isNamePart(r) || r == '$' })
	if tag < 0 {
		// A tag that was cut off: what it begins is not there.
		l.literal("")
		return
	}
	if s[1+tag] != '$' {
		l.put("$")
		l.rest = s[1:]
		return
	}
	quote := s[:tag+2]
	_, rest, _ := strings.Cut(s[len(quote):], quote)
	l.literal(rest)
}

// afterString returns what follows a string in single quotes. Backslashes
// escape in E'…' and, where standard_conforming_strings is off, everywhere: a
// plain string that a backslash might continue is taken to hide the rest.
func afterString(s string, escapes bool) string {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if escapes {
				i++
			} else if i+1 < len(s) && s[i+1] == '\'' {
				return ""
			}
		case '\'':
			if i+1 < len(s) && s[i+1] == '\'' {
				i++
				continue
			}
			return s[i+1:]
		}
	}
	return ""
}

// afterQuote returns what follows a token in quotes that doubles them within.
func afterQuote(s string, quote byte) string {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return s[i+1:]
	}
	return ""
}

// afterComment returns what follows a comment, which may hold others.
func afterComment(s string) string {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return s[i+1:]
			}
		}
	}
	return ""
}

// afterNumber returns what follows a number: 1, 1.5e-3, 0x1F, 1_000.
func afterNumber(s string) string {
	for i, r := range s {
		sign := (r == '+' || r == '-') && i > 0 && (s[i-1] == 'e' || s[i-1] == 'E')
		if r != '.' && !isNamePart(r) && !sign {
			return s[i:]
		}
	}
	return ""
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// isNameStart takes every character beyond ASCII for a letter, as PostgreSQL
// does.
func isNameStart(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80
}

func isNamePart(r rune) bool { return isNameStart(r) || isDigit(r) || r == '$' }
