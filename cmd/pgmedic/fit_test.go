package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/words"
)

// TestScreensFit: at no width of a terminal is a line that a command prints wider than
// it, unless it is one word, such as a path, or SQL to paste.
func TestScreensFit(t *testing.T) {
	const text = "診療 of_the_north, which is busy"
	question := regexp.MustCompile(`to\s+go\s+on: `)
	for name, show := range screens(t, text) {
		if name == "log" || name == "progress" { // one line that is written over; records
			continue
		}
		t.Run(name, func(t *testing.T) {
			for _, width := range []int{60, 73, 80, 100, 120, 160, 200} {
				j, out := printer(t, true)
				j.stdoutWidth = func() int { return width }
				j.stderrWidth = j.stdoutWidth
				show(j)
				// What comes after the answer to a question is on the next line.
				shown := question.ReplaceAllString(out.String(), "$0\n")
				for line := range strings.SplitSeq(shown, "\n") {
					if n := lipgloss.Width(line); n > width && !strings.HasPrefix(uncoloured(line), "-- ") && strings.Contains(strings.TrimSpace(line), " ") {
						t.Errorf("%d of %d columns: %s", n, width, line)
					}
				}
			}
		})
	}
}

// TestListAtEveryWidth: whatever the width, each backup's id, age, size, proof and what is
// unusual about it are whole, the proof is in words and in colour, and only the name of a
// database is shortened, with a mark.
func TestListAtEveryWidth(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	entries := sampleBackups(now)
	entries[3].Holds = []catalog.Hold{{Name: "audit", By: "ana", At: now, Reason: "a reason"}}
	entries[4].Keys = 0
	entries[4].Receipts[0].Outcome, entries[4].Receipts[0].Proof = pgmedic.OutcomeFailed, pgmedic.ProofFailed
	for width := 60; width <= 200; width++ {
		j, out := printer(t, true)
		j.stdoutWidth, j.now = func() int { return width }, func() time.Time { return now }
		list := &listCommand{job: j, keys: keyring{j}}
		list.printf("%s", list.backupTable(entries, nil))
		for line := range strings.SplitSeq(out.String(), "\n") {
			if n := lipgloss.Width(line); n > width {
				t.Fatalf("%d of %d columns: %s", n, width, line)
			}
		}
		text := strings.Join(strings.Fields(uncoloured(out.String())), " ")
		for i, e := range entries {
			row := rowOf(e)
			_, rest, _ := strings.Cut(text, e.Backup.ID)
			if i+1 < len(entries) {
				rest, _, _ = strings.Cut(rest, entries[i+1].Backup.ID)
			}
			wanted := []string{words.Ago(now, row.SnapshotAt), words.Bytes(row.StoredBytes), row.Proof.words(now)}
			if row.Purpose == pgmedic.PurposeSafety {
				wanted = append(wanted, "safety")
			}
			if len(e.Holds) > 0 {
				wanted = append(wanted, "held")
			}
			for _, want := range wanted {
				if !strings.Contains(rest, want) {
					t.Errorf("width %d: %q is not in what is said of backup %d:\n%s", width, want, i, out)
				}
			}
			if !strings.Contains(rest, e.Backup.Database.Name) && !strings.Contains(rest, "…") {
				t.Errorf("width %d: the database of backup %d is cut without a mark:\n%s", width, i, out)
			}
		}
		for _, coloured := range []string{"\x1b[1;32mproven", "\x1b[1;31mfailed"} {
			if !strings.Contains(out.String(), coloured) {
				t.Errorf("width %d: no %q in\n%q", width, coloured, out)
			}
		}
	}
}

// uncoloured is a text without its colours.
func uncoloured(s string) string { return regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(s, "") }
