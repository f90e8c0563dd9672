package reading

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Sections returns the names of all sections, in the order of the report.
func Sections() []string {
	return []string{
		SectionOverview, SectionBackups, SectionConnections, SectionLocks, SectionReplication, SectionLimits, SectionTables,
		SectionIndexes, SectionStatements, SectionCache, SectionSize, SectionTransactions, SectionCheckpoints, SectionWaits,
		SectionServices, SectionSettings, SectionTrends,
	}
}

// ParseSections checks names of sections and returns them in the report's
// order, each once. Each text may hold several, with commas between. None is
// nil: all sections.
func ParseSections(texts []string) ([]string, error) {
	wanted := map[string]bool{}
	for _, text := range texts {
		for name := range strings.SplitSeq(text, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if !slices.Contains(Sections(), name) {
				return nil, pgmedic.Errorf(pgmedic.KindUsage, "use "+strings.Join(Sections(), ", "), "unknown section %q", name)
			}
			wanted[name] = true
		}
	}
	var sections []string
	for _, name := range Sections() {
		if wanted[name] {
			sections = append(sections, name)
		}
	}
	return sections, nil
}

// Wants reports whether a section was asked for.
func (r *Reading) Wants(section string) bool {
	return r.Sections == nil || slices.Contains(r.Sections, section)
}

// Narrow makes the Reading one of fewer sections, so that only those are judged
// and shown; nil leaves it as it is. It fails for a section that the Reading was
// not asked for.
func (r *Reading) Narrow(sections []string) error {
	if sections == nil {
		return nil
	}
	for _, s := range sections {
		if !r.Wants(s) {
			return pgmedic.Errorf(pgmedic.KindUsage, fmt.Sprintf("the reading has %s", strings.Join(r.Sections, ", ")),
				"section %s was not collected", s)
		}
	}
	r.Sections = sections
	for _, other := range r.Databases {
		other.Sections = sections
	}
	return nil
}

// Visible returns the Reading as it is shown: without what was read for the
// judgements of a section that was asked for, and is of one that was not.
func (r *Reading) Visible() *Reading {
	if r.Sections == nil {
		return r
	}
	v := *r
	for section, leaveOut := range map[string]func(){
		SectionConnections:  func() { v.Connections = nil },
		SectionLocks:        func() { v.Locks = nil },
		SectionReplication:  func() { v.Replication = nil },
		SectionLimits:       func() { v.Limits = nil },
		SectionTables:       func() { v.Tables = nil },
		SectionIndexes:      func() { v.Indexes = nil },
		SectionStatements:   func() { v.Statements = nil },
		SectionCache:        func() { v.Cache = nil },
		SectionSize:         func() { v.Size = nil },
		SectionTransactions: func() { v.Transactions = nil },
		SectionCheckpoints:  func() { v.Checkpoints, v.WAL, v.IO = nil, nil, nil },
		SectionWaits:        func() { v.Waits = nil },
		SectionServices:     func() { v.Services = nil },
		SectionSettings:     func() { v.Security = nil },
		SectionBackups:      func() { v.Backups, v.Recovery = nil, nil },
	} {
		if !r.Wants(section) {
			leaveOut()
		}
	}
	v.Databases = nil
	for _, other := range r.Databases {
		v.Databases = append(v.Databases, other.Visible())
	}
	return &v
}
