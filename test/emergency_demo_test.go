package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestEmergencyOnDemo tries the runbook's recipes for tables on each kind of table in
// the demo's own schema: a partitioned one, one without a primary key, one that others
// refer to, and one with a domain and checks.
func TestEmergencyOnDemo(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	t.Parallel()
	r := newRunbook(t)
	template := r.old.DSN("template_clinic")
	fixture.Exec(t, template, "DROP VIEW open_claims", "DROP TABLE claims", "DROP TABLE patients", "DROP FUNCTION fold",
		"SET clinic.patients = 20;"+fixture.ReadFile(t, "cmd/pgmedic/clinic.sql"))
	r.reset()
	page := r.blocks
	rows := func(table string) string {
		return fixture.Query[string](t, r.old.DSN("clinic"), fmt.Sprintf("SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM %s AS t", table))[0]
	}
	for _, table := range []string{"claims", "encounters", "imports", "observations"} {
		t.Run(table, func(t *testing.T) {
			r.t = t
			r.blocks = map[string]string{}
			for name, commands := range page {
				r.blocks[name] = strings.ReplaceAll(commands, "public.claims", "public."+table)
			}
			was := rows(table)
			parts := r.partsOf(table)
			r.live("DROP TABLE " + table + " CASCADE")
			r.follow("deleted-table-look", "deleted-table-in-place", "deleted-table-in-place-tidy")
			if rows(table) != was || r.partsOf(table) != parts {
				t.Error("the table is not what it was, in place")
			}
			r.live("DROP TABLE " + table + " CASCADE")
			r.follow("deleted-table-copy", "deleted-table")
			if rows(table) != was || r.partsOf(table) != parts {
				t.Error("the table is not what it was")
			}
			r.follow("deleted-table-rest")
			r.live("DROP TABLE " + table + " CASCADE")
			r.follow("deleted-table-large", "deleted-table-tidy")
			if rows(table) != was || r.partsOf(table) != parts {
				t.Error("the table is not what it was, after the way for large databases")
			}
			r.live("SET session_replication_role = replica; DELETE FROM " + table) // the rows that refer to it stay
			r.follow("deleted-rows", "deleted-rows-put-back", "deleted-rows-tidy")
			if rows(table) != was {
				t.Error("the rows are not what they were")
			}
			r.noRescue()
			r.remake()
		})
	}
}

// remake gives the next case a live database as it was backed up.
func (r *runbook) remake() {
	r.t.Helper()
	fixture.Exec(r.t, r.old.DSN("postgres"), "DROP DATABASE clinic WITH (FORCE)", "CREATE DATABASE clinic TEMPLATE template_clinic")
}

// partsOf are the indexes, constraints and partitions of a table, in one line.
func (r *runbook) partsOf(table string) string {
	r.t.Helper()
	return strings.Join(fixture.Query[string](r.t, r.old.DSN("clinic"), fmt.Sprintf(`
		WITH RECURSIVE t (oid) AS (SELECT '%s'::regclass::oid UNION SELECT inhrelid FROM pg_inherits JOIN t ON inhparent = t.oid)
		SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid IN (SELECT oid FROM t)
		UNION ALL SELECT t.oid::regclass::text FROM t
		-- A check that was dumped and loaded may print otherwise.
		UNION ALL SELECT conrelid::regclass || ' ' || CASE contype WHEN 'c' THEN conname::text ELSE pg_get_constraintdef(oid) END FROM pg_constraint WHERE conrelid IN (SELECT oid FROM t)
		ORDER BY 1`, table)), "\n")
}
