package dumpsql

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// Calls reads what pg_dump writes besides rows: the values of sequences, and large
// objects. Its Take is for RowCounter.OnCall.
type Calls struct {
	// Sequence is given the value of each sequence, with its name qualified, and
	// quoted where it needs to be.
	Sequence func(name string, value int64, called bool)
	// LargeObject is given each large object, piece by piece.
	LargeObject snapshot.LargeObjectWriter

	content []byte
}

// Take takes one statement. Calls of other functions mean nothing to it.
func (c *Calls) Take(statement []byte) {
	function, arguments, _ := bytes.Cut(statement[len(callWord):], []byte{'('})
	switch string(function) {
	case "setval":
		c.setval(string(arguments))
	case "lo_open":
		text, _, ok := cutLiteral(string(arguments))
		if oid, err := strconv.ParseUint(text, 10, 32); ok && err == nil {
			c.LargeObject.Begin(uint32(oid))
		}
	case "lowrite":
		c.lowrite(arguments)
	case "lo_close":
		c.LargeObject.End()
	}
}

func (c *Calls) setval(arguments string) {
	name, rest, ok := cutLiteral(arguments)
	if !ok {
		return
	}
	number, called, _ := strings.Cut(strings.TrimPrefix(rest, ", "), ", ")
	if value, err := strconv.ParseInt(number, 10, 64); err == nil {
		c.Sequence(name, value, called == "true)")
	}
}

// lowrite takes the bytes of `0, '\x…')`.
func (c *Calls) lowrite(arguments []byte) {
	_, text, ok := bytes.Cut(arguments, []byte{'x'})
	end := bytes.IndexByte(text, '\'')
	if !ok || end < 0 {
		return
	}
	var err error
	if c.content, err = hex.AppendDecode(c.content[:0], text[:end]); err == nil {
		_, _ = c.LargeObject.Write(c.content)
	}
}

// cutLiteral takes a literal off the beginning of s. One of the kind in which
// backslashes escape has a space before it.
func cutLiteral(s string) (text, rest string, ok bool) {
	s, escapes := strings.CutPrefix(strings.TrimPrefix(s, " "), "E")
	if s, ok = strings.CutPrefix(s, "'"); !ok {
		return "", s, false
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'' && i+1 < len(s) && s[i+1] == '\'', s[i] == '\\' && escapes && i+1 < len(s):
			i++
		case s[i] == '\'':
			return b.String(), s[i+1:], true
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
