package catalog_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/store"
)

// packed returns a backup of some packs whose hashes are right, stored with keys,
// a receipt and somebody else's file beside it.
func (f fixture) packed(t *testing.T, n int) *pgmedic.Backup {
	t.Helper()
	b := backup(n)
	b.Objects = nil
	b.Method, b.Seal = pgmedic.MethodParallel, pgmedic.Seal{Compression: "zstd", Encryption: "age"}
	for name, role := range map[string]pgmedic.ObjectRole{"schema": pgmedic.RoleSchema, "globals": pgmedic.RoleGlobals, "inventory": pgmedic.RoleInventory} {
		f.put(t, catalog.Key(b, name), name)
		sum := sha256.Sum256([]byte(name))
		b.Objects = append(b.Objects, pgmedic.Object{Name: name, Role: role, StoredBytes: int64(len(name)), SHA256: hex.EncodeToString(sum[:])})
	}
	for i := range 5 {
		data := strings.Repeat(fmt.Sprintf("pack %d of %d ", i, n), 1000*(i+1))
		sum := sha256.Sum256([]byte(data))
		o := pgmedic.Object{Name: fmt.Sprintf("pack-%04d", i+1), Role: pgmedic.RolePack, StoredBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
		f.put(t, catalog.Key(b, o.Name), data)
		b.Objects = append(b.Objects, o)
	}
	for _, name := range []string{"one", "two"} {
		if err := f.AddKey(t.Context(), b, name, []byte("wrapped for "+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(t.Context(), b, func([]byte) (string, error) { return "code", nil }); err != nil {
		t.Fatal(err)
	}
	f.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptVerify, 1)
	f.put(t, catalog.Key(b, "notes.txt"), "somebody else's")
	return b
}

func (f fixture) receipt(t *testing.T, b *pgmedic.Backup, o pgmedic.Outcome, kind pgmedic.ReceiptKind, after int) {
	t.Helper()
	r := &pgmedic.Receipt{Format: 1, Kind: kind, BackupID: b.ID, At: noon.Add(time.Duration(after) * time.Hour), Outcome: o, Proof: pgmedic.ProofVerified}
	if kind == pgmedic.ReceiptDrill {
		r.Proof = pgmedic.ProofProven
	}
	if err := f.AddReceipt(t.Context(), b, r, nil); err != nil {
		t.Fatal(err)
	}
}

// files returns the contents of all files below a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(name)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (f fixture) copyTo(t *testing.T, to fixture, b *pgmedic.Backup) (catalog.Copied, error) {
	t.Helper()
	return f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: b})
}

func TestCopyTo(t *testing.T) {
	from, to := newFixture(t), newFixture(t)
	b := from.packed(t, 1)
	from.receipt(t, b, pgmedic.OutcomeFailed, pgmedic.ReceiptVerify, 2)
	from.receipt(t, b, pgmedic.OutcomeFailed, pgmedic.ReceiptDrill, 3)
	var events []pgmedic.Event
	copied, err := from.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: b, Progress: func(e pgmedic.Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	want := files(t, from.dir)
	// All but what is not pgmedic's, and what tells of the bytes over there.
	maps.DeleteFunc(want, func(name, text string) bool {
		return strings.HasSuffix(name, "notes.txt") || strings.Contains(text, `"verify"`) && strings.Contains(text, `"failed"`)
	})
	if got := files(t, to.dir); !maps.Equal(got, want) {
		t.Errorf("copied %q\nwant %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if copied.Copied != len(want) || copied.Kept != 0 {
		t.Errorf("said %+v of %d", copied, len(want))
	}
	if last := events[len(events)-1]; !last.Finished || last.DoneBytes != b.StoredBytes() || last.TotalBytes != b.StoredBytes() {
		t.Errorf("the last event is %+v", last)
	}
	again, err := from.copyTo(t, to, b)
	if err != nil || again.Copied != 0 || again.Kept == 0 {
		t.Errorf("a second time: %+v %v", again, err)
	}
	entry, err := to.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil || entry.Keys != 2 || len(entry.Receipts) != 2 {
		t.Errorf("the copy has %d keys, %d receipts: %v", entry.Keys, len(entry.Receipts), err)
	}

	// Later: a new way to open it there comes along, the copy's own stay, and so
	// does a receipt.
	if err := from.AddKey(t.Context(), b, "three", []byte("wrapped for three")); err != nil {
		t.Fatal(err)
	}
	overwrite(t, to.file(b, "keys/one.age"), func([]byte) []byte { return []byte("wrapped for one, over there") })
	from.receipt(t, b, pgmedic.OutcomeFailed, pgmedic.ReceiptDrill, 4)
	// What is found good there must not take back what may be found bad here.
	from.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptDrill, 5)
	from.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptVerify, 6)
	more, err := from.copyTo(t, to, b)
	if err != nil || more.Copied != 2 {
		t.Errorf("what came later: %+v %v", more, err)
	}
	if got := files(t, to.dir)[catalog.Key(b, "keys/one.age")]; got != "wrapped for one, over there" {
		t.Errorf("the copy's own key is %q", got)
	}
}

// cutStore fails the n-th Put of its copy, as a network that goes away.
type cutStore struct {
	store.Store
	mu   sync.Mutex
	left int
	put  []string
}

var errCut = errors.New("cut off")

func (s *cutStore) Put(ctx context.Context, key string, r io.Reader) (store.Object, error) {
	s.mu.Lock()
	s.left--
	cut := s.left < 0
	s.mu.Unlock()
	if cut {
		return store.Object{}, pgmedic.Errorf(pgmedic.KindUnreachable, "", "put %s: %w", key, errCut)
	}
	o, err := s.Store.Put(ctx, key, r)
	if err == nil {
		s.mu.Lock()
		s.put = append(s.put, key)
		s.mu.Unlock()
	}
	return o, err
}

// TestCopyResumes cuts a copy off after each of its objects: until the manifest
// is there no backup is, and the next run ends what is missing.
func TestCopyResumes(t *testing.T) {
	from := newFixture(t)
	b := from.packed(t, 1)
	const objects = 8 + 2 + 3 + 1 // objects, keys, manifest, receipt
	for n := range objects {
		to := newFixture(t)
		cut := &cutStore{Store: to.Store(), left: n}
		_, err := from.CopyTo(t.Context(), catalog.CopyOptions{To: catalog.New(cut), Backup: b, Jobs: 1})
		if !errors.Is(err, errCut) || pgmedic.KindOf(err) != pgmedic.KindUnreachable {
			t.Fatalf("cut after %d: %v", n, err)
		}
		if l := to.list(t, catalog.Filter{}); len(l.Entries) > 0 || len(l.Damaged) > 0 {
			t.Errorf("cut after %d: %d backups are listed", n, len(l.Entries))
		}
		copied, err := from.copyTo(t, to, b)
		if err != nil || copied.Copied != objects-n || copied.Kept != n {
			t.Errorf("cut after %d: the next run says %+v %v", n, copied, err)
		}
		if got, want := files(t, to.dir), files(t, from.dir); len(got) != len(want)-1 {
			t.Errorf("cut after %d: %d files of %d", n, len(got), len(want)-1)
		}
	}
	// In the order that makes a backup: packs, keys, receipts, manifest.
	to := newFixture(t)
	watch := &cutStore{Store: to.Store(), left: 100}
	if _, err := from.CopyTo(t.Context(), catalog.CopyOptions{To: catalog.New(watch), Backup: b}); err != nil {
		t.Fatal(err)
	}
	if at := slices.Index(watch.put, catalog.Key(b, "manifest.json")); at != objects-1 {
		t.Errorf("the manifest is number %d of %q", at+1, watch.put)
	}
}

// TestCopyConflicts: what is there under the name and is another is never
// overwritten, and no copy comes to exist on top of it.
func TestCopyConflicts(t *testing.T) {
	for name, test := range map[string]struct{ object, text string }{
		"another size":      {"pack-0002", "short"},
		"the same size":     {"pack-0001", ""},
		"another key":       {"keys/two.age", "planted"},
		"another hash":      {"manifest.json.sha256", "0000  manifest.json\n"},
		"another manifest":  {"manifest.json", "{}"},
		"another's receipt": {"receipts/20261122T130000.000000000Z-verify.json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newFixture(t), newFixture(t)
			b := from.packed(t, 1)
			text := test.text
			if text == "" {
				text = strings.Repeat("x", len(files(t, from.dir)[catalog.Key(b, test.object)]))
			}
			to.put(t, catalog.Key(b, test.object), text)
			_, err := from.copyTo(t, to, b)
			if name == "another's receipt" { // it carries no weight
				if err != nil {
					t.Fatal(err)
				}
			} else if pgmedic.KindOf(err) != pgmedic.KindConflict || !strings.Contains(err.Error(), test.object+" is there already") {
				t.Errorf("got %s: %v", pgmedic.KindOf(err), err)
			} else if l := to.list(t, catalog.Filter{}); len(l.Entries) > 0 {
				t.Error("the copy is listed")
			}
			if got := files(t, to.dir)[catalog.Key(b, test.object)]; got != text {
				t.Errorf("it was overwritten with %q", got)
			}
		})
	}
}

// TestCopyOfDamage: damage stays where it is.
func TestCopyOfDamage(t *testing.T) {
	for name, test := range map[string]struct {
		damage func([]byte) []byte
		object string
		want   string
	}{
		"a flipped bit":   {func(d []byte) []byte { d[7] ^= 1; return d }, "pack-0003", "recorded hash"},
		"cut":             {func(d []byte) []byte { return d[:10] }, "pack-0003", "bytes that the manifest says"},
		"longer":          {func(d []byte) []byte { return append(d, 'x') }, "pack-0003", "bytes that the manifest says"},
		"gone":            {nil, "pack-0003", "pack-0003 is missing"},
		"no code":         {nil, "manifest.json.hmac", "manifest.json.hmac is missing"},
		"a manifest's":    {func(d []byte) []byte { d[7] ^= 1; return d }, "manifest.json", "recorded hash"},
		"a missing hash":  {nil, "manifest.json.sha256", "hash is missing"},
		"another's bytes": {func(d []byte) []byte { return []byte(strings.Repeat("y", len(d))) }, "pack-0001", "recorded hash"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := newFixture(t), newFixture(t)
			b := from.packed(t, 1)
			if test.damage == nil {
				if err := os.Remove(from.file(b, test.object)); err != nil {
					t.Fatal(err)
				}
			} else {
				overwrite(t, from.file(b, test.object), test.damage)
			}
			_, err := from.copyTo(t, to, b)
			if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %s: %v", pgmedic.KindOf(err), err)
			}
			for file := range files(t, to.dir) {
				if strings.HasSuffix(file, test.object) || strings.HasSuffix(file, "manifest.json") {
					t.Errorf("%s was copied", file)
				}
			}
		})
	}
}

// TestCopyTwiceAtOnce: two runs make one copy.
func TestCopyTwiceAtOnce(t *testing.T) {
	from, to := newFixture(t), newFixture(t)
	b := from.packed(t, 1)
	var runs sync.WaitGroup
	for range 4 {
		runs.Go(func() {
			if _, err := from.copyTo(t, to, b); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if got := to.list(t, catalog.Filter{}); len(got.Entries) != 1 {
		t.Errorf("%d backups", len(got.Entries))
	}
}

func TestCopyInterrupted(t *testing.T) {
	from, to := newFixture(t), newFixture(t)
	b := from.packed(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	_, err := from.CopyTo(ctx, catalog.CopyOptions{To: to.Catalog, Backup: b, Jobs: 1, Progress: func(pgmedic.Event) { cancel(stopped) }})
	if !errors.Is(err, stopped) || pgmedic.KindOf(err) != pgmedic.KindInterrupted {
		t.Errorf("got %s: %v", pgmedic.KindOf(err), err)
	}
	if l := to.list(t, catalog.Filter{}); len(l.Entries) != 0 {
		t.Error("the copy is listed")
	}
}

func TestPresences(t *testing.T) {
	from, to := newFixture(t), newFixture(t)
	one, two := from.packed(t, 1), from.packed(t, 2)
	if _, err := from.copyTo(t, to, one); err != nil {
		t.Fatal(err)
	}
	to.put(t, catalog.Key(two, "pack-0001"), "begun")
	have, err := to.Presences(t.Context(), catalog.Filter{Server: "main"})
	if err != nil {
		t.Fatal(err)
	}
	for b, want := range map[*pgmedic.Backup]catalog.Presence{one: catalog.PresenceComplete, two: catalog.PresencePartial, backup(3): catalog.PresenceMissing} {
		if got := have.Of(catalog.Folder(b.Server.Name, b.Database.Name, b.ID)); got != want {
			t.Errorf("%s is %s, want %s", b.ID, got, want)
		}
	}
	if got := catalog.Presences(nil).Of("any"); got != catalog.PresenceUnknown {
		t.Errorf("of a store that was not read: %s", got)
	}
}
