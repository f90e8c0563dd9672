package catalog_test

import (
	"context"
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

// meddling is a store in which somebody does something right before or after a deletion.
type meddling struct {
	store.Store
	before, after func(key string)

	mu      sync.Mutex // several are deleted at once
	deleted []string
}

func (m *meddling) Delete(ctx context.Context, key string) error {
	if m.before != nil {
		m.before(key)
	}
	m.mu.Lock()
	m.deleted = append(m.deleted, key)
	m.mu.Unlock()
	err := m.Store.Delete(ctx, key)
	if m.after != nil {
		m.after(key)
	}
	return err
}

func (f fixture) get(t *testing.T, b *pgmedic.Backup) catalog.Entry {
	t.Helper()
	e, err := f.Get(t.Context(), b.ID, catalog.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (f fixture) mark(t *testing.T, b *pgmedic.Backup) catalog.Entry {
	t.Helper()
	if err := f.Mark(t.Context(), catalog.Folder(b.Server.Name, b.Database.Name, b.ID), catalog.Mark{At: noon, Host: "here", Reason: "old"}); err != nil {
		t.Fatal(err)
	}
	return f.get(t, b)
}

func (f fixture) folderIsThere(b *pgmedic.Backup) bool {
	_, err := os.Stat(filepath.Dir(f.file(b, "x")))
	return err == nil
}

func legal(b *pgmedic.Backup) catalog.Hold {
	return catalog.Hold{Name: "legal", By: "ana", Host: "here", At: noon, Reason: "case 118 of " + b.Database.Name}
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	gone, other := f.packed(t, 1), f.packed(t, 2)
	e := f.mark(t, gone)
	if e.Mark == nil || e.Mark.Reason != "old" || e.Mark.Since().Before(noon) {
		t.Fatalf("the mark is %+v", e.Mark)
	}
	m := &meddling{Store: f.Store()}
	kept, err := catalog.New(m).Remove(t.Context(), e, noon)
	if err != nil || kept != "" {
		t.Fatal(kept, err)
	}
	if first, last := m.deleted[0], m.deleted[len(m.deleted)-1]; !strings.HasSuffix(first, "/manifest.json") || !strings.HasSuffix(last, "/doomed.json") {
		t.Errorf("deleted in this order: %q", m.deleted)
	}
	l := f.list(t, catalog.Filter{})
	if f.folderIsThere(gone) || ids(l) != other.ID || len(l.Orphans)+len(l.Damaged) > 0 {
		t.Errorf("listed: %s, %v, %v", ids(l), l.Orphans, l.Damaged)
	}
	// Again, as another run that had the same plan.
	if kept, err := f.Remove(t.Context(), e, noon); err != nil || kept != "" {
		t.Error(kept, err)
	}
}

// TestRemoveMeddled: what somebody holds, releases or proves until the last moment is
// not deleted, and is whole.
func TestRemoveMeddled(t *testing.T) {
	manifest := func(do func(t *testing.T, f fixture, b *pgmedic.Backup)) func(*testing.T, fixture, *pgmedic.Backup, string) {
		return func(t *testing.T, f fixture, b *pgmedic.Backup, key string) {
			if strings.HasSuffix(key, "/manifest.json") {
				do(t, f, b)
			}
		}
	}
	hold := func(t *testing.T, f fixture, b *pgmedic.Backup) {
		// As AddHold does between its two looks at the manifest.
		f.put(t, catalog.Key(b, "hold-legal.json"), `{"format":1,"by":"ana","reason":"118"}`)
	}
	for name, test := range map[string]struct {
		planned       func(*testing.T, fixture, *pgmedic.Backup) // after the plan
		before, after func(*testing.T, fixture, *pgmedic.Backup, string)
	}{
		"held since the plan": {planned: func(t *testing.T, f fixture, b *pgmedic.Backup) {
			if err := f.AddHold(t.Context(), b, legal(b)); err != nil {
				t.Error(err)
			}
		}},
		"unmarked since the plan": {planned: func(t *testing.T, f fixture, b *pgmedic.Backup) {
			if err := f.Unmark(t.Context(), b, catalog.Mark{}); err != nil {
				t.Error(err)
			}
		}},
		"proven since the plan": {planned: func(t *testing.T, f fixture, b *pgmedic.Backup) {
			f.receipt(t, b, pgmedic.OutcomeOK, pgmedic.ReceiptDrill, 2)
		}},
		"held at the last moment": {before: manifest(hold)},
		"held a moment too late":  {after: manifest(hold)},
		"unmarked at the last moment": {before: manifest(func(t *testing.T, f fixture, b *pgmedic.Backup) {
			if err := f.Unmark(t.Context(), b, catalog.Mark{}); err != nil {
				t.Error(err)
			}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			b := f.packed(t, 1)
			e := f.mark(t, b)
			if test.planned != nil {
				test.planned(t, f, b)
			}
			m := &meddling{Store: f.Store()}
			if test.before != nil {
				m.before = func(key string) { test.before(t, f, b, key) }
			}
			if test.after != nil {
				m.after = func(key string) { test.after(t, f, b, key) }
			}
			kept, err := catalog.New(m).Remove(t.Context(), e, noon)
			if err != nil || kept == "" {
				t.Fatalf("kept: %q, %v", kept, err)
			}
			to := newFixture(t)
			if _, err := f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: f.get(t, b).Backup}); err != nil {
				t.Errorf("it is not whole: %v", err)
			}
		})
	}
}

// TestTooLate: a hold and a release that come while the backup is being deleted say so,
// and change nothing.
func TestTooLate(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	e := f.mark(t, b)
	late := 0
	m := &meddling{Store: f.Store()}
	m.after = func(key string) {
		if !strings.HasSuffix(key, "/pack-0001") {
			return
		}
		late++
		if err := f.AddHold(t.Context(), b, legal(b)); pgmedic.KindOf(err) != pgmedic.KindNotFound {
			t.Errorf("held: %v", err)
		}
		if err := f.Unmark(t.Context(), b, catalog.Mark{}); pgmedic.KindOf(err) != pgmedic.KindNotFound {
			t.Errorf("unmarked: %v", err)
		}
	}
	if kept, err := catalog.New(m).Remove(t.Context(), e, noon); err != nil || kept != "" || late != 1 {
		t.Fatal(kept, err, late)
	}
	if f.folderIsThere(b) {
		t.Error("something is left")
	}
}

// TestHalfRemoved: what a deletion left that broke off is no backup and not called
// damaged, however old; and RemoveOrphan finishes it.
func TestHalfRemoved(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	f.mark(t, b)
	if err := os.Remove(f.file(b, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	l := f.list(t, catalog.Filter{Now: time.Now().AddDate(1, 0, 0)})
	if len(l.Entries)+len(l.Damaged) > 0 || len(l.Orphans) != 1 || l.Orphans[0].MarkedAt.IsZero() {
		t.Fatalf("%+v", l)
	}
	if kept, err := f.RemoveOrphan(t.Context(), l.Orphans[0]); err != nil || kept != "" || f.folderIsThere(b) {
		t.Error(kept, err)
	}
}

// TestNoManifestWhereMarked: neither a backup that was taken for dead nor a copy of one
// writes its manifest where a prune deletes.
func TestNoManifestWhereMarked(t *testing.T) {
	f := newFixture(t)
	b := backup(1)
	f.putObjects(t, b)
	folder := catalog.Folder(b.Server.Name, b.Database.Name, b.ID)
	if err := f.Mark(t.Context(), folder, catalog.Mark{At: noon}); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(t.Context(), b, nil); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("committed: %v", err)
	}
	from := newFixture(t)
	whole := from.commit(t, backup(1))
	if _, err := from.CopyTo(t.Context(), catalog.CopyOptions{To: f.Catalog, Backup: from.get(t, whole).Backup}); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("copied: %v", err)
	}
	l := f.list(t, catalog.Filter{})
	if len(l.Entries) > 0 || len(l.Orphans) != 1 {
		t.Errorf("%+v", l)
	}
	// It is of a run that lives after all.
	f.put(t, folder+"/manifest.json", "{}")
	if kept, err := f.RemoveOrphan(t.Context(), l.Orphans[0]); err != nil || kept == "" {
		t.Errorf("%q, %v", kept, err)
	}
}

func TestHolds(t *testing.T) {
	f := newFixture(t)
	b := f.packed(t, 1)
	for _, name := range []string{"", "a/b", ".a", "ä", strings.Repeat("x", 64)} {
		h := legal(b)
		h.Name = name
		if err := f.AddHold(t.Context(), b, h); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%q: %v", name, err)
		}
	}
	for range 2 { // the same once more is no conflict
		if err := f.AddHold(t.Context(), b, legal(b)); err != nil {
			t.Fatal(err)
		}
	}
	other := legal(b)
	other.Reason = "another"
	if err := f.AddHold(t.Context(), b, other); pgmedic.KindOf(err) != pgmedic.KindConflict {
		t.Errorf("another reason: %v", err)
	}
	ended := legal(b)
	ended.Name, ended.Until = "ended", noon
	if err := f.AddHold(t.Context(), b, ended); err != nil {
		t.Fatal(err)
	}
	// What anybody may write there holds, for it may be of a newer version.
	f.put(t, catalog.Key(b, "hold-odd.json"), "{")
	f.put(t, catalog.Key(b, "hold-newer.json"), `{"format":9}`)
	f.put(t, catalog.Key(b, "hold-large.json"), strings.Repeat("x", 20<<10))
	e := f.get(t, b)
	var names []string
	for _, h := range e.Held(noon.Add(time.Minute)) {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "large legal newer odd" || len(e.Holds) != 5 {
		t.Errorf("held by %s, of %d", got, len(e.Holds))
	}
	// A copy is held as well.
	to := newFixture(t)
	if _, err := f.CopyTo(t.Context(), catalog.CopyOptions{To: to.Catalog, Backup: e.Backup}); err != nil {
		t.Fatal(err)
	}
	if got := to.get(t, b).Held(noon); len(got) < 2 {
		t.Errorf("the copy is held by %v", got)
	}
	if err := f.RemoveHold(t.Context(), b, "legal"); err != nil {
		t.Error(err)
	}
	if err := f.RemoveHold(t.Context(), b, "legal"); pgmedic.KindOf(err) != pgmedic.KindNotFound {
		t.Errorf("released twice: %v", err)
	}
}

// TestClock reads the store's clock, and leaves nothing.
func TestClock(t *testing.T) {
	f := newFixture(t)
	at, err := f.Clock(t.Context())
	if err != nil || time.Since(at).Abs() > time.Hour {
		t.Error(at, err)
	}
	if left, _ := os.ReadDir(f.dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
