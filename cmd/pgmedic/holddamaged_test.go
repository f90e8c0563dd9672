package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/store"
)

// holdBench is a backup in two stores, of which the first can be damaged.
type holdBench struct {
	dir    string
	folder string // of the backup in the first store
	backup *pgmedic.Backup
	cfg    *config.Config
}

func newHoldBench(t *testing.T) *holdBench {
	t.Helper()
	b := &holdBench{dir: t.TempDir()}
	at := time.Now().Truncate(time.Second).UTC()
	for _, name := range []string{"a", "b"} {
		s, err := store.NewLocal(store.LocalOptions{Dir: filepath.Join(b.dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b.backup = putBackup(t, s, at)
	}
	b.folder = filepath.Join(b.dir, "a", filepath.FromSlash(catalog.Folder("main", "clinic", b.backup.ID)))
	file := filepath.Join(b.dir, "pgmedic.yaml")
	text := "server: main\nbackup: {store: " + filepath.Join(b.dir, "a") + "}\ncopies: [{name: b, store: " + filepath.Join(b.dir, "b") + "}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.cfg, err = config.Load(config.Options{File: file, Dir: b.dir}); err != nil {
		t.Fatal(err)
	}
	return b
}

// job is a run some hours later, when what lacks a manifest is no run that is going on.
func (b *holdBench) job(out io.Writer) job {
	e := &env{now: func() time.Time { return time.Now().Add(3 * time.Hour) }, stdout: out, stderr: io.Discard, rawOut: out, environ: []string{"SUDO_USER=ana"}}
	return job{env: e, cfg: b.cfg, log: slog.New(slog.DiscardHandler)}
}

func (b *holdBench) hold(t *testing.T) (string, error) {
	out := &bytes.Buffer{}
	cmd := &holdCommand{holder: newHolder(b.job(out)), args: []string{b.backup.ID}, flags: holdFlags{reason: "case 118"}}
	err := cmd.run(t.Context())
	return out.String(), err
}

func (b *holdBench) release(t *testing.T, ref, name string) (string, error) {
	out := &bytes.Buffer{}
	cmd := &releaseCommand{holder: newHolder(b.job(out)), args: []string{ref}, name: name}
	err := cmd.run(t.Context())
	return out.String(), err
}

// notes are those of holds, and marks, in a store.
func (b *holdBench) notes(t *testing.T, name string) (names []string) {
	t.Helper()
	for _, pattern := range []string{"hold-*.json", "doomed.json"} {
		found, err := filepath.Glob(filepath.Join(strings.Replace(b.folder, filepath.Join(b.dir, "a"), filepath.Join(b.dir, name), 1), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			names = append(names, filepath.Base(f))
		}
	}
	return names
}

// TestReleaseDamaged: what holds a backup is released in every store, also where its manifest
// can't be used, and whatever the note of the hold says.
func TestReleaseDamaged(t *testing.T) {
	write := func(name, text string) func(*testing.T, *holdBench) {
		return func(t *testing.T, b *holdBench) {
			if err := os.WriteFile(filepath.Join(b.folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	truncated := write("manifest.json", `{"format": 1, "id": "2026`)
	missing := func(t *testing.T, b *holdBench) {
		if err := os.Remove(filepath.Join(b.folder, "manifest.json")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		spoil   []func(*testing.T, *holdBench)
		damaged bool // the backup, not the note alone
	}{
		{"a damaged manifest", []func(*testing.T, *holdBench){truncated}, true},
		{"a missing manifest", []func(*testing.T, *holdBench){missing}, true},
		{"a damaged note", []func(*testing.T, *holdBench){write("hold-ana.json", "{")}, false},
		{"an empty note", []func(*testing.T, *holdBench){write("hold-ana.json", "")}, false},
		{"a note that is too large", []func(*testing.T, *holdBench){write("hold-ana.json", strings.Repeat(" ", 17<<10))}, false},
		{"both", []func(*testing.T, *holdBench){truncated, write("hold-ana.json", "{")}, true},
		{"a mark", []func(*testing.T, *holdBench){truncated, write("doomed.json", "{")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newHoldBench(t)
			if out, err := b.hold(t); err != nil || strings.Count(out, "held ") != 2 {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, spoil := range tt.spoil {
				spoil(t, b)
			}
			// Nothing is done by a name that it does not have.
			if out, err := b.release(t, b.backup.ID, "bob"); pgmedic.KindOf(err) != pgmedic.KindNotFound || !strings.Contains(pgmedic.HintOf(err), "ana") {
				t.Errorf("another name: %v\n%s", err, out)
			}
			listed, planned := b.list(t), b.prune(t)
			if strings.Contains(listed, `held: "ana"`) != tt.damaged || strings.Contains(planned, `held: "ana"`) != tt.damaged {
				t.Errorf("the list:\n%s\nthe plan:\n%s", listed, planned)
			}
			out, err := b.release(t, b.backup.ID[len(b.backup.ID)-6:], "")
			if err != nil || strings.Count(out, "released ") != 2 || strings.Contains(out, "(damaged)") != tt.damaged {
				t.Errorf("%v\n%s", err, out)
			}
			for _, in := range []string{"a", "b"} {
				if left := b.notes(t, in); len(left) > 0 {
					t.Errorf("%s still has %q", in, left)
				}
			}
			if tt.name == "a missing manifest" {
				return // it is no backup any more that is known as one
			}
			if _, err := b.release(t, b.backup.ID, ""); pgmedic.KindOf(err) != pgmedic.KindNotFound {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// TestReleaseOneOfSeveral: of a damaged backup with two holds one is named, and the other stays.
func TestReleaseOneOfSeveral(t *testing.T) {
	b := newHoldBench(t)
	for _, name := range []string{"hold-ana.json", "hold-migration.json"} {
		if err := os.WriteFile(filepath.Join(b.folder, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(b.folder, "manifest.json"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := b.release(t, b.backup.ID, ""); pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "ana, migration") {
		t.Errorf("without a name: %v", err)
	}
	if _, err := b.release(t, b.backup.ID, "migration"); err != nil {
		t.Error(err)
	}
	if left := b.notes(t, "a"); len(left) != 1 || left[0] != "hold-ana.json" {
		t.Errorf("left: %q", left)
	}
}

// TestHoldDamaged: a damaged backup is not held, which is said, and a whole copy is.
func TestHoldDamaged(t *testing.T) {
	b := newHoldBench(t)
	if err := os.Truncate(filepath.Join(b.folder, "manifest.json"), 10); err != nil {
		t.Fatal(err)
	}
	out, err := b.hold(t)
	if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(err.Error(), "it was not held: backup "+b.backup.ID) || strings.Count(out, "held ") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	if a, other := b.notes(t, "a"), b.notes(t, "b"); len(a) != 0 || len(other) != 1 {
		t.Errorf("notes: %q in the store in which it is damaged, %q in the other", a, other)
	}
}

func (b *holdBench) list(t *testing.T) string {
	t.Helper()
	out := &bytes.Buffer{}
	j := b.job(out)
	s, err := store.NewLocal(store.LocalOptions{Dir: filepath.Join(b.dir, "a"), MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := catalog.New(s)
	listing, err := c.List(t.Context(), catalog.Filter{Now: j.now()})
	if err != nil {
		t.Fatal(err)
	}
	(&listCommand{job: j, keys: keyring{j}}).printListing(listing, catalog.Filter{}, c, nil)
	return out.String()
}

// prune is the plan, as text and as JSON: both name what holds a damaged backup.
func (b *holdBench) prune(t *testing.T) string {
	t.Helper()
	out := &bytes.Buffer{}
	j := b.job(out)
	p := &pruneCommand{job: j, servers: servers{j}, retainer: newRetainer(j), done: &pruneResult{}}
	p.flags.allServers = true
	if err := p.planBackups(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.stores.close()
	text, err := json.Marshal(p.done.orEmpty())
	if err != nil {
		t.Fatal(err)
	}
	p.printPlan(p.done, true)
	if strings.Contains(out.String(), "held: ") != strings.Contains(string(text), `"damaged":[{"store":`) {
		t.Errorf("JSON: %s", text)
	}
	return out.String()
}
