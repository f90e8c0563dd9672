package pgtool

import (
	"bytes"
	"io"
	"regexp"
)

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
