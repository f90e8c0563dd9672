package scratchtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tool returns the path of a program that scripts/setup.sh --all puts into the
// cache, or that is installed. Without it the test is skipped, or, where
// PGMEDIC_TEST_ALL is 1, fails.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(CacheDir(), "bin", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("PGMEDIC_TEST_ALL") == "1" {
		tb.Fatalf("%s is missing: run scripts/setup.sh --all", name)
	}
	tb.Skipf("no %s here: scripts/setup.sh --all gets it", name)
	return ""
}
