package rescue_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
	"github.com/pgmedic/pgmedic/internal/restore/rescue"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestTableIsOneForBackupAndRestore finds the same tables by the server, as a backup
// does, and in a backup's list of them.
func TestTableIsOneForBackupAndRestore(t *testing.T) {
	names := [][2]string{
		{"public", "visits"}, {"public", "visit1"}, {"app", "visits2"}, {"app", "Visits"}, {"app", "a.b*"}, {"app", `say "hi"`}, {"App.2", "x$y"},
		{"app", "list[]"}, {"app", "ÄRZTE"}, {"app", "a(b)"}, {"app", "a|b"}, {"app", `back\slash`}, {"app", "line\nbreak"}, {"app", "ab"}, {"app", "aab"},
		{"app", "^a"}, {"app", "a{2}b"}, {"app", "plus+"}, {"app", "tab1s"}, {"app", "tabds"},
	}
	statements := []string{"CREATE SCHEMA app", `CREATE SCHEMA "App.2"`}
	b := &pgmedic.Backup{ID: "20261122T020000Z-7f3a9c"}
	for _, n := range names {
		statements = append(statements, "CREATE TABLE "+sqltext.QuoteQualified(n[0], n[1])+" ()")
		b.Tables = append(b.Tables, pgmedic.Table{Schema: n[0], Name: n[1]})
	}
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, statements...)

	for _, pattern := range []string{
		"visits", "VISIT?", "visit[0-9]", "*.visits*", `*."Visits"`, `app."a.b*"`, `app.a"."b*`, `app."say ""hi"""`, `"App.2".x$y`, "app.list[]",
		"app.visits|public.visits", "app.(visits2|list*)", "app.ÄRZTE", `app."ÄRZTE"`, "app.a(b)", `app."a(b)"`, "app.a|b", `app."a|b"`,
		"app.a+b", "app.a{2}b", `app."a{2}b"`, "app.^a", `app."^a"`, "app.plus+", `app.plus\+`, `app."back\slash"`, `app.back\\slash`, "app.line?break", "app.line*",
		`app.tab\ds`, `app.tab\Ds`, "app.tab[[:digit:]]s", "app.[^v]*", `a*.*`, "*.*", "APP.*", `"APP".*`,
		"", ".", "a.b.c", `"open`, "app.(", "app.[", "app.a)", "app.a**+", "no_such", "app..x", "app.", ".x",
	} {
		byServer, serverErr := foundByServer(t, dsn, pattern)
		byList, listErr := foundInList(b, pattern)
		if pgmedic.KindOf(serverErr) != pgmedic.KindOf(listErr) || !slices.Equal(byServer, byList) {
			t.Errorf("%s: a backup finds %q (%v), a restore %q (%v)", pattern, byServer, serverErr, byList, listErr)
		}
	}
	// What only one of the two can read is no pattern for the other: no other meaning.
	for _, pattern := range []string{`app.\mvisits2`, `app.a\y`, `app.(a)\1b`, "app.[[=a=]]b", `app.\x61b`} {
		if _, err := foundInList(b, pattern); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

func foundByServer(t *testing.T, dsn, pattern string) (found []string, err error) {
	t.Helper()
	conn, err := postgres.Connect(t.Context(), fixture.Target(t, dsn))
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Close(t.Context(), conn)
	s, err := snapshot.Take(t.Context(), conn, snapshot.Options{
		Patterns: snapshot.Patterns{Tables: []string{pattern}}, Logger: fixture.Silent(),
	})
	if err != nil {
		return nil, err
	}
	defer s.Close(t.Context())
	for _, table := range s.Tables {
		found = append(found, sqltext.QuoteQualified(table.Schema, table.Name))
	}
	slices.Sort(found)
	return found, nil
}

func foundInList(b *pgmedic.Backup, pattern string) (found []string, err error) {
	chosen, err := rescue.Chosen(b, pattern)
	for _, name := range chosen {
		found = append(found, name)
	}
	slices.Sort(found)
	return found, err
}
