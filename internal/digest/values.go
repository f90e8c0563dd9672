package digest

import (
	"encoding/json"

	"github.com/pgmedic/pgmedic"
)

// Format is the format number of a Database. A reader compares nothing where it
// is another than its own.
const Format = 1

// Database is what a backup records of the values in a database, in an object of
// its own, sealed.
type Database struct {
	// Format is the way in which the sums are made.
	Format int `json:"format"`
	// Tables are those whose rows can be compared.
	Tables []Table `json:"tables"`
	// Sequences and LargeObjects are those that a plain dump set and wrote. They are
	// nil in backups whose archive of pg_dump says so itself.
	Sequences    []Sequence    `json:"sequences"`
	LargeObjects *LargeObjects `json:"large_objects,omitempty"`
}

// Table is the sum of one table's rows.
type Table struct {
	// Index is the table's place in the manifest, and Rows counts its rows.
	Index int   `json:"table"`
	Rows  int64 `json:"rows"`
	// Sum is over rows as COPY writes them in Format, with Columns in their order:
	// for a partition in that of its topmost parent, so that the sums of all
	// partitions add up wherever a row is.
	Sum     Sum                `json:"sum"`
	Format  pgmedic.CopyFormat `json:"format"`
	Columns []string           `json:"columns"`
	// Generated are the generated columns, which COPY of a table leaves out;
	// GeneratedSum is over rows of all Columns with these after them.
	Generated    []string `json:"generated,omitempty"`
	GeneratedSum *Sum     `json:"generated_sum,omitempty"`
}

// Sequence is the value of one sequence.
type Sequence struct {
	// Name is qualified, and quoted where it needs to be.
	Name   string `json:"name"`
	Value  int64  `json:"value"`
	Called bool   `json:"called"`
}

// LargeObjects is the sum of large objects: of each the hash of its OID, in four
// bytes, and its content.
type LargeObjects struct {
	Count int64 `json:"count"`
	Sum   Sum   `json:"sum"`
}

// Marshal returns the JSON of d. Names that are not UTF-8 are escaped.
func (d Database) Marshal() ([]byte, error) { return json.Marshal(d.renamed(pgmedic.EscapeBytes)) }

// Unmarshal returns what Marshal wrote.
func Unmarshal(text []byte) (d Database, err error) {
	err = json.Unmarshal(text, &d)
	return d.renamed(pgmedic.UnescapeBytes), err
}

func (d Database) renamed(rename func(string) string) Database {
	all := func(names []string) []string {
		if names == nil {
			return nil
		}
		renamed := make([]string, len(names))
		for i, name := range names {
			renamed[i] = rename(name)
		}
		return renamed
	}
	tables, sequences := d.Tables, d.Sequences
	d.Tables, d.Sequences = make([]Table, len(tables)), nil
	for i, t := range tables {
		t.Columns, t.Generated = all(t.Columns), all(t.Generated)
		d.Tables[i] = t
	}
	for _, s := range sequences {
		s.Name = rename(s.Name)
		d.Sequences = append(d.Sequences, s)
	}
	return d
}
