package judge_test

import (
	"fmt"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/judge"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestCovers: a finding that vanishes from a list that is full may still be there.
func TestCovers(t *testing.T) {
	limits := reading.DefaultThresholds()
	keyless := &reading.Tables{WithoutPrimaryKey: []reading.KeylessTable{{Schema: "public", Name: "listed"}}}
	dead := func(rows ...int64) *reading.Tables {
		x := &reading.Tables{}
		for i, n := range rows {
			x.Items = append(x.Items, reading.Table{Schema: "public", Name: fmt.Sprint("t", i), DeadTuples: n})
		}
		return x
	}
	many := limits.DeadTuplesMin + 1
	idle := func(seconds float64) *reading.Connections {
		return &reading.Connections{IdleInTransaction: []reading.IdleSession{{IdleSeconds: seconds}}}
	}
	slow := make([]pgmedic.Finding, 10)
	for i := range slow {
		slow[i] = pgmedic.Finding{ID: "statement-slow", Object: fmt.Sprint("statement ", i), Database: "clinic"}
	}
	statements := &reading.Statements{Items: []reading.Statement{{QueryID: "77"}}}
	for name, test := range map[string]struct {
		got   reading.Reading
		found []pgmedic.Finding
		f     pgmedic.Finding
		want  bool
	}{
		"a list that has all":           {reading.Reading{Tables: keyless}, nil, pgmedic.Finding{ID: "table-without-primary-key", Object: "public.t"}, true},
		"a full list":                   {reading.Reading{Tables: keyless, Truncated: []string{reading.ListWithoutPrimaryKey}}, nil, pgmedic.Finding{ID: "table-without-primary-key", Object: "public.t"}, false},
		"a full list that has it":       {reading.Reading{Tables: keyless, Truncated: []string{reading.ListWithoutPrimaryKey}}, nil, pgmedic.Finding{ID: "table-without-primary-key", Object: "public.listed"}, true},
		"another list is full":          {reading.Reading{Tables: keyless, Truncated: []string{reading.ListWithoutPrimaryKey}}, nil, pgmedic.Finding{ID: "archiver-failing", Object: "server"}, true},
		"a section that is not shown":   {reading.Reading{Truncated: []string{reading.ListTables}}, nil, pgmedic.Finding{ID: "table-bloat", Object: "public.x"}, false},
		"a foreign key":                 {reading.Reading{Indexes: &reading.Indexes{}, Truncated: []string{reading.ListForeignKeysWithoutIndex}}, nil, pgmedic.Finding{ID: "foreign-key-without-index", Object: "public.t (a)"}, false},
		"bloat of a table not read":     {reading.Reading{Tables: dead(0, 0, 0), Truncated: []string{reading.ListTables}}, nil, pgmedic.Finding{ID: "table-bloat", Object: "public.x"}, false},
		"few with dead rows":            {reading.Reading{Tables: dead(many, 0, 0, 0), Truncated: []string{reading.ListTables}}, nil, pgmedic.Finding{ID: "table-dead-tuples", Object: "public.x"}, true},
		"many with dead rows":           {reading.Reading{Tables: dead(many, many, 0, 0), Truncated: []string{reading.ListTables}}, nil, pgmedic.Finding{ID: "table-dead-tuples", Object: "public.x"}, false},
		"many with dead rows, and it":   {reading.Reading{Tables: dead(many, many, 0, 0), Truncated: []string{reading.ListTables}}, nil, pgmedic.Finding{ID: "table-dead-tuples", Object: "public.t3"}, true},
		"all that idle for long":        {reading.Reading{Connections: idle(1), Truncated: []string{reading.ListIdleInTransaction}}, nil, pgmedic.Finding{ID: "idle-in-transaction", Object: "process 1"}, true},
		"more that idle for long":       {reading.Reading{Connections: idle(1e6), Truncated: []string{reading.ListIdleInTransaction}}, nil, pgmedic.Finding{ID: "idle-in-transaction", Object: "process 1"}, false},
		"ten slow statements":           {reading.Reading{Database: "clinic", Statements: statements}, slow, pgmedic.Finding{ID: "statement-slow", Object: "statement 77"}, false},
		"nine slow statements":          {reading.Reading{Database: "clinic", Statements: statements, Truncated: []string{reading.ListStatements}}, slow[1:], pgmedic.Finding{ID: "statement-slow", Object: "statement 77"}, true},
		"a statement that is not there": {reading.Reading{Statements: statements, Truncated: []string{reading.ListStatements}}, nil, pgmedic.Finding{ID: "statement-slow", Object: "statement 78"}, false},
		"of another database": {
			reading.Reading{Database: "clinic", Tables: keyless, Databases: []*reading.Reading{{Database: "lab", Tables: keyless, Truncated: []string{reading.ListWithoutPrimaryKey}}}},
			nil, pgmedic.Finding{ID: "table-without-primary-key", Database: "lab", Object: "public.t"}, false,
		},
		"another database is full": {
			reading.Reading{Database: "clinic", Tables: keyless, Databases: []*reading.Reading{{Database: "lab", Tables: keyless, Truncated: []string{reading.ListWithoutPrimaryKey}}}},
			nil, pgmedic.Finding{ID: "table-without-primary-key", Database: "clinic", Object: "public.t"}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judge.Covers(&test.got, test.found, test.f, limits); got != test.want {
				t.Errorf("covers: %v", got)
			}
		})
	}
}
