package immutable_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/gcs"
	"github.com/pgmedic/pgmedic/internal/store/gcstest"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

// objects are those of a backup, notes are beside it.
var (
	objects = []string{"pack-000001.zst", "schema.dump.zst", "keys/passphrase.age", "receipts/20261128T030000Z-drill.json", "RECOVER.md", "manifest.json.sha256", "manifest.json"}
	notes   = []string{"doomed.json", "hold-legal.json"}
)

// fixture is a backup that began a while ago, in a bucket that can lock.
type fixture struct {
	*catalog.Catalog
	s store.Locker
	// destroy deletes an object for good, with all that the bucket's owner may do.
	destroy func(key string) error
	// plain opens a bucket that can't lock.
	plain  func() store.Locker
	b      *pgmedic.Backup
	policy immutable.Policy
}

// newFixture returns a fixture in S3.
func newFixture(t *testing.T, ago time.Duration) fixture {
	t.Helper()
	server := s3test.Start(t, s3test.Options{Versions: true})
	server.Setenv(t)
	open := func(bucket string) store.Locker {
		s, err := s3.New(t.Context(), server.Options(bucket))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	bucket := server.LockBucket()
	return fixture{
		s: open(bucket), destroy: func(key string) error { return server.DeleteVersions(bucket, key) },
		plain: func() store.Locker { return open(server.Bucket()) },
	}.began(t, ago)
}

// newGoogleFixture returns one at Google, where what is locked can't be deleted at all.
func newGoogleFixture(t *testing.T, ago time.Duration) fixture {
	t.Helper()
	server := gcstest.Start(t)
	bucket := server.LockBucket(0)
	s, err := gcs.New(server.Options(bucket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return fixture{s: s, destroy: func(key string) error { return server.Delete(bucket, key) }}.began(t, ago)
}

// began puts the backup into the store.
func (f fixture) began(t *testing.T, ago time.Duration) fixture {
	t.Helper()
	began := time.Now().Add(-ago)
	f.b = &pgmedic.Backup{ID: catalog.NewID(began), StartedAt: began, Server: pgmedic.Server{Name: "main"}, Database: pgmedic.Database{Name: "shop"},
		Seal: pgmedic.Seal{Encryption: "none"}, Objects: []pgmedic.Object{{Name: "pack-000001.zst"}, {Name: "schema.dump.zst"}}}
	f.policy = immutable.Policy{Mode: store.LockCompliance, Retention: retention.Policy{Days: pgmedic.Length{Days: 30}, Safety: pgmedic.Length{Days: 60}}}
	opened, err := f.policy.Open(t.Context(), f.s)
	if err != nil {
		t.Fatal(err)
	}
	f.Catalog = catalog.New(opened)
	for _, name := range append(objects[:len(objects):len(objects)], notes...) {
		f.put(t, name)
	}
	return f
}

func (f fixture) put(t *testing.T, name string) {
	t.Helper()
	if _, err := f.Store().Put(t.Context(), catalog.Key(f.b, name), strings.NewReader(name)); err != nil {
		t.Fatal(err)
	}
}

// want fails the test unless all objects are locked so, and no note is.
func (f fixture) want(t *testing.T, until time.Time, held bool) {
	t.Helper()
	for _, name := range objects {
		l, err := f.s.LockOf(t.Context(), catalog.Key(f.b, name))
		if err != nil || !l.Until.Equal(until.UTC().Truncate(time.Second)) || l.Held != held {
			t.Errorf("%s is locked %v (%v), want until %v, held %v", name, l, err, until, held)
		}
	}
	for _, name := range notes {
		if l, err := f.s.LockOf(t.Context(), catalog.Key(f.b, name)); err != nil || l != (store.Lock{}) {
			t.Errorf("%s is locked %v (%v)", name, l, err)
		}
	}
	has, err := immutable.Of(t.Context(), f.Catalog, f.b)
	if err != nil || has.Held != held || !has.Until.Equal(until.UTC().Truncate(time.Second)) {
		t.Errorf("the backup is locked %v (%v)", has, err)
	}
}

// TestLocks: each object of a backup is locked when it is put, and what is taken off again
// is not. A later time is longer, an earlier one nothing.
func TestLocks(t *testing.T) {
	for name, newFixture := range map[string]func(*testing.T, time.Duration) fixture{"S3": newFixture, "Google": newGoogleFixture} {
		t.Run(name, func(t *testing.T) { testLocks(t, newFixture(t, 10*24*time.Hour)) })
	}
}

func testLocks(t *testing.T, f fixture) {
	until := f.policy.Retention.Certain(f.b.StartedAt, pgmedic.PurposeRegular)
	f.want(t, until, false)
	for _, at := range []time.Time{until.Add(-time.Hour), time.Now(), {}} {
		if err := f.policy.Extend(t.Context(), f.Catalog, f.b, at); err != nil {
			t.Errorf("until %v: %v", at, err)
		}
	}
	f.want(t, until, false)
	until = until.AddDate(0, 3, 0)
	for range 2 {
		if err := f.policy.Extend(t.Context(), f.Catalog, f.b, until); err != nil {
			t.Errorf("until %v: %v", until, err)
		}
	}
	f.want(t, until, false)
	for _, held := range []bool{true, true, false, false} {
		if err := immutable.Hold(t.Context(), f.Catalog, f.b, held); err != nil {
			t.Error(err)
		}
		f.want(t, until, held)
	}
	// Holds: the longest of those that end, and a legal hold for one that does not.
	until = until.AddDate(1, 0, 0)
	holds := []catalog.Hold{{Name: "a", Until: until.Add(-time.Hour)}, {Name: "b", Until: until}}
	if err := f.policy.Keep(t.Context(), f.Catalog, f.b, holds); err != nil {
		t.Error(err)
	}
	f.want(t, until, false)
	if err := f.policy.Keep(t.Context(), f.Catalog, f.b, append(holds, catalog.Hold{Name: "c"})); err != nil {
		t.Error(err)
	}
	f.want(t, until, true)
	if err := f.policy.Keep(t.Context(), f.Catalog, f.b, nil); err != nil {
		t.Error(err)
	}
	f.want(t, until, true) // that is for a release to take off
	for _, name := range objects {
		if f.destroy(catalog.Key(f.b, name)) == nil {
			t.Errorf("%s was deleted", name)
		}
	}
	if l, err := immutable.OfFolder(t.Context(), f.Catalog, catalog.Folder("main", "shop", f.b.ID)); err != nil || !l.Locks(time.Now()) {
		t.Errorf("the folder is locked %v, %v", l, err)
	}
	if l, err := immutable.OfFolder(t.Context(), f.Catalog, "main/shop/none"); err != nil || l != (store.Lock{}) {
		t.Errorf("no folder is locked %v, %v", l, err)
	}
}

// TestOldBackup: a backup that is older than what is certain is put without a lock, as a
// copy of it may be: a place refuses a lock that is over.
func TestOldBackup(t *testing.T) {
	for _, ago := range []time.Duration{30*24*time.Hour - time.Minute, 40 * 24 * time.Hour} {
		f := newFixture(t, ago)
		f.want(t, time.Time{}, false)
	}
}

// TestLockOfKey: only the objects of a backup have a lock.
func TestLockOfKey(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	p := immutable.Policy{
		Mode: store.LockGovernance, Now: func() time.Time { return now },
		Retention: retention.Policy{Days: pgmedic.Length{Days: 30}, Safety: pgmedic.Length{Days: 60}},
	}
	for key, want := range map[string]string{
		"main/shop/20261128T020000Z-7f3a9c/manifest.json":    "2026-12-28",
		"main/shop/20261128T020000Z-7f3a9c/keys/a.age":       "2026-12-28",
		"main/shop/20261128T020000Z-7f3a9c/holding-a.json":   "2026-12-28",
		"main/shop/20261128T020000Z-7f3a9c/keys/doomed.json": "2026-12-28",
		"main/shop/20261101T020000Z-7f3a9c/manifest.json":    "2026-12-01",
		"main/shop/20261001T020000Z-7f3a9c/manifest.json":    "",
		"main/shop/20269999T020000Z-7f3a9c/manifest.json":    "",
		"main/shop/20261128T020000Z-7f3a9c/doomed.json":      "",
		"main/shop/20261128T020000Z-7f3a9c/hold-legal.json":  "",
		"20261128T020000Z-7f3a9c.check1":                     "",
		"pgmedic-clock-00":                                   "",
		"main/shop/elsewhere/20261128T020000Z-7f3a9c/data":   "",
		// WAL, from when it is stored on, and its keys for longer than what they open.
		"main/@wal/7711147204259165944/20261001T020000Z-7f3a9c/seg/0000000100000000/x": "2026-12-28",
		"main/@wal/7711147204259165944/20261001T020000Z-7f3a9c/tail/0000/x":            "2026-12-28",
		"main/@wal/7711147204259165944/20261001T020000Z-7f3a9c/keys/a.age":             "2026-12-30",
		"main/@wal/7711147204259165944/20261001T020000Z-7f3a9c/epoch.json":             "2026-12-30",
		"main/@wal/7711147204259165944/20261001T020000Z-7f3a9c/seen/x.json":            "",
		"main/@wal/7711147204259165944/doomed-20261001T020000Z-7f3a9c.json":            "",
		"main/@cluster/20261128T020000Z-7f3a9c/pack-0001":                              "2026-12-28",
		"prefix/main/shop/20261128T020000Z-7f3a9c/manifest.json":                       "",
	} {
		l, err := p.LockOf(key)
		if err != nil {
			t.Error(err)
		}
		got := ""
		if l != (store.Lock{}) {
			got = l.Until.Format(time.DateOnly)
		}
		if got != want || got != "" && l.Mode != store.LockGovernance {
			t.Errorf("%s is locked %v, want until %q", key, l, want)
		}
	}
	safety := p
	safety.Purpose = pgmedic.PurposeSafety
	if l, err := safety.LockOf("main/shop/20261128T020000Z-7f3a9c/manifest.json"); err != nil || l.Until.Format(time.DateOnly) != "2027-01-27" {
		t.Errorf("a safety backup is locked %v", l)
	}
	if l, err := (immutable.Policy{Retention: p.Retention}).LockOf("main/shop/20261128T020000Z-7f3a9c/manifest.json"); err != nil || l != (store.Lock{}) {
		t.Errorf("without a policy: %v", l)
	}
}

// TestRefused: a policy that can't be obeyed is refused before anything is put.
func TestRefused(t *testing.T) {
	f := newFixture(t, 0)
	local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	plain := f.plain()
	endless := immutable.Policy{Mode: store.LockCompliance, Retention: retention.Policy{Last: 3}}
	for name, open := range map[string]func() (store.Store, error){
		"a folder":     func() (store.Store, error) { return f.policy.Open(t.Context(), local) },
		"plain bucket": func() (store.Store, error) { return f.policy.Open(t.Context(), plain) },
		"no end":       func() (store.Store, error) { return endless.Open(t.Context(), f.s) },
	} {
		if s, err := open(); s != nil || pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	if immutable.Unwrap(f.Store()) != store.Store(f.s) || immutable.Unwrap(f.s) != store.Store(f.s) {
		t.Error("what is below is another store")
	}
	// One that is only read is not asked, and refuses what is put.
	if f.policy.Wrap(local) != store.Store(local) {
		t.Error("a folder that is read is another store")
	}
	key := catalog.Key(f.b, "receipts/x.json")
	if _, err := f.policy.Wrap(plain).Put(t.Context(), key, strings.NewReader("x")); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("put without a lock: %v", err)
	}
	if _, err := plain.Stat(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("put without a lock: %v", err)
	}
	for name, err := range map[string]error{
		"Hold": immutable.Hold(t.Context(), catalog.New(local), f.b, true),
		"Of":   func() error { _, err := immutable.Of(t.Context(), catalog.New(local), f.b); return err }(),
	} {
		if pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s in a folder: %v", name, err)
		}
	}
}

// failing fails to lock one object.
type failing struct {
	store.Locker
	name string
}

var errCut = errors.New("the network is gone")

func (f failing) LockUntil(ctx context.Context, key string, l store.Lock) error {
	if strings.HasSuffix(key, f.name) {
		return errCut
	}
	return f.Locker.LockUntil(ctx, key, l)
}

// TestExtendIsRepeated: what broke off is seen by the least lock, and done again.
func TestExtendIsRepeated(t *testing.T) {
	f := newFixture(t, 0)
	until := time.Now().AddDate(1, 0, 0)
	for _, name := range objects {
		was, err := immutable.Of(t.Context(), f.Catalog, f.b)
		if err != nil {
			t.Fatal(err)
		}
		until = until.AddDate(0, 1, 0)
		c := catalog.New(failing{f.s, name})
		if err := f.policy.Extend(t.Context(), c, f.b, until); !errors.Is(err, errCut) {
			t.Errorf("%s could not be locked: %v", name, err)
		}
		if has, err := immutable.Of(t.Context(), f.Catalog, f.b); err != nil || has != was {
			t.Errorf("%s could not be locked, and the backup is %v, %v", name, has, err)
		}
		if err := f.policy.Extend(t.Context(), f.Catalog, f.b, until); err != nil {
			t.Errorf("again: %v", err)
		}
		f.want(t, until, false)
	}
}

// TestManifestStandsForNothing: whoever may put objects and lock them can put a manifest
// again that is locked for a lifetime. What the other objects lack is still seen.
func TestManifestStandsForNothing(t *testing.T) {
	f := newFixture(t, 0)
	certain := f.policy.Retention.Certain(f.b.StartedAt, pgmedic.PurposeRegular)
	until := certain.AddDate(1, 0, 0)
	far := f.policy.Lock(time.Now().AddDate(5, 0, 0))
	if err := f.s.LockUntil(t.Context(), catalog.Key(f.b, "manifest.json"), far); err != nil {
		t.Fatal(err)
	}
	if err := f.s.Hold(t.Context(), catalog.Key(f.b, "manifest.json"), true); err != nil {
		t.Fatal(err)
	}
	has, err := immutable.Of(t.Context(), f.Catalog, f.b)
	if err != nil || has.Held || !has.Until.Equal(certain.Truncate(time.Second)) {
		t.Errorf("locked %v, %v", has, err)
	}
	if lacks, hold, err := f.policy.Lacking(has, f.b, until, []catalog.Hold{{Name: "a"}}); err != nil || !hold || !lacks.Equal(until.Truncate(time.Second)) {
		t.Errorf("lacks %v, %v", lacks, hold)
	}
	if err := f.policy.Extend(t.Context(), f.Catalog, f.b, until); err != nil {
		t.Fatal(err)
	}
	// A key that is added to a backup that is held lacks what the others have.
	if err := immutable.Hold(t.Context(), f.Catalog, f.b, true); err != nil {
		t.Fatal(err)
	}
	if has, err = immutable.Of(t.Context(), f.Catalog, f.b); err != nil || !has.Held || !has.Until.Equal(until.Truncate(time.Second)) {
		t.Errorf("lengthened and held: %v, %v", has, err)
	}
	f.put(t, "keys/later.age")
	if has, err = immutable.Of(t.Context(), f.Catalog, f.b); err != nil || has.Held || !has.Until.Equal(certain.Truncate(time.Second)) {
		t.Errorf("with another key: %v, %v", has, err)
	}
}

// TestHiddenObject: a delete marker hides an object from what lists it, and its lock ends
// while the others' are lengthened. That is an error, and the others are locked.
func TestHiddenObject(t *testing.T) {
	for _, name := range []string{"pack-000001.zst", "manifest.json.sha256", "manifest.json"} {
		f := newFixture(t, 0)
		if err := f.s.Delete(t.Context(), catalog.Key(f.b, name)); err != nil {
			t.Fatal(err)
		}
		until := f.policy.Lock(time.Now().AddDate(1, 0, 0)).Until
		for what, err := range map[string]error{
			"Extend": f.policy.Extend(t.Context(), f.Catalog, f.b, until),
			"Keep":   f.policy.Keep(t.Context(), f.Catalog, f.b, []catalog.Hold{{Name: "a"}}),
			"Hold":   immutable.Hold(t.Context(), f.Catalog, f.b, true),
		} {
			if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(err.Error(), name) || pgmedic.HintOf(err) == "" {
				t.Errorf("%s without %s: %v", what, name, err)
			}
		}
		has, err := immutable.Of(t.Context(), f.Catalog, f.b)
		if pgmedic.KindOf(err) != pgmedic.KindIntegrity || !has.Held || !has.Until.Equal(until) {
			t.Errorf("without %s the others are locked %v, %v", name, has, err)
		}
	}
}

// TestLocksAreBounded: anyone who can write to the store can write a hold or a manifest,
// and nobody can undo a lock.
func TestLocksAreBounded(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	p := immutable.Policy{Mode: store.LockCompliance, Retention: retention.Policy{Days: pgmedic.Length{Days: 30}}, Now: func() time.Time { return now }}
	kept, soon := now.AddDate(0, 0, 30), now.AddDate(0, 6, 0)
	for name, c := range map[string]struct {
		began time.Time
		holds []catalog.Hold
		until time.Time
		hold  bool
		words string // of an error
	}{
		"a backup":               {now, nil, kept, false, ""},
		"minutes ahead":          {now.Add(time.Hour), nil, kept, false, ""},
		"from the future":        {now.AddDate(20, 0, 0), nil, time.Time{}, false, "began 7305 d"},
		"from the future, held":  {now.Add(2 * time.Hour), []catalog.Hold{{Name: "a", Until: soon}}, soon, false, "began 2 h in the future"},
		"ten years":              {now, []catalog.Hold{{Name: "a", Until: now.AddDate(10, 0, 0)}}, now.AddDate(10, 0, 0), false, ""},
		"a century":              {now, []catalog.Hold{{Name: "forged", Until: now.AddDate(100, 0, 0)}}, kept, false, "hold \"forged\""},
		"a century, and another": {now, []catalog.Hold{{Name: "forged", Until: now.AddDate(100, 0, 0)}, {Name: "b", Until: soon}, {Name: "c"}}, soon, true, "hold \"forged\""},
	} {
		b := &pgmedic.Backup{ID: "x", StartedAt: c.began}
		until, hold, err := p.Lacking(store.Lock{}, b, kept, c.holds)
		if !until.Equal(c.until) || hold != c.hold {
			t.Errorf("%s: until %v, held %v", name, until, hold)
		}
		if (err != nil) != (c.words != "") || err != nil && (pgmedic.KindOf(err) != pgmedic.KindIntegrity || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is put, such as a copy.
	f := newFixture(t, 0)
	f.b.ID = catalog.NewID(time.Now().AddDate(30, 0, 0))
	if _, err := f.Store().Put(t.Context(), catalog.Key(f.b, "pack-000001.zst"), strings.NewReader("x")); pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		t.Errorf("put: %v", err)
	}
	if _, err := f.s.Stat(t.Context(), catalog.Key(f.b, "pack-000001.zst")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it was put: %v", err)
	}
}
