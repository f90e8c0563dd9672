package pgtool_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/pgtool"
	"github.com/pgmedic/pgmedic/internal/postgres"
)

// TestRestoreArchiveRefused: a pg_restore that came to its end had errors with the
// entries that it names, and only one that came there.
func TestRestoreArchiveRefused(t *testing.T) {
	const refusal = "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 12; 1259 16390 INDEX i postgres\npg_restore: error: could not execute query: ERROR:  function f() does not exist\nCommand was: CREATE INDEX\n\n"
	for name, tt := range map[string]struct {
		stderr string
		want   string // the entries; empty means that the run failed
	}{
		"one":    {refusal + "pg_restore: warning: errors ignored on restore: 1", "12"},
		"same":   {refusal + refusal + "pg_restore: warning: errors ignored on restore: 2", "12"},
		"two":    {refusal + strings.ReplaceAll(refusal, "12;", "7;") + "pg_restore: warning: errors ignored on restore: 2", "12 7"},
		"mixed":  {"pg_restore: pg_restore: from TOC entry 3; 1 2 INDEX a b\nfrom TOC entry 4; 1 2 INDEX c d\npg_restore: warning: errors ignored on restore: 2", "3 4"},
		"long":   {"pg_restore: from TOC entry 5; 1 2 INDEX " + strings.Repeat("x", 5000) + " b\npg_restore: warning: errors ignored on restore: 1", "5"},
		"text":   {"pg_restore: error: could not execute query: ERROR:  x\nCommand was: " + strings.Repeat("x", 5000) + " from TOC entry 6; 1 2 \n" + refusal + "pg_restore: warning: errors ignored on restore: 1", "12"},
		"died":   {refusal + "pg_restore: error: could not read from input file: end of file", ""},
		"killed": {refusal + "pg_restore: warning: errors ignored on restore: 1\npg_restore: error: a worker process died unexpectedly", ""},
		"outset": {"pg_restore: while INITIALIZING:\npg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter\n" + refusal + "pg_restore: warning: errors ignored on restore: 2", ""},
		"no one": {"pg_restore: error: could not execute query: ERROR:  x\npg_restore: warning: errors ignored on restore: 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			script := "cat >&2 <<'END'\npg_restore: creating INDEX \"from TOC entry x\"\n" + tt.stderr + "\nEND\nexit 1"
			refused, err := pgtool.RestoreArchive(t.Context(), pgtool.RestoreArchiveOptions{Tool: fake(t, "pg_restore", script), Target: postgres.Target{}, Section: "post-data", File: "x"})
			if got := strings.Join(slices.Sorted(maps.Keys(refused)), " "); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "creating") {
				t.Errorf("it says how it got on: %v", err)
			}
		})
	}
}
