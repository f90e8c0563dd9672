package monitor_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/reading"
)

// TestTheColumnThatAStatementFiltersBy asks of a table that is read whole, of
// whose columns none has an index, which one gets it.
func TestTheColumnThatAStatementFiltersBy(t *testing.T) {
	tests := []struct{ query, column string }{
		{"SELECT * FROM visits WHERE patient = $1", "patient"},
		{`SELECT count(*) FROM clinic.visits AS v WHERE v."Ward" > $1 AND v.patient = $2`, `"Ward"`},
		{"DELETE FROM ONLY visits WHERE note LIKE $1", "note"},
		{"UPDATE visits SET note = $1 WHERE patient IN ($2, $3)", "patient"},
		{"SELECT * FROM patients p JOIN visits v ON v.patient = p.id WHERE v.note = $1", "note"},
		{"SELECT * FROM patients p LEFT JOIN clinic.visits ON visits.patient = p.id WHERE visits.note = ANY ($1)", "note"},
		{"SELECT * FROM patients p, visits v WHERE v.patient = p.id AND p.name = $1", ""},
		{"SELECT * FROM visits v WHERE v.patient = $1 OR v.note = $2", ""},
		{"SELECT * FROM visits", ""},
		{"SELECT * FROM revisits WHERE patient = $1", ""},
		{"SELECT * FROM other.visits WHERE patient = $1", ""},
		{"SELECT * FROM patients WHERE patient = $1", ""},
		{"SELECT * FROM patients v JOIN visits w ON w.patient = v.id WHERE v.note = $1", ""},
		{"INSERT INTO visits VALUES ($1)", ""},
		{"", ""},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			r := aReading(func(r *reading.Reading) {
				r.Tables.Items = []reading.Table{{
					Schema: "clinic", Name: "visits", SeqScans: 1000, SeqTuplesRead: 1e9, LiveTuples: 1, Unindexed: []string{"patient", "note", "Ward"},
				}}
				r.Statements = &reading.Statements{Items: []reading.Statement{
					{QueryID: "1", Database: "elsewhere", Query: "SELECT * FROM visits WHERE patient = $1"},
					{QueryID: "2", Database: "clinic", Query: tt.query},
				}}
			})
			object := "clinic.visits"
			if tt.column != "" {
				object += " (" + tt.column + ")"
			}
			mustFind(t, analyse(r), "index-missing", object)
		})
	}
}
