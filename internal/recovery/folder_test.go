package recovery_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// TestFolderCommand runs the command as PostgreSQL does: only what is proven not to exist
// is 1, and nothing that goes wrong is below 126.
func TestFolderCommand(t *testing.T) {
	dir := t.TempDir()
	data, from := filepath.Join(dir, "data"), filepath.Join(dir, "wal")
	write := func(name, text string) {
		t.Helper()
		err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const there, unreadable, absent = "000000010000000000000002", "000000010000000000000003", "000000010000000000000004"
	write("data/pg_wal/x", "")
	write("wal/"+there, "segment")
	write("wal/absent", absent+"\n")
	write("wal/00000002.history", "history")
	run := func(name, to string) (code int, said string) {
		t.Helper()
		text := strings.NewReplacer("%f", name, "%p", to).Replace(recovery.FolderCommand("../wal"))
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", text)
		cmd.Dir = data
		out, _ := cmd.CombinedOutput() // the exit code is what matters
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for name, want := range map[string]int{
		there: 0, "00000002.history": 0, "00000003.history": 1, absent: 1,
		unreadable: 255, "000000010000000000000005": 255, "00000001000000000000000": 255, ".": 255,
	} {
		code, said := run(name, "pg_wal/RECOVERYXLOG")
		if code != want || (code == 255) != strings.Contains(said, "error: ") {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, want, said)
		}
	}
	if got, err := os.ReadFile(filepath.Join(data, "pg_wal", "RECOVERYXLOG")); err != nil || string(got) != "history" && string(got) != "segment" {
		t.Errorf("copied: %q, %v", got, err)
	}
	if code, said := run(there, "missing/RECOVERYXLOG"); code != 255 {
		t.Errorf("without room: exit code %d: %s", code, said)
	}
	if err := os.Remove(filepath.Join(from, "absent")); err != nil {
		t.Fatal(err)
	}
	if code, said := run(absent, "pg_wal/RECOVERYXLOG"); code != 255 {
		t.Errorf("without the list of what does not exist: exit code %d: %s", code, said)
	}
}

// TestFolderServesThePlan: along random histories the folder has, and lists as absent, what
// the plan answers for each name from one segment before the recovery to two behind it.
func TestFolderServesThePlan(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		p := history(random)
		needed, absent := p.Segments()
		if got := p.SegmentBytesToFetch(); got != int64(len(needed))*int64(size) {
			t.Fatalf("%d bytes to fetch in %d segments", got, len(needed))
		}
		first, last := size.Start(p.WAL.Base.Start)-wal.LSN(size), size.Start(p.Through-1)+2*wal.LSN(size)
		for start := first; start <= last; start += wal.LSN(size) {
			for tli := wal.Timeline(1); tli <= p.WAL.Timeline+1; tli++ {
				name := size.Name(wal.Segment{Timeline: tli, Start: start})
				answer, err := p.Answer(name)
				if start >= first+wal.LSN(size) && (needed[name] != (err == nil && answer == recovery.Needed) || absent[name] != (err == nil && answer == recovery.Absent)) {
					t.Fatalf("%+v: %s is needed %t, absent %t; the plan says %d, %v", p, name, needed[name], absent[name], answer, err)
				}
				if start == first && (needed[name] || absent[name]) {
					t.Fatalf("%s is before the recovery", name)
				}
			}
		}
		if end := size.Name(wal.Segment{Timeline: p.WAL.Timeline, Start: size.Start(p.Through-1) + wal.LSN(size)}); !absent[end] {
			t.Fatalf("%+v: the end, %s, is not known", p, end)
		}
	}
}

// TestSegmentBytesToFetch: whole segments, from the base backup's start to the end.
func TestSegmentBytesToFetch(t *testing.T) {
	start := wal.LSN(size)*2 + 0x28
	for end, want := range map[wal.LSN]int64{
		start + 0x100: 1, wal.LSN(size) * 3: 1, wal.LSN(size)*3 + 8: 2, wal.LSN(size)*4 + 0x100: 3,
	} {
		if got := samplePlan(start, end).SegmentBytesToFetch(); got != want*int64(size) {
			t.Errorf("up to %v: %d bytes, want %d segments", end, got, want)
		}
	}
}

// TestInPlace: no path of a plan, known or not, is used.
func TestInPlace(t *testing.T) {
	p := samplePlan(wal.LSN(size)*2+0x28, wal.LSN(size)*4)
	p.Tablespaces = []recovery.Tablespace{{OID: 1, From: "/srv/a", To: "/srv/a"}}
	p.InPlace()
	for _, path := range []string{"/srv/a", "/srv/unknown"} {
		if to, err := p.Place(path); to != "" || err != nil {
			t.Errorf("%s goes to %q, %v", path, to, err)
		}
	}
}
