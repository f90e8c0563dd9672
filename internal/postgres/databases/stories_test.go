package databases_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestStoriesWhileDatabasesGo lists databases with a snapshot in which one is that
// somebody has dropped since, as another run does at any time.
func TestStoriesWhileDatabasesGo(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			s := scratchtest.New(t, scratch.Options{Major: major})
			target := postgrestest.Parse(t, s.DSN("postgres"))
			conn, other := postgrestest.Connect(t, target), postgrestest.Connect(t, target)
			postgrestest.Run(t, other, "CREATE DATABASE told TEMPLATE template0")
			postgrestest.Run(t, other, "CREATE DATABASE nameless TEMPLATE template0 ALLOW_CONNECTIONS false")
			postgrestest.Run(t, other, `COMMENT ON DATABASE told IS '{"pgmedic":"loading","of":"x"}'`)
			stories := func() int {
				all, err := databases.ReadAllStories(t.Context(), conn)
				if err != nil {
					t.Fatal(err)
				}
				return len(all)
			}
			if n := stories(); n != 1 {
				t.Fatalf("%d stories, want 1", n)
			}
			postgrestest.Run(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
			postgrestest.Run(t, conn, "SELECT 1")
			postgrestest.Run(t, other, "DROP DATABASE told")
			postgrestest.Run(t, other, "DROP DATABASE nameless")
			stories()
			if names, err := databases.Nameless(t.Context(), conn, "nameless", nil); err != nil || len(names) > 0 {
				t.Errorf("nameless: %q, %v", names, err)
			}
			postgrestest.Run(t, conn, "COMMIT")
			if n := stories(); n != 0 {
				t.Errorf("%d stories, want none", n)
			}
		})
	}
}

func names(kept []databases.Kept) []string {
	var all []string
	for _, k := range kept {
		all = append(all, k.Name)
	}
	return slices.Clip(all)
}
