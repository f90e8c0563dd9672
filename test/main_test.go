// Package test runs the built program, as a user does, against a real
// PostgreSQL.
package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
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

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

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
