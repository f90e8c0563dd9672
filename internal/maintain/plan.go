package maintain

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Facts is what a plan rests on.
type Facts struct {
	// Reading has the sections tables, indexes and limits, and Findings are the
	// judgements of it that are not muted.
	Reading  *reading.Reading
	Findings []pgmedic.Finding
	// Kinds are those to plan.
	Kinds []Kind
	// Relations are the tables and indexes of Reading. What is not among them was
	// dropped or renamed meanwhile.
	Relations []Relation
	// Partitioned are the partitioned tables, which autovacuum never analyzes.
	Partitioned []Partitioned
	// Checkable are the B-trees that amcheck can read, and AmcheckSchema is the
	// extension's, empty where it is not installed.
	Checkable     []Relation
	AmcheckSchema string
	// Standbys is true where standbys follow the server. An exclusive lock that VACUUM
	// takes to give empty pages back would cancel queries there.
	Standbys bool
	// AnalyzeThreshold and AnalyzeScale are the server's autovacuum_analyze_threshold
	// and autovacuum_analyze_scale_factor.
	AnalyzeThreshold, AnalyzeScale float64
	// Thresholds are those of the findings.
	Thresholds reading.Thresholds
}

// Relation is a table or an index, and what may be done to it.
type Relation struct {
	OID    uint32
	Schema string
	Name   string
	// Temporary is true for a temporary table of any session.
	Temporary bool
	// Exclusion is true for the index of an exclusion constraint, System for one of the
	// system's schemas.
	Exclusion, System bool
	// Tablespace is where it is, empty for the place of the data directory.
	Tablespace string
	// MayVacuum and MayReindex say what the role may do.
	MayVacuum, MayReindex bool
}

// Partitioned is a table at the top of a tree of partitions.
type Partitioned struct {
	Relation
	// LeafRows is how many rows its partitions are estimated to have. AnalyzedRows is
	// how many the last ANALYZE of the whole table saw, negative where there was none
	// or where the server's version does not tell.
	LeafRows, AnalyzedRows float64
	// Analyzed is true where there are statistics of the whole table.
	Analyzed bool
}

// The order of steps: what ends in a stop of the server first, then statistics, which
// take seconds, then what gives the most bytes back.
const (
	urgencyFreeze = iota
	urgencyStatistics
	urgencySpace
	urgencyCheck
)

const (
	// staleFactor is how many times over autovacuum's own line for ANALYZE a table must
	// be before it is planned. This is our choice: what is on the line is autovacuum's
	// to do within a minute.
	staleFactor = 2
	// stalePartitions is how much the rows of partitions may differ from what the last
	// ANALYZE of the whole table saw: staleFactor times the default of
	// autovacuum_analyze_scale_factor.
	stalePartitions = 0.2
)

// NewPlan plans the steps that the findings ask for, those with the greatest gain
// first. The same facts give the same plan.
func NewPlan(f Facts) *Plan {
	p := planner{Facts: f, plan: &Plan{Database: f.Reading.Database, Steps: []Step{}, Notes: []string{}, Unread: []string{}}}
	p.unread()
	p.freezes()
	p.vacuums()
	p.statistics()
	p.partitioned()
	p.reindexes()
	p.checks()
	p.notes()
	slices.SortStableFunc(p.plan.Steps, func(x, y Step) int {
		return cmp.Or(cmp.Compare(x.urgency, y.urgency), cmp.Compare(y.weight, x.weight), cmp.Compare(x.Object, y.Object), cmp.Compare(x.Kind, y.Kind))
	})
	return p.plan
}

type planner struct {
	Facts
	plan *Plan
}

func (p *planner) wants(k Kind) bool { return slices.Contains(p.Kinds, k) }

// found returns the finding about an object, if there is one.
func (p *planner) found(id, object string) (pgmedic.Finding, bool) {
	i := slices.IndexFunc(p.Findings, func(f pgmedic.Finding) bool { return f.ID == id && f.Object == object && f.Database == "" })
	if i < 0 {
		return pgmedic.Finding{}, false
	}
	return p.Findings[i], true
}

// relation returns a table or an index by its name.
func (p *planner) relation(schema, name string) (Relation, bool) {
	i := slices.IndexFunc(p.Relations, func(r Relation) bool { return r.Schema == schema && r.Name == name })
	if i < 0 {
		return Relation{}, false
	}
	return p.Relations[i], true
}

// add adds a step. A reason not to run it makes it a skipped one.
func (p *planner) add(s Step, r Relation, not string) {
	s.Object, s.relation, s.Outcome, s.Detail = sqltext.ReadableTable(r.Schema, r.Name), r, Planned, not
	if not != "" {
		s.Outcome = Skipped
	}
	p.plan.Steps = append(p.plan.Steps, s)
}

// planned reports whether a step on the table renews its statistics already.
func (p *planner) planned(r Relation) bool {
	return slices.ContainsFunc(p.plan.Steps, func(s Step) bool { return s.relation.OID == r.OID })
}

// unread says what of the reading is missing.
func (p *planner) unread() {
	r := p.Reading
	say := func(section, what string) {
		reason := "the reading does not have it"
		for _, s := range r.Skipped {
			if s.Section == section {
				reason = s.Reason
				break
			}
		}
		p.plan.Unread = append(p.plan.Unread, what+": "+reason)
	}
	if (r.Tables == nil || r.Tables.Items == nil) && (p.wants(Vacuum) || p.wants(Analyze)) {
		say(reading.SectionTables, "tables")
	}
	if (r.Limits == nil || r.Limits.Tables == nil) && p.wants(Vacuum) {
		say(reading.SectionLimits, "ages of tables")
	}
	if (r.Indexes == nil || r.Indexes.Largest == nil) && p.wants(Reindex) {
		say(reading.SectionIndexes, "indexes")
	}
}

const (
	noOwner = "the role may not: it is neither the owner of the table nor of the database"
	noIndex = "the role may not: it does not own the index"
	gone    = "it was dropped or renamed meanwhile"
)

// vacuumStep is VACUUM of a table, with ANALYZE if that is wanted.
func (p *planner) vacuumStep(r Relation, freeze bool) Step {
	var options []string
	if freeze {
		options = append(options, "FREEZE")
	}
	if p.wants(Analyze) {
		options = append(options, "ANALYZE")
	}
	options = append(options, "SKIP_LOCKED")
	if p.Standbys {
		options = append(options, "TRUNCATE false")
	}
	return p.statement(Vacuum, "VACUUM ("+strings.Join(options, ", ")+") ", r)
}

// statement is a step whose statement ends in the name of its object.
func (p *planner) statement(k Kind, begins string, r Relation) Step {
	return Step{
		Kind: k, Statement: begins + sqltext.PrintableTable(r.Schema, r.Name) + ";",
		sql: begins + sqltext.QuoteQualified(r.Schema, r.Name),
	}
}

// maintainable says why a table is not vacuumed or analyzed, or nothing.
func maintainable(r Relation) string {
	switch {
	case r.Temporary:
		return "it is a temporary table of another session, which alone can do that"
	case !r.MayVacuum:
		return noOwner
	}
	return ""
}

// freezes plans VACUUM FREEZE of the tables whose oldest rows should have been frozen.
func (p *planner) freezes() {
	if !p.wants(Vacuum) || p.Reading.Limits == nil {
		return
	}
	for _, t := range p.Reading.Limits.Tables {
		f, ok := p.found("wraparound-table", sqltext.ReadableTable(t.Schema, t.Name))
		if !ok {
			continue
		}
		r, there := p.relation(t.Schema, t.Name)
		if !there {
			continue
		}
		s := p.vacuumStep(r, true)
		s.Reason, s.urgency, s.weight = f.Summary, urgencyFreeze, max(t.XIDAge, t.MultiXactAge)
		p.add(s, r, maintainable(r))
	}
}

// vacuums plans VACUUM of tables with many dead rows, and of large ones that no VACUUM
// has seen.
func (p *planner) vacuums() {
	if !p.wants(Vacuum) || p.Reading.Tables == nil {
		return
	}
	for i := range p.Reading.Tables.Items {
		t := &p.Reading.Tables.Items[i]
		object := sqltext.ReadableTable(t.Schema, t.Name)
		f, dead := p.found("table-dead-tuples", object)
		if !dead {
			var never bool
			if f, never = p.found("table-never-vacuumed", object); !never {
				continue
			}
		}
		r, there := p.relation(t.Schema, t.Name)
		if !there || r.OID != t.OID || p.planned(r) {
			continue
		}
		s := p.vacuumStep(r, false)
		s.Reason, s.urgency = f.Summary, urgencySpace
		if dead {
			s.GainBytes = share(t.Bytes(), t.DeadTuples, t.LiveTuples+t.DeadTuples)
			s.weight, s.dead = s.GainBytes, t.DeadTuples
		}
		p.add(s, r, maintainable(r))
	}
}

// share is the part of n things among all in a number of bytes.
func share(bytes, n, all int64) int64 {
	if all <= 0 {
		return 0
	}
	return int64(float64(bytes) * float64(n) / float64(all))
}

// statistics plans ANALYZE of tables whose statistics are missing or out of date.
func (p *planner) statistics() {
	if !p.wants(Analyze) || p.Reading.Tables == nil {
		return
	}
	for i := range p.Reading.Tables.Items {
		t := &p.Reading.Tables.Items[i]
		reason := ""
		if f, never := p.found("table-never-analyzed", sqltext.ReadableTable(t.Schema, t.Name)); never {
			reason = f.Summary
		} else if line := p.analyzeLine(t); t.ModifiedSinceAnalyze > p.Thresholds.NeverAnalyzedRows && t.ModifiedSinceAnalyze > staleFactor*line &&
			(t.LastAnalyze != nil || t.LastAutoanalyze != nil) {
			reason = fmt.Sprintf("Its statistics are out of date: %s have changed since the last ANALYZE, and autovacuum renews them after %s.",
				words.Plural(t.ModifiedSinceAnalyze, "row"), words.Count(line))
		}
		r, there := p.relation(t.Schema, t.Name)
		if reason == "" || !there || r.OID != t.OID || p.planned(r) {
			continue
		}
		s := p.statement(Analyze, "ANALYZE (SKIP_LOCKED) ", r)
		s.Reason, s.urgency, s.weight = reason, urgencyStatistics, t.ModifiedSinceAnalyze
		p.add(s, r, maintainable(r))
	}
}

// analyzeLine is the number of changed rows at which autovacuum analyzes a table:
// autovacuum_analyze_threshold + autovacuum_analyze_scale_factor × reltuples, with the
// table's own storage parameters before the server's settings. See "The Autovacuum
// Daemon" in PostgreSQL's manual.
func (p *planner) analyzeLine(t *reading.Table) int64 {
	number := func(name string, otherwise float64) float64 {
		for _, o := range t.Options {
			if text, ok := strings.CutPrefix(o, name+"="); ok {
				if n, err := strconv.ParseFloat(text, 64); err == nil {
					return n
				}
			}
		}
		return otherwise
	}
	line := number("autovacuum_analyze_threshold", p.AnalyzeThreshold) +
		number("autovacuum_analyze_scale_factor", p.AnalyzeScale)*float64(max(0, t.EstimatedRows))
	return int64(min(line, math.MaxInt64/(2*staleFactor)))
}

// partitioned plans ANALYZE of whole partitioned tables: autovacuum keeps the statistics
// of their partitions alone.
func (p *planner) partitioned() {
	if !p.wants(Analyze) {
		return
	}
	for _, t := range p.Partitioned {
		reason := ""
		switch {
		case t.LeafRows <= float64(p.Thresholds.NeverAnalyzedRows):
		case !t.Analyzed:
			reason = "No ANALYZE of the whole partitioned table is recorded, and autovacuum analyzes its partitions only: plans over several of them may be bad."
		case t.AnalyzedRows >= 0 && math.Abs(t.LeafRows-t.AnalyzedRows) > stalePartitions*t.LeafRows:
			reason = fmt.Sprintf("The last ANALYZE of the whole partitioned table saw %s, and its partitions have %s; autovacuum analyzes those only.",
				words.Plural(int64(t.AnalyzedRows), "row"), words.Count(int64(t.LeafRows)))
		}
		if reason == "" {
			continue
		}
		s := p.statement(Analyze, "ANALYZE (SKIP_LOCKED) ", t.Relation)
		s.Reason, s.urgency, s.weight = reason, urgencyStatistics, int64(min(t.LeafRows, math.MaxInt64/2))
		p.add(s, t.Relation, maintainable(t.Relation))
	}
}

// reindexes plans REINDEX CONCURRENTLY of indexes of which much was measured to be empty.
func (p *planner) reindexes() {
	if !p.wants(Reindex) || p.Reading.Indexes == nil {
		return
	}
	for _, x := range p.Reading.Indexes.Largest {
		f, ok := p.found("index-bloat", sqltext.ReadableTable(x.Schema, x.Name))
		if !ok || x.BloatBytes == nil {
			continue
		}
		r, there := p.relation(x.Schema, x.Name)
		if !there || r.OID != x.OID {
			continue
		}
		not := ""
		switch {
		case r.Exclusion:
			not = "it belongs to an exclusion constraint, which REINDEX CONCURRENTLY does not rebuild"
		case r.System:
			not = "it is an index of the system catalogue, which REINDEX CONCURRENTLY does not rebuild"
		case r.Temporary:
			not = "it is of a temporary table of another session"
		case !r.MayReindex:
			not = noIndex
		case x.BloatMethod != reading.BloatByPgstattuple:
			not = "that is an estimate, and only measured indexes are rebuilt: CREATE EXTENSION pgstattuple, and grant the role pg_stat_scan_tables"
		}
		s := p.statement(Reindex, "REINDEX INDEX CONCURRENTLY ", r)
		s.Reason, s.urgency, s.GainBytes, s.weight = f.Summary, urgencySpace, *x.BloatBytes, *x.BloatBytes
		p.add(s, r, not)
	}
}

// checks plans reading the B-trees with amcheck.
func (p *planner) checks() {
	if !p.wants(Amcheck) {
		return
	}
	if p.AmcheckSchema == "" {
		p.plan.Unread = append(p.plan.Unread, "order of indexes: the extension amcheck is not installed: CREATE EXTENSION amcheck;")
		return
	}
	for _, r := range p.Checkable {
		call := func(quoted string) string {
			return "SELECT " + sqltext.QuoteIdent(p.AmcheckSchema) + ".bt_index_check(" + quoted + "::pg_catalog.regclass)"
		}
		p.add(Step{
			Kind: Amcheck, Statement: call(sqltext.PrintableLiteral(sqltext.QuoteQualified(r.Schema, r.Name))) + ";",
			sql:    call(sqltext.QuoteLiteral(sqltext.QuoteQualified(r.Schema, r.Name))),
			Reason: "It was asked for: amcheck reads the index and checks its order.", urgency: urgencyCheck,
		}, r, "")
	}
}

// notes says what was found and is left to a person.
func (p *planner) notes() {
	note := func(format string, args ...any) { p.plan.Notes = append(p.plan.Notes, fmt.Sprintf(format, args...)) }
	for _, f := range p.Findings {
		switch {
		case f.Database != "":
		case f.ID == "index-invalid" && p.wants(Reindex):
			note("%s is an invalid index that this run did not make: it is left alone. To mend it: %s", f.Object, f.Fix)
		case f.ID == "vacuum-held-back" && p.wants(Vacuum):
			note("VACUUM can't remove all dead rows: %s", f.Summary)
		}
	}
	if t := p.Reading.Tables; t != nil && t.Total > len(t.Items) && (p.wants(Vacuum) || p.wants(Analyze)) {
		note("%d of %d tables were considered, the largest and those with the most dead rows.", len(t.Items), t.Total)
	}
	if p.wants(Reindex) {
		if _, installed := p.Reading.Server.Extension("pgstattuple"); !installed {
			note("Indexes were not measured: the extension pgstattuple is not installed.")
		}
	}
}
