package backup

import (
	"context"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/digest"
	"github.com/pgmedic/pgmedic/internal/pgtool/dumpsql"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// hearing counts and sums what pg_dump writes, as it passes.
type hearing struct {
	run     *Run
	counter *dumpsql.RowCounter
	tables  []summed       // in the manifest's order
	named   map[string]int // by the name that pg_dump gives them
	objects digest.LargeObject
	// triggersOff has pg_dump's sessions begin without login triggers. Strange is true
	// where they may have settings other than ours, so that what pg_dump writes can't
	// be compared with what a session of ours reads.
	triggersOff, strange bool
}

// summed is a table whose rows are heard.
type summed struct {
	table   snapshot.RowTable
	columns []string       // as the dump has them, in the database's encoding
	rows    []*digest.Rows // of each COPY: pg_dump may write several into one root
}

func newHearing(ctx context.Context, r *Run, snapshot *snapshot.Snapshot) (*hearing, error) {
	h := &hearing{run: r, named: map[string]int{}, strange: r.Target.ThroughPooler()}
	if r.Manifest.Server.Major() >= 17 {
		const sql = `SELECT r.rolsuper, EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D')
			FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user`
		var has bool
		if err := snapshot.Conn().QueryRow(ctx, sql).Scan(&h.triggersOff, &has); err != nil {
			return nil, postgres.Wrap(err, "look for login triggers")
		}
		// A trigger may set anything, after the options of the session.
		h.strange = h.strange || has && !h.triggersOff
	}
	described, err := snapshot.Describe(ctx, snapshot.Tables)
	if err != nil {
		return nil, err
	}
	names, roots := make([]string, len(described)), make([]string, len(described))
	for i, t := range snapshot.Tables {
		names[i], roots[i] = sqltext.QuoteQualified(t.Schema, t.Name), sqltext.CountedAs(t)
		columns := make([]string, len(described[i].Columns))
		for j, c := range described[i].Columns {
			columns[j] = c.Name
		}
		if columns, err = h.encode(ctx, snapshot, columns); err != nil {
			return nil, err
		}
		h.tables = append(h.tables, summed{table: described[i], columns: columns})
		h.tables[i].table.Format = pgmedic.CopyText // as pg_dump writes
	}
	if names, err = h.encode(ctx, snapshot, names); err != nil {
		return nil, err
	}
	if roots, err = h.encode(ctx, snapshot, roots); err != nil {
		return nil, err
	}
	for i, name := range names {
		h.named[name] = i
	}
	// pg_dump loads partitions by an enum's hash through their root and writes its
	// name; those rows count for the first leaf.
	for i, root := range slices.Backward(roots) {
		if snapshot.Tables[i].RootName != "" {
			h.named[root] = i
		}
	}
	calls := dumpsql.Calls{LargeObject: &h.objects, Sequence: func(name string, value int64, called bool) {
		r.sums.Sequences = append(r.sums.Sequences, digest.Sequence{Name: name, Value: value, Called: called})
	}}
	h.counter = &dumpsql.RowCounter{OnRows: h.rows, OnCall: calls.Take}
	return h, nil
}

// encode returns names as a dump has them.
func (h *hearing) encode(ctx context.Context, snapshot *snapshot.Snapshot, names []string) ([]string, error) {
	if slices.ContainsFunc(names, func(name string) bool { return !utf8.ValidString(name) }) {
		return names, nil // as they are stored, which is the same
	}
	return postgres.Encode(ctx, snapshot.Conn(), h.run.Manifest.Database.Encoding, names)
}

// unnamed reports whether no session could ask for a table's columns: UTF8 lacks the
// name of one. The table is not compared by value.
func (h *hearing) unnamed(t snapshot.RowTable) bool {
	return !postgres.AsBytes(h.run.Manifest.Database.Encoding) &&
		slices.ContainsFunc(t.Columns, func(c pgmedic.Column) bool { return !utf8.ValidString(c.Name) })
}

// rows returns what sums the rows of a COPY, or nil where they are not compared. The table of one that is not known is
// an error by itself, see withRows.
func (h *hearing) rows(table string, columns []string) io.Writer {
	i, known := h.named[table]
	if !known || h.strange {
		return nil
	}
	rows := &digest.Rows{Order: order(columns, h.tables[i].columns)}
	h.tables[i].rows = append(h.tables[i].rows, rows)
	return rows
}

// order says where in a row of some columns those of a table are, or nil where they
// are in its order anyway.
func order(have, want []string) []int {
	places := make([]int, len(want))
	same := len(have) == len(want)
	for i, name := range want {
		places[i] = slices.Index(have, name)
		same = same && places[i] == i
	}
	if same || len(have) != len(want) || slices.Contains(places, -1) {
		return nil
	}
	return places
}

// enter adds what was heard to the run's sums, and reads the generated columns.
func (h *hearing) enter(ctx context.Context, snapshot *snapshot.Snapshot) error {
	if h.strange {
		return nil
	}
	for i, t := range h.tables {
		m := h.run.Manifest.Tables[i]
		if m.Extension != "" || m.WithoutRows || h.unnamed(t.table) {
			continue
		}
		read := rowsRead{index: i, table: t.table}
		for _, rows := range t.rows {
			read.rows += rows.Count()
			read.sum.Add(rows.Sum())
		}
		if len(t.table.Generated) > 0 {
			readable, err := snapshot.Readable(ctx, t.table)
			if err != nil {
				return err
			}
			if readable {
				if read.generated, err = h.run.sumGenerated(ctx, snapshot, t.table); err != nil {
					return err
				}
			}
		}
		h.run.sums.add(read)
	}
	sequences := h.run.sums.Sequences
	names := make([]string, len(sequences))
	for i, s := range sequences {
		names[i] = s.Name
	}
	names, err := postgres.Decode(ctx, snapshot.Conn(), h.run.Manifest.Database.Encoding, names)
	if err != nil {
		return err
	}
	for i, name := range names {
		sequences[i].Name = name
	}
	total := h.objects.Total()
	h.run.sums.LargeObjects = &total
	if h.run.sums.Sequences == nil {
		h.run.sums.Sequences = []digest.Sequence{}
	}
	return nil
}
