package scratchtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
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
	testkit.Missing(tb, "no "+name+" here: scripts/setup.sh --all gets it")
	return ""
}
