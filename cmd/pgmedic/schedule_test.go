package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// TestMachineZone reads the link that says what a machine's clock goes by.
func TestMachineZone(t *testing.T) {
	// A zone of three hours, in the oldest form of RFC 9636: a header with six counts, one
	// type, and its name.
	own := append([]byte("TZif"), make([]byte, 16)...)
	for _, n := range []uint32{0, 0, 0, 0, 1, 4} {
		own = binary.BigEndian.AppendUint32(own, n)
	}
	own = append(binary.BigEndian.AppendUint32(own, 3*3600), 0, 0, 'O', 'W', 'N', 0)
	for name, tt := range map[string]struct {
		target string
		data   []byte
		zone   string
		offset int
	}{
		"by name":   {"share/zoneinfo/Europe/Berlin", own, "Europe/Berlin", 3600},
		"utc":       {"share/zoneinfo/Etc/UTC", own, "UTC", 0},
		"no name":   {"own", own, "Local", 3 * 3600},
		"none such": {"share/zoneinfo/Own/Zone", own, "Local", 3 * 3600},
		"none":      {"", nil, "UTC", 0},
	} {
		dir := t.TempDir()
		link := filepath.Join(dir, "localtime")
		if tt.target != "" {
			target := filepath.Join(dir, filepath.FromSlash(tt.target))
			if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(target, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
		}
		zone, err := machineZone(link)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, offset := time.Date(2026, 1, 1, 0, 0, 0, 0, zone).Zone(); zone.String() != tt.zone || offset != tt.offset {
			t.Errorf("%s: %s, %d s ahead", name, zone, offset)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("not a zone"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := machineZone(bad); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "--zone") {
		t.Errorf("%v, hint %q", err, pgmedic.HintOf(err))
	}
}

// TestUnitsAreWrittenWhole has a folder with what a killed run left, and a place that is
// taken: there is the whole new unit or the old one, and nothing else.
func TestUnitsAreWrittenWhole(t *testing.T) {
	dir := unitFolder{path: t.TempDir()}
	left := func() (names []string) {
		entries, err := os.ReadDir(dir.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	const name = "pgmedic-nightly.timer"
	if err := os.WriteFile(dir.file(".new-"+name), []byte("half of a longer text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"old\n", "new\n"} {
		if err := dir.write(schedule.File{Name: name, Text: text}); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dir.file(name)); err != nil || string(got) != text || len(left()) != 1 {
			t.Errorf("%q, %v; the folder has %v", got, err, left())
		}
	}
	if err := os.MkdirAll(filepath.Join(dir.file("pgmedic-taken.timer"), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := dir.write(schedule.File{Name: "pgmedic-taken.timer", Text: "x"}); pgmedic.KindOf(err) != pgmedic.KindUnreachable || len(left()) != 2 {
		t.Errorf("%v; the folder has %v", err, left())
	}
}
