package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schematest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// sealedBench is a bench whose backups are parallel, and encrypted to one key
// that it has and one that it has not.
func sealedBench(t *testing.T, statements ...string) *bench {
	t.Helper()
	b := newBench(t, statements...)
	ours, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.dir, "identity.txt")
	if err := os.WriteFile(file, []byte(ours.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "BACKUP_METHOD=parallel", "PGMEDIC_JOBS=2", "PGMEDIC_IDENTITY_FILES="+file,
		"BACKUP_RECIPIENTS="+ours.Recipient().String()+","+theirs.Recipient().String())
	return b
}

// folder is where a backup is, and manifest what it says.
func (b *bench) folder(id string) string {
	b.t.Helper()
	found, _ := filepath.Glob(filepath.Join(b.store, "*", "*", id))
	if len(found) != 1 {
		b.t.Fatalf("backup %s is in %q", id, found)
	}
	return found[0]
}

func (b *bench) manifest(id string) *pgmedic.Backup {
	b.t.Helper()
	m := &pgmedic.Backup{}
	text := readFile(b.t, filepath.Join(b.folder(id), "manifest.json"))
	schematest.Check(b.t, "manifest.schema.json", text)
	if err := json.Unmarshal(text, m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// put puts other bytes, or with nil nothing, in the place of a stored file.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if data == nil {
		return
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damagedRows are two tables in chunks of their own, in packs of their own
// workers' or in one, two that share a chunk, rows that stay with pg_dump, and a
// view.
func damagedRows() []string {
	return []string{
		"CREATE TABLE patients AS SELECT n AS id, repeat(md5(n::text), 15) AS name FROM generate_series(1, 3000) AS n",
		"CREATE TABLE visits AS SELECT n AS id, repeat(md5((n + 5000)::text), 15) AS name FROM generate_series(1, 3000) AS n",
		"CREATE TABLE wards AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 30) AS n",
		"CREATE TABLE beds AS SELECT n AS id, md5((n + 50)::text) AS name FROM generate_series(1, 30) AS n",
		"CREATE TYPE kind AS ENUM ('a', 'b')", "CREATE TABLE kinds (k kind) PARTITION BY HASH (k)",
		"CREATE TABLE kinds_0 PARTITION OF kinds FOR VALUES WITH (modulus 1, remainder 0)", "INSERT INTO kinds VALUES ('a'), ('b')",
		"CREATE VIEW everyone AS SELECT * FROM patients",
		"SELECT lo_from_bytea(0, 'x-ray')", "CREATE SEQUENCE s; SELECT setval('s', 42)",
	}
}

// wantRefused fails the test unless a run ended with one of the codes and a hint,
// and left no database.
func (b *bench) wantRefused(r result, databasesBefore []string, codes ...int) {
	b.t.Helper()
	if !slices.Contains(codes, r.code) || !strings.Contains(r.stderr, "error: ") {
		b.t.Errorf("exit code %d, want %d\n%s%s", r.code, codes, r.stdout, r.stderr)
	}
	if after := databasesOf(b.t, b.database); !slices.Equal(after, databasesBefore) {
		b.t.Errorf("databases are %q instead of %q", after, databasesBefore)
	}
}

// TestDamageParallel does to each object of a parallel, encrypted backup what a
// disk, a network or a person may do. None of it verifies, restores or is proven.
func TestDamageParallel(t *testing.T) {
	b := sealedBench(t, damagedRows()...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	mustExec(t, b.database, "INSERT INTO patients VALUES (-1, 'x')", "ALTER TABLE visits ADD more int")
	other := strings.TrimSpace(b.ok("backup", "-q"))
	b.ok("drill", id, "-q")
	folder, before := b.folder(id), databasesOf(t, b.database)
	objects := b.carried(id)
	if len(objects) < 9 {
		t.Fatalf("damaged are only %q", objects)
	}
	type damaged struct {
		damage
		object, path string
		good         []byte
	}
	var all []damaged
	for _, object := range objects {
		path := filepath.Join(folder, object)
		good := readFile(t, path)
		swapped := []byte(nil)
		if data, err := os.ReadFile(filepath.Join(b.folder(other), object)); err == nil {
			swapped = data
		}
		for _, d := range damages(good, swapped) {
			// What follows the hash in its line says nothing.
			if (strings.HasSuffix(object, ".sha256") || strings.HasSuffix(object, ".hmac")) && d.tail {
				continue
			}
			all = append(all, damaged{d, object, path, good})
		}
	}
	chosen := testkit.SomeOf(t, 12, all)
	if testkit.Rest() { // make chaos takes all
		chosen = testkit.Pick(t.Name(), 30, chosen)
	}
	for _, d := range chosen {
		t.Run(d.object+" "+d.name, func(t *testing.T) {
			b := b.within(t)
			defer put(t, d.path, d.good)
			put(t, d.path, d.data)
			code := 11
			switch {
			case d.object == "manifest.json" && d.data == nil:
				code = 10
			case strings.HasPrefix(d.object, "keys/") && d.data == nil:
				code = 2 // as after `keys remove`: another key still opens it
			}
			b.wantRefused(b.run("verify", id), before, code)
			if d.restore {
				b.wantRefused(b.run("restore", id, "--into", b.database+"_copy"), before, code)
			}
			if d.drill {
				b.wantRefused(b.run("drill", id), before, code)
			}
		})
	}
	b.ok("verify", id)
	b.ok("restore", id, "--into", b.database+"_copy", "-q")
	if got := query(t, b.database+"_copy", "SELECT count(*)::text FROM patients")[0]; got != "3000" {
		t.Errorf("%s patients in the copy", got)
	}
}

// carried are the objects of a backup that a restore on this bench relies on:
// all but the recovery files, receipts and the wraps for other people's keys.
func (b *bench) carried(id string) []string {
	b.t.Helper()
	folder := b.folder(id)
	objects := []string{"manifest.json", "manifest.json.sha256"}
	for _, o := range b.manifest(id).Objects {
		if o.Role != pgmedic.RoleRecovery {
			objects = append(objects, o.Name)
		}
	}
	wraps, _ := filepath.Glob(filepath.Join(folder, "keys", "*"))
	if len(wraps) == 0 {
		return objects
	}
	objects = append(objects, "manifest.json.hmac")
	ours, keys := hexName(b.t, b), 0
	for _, path := range wraps {
		if strings.Contains(path, ours) {
			keys++
			objects = append(objects, "keys/"+filepath.Base(path))
		}
	}
	if keys != 1 {
		b.t.Fatalf("%d of %q are wraps for the key of this bench", keys, wraps)
	}
	return objects
}

// hexName is a part of the name under which the key that the bench has is kept.
func hexName(t *testing.T, b *bench) string {
	t.Helper()
	var listed struct {
		Keys []struct {
			Name  string `json:"name"`
			Opens bool   `json:"opens"`
		} `json:"keys"`
	}
	out := b.ok("keys", "list", "--json")
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		t.Fatal(err)
	}
	for _, k := range listed.Keys {
		if k.Opens {
			return k.Name
		}
	}
	t.Fatalf("no key opens the backup here: %s", out)
	return ""
}

// within is the bench in a subtest.
func (b *bench) within(t *testing.T) *bench {
	copied := *b
	copied.t = t
	return &copied
}

type damage struct {
	name string
	data []byte
	// tail is true of what changes the end only.
	tail           bool
	restore, drill bool
}

func damages(good, swapped []byte) []damage {
	flipped := func(at int) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= 0x10
		return bad
	}
	all := []damage{
		{name: "cut", data: good[:len(good)/2]},
		{name: "cut by a byte", data: good[:len(good)-1], tail: true},
		{name: "empty", data: []byte{}},
		{name: "longer", data: append(bytes.Clone(good), 'x'), tail: true},
		{name: "first byte", data: flipped(0)},
		{name: "a quarter in", data: flipped(len(good) / 4)},
		{name: "middle", data: flipped(len(good) / 2), restore: true, drill: true},
		{name: "last byte", data: flipped(len(good) - 1), tail: true},
		{name: "removed", restore: true},
	}
	if swapped != nil {
		all = append(all, damage{name: "swapped", data: swapped, restore: true})
	}
	return all
}

// TestChunksMoved puts chunks in the place of others, in the packs, in the
// manifest, and in both, with a hash of the manifest that is right.
func TestChunksMoved(t *testing.T) {
	b := sealedBench(t, damagedRows()...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	folder, before, m := b.folder(id), databasesOf(t, b.database), b.manifest(id)
	if len(m.Chunks) < 2 {
		t.Fatalf("%d chunks", len(m.Chunks))
	}
	first, second := m.Chunks[0], m.Chunks[1]
	length := min(first.StoredBytes, second.StoredBytes)
	bytesOf := func(c pgmedic.Chunk) []byte {
		return bytes.Clone(readFile(t, filepath.Join(folder, c.Pack))[c.Offset : c.Offset+length])
	}
	write := func(t *testing.T, c pgmedic.Chunk, data []byte) {
		path := filepath.Join(folder, c.Pack)
		pack := readFile(t, path)
		copy(pack[c.Offset:], data)
		put(t, path, pack)
	}
	tamper := func(t *testing.T, change func(*pgmedic.Backup)) {
		forged := b.manifest(id)
		change(forged)
		data, err := json.MarshalIndent(forged, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		put(t, filepath.Join(folder, "manifest.json"), data)
		put(t, filepath.Join(folder, "manifest.json.sha256"), fmt.Appendf(nil, "%s  manifest.json\n", hex.EncodeToString(sum[:])))
	}
	for name, move := range map[string]func(t *testing.T){
		"swapped in the packs": func(t *testing.T) {
			one, two := bytesOf(first), bytesOf(second)
			write(t, first, two)
			write(t, second, one)
		},
		"one twice": func(t *testing.T) { write(t, second, bytesOf(first)) },
		"swapped in the manifest": func(t *testing.T) {
			tamper(t, func(m *pgmedic.Backup) {
				m.Chunks[0].Parts, m.Chunks[1].Parts = m.Chunks[1].Parts, m.Chunks[0].Parts
			})
		},
		"pointing elsewhere": func(t *testing.T) {
			tamper(t, func(m *pgmedic.Backup) {
				parts := m.Chunks[0].Parts // of as many bytes
				parts[0].PlainBytes = m.Chunks[1].PlainBytes
				m.Chunks[0] = m.Chunks[1]
				m.Chunks[0].Parts = parts
			})
		},
		"one left out": func(t *testing.T) {
			tamper(t, func(m *pgmedic.Backup) {
				for _, p := range m.Chunks[0].Parts {
					m.Tables[p.Table].Rows -= p.Rows
				}
				m.Chunks = m.Chunks[1:]
			})
		},
		"one listed twice": func(t *testing.T) {
			tamper(t, func(m *pgmedic.Backup) {
				for _, p := range m.Chunks[0].Parts {
					m.Tables[p.Table].Rows += p.Rows
				}
				m.Chunks = append(m.Chunks, m.Chunks[0])
			})
		},
		"outside of the pack": func(t *testing.T) { tamper(t, func(m *pgmedic.Backup) { m.Chunks[0].Offset = 1 << 40 }) },
		"of no pack":          func(t *testing.T) { tamper(t, func(m *pgmedic.Backup) { m.Chunks[0].Pack = "../pack-0001" }) },
		"of no table":         func(t *testing.T) { tamper(t, func(m *pgmedic.Backup) { m.Chunks[0].Parts[0].Table = -1 }) },
	} {
		t.Run(name, func(t *testing.T) {
			b := b.within(t)
			paths, err := filepath.Glob(filepath.Join(folder, "*"))
			if err != nil {
				t.Fatal(err)
			}
			good := map[string][]byte{}
			for _, path := range paths {
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					good[path] = readFile(t, path)
				}
			}
			defer func() {
				for path, data := range good {
					put(t, path, data)
				}
			}()
			move(t)
			b.wantRefused(b.run("verify", id), before, 11)
			b.wantRefused(b.run("restore", id, "--into", b.database+"_copy"), before, 11)
		})
	}
	b.ok("verify", id)
}

// TestWrongKey reads a backup with a key that does not open it, which says nothing
// about the backup.
func TestWrongKey(t *testing.T) {
	b := sealedBench(t, damagedRows()...)
	id := strings.TrimSpace(b.ok("backup", "-q"))
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(b.dir, "identity.txt"), []byte(stranger.String()+"\n"))
	before := databasesOf(t, b.database)
	for _, args := range [][]string{{"verify", id}, {"drill", id}, {"restore", id, "--into", b.database + "_copy"}, {"restore", id, "--swap", "--yes"}} {
		r := b.run(args...)
		b.wantRefused(r, before, 2)
		if !strings.Contains(r.stderr, "hint: ") || strings.Contains(r.stderr+r.stdout, stranger.String()) {
			t.Errorf("it says:\n%s", r.stderr)
		}
	}
}
