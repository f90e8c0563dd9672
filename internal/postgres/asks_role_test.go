package postgres_test

import (
	"testing"

	"github.com/pgmedic/pgmedic/internal/postgres"
)

func TestAsksRole(t *testing.T) {
	for options, want := range map[string]bool{
		"": false, "-c role=app": true, "-crole=app": true, "--role=app": true, "-c work_mem=1MB -c role=app": true,
		"-c session_replication_role=replica": false, "-c work_mem=1MB": false,
	} {
		if got := postgres.AsksRole(options); got != want {
			t.Errorf("%q: %t", options, got)
		}
	}
}
