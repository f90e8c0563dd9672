package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/archive"
	"github.com/pgmedic/pgmedic/internal/postgres/postgrestest"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/wal"
)

// segments is WAL of a real server: whole segments, and the system identifier.
var segments struct {
	system uint64
	first  wal.LSN
	plain  [][]byte
}

const size = wal.MinSegmentSize

func TestMain(m *testing.M) {
	os.Exit(scratchtest.Main(m, scratch.Options{InitArgs: []string{"--wal-segsize=1"}, Settings: map[string]string{"autovacuum": "off", "checkpoint_timeout": "1h"}}, func(s *scratch.Server) { server = s }))
}

var server *scratch.Server

// load reads five segments of the server, once.
func load(t *testing.T) {
	t.Helper()
	if segments.plain != nil {
		return
	}
	conn := postgrestest.Connect(t, postgrestest.Parse(t, server.DSN("postgres")))
	postgrestest.Run(t, conn, "SELECT pg_switch_wal()", "CREATE TABLE public.t AS SELECT n, repeat('x', 100) AS x FROM generate_series(1, 60000) AS n", "SELECT pg_logical_emit_message(true, 'x', repeat('y', 3000000))", "SELECT pg_switch_wal()")
	end, err := wal.ParseLSN(postgrestest.Query[string](t, conn, "SELECT pg_current_wal_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(postgrestest.Query[string](t, conn, "SELECT system_identifier::text FROM pg_control_system()"), &segments.system); err != nil {
		t.Fatal(err)
	}
	segments.first = size.Start(end) - 6*wal.LSN(size)
	for i := range wal.LSN(5) {
		b, err := os.ReadFile(filepath.Join(server.DataDir(), "pg_wal", name(i)))
		if err != nil {
			t.Fatal(err)
		}
		segments.plain = append(segments.plain, b)
	}
}

func at(i wal.LSN) wal.LSN { return segments.first + i*wal.LSN(size) }

func segment(i wal.LSN) wal.Segment { return wal.Segment{Timeline: 1, Start: at(i)} }

func name(i wal.LSN) string { return size.Name(segment(i)) }

// bench is an archive in a folder.
type bench struct {
	t        *testing.T
	dir      string
	a        *archive.Archive
	identity *age.X25519Identity
	began    time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	load(t)
	b := &bench{t: t, dir: t.TempDir(), began: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	s, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.a = archive.New(s, "clinic/1", segments.system)
	if b.identity, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	return b
}

// begin begins an epoch, each an hour after the one before.
func (b *bench) begin(from wal.LSN, encrypted bool) *archive.Epoch {
	b.t.Helper()
	b.began = b.began.Add(time.Hour)
	o := archive.EpochOptions{
		Info: archive.EpochInfo{StartedAt: b.began, Host: "h", Program: "dev", ServerVersion: "15.18", SegmentBytes: int64(size), Timeline: 1, From: from},
		Seal: seal.Options{Compression: seal.CompressionZstd},
	}
	if encrypted {
		o.Seal.Encryption = seal.EncryptionAge
		o.Wraps = []seal.Wrap{{Name: "one", To: b.identity.Recipient()}}
	}
	e, err := b.a.Begin(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func (b *bench) put(e *archive.Epoch, i wal.LSN) {
	b.t.Helper()
	if err := e.PutSegment(b.t.Context(), segment(i), segments.plain[i]); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tail(e *archive.Epoch, i wal.LSN, from, to int) {
	b.t.Helper()
	if err := e.PutTail(b.t.Context(), segment(i), from, segments.plain[i][from:to]); err != nil {
		b.t.Fatal(err)
	}
}

// fetch reads what PostgreSQL would get.
// open opens the key of an epoch.
func (b *bench) open(_ context.Context, _ string, wraps []archive.StoredWrap) (*seal.Key, error) {
	for _, w := range wraps {
		return seal.OpenKey(w.Data, []age.Identity{b.identity})
	}
	return nil, nil
}

func (b *bench) fetch(name string) ([]byte, error) {
	b.t.Helper()
	var got bytes.Buffer
	f, err := b.a.NewFetcher(b.t.Context(), b.open)
	if err == nil {
		err = f.Fetch(b.t.Context(), name, &got)
	}
	return got.Bytes(), err
}

func (b *bench) wantFetched(name string, want []byte) {
	b.t.Helper()
	if got, err := b.fetch(name); err != nil || !bytes.Equal(got, want) {
		b.t.Errorf("%s: %d bytes, equal %t, %v", name, len(got), bytes.Equal(got, want), err)
	}
}

func (b *bench) survey() *archive.Survey {
	b.t.Helper()
	s, err := b.a.Survey(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// objects returns the files of the store whose path holds a part.
func (b *bench) objects(part string) (paths []string) {
	b.t.Helper()
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, part) {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		b.t.Fatalf("no object with %s: %v", part, err)
	}
	return paths
}

const history = "1\t0/300000\tno recovery target specified\n"

// TestRoundTrip: what is stored comes back byte for byte: segments, tails of two epochs
// that overlap, histories; encrypted or not.
func TestRoundTrip(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		b := newBench(t)
		first := b.begin(at(0), encrypted)
		b.put(first, 0)
		b.put(first, 0) // again
		b.tail(first, 1, 0, 5000)
		b.tail(first, 1, 5000, 20000)
		second := b.begin(at(1), encrypted)
		b.tail(second, 1, 0, 30000)
		if err := second.PutHistory(t.Context(), 2, []byte(history)); err != nil {
			t.Fatal(err)
		}
		b.wantFetched(name(0), segments.plain[0])
		want := make([]byte, size)
		copy(want, segments.plain[1][:30000])
		b.wantFetched(name(1), want)
		b.wantFetched("00000002.history", []byte(history))
		s := b.survey()
		if want := []wal.Span{{Timeline: 1, From: at(0), To: at(1) + 30000}}; !slices.Equal(s.Spans, want) || len(s.Odd) != 0 || len(s.Histories) != 1 {
			t.Errorf("survey %+v", s)
		}
		if r := s.Resume(wal.History{Timeline: 1}); !r.Found || r.From != at(1) || r.Until != at(1)+30000 || r.Timeline != 1 {
			t.Errorf("resume %+v", r)
		}
		b.put(second, 1)
		b.wantFetched(name(1), segments.plain[1])
		if encrypted {
			for _, path := range b.objects(".age") {
				if text, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(text, []byte("age-encryption.org/v1\n")) {
					t.Errorf("%s is not encrypted", path)
				}
			}
		}
	}
}

// TestAbsent: only what a whole listing shows to be past the end is absent.
func TestAbsent(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), true)
	b.put(e, 0)
	b.put(e, 2)
	absent := func(name string, want bool) {
		t.Helper()
		if _, err := b.fetch(name); err == nil || errors.Is(err, archive.ErrAbsent) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	absent(name(1), false) // a later one is there
	absent(name(3), true)
	absent(name(4), true)
	absent("00000002.history", true)
	absent("00000001.history", true) // which a server asks for when it is promoted
	absent("nonsense", false)
	if err := e.PutGap(t.Context(), wal.Gap{Timeline: 1, From: at(3), To: at(4), Why: "the slot was lost"}, b.began); err != nil {
		t.Fatal(err)
	}
	absent(name(3), false)
	absent(name(4), true)
	if s := b.survey(); len(s.Stored.Gaps()) != 1 || len(s.Gaps) != 1 || s.Gaps[0].Why != "the slot was lost" {
		t.Errorf("gaps %+v and %+v", s.Stored.Gaps(), s.Gaps)
	}
	// On a later timeline that goes on from there.
	if err := e.PutHistory(t.Context(), 2, fmt.Appendf(nil, "1\t%v\tx\n", at(6))); err != nil {
		t.Fatal(err)
	}
	onTwo := bytes.Clone(segments.plain[4])
	if err := e.PutSegment(t.Context(), wal.Segment{Timeline: 2, Start: at(6)}, onTwo); err != nil {
		t.Fatal(err)
	}
	absent(name(4), false)
	// Timeline 2 left timeline 1 before this one, and does not need it.
	absent(name(7), true)
	// An epoch that can't be read may hold it.
	b = newBench(t)
	b.put(b.begin(at(0), true), 0)
	b.put(b.begin(at(1), true), 1)
	absent(name(2), true)
	if err := os.WriteFile(b.objects("epoch.json")[1], []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent(name(2), false)
	if _, err := b.a.NewFetcher(t.Context(), nil); err != nil {
		t.Error(err)
	}
	s, err := store.NewLocal(store.LocalOptions{Dir: b.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := archive.New(s, "other", 1).NewFetcher(t.Context(), nil); pgmedic.KindOf(err) != pgmedic.KindNotFound || errors.Is(err, archive.ErrAbsent) {
		t.Errorf("no archive: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	f, err := b.a.NewFetcher(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("away"))
	if err := f.Fetch(ctx, name(4), io.Discard); err == nil || errors.Is(err, archive.ErrAbsent) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestDamage: whatever is done to an object, PostgreSQL gets the right bytes or an error
// that is not that of absence.
func TestDamage(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), true)
	for i := range wal.LSN(3) {
		b.put(e, i)
	}
	b.tail(e, 3, 0, 40000)
	b.tail(e, 3, 40000, 90000)
	want := map[string][]byte{name(0): segments.plain[0], name(3): append(bytes.Clone(segments.plain[3][:90000]), make([]byte, int(size)-90000)...)}
	for name, plain := range want {
		b.wantFetched(name, plain)
	}
	kinds := map[string]func(data, other []byte) []byte{
		"flipped": func(data, _ []byte) []byte { data[len(data)/2] ^= 1; return data },
		"cut":     func(data, _ []byte) []byte { return data[:len(data)*2/3] },
		"empty":   func([]byte, []byte) []byte { return nil },
		"removed": nil,
		"swapped": func(_, other []byte) []byte { return other },
	}
	for _, part := range []string{"seg/", "tail/", "keys/", "epoch.json"} {
		paths := b.objects(part)
		for how, change := range kinds {
			for i, path := range paths {
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if change == nil {
					err = os.Remove(path)
				} else {
					other, readErr := os.ReadFile(paths[(i+1)%len(paths)])
					if readErr != nil {
						t.Fatal(readErr)
					}
					if len(paths) == 1 {
						other = bytes.Repeat([]byte("x"), len(other))
					}
					err = os.WriteFile(path, change(bytes.Clone(data), other), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				for name, plain := range want {
					got, err := b.fetch(name)
					if part == "tail/" && i == len(paths)-1 && how == "removed" {
						plain = append(bytes.Clone(plain[:40000]), make([]byte, int(size)-40000)...) // the archive ends before it
						if !strings.Contains(path, name) {
							continue
						}
					}
					if err == nil && !bytes.Equal(got, plain) || errors.Is(err, archive.ErrAbsent) {
						t.Errorf("%s %s: %s: wrong bytes, %v", filepath.Base(path), how, name, err)
					}
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestSecondCopy: of a segment that is there twice one may be damaged.
func TestSecondCopy(t *testing.T) {
	b := newBench(t)
	b.put(b.begin(at(0), true), 0)
	b.put(b.begin(at(0), true), 0)
	for _, path := range b.objects("seg/") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(data)
		damaged[len(damaged)/2]++
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		b.wantFetched(name(0), segments.plain[0])
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSealedWrong: what was stored as it should be and is not WAL of this segment does not
// reach PostgreSQL, which would take it for the end.
func TestSealedWrong(t *testing.T) {
	for what, change := range map[string]func(p []byte) []byte{
		"a record is damaged":  func(p []byte) []byte { p[500000] ^= 1; return p },
		"another segment":      func([]byte) []byte { return bytes.Clone(segments.plain[2]) },
		"of another cluster":   func(p []byte) []byte { p[24]++; return p },
		"zeros":                func(p []byte) []byte { return make([]byte, len(p)) },
		"the end is not there": func(p []byte) []byte { clear(p[len(p)/2:]); return p },
	} {
		b := newBench(t)
		e := b.begin(at(0), false)
		if err := e.PutSegment(t.Context(), segment(1), change(bytes.Clone(segments.plain[1]))); err != nil {
			t.Fatal(err)
		}
		if _, err := b.fetch(name(1)); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", what, err)
		}
		if err := e.PutTail(t.Context(), segment(3), 0, change(bytes.Clone(segments.plain[1]))[:600000]); err != nil {
			t.Fatal(err)
		}
		if _, err := b.fetch(name(3)); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("a tail, %s: %v", what, err)
		}
	}
}

// TestSplit: two servers that write on one timeline are noticed, and neither is believed.
func TestSplit(t *testing.T) {
	b := newBench(t)
	e := b.begin(at(0), true)
	b.put(e, 0)
	b.put(e, 1)
	other := bytes.Clone(segments.plain[1])
	other[len(other)-1]++
	if err := e.PutSegment(t.Context(), segment(1), other); err != nil {
		t.Fatal(err)
	}
	s := b.survey()
	if !slices.Equal(s.Split, []string{name(1)}) || !slices.Equal(s.Spans, []wal.Span{{Timeline: 1, From: at(0), To: at(1)}}) {
		t.Errorf("survey %+v", s)
	}
	if _, err := b.fetch(name(1)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("a split segment: %v", err)
	}
	b.tail(e, 2, 0, 1000)
	if err := e.PutTail(t.Context(), segment(2), 0, other[:2000]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fetch(name(2)); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("split tails: %v", err)
	}
	if err := e.PutTail(t.Context(), segment(3), 500, segments.plain[3][500:1000]); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fetch(name(3)); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("a tail without a beginning: %v", err)
	}
	for h, text := range map[*archive.Epoch]string{e: history, b.begin(at(3), true): "1\t0/400000\tx\n"} {
		if err := h.PutHistory(t.Context(), 2, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.fetch("00000002.history"); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("two histories: %v", err)
	}
	if s := b.survey(); len(s.Odd) != 1 {
		t.Errorf("odd %v", s.Odd)
	}
}

// TestResume: streaming goes on at the first segment that is missing, also where later
// ones are there, and after a gap where the new epoch began.
func TestResume(t *testing.T) {
	b := newBench(t)
	if r := b.survey().Resume(wal.History{Timeline: 1}); r.Found {
		t.Errorf("nothing stored: %+v", r)
	}
	e := b.begin(at(0), true)
	want := func(from, until wal.LSN) {
		t.Helper()
		if r := b.survey().Resume(wal.History{Timeline: 1}); !r.Found || r.Timeline != 1 || r.From != from || r.Until != until {
			t.Errorf("resume %+v, want %v and %v", r, from, until)
		}
	}
	want(at(0), at(0))
	b.put(e, 0)
	b.put(e, 2)
	want(at(1), at(1))
	b.tail(e, 1, 0, 100)
	want(at(1), at(1)+100)
	b.put(e, 1)
	want(at(3), at(3))
	// A server that left the timeline, before and behind what is stored.
	for fork, want := range map[wal.LSN]archive.Resume{
		at(1) + 50: {Found: true, Timeline: 2, From: at(1), Until: at(1) + 50},
		at(2):      {Found: true, Timeline: 2, From: at(2), Until: at(2)},
		at(5):      {Found: true, Timeline: 1, From: at(3), Until: at(3)},
	} {
		if r := b.survey().Resume(wal.History{Timeline: 2, Switches: []wal.Switch{{Timeline: 1, End: fork}}}); r != want {
			t.Errorf("timeline 2 from %v on: %+v, want %+v", fork, r, want)
		}
	}
	if r := b.survey().Resume(wal.History{Timeline: 2}); r.Found {
		t.Errorf("a server of another past: %+v", r)
	}
	after := b.begin(at(4), true)
	want(at(4), at(4))
	b.tail(after, 4, 0, 77)
	want(at(4), at(4)+77)
	for _, o := range []wal.Observation{{Time: b.began, Timeline: 1, LSN: at(4)}, {Time: b.began.Add(time.Minute), Timeline: 2, LSN: at(4) + 5}} {
		if err := after.PutSeen(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	seen := b.survey().Seen
	if len(seen) != 2 || !seen[1].Time.Equal(b.began.Add(time.Minute)) || seen[1].Timeline != 2 || seen[1].LSN != at(4)+5 || time.Since(seen[1].At) > time.Hour {
		t.Errorf("seen %+v", seen)
	}
	all, err := archive.Systems(t.Context(), storeOf(t, b.dir), "clinic/1")
	if err != nil || !slices.Equal(all, []uint64{segments.system}) {
		t.Errorf("clusters %v, %v", all, err)
	}
}

func storeOf(t *testing.T, dir string) store.Store {
	t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestBeginRefuses: WAL that could not be opened again is not stored.
func TestBeginRefuses(t *testing.T) {
	b := newBench(t)
	info := archive.EpochInfo{StartedAt: b.began, SegmentBytes: int64(size), Timeline: 1}
	for what, o := range map[string]archive.EpochOptions{
		"for nobody":    {Info: info, Seal: seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAge}},
		"with openssl":  {Info: info, Seal: seal.Options{Compression: seal.CompressionZstd, Encryption: seal.EncryptionAES256CBC}},
		"without sizes": {Info: archive.EpochInfo{StartedAt: b.began}, Seal: seal.Options{Compression: seal.CompressionZstd}},
	} {
		if _, err := b.a.Begin(t.Context(), o); err == nil {
			t.Errorf("%s: begun", what)
		}
	}
	if s := b.survey(); s.Objects != 0 {
		t.Errorf("%d objects", s.Objects)
	}
	e := b.begin(at(0), true)
	if err := e.PutSegment(t.Context(), segment(0), segments.plain[0][1:]); err == nil {
		t.Error("a part is stored as a segment")
	}
	if err := e.PutTail(t.Context(), segment(0), 10, nil); err == nil {
		t.Error("an empty tail is stored")
	}
}
