package judge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// indexes finds indexes that are broken, needless or swollen.
func (a *analysis) indexes() {
	if a.reading.Indexes == nil {
		return
	}
	for _, x := range a.reading.Indexes.Invalid {
		a.invalidIndex(x)
	}
	for _, x := range a.reading.Indexes.InvalidPartitioned {
		a.invalidPartitionedIndex(x)
	}
	for _, p := range a.reading.Indexes.Redundant {
		a.redundantIndex(p)
	}
	for _, x := range a.reading.Indexes.Unused {
		a.unusedIndex(x)
	}
	for _, x := range a.reading.Indexes.Largest {
		a.bloatedIndex(x)
	}
}

// indexFacts is what is known of an index.
func indexFacts(x reading.Index) []pgmedic.Evidence {
	return []pgmedic.Evidence{
		evidenceText("table", sqltext.ReadableTable(x.TableSchema, x.Table)), evidenceText("definition", x.Definition),
		evidence("size_bytes", x.EstimatedBytes), evidence("scans", x.Scans),
	}
}

const dropIndexRisk = " Reads and writes go on while it is dropped. Cannot run inside a transaction block. Keep its definition, " +
	"given above, to make it again."

// invalidIndex judges what an index build that failed has left behind. It is
// dropped only where it is PostgreSQL's own transient copy; another may be what
// somebody wanted, and a unique one keeps rows out even so.
func (a *analysis) invalidIndex(x reading.Index) {
	if x.Building {
		return
	}
	name := sqltext.PrintableTable(x.Schema, x.Name)
	f := pgmedic.Finding{
		ID: "index-invalid", Section: reading.SectionIndexes, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(x.Schema, x.Name),
		Summary:  "It is invalid: a build that failed left it behind. No query uses it, and every write still pays for it.",
		Evidence: indexFacts(x),
		Fix:      fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s;", name),
		Risk: "Rebuilds it: reads the table twice, and takes the disk space of a second index meanwhile. Reads and writes go on. " +
			"Cannot run inside a transaction block. If it fails, as a unique one does where rows are there twice, it leaves an index that ends " +
			"in _ccnew, to be dropped. If it is not wanted, drop it with DROP INDEX CONCURRENTLY instead.",
	}
	if regexp.MustCompile(`_cc(new|old)\d*$`).MatchString(x.Name) && x.Needed() == "" {
		f.Fix = fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", name)
		f.Risk = "It is the copy that a REINDEX CONCURRENTLY works with, and the index itself is there." + dropIndexRisk
	}
	a.add(x.EstimatedBytes, f)
}

// invalidPartitionedIndex judges an index that only the server's mark keeps from use.
// Attaching an index again that is attached has been seen to set the mark right in 14.23,
// 15.18, 16.14, 17.10 and 18.4, and not in 12.22 and 13.23.
func (a *analysis) invalidPartitionedIndex(x reading.PartitionedIndex) {
	f := pgmedic.Finding{
		ID: "index-partitioned-invalid", Section: reading.SectionIndexes, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(x.Schema, x.Name),
		Summary: "It is marked invalid, although each partition has its part of it: a parallel pg_restore can leave it so, and so can dropping the " +
			"only partition that had none.",
		Evidence: []pgmedic.Evidence{evidenceText("table", sqltext.ReadableTable(x.TableSchema, x.Table))},
	}
	if x.Unique {
		f.Summary += " Foreign keys to the table and ON CONFLICT are refused."
	}
	if a.reading.Server.VersionNum < 140000 {
		f.Risk = "There is no fix to paste: before PostgreSQL 14 the only remedy is to create the index again, on the topmost table."
		a.add(0, f)
		return
	}
	f.Fix = fmt.Sprintf("ALTER INDEX %s ATTACH PARTITION %s;", sqltext.PrintableTable(x.Schema, x.Name), sqltext.PrintableTable(x.PartitionSchema, x.Partition))
	f.Risk = "It is attached already: the server looks again at what each partition has, and changes the mark alone. It takes a moment, and an exclusive " +
		"lock on that partition's index meanwhile. Where the mark stays, the server's minor release is too old to look again: update it first."
	a.add(0, f)
}

// redundantIndex judges a pair of indexes of which one does the other's work.
func (a *analysis) redundantIndex(p reading.IndexPair) {
	x := p.Redundant
	f := pgmedic.Finding{
		ID: "index-duplicate", Section: reading.SectionIndexes, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(x.Schema, x.Name),
		Summary:  fmt.Sprintf("It is the same as %s, which does all its work; every write keeps both up to date.", sqltext.ReadableTable(p.Kept.Schema, p.Kept.Name)),
		Evidence: append(indexFacts(x), evidenceText("kept", sqltext.ReadableTable(p.Kept.Schema, p.Kept.Name)), evidenceText("kept_definition", p.Kept.Definition)),
	}
	if !p.Exact {
		f.ID, f.Severity = "index-redundant", pgmedic.SeverityInfo
		f.Summary = fmt.Sprintf("Its columns are the first of %s, which can serve the same searches.", sqltext.ReadableTable(p.Kept.Schema, p.Kept.Name))
		f.Risk = "Before you drop it: it is the smaller of the two, and faster where it suffices. Compare how often each is scanned, " +
			"here and on every replica."
		a.add(x.EstimatedBytes, f)
		return
	}
	// A foreign key of its own table is served by the other one as well.
	if why := x.Needed(); why != "" && (!x.ForeignKey || x.Unique || x.Primary || x.Constraint || x.ReplicaIdentity || x.Clustered || x.Partition || x.Extension) {
		f.Severity = pgmedic.SeverityInfo
		f.Risk = "There is no fix to paste: " + why + "."
		if x.Unique {
			f.Summary = fmt.Sprintf("It is the same as %s, which keeps the same rows unique; every write keeps both up to date.",
				sqltext.ReadableTable(p.Kept.Schema, p.Kept.Name))
			f.Risk = "There is no fix to paste: it keeps rows unique. So does the other one: see that nothing names this one, such as ON " +
				"CONFLICT ON CONSTRAINT, before you drop it."
		}
		a.add(x.EstimatedBytes, f)
		return
	}
	if x.Definition == "" {
		f.Risk = lockedRisk
		a.add(x.EstimatedBytes, f)
		return
	}
	f.Fix = fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", sqltext.PrintableTable(x.Schema, x.Name))
	f.Risk = "The other index serves the same searches, here and on replicas." + dropIndexRisk
	a.add(x.EstimatedBytes, f)
}

// lockedRisk stands for a fix that could not be taken back.
const lockedRisk = "There is no fix to paste: somebody holds or awaits an exclusive lock on its table, so that its definition could not be " +
	"read, without which it can't be made again. Look again when the lock is gone."

// hasTwin reports whether an index does the work of another one as well, or did so
// lately: then its own scans say nothing. Of two that are equal the planner uses
// one, and the other is not to be dropped beside it or after it.
func (a *analysis) hasTwin(x reading.Index) (since time.Time, now bool) {
	kept := func(r *reading.Reading) bool {
		return r.Indexes != nil && slices.ContainsFunc(r.Indexes.Redundant, func(p reading.IndexPair) bool { return p.Exact && p.Kept.OID == x.OID })
	}
	for _, e := range a.earlier {
		if e.Database == a.reading.Database && e.TakenAt.After(since) && kept(e) {
			since = e.TakenAt
		}
	}
	return since, kept(a.reading)
}

// unusedSince is since when an index is known to be there unused: its statistics
// and its catalogue entry both have to reach back, or an earlier Reading has to
// have seen it so. It is the zero time where nobody knows.
func (a *analysis) unusedSince(x reading.Index) time.Time {
	var since time.Time
	t := a.reading.Transactions
	if x.ChangedAt != nil && t != nil {
		since = *x.ChangedAt
		// After a crash the server's statistics begin anew, and nothing else
		// tells it.
		for _, reset := range []*time.Time{t.StatsReset, a.reading.Server.StatsReset} {
			if reset != nil && reset.After(since) {
				since = *reset
			}
		}
	}
	for _, e := range a.earlier {
		if !a.continues(e) || e.Indexes == nil || !since.IsZero() && !e.TakenAt.Before(since) {
			continue
		}
		if slices.ContainsFunc(e.Indexes.Unused, func(y reading.Index) bool { return y.OID == x.OID && y.Name == x.Name }) {
			since = e.TakenAt
		}
	}
	if twin, _ := a.hasTwin(x); !since.IsZero() && twin.After(since) {
		return twin
	}
	return since
}

// unusedIndex judges an index that nothing has scanned. It is called droppable
// only if nothing rests on it, if it was seen unused for long enough, and if no
// replica could be using it; replicas keep their own statistics.
func (a *analysis) unusedIndex(x reading.Index) {
	if x.EstimatedBytes < a.limits.UnusedIndexBytes || x.Needed() != "" || a.reading.Server.Role == reading.RoleStandby {
		return
	}
	scans, counted, answered := a.onReplicas(x)
	if scans > 0 {
		return
	}
	f := pgmedic.Finding{
		ID: "index-unused", Section: reading.SectionIndexes, Severity: pgmedic.SeverityInfo, Object: sqltext.ReadableTable(x.Schema, x.Name),
		Evidence: append(indexFacts(x), evidenceText("replicas_seen", a.replicasSeen())),
	}
	since := a.unusedSince(x)
	if !since.IsZero() && counted.After(since) {
		since = counted
	}
	age := a.reading.TakenAt.Sub(since)
	_, twin := a.hasTwin(x)
	replicas, known := a.unseenReplicas()
	if !answered {
		replicas = append(replicas, "one that doesn't have the index yet")
	}
	switch {
	case since.IsZero():
		f.Summary = "No scan has used it since statistics began, but for how long it has been there is not known."
		f.Risk = "Don't drop it yet: it may be new, or used once a month. Keep reports for a while, or set track_commit_timestamp, and " +
			"the age will be known."
	case twin:
		f.Summary = "No scan has used it, but it can do the work of another one that can go: see index-duplicate."
		f.Risk = "Don't drop it beside that one: searches that use the other would have none. Once the other is gone the scans of this one count."
	case x.Definition == "":
		f.Summary = fmt.Sprintf("No scan on this server has used it for %s.", words.Long(age))
		f.Risk = lockedRisk
	case age < a.limits.UnusedIndexAge:
		f.Summary = fmt.Sprintf("No scan has used it, but that is known for %s only.", words.Long(age))
		f.Risk = "Don't drop it yet: what runs once a week or a month has had no chance to use it."
	case !known || len(replicas) > 0:
		f.Summary = fmt.Sprintf("No scan on this server has used it for %s; replicas, which were not checked, may use it.", words.Long(age))
		f.Evidence = append(f.Evidence, evidenceText("replicas_not_seen", strings.Join(replicas, ", ")))
		f.Risk = "Don't drop it before you have looked at pg_stat_user_indexes on every replica: they keep their own statistics. With " +
			"their URLs in database.read_replica_url the report looks there itself."
	case x.Expression:
		f.Summary = fmt.Sprintf("No scan has used it for %s, but the planner may use what ANALYZE keeps of its expressions.", words.Long(age))
		f.Risk = "Don't drop it before you have seen that plans stay as they are: the planner takes the statistics of its expressions for " +
			"estimates, which no count of scans shows. From PostgreSQL 14 CREATE STATISTICS on the expression keeps them without an index."
	default:
		f.Severity = pgmedic.SeverityWarn
		f.Summary = fmt.Sprintf("No scan has used it for %s, and every write keeps it up to date.", words.Long(age))
		f.Evidence = append(f.Evidence, evidenceTime("unused_since", &since))
		f.Fix = fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", sqltext.PrintableTable(x.Schema, x.Name))
		f.Risk = "What runs less often than the time given would be slower, and what runs on a replica that is neither connected nor " +
			"has a slot was not checked." + dropIndexRisk
	}
	a.add(x.EstimatedBytes, f)
}

// bloatedIndex judges an index that is larger than its entries need.
func (a *analysis) bloatedIndex(x reading.Index) {
	if x.BloatBytes == nil || *x.BloatBytes < a.limits.BloatMinBytes || !x.Valid {
		return
	}
	percent := 100 * float64(*x.BloatBytes) / float64(max(1, x.EstimatedBytes))
	if percent <= a.limits.BloatPercent {
		return
	}
	a.add(*x.BloatBytes, pgmedic.Finding{
		ID: "index-bloat", Section: reading.SectionIndexes, Severity: pgmedic.SeverityWarn, Object: sqltext.ReadableTable(x.Schema, x.Name),
		Summary: fmt.Sprintf("About %.0f %% of it is %s: %s.", percent, emptyBy(x.BloatMethod), words.Size(*x.BloatBytes)),
		Evidence: append(indexFacts(x), evidence("bloat_bytes", *x.BloatBytes), evidencePercent("bloat_percent", percent),
			evidenceText("method", x.BloatMethod), evidenceText("confidence", x.BloatConfidence),
			evidencePercent("threshold_percent", a.limits.BloatPercent)),
		Fix: fmt.Sprintf("REINDEX INDEX CONCURRENTLY %s;", sqltext.PrintableTable(x.Schema, x.Name)),
		Risk: "Rebuilds it: reads the table twice, and takes the disk space of a second index meanwhile. Reads and writes go on. " +
			"Cannot run inside a transaction block. If it fails it leaves an index that ends in _ccnew, to be dropped.",
	})
}

// emptyBy says how the emptiness is known.
func emptyBy(method string) string {
	if method == reading.BloatByPgstattuple {
		return "empty"
	}
	return "estimated to be empty"
}

// missingIndexes finds large tables that are read whole again and again, with
// the columns that statements filter by: a heuristic, and called so.
func (a *analysis) missingIndexes() {
	if a.reading.Tables == nil {
		return
	}
	for i := range a.reading.Tables.Items {
		t, since := a.recentTable(&a.reading.Tables.Items[i])
		if t.SeqScans < a.limits.SeqScans || t.SeqTuplesRead/max(1, t.SeqScans) < a.limits.SeqScanRows ||
			float64(t.SeqScans) < 0.1*float64(t.SeqScans+t.IdxScans) {
			continue
		}
		f := pgmedic.Finding{
			ID: "index-missing", Section: reading.SectionIndexes, Severity: pgmedic.SeverityInfo, Object: sqltext.ReadableTable(t.Schema, t.Name),
			Summary: fmt.Sprintf("It was read whole %s times (%s), %s rows each time on average: an index may be missing.",
				pgmedic.Count(t.SeqScans), since, pgmedic.Count(t.SeqTuplesRead/max(1, t.SeqScans))),
			Evidence: []pgmedic.Evidence{
				evidence("seq_scans", t.SeqScans), evidence("rows_read", t.SeqTuplesRead), evidence("index_scans", t.IdxScans),
				evidence("rows_estimated", t.EstimatedRows), evidence("size_bytes", t.Bytes()),
				evidenceText("window", since), evidence("threshold_rows", a.limits.SeqScanRows),
			},
		}
		column, statement := a.filteredBy(t)
		if column == "" {
			f.Risk = "Look for the statements that read it, and at what they filter by; reports, backups and ANALYZE read tables whole " +
				"too, and need no index."
			a.add(t.Bytes(), f)
			continue
		}
		f.Severity = pgmedic.SeverityWarn
		f.Object += " (" + sqltext.Readable(column) + ")"
		f.Evidence = append(f.Evidence, evidenceText("statement", statement.Query), evidence("statement_calls", statement.Calls),
			evidenceText("method", "heuristic"))
		f.Fix = fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s);", sqltext.PrintableTable(t.Schema, t.Name), sqltext.PrintableIdent(column))
		f.Risk = "A heuristic: a statement filters by this column, and no index begins with it. Whether it helps depends on how few rows " +
			"match: try EXPLAIN first. Building it reads the table twice and takes disk space; reads and writes go on, and each write " +
			"costs a little more from then on. Cannot run inside a transaction block. If it fails, drop the INVALID index that it leaves."
		if t.Kind == "partition" {
			f.Risk += " The table is a partition: the others may want the index too."
		}
		a.add(t.Bytes(), f)
	}
}

// recentTable returns a table with how it was read in the last day, where the
// history has its counters of then, else as it is, and a word on since when.
func (a *analysis) recentTable(x *reading.Table) (recent *reading.Table, since string) {
	if t := a.reading.Transactions; t != nil {
		since = sinceReset(t.StatsReset)
	} else {
		since = "since its statistics began"
	}
	day := a.dayAgo(func(e *reading.Reading) bool { return e.Tables != nil })
	if day == nil {
		return x, since
	}
	i := slices.IndexFunc(day.Tables.Items, func(y reading.Table) bool { return y.Schema == x.Schema && y.Name == x.Name })
	if i < 0 {
		return x, since
	}
	t, was := *x, &day.Tables.Items[i]
	if t.SeqScans < was.SeqScans || t.IdxScans < was.IdxScans {
		return x, since // another table that has its name
	}
	t.SeqScans, t.SeqTuplesRead, t.IdxScans = t.SeqScans-was.SeqScans, t.SeqTuplesRead-was.SeqTuplesRead, t.IdxScans-was.IdxScans
	return &t, a.inTheLast(day)
}

// filteredBy returns the column that no index of a table begins with and that
// the statement with the most time filters by.
func (a *analysis) filteredBy(t *reading.Table) (column string, by *reading.Statement) {
	if a.reading.Statements == nil || len(t.Unindexed) == 0 {
		return "", nil
	}
	f := newFilters(t.Schema, t.Name)
	for i := range a.reading.Statements.Items {
		s := &a.reading.Statements.Items[i]
		if s.Database != a.reading.Database {
			continue
		}
		for _, column := range f.columns(s.Query) {
			if slices.Contains(t.Unindexed, column) {
				return column, s
			}
		}
	}
	return "", nil
}
