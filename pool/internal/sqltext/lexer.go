// Package sqltext reads and writes SQL as text: quoting, the lexer, statements
// without their literals, and the patterns that name tables.
//
// The pool is a module of its own and has a copy of lexer.go and normalise.go.
package sqltext

import "strings"

// TokenKind says what a token is.
type TokenKind int

// The kinds of tokens.
const (
	// Space is white space, or a zero byte, which ends PostgreSQL's texts.
	Space TokenKind = iota
	// Comment is one to the end of its line, or one between marks, with those in it.
	Comment
	// Word is a keyword or a name without quotes.
	Word
	// QuotedName is a name in double quotes.
	QuotedName
	// String is a string of any kind, with its prefix: '…', E'…', B'…', X'…', N'…',
	// U&'…' and $tag$…$tag$.
	String
	// Number is a number without its sign: 1, 1.5e-3, 0x1F, 1_000.
	Number
	// Parameter is $1 and so on.
	Parameter
	// Mark is one character of an operator or of punctuation.
	Mark
)

// Token is the smallest part of an SQL text.
type Token struct {
	Kind TokenKind
	// Text is the token as it is written.
	Text string
	// Unsure is true for a string whose end depends on standard_conforming_strings:
	// Text ends where it does if that is on.
	Unsure bool
}

// NextToken returns the token that a text begins with, as PostgreSQL's scan.l reads
// it. What is not closed goes on to the end of the text, so that any text will do,
// cut off anywhere. An empty text has no token.
func NextToken(sql string) Token {
	if sql == "" {
		return Token{}
	}
	token := func(kind TokenKind, size int) Token { return Token{Kind: kind, Text: sql[:size]} }
	switch c := sql[0]; {
	case isSpace(c):
		return token(Space, 1)
	case strings.HasPrefix(sql, "--"):
		if end := strings.IndexAny(sql, "\r\n"); end >= 0 {
			return token(Comment, end)
		}
		return token(Comment, len(sql))
	case strings.HasPrefix(sql, "/*"):
		return token(Comment, commentSize(sql))
	case c == '\'':
		return plainString(sql, 0)
	case c == '"':
		size, _ := quotedSize(sql, '"', false)
		return token(QuotedName, size)
	case c == '$':
		return dollar(sql)
	case isDigit(c) || c == '.' && len(sql) > 1 && isDigit(sql[1]):
		return token(Number, numberSize(sql))
	case isNameStart(c):
		return word(sql)
	}
	return token(Mark, 1)
}

// word reads a word, or the string whose prefix it is.
func word(sql string) Token {
	size := nameSize(sql)
	rest := sql[size:]
	if strings.HasPrefix(rest, "'") {
		switch sql[:size] {
		case "e", "E":
			more, _ := quotedSize(rest, '\'', true)
			return Token{Kind: String, Text: sql[:size+more]}
		case "b", "B", "x", "X", "n", "N":
			return plainString(sql, size)
		}
	}
	if strings.HasPrefix(rest, "&'") && (sql[:size] == "u" || sql[:size] == "U") {
		return plainString(sql, size+1)
	}
	return Token{Kind: Word, Text: sql[:size]}
}

// plainString reads a string whose quote is at a place. Whether a backslash is an
// escape in it depends on a setting of the session. The other reading goes no further
// than this one, so that the time for a text grows with its length only.
func plainString(sql string, at int) Token {
	size, _ := quotedSize(sql[at:], '\'', false)
	escaped, closed := quotedSize(sql[at:at+size], '\'', true)
	goesOn := !closed && at+size < len(sql)
	return Token{Kind: String, Text: sql[:at+size], Unsure: escaped != size || goesOn}
}

// dollar reads a parameter, a string in dollar quotes or a lone dollar.
func dollar(sql string) Token {
	end := 1
	for end < len(sql) && isDigit(sql[end]) {
		end++
	}
	if end > 1 {
		return Token{Kind: Parameter, Text: sql[:end]}
	}
	for end < len(sql) && (isNameStart(sql[end]) || isDigit(sql[end])) {
		end++
	}
	switch {
	case end == len(sql) && end > 1: // a tag that was cut off
		return Token{Kind: String, Text: sql}
	case end < len(sql) && sql[end] == '$':
		tag := sql[:end+1]
		if at := strings.Index(sql[len(tag):], tag); at >= 0 {
			return Token{Kind: String, Text: sql[:len(tag)+at+len(tag)]}
		}
		return Token{Kind: String, Text: sql}
	}
	return Token{Kind: Mark, Text: "$"}
}

// quotedSize is how long the string or the name is that begins with its quote, and
// whether it has its end. A doubled quote does not end it, nor, with escapes, one
// after a backslash.
func quotedSize(text string, quote byte, escapes bool) (size int, closed bool) {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == quote && i+1 < len(text) && text[i+1] == quote:
			i++
		case text[i] == quote:
			return i + 1, true
		}
	}
	return len(text), false
}

// commentSize is how long a comment is, which may hold others.
func commentSize(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// numberSize is how long a number is: digits, letters, points and the sign of an
// exponent.
func numberSize(text string) int {
	for i := 1; i < len(text); i++ {
		c := text[i]
		exponent := (c == '+' || c == '-') && (text[i-1] == 'e' || text[i-1] == 'E')
		if !isDigit(c) && c != '.' && !isNameStart(c) && !exponent {
			return i
		}
	}
	return len(text)
}

// nameSize is how long a name without quotes is.
func nameSize(text string) int {
	size := 0
	for size < len(text) && (isNameStart(text[size]) || size > 0 && (isDigit(text[size]) || text[size] == '$')) {
		size++
	}
	return size
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isNameStart takes every byte beyond ASCII for a letter, as PostgreSQL does.
func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
