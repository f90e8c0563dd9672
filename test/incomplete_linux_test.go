package test

import (
	"strings"
	"testing"
)

// TestIncompleteAtTerminal: who replaces a live database by a copy that is not
// complete is shown what is missing and types the database's name, with --yes, too.
func TestIncompleteAtTerminal(t *testing.T) {
	t.Parallel()
	b := newBench(t, append(patients("3"),
		"CREATE TABLE chain (id int, before int)", "INSERT INTO chain VALUES (1, NULL), (2, 1)",
		"CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 IS NULL OR EXISTS (SELECT FROM public.chain WHERE id = $1)'",
		"ALTER TABLE chain ADD CHECK (known(before))")...)
	b.ok("backup", "-q")
	restore := []string{"restore", "latest", "--swap", "--yes", "--skip-safety-backup", "no room"}
	for _, answer := range []string{"y", "", b.database + "x"} {
		term := b.terminal(t, 200, 24, restore...)
		term.sees("all the same?")
		term.types(answer + "\n")
		if shown := term.ends(13); !strings.Contains(shown, "TABLE DATA public.chain: 2 rows missing") || !strings.Contains(shown, "is as it was") {
			t.Errorf("a terminal shows:\n%s", shown)
		}
	}
	term := b.terminal(t, 200, 24, restore...)
	term.sees("all the same?")
	term.types(b.database + "\n")
	if shown := term.ends(15); !strings.Contains(shown, "swapped, but not completely restored") {
		t.Errorf("a terminal shows:\n%s", shown)
	}
}
