package pgtool_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// TestMessagesInEnglish has a client program read messages in English, whatever
// language the role's sessions have, and one whose role may not choose work all the
// same.
func TestMessagesInEnglish(t *testing.T) {
	dsn := scratchtest.Database(t, server)
	fixture.Exec(t, dsn, "CREATE ROLE chooses SUPERUSER LOGIN", "CREATE ROLE chooses_not LOGIN",
		"ALTER ROLE chooses SET lc_messages = 'POSIX'", "ALTER ROLE chooses_not SET lc_messages = 'POSIX'")
	t.Cleanup(func() { fixture.Exec(t, dsn, "DROP ROLE chooses, chooses_not") })
	for role, want := range map[string]string{"chooses": "C", "chooses_not": "POSIX"} {
		target := fixture.Target(t, dsn).With("user", role)
		conn, err := postgres.Connect(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		target, err = target.InEnglish(t.Context(), conn)
		postgres.Close(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		err = pgtool.Run(t.Context(), pgtool.Command{Tool: tool(t, "psql"), Target: target, Args: []string{
			"-X", "-v", "ON_ERROR_STOP=1", "-c", "DO $$ BEGIN ASSERT current_setting('lc_messages') = '" + want + "'; END $$",
		}})
		if err != nil {
			t.Errorf("%s: %v", role, err)
		}
	}
}
