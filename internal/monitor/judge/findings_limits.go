package judge

import (
	"fmt"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// xidLimit is how many transactions a row can age: half of the 2^32 numbers
// that there are. The server refuses writes three million before; see
// "Preventing Transaction ID Wraparound Failures" in PostgreSQL's manual.
const xidLimit = 1 << 31

// limitSeverity says how bad it is that a share of something that ends is used
// up, nothing if it is below every line.
func (a *analysis) limitSeverity(percent float64) (severity pgmedic.Severity, line float64) {
	for _, l := range []struct {
		at       float64
		severity pgmedic.Severity
	}{
		{a.limits.LimitCriticalPercent, pgmedic.SeverityCritical},
		{a.limits.LimitWarnPercent, pgmedic.SeverityWarn},
		{a.limits.LimitInfoPercent, pgmedic.SeverityInfo},
	} {
		if percent >= l.at {
			return l.severity, l.at
		}
	}
	return "", 0
}

// databaseAges finds databases other than the one looked at that near the end
// of transaction numbers; of that one, the tables are found.
func (a *analysis) databaseAges() {
	if a.reading.Limits == nil {
		return
	}
	for _, d := range a.reading.Limits.Databases {
		percent := 100 * float64(max(d.XIDAge, d.MultiXactAge)) / xidLimit
		severity, line := a.limitSeverity(percent)
		if severity == "" {
			continue
		}
		f := pgmedic.Finding{
			ID: "wraparound-database", Section: reading.SectionLimits, Severity: severity, Object: "database " + sqltext.Readable(d.Name),
			Summary: fmt.Sprintf("%.0f %% of the transaction numbers since its oldest row was frozen are used up; at the end the whole "+
				"server refuses writes.", percent),
			Evidence: []pgmedic.Evidence{
				evidence("xid_age", d.XIDAge), evidence("multixact_age", d.MultiXactAge), evidencePercent("used_percent", percent),
				evidencePercent("threshold_percent", line),
			},
			Fix: "VACUUM (FREEZE);",
			Risk: "Reads every table of the database, and writes pages that hold unfrozen rows: much I/O, and no lock that keeps reads " +
				"or writes waiting. An old transaction, slot or prepared transaction makes it useless: end that first. Run it as a " +
				"superuser or the database's owner.",
		}
		if d.Name != a.reading.Database {
			f.Database = d.Name
		}
		a.add(serverWide, f)
	}
}

// agesFound bounds how many tables are found for their age: after the first of
// them the next report shows the next.
const agesFound = 5

// tableAges finds the tables whose oldest rows should have been frozen.
func (a *analysis) tableAges() {
	if a.reading.Limits == nil {
		return
	}
	for _, t := range a.reading.Limits.Tables[:min(agesFound, len(a.reading.Limits.Tables))] {
		percent := 100 * float64(max(t.XIDAge, t.MultiXactAge)) / xidLimit
		severity, line := a.limitSeverity(percent)
		if severity == "" {
			return
		}
		f := pgmedic.Finding{
			ID: "wraparound-table", Section: reading.SectionLimits, Severity: severity, Object: sqltext.ReadableTable(t.Schema, t.Name),
			Summary: fmt.Sprintf("%.0f %% of the transaction numbers since its oldest row was frozen are used up, and autovacuum has not "+
				"frozen it.", percent),
			Evidence: []pgmedic.Evidence{
				evidence("xid_age", t.XIDAge), evidence("multixact_age", t.MultiXactAge), evidencePercent("used_percent", percent),
				evidence("size_bytes", t.EstimatedBytes), evidencePercent("threshold_percent", line),
			},
			Fix: fmt.Sprintf("VACUUM (FREEZE) %s;", sqltext.PrintableTable(t.Schema, t.Name)),
			Risk: "Reads the table and writes pages that hold unfrozen rows: much I/O, and reads and writes go on. Cannot run inside " +
				"a transaction block. An old transaction, slot or prepared transaction makes it useless: end that first.",
		}
		if strings.HasPrefix(t.Schema, "pg_temp_") {
			f.Summary += " It is a temporary table of a session, which no VACUUM but that session's can freeze."
			f.Fix = sessionOfTemp(strings.TrimPrefix(t.Schema, "pg_temp_"))
			f.Risk = "Changes nothing: it shows whose table it is. Have that session vacuum it or end. If it shows no session, a crash left the " +
				"table behind, and a superuser can drop it. Never drop one of a session that is there: an idle session holds no lock on " +
				"its table, and would lose its rows."
		}
		a.add(t.EstimatedBytes, f)
	}
}

// sessionOfTemp shows the session that a schema for temporary tables belongs to:
// the number in its name is the session's own.
func sessionOfTemp(number string) string {
	return fmt.Sprintf("SELECT a.pid, a.usename, a.application_name, a.state, a.backend_start FROM pg_catalog.pg_stat_get_backend_idset() AS b(id) "+
		"JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) pg_catalog.pg_stat_get_backend_pid(b.id) WHERE b.id::pg_catalog.text OPERATOR(pg_catalog.=) %s;", sqltext.PrintableLiteral(number))
}

// sequences finds sequences, or the columns that they fill, that run out.
func (a *analysis) sequences() {
	if a.reading.Limits == nil {
		return
	}
	for _, s := range a.reading.Limits.Sequences {
		severity, line := a.limitSeverity(s.UsedPercent)
		if severity == "" || s.Cycle {
			continue
		}
		f := pgmedic.Finding{
			ID: "sequence-near-end", Section: reading.SectionLimits, Severity: severity, Object: sqltext.ReadableTable(s.Schema, s.Name),
			Evidence: []pgmedic.Evidence{
				evidence("last_value", s.LastValue), evidence("limit", s.Limit), evidencePercent("used_percent", s.UsedPercent),
				evidenceText("type", s.Type),
			},
		}
		what := "the sequence"
		if s.Column != "" {
			column := sqltext.ReadableTable(s.TableSchema, s.Table) + "." + sqltext.Readable(s.Column)
			what = fmt.Sprintf("the column %s (%s)", column, s.ColumnType)
			f.Evidence = append(f.Evidence, evidenceText("column", column), evidenceText("column_type", s.ColumnType))
		}
		f.Evidence = append(f.Evidence, evidencePercent("threshold_percent", line))
		f.Summary = fmt.Sprintf("%.0f %% of the values that %s can take are used up; after the last one every insert fails.", s.UsedPercent, what)
		f.Fix, f.Risk = sequenceFix(s)
		a.add(serverWide/4+int64(1000*s.UsedPercent), f) // the next to end first
	}
}

// sequenceFix widens what is too narrow.
func sequenceFix(s reading.Sequence) (fix, risk string) {
	name := sqltext.PrintableTable(s.Schema, s.Name)
	narrow := s.ColumnType == "integer" || s.ColumnType == "smallint"
	column := sqltext.PrintableTable(s.TableSchema, s.Table) + "." + sqltext.PrintableIdent(s.Column)
	switch {
	case s.Increment < 0:
		return "", ""
	case s.ColumnLimit != nil && !narrow:
		return "", fmt.Sprintf("There is no fix to paste: the type of %s, %s, takes no larger number. Give the column another type (ALTER TABLE … "+
			"ALTER COLUMN … TYPE bigint, with the checks that a domain made), in a maintenance window: that rewrites the whole table and "+
			"blocks all other use of it meanwhile.", column, s.ColumnType)
	case narrow && s.Published:
		return "", fmt.Sprintf("There is no fix to paste: a publication sends the rows of %s to subscribers, whose column would be too narrow for "+
			"the larger numbers, and one that takes rows in binary form stops at once. Widen the column at every subscriber first (ALTER TABLE … "+
			"ALTER COLUMN … TYPE bigint), and then here: each rewrites the whole table and blocks all other use of it meanwhile.",
			sqltext.PrintableTable(s.TableSchema, s.Table))
	case narrow:
		table := sqltext.PrintableTable(s.TableSchema, s.Table)
		statements := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE bigint;", table, sqltext.PrintableIdent(s.Column))
		if s.Type != "bigint" {
			statements += fmt.Sprintf("\nALTER SEQUENCE %s AS bigint;", name)
		}
		return boundedDDL(statements),
			"Rewrites the whole table and its indexes, and blocks all other use of it meanwhile. It gives up after 2 s of waiting or " +
				"10 s of work and then has changed nothing: a large table needs a maintenance window, or a new column that is filled " +
				"little by little. Widen the columns that reference it too, and check what the application reads the number into: " +
				"a prepared statement that reads the column may fail once in each session."
	case s.Type != "bigint":
		return boundedDDL(fmt.Sprintf("ALTER SEQUENCE %s AS bigint;", name)),
			"A moment. Check that whatever takes the numbers can hold larger ones."
	default:
		return boundedDDL(fmt.Sprintf("ALTER SEQUENCE %s NO MAXVALUE;", name)),
			"A moment. Somebody chose the present limit: check that whatever takes the numbers can hold larger ones."
	}
}

// followers counts the standbys that follow this server, as far as it knows: those
// that are connected and those that a slot is kept for. It is negative where that
// is not known.
func (a *analysis) followers() int {
	r := a.whole.Replication
	if r == nil || r.Standbys == nil || r.Slots == nil {
		return -1
	}
	n := len(r.Physical())
	for _, s := range r.Slots {
		if s.Type == "physical" && !s.Active {
			n++
		}
	}
	return n
}

// workers finds bounded kinds of processes and slots of which none is left.
func (a *analysis) workers() {
	if a.reading.Limits == nil {
		return
	}
	for _, w := range a.reading.Limits.Workers {
		if w.Max <= 0 || w.Used < w.Max {
			continue
		}
		f := pgmedic.Finding{
			ID: "workers-exhausted", Section: reading.SectionLimits, Severity: pgmedic.SeverityWarn, Object: w.Setting,
			Summary: fmt.Sprintf("All %d %s are taken: no further one can start.", w.Max, w.Kind),
			Evidence: []pgmedic.Evidence{
				evidence("used", w.Used), evidence("max", w.Max),
			},
			Fix: fmt.Sprintf("ALTER SYSTEM SET %s = %d;", w.Setting, 2*w.Max),
			Risk: "Needs a restart of the server to take effect. A standby must have at least the same value before its primary, or " +
				"it stops replaying. First see whether what holds them is still wanted.",
		}
		if n := a.followers(); n != 0 && (w.Setting == "max_wal_senders" || w.Setting == "max_prepared_transactions") {
			f.Fix = "SELECT application_name, client_addr, state, sync_state FROM pg_catalog.pg_stat_replication ORDER BY backend_start;"
			f.Risk = fmt.Sprintf("Changes nothing: it shows who is connected. First see whether what holds them is still wanted. A larger value "+
				"goes into every standby first (ALTER SYSTEM SET %s = %d;, and a restart), and then here: a standby whose value is lower than its "+
				"primary's stops replaying.", w.Setting, 2*w.Max)
		}
		if w.Kind == "autovacuum workers" {
			f.Severity = pgmedic.SeverityInfo
			f.Summary = fmt.Sprintf("All %d autovacuum workers are at work: tables that are due wait.", w.Max)
			f.Fix = "SELECT pid, relid::pg_catalog.regclass, phase, heap_blks_scanned, heap_blks_total FROM pg_catalog.pg_stat_progress_vacuum;"
			f.Risk = "Changes nothing: it shows what they do. If it is always so, let them work faster (autovacuum_vacuum_cost_limit) " +
				"before there are more of them: they share that limit."
		}
		a.add(serverWide, f)
	}
}
