package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// sqlOwnTexts reads the statements in $1 whole, of those that this role ran. A
// very long one is left out rather than cut, for then it is not a statement.
const sqlOwnTexts = `
select distinct on (s.queryid) s.queryid::text as query_id, s.query
from @extension@.pg_stat_statements(true) s
where s.queryid = any($1::text[]::bigint[]) and s.dbid = (select oid from pg_database where datname = current_database())
  and s.userid = (select oid from pg_roles where rolname = current_user) and length(s.query) < 16384
order by s.queryid`

// sqlPlanSettings let a statement mean what it means to the role that ran it:
// its own search_path, and views, which are closed to sessions that only dump.
// They end with the savepoint; what runs until then is only the EXPLAIN.
const sqlPlanSettings = `
select pg_catalog.set_config(name, case name when 'search_path' then reset_val else '' end, true)
from pg_catalog.pg_settings where name in ('search_path', 'restrict_nonsystem_relation_kind')`

// sqlIsSuperuser asks for the role that the session began with, which is what it
// can become again.
const sqlIsSuperuser = `select r.rolsuper from pg_catalog.pg_roles r where r.rolname = session_user`

// planned is what begins a statement that has a plan.
var planned = regexp.MustCompile(`(?i)^(select|with|insert|update|delete|merge|values)\b`)

// planStatements asks how the statements that take the most time would be
// carried out with any parameters (EXPLAIN (GENERIC_PLAN)), and executes none.
//
// To plan is not quite to do nothing: a function that is declared IMMUTABLE is
// called for its constant, and anybody can declare one. So only what this very
// role ran before is planned; a statement of another role would be an offer to
// run that role's functions with this one's privileges. A superuser gets no plans
// at all: its statements, those of reports among them, name functions that anybody
// who may create one on its search path can put another before since.
func planStatements(ctx context.Context, c *collector, q query) error {
	r := c.reading
	if r.Statements == nil {
		return nil
	}
	superuser := false
	asked := q
	asked.deep, asked.sql, asked.timeout, asked.args = nil, sqlIsSuperuser, 0, nil
	asked.scan = func(rows pgx.Rows, _ *reading.Reading) (err error) {
		superuser, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		return err
	}
	if err := c.askInSavepoint(ctx, asked, nil); err != nil {
		return err
	}
	if superuser {
		c.skip(q, "planning calls functions of the database's users, and this role is a superuser: connect as the application's role")
		return nil
	}
	var ids []string
	for _, s := range r.Statements.Items {
		if s.QueryID != "" && s.Database == r.Database && planned.MatchString(s.Query) && (s.Toplevel == nil || *s.Toplevel) {
			ids = append(ids, s.QueryID)
		}
	}
	ids = slices.Compact(ids)
	ids = ids[:min(len(ids), plansShown)]
	texts := map[string]string{}
	own := q
	own.deep, own.sql, own.timeout = nil, sqlOwnTexts, 0
	own.args = func(*reading.Reading, Options) []any { return []any{ids} }
	own.scan = func(rows pgx.Rows, _ *reading.Reading) error {
		type row struct{ QueryID, Query string }
		got, err := many[row](rows)
		for _, g := range got {
			texts[g.QueryID] = g.Query
		}
		return err
	}
	if err := c.askInSavepoint(ctx, own, own.args(r, c.opts)); err != nil {
		return err
	}
	for _, id := range ids {
		one := q
		one.name = "plan of statement " + id
		if texts[id] == "" {
			one.name = "plans of other roles' statements"
			c.skip(one, "to plan them could run those roles' functions as this one: connect as the role that runs them")
			continue
		}
		one.single = true
		one.absent = "what it names is gone, or not on this role's search_path"
		one.deep = func(ctx context.Context, c *collector, _ query) error { return c.plan(ctx, id, texts[id]) }
		if err := c.ask(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// plan asks for one plan. A first round makes sure that the text is one
// statement: only then can it be no more than explained.
func (c *collector) plan(ctx context.Context, id, text string) error {
	return c.inSavepoint(ctx, planTimeout, func(ctx context.Context, tx pgx.Tx) error {
		// A savepoint and its end, the settings, the first round and the plan.
		c.reading.Cost.Statements += 5
		// The settings end with the savepoint.
		sub, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = sub.Rollback(ctx) }()
		if _, err := sub.Exec(ctx, sqlPlanSettings); err != nil {
			return err
		}
		explain := "EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + text
		conn := sub.Conn().PgConn()
		if _, err := conn.Prepare(ctx, "", explain, nil); err != nil {
			return err
		}
		// As plain text, for then the parameters need no values.
		results, err := conn.Exec(ctx, explain).ReadAll()
		if err != nil {
			return err
		}
		if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1 {
			return fmt.Errorf("%d answers to one question", len(results))
		}
		lines, err := planLines(results[0].Rows[0][0], func(s string) string { return statementText(c.reading, s) })
		if err != nil {
			return err
		}
		for i := range c.reading.Statements.Items {
			s := &c.reading.Statements.Items[i]
			if s.QueryID == id && s.Database == c.reading.Database {
				s.Plan = lines
			}
		}
		return nil
	})
}

// planNode is a step of a plan as EXPLAIN (FORMAT JSON) writes it.
type planNode struct {
	Type      string  `json:"Node Type"`
	Join      string  `json:"Join Type"`
	Operation string  `json:"Operation"`
	Relation  string  `json:"Relation Name"`
	Alias     string  `json:"Alias"`
	Index     string  `json:"Index Name"`
	Subplan   string  `json:"Subplan Name"`
	TotalCost float64 `json:"Total Cost"`
	Rows      float64 `json:"Plan Rows"`

	IndexCond   string   `json:"Index Cond"`
	RecheckCond string   `json:"Recheck Cond"`
	HashCond    string   `json:"Hash Cond"`
	MergeCond   string   `json:"Merge Cond"`
	JoinFilter  string   `json:"Join Filter"`
	Filter      string   `json:"Filter"`
	SortKey     []string `json:"Sort Key"`
	GroupKey    []string `json:"Group Key"`

	Plans []planNode `json:"Plans"`
}

// planLines writes a plan, a line for each step and each of its conditions,
// which pass through text: they can hold the literals of a view or an index. The
// answer is read as JSON, for a literal can break the lines of a plan in text.
func planLines(answer []byte, text func(string) string) ([]string, error) {
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(answer, &plans); err != nil {
		return nil, errors.New("the form of a plan is not known")
	}
	lines := []string{}
	for _, p := range plans {
		lines = p.Plan.write(lines, 0, text)
	}
	return lines, nil
}

func (n *planNode) write(lines []string, depth int, text func(string) string) []string {
	indent := strings.Repeat("  ", depth)
	step := n.Type
	if n.Join != "" && n.Join != "Inner" {
		step += " " + n.Join
	}
	if n.Operation != "" && n.Type == "ModifyTable" {
		step = n.Operation
	}
	if n.Index != "" {
		step += " using " + sqltext.Readable(n.Index)
	}
	if n.Relation != "" {
		step += " on " + sqltext.Readable(n.Relation)
		if n.Alias != "" && n.Alias != n.Relation {
			step += " " + sqltext.Readable(n.Alias)
		}
	}
	if n.Subplan != "" {
		step = text(n.Subplan) + ": " + step
	}
	lines = append(lines, fmt.Sprintf("%s%s (cost %.0f, rows %.0f)", indent, step, n.TotalCost, n.Rows))
	for _, c := range []struct{ name, value string }{
		{"Index Cond", n.IndexCond}, {"Recheck Cond", n.RecheckCond}, {"Hash Cond", n.HashCond}, {"Merge Cond", n.MergeCond},
		{"Join Filter", n.JoinFilter}, {"Filter", n.Filter},
		{"Sort Key", strings.Join(n.SortKey, ", ")}, {"Group Key", strings.Join(n.GroupKey, ", ")},
	} {
		if c.value != "" {
			lines = append(lines, indent+"    "+c.name+": "+words.Shortened(text(c.value)))
		}
	}
	for i := range n.Plans {
		lines = n.Plans[i].write(lines, depth+1, text)
	}
	return lines
}
