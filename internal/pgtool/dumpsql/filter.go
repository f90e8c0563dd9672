package dumpsql

import (
	"bytes"
	"regexp"
)

// Without says what is left out of a dump.
type Without struct {
	// Owners leaves out who owns what and who may do what with it, security labels
	// included.
	Owners bool
	// Labels leaves out security labels alone.
	Labels bool
	// Rows leaves out rows, sequences' values, large objects, and the filling of
	// materialized views.
	Rows bool
}

// maxHeld bounds how much of a statement is held until it is known whether it
// is left out or comes last. All that do are shorter: names, or the columns of a
// table.
const maxHeld = maxHeader + 64<<10

var (
	ownerStatement = regexp.MustCompile(`(?s)\A(ALTER [A-Z].* OWNER TO (\w+|"([^"]|"")+");\z|(GRANT|REVOKE) |ALTER DEFAULT PRIVILEGES |(RESET|SET) SESSION AUTHORIZATION\b)`)
	// pg_dump begins transactions of its own around large objects only.
	rowStatement = regexp.MustCompile(`(?s)\A(COPY .* FROM stdin;\z|SELECT pg_catalog\.(setval|lo_create|lo_open|lowrite|lo_close)\(|` +
		`(BEGIN|COMMIT);\z|REFRESH MATERIALIZED VIEW |(ALTER|COMMENT ON|SECURITY LABEL FOR (\w+|"([^"]|"")+") ON) LARGE OBJECT |(GRANT|REVOKE) .* ON LARGE OBJECT )`)
	labelStatement  = regexp.MustCompile(`\ASECURITY LABEL `)
	alwaysStatement = regexp.MustCompile(`(?s)\AALTER EVENT TRIGGER .* ENABLE ALWAYS;\z`)
	// otherDatabase is what pg_dumpall writes between a database's part and the \connect to
	// the next: settings, and what drops and makes that one. A setting may be this one's,
	// too, so it is held until the \connect comes.
	otherDatabase = regexp.MustCompile(`(?s)\A(SET \w+ = [^;()]*;\z|SET SESSION AUTHORIZATION |SELECT pg_catalog\.set_config\('search_path', '', false\);\z|` +
		`(CREATE|ALTER|DROP|COMMENT ON) DATABASE |SECURITY LABEL FOR (\w+|"([^"]|"")+") ON DATABASE |(GRANT|REVOKE) [A-Z ,]+ ON DATABASE |` +
		`ALTER ROLE (\w+|"([^"]|"")+") IN DATABASE |UPDATE pg_catalog\.pg_database SET datistemplate = false WHERE datname = E?'([^']|'')*';\z)`)
	leadingComments = regexp.MustCompile(`\A(\s*--[^\n]*\n)*\s*`)
)

// leaves reports whether a statement is left out.
func (w Without) leaves(statement []byte) bool {
	return w.Owners && ownerStatement.Match(statement) || (w.Owners || w.Labels) && labelStatement.Match(statement) || w.Rows && rowStatement.Match(statement)
}

// passOn passes a byte of the SQL on, when its statement is known.
func (s *Script) passOn(b byte, ends bool) {
	if s.passing {
		s.out.WriteByte(b)
		s.passing = !ends
		return
	}
	s.held = append(s.held, b)
	if !ends {
		if s.passing = len(s.held) > maxHeld; s.passing {
			s.behind = false
			s.release()
		}
		return
	}
	before := s.next + len(leadingComments.Find(s.held[s.next:]))
	statement := s.held[before:]
	leaves := s.Without.leaves(statement)
	if s.behind && s.toNext(statement, leaves) {
		return
	}
	switch {
	case leaves:
		s.leaving = s.Rows.pending != ""
		s.out.Write(s.held[:s.next])
		s.held, s.next = append(s.held[:0], '\n'), 0
	case alwaysStatement.Match(statement):
		s.last = append(append(s.last, statement...), '\n')
		s.held = s.held[:before]
		s.release()
	default:
		s.release()
	}
}

// toNext holds a statement that pg_dumpall writes behind Database's part, until the \connect
// comes. After any other the part has not ended, and what was held is part of it.
func (s *Script) toNext(statement []byte, leaves bool) bool {
	s.behind = otherDatabase.Match(statement)
	s.ended = s.behind
	if !s.behind {
		return false
	}
	if leaves {
		s.held = append(s.held[:s.next], '\n')
	}
	s.next = len(s.held)
	return true
}

// release passes on what is held. If that is what only a \connect may follow, none came.
func (s *Script) release() {
	s.ended = s.ended && s.next == 0
	s.out.Write(s.held)
	s.held, s.next = s.held[:0], 0
}

// passRows passes a table's rows on, or leaves them out with their statement.
func (s *Script) passRows(rows []byte) {
	if s.muted() {
		return
	}
	if !s.leaving {
		s.release()
		s.out.Write(rows)
	}
	if s.Rows.state != lexRows {
		s.leaving = false
		s.held = bytes.TrimLeft(s.held, "\n")
	}
}
