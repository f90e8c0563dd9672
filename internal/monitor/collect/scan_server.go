package collect

import (
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

func scanWALPosition(rows pgx.Rows, r *reading.Reading) error {
	at, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[*int64])
	if err == nil {
		made(&r.Replication).CurrentBytes = at
	}
	return err
}

func scanSlots(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.Slot](rows)
	if err != nil {
		return err
	}
	for i := range got {
		utc(got[i].InactiveSince)
	}
	made(&r.Replication).Slots = got
	return nil
}

func scanReplay(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Replay](rows)
	if err != nil {
		return err
	}
	utc(got.LastReplayedAt)
	made(&r.Replication).Replay = &got
	return nil
}

func scanArchiver(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Archiver](rows)
	if err != nil {
		return err
	}
	utc(got.LastArchivedAt, got.LastFailedAt, got.StatsReset)
	made(&r.Replication).Archiver = &got
	return nil
}

func scanTransactions(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Transactions](rows)
	if err == nil {
		utc(got.StatsReset)
		r.Transactions = &got
	}
	return err
}

func scanCheckpoints(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.Checkpoints](rows)
	if err == nil {
		utc(got.StatsReset)
		r.Checkpoints = &got
	}
	return err
}

func scanWAL(rows pgx.Rows, r *reading.Reading) error {
	got, err := one[reading.WAL](rows)
	if err == nil {
		utc(got.StatsReset)
		r.WAL = &got
	}
	return err
}

func scanSequenceCounts(rows pgx.Rows, r *reading.Reading) error {
	type row struct{ Total, Hidden, Locked int }
	got, err := one[row](rows)
	if err != nil {
		return err
	}
	made(&r.Limits).SequencesTotal = got.Total
	if got.Locked > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionLimits, Query: "values of locked sequences",
			Reason: words.Plural(got.Locked, "sequence") + " of which somebody holds or awaits a lock, as of ALTER SEQUENCE: they would be waited for",
		})
	}
	if got.Hidden > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionLimits, Query: "values of sequences",
			Reason: words.Plural(got.Hidden, "sequence") + " can't be read by this role: grant it SELECT on them, or pg_read_all_data",
		})
	}
	return nil
}

// estimateInput is what the size of a table or an index is estimated from.
type estimateInput struct {
	OID                           uint32
	Pages                         int64
	Tuples, BlockSize, Fillfactor float64
	RowWidth                      float64
	Nullable                      bool
	// Columns have statistics, of Attributes in all; Dropped were columns once.
	Columns, Attributes, Dropped int
}

// confidence is that of an estimate: low of few pages, or after many changes
// since the widths of columns were looked at.
func confidence(pages int64, changed bool) string {
	if pages < 100 || changed {
		return "low"
	}
	return "medium"
}

// maxAlign rounds up to what PostgreSQL aligns rows to.
func maxAlign(n float64) float64 { return math.Ceil(n/8) * 8 }

// empty is how many bytes of the file are more than its rows take, in pages
// filled as far as they are, with a header (and a trailer) of page bytes, rows
// with a header of row bytes. It is negative where it can't be said.
func (e *estimateInput) empty(page, row float64) int64 {
	if e.Tuples < 0 || e.Columns < e.Attributes {
		return -1
	}
	perPage := math.Floor((e.BlockSize - page) * e.Fillfactor / 100 / (row + maxAlign(e.RowWidth) + 4))
	needed := math.Ceil(e.Tuples / max(1, perPage))
	return int64(max(0, float64(e.Pages)-needed) * e.BlockSize)
}

func scanTableBloat(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[estimateInput](rows)
	if err != nil {
		return err
	}
	unseen := 0
	for _, e := range got {
		i := slices.IndexFunc(tables(r).Items, func(t reading.Table) bool { return t.OID == e.OID })
		if i < 0 {
			continue
		}
		header := 24.0
		if e.Nullable {
			header = maxAlign(23 + math.Ceil(float64(e.Attributes)/8))
		}
		n := e.empty(24, header)
		if e.Tuples == 0 && e.Pages > 0 && e.Columns < e.Attributes {
			// Nothing is known of the columns, and there are no rows of them.
			n = e.Pages * int64(e.BlockSize)
		}
		if n < 0 {
			if e.unseen() {
				unseen++
			}
			continue
		}
		t := &r.Tables.Items[i]
		changed := float64(t.ModifiedSinceAnalyze) > 0.1*e.Tuples
		t.Bloat = &reading.Bloat{Bytes: n, Method: reading.BloatByEstimate, Confidence: confidence(e.Pages, changed || e.Dropped > 0), DroppedColumns: e.Dropped}
	}
	if unseen > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionTables, Query: "bloat of tables",
			Reason: words.Plural(unseen, "table") + " with " + columnsUnseen,
		})
	}
	return nil
}

// columnsUnseen are the columns without which no size can be estimated.
const columnsUnseen = "columns that were never analyzed, or whose statistics this role may not see (grant it SELECT on them, or pg_read_all_data)"

// unseen reports whether it is for want of statistics that nothing can be said.
func (e *estimateInput) unseen() bool { return e.Pages > 0 && e.Columns < e.Attributes }

func scanIndexBloat(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[estimateInput](rows)
	if err != nil {
		return err
	}
	unseen := 0
	for _, e := range got {
		e.Fillfactor = 90
		n := e.empty(40, 8)
		if n < 0 {
			if e.unseen() {
				unseen++
			}
			continue
		}
		for _, list := range [][]reading.Index{r.Indexes.Largest, r.Indexes.Unused} {
			for i := range list {
				if list[i].OID == e.OID {
					list[i].BloatBytes = &n
					list[i].BloatMethod, list[i].BloatConfidence = reading.BloatByEstimate, confidence(e.Pages, false)
				}
			}
		}
	}
	if unseen > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionIndexes, Query: "bloat of indexes", Reason: words.Plural(unseen, "index of a table", "indexes of tables") + " with " + columnsUnseen,
		})
	}
	return nil
}

// indexOIDs are the indexes that the indexes query chose.
func indexOIDs(r *reading.Reading, _ Options) []any {
	oids := []uint32{}
	if r.Indexes != nil {
		for _, list := range [][]reading.Index{r.Indexes.Largest, r.Indexes.Unused} {
			for _, x := range list {
				oids = append(oids, x.OID)
			}
		}
	}
	slices.Sort(oids)
	return []any{slices.Compact(oids)}
}

func completeIndex(x *reading.Index, r *reading.Reading) {
	utc(x.LastScan, x.ChangedAt)
	x.Definition = statementText(r, x.Definition)
}

func scanIndexes(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Total, UnusedTotal           int
		TotalBytes                   int64
		IsLarge, IsUnused, IsInvalid bool
		reading.Index
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	x := made(&r.Indexes)
	x.Largest, x.Unused, x.Invalid = []reading.Index{}, []reading.Index{}, []reading.Index{}
	locked := 0
	for _, g := range got {
		if g.Definition == "" {
			locked++
		}
		x.Total, x.UnusedTotal, x.EstimatedBytes = g.Total, g.UnusedTotal, g.TotalBytes
		completeIndex(&g.Index, r)
		if g.IsLarge {
			x.Largest = append(x.Largest, g.Index)
		}
		if g.IsUnused {
			x.Unused = append(x.Unused, g.Index)
		}
		if g.IsInvalid {
			x.Invalid = append(x.Invalid, g.Index)
		}
	}
	if locked > 0 {
		r.Skipped = append(r.Skipped, reading.Skipped{
			Section: reading.SectionIndexes, Query: "definitions of indexes",
			Reason: words.Plural(locked, "index", "indexes") + " of which somebody holds or awaits an exclusive lock, or on whose table: with an " +
				"expression or a condition they are not compared with others either",
		})
	}
	return nil
}

func scanRedundant(rows pgx.Rows, r *reading.Reading) error {
	type row struct {
		Exact, IsRedundant bool
		Pair               uint32
		reading.Index
	}
	got, err := many[row](rows)
	if err != nil {
		return err
	}
	pairs := []reading.IndexPair{}
	for i := 0; i+1 < len(got); i += 2 {
		redundant, kept := got[i], got[i+1]
		if !redundant.IsRedundant || kept.Pair != redundant.Pair {
			// One of the two was dropped while we looked.
			i--
			continue
		}
		completeIndex(&redundant.Index, r)
		completeIndex(&kept.Index, r)
		pairs = append(pairs, reading.IndexPair{Redundant: redundant.Index, Kept: kept.Index, Exact: redundant.Exact})
	}
	made(&r.Indexes).Redundant = pairs
	return nil
}

// scanInvalidPartitioned keeps the answer beside others of the section. By itself it says
// nothing of the indexes, which then count as not read.
func scanInvalidPartitioned(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.PartitionedIndex](rows)
	if err == nil && r.Indexes != nil {
		r.Indexes.InvalidPartitioned = got
	}
	return err
}

func scanSuperusers(rows pgx.Rows, r *reading.Reading) error {
	got, err := many[reading.UserCount](rows)
	if err == nil {
		made(&r.Security).Superusers = got
	}
	return err
}
