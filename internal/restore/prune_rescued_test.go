package restore_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestPruneRescued drops the schema of a rescue that is asked for, and no other
// thing.
func TestPruneRescued(t *testing.T) {
	dsn, c, b := ward(t, backup.Parallel{})
	mustRescue(t, rescueOptions(t, dsn, c, b, "public.patients", "notes"))
	schema := postgres.RescueSchema(b.ID)
	const foreign = "pgmedic_rescue_20200101t000000z_abcdef"
	fixture.Exec(t, dsn, "CREATE SCHEMA "+foreign, "CREATE TABLE "+foreign+".mine ()")
	target := rescueOptions(t, dsn, c, b, "public.patients").Target
	o := restore.PruneOptions{Target: target, Logger: fixture.Silent()}
	plan := func(asked ...string) *restore.PrunedSchema {
		t.Helper()
		all, _, err := restore.PlanRescued(t.Context(), o, asked)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(p restore.PrunedSchema) bool { return p.Database == target.Database() && p.Schema == schema })
		if i < 0 || slices.ContainsFunc(all, func(p restore.PrunedSchema) bool { return p.Schema == foreign }) {
			t.Fatalf("the plan is %+v", all)
		}
		return &all[i]
	}
	if p := plan(); p.Drop || p.Backup != b.ID || p.Tables != 2 || !strings.Contains(p.Reason, "--rescued "+schema) {
		t.Errorf("unasked: %+v", p)
	}
	for _, asked := range []string{foreign, "public", "nosuch." + schema} {
		if _, _, err := restore.PlanRescued(t.Context(), o, []string{asked}); pgmedic.KindOf(err) != pgmedic.KindNotFound {
			t.Errorf("%s: %v", asked, err)
		}
	}
	drop := func() *restore.PrunedSchema {
		t.Helper()
		p := plan(target.Database() + "." + schema)
		if !p.Drop {
			t.Fatalf("asked for: %+v", p)
		}
		if err := restore.DropRescued(t.Context(), o, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	kept := func(why string, p *restore.PrunedSchema) {
		t.Helper()
		if p.Drop || p.Dropped || !strings.Contains(p.Reason, why) || !slices.Contains(rescueSchemas(t, dsn), schema) {
			t.Errorf("want it kept, because %s: %+v", why, p)
		}
	}
	fixture.Exec(t, dsn, "CREATE VIEW looks AS SELECT * FROM "+schema+".patients")
	kept("depends", drop())
	fixture.Exec(t, dsn, "DROP VIEW looks", "CREATE FUNCTION "+schema+".mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	kept("is in it", drop())
	fixture.Exec(t, dsn, "DROP FUNCTION "+schema+".mine()")

	conn, err := postgres.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Close(t.Context(), conn)
	if got, _, err := postgres.TryNamedLock(t.Context(), conn, "pgmedic "+schema); err != nil || !got {
		t.Fatal(got, err)
	}
	kept("a rescue that lives", drop())
	postgres.CloseUnlocked(t.Context(), conn)

	if p := drop(); !p.Dropped || slices.Contains(rescueSchemas(t, dsn), schema) || !slices.Contains(rescueSchemas(t, dsn), foreign) {
		t.Errorf("%+v; there are %q", p, rescueSchemas(t, dsn))
	}
}
