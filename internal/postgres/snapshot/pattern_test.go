package snapshot_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/postgres/snapshot"
)

// TestPatterns holds what patterns take in and leave out against what psql's
// documentation says of them.
func TestPatterns(t *testing.T) {
	target, conn := database(t)
	postgrestest.Run(t, conn, "CREATE SCHEMA app", `CREATE SCHEMA "App.2"`,
		"CREATE TABLE public.visits ()", "CREATE TABLE public.visit1 ()", "CREATE TABLE app.visits ()", `CREATE TABLE app."Visits" ()`,
		`CREATE TABLE app."a.b*" ()`, `CREATE TABLE app."say ""hi""" ()`, `CREATE TABLE "App.2"."x$y" ()`, `CREATE TABLE app."list[]" ()`,
		`CREATE TABLE app."ÄRZTE" ()`)
	conn = postgrestest.Connect(t, target)
	for _, tt := range []struct {
		pattern string
		want    []string
	}{
		{"visits", []string{"public.visits"}}, // app is not on the search path
		{"VISIT?", []string{"public.visit1", "public.visits"}},
		{"visit[0-9]", []string{"public.visit1"}},
		{"*.visits", []string{"app.visits", "public.visits"}},
		{`*."Visits"`, []string{"app.Visits"}},
		{`app."a.b*"`, []string{"app.a.b*"}},
		{`app.a"."b*`, []string{"app.a.b*"}},
		{`app."say ""hi"""`, []string{`app.say "hi"`}},
		{`"App.2".x$y`, []string{"App.2.x$y"}},
		{"app.list[]", []string{"app.list[]"}},
		{"app.visits|public.visits", nil},
		{"app.(visits|list*)", []string{"app.list[]", "app.visits"}},
		{"app.ÄRZTE", nil}, // the ASCII letters of a name are folded
		{`app."ÄRZTE"`, []string{"app.ÄRZTE"}},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			s, err := snapshot.Take(t.Context(), conn, snapshot.Options{
				Patterns: snapshot.Patterns{Tables: []string{tt.pattern}}, Logger: postgrestest.Silent(),
			})
			if tt.want == nil {
				if kind := pgmedic.KindOf(err); kind != pgmedic.KindNotFound && kind != pgmedic.KindUsage {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Close(t.Context())
			var got []string
			for _, table := range s.Tables {
				got = append(got, table.Schema+"."+table.Name)
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("it takes in %q, want %q", got, tt.want)
			}
			if path := postgrestest.Query[string](t, conn, "SHOW search_path"); path != "" && path != `""` {
				t.Errorf("the session's search path is %q", path)
			}
		})
	}
}
