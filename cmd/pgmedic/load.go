package main

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render"
)

// loadWords say what a backup asked of the server, or nothing where it was not
// measured.
func loadWords(l *pgmedic.Load) string {
	if l == nil {
		return ""
	}
	words := fmt.Sprintf("%d connections, snapshot held for %s, %s read, %s of WAL written meanwhile",
		l.Connections, secondsWords(l.SnapshotSeconds), render.Bytes(l.ReadBytes), render.Bytes(l.WALBytes))
	if l.BlockedSessions > 0 {
		sessions := "sessions"
		if l.BlockedSessions == 1 {
			sessions = "session"
		}
		words += fmt.Sprintf("; %d %s waited for it, up to %s", l.BlockedSessions, sessions,
			render.Duration(time.Duration(l.LongestWaitSeconds*float64(time.Second)).Round(time.Second)))
	}
	return words
}
