package dumpsql

import (
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
