package restore

import (
	"context"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestAmcheckOfADumpFails: what amcheck could not be run for is named and costs no rows,
// unless it is the end of the run.
func TestAmcheckOfADumpFails(t *testing.T) {
	nowhere, err := postgres.ParseTarget("postgres://nobody@127.0.0.1:1/postgres")
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{Target: nowhere, Into: "copy", Dump: &Dump{}}
	checks, err := o.amcheckDumped(t.Context())
	if err != nil || len(checks) != 2 {
		t.Fatalf("%v, %v", checks, err)
	}
	for _, c := range checks {
		if c.Outcome != pgmedic.OutcomeWarn || !strings.HasPrefix(c.Detail, "could not be checked: connect to PostgreSQL") {
			t.Errorf("%+v", c)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.amcheckDumped(ended); pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("interrupted: %v", err)
	}
}
