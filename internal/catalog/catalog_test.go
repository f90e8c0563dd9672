package catalog_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
)

// fixture is a catalogue in a folder that tests may damage.
type fixture struct {
	*catalog.Catalog
	dir string
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return fixture{catalog.New(s), dir}
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// backup returns a backup with one object, the n-th since noon.
func backup(n int) *pgmedic.Backup {
	at := noon.Add(time.Duration(n) * time.Minute)
	return &pgmedic.Backup{
		Format: pgmedic.ManifestFormat, ID: at.Format("20060102T150405Z") + fmt.Sprintf("-00000%x", n), Purpose: pgmedic.PurposeRegular,
		Method: pgmedic.MethodPlain, StartedAt: at, SnapshotAt: at, FinishedAt: at.Add(time.Second),
		Server: pgmedic.Server{Name: "main", VersionNum: 150018}, Database: pgmedic.Database{Name: "shop"},
		Seal: pgmedic.Seal{Compression: "gzip", Encryption: "none"},
		Objects: []pgmedic.Object{
			object("dump.sql.gz", pgmedic.RoleDump, 4), object("globals.sql.gz", pgmedic.RoleGlobals, 1), object("inventory.json.gz", pgmedic.RoleInventory, 1),
		},
	}
}

// object is one of so many x.
func object(name string, role pgmedic.ObjectRole, size int) pgmedic.Object {
	sum := sha256.Sum256([]byte(strings.Repeat("x", size)))
	return pgmedic.Object{Name: name, Role: role, StoredBytes: int64(size), SHA256: hex.EncodeToString(sum[:])}
}

func (f fixture) put(t *testing.T, key, text string) {
	t.Helper()
	if _, err := f.Store().Put(t.Context(), key, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func (f fixture) putObjects(t *testing.T, b *pgmedic.Backup) {
	t.Helper()
	for _, o := range b.Objects {
		f.put(t, catalog.Key(b, o.Name), strings.Repeat("x", int(o.StoredBytes)))
	}
}

// commit stores the backup's objects and commits it.
func (f fixture) commit(t *testing.T, b *pgmedic.Backup) *pgmedic.Backup {
	t.Helper()
	f.putObjects(t, b)
	if err := f.Commit(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// file is where one of a backup's objects is.
func (f fixture) file(b *pgmedic.Backup, name string) string {
	return filepath.Join(f.dir, filepath.FromSlash(catalog.Key(b, name)))
}

// overwrite puts other bytes into a file, as damage does.
func overwrite(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces a manifest and gives it the right hash.
func (f fixture) rewrite(t *testing.T, b *pgmedic.Backup, manifest []byte) {
	t.Helper()
	sum := sha256.Sum256(manifest)
	overwrite(t, f.file(b, "manifest.json"), func([]byte) []byte { return manifest })
	overwrite(t, f.file(b, "manifest.json.sha256"), func([]byte) []byte {
		return []byte(hex.EncodeToString(sum[:]) + "  manifest.json\n")
	})
}

func (f fixture) list(t *testing.T, filter catalog.Filter) catalog.Listing {
	t.Helper()
	l, err := f.List(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ids(l catalog.Listing) string {
	var all []string
	for _, e := range l.Entries {
		all = append(all, e.Backup.ID)
	}
	return strings.Join(all, " ")
}

func TestNewID(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	seen := map[string]bool{}
	for range 100 {
		id := catalog.NewID(time.Date(2026, 1, 2, 0, 30, 59, 999, berlin))
		if !regexp.MustCompile(`^20260101T233059Z-[0-9a-f]{6}$`).MatchString(id) {
			t.Fatalf("got %s", id)
		}
		seen[id] = true
	}
	if len(seen) < 99 {
		t.Errorf("%d of 100 ids are different", len(seen))
	}
}

func TestEscapeName(t *testing.T) {
	for name, want := range map[string]string{
		"shop": "shop", "a.b-c_D9": "a.b-c_D9", "..": "%2E.", ".hidden": "%2Ehidden", "a/b": "a%2Fb", `a\b`: "a%5Cb",
		"a b": "a%20b", "%41": "%2541", "é": "%C3%A9", "a\x00\n": "a%00%0A", "": "", ".pgmedic-tmp-x": "%2Epgmedic-tmp-x",
	} {
		if got := catalog.EscapeName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func FuzzEscapeName(f *testing.F) {
	f.Add("a", "a%")
	f.Add("a/b", "a%2Fb")
	f.Add(".", "..")
	f.Add("\xff", "\xfe")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := catalog.EscapeName(a), catalog.EscapeName(b)
		if (x == y) != (a == b) {
			t.Errorf("%q and %q become %q and %q", a, b, x, y)
		}
		// 63 bytes are what a database's name can have.
		if key := "s/" + x; a != "" && len(a) <= 63 && store.CheckKey(key) != nil || strings.Count(key, "/") != 1 {
			t.Errorf("%q is no segment: %v", x, store.CheckKey(key))
		}
	})
}

func TestCommit(t *testing.T) {
	f := newFixture(t)
	b := backup(1)
	b.Database.Name = "our shop/é"
	f.commit(t, b)
	e, err := f.Get(t.Context(), b.ID, catalog.Filter{Server: "main", Database: "our shop/é"})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(e.Backup)
	want, _ := json.Marshal(b)
	if string(got) != string(want) {
		t.Errorf("committed %s\nread %s", want, got)
	}
}

func TestCommitRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*testing.T, fixture, *pgmedic.Backup)
		kind    pgmedic.Kind
	}{
		"an object is missing":   {func(*testing.T, fixture, *pgmedic.Backup) {}, pgmedic.KindNotFound},
		"an object is too short": {func(t *testing.T, f fixture, b *pgmedic.Backup) { f.put(t, catalog.Key(b, "dump.sql.gz"), "xxx") }, pgmedic.KindIntegrity},
		"an object is too long":  {func(t *testing.T, f fixture, b *pgmedic.Backup) { f.put(t, catalog.Key(b, "dump.sql.gz"), "xxxxx") }, pgmedic.KindIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			f, b := newFixture(t), backup(1)
			test.prepare(t, f, b)
			if err := f.Commit(t.Context(), b, nil); pgmedic.KindOf(err) != test.kind || !strings.Contains(err.Error(), "dump.sql.gz") {
				t.Errorf("%s: %v", pgmedic.KindOf(err), err)
			}
			if l := f.list(t, catalog.Filter{}); len(l.Entries) != 0 || len(l.Damaged) != 0 {
				t.Errorf("it is listed: %+v", l)
			}
		})
	}
}

// TestCommitChecks: a manifest that contradicts itself is a fault of whoever made it,
// and not committed.
func TestCommitChecks(t *testing.T) {
	f, b := newFixture(t), backup(1)
	f.putObjects(t, b)
	b.Tables = []pgmedic.Table{{Schema: "public", Name: "a", Rows: -1}}
	if err := f.Commit(t.Context(), b, nil); pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(pgmedic.HintOf(err), "report it") {
		t.Errorf("%s: %v", pgmedic.KindOf(err), err)
	}
	if l := f.list(t, catalog.Filter{}); len(l.Entries) != 0 || len(l.Damaged) != 0 {
		t.Errorf("it is listed: %+v", l)
	}
}

func TestCommitNeverOverwrites(t *testing.T) {
	f := newFixture(t)
	b := f.commit(t, backup(1))
	other := backup(1)
	other.Host = "another"
	if err := f.Commit(t.Context(), other, nil); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("%s: %v", pgmedic.KindOf(err), err)
	}
	e, err := f.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil || e.Backup.Host != "" {
		t.Errorf("%v %+v", err, e.Backup)
	}
}

// failing is a store that loses its connection when a manifest is put.
type failing struct {
	store.Store
	name string
}

func (s failing) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	if strings.HasSuffix(key, s.name) {
		return store.Object{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "connection lost")
	}
	return s.Store.Put(ctx, key, r)
}

// TestCommitInterrupted: wherever a commit ends early, the backup does not exist.
func TestCommitInterrupted(t *testing.T) {
	for _, name := range []string{"/manifest.json", "/manifest.json.sha256"} {
		t.Run(name, func(t *testing.T) {
			f, b := newFixture(t), backup(1)
			f.putObjects(t, b)
			if err := catalog.New(failing{f.Store(), name}).Commit(t.Context(), b, nil); pgmedic.KindOf(err) != pgmedic.KindUnreachable {
				t.Errorf("%s: %v", pgmedic.KindOf(err), err)
			}
			l := f.list(t, catalog.Filter{})
			if len(l.Entries)+len(l.Damaged) != 0 || len(l.Orphans) != 1 || l.Orphans[0].ID != b.ID || l.Orphans[0].SizeBytes < 4 || l.Orphans[0].NewestAt.IsZero() {
				t.Errorf("listed %+v", l)
			}
			if _, err := f.Get(t.Context(), b.ID, catalog.Filter{}); pgmedic.KindOf(err) != pgmedic.KindNotFound || !strings.Contains(err.Error(), "never finished") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// unlistable is a store that can't be listed, as one is that knows no order.
type unlistable struct{ store.Store }

func (unlistable) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		yield(store.Object{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "objects out of order"))
	}
}

// TestCommitUnlistable: a backup that could not be found again is none.
func TestCommitUnlistable(t *testing.T) {
	f, b := newFixture(t), backup(1)
	f.putObjects(t, b)
	err := catalog.New(unlistable{f.Store()}).Commit(t.Context(), b, nil)
	if pgmedic.KindOf(err) != pgmedic.KindUnreachable || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("%s: %v", pgmedic.KindOf(err), err)
	}
	if l := f.list(t, catalog.Filter{}); len(l.Entries) != 0 {
		t.Errorf("listed %+v", l.Entries)
	}
}

func TestListCancelled(t *testing.T) {
	f := newFixture(t)
	f.commit(t, backup(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.List(ctx, catalog.Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestForgotten: a backup that was read and is no longer used takes no memory, however
// many are read one after the other; one that is still used stays known.
func TestForgotten(t *testing.T) {
	f := newFixture(t)
	const backups = 5
	for n := range backups {
		f.commit(t, backup(n))
	}
	read := func(n int) *pgmedic.Backup {
		e, err := f.Get(t.Context(), backup(n).ID, catalog.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		return e.Backup
	}
	used := read(0)
	var unused [backups]weak.Pointer[pgmedic.Backup]
	for n := 1; n < backups; n++ {
		unused[n] = weak.Make(read(n))
	}
	runtime.GC()
	for n, pointer := range unused {
		if pointer.Value() != nil {
			t.Errorf("backup %d is kept", n)
		}
	}
	for f.Remembered() != 1 && t.Context().Err() == nil && !t.Failed() { // the hashes go after the backups
		runtime.GC()
	}
	overwrite(t, f.file(used, "manifest.json"), func(b []byte) []byte { return append(b, ' ') })
	if _, err := f.Manifest(t.Context(), used); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("the one that is used was forgotten: %v", err)
	}
}
