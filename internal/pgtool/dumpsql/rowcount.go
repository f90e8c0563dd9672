// Package dumpsql reads the SQL that pg_dump, pg_restore and pg_dumpall write: rows,
// statements and what they belong to. It is a stream, maybe of a stranger's making:
// nothing of it is a command to this host.
//
// Where statements end is read as psql does, byte by byte and in bounded memory; what
// programs read in more than one way is refused.
package dumpsql

import (
	"bytes"
	"io"
	"strings"

	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// RowCounter reads the SQL that pg_dump writes, as it passes, and counts the
// rows of each table: the lines between COPY … FROM stdin and \. It knows SQL's
// quoting, so that a COPY inside a function's body or a comment counts for
// nothing, and ends statements where psql does: not in parentheses, and not in
// a body between BEGIN ATOMIC and END. Its memory does not grow with the stream.
//
// The zero RowCounter is ready. It is not for use by several goroutines.
type RowCounter struct {
	// OnTable, if not nil, is called with the table's quoted name when its rows
	// begin.
	OnTable func(table string)
	// OnRows, if not nil, is called with the table's quoted name and the columns of
	// its rows when they begin, and returns what is to be given them, as COPY's text
	// without the end mark. An error of its Write is not passed on.
	OnRows func(table string, columns []string) io.Writer
	// OnCall, if not nil, is given each statement that begins with callWord, without
	// its semicolon: so pg_dump sets sequences and writes large objects.
	OnCall func(statement []byte)

	counts map[string]int64
	muted  bool // what comes is not counted, and nothing is called for it
	state  lexState
	depth  int    // of nested block comments
	prev   byte   // the byte before, in normal state
	word   int    // how long the name or number is that the byte before belongs to
	number bool   // it begins with a digit
	before byte   // what comes before it
	tag    []byte // of the dollar quote, with both dollars; or what may become one
	match  int    // how much of tag has been seen
	escape bool   // in a string where backslash escapes (E'…')
	skip   bool   // the next byte is escaped
	closed closing

	nesting nesting // where in the statement a semicolon does not end it

	statement []byte // the statement so far, if it can still be a COPY
	other     bool   // it can't
	meta      bool   // a psql command: ends with its line
	ended     bool   // the last byte was the semicolon that ends a statement
	pending   string // the COPY whose rows begin on the next line

	table string
	line  []byte // the first bytes of the row, to tell \. from a row
	// to is given the rows. kept is how many bytes of line it was not given yet,
	// because they may be those of the end mark.
	to   io.Writer
	kept int
	// odd is true after what pg_dump does not write and what programs read in
	// more than one way: versions of psql among themselves, or psql and we.
	odd bool
}

// closing says whether a string has ended, and nothing but white space and comments has
// come since.
type closing int

const (
	closedNone closing = iota
	closedString
	closedMark // and what may be the first byte of a comment's mark
)

type lexState int

const (
	lexNormal lexState = iota
	lexString
	lexIdent
	lexDollarTag
	lexDollar
	lexLineComment
	lexBlockComment
	lexRows
)

// maxHeader is more than a COPY statement can need: 1,600 columns of 63 bytes,
// doubled for quotes.
const maxHeader = 256 << 10

// maxTag bounds a dollar quote's tag. pg_dump makes it as long as the body needs
// that it quotes.
const maxTag = 64 << 10

// Counts returns the rows seen of each table, by its quoted name.
func (c *RowCounter) Counts() map[string]int64 { return c.counts }

// Complete reports whether the stream ended between statements: not among a
// table's rows, and not within a statement, a psql command or a comment.
func (c *RowCounter) Complete() bool {
	return c.state == lexNormal && c.pending == "" && !c.meta && !c.other && len(c.statement) == 0
}

// Write takes the next part of the stream. It never fails.
func (c *RowCounter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if c.state == lexRows {
			p = c.rows(p)
			continue
		}
		c.lex(p[0])
		p = p[1:]
	}
	return n, nil
}

// rows takes lines up to and with the end mark, and returns what is left.
func (c *RowCounter) rows(p []byte) []byte {
	var n int64
	all, ended := p, false
	lineAt := 0 // where in all the present line begins
	for len(p) > 0 && !ended {
		i := bytes.IndexByte(p, '\n')
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := 3 - len(c.line); room > 0 {
			c.line = append(c.line, part[:min(room, len(part))]...)
		}
		if i < 0 {
			p = nil
			break
		}
		p = p[i+1:]
		ended = string(c.line) == `\.`
		c.odd = c.odd || string(c.line) == "\\.\r"
		if ended {
			break
		}
		c.line = c.line[:0]
		lineAt = len(all) - len(p)
		n++
	}
	if !c.muted {
		c.counts[c.table] += n
	}
	if c.to != nil {
		c.pass(all[:len(all)-len(p)], lineAt, ended)
	}
	if ended {
		c.line, c.kept, c.to = c.line[:0], 0, nil
		c.state = lexNormal
		c.begin()
	}
	return p
}

// pass gives rows on, less an end mark or what may become one. The last line of p
// begins at lineAt.
func (c *RowCounter) pass(p []byte, lineAt int, ended bool) {
	if c.kept > 0 && (lineAt > 0 || !ended && !c.mayEnd()) { // what was kept was a row's
		_, _ = c.to.Write([]byte(`\.`)[:c.kept])
		c.kept = 0
	}
	switch {
	case ended:
		p = p[:lineAt]
	case c.mayEnd():
		c.kept = len(c.line)
		p = p[:lineAt]
	}
	_, _ = c.to.Write(p)
}

// mayEnd reports whether the line so far is the beginning of the end mark.
func (c *RowCounter) mayEnd() bool { return string(c.line) == `\` || string(c.line) == `\.` }

// begin makes ready for the next statement.
func (c *RowCounter) begin() {
	c.statement, c.other, c.meta, c.prev, c.word = c.statement[:0], false, false, 0, 0
	c.nesting = nesting{}
}

func (c *RowCounter) lex(b byte) {
	c.ended = false
	switch c.state {
	case lexNormal:
		c.normal(b)
	case lexString:
		c.keep(b)
		switch {
		case c.skip:
			c.skip = false
		case b == '\\' && c.escape:
			c.skip = true
		case b == '\'': // a doubled quote closes and opens again
			c.state, c.closed = lexNormal, closedString
		}
	case lexIdent:
		c.keep(b)
		if b == '"' {
			c.state = lexNormal
		}
	case lexDollarTag:
		c.dollarTag(b)
	case lexDollar:
		c.dollar(b)
	case lexLineComment:
		if b == '\n' || b == '\r' {
			c.state, c.prev, c.word = lexNormal, b, 0
		}
	case lexBlockComment:
		c.blockComment(b)
	case lexRows: // handled by rows
	}
}

func (c *RowCounter) normal(b byte) {
	prev, word, closed := c.prev, c.word, c.closed
	c.prev = b
	c.spell(b, prev)
	c.closed = closed.after(b, prev)
	atStart := len(c.statement) == 0 && !c.other
	switch {
	case c.meta:
		if b == '\n' {
			c.begin()
		}
		return
	case c.pending != "":
		if b == '\n' {
			c.startRows()
		} else {
			c.odd = true // psql reads it once the rows are through
		}
		return
	case b == ';' && !c.nesting.open():
		c.endStatement()
		return
	case atStart && b == '\\':
		c.meta = true
		return
	case atStart && strings.IndexByte(" \t\r\n", b) >= 0:
		return
	case b == '\'':
		c.state, c.skip = lexString, false
		if prev != '\'' { // else it goes on: the quote was a doubled one
			c.odd = c.odd || closed == closedString // SQL joins the strings of two lines, by the rules of the first
			c.escape = word == 1 && (prev == 'E' || prev == 'e')
			c.odd = c.odd || c.unsurePrefix(prev, word)
		}
	case b == '"':
		c.state = lexIdent
	case b == '$' && word == 0:
		c.state, c.tag = lexDollarTag, append(c.tag[:0], '$')
	case b == '-' && prev == '-':
		c.dropMark()
		c.state = lexLineComment
		return
	case b == '*' && prev == '/':
		c.dropMark()
		c.state, c.depth, c.prev = lexBlockComment, 1, 0
		return
	}
	c.keep(b)
}

// after is what a byte makes of it.
func (c closing) after(b, prev byte) closing {
	switch {
	case c == closedString && strings.IndexByte(" \t\r\n\f\v", b) >= 0:
		return closedString
	case c == closedString && (b == '-' || b == '/'):
		return closedMark
	case c == closedMark && (b == '-' && prev == '-' || b == '*' && prev == '/'):
		return closedString
	}
	return closedNone
}

// spell follows the name or number that a byte belongs to.
func (c *RowCounter) spell(b, prev byte) {
	if !identByte(b) && (b != '$' || c.word == 0) {
		if c.word > 0 {
			c.nesting.endWord()
		}
		c.nesting.sign(b)
		c.word = 0
		return
	}
	if c.word == 0 {
		c.before, c.number = prev, b >= '0' && b <= '9'
	}
	c.odd = c.odd || c.number && b == '$' // older programs begin a dollar quote here
	if !c.number {
		c.nesting.letter(b, c.word)
	}
	c.word++
}

// unsurePrefix reports whether some read the word ahead of a quote as a number's
// or a variable's end, and some as the mark of a kind of string: 1E'…', 1.E'…',
// and :E'…', which psql takes for its variable E.
func (c *RowCounter) unsurePrefix(prev byte, word int) bool {
	letter := prev|0x20 >= 'a' && prev|0x20 <= 'z'
	return word > 0 && letter && (c.number || word == 1 && (c.before == '.' || c.before == ':'))
}

// dropMark takes back the first byte of a comment's mark, so that a comment
// ahead of a statement does not count as its beginning.
func (c *RowCounter) dropMark() {
	if n := len(c.statement); n > 0 {
		c.statement = c.statement[:n-1]
	}
}

func (c *RowCounter) keep(b byte) {
	if c.other {
		return
	}
	c.statement = append(c.statement, b)
	n := len(c.statement)
	mark := n == 1 && (b == '-' || b == '/') // of a comment, perhaps
	wanted := mark || begins(c.statement, copyWord) || c.OnCall != nil && begins(c.statement, callWord)
	if !wanted || n > maxHeader {
		c.other = true
		c.statement = c.statement[:0]
	}
}

// What the statements begin with that are kept.
const copyWord, callWord = "COPY ", "SELECT pg_catalog."

// begins reports whether a statement begins with a word, as far as it has come.
func begins(statement []byte, word string) bool {
	n := min(len(statement), len(word))
	return string(statement[:n]) == word[:n]
}

func (c *RowCounter) endStatement() {
	c.ended = true
	if c.OnCall != nil && !c.muted && !c.other && len(c.statement) > len(callWord) && begins(c.statement, callWord) {
		c.OnCall(c.statement)
	}
	if table, ok := copyTable(c.statement); ok && !c.other {
		c.pending = table
	}
	if c.pending == "" {
		c.begin()
	}
}

func (c *RowCounter) startRows() {
	c.table, c.pending = c.pending, ""
	c.state, c.line = lexRows, c.line[:0]
	if c.muted {
		return
	}
	if c.counts == nil {
		c.counts = map[string]int64{}
	}
	c.counts[c.table] += 0
	if c.OnRows != nil {
		c.to = c.OnRows(c.table, copyColumns(c.statement))
	}
	if c.OnTable != nil {
		c.OnTable(c.table)
	}
}

func (c *RowCounter) dollarTag(b byte) {
	first := len(c.tag) == 1
	switch {
	case b == '$':
		c.tag = append(c.tag, b)
		c.keep(b)
		c.state, c.match = lexDollar, 0
	case !identByte(b) || first && b >= '0' && b <= '9': // $1, or a lone dollar
		c.state, c.prev, c.word = lexNormal, c.tag[len(c.tag)-1], 0
		c.normal(b)
	case len(c.tag) > maxTag:
		c.odd = true
	default:
		c.tag = append(c.tag, b)
		c.keep(b)
	}
}

func (c *RowCounter) dollar(b byte) {
	switch b {
	case c.tag[c.match]:
		c.match++
	case '$':
		c.match = 1
	default:
		c.match = 0
	}
	if c.match == len(c.tag) {
		c.state, c.prev, c.word = lexNormal, '$', 0
	}
}

func (c *RowCounter) blockComment(b byte) {
	switch string([]byte{c.prev, b}) {
	case "/*":
		c.depth++
		b = 0
	case "*/":
		c.depth--
		b = 0
	}
	c.prev = b
	if c.depth == 0 {
		c.state, c.prev, c.word = lexNormal, ' ', 0
	}
}

func identByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// copyTable takes the quoted name out of COPY schema.table (columns) FROM stdin,
// and reports whether that is all that the statement is.
func copyTable(statement []byte) (table string, ok bool) {
	rest, ok := strings.CutPrefix(string(statement), "COPY ")
	if !ok || !strings.HasSuffix(rest, " FROM stdin") {
		return "", false
	}
	var parts []string
	for {
		name, tail, ok := cutIdent(rest)
		if !ok {
			return "", false
		}
		parts = append(parts, sqltext.QuoteIdent(name))
		if rest, ok = strings.CutPrefix(tail, "."); !ok {
			rest = tail
			break
		}
	}
	_, rest, ok = cutColumns(rest)
	return strings.Join(parts, "."), ok && strings.TrimLeft(rest, " ") == "FROM stdin"
}

// cutColumns takes a list of names, with a space before it, off the beginning of
// s. There may be none.
func cutColumns(s string) (columns []string, rest string, ok bool) {
	rest, listed := strings.CutPrefix(s, " (")
	if !listed {
		return nil, s, true
	}
	for {
		name, tail, ok := cutIdent(rest)
		if !ok {
			return nil, "", false
		}
		columns = append(columns, name)
		if rest, ok = strings.CutPrefix(tail, ", "); !ok {
			rest, ok = strings.CutPrefix(tail, ")")
			return columns, rest, ok
		}
	}
}

// cutIdent takes a name off the beginning of s.
func cutIdent(s string) (name, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := 0
		for end < len(s) && (identByte(s[end]) || s[end] == '$') {
			end++
		}
		return s[:end], s[end:], end > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], true
	}
	return "", "", false
}
