package merge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/pgdata"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/physical/merge"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// made is a member of a chain that no server made.
type made struct {
	files map[string][]byte
	cuts  []pgmedic.Truncation
	// bySQL is of one whose files were read by SQL, which has the files of kept by name and size alone.
	bySQL bool
	kept  []string
}

var madeSizes = pgdata.Sizes{BlockBytes: 1 << 10, SegmentBytes: 24 << 10}

func madeID(n int) string { return fmt.Sprintf("20261130T01000%dZ-00000%d", n, n) }

// put stores a member, which is the nth of a chain, in chunks of random sizes.
func (m made) put(t *testing.T, s store.Store, rng *rand.Rand, n int) physical.Source {
	t.Helper()
	p := &pgmedic.Physical{Kind: pgmedic.PhysicalFull, Timeline: 1, StartLSN: fmt.Sprintf("0/%d000028", n+1), BlockBytes: madeSizes.BlockBytes, SegmentBytes: madeSizes.SegmentBytes, Truncations: m.cuts}
	if n > 0 {
		p.Kind, p.Parent, p.Depth = pgmedic.PhysicalIncremental, madeID(n-1), n
	}
	if m.bySQL {
		at := time.Date(2026, 11, 30, 1, n, 0, 0, time.UTC)
		p.SQL = &pgmedic.SQLRead{ServerStartedAt: at.Truncate(time.Hour), ClockAt: &at}
	}
	b := &pgmedic.Backup{
		ID: madeID(n), Method: pgmedic.MethodPhysical, Physical: p, Server: pgmedic.Server{Name: "clinic", SystemIdentifier: "77", VersionNum: 170000},
		Seal: pgmedic.Seal{Compression: "none", Encryption: "none"},
	}
	var list, pack bytes.Buffer
	w, err := physical.NewWriter(&list, b)
	if err != nil {
		t.Fatal(err)
	}
	chunks := int64(0)
	for _, path := range slices.Sorted(maps.Keys(m.files)) {
		content := m.files[path]
		f := physical.File{Path: path, Kind: physical.KindOther, SizeBytes: int64(len(content)), Mode: 0o600, CRC32C: "00000000"}
		if pgdata.IsRelation(path) {
			f.Kind = physical.KindRelation
		}
		if _, ok := pgdata.IncrementalOf(path); ok && n > 0 {
			f.Kind = physical.KindIncremental
		}
		if slices.Contains(m.kept, path) {
			f.Kind, content = physical.KindKept, nil
		}
		for len(content) > 0 {
			part := content[:1+rng.IntN(len(content))]
			content = content[len(part):]
			if strings.Trim(string(part), "\x00") == "" && rng.IntN(2) == 0 {
				f.Extents = append(f.Extents, physical.Extent{Chunk: physical.Hole, Bytes: int64(len(part))})
				continue
			}
			plain := slices.Concat([]byte("other file's"), part, []byte("and another's"))
			sum := sha256.Sum256(plain)
			hash := hex.EncodeToString(sum[:])
			c := physical.Chunk{ID: chunks, Pack: "pack-0001", Offset: int64(pack.Len()), StoredBytes: int64(len(plain)), SHA256: hash, PlainBytes: int64(len(plain)), PlainSHA256: hash}
			if err := w.Chunk(c); err != nil {
				t.Fatal(err)
			}
			pack.Write(plain)
			f.Extents = append(f.Extents, physical.Extent{Chunk: chunks, Offset: 12, Bytes: int64(len(part))})
			chunks++
		}
		if err := w.File(f); err != nil {
			t.Fatal(err)
		}
	}
	if p.Files, p.PlainBytes, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct {
		role pgmedic.ObjectRole
		data []byte
	}{"pack-0001": {pgmedic.RolePack, pack.Bytes()}, "files.ndjson": {pgmedic.RoleFiles, list.Bytes()}} {
		sum := sha256.Sum256(o.data)
		b.Objects = append(b.Objects, pgmedic.Object{Name: name, Role: o.role, StoredBytes: int64(len(o.data)), PlainBytes: int64(len(o.data)), SHA256: hex.EncodeToString(sum[:])})
		if _, err := s.Put(t.Context(), catalog.Key(b, name), bytes.NewReader(o.data)); err != nil {
			t.Fatal(err)
		}
	}
	return physical.Source{Store: s, Backup: b}
}

func newStore(t *testing.T) store.Store {
	t.Helper()
	s, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// incrementalFile makes a file as basebackup.c does.
func incrementalFile(length uint32, blocks []uint32, content []byte) []byte {
	b := []byte{0x0d, 0x1f, 0xae, 0xd3}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(blocks)))
	b = binary.LittleEndian.AppendUint32(b, length)
	for _, n := range blocks {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	for len(blocks) > 0 && int64(len(b))%madeSizes.BlockBytes != 0 {
		b = append(b, 0)
	}
	return append(b, content...)
}

// readAll returns the files that a Source has.
func readAll(ctx context.Context, s physical.Source) (files map[string][]byte, err error) {
	list, closer, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	chunks, known := s.Chunks(), map[int64]physical.Chunk{}
	defer chunks.Close()
	files = map[string][]byte{}
	for {
		e, err := list.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if e.Chunk != nil {
			known[e.Chunk.ID] = *e.Chunk
			continue
		}
		content := []byte{}
		for _, x := range e.File.Extents {
			if x.Chunk == physical.Hole {
				content = append(content, make([]byte, x.Bytes)...)
				continue
			}
			plain, err := chunks.Read(ctx, known[x.Chunk])
			if err != nil {
				return nil, err
			}
			content = append(content, plain[x.Offset:x.Offset+x.Bytes]...)
		}
		if _, twice := files[e.File.Path]; twice || int64(len(content)) != e.File.SizeBytes {
			return nil, fmt.Errorf("%s is there twice, or has %d bytes of %d", e.File.Path, len(content), e.File.SizeBytes)
		}
		files[e.File.Path] = content
	}
}

// TestMergeSources merges chains of random files and compares them with what pgdata.Merge says
// of each, block by block.
func TestMergeSources(t *testing.T) {
	for seed := range uint64(testkit.Amount(8, 60, 400)) {
		rng := rand.New(rand.NewPCG(seed, 5))
		n := 2 + rng.IntN(3)
		chain := make([]made, n) // the full one first
		for i := range chain {
			chain[i].files = map[string][]byte{"PG_VERSION": []byte("17\n"), fmt.Sprintf("only-%d", i): {byte(i)}, "backup_label": []byte("START WAL LOCATION: x\n")}
			if i > 0 {
				chain[i].files["backup_label"] = fmt.Appendf(nil, "START WAL LOCATION: %d\nINCREMENTAL FROM LSN: 0/1\nINCREMENTAL FROM TLI: 1\n", i)
			}
		}
		want := map[string][]byte{}
		for number := range uint32(6) {
			path := fmt.Sprintf("base/5/%d", 100+number)
			switch rng.IntN(4) {
			case 0:
				path += "_vm"
			case 1:
				path += ".1"
			}
			randomVersions(rng, chain, path, want)
		}
		last := n - 1
		for path, content := range chain[last].files {
			if _, incremental := pgdata.IncrementalOf(path); !incremental && want[path] == nil {
				want[path] = content
			}
		}
		want["backup_label"] = fmt.Appendf(nil, "START WAL LOCATION: %d\n", last)
		s := newStore(t)
		members := make([]physical.Source, n)
		for i, m := range chain {
			slices.SortFunc(m.cuts, pgmedic.CompareTruncations)
			members[last-i] = m.put(t, s, rng, i)
		}
		merged, closer, err := merge.Chain(t.Context(), t.TempDir(), members)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 2 { // it can be read again
			got, err := readAll(t.Context(), merged)
			if err != nil || len(got) != len(want) || merged.Backup.Physical.Files != int64(len(want)) {
				t.Fatalf("seed %d: %d files of %d, %v", seed, len(got), len(want), err)
			}
			for path, content := range want {
				if !bytes.Equal(got[path], content) {
					t.Fatalf("seed %d: %s is not what the versions say: %d bytes, want %d", seed, path, len(got[path]), len(content))
				}
			}
		}
		if p := merged.Backup.Physical; p.Kind != pgmedic.PhysicalFull || p.Parent != "" || len(merged.Members()) != n {
			t.Errorf("seed %d: the merged backup is %+v", seed, p)
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
}

// keptChain is one of three whose files were read by SQL, the full one first.
func keptChain() []made {
	page := func(text string) []byte {
		return append([]byte(text), make([]byte, int(madeSizes.BlockBytes)-len(text))...)
	}
	return []made{
		{bySQL: true, files: map[string][]byte{"base/5/100": page("a"), "base/5/200": page("b"), "base/5/300": page("c"), "backup_label": []byte("0\n")}},
		{bySQL: true, files: map[string][]byte{"base/5/100": page("a"), "base/5/200": page("b, changed"), "base/5/400": page("d"), "backup_label": []byte("1\n")}, kept: []string{"base/5/100"}},
		{bySQL: true, files: map[string][]byte{"base/5/100": page("a"), "base/5/200": page("b, changed"), "base/5/300": page("c, made again"), "base/5/400": page("d, changed"), "backup_label": []byte("2\n")},
			kept: []string{"base/5/100", "base/5/200"}},
	}
}

// TestMergeKept: files that a backup names only have the bytes of the newest before it that has read
// them.
func TestMergeKept(t *testing.T) {
	s, chain := newStore(t), keptChain()
	var members []physical.Source
	for i, m := range chain {
		members = append([]physical.Source{m.put(t, s, rand.New(rand.NewPCG(uint64(i), 2)), i)}, members...)
	}
	merged, closer, err := merge.Chain(t.Context(), t.TempDir(), members)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closer.Close() }()
	got, err := readAll(t.Context(), merged)
	if err != nil || !maps.EqualFunc(got, chain[2].files, bytes.Equal) || merged.Backup.Physical.PlainBytes != 4*madeSizes.BlockBytes+2 {
		t.Errorf("%d files, %d bytes, %v", len(got), merged.Backup.Physical.PlainBytes, err)
	}
	page := make([]byte, madeSizes.BlockBytes)
	for name, c := range map[string]struct {
		change func(chain []made)
		tamper func(members []physical.Source)
		says   string
	}{
		"a file that the parent lacks":           {change: func(c []made) { delete(c[1].files, "base/5/200") }, says: `"base/5/200" is not in backup ` + madeID(1)},
		"one that the full backup lacks":         {change: func(c []made) { delete(c[0].files, "base/5/100") }, says: `"base/5/100" is not in backup ` + madeID(0)},
		"one of another size":                    {change: func(c []made) { c[0].files["base/5/100"] = slices.Concat(page, page) }, says: `"base/5/100" is not in backup ` + madeID(0)},
		"a full backup that names a file only":   {change: func(c []made) { c[0].kept = []string{"base/5/100"} }, says: "in a backup that is full"},
		"a parent that was sent as a stream":     {change: func(c []made) { c[0].bySQL = false }, says: "only one of them was read by SQL"},
		"a server that was restarted":            {tamper: func(m []physical.Source) { m[0].Backup.Physical.SQL.ServerStartedAt = time.Unix(1, 0) }, says: "restarted"},
		"a clock that was set back":              {tamper: func(m []physical.Source) { m[0].Backup.Physical.SQL.ClockAt = m[2].Backup.Physical.SQL.ClockAt }, says: "set back"},
		"a parent of which the clock is unknown": {tamper: func(m []physical.Source) { m[1].Backup.Physical.SQL.ClockAt = nil }, says: "set back"},
	} {
		chain, s := keptChain(), newStore(t)
		if c.change != nil {
			c.change(chain)
		}
		var members []physical.Source
		for i, m := range chain {
			members = append([]physical.Source{m.put(t, s, rand.New(rand.NewPCG(uint64(i), 3)), i)}, members...)
		}
		if c.tamper != nil {
			c.tamper(members)
		}
		_, _, err := merge.Chain(t.Context(), t.TempDir(), members)
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// randomVersions gives the members of a chain versions of a file, and enters what they make.
func randomVersions(rng *rand.Rand, chain []made, path string, want map[string][]byte) {
	block := int(madeSizes.BlockBytes)
	var layers []pgdata.Layer // newest first
	var contents [][]byte
	for i := range chain {
		blocks := uint32(rng.IntN(24))
		l := pgdata.Layer{Length: blocks, Whole: i == 0 || rng.IntN(4) == 0, Cut: pgdata.NoCut}
		count := int(blocks)
		if !l.Whole {
			for b := range uint32(24) {
				if rng.IntN(3) == 0 {
					l.Blocks = append(l.Blocks, b)
				}
			}
			count = len(l.Blocks)
		}
		content := make([]byte, count*block)
		for b := range count {
			if rng.IntN(4) > 0 {
				copy(content[b*block:], fmt.Sprintf("%s, member %d, block %d", path, i, b))
			}
		}
		if l.Whole {
			chain[i].files[path] = content
			layers, contents = nil, nil
		} else {
			chain[i].files[pgdata.IncrementalPath(path)] = incrementalFile(l.Length, l.Blocks, content)
			if space, database, number, ok := pgdata.MainFork(path); ok && rng.IntN(2) == 0 {
				cut := uint32(1 + rng.IntN(47))
				chain[i].cuts = append(chain[i].cuts, pgmedic.Truncation{Tablespace: space, Database: database, Relation: number, Block: cut})
				l.Cut = pgdata.CutOf(path, cut, madeSizes)
			}
		}
		layers, contents = slices.Insert(layers, 0, l), slices.Insert(contents, 0, content)
	}
	runs, err := pgdata.Merge(layers, pgdata.IsVisibilityMap(path), madeSizes)
	if err != nil {
		panic(err)
	}
	file := []byte{}
	for _, run := range runs {
		if run.Layer == pgdata.Zero {
			file = append(file, make([]byte, int(run.Count)*block)...)
			continue
		}
		file = append(file, contents[run.Layer][int(run.First)*block:int(run.First+run.Count)*block]...)
	}
	want[path] = file
}

// TestMergeRefusesSources: members that lack something, or are damaged, are refused in one line
// that says which.
func TestMergeRefusesSources(t *testing.T) {
	const path, changed = "base/5/100", "base/5/INCREMENTAL.100"
	page := make([]byte, madeSizes.BlockBytes)
	for name, c := range map[string]struct {
		change func(chain []made)
		tamper func(members []physical.Source)
		says   string
	}{
		"a file that the parent lacks":     {change: func(c []made) { delete(c[0].files, path) }, says: path + `" is not in backup ` + madeID(0)},
		"a file that is there in two ways": {change: func(c []made) { c[1].files[path] = page }, says: "whole and incremental"},
		"a damaged head":                   {change: func(c []made) { c[1].files[changed][0]++ }, says: "number 2 of a chain of 3"},
		"a file that is cut":               {change: func(c []made) { c[1].files[changed] = c[1].files[changed][:30] }, says: changed},
		"a label with lines between":       {change: func(c []made) { c[2].files["backup_label"] = []byte("INCREMENTAL FROM LSN: 0/1\nSTART\n") }, says: "backup_label"},
		"a label that is too large":        {change: func(c []made) { c[2].files["backup_label"] = make([]byte, 1<<20) }, says: "backup_label"},
		"another cluster":                  {tamper: func(m []physical.Source) { m[1].Backup.Server.SystemIdentifier = "78" }, says: "another cluster"},
		"out of order":                     {tamper: func(m []physical.Source) { m[0], m[1] = m[1], m[0] }, says: "chain"},
		"the list of another":              {tamper: func(m []physical.Source) { m[1].Backup.Objects = m[2].Backup.Objects }, says: "number 2 of a chain of 3"},
	} {
		chain := []made{
			{files: map[string][]byte{path: page, "backup_label": []byte("START\n")}},
			{files: map[string][]byte{changed: incrementalFile(1, []uint32{0}, page), "backup_label": []byte("START\nINCREMENTAL FROM LSN: 0/1\n")}},
			{files: map[string][]byte{changed: incrementalFile(1, nil, nil), "backup_label": []byte("START\nINCREMENTAL FROM LSN: 0/1\n")}},
		}
		if c.change != nil {
			c.change(chain)
		}
		s, rng := newStore(t), rand.New(rand.NewPCG(1, 1))
		members := []physical.Source{chain[2].put(t, s, rng, 2), chain[1].put(t, s, rng, 1), chain[0].put(t, s, rng, 0)}
		if c.tamper != nil {
			c.tamper(members)
		}
		_, _, err := merge.Chain(t.Context(), t.TempDir(), members)
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
