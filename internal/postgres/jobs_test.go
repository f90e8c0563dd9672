package postgres_test

import (
	"runtime"
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestJobs: a quota of processors counts, not the machine.
func TestJobs(t *testing.T) {
	before := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(before)
	if got := postgres.Jobs(0); got != 3 {
		t.Errorf("%d jobs for a quota of 3 processors", got)
	}
	if got := postgres.Jobs(7); got != 7 {
		t.Errorf("%d jobs where 7 were asked for", got)
	}
}
