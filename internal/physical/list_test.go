package physical_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/physical"
)

// randomList makes a list that a backup could have, and the backup that it is of.
func randomList(rng *rand.Rand) (*pgmedic.Backup, []physical.Entry) {
	b := &pgmedic.Backup{ID: "20261130T010000Z-abcdef", Physical: &pgmedic.Physical{}}
	packs := make([]int64, 1+rng.IntN(3))
	var entries []physical.Entry
	var sizes []int64
	for range rng.IntN(40) {
		if rng.IntN(3) == 0 {
			pack := rng.IntN(len(packs))
			packs[pack] += rng.Int64N(3) // bytes of no chunk
			c := physical.Chunk{
				ID: int64(len(sizes)), Pack: fmt.Sprintf("pack-%04d", pack+1), Offset: packs[pack], StoredBytes: 1 + rng.Int64N(1<<20),
				SHA256: strings.Repeat("a1", 32), PlainBytes: 1 + rng.Int64N(physical.ChunkBytes), PlainSHA256: strings.Repeat("0f", 32),
			}
			packs[pack] += c.StoredBytes
			sizes = append(sizes, c.PlainBytes)
			entries = append(entries, physical.Entry{Chunk: &c})
			continue
		}
		f := physical.File{
			Path: fmt.Sprintf("base/%d/%d", rng.IntN(9), len(entries)), Kind: physical.KindRelation, Mode: 0o600,
			ModifiedAt: rng.Int64N(1 << 31), CRC32C: fmt.Sprintf("%08x", rng.Uint32()),
		}
		switch rng.IntN(5) {
		case 0:
			f.Kind, f.Mode, f.CRC32C = physical.KindFolder, 0o700, ""
		case 1:
			f.Path += "\xff\\x \n\"<é" // whatever a file system takes
			fallthrough
		default:
			for range rng.IntN(4) {
				e := physical.Extent{Chunk: physical.Hole, Bytes: physical.HoleBytes}
				if len(sizes) > 0 && rng.IntN(2) == 0 {
					e.Chunk = rng.Int64N(int64(len(sizes)))
					e.Offset = rng.Int64N(sizes[e.Chunk])
					e.Bytes = 1 + rng.Int64N(sizes[e.Chunk]-e.Offset)
				}
				f.Extents = append(f.Extents, e)
				f.SizeBytes += e.Bytes
			}
		}
		entries = append(entries, physical.Entry{File: &f})
	}
	for i, size := range packs {
		b.Objects = append(b.Objects, pgmedic.Object{Name: fmt.Sprintf("pack-%04d", i+1), Role: pgmedic.RolePack, StoredBytes: size})
	}
	return b, entries
}

func writeList(t testing.TB, b *pgmedic.Backup, entries []physical.Entry) []byte {
	t.Helper()
	var text bytes.Buffer
	w, err := physical.NewWriter(&text, b)
	for i := 0; err == nil && i < len(entries); i++ {
		if e := entries[i]; e.Chunk != nil {
			err = w.Chunk(*e.Chunk)
		} else {
			err = w.File(*e.File)
		}
	}
	if err == nil {
		b.Physical.Files, b.Physical.PlainBytes, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func readList(b *pgmedic.Backup, text []byte) (entries []physical.Entry, err error) {
	r := physical.NewReader(bytes.NewReader(text), b)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
}

// TestListRoundTrip reads back what was written, whatever it is.
func TestListRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		b, entries := randomList(rand.New(rand.NewPCG(seed, 0)))
		text := writeList(t, b, entries)
		got, err := readList(b, text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if len(got) != len(entries) || len(entries) > 0 && !reflect.DeepEqual(got, entries) {
			t.Fatalf("seed %d: read %d entries of %d, or others:\n%s", seed, len(got), len(entries), text)
		}
	}
}

// TestListCut cuts a list at every byte and takes lines out: it is never whole then.
func TestListCut(t *testing.T) {
	for seed := range uint64(8) {
		b, entries := randomList(rand.New(rand.NewPCG(seed, 1)))
		text := writeList(t, b, entries)
		for n := range text {
			if _, err := readList(b, text[:n]); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Fatalf("seed %d: a list that is cut at byte %d of %d: %v", seed, n, len(text), err)
			}
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		for i := range len(lines) - 1 {
			without := append(bytes.Join(lines[:i], nil), bytes.Join(lines[i+1:], nil)...)
			if _, err := readList(b, without); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
				t.Errorf("seed %d: a list without line %d: %v", seed, i, err)
			}
		}
		if _, err := readList(b, append(bytes.Clone(text), '\n')); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("seed %d: a list with something behind it: %v", seed, err)
		}
		other := *b
		other.ID = "20261130T010000Z-000000"
		if _, err := readList(&other, text); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("seed %d: the list of another backup: %v", seed, err)
		}
	}
}

// TestListContradictions reads lists that no backup has.
func TestListContradictions(t *testing.T) {
	const head = `{"format":1,"backup":"20261130T010000Z-abcdef"}` + "\n"
	hash := strings.Repeat("0a", 32)
	chunk := func(id, offset, stored, plain int64) string {
		return fmt.Sprintf(`{"c":%d,"pack":"pack-0001","off":%d,"stored":%d,"sha":%q,"plain":%d,"psha":%q}`+"\n", id, offset, stored, hash, plain, hash)
	}
	file := func(path string, size int64, extents string) string {
		return fmt.Sprintf(`{"p":%q,"k":"other","n":%d,"mode":"0600","t":0,"crc":"00000000","in":%s}`+"\n", path, size, extents)
	}
	for name, lines := range map[string]string{
		"a chunk out of turn":             chunk(1, 0, 10, 10),
		"a chunk twice":                   chunk(0, 0, 10, 10) + chunk(0, 10, 10, 10),
		"chunks that overlap":             chunk(0, 0, 10, 10) + chunk(1, 9, 10, 10),
		"a chunk outside of its pack":     chunk(0, 95, 10, 10),
		"a chunk of no pack":              strings.Replace(chunk(0, 0, 10, 10), "pack-0001", "pack-0002", 1),
		"a chunk that is too large":       chunk(0, 0, 10, physical.ChunkBytes+1),
		"an empty chunk":                  chunk(0, 0, 10, 0),
		"a chunk without a hash":          strings.Replace(chunk(0, 0, 10, 10), hash, "", 1),
		"a path out of the folder":        file("../x", 0, "[]"),
		"a path out of the folder inside": file("base/../../x", 0, "[]"),
		"an absolute path":                file("/etc/passwd", 0, "[]"),
		"a path that is not clean":        file("base//1", 0, "[]"),
		"the folder itself":               file(".", 0, "[]"),
		"no path":                         file("", 0, "[]"),
		"a file of a chunk to come":       file("a", 10, "[[0,0,10]]") + chunk(0, 0, 10, 10),
		"an extent beyond its chunk":      chunk(0, 0, 10, 10) + file("a", 6, "[[0,5,6]]"),
		"an extent before its chunk":      chunk(0, 0, 10, 10) + file("a", 6, "[[0,-1,6]]"),
		"an extent that overflows":        chunk(0, 0, 10, 10) + file("a", 6, "[[0,9223372036854775807,6]]"),
		"extents of another size":         chunk(0, 0, 10, 10) + file("a", 7, "[[0,0,6]]"),
		"an extent of four numbers":       chunk(0, 0, 10, 10) + file("a", 6, "[[0,0,6,0]]"),
		"an extent of two numbers":        chunk(0, 0, 10, 10) + file("a", 6, "[[0,0]]"),
		"a size that is negative":         file("a", -1, "[]"),
		"a size that overflows":           file("a", 1<<62, fmt.Sprintf("[[-1,0,%d]]", int64(1<<62))),
		"a mode that sets a user":         strings.Replace(file("a", 0, "[]"), "0600", "4755", 1),
		"a mode that is none":             strings.Replace(file("a", 0, "[]"), "0600", "rw", 1),
		"a kind that is none":             strings.Replace(file("a", 0, "[]"), "other", "link", 1),
		"a file without a CRC":            strings.Replace(file("a", 0, "[]"), `"00000000"`, `""`, 1),
		"a folder with bytes":             strings.Replace(file("a", 5, "[[-1,0,5]]"), "other", "dir", 1),
		"a line of nothing":               "{}\n",
		"a line that is not JSON":         "hello\n",
		"a second beginning":              head,
		"an end that says less":           chunk(0, 0, 10, 10) + `{"end":{"files":0,"chunks":0,"bytes":0}}` + "\n",
	} {
		b := &pgmedic.Backup{
			ID: "20261130T010000Z-abcdef", Physical: &pgmedic.Physical{},
			Objects: []pgmedic.Object{{Name: "pack-0001", Role: pgmedic.RolePack, StoredBytes: 100}},
		}
		if _, err := readList(b, []byte(head+lines+`{"end":{"files":0,"chunks":1,"bytes":0}}`+"\n")); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListNewer reads a list of a later version.
func TestListNewer(t *testing.T) {
	b := &pgmedic.Backup{ID: "20261130T010000Z-abcdef", Physical: &pgmedic.Physical{}}
	_, err := readList(b, []byte(`{"format":3,"backup":"20261130T010000Z-abcdef"}`+"\n{}\n"))
	if pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "update pgmedic") {
		t.Errorf("a list of format 3: %v", err)
	}
}

// TestListKept: files that the parent has are in lists of format 2 alone, of incremental backups that
// were read by SQL, and have no bytes of their own.
func TestListKept(t *testing.T) {
	kept := physical.File{Path: "base/5/100", Kind: physical.KindKept, SizeBytes: 8192, Mode: 0o600, ModifiedAt: 5, ChangedAt: 6, CRC32C: "0a0b0c0d"}
	b := &pgmedic.Backup{ID: "20261130T010000Z-abcdef", Physical: &pgmedic.Physical{Kind: pgmedic.PhysicalIncremental, SQL: &pgmedic.SQLRead{}}}
	text := writeList(t, b, []physical.Entry{{File: &kept}})
	if got, err := readList(b, text); err != nil || len(got) != 1 || !reflect.DeepEqual(*got[0].File, kept) || b.Physical.PlainBytes != 0 || b.Physical.Files != 1 {
		t.Errorf("%+v, %v, %+v", got, err, b.Physical)
	}
	for name, replaced := range map[string][2]string{
		"bytes":               {`"crc":"0a0b0c0d"`, `"crc":"0a0b0c0d","in":[[-1,0,8192]]`},
		"no size":             {`"n":8192`, `"n":0`},
		"no CRC":              {`"crc":"0a0b0c0d"`, `"crc":""`},
		"not of a relation":   {`base/5/100`, `base/5/PG_VERSION`},
		"the format of other": {`"format":2`, `"format":1`},
	} {
		if _, err := readList(b, bytes.Replace(text, []byte(replaced[0]), []byte(replaced[1]), 1)); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(p *pgmedic.Physical){
		"a full backup": func(p *pgmedic.Physical) { p.Kind = pgmedic.PhysicalFull },
		"a stream":      func(p *pgmedic.Physical) { p.SQL = nil },
	} {
		p := *b.Physical
		change(&p)
		if _, err := readList(&pgmedic.Backup{ID: b.ID, Physical: &p}, text); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
			t.Errorf("of %s: %v", name, err)
		}
	}
}

// FuzzList reads any text: what is accepted is consistent, and written again the same.
func FuzzList(f *testing.F) {
	b, entries := randomList(rand.New(rand.NewPCG(3, 3)))
	f.Add(writeList(f, b, entries))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readList(b, text)
		if err != nil {
			return
		}
		again, err := readList(b, writeList(t, b, got))
		if err != nil || len(got) > 0 && !reflect.DeepEqual(got, again) {
			t.Errorf("read %d entries, and from what was written of them %d: %v", len(got), len(again), err)
		}
	})
}
