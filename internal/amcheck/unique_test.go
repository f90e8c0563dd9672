package amcheck_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/amcheck"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestUnique: a key that a unique index has twice is damage, as rows that came back leave it,
// where amcheck can tell. A dead version of a row, keys that are null, and a key that is checked
// at the end of a transaction are none.
func TestUnique(t *testing.T) {
	testkit.OnlyAll(t, "a server of PostgreSQL 17 and 18")
	for _, major := range []int{17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			s := scratchtest.New(t, scratch.Options{Major: major})
			dsn := scratchtest.Database(t, s)
			conn := testkit.Dial(t, dsn)
			defer testkit.End(conn)
			run := func(statements ...string) {
				t.Helper()
				for _, statement := range statements {
					if _, err := conn.Exec(t.Context(), statement); err != nil {
						t.Fatalf("%s: %v", statement, err)
					}
				}
			}
			run("CREATE TABLE public.sound (n int PRIMARY KEY, late int UNIQUE DEFERRABLE INITIALLY DEFERRED, empty int UNIQUE, note text)",
				"INSERT INTO public.sound SELECT g, g, NULL, 'x' FROM generate_series(1, 5000) AS g",
				"UPDATE public.sound SET note = 'y', late = late + 1", "DELETE FROM public.sound WHERE n % 3 = 0", "INSERT INTO public.sound SELECT g, g + 10000, NULL, 'z' FROM generate_series(3, 4999, 3) AS g",
				"CREATE TABLE public.twice (n int)", "INSERT INTO public.twice SELECT g FROM generate_series(1, 1000) AS g",
				"INSERT INTO public.twice VALUES (700)", "CREATE INDEX twice_n ON public.twice (n)")
			target, err := postgres.ParseTarget(dsn)
			if err != nil {
				t.Fatal(err)
			}
			indexes := func() pgmedic.Check {
				t.Helper()
				r, err := amcheck.New(amcheck.Options{Target: target, Superuser: true, Refused: func(string) bool { return false }}).Check(t.Context(), true)
				if err != nil || len(r.Checks) == 0 {
					t.Fatalf("%v, %+v", err, r)
				}
				return r.Checks[0]
			}
			if c := indexes(); c.Outcome != pgmedic.OutcomeOK || !strings.Contains(c.Detail, "no key twice") {
				t.Errorf("sound: %+v", c)
			}
			run("SET allow_system_table_mods = on", "UPDATE pg_index SET indisunique = true WHERE indexrelid = 'public.twice_n'::regclass")
			if c := indexes(); c.Outcome != pgmedic.OutcomeFailed || !strings.Contains(c.Detail, "twice_n") {
				t.Errorf("a key twice: %+v", c)
			}
		})
	}
}
