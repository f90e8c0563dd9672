package pool

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLoggedSQL is how much of a statement is kept, in bytes.
const maxLoggedSQL = 2048

// normalise returns a statement without its literals and comments, each literal
// a question mark, lists of them one, and white space single: what is logged and
// what statements are told apart by. Whatever can't be read for sure as SQL, such
// as a string that does not end, is left out: a literal is never kept.
func normalise(sql string) string {
	var n normaliser
	for i := 0; i < len(sql) && len(n.out) < maxLoggedSQL; {
		i = n.token(sql, i)
	}
	text := strings.TrimRight(string(n.out), " ;")
	if len(text) > maxLoggedSQL {
		text = strings.ToValidUTF8(text[:maxLoggedSQL], "") + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

type normaliser struct {
	out []byte
	// space is due before the next token, if there is one.
	space bool
	// last is the token before: a list of literals becomes one.
	last, beforeLast string
}

// token reads the token at i and returns where the next one begins.
func (n *normaliser) token(sql string, i int) int {
	c := sql[i]
	rest := sql[i:]
	switch {
	case isSpace(c):
		n.space = true
		return i + 1
	case strings.HasPrefix(rest, "--"):
		n.space = true
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			return i + end + 1
		}
		return len(sql)
	case strings.HasPrefix(rest, "/*"):
		n.space = true
		return i + comment(rest)
	case c == '\'':
		return i + n.plainString(rest)
	case c == '"':
		end := quoted(rest, '"', false)
		n.write(rest[:end])
		return i + end
	case c == '$':
		return i + n.dollar(rest)
	case isDigit(c) || c == '.' && len(rest) > 1 && isDigit(rest[1]):
		n.literal()
		return i + number(rest)
	}
	if size := wordLength(rest, true); size > 0 {
		return i + n.word(rest, size)
	}
	_, size := utf8.DecodeRuneInString(rest)
	n.write(rest[:size])
	return i + size
}

// word reads an identifier or a keyword, or the letter before a quote.
func (n *normaliser) word(rest string, size int) int {
	if size < len(rest) && rest[size] == '\'' {
		switch strings.ToLower(rest[:size]) {
		case "e", "b", "x", "n":
			if rest[0] != 'e' && rest[0] != 'E' {
				return size + n.plainString(rest[size:])
			}
			n.literal()
			return size + quoted(rest[size:], '\'', true)
		}
	}
	if strings.HasPrefix(rest[size:], "&'") && strings.EqualFold(rest[:size], "u") {
		n.literal()
		return size + 1 + quoted(rest[size+1:], '\'', false)
	}
	n.write(rest[:size])
	return size
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
	if len(rest) > 1 && isDigit(rest[1]) {
		end := 1
		for end < len(rest) && isDigit(rest[end]) {
			end++
		}
		n.write(rest[:end])
		return end
	}
	tag := 1 + wordLength(rest[1:], false)
	if tag < len(rest) && rest[tag] == '$' {
		n.literal()
		if end := strings.Index(rest[tag+1:], rest[:tag+1]); end >= 0 {
			return tag + 1 + end + tag + 1
		}
		return len(rest)
	}
	n.write("$")
	return 1
}

// literal writes a question mark, unless it follows another one in a list.
func (n *normaliser) literal() {
	if n.last == "," && n.beforeLast == "?" {
		// The comma is written already: a list of literals ends with it.
		n.last, n.beforeLast = "?", ""
		n.space = false
		n.out = n.out[:len(n.out)-len(",")]
		return
	}
	n.write("?")
}

func (n *normaliser) write(token string) {
	if n.space && len(n.out) > 0 {
		n.out = append(n.out, ' ')
	}
	n.space = false
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
		if !isDigit(c) && c != '.' && c != '_' && !isLetter(c) && !exponent {
			return i
		}
	}
	return len(text)
}

// wordLength returns the length of the identifier that a text begins with; some
// may have dollars in them.
func wordLength(text string, dollars bool) int {
	for i, r := range text {
		if r == '_' || unicode.IsLetter(r) || i > 0 && (unicode.IsDigit(r) || dollars && r == '$') {
			continue
		}
		return i
	}
	return len(text)
}

func isSpace(c byte) bool  { return c == ' ' || c >= '\t' && c <= '\r' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
