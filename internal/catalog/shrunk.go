package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// The lines from which on a backup counts as shrunk, and the least that the one
// before must have had: our choice. Half the rows or a third of the tables don't go
// in a day unnoticed, and what is smaller changes so in ordinary work.
const (
	shrunkRowsPercent   = 50
	shrunkTablesPercent = 100. / 3
	shrunkRowsMin       = 1000
	shrunkTablesMin     = 3
)

// Shrunk says that a backup has far fewer rows or tables than the one before it of
// the same database: half the rows, of 1,000 at least, or a third of the tables, of 3
// at least. It says nothing about the backup itself, which holds what the database
// held.
type Shrunk struct {
	// Before is the id of the backup before.
	Before       string `json:"before"`
	RowsBefore   int64  `json:"rows_before"`
	Rows         int64  `json:"rows"`
	TablesBefore int    `json:"tables_before"`
	Tables       int    `json:"tables"`
}

// String says by how much: 61 % fewer rows (37,246 instead of 97,240).
func (s Shrunk) String() string {
	var parts []string
	if s.fewerRows() {
		parts = append(parts, fmt.Sprintf("%.0f %% fewer rows (%s instead of %s)",
			fewer(s.RowsBefore, s.Rows), pgmedic.Count(s.Rows), pgmedic.Count(s.RowsBefore)))
	}
	if s.fewerTables() {
		parts = append(parts, fmt.Sprintf("%d tables instead of %d", s.Tables, s.TablesBefore))
	}
	return strings.Join(parts, ", ")
}

func (s Shrunk) fewerRows() bool {
	return s.RowsBefore >= shrunkRowsMin && fewer(s.RowsBefore, s.Rows) >= shrunkRowsPercent
}

func (s Shrunk) fewerTables() bool {
	return s.TablesBefore >= shrunkTablesMin && fewer(int64(s.TablesBefore), int64(s.Tables)) >= shrunkTablesPercent
}

// fewer is by how many percent a number went down.
func fewer(before, now int64) float64 { return 100 * float64(before-now) / float64(max(before, 1)) }

// shrunkSince compares a backup with the one before it, and is nil unless it shrank.
func shrunkSince(before, now Entry) *Shrunk {
	s := &Shrunk{Before: before.Backup.ID, RowsBefore: before.Rows, Rows: now.Rows, TablesBefore: before.Tables, Tables: now.Tables}
	if !s.fewerRows() && !s.fewerTables() {
		return nil
	}
	return s
}

// markShrunk compares each backup of a whole database with the one before it.
func (l *Listing) markShrunk() {
	type database struct{ server, name string }
	before := map[database]Entry{}
	for i := range slices.Backward(l.Entries) { // the oldest first
		e := &l.Entries[i]
		e.Shrunk = nil
		if !counts(e.Backup) {
			continue
		}
		d := database{e.Backup.Server.Name, e.Backup.Database.Name}
		if b, ok := before[d]; ok {
			e.Shrunk = shrunkSince(b, *e)
		}
		before[d] = *e
	}
}

// ShrunkSince compares a backup with the one before it in the store, of the same
// database. It is nil where that has about as much, or where there is none. Of the
// backups before it reads one manifest, or a few where some can't be used.
func (c *Catalog) ShrunkSince(ctx context.Context, b *pgmedic.Backup) (*Shrunk, error) {
	if !counts(b) {
		return nil, nil
	}
	folders, err := c.folders(ctx, Filter{Server: b.Server.Name, Database: b.Database.Name})
	if err != nil {
		return nil, fmt.Errorf("look for the backup before %s: %w", b.ID, err)
	}
	slices.SortFunc(folders, func(x, y *folder) int { return cmp.Compare(y.id, x.id) })
	// An id has the second only; which of two in one second is the earlier their
	// manifests say.
	var before *Entry
	for _, d := range folders {
		if before != nil && second(d.id) < second(before.Backup.ID) {
			break
		}
		if second(d.id) > second(b.ID) || d.id == b.ID || !d.manifest {
			continue
		}
		e, err := c.load(ctx, d, &loading{limits: newLimits(), bare: true})
		switch kind := pgmedic.KindOf(err); {
		case err == nil:
			earlier := counts(e.Backup) && e.Backup.StartedAt.Before(b.StartedAt)
			if earlier && (before == nil || e.Backup.StartedAt.After(before.Backup.StartedAt)) {
				before = &e
			}
		case kind != pgmedic.KindIntegrity && kind != pgmedic.KindUsage && kind != pgmedic.KindNotFound:
			return nil, fmt.Errorf("read the backup before %s: %w", b.ID, err)
		}
	}
	if before == nil {
		return nil, nil
	}
	return shrunkSince(*before, Entry{Backup: b, Rows: b.Rows(), Tables: len(b.Tables)}), nil
}
