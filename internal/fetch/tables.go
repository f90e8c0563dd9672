package fetch

import (
	"fmt"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// tables returns which tables' rows are fetched, by their index; nil is all. Each pattern
// must name one at least. A partitioned table's name takes its partitions along.
func (o *Options) tables() (chosen map[int]bool, err error) {
	if len(o.Tables) == 0 {
		return nil, nil
	}
	b := o.Backup
	switch {
	case o.Sealed:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--sealed copies the whole backup, and --table takes a part of what is inside")
	case o.Only != PartAll && o.Only != PartData:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "leave one of them out", "--table fetches rows, and --only %s does not", o.Only)
	case b.Method == pgmedic.MethodPlain:
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "`pgmedic restore "+b.ID+" --table` loads one", "backup %s is a plain one: its rows are one file", b.ID)
	}
	chosen = map[int]bool{}
	for _, text := range o.Tables {
		p, err := sqltext.ParseTablePattern(text)
		if err != nil {
			return nil, fmt.Errorf("--table: %w", err)
		}
		matches, err := p.Matcher()
		if err != nil {
			return nil, fmt.Errorf("--table: %w", err)
		}
		found := false
		for i, t := range b.Tables {
			if !matches(t.Schema, t.Name) && (t.RootName == "" || !matches(t.RootSchema, t.RootName)) {
				continue
			}
			if err := o.fetchable(t); err != nil {
				return nil, err
			}
			chosen[i], found = true, true
		}
		if !found {
			return nil, pgmedic.Errorf(pgmedic.KindNotFound, "`pgmedic show "+b.ID+" --all-tables` lists them", "backup %s has no table %s", b.ID, text)
		}
	}
	return chosen, nil
}

// fetchable refuses a table whose rows are not in files of their own.
func (o *Options) fetchable(t pgmedic.Table) error {
	name := sqltext.PrintableTable(t.Schema, t.Name)
	switch {
	case t.WithoutRows:
		return pgmedic.Errorf(pgmedic.KindNotFound, "choose another backup", "backup %s has no rows of table %s", o.Backup.ID, name)
	case t.Extension != "":
		return pgmedic.Errorf(pgmedic.KindUsage, "fetch the whole backup", "table %s is one of extension %q, whose rows a backup holds in part only", name, t.Extension)
	case t.Format == "" && t.Rows == 0 && o.Backup.Server.Standby:
		return pgmedic.Errorf(pgmedic.KindNotFound, "choose a backup of the primary",
			"backup %s was taken on a standby and has no file with rows of table %s: if the table is unlogged, its rows are only on the primary", o.Backup.ID, name)
	case t.Format == "":
		return pgmedic.Errorf(pgmedic.KindUsage, "leave --table out, or `pgmedic restore "+o.Backup.ID+" --table` loads it",
			"the rows of table %s are in pg_dump's part of the backup, not in a file of their own", name)
	}
	return nil
}

// chunks returns those that hold rows of what is fetched.
func (f *fetching) chunks() (all []pgmedic.Chunk) {
	for _, chunk := range f.Backup.Chunks {
		for _, part := range chunk.Parts {
			if f.chosen == nil || f.chosen[part.Table] {
				all = append(all, chunk)
				break
			}
		}
	}
	return all
}

// tableBytes is how much the rows of the chosen tables take.
func tableBytes(b *pgmedic.Backup, chosen map[int]bool) (n int64) {
	for _, chunk := range b.Chunks {
		for _, part := range chunk.Parts {
			if chosen[part.Table] {
				n += part.PlainBytes
			}
		}
	}
	return n
}
