package pgtool

import (
	"bytes"
	"io"
	"regexp"
	"strings"
)

// Entry names one object of a dump, or one thing about it, as pg_dump does.
type Entry struct {
	// ID is its number in an archive, where that is known.
	ID string
	// Type is pg_dump's word for the kind, such as INDEX or TABLE DATA.
	Type string
	// Schema is empty for what is in none.
	Schema string
	// Name is pg_dump's tag. It may have several words: that of a constraint begins
	// with its table's name.
	Name string
}

// aboutType are the types whose tag begins with what they are about.
var aboutType = regexp.MustCompile(`^(?:ACL|COMMENT|SECURITY LABEL)$`)

// aboutName takes such a tag apart.
var aboutName = regexp.MustCompile(`^([A-Z]+(?: [A-Z]+)* )(.+)$`)

// String returns the entry's words for a person: INDEX public.documents_word_idx.
func (e Entry) String() string {
	if e == (Entry{}) {
		return "statement without a name"
	}
	prefix, name := e.Type+" ", e.Name
	if aboutType.MatchString(e.Type) {
		if m := aboutName.FindStringSubmatch(name); m != nil {
			prefix, name = prefix+m[1], m[2]
		}
	}
	if e.Schema != "" {
		name = e.Schema + "." + name
	}
	return strings.ToValidUTF8(prefix+name, "�")
}

var (
	// entryHeader is what pg_dump and pg_restore write above an entry's statements.
	entryHeader = regexp.MustCompile(`(?m)^-- (?:Data for )?Name: (.*); Type: ([A-Z][A-Z ]*); Schema: (.*); Owner: .*$`)
	// entryNumber is what pg_restore --verbose writes above that.
	entryNumber = regexp.MustCompile(`(?m)^-- TOC entry (\d+) \(class \d+ OID \d+\)$`)
)

// headed returns the entry that comments name, if they name one. It is the last of
// them: an entry may have no statements.
func headed(comments string) (Entry, bool) {
	all := entryHeader.FindAllStringSubmatch(comments, -1)
	if len(all) == 0 {
		return Entry{}, false
	}
	m := all[len(all)-1]
	e := Entry{Name: m[1], Type: m[2], Schema: m[3]}
	if e.Schema == "-" {
		e.Schema = ""
	}
	if numbers := entryNumber.FindAllStringSubmatch(comments, -1); len(numbers) > 0 {
		e.ID = numbers[len(numbers)-1][1]
	}
	return e, true
}

// IsPostData reports whether the entry comes after all rows in a dump.
func (e Entry) IsPostData() bool {
	switch e.Type {
	case "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH", "TRIGGER", "EVENT TRIGGER",
		"MATERIALIZED VIEW DATA", "POLICY", "ROW SECURITY", "STATISTICS", "PUBLICATION", "PUBLICATION TABLE", "SUBSCRIPTION":
		return true
	}
	return false
}

// entryWatch reads the standard error of a verbose pg_restore that goes on past
// errors, and collects the entries that it had errors with. It holds their numbers
// and nothing else. What only says how it gets on is not passed on.
type entryWatch struct {
	next io.Writer
	ids  map[string]bool
	// outside is true where an error was not about an entry, and ignored once the
	// program said that it came to its end.
	outside, ignored bool

	line []byte // the beginning of the present one
	long bool   // which has been looked at, for it is longer
	pass bool
}

// maxWatched bounds what is held of a line; what matters is at its beginning.
const maxWatched = 512

var (
	// watchedEntry has no beginning: of several workers that write at once, one may
	// have written the program's name before another's message.
	watchedEntry   = regexp.MustCompile(`from TOC entry (\d+); \d+ \d+ `)
	watchedOutside = regexp.MustCompile(`^pg_restore: while (?:INITIALIZING|FINALIZING):`)
	watchedEnd     = regexp.MustCompile(`^pg_restore: warning: errors ignored on restore: \d+$`)
	watchedSteps   = regexp.MustCompile(`^pg_restore: (?:while |from TOC entry |connecting |processing |launching |finished |entering |skipping |creating |executing |dropping |setting |disabling |enabling |allocating |restoring |restored |reading |started |implied )`)
)

// Write never fails, but as next does.
func (w *entryWatch) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		rest, whole := p, false
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			rest, whole = p[:i], true
		}
		p = p[len(rest):]
		if !w.long {
			w.line = append(w.line, rest...)
			rest = nil
		}
		if !w.long && (whole || len(w.line) > maxWatched) {
			w.watch()
			w.long, rest = true, w.line
		}
		if whole {
			p = p[1:]
			rest = append(rest[:len(rest):len(rest)], '\n')
		}
		if w.long && w.pass && len(rest) > 0 {
			if _, err := w.next.Write(rest); err != nil {
				return 0, err
			}
		}
		if whole {
			w.line, w.long = w.line[:0], false
		}
	}
	return n, nil
}

// watch looks at the beginning of a line.
func (w *entryWatch) watch() {
	w.ignored = watchedEnd.Match(w.line)
	w.outside = w.outside || watchedOutside.Match(w.line)
	for _, m := range watchedEntry.FindAllSubmatch(w.line[:min(len(w.line), maxWatched)], -1) {
		w.ids[string(m[1])] = true
	}
	w.pass = !watchedSteps.Match(w.line)
}
