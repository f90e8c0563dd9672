package postgres_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestTextArray reads arrays whose elements are not UTF-8 as the server has them.
func TestTextArray(t *testing.T) {
	name := fixture.Name(t, server)
	fixture.Exec(t, scratchtest.Database(t, server), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
	conn, err := postgres.Connect(t.Context(), fixture.Target(t, server.DSN(name)))
	if err != nil {
		t.Fatal(err)
	}
	defer postgres.Close(t.Context(), conn)
	for _, want := range [][]string{{}, {"a"}, {""}, {"d\xeda", "\xff\xfe", "a,b", `"`, `\`, "{}", " ", "NULL", "é"}} {
		var got postgres.TextArray
		if err := conn.QueryRow(t.Context(), "SELECT $1::text[]", want).Scan(&got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", want, got, err)
		}
	}
}
