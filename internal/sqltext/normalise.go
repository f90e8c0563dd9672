package sqltext

import "strings"

// Form is how Normalise writes a statement. The zero Form is ready.
type Form struct {
	// EnoughBytes ends the reading once as many are written, a token more at most.
	// Zero reads the whole text.
	EnoughBytes int
	// JoinLists writes a list of literals as one.
	JoinLists bool
	// Unread stands where the rest of a text was left out because it can't be read
	// for sure.
	Unread string
}

// Normalise writes an SQL statement without what can be data: literals become
// ?, comments and line breaks a space. It takes any text, cut off anywhere, and
// errs towards hiding: a literal that doesn't end hides the rest, and so does a
// string whose end depends on a setting of the session. pg_stat_statements
// keeps the literals of utility statements, so its texts need this too.
//
// What is kept: keywords, names (quoted ones too, except where SET takes one
// for a value), operators and parameters ($1).
func (f Form) Normalise(sql string) string {
	n := normaliser{form: f}
	for sql != "" && !n.ended && (f.EnoughBytes == 0 || len(n.out) < f.EnoughBytes) {
		token := NextToken(sql)
		n.token(token)
		sql = sql[len(token.Text):]
	}
	return string(n.out)
}

type normaliser struct {
	form Form
	out  []byte
	// space is due before the next token, if there is one.
	space bool
	// last is the token before: a list of literals becomes one.
	last, beforeLast string
	// literalLast is true if the token before is a literal: SQL joins the strings of
	// several lines.
	literalLast bool
	// first is the statement's first word, in lower case; setting is true after the
	// SET of one that sets parameters, and value in what it sets them to, where names
	// are data, too.
	first          string
	setting, value bool
	// rows is true in a COPY from the client: rows may follow its semicolon.
	rows bool
	// ended is true where the rest is left out.
	ended bool
}

func (n *normaliser) token(t Token) {
	switch t.Kind {
	case Space, Comment:
		n.space = true
	case String, Number:
		n.literal()
		if t.Unsure {
			n.ended = true
			n.out = append(n.out, n.form.Unread...)
		}
	case Word:
		n.word(t.Text)
	case QuotedName:
		if n.value {
			n.literal()
		} else {
			n.write(t.Text)
		}
	case Mark:
		n.mark(t.Text)
	case Parameter:
		n.write(t.Text)
	}
}

// mark writes an operator or the like. After the = of a SET comes its value, and a
// semicolon ends all.
func (n *normaliser) mark(mark string) {
	switch {
	case mark == ";":
		n.ended = n.rows
		n.first, n.setting, n.value = "", false, false
	case mark == "=" && n.setting:
		n.value = true
	case mark == "?" && n.inList():
		n.join() // of a text that was normalised before
		return
	}
	n.write(mark)
}

func (n *normaliser) word(word string) {
	if n.value {
		n.literal()
		return
	}
	lower := strings.ToLower(word)
	if n.first == "" {
		n.first = lower
	}
	switch {
	case lower == "set" && (n.first == "set" || n.first == "alter" || n.first == "create"):
		n.setting = true
	case lower == "to" && n.setting:
		n.value = true
	case lower == "stdin" && n.first == "copy":
		n.rows = true
	}
	n.write(word)
}

// literal writes a question mark, unless it belongs to the one before: in a list, or
// as the next part of a string.
func (n *normaliser) literal() {
	switch {
	case n.literalLast:
		n.space = false
	case n.inList():
		n.join()
	default:
		n.write("?")
	}
	n.literalLast = true
}

// inList reports whether a literal and a comma come before, which one more joins.
func (n *normaliser) inList() bool {
	return n.form.JoinLists && n.last == "," && n.beforeLast == "?"
}

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
	n.space, n.literalLast = false, false
	n.out = append(n.out, token...)
	n.beforeLast, n.last = n.last, token
}
