package pgtool_test

import (
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/pgtool"
)

// TestAtLeast: a pg_dump from before a release counts as of its version, so that no older
// pg_restore is given what it can't read.
func TestAtLeast(t *testing.T) {
	for version, want := range map[string]int{"18.4": 18, "15": 15, "19rc1": 19, "19beta2": 19, "20devel": 20, "": 0, "unknown": 0} {
		b := &pgmedic.Backup{Programs: pgmedic.Programs{PgDump: version}}
		if got := pgtool.AtLeast(b); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
