package dumpsql

import "strings"

// nesting follows a statement as psql does, to know where a semicolon does not
// end it: within parentheses, and, as of psql 14, in the body of a function or a
// procedure between BEGIN ATOMIC and its END. A function may be called begin, which psql
// takes for a BEGIN, too.
type nesting struct {
	parens, begins int
	began          bool // the last word is BEGIN, and nothing but white space came since

	words int     // how many there were
	first [4]byte // what the first four are, as kindOfWord has it
	word  [9]byte // the present one, as far as it can be one of those
	long  int     // how long it is
}

// open reports whether a semicolon here does not end the statement.
func (n *nesting) open() bool { return n.parens > 0 || n.begins > 0 }

// sign takes a byte that is part of no word.
func (n *nesting) sign(b byte) {
	n.began = n.began && strings.IndexByte(" \t\r\n\f", b) >= 0
	switch {
	case b == '(':
		n.parens++
	case b == ')' && n.parens > 0:
		n.parens--
	}
}

// letter takes the byte of a word that has at bytes before it.
func (n *nesting) letter(b byte, at int) {
	if at < len(n.word) {
		n.word[at] = b
	}
	n.long = at + 1
}

// endWord takes the word, which is not a number.
func (n *nesting) endWord() {
	if n.long == 0 {
		return // a number
	}
	word := ""
	if n.long <= len(n.word) {
		word = strings.ToLower(string(n.word[:n.long]))
	}
	began := n.began
	n.long, n.began = 0, false
	if n.words < len(n.first) {
		switch word {
		case "create", "or", "replace", "function", "procedure":
			n.first[n.words] = word[0]
		}
	}
	n.words++
	if n.parens > 0 || !n.makesRoutine() {
		return
	}
	switch {
	case word == "begin":
		n.began = true
	case word == "atomic" && began && n.begins == 0, word == "case" && n.begins > 0:
		n.begins++
	case word == "end" && n.begins > 0:
		n.begins--
	}
}

// makesRoutine reports whether the statement is CREATE [OR REPLACE] FUNCTION or
// PROCEDURE.
func (n *nesting) makesRoutine() bool {
	switch string(n.first[:]) {
	case "corf", "corp":
		return true
	}
	return n.first[0] == 'c' && (n.first[1] == 'f' || n.first[1] == 'p')
}
