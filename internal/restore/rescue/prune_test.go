package rescue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestPruneRescued drops the schema of a rescue that is asked for, and no other
// thing.
func TestPruneRescued(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	mustRescue(t, rescueOptions(t, dsn, c, b, "public.patients", "notes"))
	schema := postgres.RescueSchema(b.ID)
	const foreign = "pgmedic_rescue_20200101t000000z_abcdef"
	fixture.Exec(t, dsn, "CREATE SCHEMA "+foreign, "CREATE TABLE "+foreign+".mine ()")
	target := rescueOptions(t, dsn, c, b, "public.patients").Target
	plan := func(asked ...string) *rescue.PrunedSchema {
		t.Helper()
		all, _, err := rescue.PlanPrune(t.Context(), target, "", asked)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(p rescue.PrunedSchema) bool { return p.Database == target.Database() && p.Schema == schema })
		if i < 0 || slices.ContainsFunc(all, func(p rescue.PrunedSchema) bool { return p.Schema == foreign }) {
			t.Fatalf("the plan is %+v", all)
		}
		return &all[i]
	}
	if p := plan(); p.Drop || p.Backup != b.ID || p.Tables != 2 || !strings.Contains(p.Reason, "--rescued "+schema) {
		t.Errorf("unasked: %+v", p)
	}
	for _, asked := range []string{foreign, "public", "nosuch." + schema} {
		if _, _, err := rescue.PlanPrune(t.Context(), target, "", []string{asked}); pgmedic.KindOf(err) != pgmedic.KindNotFound {
			t.Errorf("%s: %v", asked, err)
		}
	}
	drop := func() *rescue.PrunedSchema {
		t.Helper()
		p := plan(target.Database() + "." + schema)
		if !p.Drop {
			t.Fatalf("asked for: %+v", p)
		}
		if err := rescue.Drop(t.Context(), target, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	kept := func(why string, p *rescue.PrunedSchema) {
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
	if got, _, err := databases.TryNamedLock(t.Context(), conn, "pgmedic "+schema); err != nil || !got {
		t.Fatal(got, err)
	}
	kept("another rescue works on it", drop())
	databases.CloseUnlocked(t.Context(), conn)

	// It was half loaded when it was looked at, and has come to its end since.
	dead := plan()
	if err := rescue.DropDead(t.Context(), target, dead); err != nil {
		t.Fatal(err)
	}
	kept("to its end meanwhile", dead)

	if p := drop(); !p.Dropped || slices.Contains(rescueSchemas(t, dsn), schema) || !slices.Contains(rescueSchemas(t, dsn), foreign) {
		t.Errorf("%+v; there are %q", p, rescueSchemas(t, dsn))
	}
}

// TestPruneRescuedMeanwhile: a database that is renamed while prune looks into all of
// them is looked into by its new name, and is not unread.
func TestPruneRescuedMeanwhile(t *testing.T) {
	dsn, c, b := fixture.Ward(t, server, backup.Parallel{})
	o := rescueOptions(t, dsn, c, b, "public.patients")
	mustRescue(t, o)
	name := o.Target.Database()
	renamed := name + "_renamed"
	admin := testkit.Connect(t, server.DSN("postgres"))
	// Nobody gets into it until the transaction has ended.
	for _, sql := range []string{"BEGIN", "ALTER DATABASE " + name + " RENAME TO " + renamed} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		plan   []rescue.PrunedSchema
		unread []rescue.Unread
		err    error
	}
	answered := make(chan answer)
	go func() {
		var a answer
		a.plan, a.unread, a.err = rescue.PlanPrune(t.Context(), o.Target.WithDatabase("postgres"), "", nil)
		answered <- a
	}()
	watch := testkit.Connect(t, server.DSN("postgres"))
	testkit.Eventually(t, time.Minute, "prune waits at the database", func() bool {
		var waits bool
		err := watch.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'object'
			AND classid = 'pg_database'::regclass AND objid = (SELECT oid FROM pg_database WHERE datname = $1)`, name).Scan(&waits)
		return err == nil && waits
	})
	if _, err := admin.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	a := <-answered
	fixture.Exec(t, server.DSN("postgres"), "ALTER DATABASE "+renamed+" RENAME TO "+name) // or it stays
	if a.err != nil {
		t.Fatal(a.err)
	}
	if slices.ContainsFunc(a.unread, func(u rescue.Unread) bool { return u.Database == name }) {
		t.Errorf("unread: %+v", a.unread)
	}
	if !slices.ContainsFunc(a.plan, func(p rescue.PrunedSchema) bool { return p.Database == renamed }) {
		t.Errorf("the rescue in %s is not in %+v", renamed, a.plan)
	}
}
