package postgres_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestInEnglish asks for English where the role may: a session that may not would
// end before it begins.
func TestInEnglish(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE ROLE reads_english LOGIN", "CREATE ROLE granted_english LOGIN")
	t.Cleanup(func() {
		if server.Major() >= 15 {
			fixture.Exec(t, dsn, "REVOKE SET ON PARAMETER lc_messages FROM granted_english")
		}
		fixture.Exec(t, dsn, "DROP ROLE reads_english, granted_english")
	})
	want := map[string]bool{"": true, "reads_english": false, "granted_english": server.Major() >= 15}
	if server.Major() >= 15 {
		fixture.Exec(t, dsn, "GRANT SET ON PARAMETER lc_messages TO granted_english")
	}
	for role, english := range want {
		target := fixture.Target(t, dsn)
		if role != "" {
			target = target.With("user", role)
		}
		conn, err := postgres.Connect(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		target, err = target.InEnglish(t.Context(), conn)
		postgres.Close(t.Context(), conn)
		if err != nil || target.SpeaksEnglish() != english || target.With("dbname", "x").SpeaksEnglish() != english {
			t.Errorf("role %q: English %t, want %t: %v", role, target.SpeaksEnglish(), english, err)
		}
		if !target.SpeaksEnglish() {
			continue
		}
		if conn, err = postgres.Connect(t.Context(), target.With("options", "-c lc_messages=C")); err != nil {
			t.Errorf("role %q: %v", role, err)
			continue
		}
		postgres.Close(t.Context(), conn)
	}
}
