package scratch_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

func TestCage(t *testing.T) {
	parent := parentDir(t)
	server := scratchtest.New(t, scratch.Options{Parent: parent, Cage: &scratch.Cage{}})
	t.Log(server.Walls(), query(t, server.DSN("postgres"), "SELECT pg_backend_pid()::text"))
	stopAndCheck(t, server, parent)
}
