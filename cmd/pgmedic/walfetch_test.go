package main

import (
	"strings"
	"testing"
)

// TestRestoreCode: what is meant as restore_command fails with 255 before its command is
// known, because PostgreSQL takes the usual codes for the end of the WAL.
func TestRestoreCode(t *testing.T) {
	for args, want := range map[string]int{
		"wal fetch": 255, "wal fetc a b": 255, "--bogus wal fetch a b": 255, "wal --bogus fetch": 255, "wal Fetch": 255,
		"fetch 00000001000000000000000A pg_wal/RECOVERYXLOG": 255, "wla fetch 00000002.history x": 255, "00000002.history": 255,
		"wal status": 2, "wal stream --bogus": 2, "fetch --bogus": 2, "fetch wal": 2, "show 20261128T120000Z-0a1b2c": 2, "": 2,
	} {
		if got := restoreCode(strings.Fields(args), 2); got != want {
			t.Errorf("pgmedic %s: %d, want %d", args, got, want)
		}
	}
}
