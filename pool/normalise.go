package pool

import (
	"math"
	"strings"

	"github.com/pgmedic/pgmedic/pool/internal/sqltext"
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
	form := sqltext.Form{EnoughBytes: limit, JoinLists: true, Unread: "…"}
	text := strings.TrimRight(form.Normalise(sql), " ;")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return strings.ToValidUTF8(text, "�")
}
