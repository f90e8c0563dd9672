package scratchtest_test

import (
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

func scan[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	var value T
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// TestStandby: a standby of every version follows, stands still while it is
// paused, and becomes a primary.
func TestStandby(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			primary := scratchtest.New(t, scratch.Options{Major: major, TCP: true})
			dsn := scratchtest.Database(t, primary)
			name := scan[string](t, dsn, "SELECT current_database()::text")
			execSQL(t, dsn, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
			standby := scratchtest.NewStandby(t, primary, scratch.StandbyOptions{})
			const count = "SELECT count(*)::int FROM t"
			if got := scan[int](t, standby.URL(name), count); got != 1000 {
				t.Errorf("the copy has %d rows", got)
			}
			if !scan[bool](t, standby.DSN(name), "SELECT pg_is_in_recovery()") {
				t.Error("it is no standby")
			}
			execSQL(t, dsn, "INSERT INTO t VALUES (0)")
			standby.CatchUp(t)
			standby.Pause(t)
			execSQL(t, dsn, "INSERT INTO t VALUES (0)")
			if got := scan[int](t, standby.DSN(name), count); got != 1001 {
				t.Errorf("paused: %d rows", got)
			}
			standby.Resume(t)
			standby.CatchUp(t)
			if got := scan[int](t, standby.DSN(name), count); got != 1002 {
				t.Errorf("resumed: %d rows", got)
			}
			standby.Promote(t)
			execSQL(t, standby.DSN(name), "INSERT INTO t VALUES (0)")
			if a, b := scan[int](t, standby.DSN(name), count), scan[int](t, dsn, count); a != 1003 || b != 1002 {
				t.Errorf("promoted: %d rows, the old primary %d", a, b)
			}
		})
	}
}

func execSQL(t *testing.T, dsn, sql string) {
	t.Helper()
	conn := testkit.Dial(t, dsn)
	defer testkit.End(conn)
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
