package main

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestWALStatusOfNone: where nothing is stored no position is shown up to which it is.
func TestWALStatusOfNone(t *testing.T) {
	b := newWALBench(t)
	for state, shown := range map[wal.State]bool{wal.StateNone: false, wal.StateUnknown: true} {
		j, out := b.configured("")
		cmd := &walStatusCommand{job: j, servers: servers{j}, stores: stores{j}, keys: keyring{j}}
		s := walStatus{Server: "clinic", Condition: wal.Condition{State: state, Why: "why"}}
		if shown {
			s.Until.LSN = walBytes
		}
		cmd.print(s)
		if got := out.String(); strings.Contains(got, "stored until") != shown || strings.Contains(got, "0/0") || !strings.Contains(got, "server seen") {
			t.Errorf("%s: %s", state, got)
		}
	}
}
