package scratchtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// complete are the versions on which make test-all runs whole jobs.
var complete = []int{15, 17, 18}

// clients are the programs that whole jobs take.
var clients = []string{"pg_dump", "pg_dumpall", "pg_restore", "psql"}

// EachComplete runs a test once for each version that whole jobs are tested on,
// with programs of that version alone: 15, or where that is not installed the
// newest that has client programs, and if PGMEDIC_TEST_ALL is 1, 15, 17 and 18,
// which scripts/client-programs.sh gets; make test-all leaves 15 to make test, as
// Majors does. It names the subtests by the major version. One that can't be had is
// skipped, on Debian it fails.
func EachComplete(t *testing.T, test func(t *testing.T, installation scratch.Installation)) {
	t.Helper()
	EachCompleteFrom(t, oldest, test)
}

// EachCompleteFrom is EachComplete for what came with a version. Where there is none
// so new, it skips the test.
func EachCompleteFrom(t *testing.T, atLeast int, test func(t *testing.T, installation scratch.Installation)) {
	t.Helper()
	found := completeInstallations(t)
	majors := slices.DeleteFunc(others(completeMajors(found)), func(major int) bool { return major < atLeast })
	if len(majors) == 0 {
		testkit.OnlyAll(t, fmt.Sprintf("it takes PostgreSQL %d or newer", atLeast))
	}
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) { test(t, completeOf(t, found, major)) })
	}
}

// Complete returns the installation of one version with its own client programs,
// as EachComplete does.
func Complete(t *testing.T, major int) scratch.Installation {
	t.Helper()
	return completeOf(t, completeInstallations(t), major)
}

func completeMajors(found []scratch.Installation) []int {
	if testkit.All() {
		return slices.Clone(complete)
	}
	if len(found) == 0 || slices.ContainsFunc(found, func(i scratch.Installation) bool { return i.Major == preferred }) {
		return []int{preferred}
	}
	return []int{found[0].Major}
}

// completeInstallations finds what has client programs, an installed one before
// one in the cache.
func completeInstallations(t *testing.T) []scratch.Installation {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(CacheDir(), "debian", "*", "lib", "postgresql"))
	if err != nil {
		t.Fatal(err)
	}
	installed, err := scratch.Find(t.Context(), scratch.FindOptions{SearchDirs: filepath.SplitList(os.Getenv("PGMEDIC_POSTGRES_DIRS"))})
	if err != nil {
		t.Fatal(err)
	}
	cached, err := scratch.Find(t.Context(), scratch.FindOptions{SearchDirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Concat(installed, cached), func(i scratch.Installation) bool {
		return slices.ContainsFunc(clients, func(program string) bool {
			_, err := os.Stat(filepath.Join(i.BinDir, program))
			return err != nil
		})
	})
}

func completeOf(t *testing.T, found []scratch.Installation, major int) scratch.Installation {
	t.Helper()
	for _, installation := range found {
		if installation.Major == major {
			return installation
		}
	}
	system, err := os.ReadFile("/etc/os-release")
	if err == nil && slices.Contains(strings.Fields(string(system)), "ID=debian") {
		t.Fatalf("PostgreSQL %d with its own client programs is missing: run scripts/setup.sh --all", major)
	}
	testkit.Elsewhere(t, fmt.Sprintf("no PostgreSQL %d with its own client programs here: scripts/setup.sh --all gets it on Debian", major))
	return scratch.Installation{}
}
