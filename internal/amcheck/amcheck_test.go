package amcheck_test

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/amcheck"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) { server = s }))
}

// TestNothingStays: what was made for the checks is dropped where the session that made it is
// ended while others work, and said where it can't be.
func TestNothingStays(t *testing.T) {
	for what, breaks := range map[string]string{
		"ended":  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%relkind IN (''r'', ''t'', ''m'')%'",
		"in use": "CREATE TABLE SCHEMA.theirs ()",
	} {
		t.Run(what, func(t *testing.T) {
			dsn := scratchtest.Database(t, server)
			target, err := postgres.ParseTarget(dsn)
			if err != nil {
				t.Fatal(err)
			}
			conn := testkit.Dial(t, dsn)
			defer testkit.End(conn)
			schemas := func() (name string) {
				err := conn.QueryRow(t.Context(), "SELECT coalesce(string_agg(nspname, ' '), '') FROM pg_namespace WHERE nspname LIKE 'pgmedic%'").Scan(&name)
				if err != nil {
					t.Error(err)
				}
				return name
			}
			var once sync.Once
			heaps := false
			r, err := amcheck.New(amcheck.Options{
				Target: target, Jobs: 1, Superuser: true, Refused: func(string) bool { return false },
				Progress: func(e pgmedic.Event) {
					if heaps = heaps || e.Object == "pg_catalog.pg_class"; !heaps {
						return
					}
					once.Do(func() {
						if _, err := conn.Exec(t.Context(), strings.ReplaceAll(breaks, "SCHEMA", schemas())); err != nil {
							t.Error(err)
						}
					})
				},
			}).Check(t.Context(), true)
			if err != nil || !heaps || r.Indexes == 0 || r.Heaps == 0 {
				t.Fatalf("%v, %+v", err, r)
			}
			left, said := schemas(), ""
			for _, c := range r.Checks {
				if c.Outcome == pgmedic.OutcomeWarn {
					said = c.Detail
				}
			}
			if stays := what == "in use"; (left != "") != stays || strings.Contains(said, left+"\", which were made for the checks, are still there") != stays {
				t.Errorf("%q is left, and it says %q", left, said)
			}
		})
	}
}
