package judge

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// deadTuples finds tables that VACUUM should have been at.
func (a *analysis) deadTuples() {
	if a.reading.Tables == nil {
		return
	}
	for i := range a.reading.Tables.Items {
		t := &a.reading.Tables.Items[i]
		all := t.LiveTuples + t.DeadTuples
		if all <= 0 || t.DeadTuples <= a.limits.DeadTuplesMin {
			continue
		}
		percent := 100 * float64(t.DeadTuples) / float64(all)
		if percent <= a.limits.DeadTuplesPercent {
			continue
		}
		a.add(t.Bytes(), a.deadFinding(t, percent))
	}
}

// oldestHolder is what keeps VACUUM from removing rows for the most transactions,
// nil where nothing has for any.
func (a *analysis) oldestHolder() *reading.Holder {
	l := a.whole.Limits
	if l == nil || len(l.Holders) == 0 || max(l.Holders[0].XIDAge, l.Holders[0].CatalogXIDAge) == 0 {
		return nil
	}
	return &l.Holders[0] // oldest first
}

// deadFinding says how dead a table is and what autovacuum does about it.
func (a *analysis) deadFinding(t *reading.Table, percent float64) pgmedic.Finding {
	v := vacuumTrigger(t, &a.reading.Server)
	risk := "Reads the table and its indexes once. Reads and writes go on, except for a moment if it can give empty " +
		"pages at the end of the file back. Cannot run inside a transaction block."
	if v.off == "for this table" {
		risk += " Autovacuum stays off for it until ALTER TABLE … RESET (autovacuum_enabled)."
	}
	if c := a.reading.Connections; c != nil && c.OldestTransactionSeconds > a.limits.IdleInTransaction.Seconds() {
		risk += fmt.Sprintf(" A transaction has been open for %s: rows deleted since then stay until it ends.",
			words.LongSeconds(c.OldestTransactionSeconds))
	}
	held := pgmedic.Evidence{Name: "held_back_by"}
	if h := a.oldestHolder(); h != nil {
		held.Value = fmt.Sprintf("%s %s, for %s", h.Kind, h.Name, words.Plural(max(h.XIDAge, h.CatalogXIDAge), "transaction"))
	}
	return pgmedic.Finding{
		ID: "table-dead-tuples", Section: reading.SectionTables, Severity: pgmedic.SeverityWarn,
		Object:  sqltext.ReadableTable(t.Schema, t.Name),
		Summary: fmt.Sprintf("%.0f %% of the rows in it are dead, and %s.", deadShown(percent, t), v.says(t)),
		Evidence: []pgmedic.Evidence{
			evidence("dead_tuples", t.DeadTuples), evidence("live_tuples", t.LiveTuples),
			evidencePercent("dead_percent", percent), evidence("size_bytes", t.Bytes()),
			evidence("autovacuum_at_dead_tuples", v.at),
			evidenceTime("last_vacuum", t.LastVacuum), evidenceTime("last_autovacuum", t.LastAutovacuum),
			held, evidencePercent("threshold_percent", a.limits.DeadTuplesPercent),
		},
		Fix:  fmt.Sprintf("VACUUM (ANALYZE) %s;", sqltext.PrintableTable(t.Schema, t.Name)),
		Risk: risk,
	}
}

// deadShown is a percentage to be rounded, never up to all of the rows while one
// lives.
func deadShown(percent float64, t *reading.Table) float64 {
	if t.LiveTuples > 0 {
		return min(percent, 99)
	}
	return percent
}

// trigger is when autovacuum comes to a table.
type trigger struct {
	// at is the number of dead rows beyond which it comes.
	at int64
	// off says where autovacuum is switched off, or is empty.
	off string
}

// vacuumTrigger computes when autovacuum comes to a table: threshold +
// scale_factor × reltuples, from PostgreSQL 18 at most max_threshold, with the
// table's own storage parameters before the server's settings. See "The
// Autovacuum Daemon" in PostgreSQL's manual.
func vacuumTrigger(t *reading.Table, s *reading.Server) trigger {
	number := func(name string, otherwise float64) float64 {
		otherwise = numberSetting(s, name, otherwise)
		if text, ok := option(t, name); ok {
			var n float64
			if _, err := fmt.Sscanf(text, "%g", &n); err == nil {
				return n
			}
		}
		return otherwise
	}
	at := number("autovacuum_vacuum_threshold", 50) +
		number("autovacuum_vacuum_scale_factor", 0.2)*float64(max(0, t.EstimatedRows))
	if limit := number("autovacuum_vacuum_max_threshold", -1); limit >= 0 {
		at = math.Min(at, limit)
	}
	v := trigger{at: int64(at)}
	if text, ok := option(t, "autovacuum_enabled"); ok && !isOn(text) {
		v.off = "for this table"
	} else if text, ok := s.Setting("autovacuum"); ok && !isOn(text) {
		v.off = "on this server"
	}
	return v
}

// isOn reads a boolean as storage parameters keep it: as the user wrote it.
func isOn(text string) bool {
	text = strings.ToLower(text)
	for _, no := range []string{"false", "off", "no"} {
		if text != "" && text != "o" && strings.HasPrefix(no, text) {
			return false
		}
	}
	return text != "0"
}

// says what autovacuum does about a table, as the end of a sentence.
func (v trigger) says(t *reading.Table) string {
	switch {
	case v.off != "":
		return "autovacuum is switched off " + v.off
	case t.DeadTuples <= v.at:
		return "autovacuum has not been due: it comes at the number of dead rows given below"
	case t.LastAutovacuum == nil:
		return "autovacuum is due and has never been here"
	default:
		return "autovacuum is due again, and was last here on " + t.LastAutovacuum.UTC().Format(time.DateOnly)
	}
}

// primaryKeys finds tables whose rows nothing tells apart.
func (a *analysis) primaryKeys() {
	if a.reading.Tables == nil {
		return
	}
	for _, t := range a.reading.Tables.WithoutPrimaryKey {
		a.add(t.EstimatedBytes, keylessFinding(t))
	}
}

// keylessFinding says what a table without a primary key can have for one. The
// DDL takes an exclusive lock, so it gives up by itself, with nothing changed,
// rather than hold anybody up.
func keylessFinding(t reading.KeylessTable) pgmedic.Finding {
	f := pgmedic.Finding{
		ID: "table-without-primary-key", Section: reading.SectionTables, Severity: pgmedic.SeverityWarn,
		Object: sqltext.ReadableTable(t.Schema, t.Name),
		Summary: "It has no primary key: nothing keeps rows from being stored twice, and logical replication could " +
			"not carry its updates and deletes.",
		Evidence: []pgmedic.Evidence{evidence("rows_estimated", t.EstimatedRows), evidence("size_bytes", t.EstimatedBytes)},
	}
	table := sqltext.PrintableTable(t.Schema, t.Name)
	const bounded = " It gives up after 2 s of waiting or 10 s of work and then has changed nothing."
	switch {
	case t.PartitionKey != "":
		f.Evidence = append(f.Evidence, evidenceText("partitioned_by", t.PartitionKey),
			evidence("partitions", t.Partitions), evidence("partitions_without", t.PartitionsWithout))
		f.Summary = fmt.Sprintf("The partitioned table has no primary key, nor have %d of its %d partitions; one on the whole "+
			"table must hold the columns that it is partitioned by.", t.PartitionsWithout, t.Partitions)
		if t.UniqueIndex != "" {
			f.Severity = pgmedic.SeverityInfo
			f.Summary = "The partitioned table has no primary key; a unique index over NOT NULL columns tells its rows apart."
			f.Evidence = append(f.Evidence, evidenceText("unique_index", sqltext.Readable(t.UniqueIndex)))
		}
	case t.Published && (t.UniqueIndexUsable || t.UniqueIndex == "" && t.FreeColumn != ""):
		f.Evidence = append(f.Evidence, evidenceText("published", "yes"))
		f.Risk = "There is no fix to paste: a publication sends its rows to subscribers. A column that is added here stops replication " +
			"at every subscriber that lacks it: add it there first. With a key its updates and deletes are sent, and a " +
			"subscriber whose table has none stops at the first. To tell rows apart for replication alone, ALTER TABLE … REPLICA IDENTITY " +
			"FULL changes no column."
		if t.UniqueIndex != "" {
			f.Severity = pgmedic.SeverityInfo
			f.Summary = "It has no primary key; a unique index over NOT NULL columns tells its rows apart and can become one."
			f.Evidence = append(f.Evidence, evidenceText("unique_index", sqltext.Readable(t.UniqueIndex)))
		}
	case t.UniqueIndexUsable:
		f.Severity = pgmedic.SeverityInfo
		f.Summary = "It has no primary key; a unique index over NOT NULL columns tells its rows apart and can become one."
		f.Evidence = append(f.Evidence, evidenceText("unique_index", sqltext.Readable(t.UniqueIndex)))
		f.Fix = boundedDDL(fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY USING INDEX %s;", table, sqltext.PrintableIdent(t.UniqueIndex)))
		f.Risk = "Blocks all other use of the table while it runs, which is a moment: the index exists." + bounded
	case t.UniqueIndex != "":
		f.Severity = pgmedic.SeverityInfo
		f.Summary = "It has no primary key; a unique index over NOT NULL columns tells its rows apart, so this is a matter of form."
		f.Evidence = append(f.Evidence, evidenceText("unique_index", sqltext.Readable(t.UniqueIndex)))
	case t.InCode && t.FreeColumn != "":
		f.Risk = "There is no fix to paste: triggers of the table, or functions of its rows, may count its columns, as INSERT … SELECT OLD.* " +
			"does, and would fail with one more. See what they do, and then add a column that is the key. If columns of it are unique already, " +
			"make those the key instead."
	case t.FreeColumn != "":
		f.Fix = boundedDDL(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY;",
			table, sqltext.PrintableIdent(t.FreeColumn)))
		f.Risk = "Rewrites the table, and blocks all other use of it meanwhile." + bounded + " SELECT * and COPY without a " +
			"column list see one column more, and a prepared SELECT * may fail once in each session. If columns of it are unique already, make those the key instead."
	}
	return f
}

// boundedDDL wraps a statement that takes an exclusive lock so that it can't
// hold the table's users up for long.
func boundedDDL(statement string) string {
	return strings.Join([]string{
		"BEGIN;", "SET LOCAL lock_timeout = '2s';", "SET LOCAL statement_timeout = '10s';", statement, "COMMIT;",
	}, "\n")
}

// partitionsPasted is up to how many partitions a fix names one by one.
const partitionsPasted = 12

// foreignKeys finds foreign keys that no index of the referencing table
// supports.
func (a *analysis) foreignKeys() {
	if a.reading.Indexes == nil {
		return
	}
	for _, k := range a.reading.Indexes.ForeignKeysWithoutIndex {
		severity := pgmedic.SeverityWarn
		if k.EstimatedRows < a.limits.SmallTableRows {
			severity = pgmedic.SeverityInfo
		}
		f := pgmedic.Finding{
			ID: "foreign-key-without-index", Section: reading.SectionIndexes, Severity: severity,
			Object: sqltext.ReadableTable(k.Schema, k.Table) + " (" + sqltext.ReadableList(k.Columns) + ")",
			Summary: fmt.Sprintf("No index supports the foreign key %s: each delete or key change in %s reads the whole table.",
				sqltext.Readable(k.Name), sqltext.ReadableTable(k.ReferencedSchema, k.ReferencedTable)),
			Evidence: []pgmedic.Evidence{
				evidenceText("constraint", sqltext.Readable(k.Name)),
				evidenceText("referenced_table", sqltext.ReadableTable(k.ReferencedSchema, k.ReferencedTable)),
				evidence("rows_estimated", k.EstimatedRows), evidence("size_bytes", k.EstimatedBytes),
			},
		}
		if k.Partitioned {
			f.Evidence = append(f.Evidence, evidence("partitions_without_index", k.PartitionsWithoutTotal))
		}
		f.Fix, f.Risk = indexDDL(k)
		a.add(k.EstimatedBytes, f)
	}
}

// indexDDL makes the index without holding writes up. CONCURRENTLY is not
// allowed on a partitioned table: each partition gets its index first, and the
// parent's then adopts those instead of building any.
func indexDDL(k reading.ForeignKey) (fix, risk string) {
	risk = "Reads the table twice and takes disk space for the index; reads and writes go on, and each write costs a " +
		"little more from then on. Cannot run inside a transaction block. If it fails, drop the INVALID index that it leaves."
	columns := sqltext.PrintableList(k.Columns)
	create := func(schema, name string) string {
		return fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s);", sqltext.PrintableTable(schema, name), columns)
	}
	switch {
	case !k.Partitioned:
		return create(k.Schema, k.Table), risk
	case k.PartitionsWithoutTotal > len(k.PartitionsWithout) || k.PartitionsWithoutTotal > partitionsPasted:
		// Too many to paste: print them on the server.
		return fmt.Sprintf("SELECT pg_catalog.format('CREATE INDEX CONCURRENTLY ON %%s (%%s);', relid, %s) "+
				"FROM pg_catalog.pg_partition_tree(%s) WHERE isleaf;",
				sqltext.PrintableLiteral(columns), sqltext.PrintableLiteral(sqltext.QuoteQualified(k.Schema, k.Table))),
			"Changes nothing: it prints a statement for each partition, to be run one by one. Of those, each: " + risk
	}
	lines := make([]string, 0, len(k.PartitionsWithout)+1)
	for _, p := range k.PartitionsWithout {
		lines = append(lines, create(p.Schema, p.Name))
	}
	// The parent adopts an index that is the same as its own; beside any other
	// it would build one more, so it is left alone where partitions differ.
	if k.OnParent && k.PartitionsWithoutTotal == k.Partitions {
		lines = append(lines, boundedDDL(fmt.Sprintf("CREATE INDEX ON %s (%s);", sqltext.PrintableTable(k.Schema, k.Table), columns)))
		risk += " The last statement adopts the partitions' indexes, which is a moment; it gives up after 2 s of waiting " +
			"or 10 s of work and then has changed nothing."
	}
	return strings.Join(lines, "\n"), risk
}
