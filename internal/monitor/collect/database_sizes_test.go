package collect

import (
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestDatabaseSizesWhileOneGoes reads sizes with a snapshot in which a database is
// that somebody has dropped since.
func TestDatabaseSizesWhileOneGoes(t *testing.T) {
	for _, major := range scratchtest.Ends(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			server := scratchtest.New(t, scratch.Options{Major: major})
			connect := func() func(sql string) {
				conn := testkit.Connect(t, server.DSN("postgres"))
				return func(sql string) {
					t.Helper()
					if _, err := conn.Exec(t.Context(), sql); err != nil {
						t.Fatalf("%s: %v", sql, err)
					}
				}
			}
			reader, other := connect(), connect()
			other("CREATE DATABASE short_lived TEMPLATE template0")
			reader("BEGIN ISOLATION LEVEL REPEATABLE READ")
			reader("SELECT 1")
			other("DROP DATABASE short_lived")
			reader(sqlDatabaseSizes)
			reader("COMMIT")
		})
	}
}
