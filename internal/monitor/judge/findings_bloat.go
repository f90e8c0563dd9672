package judge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// bloat finds tables whose files are much larger than their rows.
func (a *analysis) bloat() {
	if a.reading.Tables == nil {
		return
	}
	for i := range a.reading.Tables.Items {
		t := &a.reading.Tables.Items[i]
		if t.Bloat == nil || t.Bloat.Bytes < a.limits.BloatMinBytes {
			continue
		}
		heap := t.TableBytes
		if !t.Exact {
			heap = t.EstimatedBytes
		}
		percent := min(100, 100*float64(t.Bloat.Bytes)/float64(max(1, heap)))
		if percent <= a.limits.BloatPercent {
			continue
		}
		table := sqltext.PrintableTable(t.Schema, t.Name)
		f := pgmedic.Finding{
			ID: "table-bloat", Section: reading.SectionTables, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(t.Schema, t.Name),
			Summary: fmt.Sprintf("About %.0f %% of its file holds no live row: %s that VACUUM makes usable again but doesn't give back.",
				percent, words.Size(t.Bloat.Bytes)),
			Evidence: []pgmedic.Evidence{
				evidence("bloat_bytes", t.Bloat.Bytes), evidence("heap_bytes", heap), evidencePercent("bloat_percent", percent),
				evidenceText("method", t.Bloat.Method), evidenceText("confidence", t.Bloat.Confidence),
				evidence("live_tuples", t.LiveTuples), evidence("dead_tuples", t.DeadTuples),
				evidencePercent("threshold_percent", a.limits.BloatPercent),
			},
			Fix: strings.Join([]string{
				"SET lock_timeout = '2s';", "SET statement_timeout = '10s';",
				fmt.Sprintf("VACUUM (FULL, ANALYZE) %s;", table), "RESET lock_timeout;", "RESET statement_timeout;",
			}, "\n"),
			Risk: "Rewrites the table and its indexes, needs the disk space for that, and blocks all other use of the table meanwhile. It " +
				"gives up after 2 s of waiting or 10 s of work and then has changed nothing: a large table needs a maintenance window. " +
				"Queries on standbys that read the table are cancelled, or keep replay waiting. " +
				"Leave it where the table grows again anyway: the space is reused. pg_repack does the same with short locks only.",
		}
		if n := t.Bloat.DroppedColumns; n > 0 && t.Bloat.Method == reading.BloatByEstimate {
			f.Severity, f.Fix = pgmedic.SeverityInfo, ""
			f.Summary = fmt.Sprintf("Its rows need about %s less than its file has, but %s dropped: what a dropped column held stays in the "+
				"rows, and no VACUUM frees it.", words.Size(t.Bloat.Bytes), wereOnce(n))
			f.Evidence = append(f.Evidence, evidence("dropped_columns", n))
			f.Risk = "There is no fix to paste, as an estimate can't tell the two apart: measure with --exact-bloat. What dropped columns held " +
				"goes as rows are updated, or at once with VACUUM FULL, which rewrites the whole table and blocks all other use of it."
		}
		a.add(t.Bloat.Bytes, f)
	}
}

// wereOnce begins a clause about columns.
func wereOnce(n int) string {
	if n == 1 {
		return "1 column was"
	}
	return words.Plural(n, "column") + " were"
}

// neverAnalyzed finds tables that the planner knows nothing of.
func (a *analysis) neverAnalyzed() {
	if a.reading.Tables == nil {
		return
	}
	for i := range a.reading.Tables.Items {
		t := &a.reading.Tables.Items[i]
		if t.LastAnalyze != nil || t.LastAutoanalyze != nil || t.Kind == "materialized view" ||
			t.ModifiedSinceAnalyze <= a.limits.NeverAnalyzedRows {
			continue
		}
		a.add(t.Bytes(), pgmedic.Finding{
			ID: "table-never-analyzed", Section: reading.SectionTables, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(t.Schema, t.Name),
			Summary: "No ANALYZE of it is recorded although many of its rows have changed: the planner guesses, and plans may be bad.",
			Evidence: []pgmedic.Evidence{
				evidence("modified_rows", t.ModifiedSinceAnalyze), evidence("live_tuples", t.LiveTuples),
				evidence("threshold_rows", a.limits.NeverAnalyzedRows),
			},
			Fix:  fmt.Sprintf("ANALYZE %s;", sqltext.PrintableTable(t.Schema, t.Name)),
			Risk: "Reads a sample of the table. Reads and writes go on.",
		})
	}
}

// neverVacuumed finds large tables that no VACUUM is recorded of: their
// visibility maps are empty. What has many dead rows is found as such.
func (a *analysis) neverVacuumed() {
	if a.reading.Tables == nil {
		return
	}
	for i := range a.reading.Tables.Items {
		t := &a.reading.Tables.Items[i]
		if t.LastVacuum != nil || t.LastAutovacuum != nil || t.LiveTuples <= a.limits.NeverVacuumedRows ||
			slices.ContainsFunc(a.found, func(f judged) bool {
				return f.ID == "table-dead-tuples" && f.Object == sqltext.ReadableTable(t.Schema, t.Name)
			}) {
			continue
		}
		a.add(t.Bytes(), pgmedic.Finding{
			ID: "table-never-vacuumed", Section: reading.SectionTables, Severity: pgmedic.SeverityInfo, Object: sqltext.ReadableTable(t.Schema, t.Name),
			Summary: fmt.Sprintf("No VACUUM of it is recorded, and it holds %s: index-only scans look at each row in the table, and one "+
				"day all are frozen at once.", words.Plural(t.LiveTuples, "row")),
			Evidence: []pgmedic.Evidence{
				evidence("live_tuples", t.LiveTuples), evidence("size_bytes", t.Bytes()),
				evidenceMaybe("inserted_since_vacuum", t.InsertedSinceVacuum), evidence("threshold_rows", a.limits.NeverVacuumedRows),
			},
			Fix: fmt.Sprintf("VACUUM (ANALYZE) %s;", sqltext.PrintableTable(t.Schema, t.Name)),
			Risk: "Reads the table and its indexes once. Reads and writes go on. Cannot run inside a transaction block. Before PostgreSQL 13 " +
				"autovacuum never comes to a table that is only inserted into, until it has to freeze it.",
		})
	}
}

// disk finds a file system that is nearly full, where it can be seen.
func (a *analysis) disk() {
	h := a.reading.Host
	if h == nil || h.DiskBytes <= 0 {
		return
	}
	percent := 100 * float64(h.DiskBytes-h.DiskFreeBytes) / float64(h.DiskBytes)
	severity, line := pgmedic.SeverityWarn, a.limits.DiskWarnPercent
	switch {
	case percent > a.limits.DiskCriticalPercent:
		severity, line = pgmedic.SeverityCritical, a.limits.DiskCriticalPercent
	case percent <= line:
		return
	}
	a.add(serverWide, pgmedic.Finding{
		ID: "disk-filling", Section: reading.SectionSize, Severity: severity, Object: "server",
		Summary: fmt.Sprintf("The disk that holds the data is %.0f %% full; when it is full, the server stops.", percent),
		Evidence: []pgmedic.Evidence{
			evidence("disk_bytes", h.DiskBytes), evidence("free_bytes", h.DiskFreeBytes), evidencePercent("used_percent", percent),
			evidencePercent("threshold_percent", line),
		},
		Fix: "SELECT slot_name, active, pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() " +
			"THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn) AS kept_bytes " +
			"FROM pg_catalog.pg_replication_slots;",
		Risk: "Changes nothing: WAL kept for an inactive slot is the most common cause. Never delete files in pg_wal by hand. " +
			"Then look at logs, temporary files and the largest tables.",
	})
}
