package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// forgedSeed makes the campaign's edits; PGMEDIC_FORGE_SEED is another one.
const forgedSeed = 20261122

// TestForgedStore makes random edits of what is stored, one after the other, of
// manifests, receipts, keys and objects, by somebody who can write to the store and
// has no key. Nothing that was edited is restored to anything but the rows that were
// backed up, none is called verified that does not restore to them, none is called
// proven that was not drilled, and no command takes more memory than it may.
//
// 20 edits are made, in make test-all 100, and in make chaos 1,000.
func TestForgedStore(t *testing.T) {
	edits := testkit.Amount(20, 60, 1000)
	seed := uint64(forgedSeed)
	if text := os.Getenv("PGMEDIC_FORGE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("PGMEDIC_FORGE_SEED: %v", err)
		}
	}
	t.Logf("PGMEDIC_FORGE_SEED=%d", seed)
	kinds := []forgedKind{
		{name: "parallel, age", settings: []string{"BACKUP_METHOD=parallel"}, age: true, share: 9},
		{name: "plain, age", settings: []string{"BACKUP_METHOD=plain"}, age: true, share: 4},
		{name: "plain, aes-256-cbc", settings: []string{"BACKUP_ENCRYPTION=aes-256-cbc", "BACKUP_ENCRYPTION_KEY=correct horse"}, share: 1},
		{name: "parallel, not encrypted", settings: []string{"BACKUP_METHOD=parallel"}, open: true, share: 4},
		{name: "plain, not encrypted", settings: []string{"BACKUP_METHOD=plain"}, open: true, share: 2},
	}
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			f := newForger(t, kind, rand.New(rand.NewPCG(seed, uint64(i))))
			for n := range edits * kind.share / 20 {
				f.trial(n)
			}
			t.Logf("edits of: %v; verify ended with: %v; %d restores", f.edited, f.verified, f.restored)
		})
	}
}

// forgedKind is a kind of backups that are edited.
type forgedKind struct {
	name     string
	settings []string
	// age is true of those that are encrypted to a key, open of those that are not
	// encrypted: then whoever can write to the store can write everything in it, and
	// only what contradicts itself can be found.
	age, open bool
	// share is how many of 20 edits are of this kind.
	share int
}

// forger edits a store.
type forger struct {
	*bench
	forgedKind
	rng *rand.Rand
	// id is the backup that is edited, other one that is not.
	id, other string
	rows      string // of the database when it was backed up
	ours      age.Recipient
	back      func()
	// rehashed is true of an edit that gave the manifest a hash.
	rehashed bool

	edited   map[string]int
	verified map[int]int
	restored int
}

func newForger(t *testing.T, kind forgedKind, rng *rand.Rand) *forger {
	f := &forger{forgedKind: kind, rng: rng, edited: map[string]int{}, verified: map[int]int{}}
	statements := []string{
		"CREATE TABLE public.patients AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 40) AS n",
		"CREATE TABLE public.visits AS SELECT n AS id, n % 7 AS patient, 'x'::text AS note FROM generate_series(1, 60) AS n",
		"CREATE TYPE public.kind AS ENUM ('a', 'b')", "CREATE TABLE public.kinds (k public.kind) PARTITION BY HASH (k)",
		"CREATE TABLE public.kinds_0 PARTITION OF public.kinds FOR VALUES WITH (modulus 1, remainder 0)", "INSERT INTO public.kinds VALUES ('a'), ('b')",
		"CREATE SEQUENCE public.numbers", "SELECT setval('public.numbers', 42)",
	}
	if kind.age {
		f.bench = sealedBench(t, statements...)
		identities, err := age.ParseIdentities(bytes.NewReader(readFile(t, filepath.Join(f.dir, "identity.txt"))))
		if err != nil {
			t.Fatal(err)
		}
		f.ours = identities[0].(*age.X25519Identity).Recipient()
	} else {
		f.bench = newBench(t, statements...)
	}
	f.env = append(f.env, kind.settings...)
	f.id = strings.TrimSpace(f.ok("backup", "-q"))
	f.rows = f.sum(f.database)
	f.ok("verify", f.id, "-q")
	mustExec(t, f.database, "UPDATE public.visits SET note = 'later'", "INSERT INTO public.patients VALUES (0, 'later')")
	f.other = strings.TrimSpace(f.ok("backup", "-q"))
	f.ok("drill", f.other, "-q", "--no-amcheck")
	f.back = f.keep()
	return f
}

// sum tells the rows of a database apart from others.
func (f *forger) sum(database string) string {
	return strings.Join(query(f.t, database, `SELECT md5(
		coalesce((SELECT string_agg(p::text, '|' ORDER BY p::text) FROM public.patients AS p), '') || '#' ||
		coalesce((SELECT string_agg(v::text, '|' ORDER BY v::text) FROM public.visits AS v), '') || '#' ||
		coalesce((SELECT string_agg(k::text, '|' ORDER BY k::text) FROM public.kinds AS k), '') || '#' ||
		(SELECT last_value FROM public.numbers))`), "")
}

// trial makes one edit and sees what the commands make of it.
func (f *forger) trial(n int) {
	t := f.t
	defer f.back()
	f.rehashed = false
	what := f.edit()
	f.edited[strings.SplitN(what, ":", 2)[0]]++
	state := f.listed(f.id)
	r := f.bounded("verify", f.id, "--json")
	f.verified[r.code]++
	fail := func(format string, args ...any) {
		t.Errorf("edit %d, %s: %s", n, what, fmt.Sprintf(format, args...))
	}
	if !slices.Contains([]int{0, 2, 10, 11, 12, 15}, r.code) {
		fail("verify ended with %d: %s", r.code, r.stderr)
	}
	if f.open && f.rehashed {
		f.refusedWithKeys(what)
	}
	if state == "proven" && !f.open {
		fail("it is listed as proven, and never was drilled")
	}
	verified := r.code == 0 && strings.Contains(r.stdout, `"proof": "verified"`)
	if !verified && n%4 != 0 { // most of what is refused here is refused there for the same reason
		return
	}
	copied := f.database + "_copy"
	restored := f.bounded("restore", f.id, "--into", copied, "-q")
	if len(databasesOf(t, copied)) > 0 {
		defer dropAll(t, copied)
	}
	switch {
	case restored.code == 0 || restored.code == 15:
		f.restored++
		if got := f.sum(copied); got != f.rows && (!f.open || !f.rehashed) {
			fail("restored to other rows")
		}
	case verified && !f.open:
		fail("verified, and restore ended with %d: %s", restored.code, restored.stderr)
	case len(databasesOf(t, copied)) > 0:
		fail("restore ended with %d and left a database", restored.code)
	}
	if n%3 != 0 {
		return
	}
	if after := f.listed(f.id); after == "proven" && !f.open {
		fail("afterwards it is listed as proven")
	}
}

// refusedWithKeys runs the commands on a host that has keys.
func (f *forger) refusedWithKeys(what string) {
	f.t.Helper()
	keyed := *f.bench
	keyed.env = append(slices.Clone(f.env), "BACKUP_ENCRYPTION_KEY=correct horse")
	for _, args := range [][]string{{"verify", f.id}, {"restore", f.id, "--into", f.database + "_keyed"}} {
		if r := keyed.run(args...); r.code != 11 && r.code != 10 && r.code != 2 {
			f.t.Errorf("%s: with keys %s ended with %d: %s", what, args[0], r.code, r.stderr)
		}
	}
	if len(databasesOf(f.t, f.database+"_keyed")) > 0 {
		f.t.Errorf("%s: with keys there is a database", what)
	}
}

// edit makes one random edit, and says which.
func (f *forger) edit() string {
	for {
		kinds := []func() string{f.editManifest, f.editManifest, f.editManifest, f.editReceipt, f.editReceipt, f.editBytes, f.editBytes, f.editFiles, f.editFolder}
		if f.age {
			kinds = append(kinds, f.editKeys, f.editKeys)
		}
		if what := kinds[f.rng.IntN(len(kinds))](); what != "" {
			return what
		}
	}
}

// editManifest changes the JSON of the manifest, and gives it its hash.
func (f *forger) editManifest() string {
	path := filepath.Join(f.folder(f.id), "manifest.json")
	doc, theirs := f.parse(path), f.parse(filepath.Join(f.folder(f.other), "manifest.json"))
	what := f.editJSON(doc, theirs)
	if f.rng.IntN(2) == 0 {
		what += ", " + f.editJSON(doc, theirs)
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		f.t.Fatal(err)
	}
	setManifest(f.t, f.folder(f.id), data)
	f.rehashed = true
	return "manifest: " + what
}

func (f *forger) parse(path string) map[string]any {
	f.t.Helper()
	doc := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(readFile(f.t, path)))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		f.t.Fatal(err)
	}
	return doc
}

// place is a value in a document, with what holds it.
type place struct {
	name string
	get  func() any
	set  func(any)
	drop func()
}

// places are all values of a document.
func places(v any, name string, set func(any)) (all []place) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			put := func(n any) { v[k] = n }
			all = append(all, place{name + "." + k, func() any { return v[k] }, put, func() { delete(v, k) }})
			all = append(all, places(v[k], name+"."+k, put)...)
		}
	case []any:
		for i := range v {
			put := func(n any) { v[i] = n }
			all = append(all, place{fmt.Sprintf("%s[%d]", name, i), func() any { return v[i] }, put, func() { set(slices.Delete(slices.Clone(v), i, i+1)) }})
			all = append(all, places(v[i], fmt.Sprintf("%s[%d]", name, i), put)...)
		}
	}
	return all
}

// editJSON makes one structural edit of a document, with values of another one.
func (f *forger) editJSON(doc, theirs map[string]any) string {
	all := places(doc, "", nil)
	p := all[f.rng.IntN(len(all))]
	switch f.rng.IntN(6) {
	case 0:
		p.drop()
		return p.name + " dropped"
	case 1:
		others := places(theirs, "", nil)
		from := others[f.rng.IntN(len(others))]
		for _, o := range others { // most often the same field
			if o.name == p.name && f.rng.IntN(3) > 0 {
				from = o
			}
		}
		p.set(from.get())
		return p.name + " is the other's " + from.name
	case 2:
		if list, ok := p.get().([]any); ok && len(list) > 0 {
			i, j := f.rng.IntN(len(list)), f.rng.IntN(len(list))
			if f.rng.IntN(2) == 0 {
				list[i], list[j] = list[j], list[i]
				return p.name + " swapped"
			}
			p.set(append(slices.Clone(list), list[i]))
			return p.name + " repeated"
		}
	}
	value := f.another(p.get())
	p.set(value)
	return fmt.Sprintf("%s = %.40q", p.name, fmt.Sprint(value))
}

// another is a value in the place of one.
func (f *forger) another(v any) any {
	pick := func(values ...any) any { return values[f.rng.IntN(len(values))] }
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return pick(0, -1, 1, n+1, n-1, 2*n, -n, int64(1)<<62, json.Number("9223372036854775807"), json.Number("1e400"), "1", nil)
	case string:
		flipped := []byte(v)
		if len(flipped) > 0 {
			flipped[f.rng.IntN(len(flipped))] ^= 1
		}
		return pick("", string(flipped), v+"x", "..", "../"+f.other, strings.ToUpper(v), "none", "plain", strings.Repeat("x", 5000), "\x1b]0;x\x07", 7, nil, []any{v})
	case bool:
		return pick(!v, nil, "true")
	}
	return pick(nil, map[string]any{}, []any{}, 0, "x")
}

// editReceipt forges what is said of the backup.
func (f *forger) editReceipt() string {
	mine, theirs := f.receipts(f.id), f.receipts(f.other)
	if len(mine) == 0 || len(theirs) == 0 {
		return ""
	}
	path := mine[f.rng.IntN(len(mine))]
	switch f.rng.IntN(4) {
	case 0:
		doc := f.parse(path)
		what := f.editJSON(doc, f.parse(theirs[0]))
		return "receipt: " + what + f.putJSON(path, doc)
	case 1: // the other's drill, of this one
		drill := theirs[f.rng.IntN(len(theirs))]
		doc := f.parse(drill)
		doc["backup_id"] = f.id
		return "receipt: the other's" + f.putJSON(filepath.Join(filepath.Dir(path), filepath.Base(drill)), doc)
	case 2:
		doc := f.parse(path)
		doc["kind"], doc["proof"], doc["outcome"], doc["at"] = "drill", "proven", "ok", "2036-01-01T00:00:00Z"
		return "receipt: from the future" + f.putJSON(filepath.Join(filepath.Dir(path), "20360101T000000.000000000Z-drill.json"), doc)
	}
	put(f.t, path, nil)
	return "receipt: deleted"
}

func (f *forger) receipts(id string) []string {
	found, _ := filepath.Glob(filepath.Join(f.folder(id), "receipts", "*.json"))
	return found
}

func (f *forger) putJSON(path string, doc map[string]any) string {
	f.t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		f.t.Fatal(err)
	}
	put(f.t, path, data)
	return ""
}

// files are all that is stored of the backup, but what carries no weight.
func (f *forger) files(id string) []string {
	var all []string
	folder := f.folder(id)
	for _, pattern := range []string{"*", "keys/*"} {
		found, _ := filepath.Glob(filepath.Join(folder, pattern))
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				all = append(all, path)
			}
		}
	}
	return all
}

// editBytes changes some bytes of a file, as it is or with the hash that the
// manifest has of it.
func (f *forger) editBytes() string {
	files := f.files(f.id)
	path := files[f.rng.IntN(len(files))]
	data := bytes.Clone(readFile(f.t, path))
	var how string
	switch f.rng.IntN(4) {
	case 0:
		data, how = data[:f.rng.IntN(len(data)+1)], "cut"
	case 1:
		data, how = append(data, byte(f.rng.IntN(256))), "longer"
	default:
		if len(data) == 0 {
			return ""
		}
		data[f.rng.IntN(len(data))] ^= 1 << f.rng.IntN(8)
		how = "flipped"
	}
	put(f.t, path, data)
	if f.rng.IntN(2) == 0 {
		f.rehash(filepath.Base(path), data)
		how += ", with its hash"
	}
	return "bytes: " + filepath.Base(path) + " " + how
}

// rehash gives an object's entry in the manifest the size and the hash that it has.
func (f *forger) rehash(name string, data []byte) {
	doc := map[string]any{}
	path := filepath.Join(f.folder(f.id), "manifest.json")
	if json.Unmarshal(readFile(f.t, path), &doc) != nil {
		return
	}
	objects, _ := doc["objects"].([]any)
	for _, o := range objects {
		if o, ok := o.(map[string]any); ok && o["name"] == name {
			o["stored_bytes"], o["sha256"] = len(data), hexHash(data)
			changed, err := json.Marshal(doc)
			if err != nil {
				f.t.Fatal(err)
			}
			setManifest(f.t, f.folder(f.id), changed)
			f.rehashed = true
		}
	}
}

// editFiles removes, adds and swaps whole files.
func (f *forger) editFiles() string {
	files := f.files(f.id)
	path := files[f.rng.IntN(len(files))]
	name, _ := filepath.Rel(f.folder(f.id), path)
	switch f.rng.IntN(4) {
	case 0:
		put(f.t, path, nil)
		return "files: " + name + " removed"
	case 1:
		data, err := os.ReadFile(filepath.Join(f.folder(f.other), name))
		if err != nil {
			return ""
		}
		put(f.t, path, data)
		if f.rng.IntN(2) == 0 {
			f.rehash(name, data)
		}
		return "files: " + name + " is the other's"
	case 2:
		with := files[f.rng.IntN(len(files))]
		one, two := readFile(f.t, path), readFile(f.t, with)
		put(f.t, path, two)
		put(f.t, with, one)
		return "files: " + name + " and " + filepath.Base(with) + " swapped"
	}
	put(f.t, path+".more", readFile(f.t, path))
	return "files: one more, of " + name
}

// editFolder puts the other backup in the place of this one.
func (f *forger) editFolder() string {
	folder := f.folder(f.id)
	keys := f.rng.IntN(2) == 0
	for _, path := range f.files(f.other) {
		name, _ := filepath.Rel(f.folder(f.other), path)
		if keys || !strings.HasPrefix(name, "keys") {
			put(f.t, filepath.Join(folder, name), readFile(f.t, path))
		}
	}
	if f.rng.IntN(2) == 0 {
		return "folder: the other's as it is"
	}
	doc := f.parse(filepath.Join(folder, "manifest.json"))
	doc["id"] = f.id
	if f.open {
		// All of an unencrypted backup can be forged, and then it is another one.
		return "folder: the other's as it is"
	}
	data, err := json.Marshal(doc)
	if err != nil {
		f.t.Fatal(err)
	}
	setManifest(f.t, folder, data)
	return "folder: the other's with this id"
}

// editKeys adds and removes ways to open the backup.
func (f *forger) editKeys() string {
	keys := filepath.Join(f.folder(f.id), "keys")
	found, _ := filepath.Glob(filepath.Join(keys, "*"))
	one := found[f.rng.IntN(len(found))]
	switch f.rng.IntN(4) {
	case 0:
		other, err := age.GenerateX25519Identity()
		if err != nil {
			f.t.Fatal(err)
		}
		var wrap bytes.Buffer
		w, err := age.Encrypt(&wrap, f.ours)
		if err != nil {
			f.t.Fatal(err)
		}
		_, _ = w.Write([]byte(other.String() + "\n"))
		if err := w.Close(); err != nil {
			f.t.Fatal(err)
		}
		name := filepath.Join(keys, "aaa.age")
		if f.rng.IntN(2) == 0 {
			name = one
		}
		put(f.t, name, wrap.Bytes())
		return "keys: another key, as " + filepath.Base(name)
	case 1:
		put(f.t, filepath.Join(keys, "zzz.age"), bytes.Repeat([]byte("x"), f.rng.IntN(100_000)))
		return "keys: noise"
	case 2:
		for _, path := range found {
			put(f.t, path, nil)
		}
		return "keys: none"
	}
	data := bytes.Clone(readFile(f.t, one))
	data[f.rng.IntN(len(data))] ^= 1 << f.rng.IntN(8)
	put(f.t, one, data)
	return "keys: " + filepath.Base(one) + " flipped"
}
