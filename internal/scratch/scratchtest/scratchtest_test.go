package scratchtest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) { server = s }))
}

func TestDatabase(t *testing.T) {
	var dsns []string
	t.Run("made", func(t *testing.T) {
		for range 2 {
			dsn := scratchtest.Database(t, server)
			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			// Left open: a session must not keep the database alive.
			if _, err := conn.Exec(t.Context(), "CREATE TABLE t ()"); err != nil {
				t.Error(err)
			}
			dsns = append(dsns, dsn)
		}
	})
	if len(dsns) != 2 || dsns[0] == dsns[1] {
		t.Errorf("got %q", dsns)
	}
	for _, dsn := range dsns {
		if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%s is still there", dsn)
		}
	}
}

func TestMajors(t *testing.T) {
	got := scratchtest.Majors(t)
	if testkit.Rest() {
		got = append(got, 15)
	}
	if !slices.Contains(got, server.Major()) {
		t.Errorf("the default server's version %d is not among %v", server.Major(), got)
	}
	if testkit.All() {
		slices.Sort(got)
		want := []int{12, 13, 14, 15, 16, 17, 18}
		if !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
	}
}

// TestEachComplete: a version's client programs are its own, and make test-all has
// all versions.
func TestEachComplete(t *testing.T) {
	var got []int
	scratchtest.EachComplete(t, func(t *testing.T, installation scratch.Installation) {
		got = append(got, installation.Major)
		for _, name := range []string{"pg_dump", "pg_dumpall", "pg_restore", "psql", "postgres"} {
			out, err := exec.CommandContext(t.Context(), filepath.Join(installation.BinDir, name), "--version").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "(PostgreSQL) "+installation.Version) {
				t.Errorf("%s of %s says %q, %v", name, installation.Version, out, err)
			}
		}
	})
	if want := []int{15, 17, 18}; testkit.All() && !t.Failed() && !slices.Equal(got, want) {
		testkit.Elsewhere(t, fmt.Sprintf("only %v are here", got)) // said by name above
	}
	if len(got) == 0 {
		t.Error("no version was tested")
	}
}
