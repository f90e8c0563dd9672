package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// relocator moves the tablespaces of a map, in WAL that is all there.
func relocator(places map[string]string, from wal.LSN, all []byte) func(start wal.LSN) ([]byte, []wal.Relocation, error) {
	segment := func(start wal.LSN) ([]byte, error) {
		if start < from || start >= from+wal.LSN(len(all)) {
			return nil, nil
		}
		return bytes.Clone(all[start-from:][:wal.MinSegmentSize]), nil
	}
	return func(start wal.LSN) ([]byte, []wal.Relocation, error) {
		plain, _ := segment(start)
		changed, err := wal.Relocator{
			SegmentSize: wal.MinSegmentSize, SystemIdentifier: 4711,
			Place: func(path string) (string, error) {
				if to, ok := places[path]; ok {
					return to, nil
				}
				return "", errors.New("not mapped")
			},
			Before: func() ([]byte, error) { return segment(start - wal.LSN(wal.MinSegmentSize)) },
			After:  func() ([]byte, error) { return segment(start + wal.LSN(wal.MinSegmentSize)) },
		}.Relocate(start, plain)
		return plain, changed, err
	}
}

// tablespace is the record of a new tablespace.
func tablespace(oid uint32, path string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, oid), path+"\x00"...)
}

// created walks WAL to its end, and returns the paths of new tablespaces.
func created(t *testing.T, start wal.LSN, all []byte) (paths []string, end wal.LSN) {
	t.Helper()
	w, err := wal.NewWalker(wal.WalkerOptions{Start: start, SegmentSize: wal.MinSegmentSize, SystemIdentifier: 4711, Record: func(r *wal.Record) {
		if e, ok := wal.Decode(r); ok && e.Kind == wal.TablespaceCreate {
			paths = append(paths, e.Name)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(all)
	if stop := w.Stopped(); stop == nil || stop.Reason != wal.StopEnd {
		t.Fatalf("the relocated WAL stops: %v", stop)
	}
	return paths, w.End()
}

// TestRelocate puts the record of a new tablespace at each of many positions around pages
// and the borders of segments: segments that are relocated one by one are together valid
// WAL with the new path, and nothing else in them has changed.
func TestRelocate(t *testing.T) {
	start := wal.LSN(5) << 20
	random := rand.New(rand.NewPCG(1, 2))
	old := "/srv/" + strings.Repeat("tablespace", 9)
	for i := range 24 {
		b := newBuilder(start)
		// Close to the end of the first segment, or of some page, from 0 to 200 bytes before it.
		end := start + wal.LSN(wal.MinSegmentSize)
		if i%3 == 0 {
			end = start + wal.LSN(1+random.IntN(100))*wal.PageSize
		}
		before := end - wal.LSN(8*random.IntN(26))
		for b.pos()+4000 < before {
			b.record(3, 0, 0, make([]byte, 3000))
		}
		for b.pos()+400 < before {
			b.commit(0, 7, 0)
		}
		if gap := int(before - b.pos()); gap >= 30 {
			b.record(3, 0, 0, make([]byte, gap-26))
		}
		at := b.record(5, 0, 9, tablespace(16400, old))
		b.record(5, 0, 9, tablespace(16401, "")) // one in the data folder
		b.commit(0, 9, 0)
		for b.pos() < start+wal.LSN(wal.MinSegmentSize)+2000 {
			b.record(3, 0, 0, make([]byte, 3000))
		}
		all := b.fill()
		move := relocator(map[string]string{old: "/new"}, start, all)
		var moved []byte
		for s := start; s < start+wal.LSN(len(all)); s += wal.LSN(wal.MinSegmentSize) {
			plain, _, err := move(s)
			if err != nil {
				t.Fatalf("at %v: %v", at, err)
			}
			moved = append(moved, plain...)
		}
		wantPaths, wantEnd := created(t, start, all)
		paths, reached := created(t, start, moved)
		if len(paths) != 2 || paths[0] != "/new" || paths[1] != "" || len(wantPaths) != 2 || reached != wantEnd {
			t.Fatalf("at %v: tablespaces %q of %q, to %v of %v", at, paths, wantPaths, reached, wantEnd)
		}
		changed := 0
		for j := range all {
			if all[j] != moved[j] {
				changed++
			}
		}
		if changed > len(old)+4 { // the path and the checksum
			t.Fatalf("at %v: %d bytes changed", at, changed)
		}
	}
}

func TestRelocateRefuses(t *testing.T) {
	start := wal.LSN(5) << 20
	build := func() []byte {
		b := newBuilder(start)
		b.record(5, 0, 9, tablespace(16400, "/srv/a"))
		b.commit(0, 9, 0)
		return b.fill()
	}
	var long *wal.LongPathError
	if _, _, err := relocator(map[string]string{"/srv/a": "/srv/longer"}, start, build())(start); !errors.As(err, &long) || long.To != "/srv/longer" {
		t.Errorf("a path that is longer: %v", err)
	}
	if _, _, err := relocator(nil, start, build())(start); err == nil || !strings.Contains(err.Error(), "not mapped") {
		t.Errorf("a path that is not mapped: %v", err)
	}
	// A path that stays changes nothing.
	plain, changed, err := relocator(map[string]string{"/srv/a": "/srv/a"}, start, build())(start)
	if err != nil || changed != nil || !bytes.Equal(plain, build()) {
		t.Errorf("a path that stays: %v, %v", changed, err)
	}
	// WAL that can't be read may create tablespaces anywhere.
	strange := build()
	binary.LittleEndian.PutUint16(strange, 0xD1FF)
	if _, _, err := relocator(nil, start, strange)(start); err == nil {
		t.Error("WAL of an unknown version was relocated")
	}
}
