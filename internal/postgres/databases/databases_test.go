package databases_test

import (
	"slices"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// TestListDatabases sees which databases a backup of all of them takes.
func TestListDatabases(t *testing.T) {
	_, conn := admin(t)
	for _, name := range []string{"list_plain", `list "odd" name`, "list_template", "list_closed", "list_kept", "list_loading", "list_spoken_of"} {
		quoted := sqltext.QuoteIdent(name)
		postgrestest.Run(t, conn, "CREATE DATABASE "+quoted+" TEMPLATE template0")
		defer postgrestest.Run(t, conn, "ALTER DATABASE "+quoted+" IS_TEMPLATE false", "DROP DATABASE "+quoted)
	}
	postgrestest.Run(t, conn, "ALTER DATABASE list_template IS_TEMPLATE true",
		"ALTER DATABASE list_closed ALLOW_CONNECTIONS false",
		`COMMENT ON DATABASE list_spoken_of IS 'pgmedic: kept for the auditors'`)
	for name, story := range map[string]string{"list_kept": pgmedic.StoryKept, "list_loading": pgmedic.StoryLoading} {
		if err := databases.SetStory(t.Context(), conn, name, pgmedic.Story{Pgmedic: story, Of: "list_plain", By: "restore"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := databases.List(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"postgres": true, "list_plain": true, `list "odd" name`: true, "list_spoken_of": true,
		"template0": false, "template1": false, "list_template": false, "list_closed": false, "list_kept": false, "list_loading": false,
	} {
		if slices.Contains(got, name) != want {
			t.Errorf("%s is listed: %t, want %t", name, !want, want)
		}
	}
	if !slices.IsSorted(got) {
		t.Errorf("not by name: %q", got)
	}
}
