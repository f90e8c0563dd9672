package dumpfile_test

import (
	"os"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{}, func(s *scratch.Server) { server = s }))
}
