// Package shrunk says which backups of a series have far less than those before them: a
// pure function of what each backup holds.
package shrunk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Label and Expected are the label of a backup that announces a deletion: backup --label
// shrunk=expected. A backup that has it begins the series again: it is not compared with
// those before it, and later ones are compared with it.
const (
	Label    = "shrunk"
	Expected = "expected"
)

// The shares from which on a backup counts as shrunk, in percent, and the least that there
// must have been before: our choice. Half of the rows or a third of the tables do not go
// in a day unnoticed, and what is smaller changes by that much in ordinary work. Half of
// the contents can go where no row does: a column that was emptied, or large objects.
const (
	rowsPercent   = 50
	tablesPercent = 100. / 3
	bytesPercent  = 50
	rowsLeast     = 1000
	tablesLeast   = 3
	bytesLeast    = 1 << 20
)

// usualOf is of how many backups the median is what a series usually has. The median does
// not follow one backup that was taken in the middle of an import. Seven are a week of
// daily backups: our choice.
const usualOf = 7

// A fall that nothing announced becomes what is usual once it has lasted for settledAfter
// and for settledBackups backups: our choice. Seven days are a week in which somebody reads
// a report; three backups are for series with fewer than one a day.
const (
	settledAfter   = 7 * 24 * time.Hour
	settledBackups = 3
)

// Backup is what a backup of a whole database holds.
type Backup struct {
	ID     string
	At     time.Time
	Rows   int64
	Tables int
	// Bytes are those of the contents before compression: rows, large objects and
	// definitions. Zero is not known.
	Bytes int64
	// Written says how the contents are written. Bytes are compared only where it is the
	// same: one row takes another number of bytes in another format.
	Written string
	// Announced is true where a label says that a fall was expected.
	Announced bool
}

// Fall says that a backup has far less than one before it of the same database: half the
// rows, of 1,000 at least, a third of the tables, of 3 at least, or half the contents, of
// 1 MiB at least. It says nothing against the backup itself, which holds what the database
// held.
type Fall struct {
	// Before is the id of the newest backup that has so much more.
	Before       string `json:"before"`
	RowsBefore   int64  `json:"rows_before"`
	Rows         int64  `json:"rows"`
	TablesBefore int    `json:"tables_before"`
	Tables       int    `json:"tables"`
	// BytesBefore and Bytes are those of the contents before compression, both zero where
	// they can't be compared.
	BytesBefore int64 `json:"bytes_before,omitempty"`
	Bytes       int64 `json:"bytes,omitempty"`
}

// String says by how much: 61 % fewer rows (37,246 instead of 97,240).
func (f Fall) String() string {
	var parts []string
	if f.fewerRows() {
		parts = append(parts, fmt.Sprintf("%.0f %% fewer rows (%s instead of %s)",
			fewer(f.RowsBefore, f.Rows), pgmedic.Count(f.Rows), pgmedic.Count(f.RowsBefore)))
	}
	if f.fewerTables() {
		parts = append(parts, fmt.Sprintf("%d tables instead of %d", f.Tables, f.TablesBefore))
	}
	if f.fewerBytes() {
		parts = append(parts, fmt.Sprintf("%s of contents instead of %s", words.Bytes(f.Bytes), words.Bytes(f.BytesBefore)))
	}
	return strings.Join(parts, ", ")
}

func (f Fall) fewerRows() bool {
	return f.RowsBefore >= rowsLeast && fewer(f.RowsBefore, f.Rows) >= rowsPercent
}

func (f Fall) fewerTables() bool {
	return f.TablesBefore >= tablesLeast && fewer(int64(f.TablesBefore), int64(f.Tables)) >= tablesPercent
}

func (f Fall) fewerBytes() bool {
	return f.BytesBefore >= bytesLeast && f.Bytes > 0 && fewer(f.BytesBefore, f.Bytes) >= bytesPercent
}

// fewer is by how many percent a number went down.
func fewer(before, now int64) float64 { return 100 * float64(before-now) / float64(max(before, 1)) }

// since compares a backup with an earlier one, and is nil unless it fell.
func since(before, now Backup) *Fall {
	f := &Fall{Before: before.ID, RowsBefore: before.Rows, Rows: now.Rows, TablesBefore: before.Tables, Tables: now.Tables}
	if before.Written == now.Written && before.Bytes > 0 && now.Bytes > 0 {
		f.BytesBefore, f.Bytes = before.Bytes, now.Bytes
	}
	if !f.fewerRows() && !f.fewerTables() && !f.fewerBytes() {
		return nil
	}
	return f
}

// Falls compares each backup of a series, oldest first, with the one before it and with
// what the series usually has: the median of the last seven that had not fallen. It returns
// those that fell, by their ids.
//
// One fall marks each backup that has as little, until a backup has about as much as was
// usual, until one announces the deletion, or until it has lasted for a week and for three
// backups. An announcement takes the marks off the backups directly before it, too: it
// explains them.
func Falls(series []Backup) map[string]*Fall {
	falls := map[string]*Fall{}
	var usual, fallen []Backup // fallen are those that lie below what is usual, in a row
	var marked []string        // those that are marked, in a row
	for i, b := range series {
		if b.Announced {
			for _, id := range marked {
				delete(falls, id)
			}
			usual, fallen, marked = []Backup{b}, nil, nil
			continue
		}
		below := belowUsual(usual, b)
		if below != nil && settled(fallen, b) {
			usual, fallen = fallen[max(0, len(fallen)-usualOf):], nil
			below = belowUsual(usual, b)
		}
		fall := below
		if i > 0 {
			if step := since(series[i-1], b); step != nil {
				fall = step
			}
		}
		if below != nil {
			fallen = append(fallen, b)
		} else {
			usual, fallen = append(usual, b), nil
			usual = usual[max(0, len(usual)-usualOf):]
		}
		if fall == nil {
			marked = nil
			continue
		}
		falls[b.ID] = fall
		marked = append(marked, b.ID)
	}
	return falls
}

// settled reports whether a fall has lasted so long that what came of it is usual.
func settled(fallen []Backup, now Backup) bool {
	return len(fallen) >= settledBackups && now.At.Sub(fallen[0].At) >= settledAfter
}

// belowUsual compares a backup with the median of each number. The newest of those that
// are at least that is the one to compare it with, so that the numbers are of one backup.
func belowUsual(usual []Backup, now Backup) *Fall {
	if len(usual) == 0 {
		return nil
	}
	var like []Backup // whose bytes can be compared
	for _, b := range usual {
		if b.Written == now.Written && b.Bytes > 0 {
			like = append(like, b)
		}
	}
	middle := Backup{
		Rows:    median(usual, func(b Backup) int64 { return b.Rows }),
		Tables:  int(median(usual, func(b Backup) int64 { return int64(b.Tables) })),
		Written: now.Written, Bytes: median(like, func(b Backup) int64 { return b.Bytes }),
	}
	if since(middle, now) == nil {
		return nil
	}
	for _, b := range slices.Backward(usual) {
		if f := since(b, now); f != nil {
			return f
		}
	}
	return nil
}

// median is the lower one, which is a number that one of the backups has; zero of none.
func median(of []Backup, number func(Backup) int64) int64 {
	if len(of) == 0 {
		return 0
	}
	all := make([]int64, len(of))
	for i, b := range of {
		all[i] = number(b)
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}
