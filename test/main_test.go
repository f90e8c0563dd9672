// Package test runs the built program, as a user does, against a real
// PostgreSQL.
package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// password is the superuser's. No output of any test may have it.
const password = "Str0ng-and-Secret"

// binary is the built program, server the PostgreSQL that all tests share,
// programs the folder of programs for the servers of drills and demos, see
// scratchtest.Programs.
var (
	binary   string
	server   *scratch.Server
	programs string
)

func TestMain(m *testing.M) {
	if err := testkit.LeaveOut(wholeInMakeTest()...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(runAll(m))
}

// wholeInMakeTest are the tests that are the same in make test-all, and not run again.
func wholeInMakeTest() []string {
	return []string{
		"TestAllDatabases", "TestWatch", "TestVerdict", "TestChoose", "TestAskForRoles", "TestChooseWithoutTerminal", "TestLogAtTerminal",
		"TestCopyInterrupted", "TestSampleRuns", "TestChunksMoved", "TestWrongKey", "TestDemo", "TestDrillKilled", "TestLoadStated",
		"TestUnencryptedForgery", "TestIdentityOnlyHost", "TestForgedReceipts", "TestStoreGone", "TestHistoryHoldsNoLiterals",
		"TestHistoryKnowsSinceWhenAnIndexIsUnused", "TestIncompleteAtTerminal", "TestReaderGone", "TestMetricsAreWhole",
		"TestMetricsSurviveAKill", "TestRestoreReceipts", "TestSweepTemp", "TestReportOfASessionThatIsEndedMidway", "TestRescueRefusals",
		"TestRescueEncrypted", "TestRoles", "TestS3Rescue", "TestS3Refused", "TestGlobals", "TestRollbackOfAForgedStory", "TestRunLockTaken",
		"TestSwapUnderClients", "TestPruneDrops",
	}
}

// TestWholeInMakeTest holds the list to the tests that there are, and that leave nothing
// to make test-all.
func TestWholeInMakeTest(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{}
	for _, name := range files {
		text := string(readFile(t, name))
		for _, m := range regexp.MustCompile(`(?ms)^func (Test\w+)\(t \*testing\.T\) \{(.*?)^\}`).FindAllStringSubmatch(text, -1) {
			bodies[m[1]] = m[2]
		}
	}
	for _, name := range wholeInMakeTest() {
		// Waiting and connecting are the same whatever is asked for.
		body, ok := bodies[name]
		if body = regexp.MustCompile(`\btestkit\.(Eventually|Connect|Dial|End)\(`).ReplaceAllString(body, ""); !ok || strings.Contains(body, "testkit.") {
			t.Errorf("%s: there: %t; it must not depend on how much is asked for", name, ok)
		}
	}
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pgmedic-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "pgmedic")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", binary, "../cmd/pgmedic")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build pgmedic: %v\n%s", err, out)
		return 1
	}
	// Enough sessions for all tests at once.
	o := scratch.Options{TCP: true, Password: password, Settings: map[string]string{"max_connections": "200"}}
	return scratchtest.Main(m, o, func(s *scratch.Server) {
		if programs, err = scratchtest.Programs(s); err != nil {
			panic(err)
		}
		server = s
	})
}
