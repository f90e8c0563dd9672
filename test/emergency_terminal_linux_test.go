package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestEmergencyAtTerminal asks what happened, shows step after step, and runs one only after
// a yes.
func TestEmergencyAtTerminal(t *testing.T) {
	b := newBench(t, patients("10")...)
	b.ok("backup", "-q")
	mustExec(t, b.database, "DELETE FROM patients WHERE id > 4")
	rescued := func() []string {
		return query(t, b.database, "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^pgmedic'")
	}
	const next = "Enter: next step"

	t.Run("runs a step", func(t *testing.T) {
		term := b.terminal(t, 100, 30, "emergency")
		term.sees("What happened?")
		term.types(keyDown)
		term.sees("›")
		term.types("\x1b[A" + keyEnter) // rows-deleted, the first
		term.sees("When did it happen?")
		term.types("gestern\n")
		term.sees("is not a time")
		term.types("\n")
		term.sees("Which table?")
		term.types("a.b.c.d\n")
		term.sees("too many dots")
		term.types("patients\n")
		term.sees(next) // 1: nothing to run
		term.types("r\n")
		term.sees("type it yourself")
		term.types("what\n")
		term.sees("not understood")
		term.types("\n")
		term.sees("r: run it")
		term.types("r\n")
		term.sees("to go on: ")
		term.types("no\n")
		term.sees("not run")
		if got := rescued(); len(got) > 0 {
			t.Errorf("it made %q without a yes", got)
		}
		term.types("r\n")
		term.sees("to go on: ")
		term.types("yes\n")
		term.sees("it ended with exit code 0")
		term.types("\n")
		term.sees("--in-place --missing-rows\r\n")
		term.sees(next) // and no r: it changes the table
		term.types("r\n")
		term.sees("type it yourself")
		if got := rescued(); len(got) > 0 {
			t.Errorf("schemas of the rescue: %q", got)
		}
		term.types("q\n")
		term.ends(0)
		if got := query(t, b.database, "SELECT count(*)::text FROM patients"); !slices.Equal(got, []string{"4"}) {
			t.Errorf("it changed the living table: %q", got)
		}
	})
	t.Run("all steps", func(t *testing.T) {
		term := b.terminal(t, 100, 30, "emergency", "wal-full")
		for last := false; !last; term.types("\n") {
			testkit.Eventually(t, 30*time.Second, "it waits after a step", func() bool {
				shown := term.screen.String()[term.since:]
				last = strings.HasSuffix(shown, "Enter: end > ")
				return last || strings.HasSuffix(shown, "q: leave > ")
			})
		}
		if out := term.ends(0); !strings.Contains(out, "pgmedic help emergency wal-full") {
			t.Errorf("it ends with %q", out)
		}
	})
	t.Run("a step that fails", func(t *testing.T) {
		term := b.terminal(t, 100, 30, "emergency", "rows-deleted", "--table", "no_such_table")
		term.sees("When did it happen?")
		term.types("\n")
		term.sees(next)
		term.types("\n")
		term.sees("r: run it")
		term.types("r\n")
		term.sees("to go on: ")
		term.types("yes\n")
		term.sees("it ended with exit code 10")
		term.types("q\n")
		term.ends(0)
	})
	t.Run("leave", func(t *testing.T) {
		term := b.terminal(t, 40, 8, "emergency")
		term.sees("What happened?")
		term.types(keyEsc)
		term.ends(13)
	})
	t.Run("interrupt the list", func(t *testing.T) {
		term := b.terminal(t, 80, 24, "emergency")
		term.sees("What happened?")
		term.types(keyCtrlC)
		term.ends(130)
	})
	t.Run("interrupt a step", func(t *testing.T) {
		term := b.terminal(t, 80, 24, "emergency", "server-slow")
		term.sees(next)
		term.types(keyCtrlC)
		term.ends(130)
	})
}
