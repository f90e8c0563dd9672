package main

import (
	"fmt"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// loadWords say what a backup asked of the server, or nothing where it was not
// measured.
func loadWords(l *pgmedic.Load) string {
	if l == nil {
		return ""
	}
	phrase := fmt.Sprintf("%s, snapshot held for %s, %s read, %s of WAL written meanwhile",
		words.Plural(l.Connections, "connection"), secondsWords(l.SnapshotSeconds), words.Bytes(l.ReadBytes), words.Bytes(l.WALBytes))
	if l.BlockedSessions > 0 {
		sessions := "sessions"
		if l.BlockedSessions == 1 {
			sessions = "session"
		}
		phrase += fmt.Sprintf("; %d %s waited for it, up to %s", l.BlockedSessions, sessions,
			words.Duration(time.Duration(l.LongestWaitSeconds*float64(time.Second)).Round(time.Second)))
	}
	return phrase
}
