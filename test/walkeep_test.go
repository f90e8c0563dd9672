package test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// storedFiles are the files of a store whose paths have a part.
func storedFiles(t *testing.T, dir, part string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, part) {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestWALKept: base backups and WAL are copied, verified, held, and opened by new keys, as
// other backups are.
func TestWALKept(t *testing.T) {
	testkit.OnlyAll(t, "backups, copies and prune of two stores with WAL")
	b := newWALBench(t, 0)
	b.sql("INSERT INTO ledger SELECT g, repeat('x', 100) FROM generate_series(1, 20000) AS g")
	row, _ := b.physical(0)
	stored := b.store
	second := filepath.Join(b.tmp, "second")
	b.env = b.reader // which can open it

	// Where WAL can't be copied, no base backup is shown that needs it.
	if err := os.MkdirAll(filepath.Join(second, "clinic"), 0o755); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(second, "clinic", "@wal")
	if err := os.WriteFile(inTheWay, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := b.run("copy", row.ID, "--to", second); r.code == 0 || len(storedFiles(t, second, "manifest.json")) != 0 {
		t.Errorf("without its WAL: exit code %d, %v", r.code, storedFiles(t, second, ""))
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if out := b.ok("copy", row.ID, "--to", second); !strings.Contains(out, "WAL of clinic") {
		t.Errorf("copy says %s", out)
	}
	if out := b.ok("copy", "--all", "--to", second); !strings.Contains(out, "was whole") {
		t.Errorf("copy again says %s", out)
	}
	segments := storedFiles(t, second, "/seg/")
	if len(segments)+len(storedFiles(t, second, "/tail/")) == 0 || len(storedFiles(t, second, "@cluster/"+row.ID+"/manifest.json")) == 0 {
		t.Errorf("the copy has %v", storedFiles(t, second, ""))
	}
	if out := b.ok("verify", "--all", "--deep", "--store", second); strings.Count(out, "verified") != 2 {
		t.Errorf("verify of the copy says %s", out)
	}

	// A hold is for both stores' retention; here of the first.
	b.ok("hold", row.ID, "--reason", "case 118")
	if len(storedFiles(t, stored, "@cluster/"+row.ID+"/hold-")) != 1 {
		t.Error("the base backup has no hold")
	}
	b.ok("release", row.ID)

	// Another key opens the base backup and the WAL, and the old one no longer does.
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(b.tmp, "new-keys.txt")
	if err := os.WriteFile(keys, []byte(identity.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wraps := storedFiles(t, stored, "/keys/recipient-")
	from := strings.TrimSuffix(filepath.Base(wraps[0]), ".age")
	epochs := storedFiles(t, stored, "/epoch.json")
	epoch := filepath.Base(filepath.Dir(epochs[0]))
	if out := b.ok("keys", "list", epoch); !strings.Contains(out, from) || !strings.Contains(out, "yes") {
		t.Errorf("keys list of an epoch says %s", out)
	}
	b.ok("keys", "rotate", "--all", "--from", from, "--to", identity.Recipient().String(), "--yes")
	if left := storedFiles(t, stored, "/keys/"+from); len(left) != 0 || len(storedFiles(t, stored, "/keys/recipient-")) != len(wraps) {
		t.Errorf("the old key still opens %v", left)
	}
	if r := b.run("verify", "--all", "--deep"); r.code == 0 {
		t.Errorf("the old key still opens it: %s", r.stdout)
	}
	b.env = b.environ("PGMEDIC_SERVER=clinic", "PGMEDIC_IDENTITY_FILES="+keys)
	b.ok("verify", "--all", "--deep")
	if r := b.run("keys", "remove", epoch, "recipient-"+strings.TrimPrefix(strings.TrimSuffix(filepath.Base(storedFiles(t, stored, epoch+"/keys/")[0]), ".age"), "recipient-"), "--yes"); r.code != 14 {
		t.Errorf("the last key of an epoch is removed: exit code %d, %s", r.code, r.stderr)
	}

	// A wrap that somebody planted is not passed on.
	planted, err := seal.NewKey(identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := planted.Wrap(identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	own := storedFiles(t, stored, epoch+"/keys/")[0]
	content0 := readFile(t, own)
	if err := errors.Join(os.Remove(own), os.WriteFile(own, wrapped, 0o644)); err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if r := b.run("keys", "add", epoch, "--recipient", other.Recipient().String()); r.code != 11 || len(storedFiles(t, stored, epoch+"/keys/")) != 1 {
		t.Errorf("a planted key is passed on: exit code %d, %s", r.code, r.stderr)
	}
	if err := errors.Join(os.Remove(own), os.WriteFile(own, content0, 0o644)); err != nil {
		t.Fatal(err)
	}

	// Damage is found: by the listing what is missing, by opening what is changed.
	wal := storedFiles(t, stored, "/seg/")
	if len(wal) == 0 {
		wal = storedFiles(t, stored, "/tail/")
	}
	slices.Sort(wal)
	content := readFile(t, wal[0])
	if err := os.Chmod(wal[0], 0o644); err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(content)
	changed[len(changed)/2] ^= 1
	for name, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(wal[0], changed, 0o644) },
		"cut":     func() error { return os.WriteFile(wal[0], content[:len(content)/2], 0o644) },
		"empty":   func() error { return os.WriteFile(wal[0], nil, 0o644) },
		"removed": func() error { return os.Remove(wal[0]) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--all"}
		if name == "changed" || name == "cut" {
			args = append(args, "--deep")
		}
		if r := b.run(args...); r.code != 11 {
			t.Errorf("%s: exit code %d, %s%s", name, r.code, r.stdout, r.stderr)
		}
		if err := os.WriteFile(wal[0], content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.ok("verify", "--all", "--deep")
}
