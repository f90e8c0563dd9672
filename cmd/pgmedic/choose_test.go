package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

var update = flag.Bool("update", false, "write the golden files")

// sampleBackups are backups of two databases, one of which has a long name.
func sampleBackups(now time.Time) (all []catalog.Entry) {
	for i := range 9 {
		at := now.Add(-time.Duration(i*i+1) * 5 * time.Hour)
		b := &pgmedic.Backup{
			ID: at.Format("20060102T150405Z") + fmt.Sprintf("-%06x", 0x7f3a9c+i), Purpose: pgmedic.PurposeRegular, Method: pgmedic.MethodParallel,
			StartedAt: at, SnapshotAt: at, FinishedAt: at.Add(time.Minute),
			Server: pgmedic.Server{Name: "main", Version: "15.14"}, Database: pgmedic.Database{Name: "clinic", SizeBytes: int64(i+1) << 30},
			Seal:    pgmedic.Seal{Compression: "zstd", Encryption: "age"},
			Objects: []pgmedic.Object{{Name: "pack-0001", StoredBytes: int64(i+3) << 27}},
		}
		switch i {
		case 0:
			b.Purpose = pgmedic.PurposeSafety
		case 2:
			b.Database.Name = "billing_of_the_whole_hospital_and_its_outpatient_departments"
		case 3:
			b.Labels = map[string]string{"release": "seven", "ticket": "4711"}
		}
		e := catalog.Entry{Backup: b, Keys: 1, Rows: int64(i) * 100_000, Tables: 12}
		if i%3 == 1 {
			e.Receipts = []pgmedic.Receipt{{
				Kind: pgmedic.ReceiptDrill, BackupID: b.ID, At: at.Add(time.Hour), Outcome: pgmedic.OutcomeOK,
				Proof: pgmedic.ProofProven, RecoverySeconds: 95,
			}}
		}
		all = append(all, e)
	}
	return all
}

// TestChooserScreens compares what the chooser draws with testdata/chooser, at terminals
// of three sizes.
func TestChooserScreens(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, size := range []terminal.Size{{Width: 60, Height: 15}, {Width: 80, Height: 24}, {Width: 120, Height: 30}} {
		m := newChooser(sampleBackups(now), now, terminal.Painter{})
		m.askWhat = true
		press := func(stroke, text string) { m.Press(terminal.Key{Stroke: stroke, Text: text}, size) }
		var b strings.Builder
		shot := func(what string) {
			lines := terminal.Draw(m, size)
			for i, line := range lines {
				if lipgloss.Width(line) > size.Width || i >= size.Height {
					t.Errorf("%d×%d, %s: line %d does not fit: %q", size.Width, size.Height, what, i+1, line)
				}
			}
			fmt.Fprintf(&b, "== %s\n", what)
			for _, line := range lines {
				b.WriteString(strings.TrimRight(line, " ") + "\n")
			}
		}
		shot("the newest that is no safety backup is marked")
		for range 4 {
			press("down", "")
		}
		shot("four further down")
		for _, r := range "SEVEN rel" {
			press(string(r), string(r))
		}
		shot("two words of a label")
		press("x", "x")
		shot("no such backup")
		press("backspace", "")
		press("enter", "")
		shot("what to do with it")
		press("enter", "")
		shot("the new database's name")
		testkit.Golden(t, filepath.Join("testdata", "chooser", fmt.Sprintf("%dx%d.txt", size.Width, size.Height)), b.String(), *update)
	}
}

// TestChooserMark: a key that types nothing leaves the marked backup marked, and the choice
// is the marked one.
func TestChooserMark(t *testing.T) {
	all, size := sampleBackups(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)), terminal.Size{Width: 80, Height: 24}
	m := newChooser(all, time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), terminal.Painter{})
	for _, stroke := range []string{"down", "down", "left", "f1", "ctrl+u", "backspace", ""} {
		if ending := m.Press(terminal.Key{Stroke: stroke}, size); ending != terminal.Open {
			t.Fatalf("%s ends it: %d", stroke, ending)
		}
	}
	// The newest that is no safety backup is the second one.
	if ending := m.Press(terminal.Key{Stroke: "enter"}, size); ending != terminal.Chosen || m.choice.entry.Backup.ID != all[3].Backup.ID {
		t.Errorf("ending %d: %+v was chosen, want %s", ending, m.choice.entry.Backup, all[3].Backup.ID)
	}
}

// TestCaseChooser: on a small terminal each case can be marked, and the marked one is shown.
func TestCaseChooser(t *testing.T) {
	m, size := &caseChooser{cases: emergency.Cases()}, terminal.Size{Width: 60, Height: 8}
	for i, c := range m.cases {
		lines := terminal.Draw(m, size)
		if len(lines) > size.Height || !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "› "+c.ID) }) || m.list.Marked != i {
			t.Fatalf("case %d, %s:\n%s", i, c.ID, strings.Join(lines, "\n"))
		}
		m.Press(terminal.Key{Stroke: "down"}, size)
	}
	if m.list.Marked != len(m.cases)-1 {
		t.Errorf("%d is marked below the last one", m.list.Marked)
	}
	if got := m.Press(terminal.Key{Text: "q"}, size); got != terminal.Open {
		t.Errorf("a pasted q: ending %d", got)
	}
	for stroke, want := range map[string]terminal.Ending{"q": terminal.Left, "esc": terminal.Left, "enter": terminal.Chosen, "x": terminal.Open} {
		if got := m.Press(terminal.Key{Stroke: stroke, Text: stroke}, size); got != want {
			t.Errorf("%s: ending %d, want %d", stroke, got, want)
		}
	}
}
