package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// setManifest puts a manifest's bytes in its place, with their hash.
func setManifest(t *testing.T, folder string, data []byte) {
	t.Helper()
	sum := sha256.Sum256(data)
	put(t, filepath.Join(folder, "manifest.json"), data)
	put(t, filepath.Join(folder, "manifest.json.sha256"), []byte(hex.EncodeToString(sum[:])+"  manifest.json\n"))
}

// forge changes a manifest, and gives it its hash.
func (b *bench) forge(id string, change func(*pgmedic.Backup)) {
	b.t.Helper()
	m := b.manifest(id)
	change(m)
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		b.t.Fatal(err)
	}
	setManifest(b.t, b.folder(id), data)
}

// keep returns a function that puts the store back as it is now.
func (b *bench) keep() (restore func()) {
	b.t.Helper()
	kept := filepath.Join(b.dir, "kept")
	copyTree(b.t, b.store, kept)
	return func() {
		if err := os.RemoveAll(b.store); err != nil {
			b.t.Fatal(err)
		}
		copyTree(b.t, kept, b.store)
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			err = os.WriteFile(filepath.Join(to, rel), data, 0o600)
		}
		if err == nil { // which proof is later is told by it
			err = os.Chtimes(filepath.Join(to, rel), info.ModTime(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// bounded is run that fails the test where the program takes more memory than it
// may.
func (b *bench) bounded(args ...string) result {
	b.t.Helper()
	c := b.start(args...)
	peak := c.seenResident()
	r := c.wait(3 * time.Minute)
	if resident := peak(); resident > maxResident {
		b.t.Errorf("pgmedic %s had %d MiB resident, more than %d", strings.Join(args, " "), resident>>20, maxResident>>20)
	}
	return r
}

// listed is what list says of one backup: its proof, or damaged, or nothing.
func (b *bench) listed(id string) string {
	b.t.Helper()
	var listing struct {
		Backups []struct {
			ID    string
			Proof struct {
				State   string
				Claimed bool
			}
		}
		Damaged []struct{ ID string }
	}
	r := b.bounded("list", "--json")
	if r.code != 0 || json.Unmarshal([]byte(r.stdout), &listing) != nil {
		b.t.Errorf("list: exit code %d\n%s", r.code, r.stderr)
	}
	for _, d := range listing.Damaged {
		if d.ID == id {
			return "damaged"
		}
	}
	for _, e := range listing.Backups {
		switch {
		case e.ID == id && e.Proof.Claimed:
			return "claimed: " + e.Proof.State
		case e.ID == id:
			return e.Proof.State
		}
	}
	return ""
}

// TestUnencryptedForgery puts an unencrypted forgery in the place of an encrypted
// backup. No host that has anything to do with encrypted ones takes it.
func TestUnencryptedForgery(t *testing.T) {
	b := sealedBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	sealed := slices.Clone(b.env)
	plain := b.within(t)
	plain.store = filepath.Join(b.dir, "forged")
	plain.env = plain.environ("DATABASE_URL="+server.URL(b.database), "BACKUP_DIR="+plain.store)
	mustExec(t, b.database, "UPDATE public.patients SET id = -id")
	forged := strings.TrimSpace(plain.ok("backup", "-q"))
	m, v := plain.manifest(forged), b.manifest(id)
	m.ID, m.StartedAt, m.SnapshotAt, m.FinishedAt, m.Server, m.Host = v.ID, v.StartedAt, v.SnapshotAt, v.FinishedAt, v.Server, v.Host
	folder := b.folder(id)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	copyTree(t, plain.folder(forged), folder)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	setManifest(t, folder, data)
	before := databasesOf(t, b.database)
	file, recipients := "", ""
	for _, v := range sealed {
		if strings.HasPrefix(v, "PGMEDIC_IDENTITY_FILES=") {
			file = v
		}
		if strings.HasPrefix(v, "BACKUP_RECIPIENTS=") {
			recipients = v
		}
	}
	for name, means := range map[string]string{"identity files only": file, "recipients only": recipients, "a passphrase": "BACKUP_ENCRYPTION_KEY=correct horse"} {
		t.Run(name, func(t *testing.T) {
			b := b.within(t)
			b.env = b.environ("DATABASE_URL="+server.URL(b.database), means)
			for _, args := range [][]string{
				{"verify", id}, {"drill", id}, {"restore", id, "--into", b.database + "_copy"}, {"restore", "latest", "--swap", "--yes"},
				{"restore", id, "--table", "public.patients"}, {"copy", id, "--to", filepath.Join(b.dir, "copied")},
			} {
				r := b.run(args...)
				b.wantRefused(r, before, 11)
				if !strings.Contains(r.stderr, "is not encrypted") {
					t.Errorf("pgmedic %s says %s", args[0], r.stderr)
				}
			}
			if state := b.listed(id); state != "taken" {
				t.Errorf("listed as %s", state)
			}
		})
	}
	if copied, _ := filepath.Glob(filepath.Join(b.dir, "copied", "*", "*", "*", "manifest.json")); len(copied) > 0 {
		t.Errorf("copied %q", copied)
	}
	// A host of none of these takes it, and so does one that is told to.
	b.env = append(b.environ("DATABASE_URL="+server.URL(b.database)), file)
	b.ok("verify", id, "--allow-unencrypted")
	b.ok("restore", id, "--into", b.database+"_copy", "--allow-unencrypted")
	if state := b.listed(id); state != "intact" {
		t.Errorf("after it was verified it is listed as %s", state)
	}
}

// TestIdentityOnlyHost: a host with nothing but identity files can read the safety
// backup that its own swap takes.
func TestIdentityOnlyHost(t *testing.T) {
	b := sealedBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	b.env = slices.DeleteFunc(b.env, func(v string) bool { return strings.HasPrefix(v, "BACKUP_RECIPIENTS=") })
	b.ok("restore", id, "--swap", "--yes", "-q")
	var listing struct {
		Backups []struct{ ID, Purpose, Encryption string }
	}
	if err := json.Unmarshal([]byte(b.ok("list", "--json")), &listing); err != nil {
		t.Fatal(err)
	}
	if len(listing.Backups) != 2 || listing.Backups[0].Purpose != "safety" || listing.Backups[0].Encryption != "age" {
		t.Fatalf("%+v", listing)
	}
	b.ok("verify", listing.Backups[0].ID)
	if r := b.run("verify", "latest", "-q"); r.code != 0 || strings.TrimSpace(r.stdout) != id {
		t.Errorf("latest: %d %s", r.code, r.stdout+r.stderr)
	}
}

// TestAddedKeys adds wraps that fit nothing. None keeps a backup from being opened,
// each is named, and none is shown as opening it.
func TestAddedKeys(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	b := sealedBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	keys := filepath.Join(b.folder(id), "keys")
	identities, err := age.ParseIdentities(bytes.NewReader(readFile(t, filepath.Join(b.dir, "identity.txt"))))
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var fitsUs bytes.Buffer
	w, err := age.Encrypt(&fitsUs, identities[0].(*age.X25519Identity).Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, other.String()+"\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(keys, "aaa.age"), fitsUs.Bytes())
	put(t, filepath.Join(keys, "aab.age"), []byte("age-encryption.org/v1\n-> X25519 "+strings.Repeat("A", 70_000)))
	put(t, filepath.Join(keys, "aac.age"), []byte("age-encryption.org/v1\n-> scrypt bBjlhJVYZeE4aqUdmtRHfw 30\n/TNZzSpBBXtJ4ctMbbhKpbFZTqVyZGIyzdGmcqAVSMg\n--- 0000000000000000000000000000000000000000000\n"))
	put(t, filepath.Join(keys, "aad.age"), []byte{})
	put(t, filepath.Join(keys, "aae.age"), []byte("\x1b]0;PWN\x07"))
	for i := range 2000 {
		put(t, filepath.Join(keys, fmt.Sprintf("b%05d.age", i)), fitsUs.Bytes()[:200])
	}
	// One that comes first by its name, under the name of one that this host has.
	for _, args := range [][]string{{"verify", id}, {"restore", id, "--into", b.database + "_copy"}, {"drill", id}, {"copy", id, "--to", filepath.Join(b.dir, "copied")}} {
		if r := b.bounded(args...); r.code != 0 {
			t.Errorf("pgmedic %s: exit code %d\n%s", args[0], r.code, r.stderr)
		}
	}
	if state := b.listed(id); state != "proven" {
		t.Errorf("listed as %s", state)
	}
	list := b.ok("keys", "list", id)
	opens := 0
	for line := range strings.Lines(list) {
		if strings.Contains(line, " yes ") {
			opens++
		}
	}
	for _, want := range []string{"no: does not fit the manifest", "no: larger than a key", "no: more than 256 keys"} {
		if !strings.Contains(list, want) {
			t.Errorf("keys list does not say %q:\n%.2000s", want, list)
		}
	}
	if opens != 1 || strings.Contains(list, "\x1b]") {
		t.Errorf("%d keys open it:\n%.2000s", opens, list)
	}

	// Where ours is gone, the others are named, and what is left is not a success.
	for _, path := range globbed(t, filepath.Join(keys, "recipient-*")) {
		put(t, path, nil)
	}
	r := b.run("verify", id)
	if r.code != 11 || !strings.Contains(r.stderr, "aaa (does not fit the manifest)") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}

func globbed(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %q %v", pattern, found, err)
	}
	return found
}

// TestForgedReceipts: what is said of an encrypted backup by who can't open it
// proves nothing to the host that can.
func TestForgedReceipts(t *testing.T) {
	b := sealedBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	other := strings.TrimSpace(b.ok("backup", "-q"))
	b.ok("drill", other, "-q")
	theirs := globbed(t, filepath.Join(b.folder(other), "receipts", "*-drill-*.json"))[0]
	receipt := strings.ReplaceAll(string(readFile(t, theirs)), other, id)
	receipts := filepath.Join(b.folder(id), "receipts")
	if err := os.MkdirAll(receipts, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(receipts, filepath.Base(theirs)), []byte(receipt)) // with another's authentication
	put(t, filepath.Join(receipts, "20260101T000000.000000000Z-drill.json"), []byte(receipt))
	put(t, filepath.Join(receipts, "20360101T000000.000000000Z-drill.json"), []byte(strings.Replace(receipt, `"at": "20`, `"at": "21`, 1)))
	if state := b.listed(id); state != "taken" {
		t.Errorf("with the key it is listed as %s", state)
	}
	if out := b.ok("show", id); strings.Count(out, "(not authenticated)") != 2 || strings.Count(out, "(from the future)") != 1 || strings.Contains(out, "recovers in") {
		t.Errorf("show says\n%s", out)
	}
	if state := b.listed(other); state != "proven" {
		t.Errorf("the other one is listed as %s", state)
	}
	keyless := b.within(t)
	keyless.env = b.environ()
	if state, theirs := keyless.listed(id), keyless.listed(other); state != "claimed: proven" || theirs != "claimed: proven" {
		t.Errorf("without a key they are listed as %s and %s", state, theirs)
	}
	if out := keyless.ok("list"); !strings.Contains(out, "claimed: proven") {
		t.Errorf("list says\n%s", out)
	}
	// A failure outlasts what is said of the future.
	pack := filepath.Join(b.folder(other), "pack-0001")
	good := readFile(t, pack)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	put(t, pack, bad)
	if r := b.run("verify", other); r.code != 11 {
		t.Errorf("verify: %d", r.code)
	}
	put(t, pack, good)
	if state := b.listed(other); state != "failed" {
		t.Errorf("after damage it is listed as %s", state)
	}
	b.ok("drill", other, "-q")
	if state := b.listed(other); state != "proven" {
		t.Errorf("after another drill it is listed as %s", state)
	}
}

// TestPassphraseOnlyHost: a host with nothing but a passphrase is told of the newest
// backups who wrote their receipts, and of each by show.
func TestPassphraseOnlyHost(t *testing.T) {
	testkit.OnlyAll(t, "it takes long")
	for _, encryption := range testkit.Pick(t.Name(), testkit.Amount(0, 1, 2), []string{"age", "aes-256-cbc"}) {
		t.Run(encryption, func(t *testing.T) {
			b := newBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
			b.env = append(b.env, "BACKUP_ENCRYPTION_KEY=correct horse", "BACKUP_ENCRYPTION="+encryption)
			var ids []string
			for range 5 {
				ids = append(ids, strings.TrimSpace(b.ok("backup", "-q")))
				b.ok("verify", ids[len(ids)-1], "-q")
			}
			if first, last := b.listed(ids[0]), b.listed(ids[4]); first != "claimed: verified" || last != "verified" {
				t.Errorf("the oldest is listed as %s, the newest as %s", first, last)
			}
			if out := b.ok("list"); !strings.Contains(out, "of 1 more") {
				t.Errorf("list says\n%s", out)
			}
			if out := b.ok("show", ids[0]); !strings.Contains(out, "verified") || strings.Contains(out, "claimed") {
				t.Errorf("show says\n%s", out)
			}
		})
	}
}

// TestBombs stores what takes far more to read than it takes to write. No command
// needs much memory for it, the backup is damaged, and all others are as they were.
func TestBombs(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	b.env = append(b.env, "BACKUP_METHOD=parallel")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	other := strings.TrimSpace(b.ok("backup", "-q"))
	back := b.keep()
	before := databasesOf(t, b.database)
	repeat := func(item string, mib int) string {
		return strings.Repeat(item+",", mib<<20/(len(item)+1)) + item
	}
	list := func(name, item string, mib int) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			m := b.manifest(id)
			m.Tables, m.Chunks = nil, nil
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSuffix(string(data), "}") + `,"` + name + `":[` + repeat(item, mib) + "]}"
			setManifest(t, b.folder(id), []byte(text))
		}
	}
	object := func(role pgmedic.ObjectRole, begin, item string, mib int) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) { b.bomb(id, role, begin, item, mib) }
	}
	type bomb struct {
		set func(*testing.T, *bench)
		// verifies is true of what is no worse than strange to verify.
		verifies bool
	}
	for name, test := range testkit.Some(t, 3, map[string]bomb{
		"a manifest of chunks":        {list("chunks", "{}", 60), false},
		"a manifest of tables":        {list("tables", "{}", 60), false},
		"a manifest of parts":         {list("chunks", `{"parts":[`+repeat("{}", 40)+"]}", 1), false},
		"a manifest of empty lists":   {list("x", "[]", 60), false},
		"a manifest that is larger":   {list("x", "[]", 70), false},
		"an inventory of zeros":       {object(pgmedic.RoleInventory, "", "\x00", 100), true},
		"an inventory of definitions": {object(pgmedic.RoleInventory, `{"format":2,"definitions":[{}`, ",{}", 100), true},
		"an inventory of one name":    {object(pgmedic.RoleInventory, `{"format":2,"definitions":[{"kind":"`, "x", 100), true},
		"an inventory that is larger": {object(pgmedic.RoleInventory, "", "\x00", 200), true},
		"definitions of zeros":        {object(pgmedic.RoleSchema, "", "\x00", 200), true},
		"definitions that are larger": {object(pgmedic.RoleSchema, "PGDMP", "\x00", 300), true},
		"globals of words":            {object(pgmedic.RoleGlobals, "", "a ", 40), true},
		"globals of statements":       {object(pgmedic.RoleGlobals, "", "CREATE ROLE a;", 40), true},
		"globals that are larger":     {object(pgmedic.RoleGlobals, "", "\n", 200), true},
	}) {
		t.Run(name, func(t *testing.T) {
			b := b.within(t)
			defer back()
			test.set(t, b)
			want := "taken"
			if !test.verifies {
				want = "damaged"
			}
			if state := b.listed(id); state != want {
				t.Errorf("listed as %q, want %q", state, want)
			}
			if r := b.bounded("verify", id); (r.code == 0) != test.verifies || r.code != 0 && r.code != 11 {
				t.Errorf("verify: exit code %d\n%s", r.code, r.stderr)
			}
			args := []string{"restore", id, "--into", b.database + "_copy"}
			if strings.HasPrefix(name, "globals") {
				args = append(args, "--globals", "--dry-run")
			}
			r := b.bounded(args...)
			if name == "an inventory of definitions" { // too many to be compared is said to be so
				if r.code != 0 || !strings.Contains(r.stdout, "too many to be compared") {
					t.Errorf("restore: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
				}
				mustExec(t, "postgres", "DROP DATABASE "+b.database+"_copy")
			} else if r.code != 11 {
				t.Errorf("restore: exit code %d\n%s", r.code, r.stderr)
			}
			if after := databasesOf(t, b.database); !slices.Equal(after, before) {
				t.Errorf("databases are %q", after)
			}
			if r := b.bounded("verify", other); r.code != 0 {
				t.Errorf("the other backup: exit code %d\n%s", r.code, r.stderr)
			}
		})
	}
}

// bomb puts an object in the place of one: a beginning, and so many MiB of items.
func (b *bench) bomb(id string, role pgmedic.ObjectRole, begin, item string, mib int) {
	t := b.t
	t.Helper()
	b.forge(id, func(m *pgmedic.Backup) {
		for i := range m.Objects {
			o := &m.Objects[i]
			if o.Role != role {
				continue
			}
			var stored bytes.Buffer
			w, err := zstd.NewWriter(&stored, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
			if err != nil {
				t.Fatal(err)
			}
			piece := strings.Repeat(item, 1<<20/len(item))
			_, _ = io.WriteString(w, begin)
			for range mib {
				_, _ = io.WriteString(w, piece)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(stored.Bytes())
			o.StoredBytes, o.SHA256 = int64(stored.Len()), hex.EncodeToString(sum[:])
			o.PlainBytes = int64(len(begin) + mib*len(piece))
			put(t, filepath.Join(b.folder(id), o.Name), stored.Bytes())
		}
	})
}

// TestStoreGone: what can't be read is not damaged.
func TestStoreGone(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.patients AS SELECT n AS id, repeat(md5(n::text), 50) AS name FROM generate_series(1, 60000) AS n")
	b.env = append(b.env, "BACKUP_METHOD=plain", "BACKUP_COMPRESSION=none")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	for _, gone := range []string{b.store, b.folder(id)} {
		back := b.keep()
		c := b.start("restore", id, "--into", b.database+"_copy")
		testkit.Eventually(t, time.Minute, "a copy is made", func() bool { return len(databasesOf(t, b.database)) > 1 })
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
		// It may have opened all that it needs.
		if r := c.wait(2 * time.Minute); r.code != 12 && r.code != 0 && r.code != 15 {
			t.Errorf("without %s: exit code %d\n%s", gone, r.code, r.stderr)
		} else if r.code != 12 {
			mustExec(t, "postgres", "DROP DATABASE "+b.database+"_copy")
		}
		back()
	}
}

func hexHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// TestContradictions gives manifests a hash that fits, and has them say what no
// backup does. Every command calls that damage.
func TestContradictions(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.patients AS SELECT n AS id FROM generate_series(1, 10) AS n")
	b.env = append(b.env, "BACKUP_METHOD=parallel")
	id := strings.TrimSpace(b.ok("backup", "-q"))
	manifest, before := readFile(t, filepath.Join(b.folder(id), "manifest.json")), databasesOf(t, b.database)
	role := func(m *pgmedic.Backup, role pgmedic.ObjectRole) *pgmedic.Object {
		i := slices.IndexFunc(m.Objects, func(o pgmedic.Object) bool { return o.Role == role })
		return &m.Objects[i]
	}
	without := func(m *pgmedic.Backup, role pgmedic.ObjectRole) {
		m.Objects = slices.DeleteFunc(m.Objects, func(o pgmedic.Object) bool { return o.Role == role })
	}
	for name, change := range testkit.Some(t, 8, map[string]func(*pgmedic.Backup){
		"rows of a table":         func(m *pgmedic.Backup) { m.Tables[0].Rows = 5 },
		"no chunks":               func(m *pgmedic.Backup) { m.Chunks = nil },
		"no chunks and no rows":   func(m *pgmedic.Backup) { m.Chunks, m.Tables[0].Rows = nil, 0 },
		"a chunk twice":           func(m *pgmedic.Backup) { m.Chunks, m.Tables[0].Rows = append(m.Chunks, m.Chunks[0]), 20 },
		"a chunk of no pack":      func(m *pgmedic.Backup) { m.Chunks[0].Pack = "pack-0009" },
		"a pack outside":          func(m *pgmedic.Backup) { m.Chunks[0].Pack = "../../../../../etc/passwd" },
		"an object outside":       func(m *pgmedic.Backup) { role(m, pgmedic.RoleSchema).Name = "../../../../../etc/passwd" },
		"an object from the root": func(m *pgmedic.Backup) { role(m, pgmedic.RoleSchema).Name = "/etc/passwd" },
		"no inventory":            func(m *pgmedic.Backup) { without(m, pgmedic.RoleInventory) },
		"no pack":                 func(m *pgmedic.Backup) { without(m, pgmedic.RolePack) },
		"no definitions":          func(m *pgmedic.Backup) { without(m, pgmedic.RoleSchema) },
		"no objects":              func(m *pgmedic.Backup) { m.Objects = nil },
		"definitions twice":       func(m *pgmedic.Backup) { role(m, pgmedic.RoleGlobals).Role = pgmedic.RoleSchema },
		"an unknown role":         func(m *pgmedic.Backup) { role(m, pgmedic.RoleRecovery).Role = "x" },
		"nothing":                 func(m *pgmedic.Backup) { m.Chunks, m.Tables = nil, nil },
		"encryption AGE":          func(m *pgmedic.Backup) { m.Seal.Encryption = "AGE" },
		"no encryption":           func(m *pgmedic.Backup) { m.Seal.Encryption = "" },
		"an unknown compression":  func(m *pgmedic.Backup) { m.Seal.Compression = "lzma" },
		"an unknown method":       func(m *pgmedic.Backup) { m.Method = "physical" },
		"a negative format":       func(m *pgmedic.Backup) { m.Format = -1 },
		"a size that is negative": func(m *pgmedic.Backup) { role(m, pgmedic.RoleSchema).StoredBytes = -5 },
		"a size that overflows":   func(m *pgmedic.Backup) { role(m, pgmedic.RoleSchema).PlainBytes = 1<<63 - 1 },
		"a chunk before its pack": func(m *pgmedic.Backup) { m.Chunks[0].Offset = -100 },
		"a chunk that overflows":  func(m *pgmedic.Backup) { m.Chunks[0].Offset, m.Chunks[0].StoredBytes = 1<<62, 1<<62 },
		"a part of no table":      func(m *pgmedic.Backup) { m.Chunks[0].Parts[0].Table = -1 },
		"parts that overflow":     func(m *pgmedic.Backup) { m.Chunks[0].Parts[0].PlainBytes = 1<<63 - 1 },
	}) {
		t.Run(name, func(t *testing.T) {
			b := b.within(t)
			defer setManifest(t, b.folder(id), manifest)
			b.forge(id, change)
			if state := b.listed(id); state != "damaged" {
				t.Errorf("listed as %s", state)
			}
			commands := [][]string{{"verify", id}}
			if strings.HasPrefix(name, "a") { // the others are refused at the same place
				commands = append(commands, []string{"drill", id}, []string{"restore", id, "--into", b.database + "_copy"}, []string{"restore", id, "--swap", "--yes"},
					[]string{"restore", id, "--table", "public.patients"}, []string{"copy", id, "--to", filepath.Join(b.dir, "copied")}, []string{"show", id})
			}
			for _, args := range commands {
				b.wantRefused(b.run(args...), before, 11)
			}
		})
	}
	b.ok("verify", id)
}
