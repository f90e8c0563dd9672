package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// inPlaced is what restore --in-place says in JSON.
type inPlaced struct {
	BackupID string `json:"backup_id"`
	Moment   string
	Schema   string
	Tables   []struct {
		Table, Action              string
		Inserted, Updated, Deleted int64
		KeptAs                     string `json:"kept_as"`
		Compared                   string
	}
	LeftOut []struct{ Object, Reason string } `json:"left_out"`
}

// inPlace reads it.
func inPlace(t *testing.T, text string) (got inPlaced) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return got
}

// TestRestoreInPlace puts tables back from the command line: it asks, says what can't be put
// back and asks for that, too, records the intent, and what it leaves goes with prune.
func TestRestoreInPlace(t *testing.T) {
	b := newBench(t, append(patients("50"), "CREATE TABLE seen (patient int REFERENCES patients, at date)", "INSERT INTO seen SELECT id, '2020-02-02' FROM patients", "CREATE VIEW ids AS SELECT id FROM patients")...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	count := func(sql string) string { return strings.Join(query(t, b.database, sql), " ") }
	mustExec(t, b.database, "DELETE FROM seen WHERE patient > 40", "DELETE FROM patients WHERE id > 40")

	args := []string{"restore", id, "--table", "patients", "--in-place", "--missing-rows"}
	if r := b.run(args...); r.code != 13 || !strings.Contains(r.stderr, "10 missing rows added") || count("SELECT count(*)::text FROM patients") != "40" {
		t.Errorf("without --yes: exit code %d: %s", r.code, r.stderr)
	}
	got := inPlace(t, b.ok(append(args, "--yes", "--json")...))
	if len(got.Tables) != 1 || got.Tables[0].Inserted != 10 || got.Tables[0].Action != "add missing rows" || count("SELECT count(*)::text FROM patients") != "50" {
		t.Errorf("it says %+v", got)
	}
	trail := b.ok("audit", "show", "--json")
	if !strings.Contains(trail, "add_missing_rows") || !strings.Contains(trail, "intended") {
		t.Errorf("the audit log has no intent:\n%s", trail)
	}

	// A table that is gone, with a row elsewhere that its foreign key no longer allows.
	mustExec(t, b.database, "DROP TABLE patients CASCADE", "INSERT INTO seen VALUES (9999, '2020-02-02')")
	args = []string{"restore", id, "--table", "patients", "--in-place", "--yes"}
	if out := b.ok(append(args, "--dry-run")...); !strings.Contains(out, "nothing was changed") || !strings.Contains(out, "VIEW public.ids") {
		t.Errorf("a dry run says:\n%s", out)
	}
	if r := b.run(args...); r.code != 13 || !strings.Contains(r.stderr, "seen_patient_fkey") || !strings.Contains(r.stderr, "--accept-differences") {
		t.Errorf("with a key that does not fit: exit code %d: %s", r.code, r.stderr)
	}
	if count("SELECT coalesce(to_regclass('patients')::text, 'gone')") != "gone" {
		t.Error("a run that was not confirmed made the table")
	}
	r := b.run(append(args, "--accept-differences")...)
	if r.code != 15 || !strings.Contains(r.stdout, "put back, but not completely") || !strings.Contains(r.stderr, "seen_patient_fkey") {
		t.Errorf("accepted: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if count("SELECT count(*)::text FROM ids") != "50" {
		t.Error("the view is not as it was")
	}

	// Wrong values: the rows that were there are kept, and all goes with prune.
	mustExec(t, b.database, "ALTER TABLE seen DROP CONSTRAINT seen_patient_fkey", "DELETE FROM patients WHERE id > 45", "INSERT INTO patients SELECT * FROM patients WHERE false")
	schema := strings.TrimSpace(b.ok("restore", id, "--table", "patients", "--in-place", "--yes", "-q"))
	if schema != got.Schema {
		t.Errorf("the schema is %s, want %s", schema, got.Schema)
	}
	b.ok("prune", "--rescued", b.database+"."+schema, "--yes")
	if left := query(t, b.database, "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'pgmedic%'"); len(left) > 0 {
		t.Errorf("prune left %q", left)
	}
}

// TestRestoreInPlaceRefusals tries what can't be done from the command line.
func TestRestoreInPlaceRefusals(t *testing.T) {
	b := newBench(t, patients("1")...)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"latest", "--in-place", "--into", "x"}, "--in-place is for --table"},
		{[]string{"latest", "--table", "patients", "--missing-rows"}, "--missing-rows is for --in-place"},
		{[]string{"latest", "--table", "patients", "--accept-differences"}, "for --swap"},
		{[]string{"--file", "x.sql", "--table", "patients", "--in-place"}, "are for backups"},
		{[]string{"--target-dir", "x", "--in-place"}, "--in-place is for restores of one database"},
		{[]string{"--resume", "--missing-rows"}, "--resume goes with"},
		{[]string{"--to-end", "--into", "x", "--in-place"}, "--in-place is for --table"},
	} {
		if r := b.run(append([]string{"restore"}, tt.args...)...); r.code != 2 || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("%v: exit code %d: %s", tt.args, r.code, r.stderr)
		}
	}
}

// TestMomentInPlace puts a table that a wrong UPDATE changed, and one that was dropped with
// what hung on it, back as they were at a moment.
func TestMomentInPlace(t *testing.T) {
	testkit.OnlyAll(t, "a server and two recoveries")
	b := newMomentBench(t, 0)
	plan := b.restore(0, "--to-time", b.before, "--table", "claims", "--in-place", "--dry-run").stdout
	if !strings.Contains(plan, "to where they were") {
		t.Errorf("the plan is:\n%s", plan)
	}
	got := inPlace(t, b.restore(0, "--to-time", b.before, "--table", "claims", "--table", `"a b".visits`, "--in-place", "--json").stdout)
	if got.BackupID != b.base || got.Moment == "" || len(got.Tables) != 2 || len(got.LeftOut) > 0 {
		t.Fatalf("it says %+v", got)
	}
	visits, claims := got.Tables[0], got.Tables[1]
	if claims.Action != "replace rows" || claims.Updated != 500 || claims.Deleted != 1 || claims.KeptAs == "" || visits.Action != "make" || visits.Inserted != 300 || visits.Compared != "values" {
		t.Errorf("it did %+v and %+v", claims, visits)
	}
	if b.sumOf(claimsSum, "claims") != b.claims || b.sumOf(visitsSum, `"a b".visits`) != b.visits {
		t.Error("the tables are not as they were")
	}
	if kept := b.ask("SELECT count(*)::text FROM " + claims.KeptAs); kept != "501" {
		t.Errorf("%s rows are kept", kept)
	}
	b.sql("INSERT INTO fleeting VALUES (2)")
	if r := b.restore(2, "--to-time", b.before, "--table", "fleeting", "--in-place"); !strings.Contains(r.stderr, "unlogged") {
		t.Errorf("an unlogged table: %s", r.stderr)
	}
	parts := b.ask(`SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = '"a b".visits'::regclass`)
	if !slices.Equal(strings.Fields(strings.ReplaceAll(parts, `"a b"`, "s")), []string{"s.early", "s.late"}) {
		t.Errorf("the partitions are %s", parts)
	}
}
