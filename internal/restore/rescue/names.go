package rescue

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// tableName is a table that a backup can give back by itself: an ordinary one,
// a partition, or the topmost partitioned table with all of its partitions.
type tableName struct {
	schema, name string
	// tables are the indexes of the tables that hold its rows.
	tables []int
	root   bool
	// extension is the one that owns the table and made some of its rows.
	extension string
	// as is its name in the schema of the rescue.
	as string
}

func (n tableName) String() string { return sqltext.QuoteQualified(n.schema, n.name) }

// allNames lists all that a backup can give back, by schema and name, each
// with a name of its own. The names depend on the backup alone, so that a later
// rescue of the same backup adds to what an earlier one made.
func allNames(b *pgmedic.Backup) []tableName {
	var names []tableName
	roots := map[string]int{}
	for i, t := range b.Tables {
		names = append(names, tableName{schema: t.Schema, name: t.Name, tables: []int{i}, extension: t.Extension})
		if t.RootName == "" {
			continue
		}
		at, known := roots[sqltext.CountedAs(t)]
		if !known {
			at = len(names)
			roots[sqltext.CountedAs(t)] = at
			names = append(names, tableName{schema: t.RootSchema, name: t.RootName, root: true})
		}
		names[at].tables = append(names[at].tables, i)
	}
	slices.SortFunc(names, func(a, b tableName) int {
		if c := strings.Compare(a.schema, b.schema); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	nameRescued(names)
	return names
}

// nameRescued gives each table its own name where no other has the same, else
// one with its schema's; a name that would be too long, or is another's, gets a
// hash.
func nameRescued(names []tableName) {
	count := map[string]int{}
	for _, n := range names {
		count[n.name]++
	}
	taken := map[string]bool{}
	for name := range count {
		taken[name] = true
	}
	for i := range names {
		n := &names[i]
		if n.as = n.name; count[n.name] == 1 {
			continue
		}
		whole := n.schema + "." + n.name
		n.as = whole
		for try := 0; taken[n.as] || len(n.as) > databases.MaxNameBytes; try++ {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", n.schema, n.name, try))
			n.as = databases.DerivedName(whole, "~"+hex.EncodeToString(sum[:4]))
		}
		taken[n.as] = true
	}
}

// chooseTables returns the tables that the patterns name. Each pattern must name
// one at least. Whole is the command that brings all back. Partitions come with their root where that is named, too.
func chooseTables(b *pgmedic.Backup, patterns []string, whole string) ([]tableName, error) {
	all := allNames(b)
	chosen := make([]bool, len(all))
	for _, text := range patterns {
		matches, err := matcher(text)
		if err != nil {
			return nil, err
		}
		found, ofExtension := false, ""
		for i, n := range all {
			switch {
			case !matches(n.schema, n.name):
			case n.extension != "":
				ofExtension = n.extension
			default:
				chosen[i], found = true, true
			}
		}
		switch {
		case found:
		case ofExtension != "":
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "restore the whole backup beside it: "+whole,
				"--table %s names a table of extension %q, whose rows a backup holds in part only", text, ofExtension)
		default:
			return nil, pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic show "+b.ID+" --all-tables` lists them",
				"backup %s has no table %s", b.ID, text)
		}
	}
	throughRoot := map[int]bool{}
	for i, n := range all {
		if chosen[i] && n.root {
			for _, t := range n.tables {
				throughRoot[t] = true
			}
		}
	}
	var out []tableName
	for i, n := range all {
		if chosen[i] && (n.root || !throughRoot[n.tables[0]]) {
			out = append(out, n)
		}
	}
	return out, nil
}

func matcher(text string) (func(schema, name string) bool, error) {
	p, err := sqltext.ParseTablePattern(text)
	if err != nil {
		return nil, fmt.Errorf("--table: %w", err)
	}
	matches, err := p.Matcher()
	if err != nil {
		return nil, fmt.Errorf("--table: %w", err)
	}
	return matches, nil
}

// schemaOf is the schema that a backup's tables are rescued into.
func schemaOf(b *pgmedic.Backup) string {
	return postgres.RescueSchema(b.ID)
}
