// Package pool_test tests the pool on real servers. It is a module of its own,
// since it needs the scratch servers of pgmedic, which the pool must not.
package pool_test

import (
	"os"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// server is the PostgreSQL that tests share which do no harm to it.
var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{TCP: true}, func(s *scratch.Server) { server = s }))
}
