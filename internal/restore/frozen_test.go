package restore_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestFrozenRows: a table that one connection loads whole has frozen rows, and one
// with a row that is refused once comes back all the same.
func TestFrozenRows(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	source := fixture.Name(t, server)
	fixture.Exec(t, server.DSN("postgres"), "CREATE DATABASE "+source)
	fixture.Exec(t, server.DSN(source),
		"CREATE TABLE public.known (id int)", "INSERT INTO public.known SELECT generate_series(1, 10)",
		"CREATE TABLE public.large (id int, note text)", "INSERT INTO public.large SELECT g, repeat('x', 100) FROM generate_series(1, 20000) AS g",
		// Refused for as long as known, which is smaller and comes later, is empty.
		`CREATE FUNCTION public.is_known(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.known WHERE id = $1 % 10 + 1)'`,
		"CREATE TABLE public.checked (id int CHECK (public.is_known(id)), note text)", "INSERT INTO public.checked SELECT g, repeat('y', 100) FROM generate_series(1, 21000) AS g",
	)
	c := fixture.NewCatalog(t)
	o := fixture.BackupOptions(t, server.DSN(source), c)
	o.Method = backup.Parallel{Jobs: 1}
	b, err := backup.Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	into := fixture.RestoreOptions(t, server, c, b, fixture.Name(t, server))
	into.Jobs = 1
	done, err := restore.Into(t.Context(), into)
	if err != nil || len(done.Refused) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if failed := slices.ContainsFunc(done.Checks, func(c pgmedic.Check) bool { return c.Outcome == pgmedic.OutcomeFailed }); failed {
		t.Errorf("%+v", done.Checks)
	}
	fixture.Exec(t, server.DSN(into.Into), "CREATE EXTENSION pageinspect")
	flags := func(table string) bool {
		return fixture.Query[bool](t, server.DSN(into.Into), "SELECT bool_and(t_infomask & 768 = 768) FROM heap_page_items(get_raw_page('public."+table+"', 0))")[0]
	}
	if !flags("large") || flags("checked") {
		t.Errorf("large is frozen: %v, want true; checked, whose rows were refused once: %v, want false", flags("large"), flags("checked"))
	}
}
