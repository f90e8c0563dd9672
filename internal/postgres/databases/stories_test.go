package databases_test

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
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

// TestNamelessInAnotherEncoding: a name that is not in the encoding of the database that is
// asked keeps the others from nobody.
func TestNamelessInAnotherEncoding(t *testing.T) {
	conn := postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres")))
	raw := "raw_" + strings.ToLower(rand.Text()[:10])
	postgrestest.Run(t, conn, "CREATE DATABASE "+raw+" TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
	for _, name := range []string{raw + "_\xf1o", raw + "_ours"} {
		fixture.Exec(t, server.DSN(raw), `CREATE DATABASE "`+name+`" TEMPLATE template0 ALLOW_CONNECTIONS false ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	}
	got, err := databases.Nameless(t.Context(), conn, raw+"_ours", nil)
	for _, name := range []string{raw + "_\xf1o", raw + "_ours"} { // which other tests would have to read
		fixture.Exec(t, server.DSN(raw), `DROP DATABASE "`+name+`"`)
	}
	if err != nil || !slices.Equal(got, []string{raw + "_ours"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func names(kept []databases.Kept) []string {
	var all []string
	for _, k := range kept {
		all = append(all, k.Name)
	}
	return slices.Clip(all)
}
