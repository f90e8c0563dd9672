package postgres_test

import (
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestStoriesWhileDatabasesGo lists databases with a snapshot in which one is that
// somebody has dropped since, as another run does at any time.
func TestStoriesWhileDatabasesGo(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			s := scratchtest.New(t, scratch.Options{Major: major})
			target := parse(t, s.DSN("postgres"))
			conn, other := connect(t, target), connect(t, target)
			run(t, other, "CREATE DATABASE told TEMPLATE template0")
			run(t, other, "CREATE DATABASE nameless TEMPLATE template0 ALLOW_CONNECTIONS false")
			run(t, other, `COMMENT ON DATABASE told IS '{"pgmedic":"loading","of":"x"}'`)
			stories := func() int {
				all, err := postgres.ReadAllStories(t.Context(), conn)
				if err != nil {
					t.Fatal(err)
				}
				return len(all)
			}
			if n := stories(); n != 1 {
				t.Fatalf("%d stories, want 1", n)
			}
			run(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
			run(t, conn, "SELECT 1")
			run(t, other, "DROP DATABASE told")
			run(t, other, "DROP DATABASE nameless")
			stories()
			if names, err := postgres.Nameless(t.Context(), conn, "nameless", nil); err != nil || len(names) > 0 {
				t.Errorf("nameless: %q, %v", names, err)
			}
			run(t, conn, "COMMIT")
			if n := stories(); n != 0 {
				t.Errorf("%d stories, want none", n)
			}
		})
	}
}
