package walspool_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	size  = wal.MinSegmentSize
	start = 7 * wal.LSN(size)
)

var cluster = walspool.Cluster{Server: "clinic", SystemIdentifier: 42, SegmentBytes: int64(size), ServerVersion: "15.18"}

func open(t *testing.T, dir string, most int64) (*walspool.Folder, *walspool.Spool) {
	t.Helper()
	f, err := walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: most})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	s, err := f.Open(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return f, s
}

const room = 64 << 20

// wal1 is WAL of timeline 1 from start on: random, and the same each time.
func wal1(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func add(t *testing.T, s *walspool.Spool, tli wal.Timeline, from wal.LSN, data []byte) {
	t.Helper()
	if err := s.Append(tli, from, data); err != nil {
		t.Fatal(err)
	}
	end, err := s.Flush(tli)
	if err != nil || end != from+wal.LSN(len(data)) {
		t.Fatalf("flushed up to %v, %v", end, err)
	}
}

func read(t *testing.T, s *walspool.Spool, tli wal.Timeline, from, to wal.LSN) []byte {
	t.Helper()
	var got []byte
	at := from
	err := s.Read(wal.Span{Timeline: tli, From: from, To: to}, func(f wal.LSN, data []byte) error {
		if f != at {
			t.Errorf("read from %v, and %v was to come", f, at)
		}
		at += wal.LSN(len(data))
		got = append(got, data...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "42", "*.wal*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		names = append(names, filepath.Base(f))
	}
	return names
}

// TestSpool: what was flushed is there again, whatever pieces it came in; what is stored is
// removed, a segment at a time; the folders are their owner's alone.
func TestSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "spool")
	f, s := open(t, dir, room)
	if err := s.Append(1, start, []byte("x")); err == nil {
		t.Error("WAL was added to a timeline that has not begun")
	}
	if err := s.Begin(1, start+1); err == nil {
		t.Error("a timeline began within a segment")
	}
	if err := s.Begin(1, start); err != nil {
		t.Fatal(err)
	}
	data := wal1(2*int(size) + 5000)
	at := 0
	for n := 1; at < len(data); n = n*3 + 1 {
		n = min(n, len(data)-at)
		add(t, s, 1, start+wal.LSN(at), data[at:at+n])
		at += n
	}
	for _, path := range []string{dir, filepath.Join(dir, "42")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for _, name := range files(t, dir) {
		if info, err := os.Stat(filepath.Join(dir, "42", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	end := start + wal.LSN(len(data))
	for _, span := range [][2]wal.LSN{{start, end}, {start + 1, end - 1}, {start + wal.LSN(size), end}, {start + wal.LSN(size) - 1, start + wal.LSN(size) + 1}, {end, end}} {
		if got := read(t, s, 1, span[0], span[1]); !bytes.Equal(got, data[span[0]-start:span[1]-start]) {
			t.Errorf("read %v: not what was written", span)
		}
	}
	for what, err := range map[string]error{
		"a gap":   s.Append(1, end+1, []byte("x")),
		"again":   s.Append(1, end-1, []byte("x")),
		"another": s.Begin(1, start), // it has WAL that is not stored
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	f.Close()
	_, s = open(t, dir, room)
	if g, ok := s.Range(1); !ok || g.From != start || g.To != end || !g.Pending() || !s.Pending() {
		t.Errorf("after it was opened again: %+v", g)
	}
	s.Stored(1, start+1, end) // it says nothing of the first byte
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d files", n)
	}
	s.Stored(1, 0, start+wal.LSN(size)-1)
	s.Stored(1, start, start+wal.LSN(size)) // they overlap
	if g, _ := s.Range(1); len(files(t, dir)) != 2 || g.From != start+wal.LSN(size) || g.Stored != g.From {
		t.Errorf("after a segment was stored: %+v, %q", g, files(t, dir))
	}
	s.Drop(1)
	s.Stored(1, 0, end+1000)
	if g, _ := s.Range(1); len(files(t, dir)) != 1 || g.Pending() || g.Stored != end {
		t.Errorf("after all was stored: %+v, %q", g, files(t, dir))
	}
	// What is added then is pending again.
	add(t, s, 1, end, []byte("more"))
	if !s.Pending() {
		t.Error("what was added is not pending")
	}
	s.Stored(1, start, end+4)
	s.Drop(1)
	if _, ok := s.Range(1); ok || len(files(t, dir)) != 0 {
		t.Errorf("dropped: %q", files(t, dir))
	}
}

// TestTorn: wherever a crash cuts the last file, or whatever it leaves behind what was
// flushed, each byte that was flushed before is there, none is that was not written, and
// the spool goes on.
func TestTorn(t *testing.T) {
	data := wal1(3000)
	source := t.TempDir()
	f, s := open(t, source, room)
	if err := s.Begin(1, start); err != nil {
		t.Fatal(err)
	}
	type flushed struct {
		bytes int64
		end   int
	}
	name := filepath.Join(source, "42", size.Name(wal.Segment{Timeline: 1, Start: start})+".wal")
	var flushes []flushed
	for at := 0; at < len(data); at += 300 {
		add(t, s, 1, start+wal.LSN(at), data[at:at+300])
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		flushes = append(flushes, flushed{info.Size(), at + 300})
	}
	f.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for cut := 0; cut <= len(whole); cut += 1 + r.IntN(testkit.Amount(1500, 60, 10)) {
		for what, left := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 500), "other bytes": wal1(500), "what was written before": whole[:min(cut, 500)]} {
			dir := t.TempDir()
			f, s := open(t, dir, room)
			if err := s.Begin(1, start); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := os.WriteFile(filepath.Join(dir, "42", filepath.Base(name)), slices.Concat(whole[:cut], left), 0o600); err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, f := range flushes {
				if f.bytes <= int64(cut) {
					want = f.end
				}
			}
			f, s = open(t, dir, room)
			if err := s.Damaged(); err != nil {
				t.Fatalf("cut at %d, then %s: %v", cut, what, err)
			}
			g, ok := s.Range(1)
			if ok != (want > 0) || ok && (g.From != start || g.To != start+wal.LSN(want)) {
				t.Fatalf("cut at %d, then %s: %+v, want %d bytes", cut, what, g, want)
			}
			if !ok {
				if err := s.Begin(1, start); err != nil {
					t.Fatal(err)
				}
			}
			add(t, s, 1, start+wal.LSN(want), data[want:])
			f.Close()
			_, s = open(t, dir, room)
			if got := read(t, s, 1, start, start+wal.LSN(len(data))); !bytes.Equal(got, data) {
				t.Fatalf("cut at %d, then %s: it does not have what was written", cut, what)
			}
		}
	}
}

// TestDamaged: a file before the last one that can't be read was flushed once. That is
// reported for as long as the file is there, and what is before it can be read.
func TestDamaged(t *testing.T) {
	for what, harm := range map[string]func(path string) error{
		"a bit": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0o600)
		},
		"cut":     func(path string) error { return os.Truncate(path, 5000) },
		"removed": os.Remove,
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			f, s := open(t, dir, room)
			if err := s.Begin(1, start); err != nil {
				t.Fatal(err)
			}
			data := wal1(3*int(size) + 100)
			add(t, s, 1, start, data)
			second := filepath.Join(dir, "42", files(t, dir)[1])
			if what != "removed" { // the same is found while it is open
				if err := harm(second); err != nil {
					t.Fatal(err)
				}
				err := s.Read(wal.Span{Timeline: 1, From: start, To: start + 2*wal.LSN(size)}, func(wal.LSN, []byte) error { return nil })
				if !errors.Is(err, walspool.ErrDamaged) || pgmedic.KindOf(err) != pgmedic.KindIntegrity {
					t.Errorf("read: %v", err)
				}
			} else if err := harm(second); err != nil {
				t.Fatal(err)
			}
			f.Close()
			for range 2 {
				f, s = open(t, dir, room)
				err := s.Damaged()
				if !errors.Is(err, walspool.ErrDamaged) || pgmedic.KindOf(err) != pgmedic.KindIntegrity {
					t.Errorf("damaged: %v", err)
				}
				if g, ok := s.Range(1); !ok || g.To != start+wal.LSN(size) {
					t.Errorf("what is before it: %+v", g)
				}
				if got := read(t, s, 1, start, start+wal.LSN(size)); !bytes.Equal(got, data[:size]) {
					t.Error("what is before it is not what was written")
				}
				f.Close()
			}
			f, s = open(t, dir, room)
			add(t, s, 1, start+wal.LSN(size), data[size:]) // the server sends it again
			if err := s.SetAside(1); err != nil {
				t.Fatal(err)
			}
			f.Close()
			left := files(t, dir)
			if slices.ContainsFunc(left, func(name string) bool { return !strings.HasSuffix(name, ".damaged") }) {
				t.Errorf("set aside: %q", left)
			}
			for _, name := range left {
				if err := os.Remove(filepath.Join(dir, "42", name)); err != nil {
					t.Fatal(err)
				}
			}
			if _, s = open(t, dir, room); s.Damaged() != nil {
				t.Errorf("without the files: %v", s.Damaged())
			}
		})
	}
}

// TestDamagedEnd: what was flushed of the last file and can't be read is reported, and not cut off
// as if a crash had left it; what is before it goes on, and all of the file is kept.
func TestDamagedEnd(t *testing.T) {
	const piece = 300
	data := wal1(10 * piece)
	for what, harm := range map[string]int{"WAL": 100, "the head of a frame": -10, "its position": -20} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			f, s := open(t, dir, room)
			if err := s.Begin(1, start); err != nil {
				t.Fatal(err)
			}
			var third int64
			name := ""
			for at := 0; at < len(data); at += piece {
				if at == 3*piece {
					name = filepath.Join(dir, "42", files(t, dir)[0])
					info, err := os.Stat(name)
					if err != nil {
						t.Fatal(err)
					}
					third = info.Size() - piece
				}
				add(t, s, 1, start+wal.LSN(at), data[at:at+piece])
			}
			f.Close()
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[int(third)+harm] ^= 1
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				f, s = open(t, dir, room)
				if err := s.Damaged(); !errors.Is(err, walspool.ErrDamaged) || pgmedic.KindOf(err) != pgmedic.KindIntegrity {
					t.Fatalf("damaged: %v", err)
				}
				if g, ok := s.Range(1); !ok || g.From != start || g.To != start+2*piece {
					t.Fatalf("what is before it: %+v", g)
				}
				if got := read(t, s, 1, start, start+2*piece); !bytes.Equal(got, data[:2*piece]) {
					t.Error("what is before it is not what was written")
				}
				f.Close()
			}
			if kept, err := os.ReadFile(name + ".damaged"); err != nil || !bytes.Equal(kept, b) {
				t.Errorf("what was kept of the file: %d bytes, %v", len(kept), err)
			}
			_, s = open(t, dir, room)
			add(t, s, 1, start+2*piece, data[2*piece:]) // the server sends it again
			if got := read(t, s, 1, start, start+wal.LSN(len(data))); !bytes.Equal(got, data) {
				t.Error("what came again is not what was written")
			}
		})
	}
}

// TestDamagedAgain: of a segment that is damaged several times each damaged file is kept, be it
// used up to the damage or not at all, and none replaces that of an earlier damage.
func TestDamagedAgain(t *testing.T) {
	const (
		piece        = 300
		header, head = 36, 24 // of a file and of a frame
	)
	data := wal1(4 * piece)
	dir := t.TempDir()
	var kept [][]byte
	for round, frame := range []int{2, 0, 0, 2, 2, 0} {
		f, s := open(t, dir, room)
		from := start
		if r, ok := s.Range(1); ok {
			from = r.To
		} else if err := s.Begin(1, start); err != nil {
			t.Fatal(err)
		}
		for ; from < start+wal.LSN(len(data)); from += piece {
			add(t, s, 1, from, data[from-start:][:piece])
		}
		f.Close()
		name := filepath.Join(dir, "42", files(t, dir)[0])
		b, err := os.ReadFile(name)
		if err != nil || len(b) != header+4*(head+piece) {
			t.Fatalf("round %d: %d bytes, %v", round, len(b), err)
		}
		b[header+frame*(head+piece)+head] ^= byte(1 + round)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, b)
		f, s = open(t, dir, room)
		if err := s.Damaged(); !errors.Is(err, walspool.ErrDamaged) || !strings.Contains(err.Error(), words.Plural(len(kept), "file")) {
			t.Errorf("round %d: %v", round, err)
		}
		if r, ok := s.Range(1); ok != (frame > 0) || ok && r.To != start+wal.LSN(frame*piece) {
			t.Errorf("round %d: %+v", round, r)
		}
		f.Close()
		var found [][]byte
		for _, left := range files(t, dir) {
			if !strings.HasSuffix(left, ".damaged") {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, "42", left))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, b)
		}
		for i, b := range kept {
			if !slices.ContainsFunc(found, func(f []byte) bool { return bytes.Equal(f, b) }) {
				t.Errorf("round %d: the file of round %d is gone", round, i)
			}
		}
		if len(found) != len(kept) {
			t.Errorf("round %d: %d files are kept of %d", round, len(found), len(kept))
		}
	}
}

// TestUnknownCluster: WAL of which nothing says whose it is is not passed over.
func TestUnknownCluster(t *testing.T) {
	dir := t.TempDir()
	f, s := open(t, dir, room)
	if err := s.Begin(1, start); err != nil {
		t.Fatal(err)
	}
	add(t, s, 1, start, wal1(100))
	f.Close()
	if err := os.Remove(filepath.Join(dir, "42", "cluster.json")); err != nil {
		t.Fatal(err)
	}
	f, err := walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: room})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	if _, err := f.Existing("clinic"); !errors.Is(err, walspool.ErrDamaged) {
		t.Errorf("existing: %v", err)
	}
	if _, err := f.Open(cluster); !errors.Is(err, walspool.ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
}

// TestFull: WAL that does not fit is refused whole, what was flushed stays, and there is
// room again once something is stored.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if f, err := walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: int64(size)}); err != nil {
		t.Fatal(err)
	} else if _, err := f.Open(cluster); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("room for one segment: %v", err)
	}
	f, s := open(t, dir, walspool.MinSegments*int64(size))
	if err := errors.Join(s.Begin(1, start), s.Room()); err != nil {
		t.Fatal(err)
	}
	data := wal1(5 * int(size))
	at := 0
	var full error
	for full == nil {
		if full = s.Append(1, start+wal.LSN(at), data[at:at+100000]); full == nil {
			if _, full = s.Flush(1); full == nil {
				at += 100000
			}
		}
	}
	if !errors.Is(full, walspool.ErrFull) || pgmedic.HintOf(full) == "" {
		t.Errorf("full: %v", full)
	}
	if err := s.Room(); !errors.Is(err, walspool.ErrFull) {
		t.Errorf("room in a full spool: %v", err)
	}
	g, _ := s.Range(1)
	if g.To < start+wal.LSN(at) || !bytes.Equal(read(t, s, 1, start, g.To), data[:g.To-start]) {
		t.Errorf("after it was full: %+v, and %d were flushed", g, at)
	}
	s.Stored(1, start, start+2*wal.LSN(size))
	if err := s.Room(); err != nil {
		t.Error(err)
	}
	at = int(g.To - start)
	add(t, s, 1, g.To, data[at:at+100000])
	f.Close()
	_, s = open(t, dir, room)
	if got := read(t, s, 1, start+2*wal.LSN(size), g.To+100000); !bytes.Equal(got, data[2*int(size):at+100000]) {
		t.Error("it does not have what was written")
	}
}

// TestLock: a spool is one process's, and one server's; other clusters have spools of
// their own in the same folder.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	f, s := open(t, dir, room)
	if err := s.Begin(1, start); err != nil {
		t.Fatal(err)
	}
	add(t, s, 1, start, []byte("x"))
	other, err := walspool.NewFolder(walspool.Options{Dir: dir, MaxBytes: room})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Open(cluster); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("in use: %v", err)
	}
	if _, err := other.Existing("clinic"); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("those of a server in use: %v", err)
	}
	if found, err := other.Existing("another"); err != nil || len(found) != 0 {
		t.Errorf("of another server: %v, %v", found, err)
	}
	second := cluster
	second.SystemIdentifier = 43
	if _, err := other.Open(second); err != nil {
		t.Errorf("another cluster: %v", err)
	}
	f.Close()
	if found, err := other.Existing("clinic"); err != nil || len(found) != 2 {
		t.Errorf("once it is given up: %v, %v", found, err)
	}
	renamed := cluster
	renamed.Server = "renamed"
	if _, err := other.Open(renamed); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("WAL that goes elsewhere: %v", err)
	}
	other.Close()
	f, s = open(t, dir, room)
	s.Stored(1, start, start+1)
	s.Drop(1)
	if _, err := f.Open(renamed); err != nil {
		t.Errorf("an empty spool: %v", err)
	}
	f.Close()
	if err := os.Chmod(filepath.Join(dir, "42"), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(renamed); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("a folder that others can get into: %v", err)
	}
	none, err := walspool.NewFolder(walspool.Options{Dir: filepath.Join(dir, "none"), MaxBytes: room})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := none.Existing("clinic"); err != nil || len(found) != 0 {
		t.Errorf("without a folder: %v, %v", found, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("asking made the folder: %v", err)
	}
}

// TestHistories: histories come back as they were, and one that is damaged is said to be.
func TestHistories(t *testing.T) {
	dir := t.TempDir()
	_, s := open(t, dir, room)
	text := []byte("1\t0/3000000\tno recovery target specified\n")
	for range 2 {
		if err := s.PutHistory(2, text); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Histories(); err != nil || len(got) != 1 || !bytes.Equal(got[2], text) {
		t.Errorf("%v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "42", wal.HistoryName(2)), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Histories(); !errors.Is(err, walspool.ErrDamaged) {
		t.Errorf("damaged: %v", err)
	}
}
