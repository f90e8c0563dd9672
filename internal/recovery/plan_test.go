package recovery_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const size = wal.MinSegmentSize

// samplePlan is a recovery along timeline 1.
func samplePlan(start, end wal.LSN) *recovery.Plan {
	return &recovery.Plan{
		Format: recovery.PlanFormat, Backup: "20261129T020000Z-7f3a9c", Server: "clinic", SystemIdentifier: "4711", Major: 15, SegmentBytes: int64(size),
		MadeAt: time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC), Target: "the end", Through: end,
		WAL: wal.Plan{Base: wal.Base{Timeline: 1, Start: start, Stop: start + 0x100}, Timeline: 1, Stop: wal.StopAtEnd, End: end},
	}
}

// history is a random past, and the plan of a recovery to its end.
func history(random *rand.Rand) *recovery.Plan {
	p := samplePlan(wal.LSN(size)*2+0x28, 0)
	at := p.WAL.Base.Stop
	for t := wal.Timeline(1); t <= wal.Timeline(random.IntN(4)); t++ {
		if at += wal.LSN(random.IntN(3 * int(size))); random.IntN(3) == 0 {
			at = size.Start(at) + wal.LSN(size) // just at a border
		}
		p.Switches = append(p.Switches, wal.Switch{Timeline: t, End: at.Align()})
		p.WAL.Timeline = t + 1
	}
	p.WAL.End = (at + 0x40 + wal.LSN(random.IntN(3*int(size)))).Align()
	p.Through = p.WAL.End
	for start := size.Start(p.WAL.Base.Start); start < p.WAL.End; start += wal.LSN(size) {
		t := p.WAL.Timeline
		for i := len(p.Switches) - 1; i >= 0 && size.Start(p.Switches[i].End) > start; i-- {
			t = p.Switches[i].Timeline
		}
		p.WAL.Ranges = append(p.WAL.Ranges, wal.Span{Timeline: t, From: start, To: min(start+wal.LSN(size), p.WAL.End)})
	}
	return p
}

// TestAnswerAsPostgreSQLAsks asks as PostgreSQL does, for each segment the newest timeline
// first: 12 for all of the history, the others for those that have begun. It must get the
// segment of the plan, and the end exactly where that is.
func TestAnswerAsPostgreSQLAsks(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		p := history(random)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		h := p.History()
		last := size.Start(p.Through-1) + wal.LSN(size)
		for _, before := range []bool{true, false} { // also before a timeline begins
			for start := size.Start(p.WAL.Base.Start); start <= last; start += wal.LSN(size) {
				served := wal.Timeline(0)
				for tli := p.WAL.Timeline; tli >= 1 && served == 0; tli-- {
					begin, _ := h.Begin(tli)
					if !before && size.Start(begin) > start {
						continue
					}
					answer, err := p.Answer(size.Name(wal.Segment{Timeline: tli, Start: start}))
					switch {
					case err != nil:
						t.Fatalf("%+v: timeline %d at %v: %v", p, tli, start, err)
					case answer == recovery.Needed:
						served = tli
					case answer != recovery.Absent:
						t.Fatalf("timeline %d at %v: answer %d", tli, start, answer)
					}
				}
				want := wal.Timeline(0)
				for _, r := range p.WAL.Ranges {
					if r.From <= start && start < r.To {
						want = r.Timeline
					}
				}
				if served != want {
					t.Fatalf("%+v: at %v it serves timeline %d, want %d", p, start, served, want)
				}
			}
		}
		for name, want := range map[string]recovery.Answer{"00000001.history": recovery.Unknown, wal.HistoryName(p.WAL.Timeline + 1): recovery.Unknown} {
			if got, err := p.Answer(name); err != nil || got != want {
				t.Errorf("%s: %d, %v", name, got, err)
			}
		}
		if p.WAL.Timeline > 1 {
			if got, err := p.Answer(wal.HistoryName(p.WAL.Timeline)); err != nil || got != recovery.Needed {
				t.Errorf("the history of timeline %d: %d, %v", p.WAL.Timeline, got, err)
			}
		}
	}
}

// TestAnswerRefuses: what is not part of the recovery is neither there nor the end of it.
func TestAnswerRefuses(t *testing.T) {
	p := samplePlan(wal.LSN(size)*2+0x28, wal.LSN(size)*5+0x100)
	p.WAL.Timeline, p.Switches = 2, []wal.Switch{{Timeline: 1, End: wal.LSN(size)*4 + 0x500}}
	for what, segment := range map[string]wal.Segment{
		"beyond the end":              {Timeline: 2, Start: wal.LSN(size) * 7},
		"far beyond the end":          {Timeline: 2, Start: wal.LSN(size) * 700},
		"another timeline":            {Timeline: 3, Start: wal.LSN(size) * 5},
		"a timeline that was left":    {Timeline: 1, Start: wal.LSN(size) * 5},
		"another timeline at the end": {Timeline: 7, Start: wal.LSN(size) * 6},
	} {
		if answer, err := p.Answer(size.Name(segment)); err == nil {
			t.Errorf("%s: answer %d", what, answer)
		}
	}
	for _, name := range []string{"", "x", "00000002000000000000000G", "../../etc/passwd", "000000020000000000000005.partial"} {
		if answer, err := p.Answer(name); err == nil {
			t.Errorf("%q: answer %d", name, answer)
		}
	}
}

func TestNext(t *testing.T) {
	p := samplePlan(wal.LSN(size)*2+0x28, wal.LSN(size)*5+0x100)
	p.Through = wal.LSN(size) * 9
	name := func(n int) string { return size.Name(wal.Segment{Timeline: 1, Start: wal.LSN(size) * wal.LSN(n)}) }
	for after, want := range map[string][]string{
		name(2): {name(3), name(4), name(5)}, name(4): {name(5)}, name(5): nil, name(6): nil, "00000002.history": nil,
	} {
		if got := p.Next(after, 8); !slices.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", after, got, want)
		}
	}
	if got := p.Next(name(2), 2); len(got) != 2 {
		t.Errorf("two: %v", got)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	good, err := samplePlan(wal.LSN(size)*2+0x28, wal.LSN(size)*5+0x100).Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, recovery.FileName)
	if _, err := recovery.Read(file); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("without a plan: %v", err)
	}
	for what, text := range map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "no JSON": "plan", "an array": "[]", "null": "null",
		"a newer format": strings.Replace(string(good), `"format": 1`, `"format": 2`, 1),
		"no end":         strings.Replace(string(good), `"through": "0/500100"`, `"through": "0/0"`, 1),
		"no server":      strings.Replace(string(good), `"clinic"`, `""`, 1),
		"another size":   strings.Replace(string(good), `"segment_bytes": 1048576`, `"segment_bytes": 1000`, 1),
		"a negative one": strings.Replace(string(good), `"segment_bytes": 1048576`, `"segment_bytes": -1`, 1),
		"a way to stop":  strings.Replace(string(good), `"stop": "end"`, `"stop": "soon"`, 1),
		"a position":     strings.Replace(string(good), `"stop": "end"`, `"stop": "lsn"`, 1),
		"a relative one": strings.Replace(string(good), `"tablespaces": null`, `"tablespaces": [{"oid":1,"from":"/a","to":"b"}]`, 1),
		"too long":       strings.Repeat(" ", 1<<20) + string(good),
	} {
		if text == string(good) {
			t.Fatalf("%s: nothing was replaced in %s", what, good)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := recovery.Read(file); err == nil {
			t.Errorf("%s: %+v", what, p)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := recovery.Read(file); err != nil || p.Through != wal.LSN(size)*5+0x100 {
		t.Errorf("the plan: %+v, %v", p, err)
	}
}

func TestRelocate(t *testing.T) {
	base := []pgmedic.Tablespace{{OID: 16395, Location: "/srv/a"}, {OID: 16396, Location: "/srv/b/"}}
	created := []wal.Note{{OID: 16400, Name: "/srv/c"}, {OID: 16401, Name: "/srv/a"}, {OID: 16402}}
	got, err := recovery.Relocate(base, created, []string{"/srv/a=/x", "/srv/b=/longer/than/b", "/srv/c/=/y"})
	want := []recovery.Tablespace{{16395, "/srv/a", "/x"}, {16396, "/srv/b", "/longer/than/b"}, {16400, "/srv/c", "/y"}, {16401, "/srv/a", "/x"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for move, what := range map[string]string{
		"/srv/z=/x": "no tablespace at", "/srv/a": "two absolute paths", "a=/x": "two absolute paths", "/srv/a=x": "two absolute paths", "/srv/a=/": "two absolute paths",
		"/srv/c=/longer": "record has room",
	} {
		if got, err := recovery.Relocate(base, created, []string{move}); err == nil || pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v, %v", move, got, err)
		}
	}
	var long *wal.LongPathError
	if _, err := recovery.Relocate(base, created, []string{"/srv/c=/longer"}); !errors.As(err, &long) || pgmedic.HintOf(err) == "" {
		t.Errorf("a longer path: %v", err)
	}
	if _, err := recovery.Relocate(base, created, []string{"/srv/a=/x", "/srv/a=/y"}); err == nil {
		t.Error("a tablespace goes to two places")
	}
}
