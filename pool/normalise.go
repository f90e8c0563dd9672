package pool

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLoggedSQL is how much of a statement is kept in logs and errors, in bytes.
const maxLoggedSQL = 2048

// Normalise returns a statement without what can be data: each literal a question
// mark, lists of them one, comments and white space a single space. It is what the
// pool logs, and what it tells statements apart by. Any text will do, cut off
// anywhere. Whatever can't be read for sure as SQL is left out: a literal that does
// not end takes the rest along, and so does a string whose end depends on a setting
// of the session, in whose place an ellipsis stands.
//
// What is kept: keywords, names, quoted ones too, operators and parameters ($1).
// Names are data in the value of a SET, as in SET app.patient = jane, which also
// ALTER ROLE, ALTER DATABASE and CREATE FUNCTION have, and are left out there.
func Normalise(sql string) string { return normaliseUpTo(sql, math.MaxInt) }

// normalise is Normalise for logs: of a long statement only the beginning.
func normalise(sql string) string { return normaliseUpTo(sql, maxLoggedSQL) }

func normaliseUpTo(sql string, limit int) string {
	var n normaliser
	for i := 0; i < len(sql) && len(n.out) < limit; {
		i = n.token(sql, i)
	}
	text := strings.TrimRight(string(n.out), " ;")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

type normaliser struct {
	out []byte
	// space is due before the next token, if there is one.
	space bool
	// last is the token before: a list of literals becomes one.
	last, beforeLast string
	// text is true if the token before is a literal: SQL joins the strings of
	// several lines.
	text bool
	// first is the statement's first word, in lower case; setting is true after the
	// SET of one that sets parameters, and value in what it sets them to.
	first          string
	setting, value bool
}

// token reads the token at i and returns where the next one begins.
func (n *normaliser) token(sql string, i int) int {
	c := sql[i]
	rest := sql[i:]
	switch {
	case strings.HasPrefix(rest, "--"):
		n.space = true
		if end := strings.IndexAny(rest, "\r\n"); end >= 0 {
			return i + end + 1
		}
		return len(sql)
	case strings.HasPrefix(rest, "/*"):
		n.space = true
		return i + comment(rest)
	case c == '\'':
		return i + n.plainString(rest)
	case c == '"':
		return i + n.quotedName(rest)
	case c == '$':
		return i + n.dollar(rest)
	case isDigit(c) || c == '.' && len(rest) > 1 && isDigit(rest[1]):
		n.literal()
		return i + number(rest)
	}
	r, size := utf8.DecodeRuneInString(rest)
	switch {
	case unicode.IsSpace(r) || r == 0 || r == utf8.RuneError && size == 1:
		n.space = true
		return i + size
	case isLetter(c):
		return i + n.word(rest, nameLength(rest))
	}
	n.punctuation(rest[:size])
	return i + size
}

// punctuation writes an operator or the like. After the = of a SET comes its value,
// and a semicolon ends all.
func (n *normaliser) punctuation(mark string) {
	switch {
	case mark == ";":
		n.first, n.setting, n.value = "", false, false
	case mark == "=" && n.setting:
		n.value = true
	case mark == "?" && n.inList():
		n.join() // of a text that was normalised before
		return
	}
	n.write(mark)
}

// word reads an identifier or a keyword, or the letter before a quote.
func (n *normaliser) word(rest string, size int) int {
	lower := strings.ToLower(rest[:size])
	if size < len(rest) && rest[size] == '\'' {
		switch lower {
		case "b", "x", "n":
			return size + n.plainString(rest[size:])
		case "e":
			n.literal()
			return size + quoted(rest[size:], '\'', true)
		}
	}
	if strings.HasPrefix(rest[size:], "&'") && lower == "u" {
		n.literal()
		return size + 1 + quoted(rest[size+1:], '\'', false)
	}
	if n.value {
		n.literal()
		return size
	}
	if n.first == "" {
		n.first = lower
	}
	switch {
	case lower == "set" && (n.first == "set" || n.first == "alter" || n.first == "create"):
		n.setting = true
	case lower == "to" && n.setting:
		n.value = true
	}
	n.write(rest[:size])
	return size
}

// quotedName writes a name in quotes, unless it is a value.
func (n *normaliser) quotedName(rest string) int {
	end := quoted(rest, '"', false)
	if n.value {
		n.literal()
	} else {
		n.write(rest[:end])
	}
	return end
}

// plainString reads a string without an E before it. Whether a backslash is an
// escape in it depends on standard_conforming_strings: where its end depends on
// that, all the rest is left out.
func (n *normaliser) plainString(rest string) int {
	n.literal()
	end := quoted(rest, '\'', false)
	if end != quoted(rest, '\'', true) {
		n.write("…")
		return len(rest)
	}
	return end
}

// dollar reads a parameter or a dollar-quoted string.
func (n *normaliser) dollar(rest string) int {
	end := 1
	for end < len(rest) && isDigit(rest[end]) {
		end++
	}
	if end > 1 {
		n.write(rest[:end])
		return end
	}
	tag := 1
	for tag < len(rest) && rest[tag] != '$' && (isLetter(rest[tag]) || isDigit(rest[tag])) {
		tag++
	}
	switch {
	case tag == len(rest) && tag > 1: // a tag that was cut off
		n.literal()
		return tag
	case tag < len(rest) && rest[tag] == '$':
		n.literal()
		if end := strings.Index(rest[tag+1:], rest[:tag+1]); end >= 0 {
			return tag + 1 + end + tag + 1
		}
		return len(rest)
	}
	n.write("$")
	return 1
}

// literal writes a question mark, unless it belongs to the one before: in a list, or
// as the next part of a string.
func (n *normaliser) literal() {
	switch {
	case n.text:
		n.space = false
	case n.inList():
		n.join()
	default:
		n.write("?")
	}
	n.text = true
}

// inList says whether a literal and a comma come before.
func (n *normaliser) inList() bool { return n.last == "," && n.beforeLast == "?" }

// join takes one more literal into a list, whose comma is written already.
func (n *normaliser) join() {
	n.last, n.beforeLast = "?", ""
	n.space = false
	n.out = n.out[:len(n.out)-len(",")]
}

func (n *normaliser) write(token string) {
	if n.space && len(n.out) > 0 {
		n.out = append(n.out, ' ')
	}
	n.space, n.text = false, false
	n.out = append(n.out, token...)
	n.beforeLast, n.last = n.last, token
}

// quoted returns the length of a string that begins with its quote; a doubled
// quote does not end it, nor, with escapes, one after a backslash.
func quoted(text string, quote byte, escapes bool) int {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] == quote && i+1 < len(text) && text[i+1] == quote:
			i++
		case text[i] == quote:
			return i + 1
		}
	}
	return len(text)
}

// comment returns the length of a comment, which may hold others.
func comment(text string) int {
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

// number returns the length of a number: digits, letters, points and the sign
// of an exponent; 0x1F and 1_000 are numbers, too.
func number(text string) int {
	for i := 1; i < len(text); i++ {
		c := text[i]
		exponent := (c == '+' || c == '-') && (text[i-1] == 'e' || text[i-1] == 'E')
		if !isDigit(c) && c != '.' && !isLetter(c) && !exponent {
			return i
		}
	}
	return len(text)
}

// nameLength returns the length of the name that a text begins with.
func nameLength(text string) int {
	for i := range len(text) {
		if c := text[i]; !isLetter(c) && (i == 0 || !isDigit(c) && c != '$') {
			return i
		}
	}
	return len(text)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isLetter takes every byte beyond ASCII for a letter, as PostgreSQL does.
func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
