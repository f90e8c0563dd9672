package swap_test

import (
	"os"
	"testing"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

var server *scratch.Server

func TestMain(m *testing.M) {
	settings := map[string]string{"wal_level": "logical", "max_prepared_transactions": "5"}
	os.Exit(scratchtest.Main(m, scratch.Options{Settings: settings}, func(s *scratch.Server) { server = s }))
}
