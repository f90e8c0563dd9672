package maintain_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/maintain"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// facts is a database with one table or index of each kind that a plan has a step for.
func facts() maintain.Facts {
	when := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	bloat := int64(80 << 20)
	table := func(oid uint32, name string, change func(*reading.Table)) reading.Table {
		t := reading.Table{OID: oid, Schema: "public", Name: name, Kind: "table", EstimatedRows: 10_000, EstimatedBytes: 100 << 20, LiveTuples: 10_000, LastAnalyze: &when, LastVacuum: &when}
		change(&t)
		return t
	}
	r := &reading.Reading{
		TakenAt: when, Database: "clinic",
		Server: reading.Server{VersionNum: 150000, Role: reading.RolePrimary, Extensions: []reading.Extension{{Name: "pgstattuple"}}},
		Tables: &reading.Tables{Total: 4, Items: []reading.Table{
			table(1, "dead", func(t *reading.Table) { t.DeadTuples = 10_000 }),
			table(2, "never", func(t *reading.Table) { t.LastAnalyze, t.ModifiedSinceAnalyze = nil, 5000 }),
			table(3, "stale", func(t *reading.Table) { t.ModifiedSinceAnalyze = 2101 }),
			table(4, "fresh", func(t *reading.Table) { t.ModifiedSinceAnalyze = 2100 }),
		}},
		Limits: &reading.Limits{Tables: []reading.TableAge{{Schema: "public", Name: "old", XIDAge: 1_500_000_000}}},
		Indexes: &reading.Indexes{Largest: []reading.Index{
			{OID: 11, Schema: "public", Name: "swollen", Method: "btree", Valid: true, EstimatedBytes: 100 << 20, BloatBytes: &bloat, BloatMethod: reading.BloatByPgstattuple},
			{OID: 12, Schema: "public", Name: "guessed", Method: "btree", Valid: true, EstimatedBytes: 100 << 20, BloatBytes: &bloat, BloatMethod: reading.BloatByEstimate},
		}},
	}
	var all []maintain.Relation
	for name, oid := range map[string]uint32{"dead": 1, "never": 2, "stale": 3, "fresh": 4, "old": 5, "swollen": 11, "guessed": 12} {
		all = append(all, maintain.Relation{OID: oid, Schema: "public", Name: name, MayVacuum: true, MayReindex: true})
	}
	slices.SortFunc(all, func(x, y maintain.Relation) int { return int(x.OID) - int(y.OID) })
	f := maintain.Facts{Reading: r, Kinds: maintain.DefaultKinds(), Relations: all, AnalyzeThreshold: 50, AnalyzeScale: 0.1, Thresholds: reading.DefaultThresholds()}
	f.Partitioned = []maintain.Partitioned{
		{Relation: maintain.Relation{OID: 21, Schema: "public", Name: "whole", MayVacuum: true}, LeafRows: 9000, AnalyzedRows: -1},
		{Relation: maintain.Relation{OID: 22, Schema: "public", Name: "grown", MayVacuum: true}, LeafRows: 9000, AnalyzedRows: 7000, Analyzed: true},
		{Relation: maintain.Relation{OID: 23, Schema: "public", Name: "known", MayVacuum: true}, LeafRows: 9000, AnalyzedRows: 8000, Analyzed: true},
		{Relation: maintain.Relation{OID: 24, Schema: "public", Name: "empty", MayVacuum: true}, AnalyzedRows: -1},
	}
	return judged(f)
}

func judged(f maintain.Facts) maintain.Facts {
	f.Findings = judge.Analyse(f.Reading, nil, f.Thresholds)
	return f
}

// lines are the outcomes and statements of a plan.
func lines(p *maintain.Plan) (all []string) {
	for _, s := range p.Steps {
		all = append(all, string(s.Outcome)+" "+s.Statement)
	}
	return all
}

func TestPlan(t *testing.T) {
	got := lines(maintain.NewPlan(facts()))
	want := []string{
		`planned VACUUM (FREEZE, ANALYZE, SKIP_LOCKED) "public"."old";`,
		`planned ANALYZE (SKIP_LOCKED) "public"."grown";`,
		`planned ANALYZE (SKIP_LOCKED) "public"."whole";`,
		`planned ANALYZE (SKIP_LOCKED) "public"."never";`,
		`planned ANALYZE (SKIP_LOCKED) "public"."stale";`,
		`skipped REINDEX INDEX CONCURRENTLY "public"."guessed";`,
		`planned REINDEX INDEX CONCURRENTLY "public"."swollen";`,
		`planned VACUUM (ANALYZE, SKIP_LOCKED) "public"."dead";`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestPlanHeeds changes one fact at a time.
func TestPlanHeeds(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(f *maintain.Facts)
		want   string // a line of the plan, or of what is said beside it
		not    string // what no line may contain
	}{
		"only analyze": {func(f *maintain.Facts) { f.Kinds = []maintain.Kind{maintain.Analyze} }, `planned ANALYZE (SKIP_LOCKED) "public"."stale";`, "VACUUM"},
		"only vacuum":  {func(f *maintain.Facts) { f.Kinds = []maintain.Kind{maintain.Vacuum} }, `planned VACUUM (SKIP_LOCKED) "public"."dead";`, "ANALYZE"},
		"only reindex": {func(f *maintain.Facts) { f.Kinds = []maintain.Kind{maintain.Reindex} }, `planned REINDEX INDEX CONCURRENTLY "public"."swollen";`, "VACUUM"},
		"standbys":     {func(f *maintain.Facts) { f.Standbys = true }, `planned VACUUM (ANALYZE, SKIP_LOCKED, TRUNCATE false) "public"."dead";`, "SKIP_LOCKED) \"public\".\"dead\""},
		"a muted finding": {func(f *maintain.Facts) {
			f.Findings = slices.DeleteFunc(f.Findings, func(x pgmedic.Finding) bool { return x.ID == "table-dead-tuples" })
		}, `planned ANALYZE (SKIP_LOCKED) "public"."never";`, `"dead"`},
		"dropped meanwhile":    {func(f *maintain.Facts) { f.Relations = nil }, `planned ANALYZE (SKIP_LOCKED) "public"."whole";`, `"dead"`},
		"another by that name": {func(f *maintain.Facts) { f.Relations[0].OID = 99 }, `planned ANALYZE (SKIP_LOCKED) "public"."never";`, `"dead"`},
		"no right":             {func(f *maintain.Facts) { f.Relations[0].MayVacuum = false }, `skipped VACUUM (ANALYZE, SKIP_LOCKED) "public"."dead";`, `planned VACUUM (ANALYZE, SKIP_LOCKED) "public"."dead"`},
		"temporary":            {func(f *maintain.Facts) { f.Relations[4].Temporary = true }, `skipped VACUUM (FREEZE, ANALYZE, SKIP_LOCKED) "public"."old";`, `planned VACUUM (FREEZE`},
		"exclusion constraint": {func(f *maintain.Facts) { f.Relations[5].Exclusion = true }, `skipped REINDEX INDEX CONCURRENTLY "public"."swollen";`, "planned REINDEX"},
		"system catalogue":     {func(f *maintain.Facts) { f.Relations[5].System = true }, `skipped REINDEX INDEX CONCURRENTLY "public"."swollen";`, "planned REINDEX"},
		"not its owner":        {func(f *maintain.Facts) { f.Relations[5].MayReindex = false }, `skipped REINDEX INDEX CONCURRENTLY "public"."swollen";`, "planned REINDEX"},
		"storage parameters": {func(f *maintain.Facts) {
			f.Reading.Tables.Items[2].Options = []string{"autovacuum_analyze_scale_factor=0.2"}
		}, `planned ANALYZE (SKIP_LOCKED) "public"."never";`, `"stale"`},
		"the server's settings": {func(f *maintain.Facts) { f.AnalyzeScale = 0.05 }, `planned ANALYZE (SKIP_LOCKED) "public"."fresh";`, "FULL"},
		"tables not read":       {func(f *maintain.Facts) { f.Reading.Tables = nil }, "unread tables: the reading does not have it", "VACUUM (ANALYZE"},
		"limits not read": {func(f *maintain.Facts) {
			f.Reading.Limits = nil
			f.Reading.Skipped = []reading.Skipped{{Section: reading.SectionLimits, Reason: "it timed out"}}
		}, "unread ages of tables: it timed out", "FREEZE"},
		"indexes not read": {func(f *maintain.Facts) { f.Reading.Indexes = nil }, "unread indexes: the reading does not have it", "REINDEX"},
		"amcheck missing":  {func(f *maintain.Facts) { f.Kinds = []maintain.Kind{maintain.Amcheck} }, "unread order of indexes: the extension amcheck is not installed: CREATE EXTENSION amcheck;", "SELECT"},
		"amcheck": {func(f *maintain.Facts) {
			f.Kinds, f.AmcheckSchema, f.Checkable = []maintain.Kind{maintain.Amcheck}, "ext", []maintain.Relation{{OID: 11, Schema: "public", Name: `it's "x"`}}
		}, `planned SELECT "ext".bt_index_check('"public"."it''s ""x"""'::pg_catalog.regclass);`, "VACUUM"},
		"others' invalid index": {func(f *maintain.Facts) {
			f.Reading.Indexes.Invalid = []reading.Index{{OID: 13, Schema: "public", Name: "dead_pkey_ccnew"}}
			*f = judged(*f)
		}, "note public.dead_pkey_ccnew is an invalid index that this run did not make: it is left alone. To mend it: DROP INDEX CONCURRENTLY \"public\".\"dead_pkey_ccnew\";", "planned DROP"},
		"more tables":    {func(f *maintain.Facts) { f.Reading.Tables.Total = 9 }, "note 4 of 9 tables were considered, the largest and those with the most dead rows.", "FULL"},
		"no pgstattuple": {func(f *maintain.Facts) { f.Reading.Server.Extensions = nil }, "note Indexes were not measured: the extension pgstattuple is not installed.", "FULL"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			tt.change(&f)
			p := maintain.NewPlan(f)
			all := lines(p)
			for _, u := range p.Unread {
				all = append(all, "unread "+u)
			}
			for _, n := range p.Notes {
				all = append(all, "note "+n)
			}
			if !slices.Contains(all, tt.want) {
				t.Errorf("no line %q in\n%s", tt.want, strings.Join(all, "\n"))
			}
			for _, line := range all {
				if strings.Contains(line, tt.not) {
					t.Errorf("%q in %q", tt.not, line)
				}
			}
		})
	}
}

// TestPlanProperties: whatever the tables and indexes are, the same facts give the same
// plan; no statement rewrites a table; no table or index is in it twice; what may not be
// done is not planned; and a step says why.
func TestPlanProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11)) // the same each time
	for range 500 {
		f := facts()
		for i := range f.Reading.Tables.Items {
			x := &f.Reading.Tables.Items[i]
			x.DeadTuples, x.LiveTuples, x.ModifiedSinceAnalyze = random.Int64N(1<<40), random.Int64N(1<<40), random.Int64N(1<<62)
			x.EstimatedRows, x.EstimatedBytes = random.Int64N(1<<62)-1, random.Int64N(1<<62)
			if random.IntN(2) == 0 {
				x.LastVacuum, x.LastAnalyze = nil, nil
			}
		}
		for i := range f.Relations {
			r := &f.Relations[i]
			r.MayVacuum, r.MayReindex, r.Temporary, r.Exclusion = random.IntN(3) > 0, random.IntN(3) > 0, random.IntN(4) == 0, random.IntN(4) == 0
		}
		f.Reading.Limits.Tables = append(f.Reading.Limits.Tables, reading.TableAge{Schema: "public", Name: "dead", MultiXactAge: random.Int64N(1 << 31)})
		f.Standbys = random.IntN(2) == 0
		f = judged(f)
		p := maintain.NewPlan(f)
		if again := maintain.NewPlan(f); !reflect.DeepEqual(p, again) {
			t.Fatal("the same facts gave two plans")
		}
		seen := map[string]bool{}
		for _, s := range p.Steps {
			r := maintain.Relation{MayVacuum: true}
			if i := slices.IndexFunc(f.Relations, func(r maintain.Relation) bool { return "public."+r.Name == s.Object }); i >= 0 {
				r = f.Relations[i]
			}
			switch {
			case seen[s.Object]:
				t.Fatalf("%s is there twice", s.Object)
			case strings.Contains(s.Statement, "FULL"), s.Reason == "", s.Outcome == maintain.Skipped && s.Detail == "", s.GainBytes < 0:
				t.Fatalf("%+v", s)
			case s.Outcome == maintain.Planned && (r.Temporary || s.Kind == maintain.Reindex && (!r.MayReindex || r.Exclusion) || s.Kind != maintain.Reindex && !r.MayVacuum):
				t.Fatalf("planned %+v of %+v", s, r)
			}
			seen[s.Object] = true
		}
	}
}

func TestParseKinds(t *testing.T) {
	got, err := maintain.ParseKinds([]string{"vacuum", "amcheck", "vacuum"})
	if err != nil || !slices.Equal(got, []maintain.Kind{maintain.Vacuum, maintain.Amcheck}) {
		t.Errorf("%v %v", got, err)
	}
	if got, err := maintain.ParseKinds(nil); err != nil || slices.Contains(got, maintain.Amcheck) || len(got) != 3 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := maintain.ParseKinds([]string{"full"}); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("%v", err)
	}
}
