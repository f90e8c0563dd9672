package pgdata_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/pgmedic/pgmedic/internal/pgdata"
)

// small are sizes with which a segment has few blocks.
func small() pgdata.Sizes { return pgdata.Sizes{BlockBytes: 1 << 10, SegmentBytes: 24 << 10} }

// encode makes an incremental file, as basebackup.c does.
func encode(magic, length uint32, blocks []uint32, sizes pgdata.Sizes) []byte {
	b := binary.LittleEndian.AppendUint32(nil, magic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blocks)))
	b = binary.LittleEndian.AppendUint32(b, length)
	for _, n := range blocks {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	if len(blocks) > 0 {
		for int64(len(b))%sizes.BlockBytes != 0 {
			b = append(b, 0)
		}
	}
	return append(b, make([]byte, int64(len(blocks))*sizes.BlockBytes)...)
}

const magic = 0xd3ae1f0d

func TestReadIncremental(t *testing.T) {
	for _, blocks := range [][]uint32{nil, {0}, {3, 4, 7}, {23}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}} {
		file := encode(magic, 5, blocks, small())
		got, err := pgdata.ReadIncremental(bytes.NewReader(file), int64(len(file)), small())
		if err != nil || !slices.Equal(got.Blocks, blocks) || got.Length != 5 || got.HeadBytes+int64(len(blocks))<<10 != int64(len(file)) {
			t.Errorf("blocks %v: read %+v, %v", blocks, got, err)
		}
		// Cut within its head, with the size of a whole one.
		for n := range got.HeadBytes {
			if _, err := pgdata.ReadIncremental(bytes.NewReader(file[:n]), int64(len(file)), small()); !errors.Is(err, pgdata.ErrIncremental) {
				t.Fatalf("blocks %v: cut at byte %d: %v", blocks, n, err)
			}
		}
	}
	good := encode(magic, 5, []uint32{1, 2}, small())
	dirty := bytes.Clone(good)
	dirty[40] = 1
	many := make([]uint32, 25)
	for i := range many {
		many[i] = uint32(i)
	}
	for name, file := range map[string][]byte{
		"another magic":                      encode(magic+1, 5, []uint32{1, 2}, small()),
		"a length beyond a segment":          encode(magic, 25, nil, small()),
		"a block beyond a segment":           encode(magic, 5, []uint32{24}, small()),
		"a block twice":                      encode(magic, 5, []uint32{2, 2}, small()),
		"blocks out of order":                encode(magic, 5, []uint32{3, 2}, small()),
		"more blocks than a segment":         encode(magic, 5, many, small()),
		"a byte too much":                    append(bytes.Clone(good), 0),
		"a byte too few":                     good[:len(good)-1],
		"a count that is not that of blocks": append([]byte{0x0d, 0x1f, 0xae, 0xd3, 255, 255, 255, 255}, good[8:]...),
		"something in the padding":           dirty,
		"nothing":                            {},
	} {
		if _, err := pgdata.ReadIncremental(bytes.NewReader(file), int64(len(file)), small()); !errors.Is(err, pgdata.ErrIncremental) {
			t.Errorf("%s: %v", name, err)
		}
	}
	away := errors.New("the store is away")
	if _, err := pgdata.ReadIncremental(iotest.ErrReader(away), 12, small()); !errors.Is(err, away) || errors.Is(err, pgdata.ErrIncremental) {
		t.Errorf("a file that can't be read: %v", err)
	}
	for _, s := range []pgdata.Sizes{{}, {BlockBytes: 8192}, {BlockBytes: 8192, SegmentBytes: 4096}, {BlockBytes: 1024, SegmentBytes: 1 << 60}} {
		if _, err := pgdata.ReadIncremental(bytes.NewReader(good), int64(len(good)), s); err == nil {
			t.Errorf("sizes %+v were accepted", s)
		}
	}
}

// FuzzReadIncremental reads any bytes: what is accepted is written again the same.
func FuzzReadIncremental(f *testing.F) {
	f.Add(encode(magic, 5, []uint32{1, 2}, small()))
	f.Add(encode(magic, 0, nil, small()))
	f.Fuzz(func(t *testing.T, file []byte) {
		in, err := pgdata.ReadIncremental(bytes.NewReader(file), int64(len(file)), small())
		if err != nil {
			return
		}
		if again := encode(magic, in.Length, in.Blocks, small()); !bytes.Equal(again[:in.HeadBytes], file[:in.HeadBytes]) || len(again) != len(file) {
			t.Errorf("%+v is not what the file has", in)
		}
	})
}

// relation is a model of a file: what each block holds, by a number, and zero for empty pages.
type relation struct {
	blocks []int
	next   int
	// touched and cut are what the WAL says since the last backup.
	touched map[uint32]bool
	cut     uint32
}

func (r *relation) step(rng *rand.Rand, most int) {
	switch n := len(r.blocks); rng.IntN(4) {
	case 0: // change a block
		if n > 0 {
			b := rng.IntN(n)
			r.next++
			r.blocks[b], r.touched[uint32(b)] = r.next, true
		}
	case 1: // add one
		if n < most {
			r.next++
			r.blocks, r.touched[uint32(n)] = append(r.blocks, r.next), true
		}
	case 2: // add several, without records of those that nothing uses yet
		for range rng.IntN(5) {
			if len(r.blocks) < most {
				r.blocks = append(r.blocks, 0)
			}
		}
	case 3: // cut it
		to := rng.IntN(n + 1)
		r.blocks = r.blocks[:to]
		r.cut = min(r.cut, uint32(to))
		for b := range r.touched {
			if int(b) >= to {
				delete(r.touched, b)
			}
		}
	}
}

// backup is what a server sends of the file: its blocks, and what they hold.
func (r *relation) backup(whole bool) (l pgdata.Layer, content []int) {
	l = pgdata.Layer{Length: uint32(len(r.blocks)), Whole: whole || r.cut == 0, Cut: r.cut}
	if l.Whole {
		content = slices.Clone(r.blocks)
	} else {
		for b := range uint32(len(r.blocks)) {
			if r.touched[b] {
				l.Blocks, content = append(l.Blocks, b), append(content, r.blocks[b])
			}
		}
		if r.cut != pgdata.NoCut {
			l.Length = max(l.Length, r.cut) // as GetFileBackupMethod of basebackup_incremental.c
		}
	}
	r.touched, r.cut = map[uint32]bool{}, pgdata.NoCut
	return l, content
}

// apply returns what a merged file holds.
func apply(t *testing.T, layers []pgdata.Layer, contents [][]int, visibilityMap bool) (file []int) {
	t.Helper()
	runs, err := pgdata.Merge(layers, visibilityMap, small())
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		if run.Layer == pgdata.Zero {
			file = append(file, make([]int, run.Count)...)
			continue
		}
		file = append(file, contents[run.Layer][run.First:run.First+run.Count]...)
	}
	return file
}

// TestMergeHistories merges chains of backups of random histories: the file is what it was.
// PostgreSQL's own rules, which know nothing of cuts, must fail in some of them.
func TestMergeHistories(t *testing.T) {
	const most = 24
	upstreamWrong := 0
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 17))
		r := &relation{touched: map[uint32]bool{}, cut: pgdata.NoCut}
		var layers []pgdata.Layer // newest first
		var contents [][]int
		for i := range 1 + rng.IntN(5) {
			for range rng.IntN(12) {
				r.step(rng, most)
			}
			l, content := r.backup(i == 0)
			if l.Whole {
				layers, contents = nil, nil
			}
			layers, contents = slices.Insert(layers, 0, l), slices.Insert(contents, 0, content)
			if got := apply(t, layers, contents, false); !slices.Equal(got, r.blocks) {
				t.Fatalf("seed %d, backup %d: merged %v, and the file was %v\n%+v", seed, i, got, r.blocks, layers)
			}
			got := apply(t, layers, contents, true)
			for b, n := range got {
				if n != 0 && n != r.blocks[b] || n == 0 && slices.Contains(layers[0].Blocks, uint32(b)) && r.blocks[b] != 0 || len(got) != len(r.blocks) {
					t.Fatalf("seed %d, backup %d: a visibility map is %v, and was %v\n%+v", seed, i, got, r.blocks, layers)
				}
			}
		}
		upstream := slices.Clone(layers)
		for i := range upstream {
			upstream[i].Cut = pgdata.NoCut
			if !upstream[i].Whole && i > 0 {
				upstream[i].Length = most // which pg_combinebackup reads of the newest only
			}
		}
		if !slices.Equal(apply(t, upstream, contents, false), r.blocks) {
			upstreamWrong++
		}
	}
	if upstreamWrong == 0 {
		t.Error("no history is one that PostgreSQL's own rules get wrong, so that these prove nothing")
	}
}

// TestMergeDefinition compares with the rules as they are said, block by block, over chains that
// no server makes.
func TestMergeDefinition(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 18))
		layers := make([]pgdata.Layer, 1+rng.IntN(4))
		contents := make([][]int, len(layers))
		for i := range layers {
			l := pgdata.Layer{Length: uint32(rng.IntN(25)), Cut: pgdata.NoCut, Whole: i == len(layers)-1}
			if rng.IntN(2) == 0 {
				l.Cut = uint32(rng.IntN(25))
			}
			n := l.Length
			if !l.Whole {
				for b := range uint32(24) {
					if rng.IntN(3) == 0 {
						l.Blocks = append(l.Blocks, b)
					}
				}
				n = uint32(len(l.Blocks))
			}
			for k := range n {
				contents[i] = append(contents[i], 1000*(i+1)+int(k))
			}
			layers[i] = l
		}
		var want []int
		length := layers[0].Length
		if n := len(layers[0].Blocks); n > 0 {
			length = max(length, layers[0].Blocks[n-1]+1)
		}
		for b := range length {
			want = append(want, byDefinition(layers, contents, b))
		}
		if got := apply(t, layers, contents, false); !slices.Equal(got, want) {
			t.Fatalf("seed %d: merged %v, want %v\n%+v", seed, got, want, layers)
		}
	}
}

func byDefinition(layers []pgdata.Layer, contents [][]int, b uint32) int {
	for i, l := range layers {
		if at := slices.Index(l.Blocks, b); at >= 0 {
			return contents[i][at]
		}
		if l.Whole && b < l.Length {
			return contents[i][b]
		}
		if b >= l.Length || b >= l.Cut {
			return 0
		}
	}
	return 0
}

func TestMergeRefuses(t *testing.T) {
	whole, some := pgdata.Layer{Whole: true, Length: 3, Cut: pgdata.NoCut}, pgdata.Layer{Length: 3, Blocks: []uint32{1}, Cut: pgdata.NoCut}
	for name, layers := range map[string][]pgdata.Layer{
		"nothing":                     nil,
		"no version that is whole":    {some, some},
		"a whole one before the last": {whole, whole},
		"a length beyond the segment": {{Length: 25}, whole},
		"a whole one with blocks":     {some, {Whole: true, Length: 3, Blocks: []uint32{1}}},
		"a block beyond the segment":  {{Length: 3, Blocks: []uint32{24}}, whole},
	} {
		if _, err := pgdata.Merge(layers, false, small()); err == nil {
			t.Errorf("%s was merged", name)
		}
	}
}

func TestIncrementalPaths(t *testing.T) {
	for path, want := range map[string]string{
		"base/5/INCREMENTAL.16384":                            "base/5/16384",
		"base/5/INCREMENTAL.16384_vm.1":                       "base/5/16384_vm.1",
		"global/INCREMENTAL.1262":                             "global/1262",
		"pg_tblspc/16395/PG_17_202406281/5/INCREMENTAL.16400": "pg_tblspc/16395/PG_17_202406281/5/16400",
		"base/5/16384":                                        "",
		"base/5/INCREMENTAL.":                                 "",
		"base/5/INCREMENTAL.pg_filenode":                      "",
		"base/INCREMENTAL.5/16384":                            "",
		"pg_wal/INCREMENTAL.16384":                            "",
		"base/5/INCREMENTAL.INCREMENTAL.16":                   "",
		"INCREMENTAL.16384":                                   "",
	} {
		got, ok := pgdata.IncrementalOf(path)
		if got != want || ok != (want != "") || ok && pgdata.IncrementalPath(got) != path {
			t.Errorf("%s is of %q, %v; want %q", path, got, ok, want)
		}
	}
	for path, want := range map[string]string{
		"base/5/16384": "1663 5 16384", "base/5/16384.12": "1663 5 16384", "global/1262": "1664 0 1262",
		"pg_tblspc/16395/PG_17_202406281/5/16400.1": "16395 5 16400",
		"base/5/16384_vm": "", "base/5/16384_fsm.1": "", "base/5/PG_VERSION": "", "base/5/99999999999": "",
	} {
		space, database, number, ok := pgdata.MainFork(path)
		if got := fmt.Sprint(space, database, number); ok != (want != "") || ok && got != want {
			t.Errorf("%s is of %s, %v; want %q", path, got, ok, want)
		}
	}
	if !pgdata.IsVisibilityMap("base/5/1_vm") || !pgdata.IsVisibilityMap("base/5/1_vm.2") || pgdata.IsVisibilityMap("base/5/1") || pgdata.IsVisibilityMap("pg_wal/1_vm") {
		t.Error("a visibility map is not known by its name")
	}
}

func TestCutOf(t *testing.T) {
	for _, c := range []struct {
		path  string
		block uint32
		want  uint32
	}{{"base/5/9", 7, 7}, {"base/5/9", 24, pgdata.NoCut}, {"base/5/9.1", 24, 0}, {"base/5/9.1", 31, 7}, {"base/5/9.2", 3, 0}, {"base/5/9.3", pgdata.NoCut, pgdata.NoCut}} {
		if got := pgdata.CutOf(c.path, c.block, small()); got != c.want {
			t.Errorf("%s cut at %d: %d, want %d", c.path, c.block, got, c.want)
		}
	}
}

func TestWholeLabel(t *testing.T) {
	label := "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nCHECKPOINT LOCATION: 0/4000080\nBACKUP METHOD: streamed\n" +
		"BACKUP FROM: primary\nSTART TIME: 2026-11-30 01:00:00 UTC\nLABEL: pgmedic\nSTART TIMELINE: 1\n"
	got := pgdata.WholeLabel([]byte(label + "INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n"))
	if string(got) != label || string(pgdata.WholeLabel([]byte(label))) != label {
		t.Errorf("the label became %q", got)
	}
}

// The rest of an incremental file is not read with its head.
func TestReadIncrementalHeadOnly(t *testing.T) {
	file := encode(magic, 5, []uint32{1, 2}, small())
	in := bytes.NewReader(file)
	head, err := pgdata.ReadIncremental(in, int64(len(file)), small())
	if rest, _ := io.Copy(io.Discard, in); err != nil || rest != 2<<10 || head.HeadBytes != 1<<10 {
		t.Errorf("%d bytes are left behind the head %+v, %v", rest, head, err)
	}
}
