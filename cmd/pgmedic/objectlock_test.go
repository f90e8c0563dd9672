package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/store/s3"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

// refusing is a folder that says of each object that it is locked, or that it does not say,
// and refuses to delete.
type refusing struct {
	store.Store
	lock    store.Lock
	lockErr error
}

func (r refusing) PutLocked(ctx context.Context, key string, data io.Reader, _ store.Lock) (store.Object, error) {
	return r.Put(ctx, key, data)
}
func (r refusing) CheckLocks(context.Context) error                    { return nil }
func (r refusing) LockUntil(context.Context, string, store.Lock) error { return nil }
func (r refusing) Hold(context.Context, string, bool) error            { return nil }
func (r refusing) LockOf(context.Context, string) (store.Lock, error)  { return r.lock, r.lockErr }
func (r refusing) Delete(_ context.Context, key string) error {
	return fmt.Errorf("delete %s: %w", key, store.ErrLocked)
}

// markedBackup puts a backup of database clinic that is marked for deletion.
func markedBackup(t *testing.T, s store.Store, now time.Time) *pgmedic.Backup {
	t.Helper()
	b := putBackup(t, s, now.AddDate(0, -1, 0))
	err := catalog.New(s).Mark(t.Context(), catalog.Folder("main", "clinic", b.ID), catalog.Mark{At: now.AddDate(0, 0, -2), Reason: "old"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// putBackup puts a backup of database clinic that began at a time.
func putBackup(t *testing.T, s store.Store, at time.Time) *pgmedic.Backup {
	t.Helper()
	b := &pgmedic.Backup{
		Format: pgmedic.ManifestFormat, ID: at.Format("20060102T150405Z") + "-00000b", Purpose: pgmedic.PurposeRegular,
		Method: pgmedic.MethodPlain, StartedAt: at, SnapshotAt: at, FinishedAt: at.Add(time.Second),
		Server: pgmedic.Server{Name: "main", VersionNum: 150018}, Database: pgmedic.Database{Name: "clinic"},
		Seal: pgmedic.Seal{Compression: "gzip", Encryption: "none"},
	}
	sum := sha256.Sum256([]byte("x"))
	for name, role := range map[string]pgmedic.ObjectRole{"dump.sql.gz": pgmedic.RoleDump, "globals.sql.gz": pgmedic.RoleGlobals, "inventory.json.gz": pgmedic.RoleInventory} {
		b.Objects = append(b.Objects, pgmedic.Object{Name: name, Role: role, StoredBytes: 1, SHA256: hex.EncodeToString(sum[:])})
		if _, err := s.Put(t.Context(), catalog.Key(b, name), strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := catalog.New(s).Commit(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// freed is a place that has let go of some objects.
type freed struct {
	refusing
	keys []string
}

func (f freed) Delete(ctx context.Context, key string) error {
	if slices.Contains(f.keys, key) {
		return f.Store.Delete(ctx, key)
	}
	return f.refusing.Delete(ctx, key)
}

// TestCheckRemovesWhatItLocked: where a deletion of what is locked is refused, the object
// that check wrote goes with a later check, once its lock is over. One that may be of a
// check that runs at the same time stays, also where it could be deleted.
func TestCheckRemovesWhatItLocked(t *testing.T) {
	dir := t.TempDir()
	local, err := store.NewLocal(store.LocalOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	now := time.Now()
	over, locked, young, other := triedPrefix+"1", triedPrefix+"2", triedPrefix+"3", triedPrefix+"server/clinic/3"
	for key, age := range map[string]time.Duration{over: 16 * time.Minute, locked: 16 * time.Minute, young: 14 * time.Minute, other: time.Hour} {
		_, err := local.Put(t.Context(), key, strings.NewReader("x"))
		if err := errors.Join(err, os.Chtimes(filepath.Join(dir, filepath.FromSlash(key)), now, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	s := freed{refusing{Store: local, lock: store.Lock{Mode: store.LockGovernance, Until: now.Add(time.Hour)}}, []string{over, young, other}}
	st := stores{job{env: &env{now: func() time.Time { return now }}, cfg: &config.Config{}}}
	p := immutable.Policy{Mode: store.LockGovernance, Retention: retention.Policy{Days: pgmedic.Length{Days: 30}}, Now: st.now}
	if err := st.tryLock(t.Context(), s, p); err != nil {
		t.Error(err)
	}
	var left []string
	for o, err := range local.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, o.Key)
	}
	if len(left) != 4 || !slices.Contains(left, other) || !slices.Contains(left, locked) || !slices.Contains(left, young) {
		t.Errorf("left: %q", left)
	}
}

// TestPruneWaitsForLocks: a lock is waited for, whether it was read before or a deletion
// was refused for it, and none is an error; one that can't be read is both.
func TestPruneWaitsForLocks(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	until := now.AddDate(0, 0, 3)
	for name, c := range map[string]struct {
		lock    store.Lock
		lockErr error
		words   string
		after   time.Time
		fails   bool
	}{
		"a time":        {store.Lock{Mode: store.LockCompliance, Until: until}, nil, "locked until 2026-12-01 12:00Z (compliance)", until, false},
		"a hold":        {store.Lock{Held: true}, nil, "until a legal hold is taken off", now, false},
		"both":          {store.Lock{Mode: store.LockGovernance, Until: until, Held: true}, nil, "and until a legal hold", until, false},
		"not read":      {store.Lock{}, errors.New("denied"), "could not be read", now, true},
		"over, refused": {store.Lock{Mode: store.LockGovernance, Until: now.Add(-time.Hour)}, nil, "locked by the store", now, false},
	} {
		t.Run(name, func(t *testing.T) {
			local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			folder := "main/shop/20261101T120000Z-00000a"
			for _, object := range []string{"dump.sql.gz", "doomed.json"} {
				if _, err := local.Put(t.Context(), folder+"/"+object, strings.NewReader("{}")); err != nil {
					t.Fatal(err)
				}
			}
			r := newRetainer(job{env: &env{now: func() time.Time { return now }}, cfg: &config.Config{}})
			held := &heldStore{StoreOf: config.StoreOf{Name: "a", Locking: config.Locking{ObjectLock: "governance"}}, catalog: catalog.New(refusing{local, c.lock, c.lockErr})}
			orphans := []retention.Orphan{{Store: "a", Orphan: catalog.Orphan{Folder: folder}, Verdict: retention.Delete, Reason: "old"}}
			b := markedBackup(t, local, now)
			listing, err := held.catalog.List(t.Context(), catalog.Filter{Database: "clinic"})
			if err != nil || len(listing.Entries) != 1 {
				t.Fatal(listing, err)
			}
			plan := retention.PlanStores([]retention.Store{{Name: "a", Policy: retention.Policy{}, Listing: listing}}, retention.Options{Now: now})
			plan[0].Decisions[0] = retention.Decision{ID: b.ID, Verdict: retention.Delete, DeleteAfter: now}
			err = r.stores.planLocks(t.Context(), retained{held}, plan, orphans)
			if (err != nil) != c.fails {
				t.Fatal(err)
			}
			if err := r.apply(t.Context(), retained{held}, plan, orphans); err != nil {
				t.Errorf("prune fails: %v", err)
			}
			o, d := orphans[0], plan[0].Decisions[0]
			done := prunedBackups{Series: plan, Orphans: []retention.Orphan{{Verdict: retention.Delete, Done: true, Orphan: catalog.Orphan{SizeBytes: 3}}}}
			plan[0].Decisions = append(plan[0].Decisions, retention.Decision{Verdict: retention.Delete, Bytes: 5}, retention.Decision{Verdict: retention.Mark, Bytes: 7})
			if done.sum(true); done.FreedBytes != 3 || done.MarkedBytes != 5+d.Bytes {
				t.Errorf("freed %d, marked %d", done.FreedBytes, done.MarkedBytes)
			}
			if done.sum(false); done.FreedBytes != 8 || done.MarkedBytes != 7+d.Bytes {
				t.Errorf("would free %d and mark %d", done.FreedBytes, done.MarkedBytes)
			}
			if o.Verdict != retention.Wait || o.Done || !strings.Contains(o.Reason, c.words) {
				t.Errorf("%+v", o)
			}
			if d.Verdict != retention.Wait || d.Done || !strings.Contains(d.Why(), c.words) || !d.DeleteAfter.Equal(c.after) {
				t.Errorf("%+v", d)
			}
		})
	}
}

// TestWhoseLocks: prune lengthens the lock of a backup that is kept, but of none that this
// host refuses, and of none at all where it can't tell or where a clock is wrong.
func TestWhoseLocks(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	local, err := store.NewLocal(store.LocalOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	b := putBackup(t, local, now.AddDate(0, 0, -1))
	for name, c := range map[string]struct {
		passphrase, stop string
		locks            bool
		reason, fails    string
	}{
		"kept":    {"", "", true, "", ""},
		"refused": {"correct horse battery staple", "", false, "because this host refuses it", ""},
		"stopped": {"", "the clock is wrong", false, "", "no lock was lengthened of clinic on main in a: the clock is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := &config.Config{Backup: config.Backup{EncryptionKey: config.Secret(c.passphrase)}}
			r := newRetainer(job{env: &env{now: func() time.Time { return now }}, cfg: cfg})
			held := &heldStore{StoreOf: config.StoreOf{Name: "a", Locking: config.Locking{ObjectLock: "governance", Retention: config.Retention{Days: "30d"}}},
				catalog: catalog.New(refusing{Store: local}), stop: c.stop}
			listing, err := held.catalog.List(t.Context(), r.keys.trusting(catalog.Filter{}))
			if err != nil {
				t.Fatal(err)
			}
			plan := retention.PlanStores([]retention.Store{{Name: "a", Policy: retention.Policy{Days: pgmedic.Length{Days: 30}}, Listing: listing}}, retention.Options{Now: now})
			err = r.stores.planLocks(t.Context(), retained{held}, plan, nil)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v", err)
			}
			d := plan[0].Decisions[0]
			if d.ID != b.ID || d.LockUntil.IsZero() == c.locks || !strings.Contains(d.Why(), c.reason) {
				t.Errorf("%+v", d)
			}
			done := prunedBackups{Series: plan}
			if done.changes() != c.locks {
				t.Errorf("changes: %t", !c.locks)
			}
			if err := r.apply(t.Context(), retained{held}, plan, nil); err != nil {
				t.Error(err)
			}
			said := decisionWords(plan[0].Decisions[0], now)
			if done.changes() || plan[0].Decisions[0].Locked != c.locks || strings.Contains(said, "to be locked") || strings.Contains(said, "locked until") != c.locks {
				t.Errorf("afterwards: %+v, %q", plan[0].Decisions[0], said)
			}
		})
	}
}

// TestReleaseOfLegalHolds: a release takes legal holds off where pgmedic set them for what
// is released, of every object, whatever the manifest says; and leaves all others.
func TestReleaseOfLegalHolds(t *testing.T) {
	server := s3test.Start(t, s3test.Options{Versions: true})
	server.Setenv(t)
	s, err := s3.New(t.Context(), server.Options(server.LockBucket()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	plain, err := s3.New(t.Context(), server.Options(server.Bucket()))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	now := time.Now().UTC()
	endless, ends, odd := catalog.Hold{Name: "a"}, catalog.Hold{Name: "b", Until: now.AddDate(0, 1, 0)}, catalog.Hold{Name: "c", Odd: "it is not valid"}
	for i, c := range []struct {
		name     string
		holds    []catalog.Hold
		released string
		lock     string
		in       *s3.Store
		held     bool // after it
		warns    bool
	}{
		{"the only one", []catalog.Hold{endless}, "a", "governance", s, false, false},
		{"beside one that ends", []catalog.Hold{endless, ends}, "a", "governance", s, false, false},
		{"one that ends", []catalog.Hold{ends}, "b", "governance", s, true, false},
		{"one that ends, beside it", []catalog.Hold{endless, ends}, "b", "governance", s, true, false},
		{"one of two", []catalog.Hold{endless, odd}, "a", "governance", s, true, false},
		{"an odd one", []catalog.Hold{odd}, "c", "governance", s, false, false},
		{"a mark alone", nil, "", "governance", s, true, false},
		{"switched off since", []catalog.Hold{endless}, "a", "off", s, true, true},
		{"off, and one that ends", []catalog.Hold{ends}, "b", "off", s, true, false},
		{"no locks there", []catalog.Hold{endless}, "a", "off", plain, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := putBackup(t, c.in, now.Add(-time.Duration(i)*time.Hour))
			manifest := catalog.Key(b, "manifest.json")
			if c.in == s {
				for o, err := range s.List(t.Context(), catalog.Folder("main", "clinic", b.ID)+"/") {
					if err != nil {
						t.Fatal(err)
					}
					if o.Key == manifest {
						continue // someone took that one off
					}
					if err := s.Hold(t.Context(), o.Key, true); err != nil {
						t.Fatal(err)
					}
				}
			}
			var log bytes.Buffer
			st := stores{job{env: &env{now: time.Now}, cfg: &config.Config{}, log: slog.New(slog.NewTextHandler(&log, nil))}}
			x := foundIn{store: &heldStore{StoreOf: config.StoreOf{Name: "a", Locking: config.Locking{ObjectLock: c.lock, Retention: config.Retention{Days: "30d"}}}, catalog: catalog.New(c.in)},
				entry: catalog.Entry{Backup: b, Holds: c.holds}}
			if err := st.unlockHeld(t.Context(), x, c.released); err != nil {
				t.Fatal(err)
			}
			if warns := strings.Contains(log.String(), "was not checked"); warns != c.warns {
				t.Errorf("it says %q", log.String())
			}
			l, err := c.in.LockOf(t.Context(), catalog.Key(b, "dump.sql.gz"))
			if err != nil || l.Held != c.held {
				t.Errorf("held %v, %v", l, err)
			}
		})
	}
}
