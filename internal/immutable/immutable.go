// Package immutable keeps backups from being deleted by whoever holds a host's
// credentials, in stores that can lock objects: it says which objects of a backup have
// which lock, lengthens locks, and reads them.
package immutable

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	manifestName = "manifest.json"
	// jobs is how many objects are locked at once.
	jobs = 8
	// least is how much of a lock must be left for an object to be put with it: places
	// refuse what is over, by their clocks.
	least = 10 * time.Minute
	// holdYears is for how many years from now a hold locks at the most, and maxAhead how
	// far in the future a backup that is locked may have begun: our choice.
	holdYears = 10
	maxAhead  = time.Hour
)

// objectKey matches the keys of a backup's objects: its id, the time at which it began, and
// the object's name.
var objectKey = regexp.MustCompile(`^[^/]+/[^/]+/((\d{8}T\d{6}Z)-[0-9a-f]{6})/(.+)$`)

// walKey matches the keys of WAL, in an epoch of an archive: of which kind it is.
var walKey = regexp.MustCompile(`^[^/]+/@wal/\d{1,20}/\d{8}T\d{6}Z-[0-9a-f]{6}/(seg|tail|hist|index|base|gap|keys|epoch\.json)[/.]?`)

// epochLonger is for how much longer the key of an epoch of WAL is locked than a segment
// that is stored at the same time: an epoch takes segments for a day.
const epochLonger = 48 * time.Hour

// noteName matches the objects beside a backup that are taken off again: marks and holds.
var noteName = regexp.MustCompile(`^(doomed|hold-[^/]+)\.json$`)

// Policy says how the objects of backups are locked in one store.
type Policy struct {
	// Mode is how strictly. Empty locks nothing.
	Mode store.LockMode
	// Retention is how long backups are kept there.
	Retention retention.Policy
	// Purpose is that of the backups that are put: safety backups are kept for another
	// time. Empty is regular.
	Purpose pgmedic.Purpose
	// Now is the time. Nil is time.Now.
	Now func() time.Time
}

// On reports whether anything is locked.
func (p Policy) On() bool { return p.Mode != "" }

// Check refuses a policy that locks nothing though it is on.
func (p Policy) Check() error {
	if p.On() && p.Retention.Off() {
		return pgmedic.Errorf(pgmedic.KindUsage, "set retention, or set object_lock to off",
			"object_lock has no time to lock backups for: retention keeps them without end")
	}
	return nil
}

// Open returns a store whose new objects are locked as the policy says, or an error of
// KindUsage where the place can't lock them. Without a policy it returns s.
func (p Policy) Open(ctx context.Context, s store.Store) (store.Store, error) {
	if !p.On() {
		return s, nil
	}
	if err := p.Check(); err != nil {
		return nil, err
	}
	l, ok := s.(store.Locker)
	if !ok {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "set object_lock to off, or use a bucket or container that can lock: docs/stores.md", "object_lock is set, and %s can't lock objects", s)
	}
	if err := l.CheckLocks(ctx); err != nil {
		return nil, fmt.Errorf("object_lock is set: %w", err)
	}
	return &locking{l, p}, nil
}

// Wrap is Open that asks nothing: of a place that can't lock, the first Put of an object
// with a lock is refused.
func (p Policy) Wrap(s store.Store) store.Store {
	l, ok := Unwrap(s).(store.Locker)
	if !ok || !p.On() {
		return s
	}
	return &locking{l, p}
}

// LockOf returns the lock with which an object is put: that of a backup until the policy
// keeps it at least, and that of WAL as of a backup that begins now. Marks, holds and
// observations of servers have none, nor has what is neither a backup's nor WAL. One of a
// backup from the future is an error of KindIntegrity.
func (p Policy) LockOf(key string) (store.Lock, error) {
	if m := walKey.FindStringSubmatch(key); m != nil {
		at := p.now()
		if m[1] == "keys" || m[1] == "epoch.json" {
			at = at.Add(epochLonger)
		}
		return p.Lock(p.Retention.Certain(at, pgmedic.PurposeRegular)), nil
	}
	m := objectKey.FindStringSubmatch(key)
	if m == nil || noteName.MatchString(m[3]) {
		return store.Lock{}, nil
	}
	var lock store.Lock
	if began, err := time.Parse("20060102T150405Z", m[2]); err == nil { // else 20269999T…: not the id of a backup
		if err := p.checkBegan(m[1], began); err != nil {
			return store.Lock{}, err
		}
		lock = p.Lock(p.Retention.Certain(began, p.Purpose))
	}
	return lock, nil
}

// Lock is one until a time, or none where that is over or as good as over.
func (p Policy) Lock(until time.Time) store.Lock {
	if !p.On() || until.Sub(p.now()) < least {
		return store.Lock{}
	}
	return store.Lock{Mode: p.Mode, Until: until.UTC().Truncate(time.Second)}
}

// locker is the catalogue's store as one that locks.
func locker(c *catalog.Catalog) (store.Locker, error) {
	l, ok := c.Store().(store.Locker)
	if !ok {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "use a store that can", "%s can't lock objects", c.Store())
	}
	return l, nil
}

// Of returns the lock of a backup: the least that any of its objects has, but marks and
// holds. Where an object is missing the error is of KindIntegrity, and the lock is that of
// the others.
func Of(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (store.Lock, error) {
	var mu sync.Mutex
	var has *store.Lock
	err := each(ctx, c, b, func(ctx context.Context, l store.Locker, key string) error {
		lock, err := l.LockOf(ctx, key)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if has == nil {
			has = &lock
		} else {
			*has = lesser(*has, lock)
		}
		return nil
	})
	if has == nil || err != nil && pgmedic.KindOf(err) != pgmedic.KindIntegrity {
		return store.Lock{}, err
	}
	return *has, err
}

// lesser is what two locks have in common.
func lesser(a, b store.Lock) store.Lock {
	least := a
	if b.Until.Before(a.Until) {
		least = b
	}
	if b.Mode == store.LockGovernance && !least.Until.IsZero() {
		least.Mode = b.Mode
	}
	if a.Mode == store.LockGovernance && !least.Until.IsZero() {
		least.Mode = a.Mode
	}
	least.Held = a.Held && b.Held
	return least
}

// OfManifest returns the lock of a backup's manifest alone, which takes one request and
// says nothing of the other objects.
func OfManifest(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup) (store.Lock, error) {
	l, err := locker(c)
	if err != nil {
		return store.Lock{}, err
	}
	return l.LockOf(ctx, catalog.Key(b, manifestName))
}

// OfFolder returns the lock of what has no manifest: that of the first object in it.
func OfFolder(ctx context.Context, c *catalog.Catalog, folder string) (store.Lock, error) {
	l, err := locker(c)
	if err != nil {
		return store.Lock{}, err
	}
	for o, err := range l.List(ctx, folder+"/") {
		if err != nil {
			return store.Lock{}, err
		}
		if noteName.MatchString(o.Key[len(folder)+1:]) {
			continue
		}
		return l.LockOf(ctx, o.Key)
	}
	return store.Lock{}, nil
}

// HoldFolder is Hold for what is in the folder of a backup whose manifest can't be used: for
// all of it, but for marks and the notes of holds.
func HoldFolder(ctx context.Context, c *catalog.Catalog, folder string, held bool) error {
	l, err := locker(c)
	if err != nil {
		return err
	}
	for o, err := range l.List(ctx, folder+"/") {
		if err == nil && !noteName.MatchString(o.Key[len(folder)+1:]) {
			err = l.Hold(ctx, o.Key, held)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Extend has all objects of a backup locked until a time at least. What has a longer lock
// keeps it. A backup that others need, such as the base of a chain, is extended until the
// last of those may go. Where an object is missing the others are locked, and the error is
// of KindIntegrity.
func (p Policy) Extend(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, until time.Time) error {
	lock := p.Lock(until)
	if lock == (store.Lock{}) {
		return nil
	}
	return each(ctx, c, b, func(ctx context.Context, l store.Locker, key string) error { return l.LockUntil(ctx, key, lock) })
}

// Hold sets a legal hold on all objects of a backup, or takes it off.
func Hold(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, held bool) error {
	return each(ctx, c, b, func(ctx context.Context, l store.Locker, key string) error { return l.Hold(ctx, key, held) })
}

// Lacking returns what a backup's lock lacks: the time until when it is to be locked, and
// whether a legal hold is to be set. It is kept until a time, and by holds: one that has no
// end asks for a legal hold. Neither is ever taken off for want of a reason.
//
// Nothing tells who wrote a hold, nor always who wrote a manifest, and nothing can undo a
// lock. So a backup from the future, and a hold that ends after MaxHold, lengthen none, and
// are errors of KindIntegrity; what the other holds ask for is returned beside.
func (p Policy) Lacking(has store.Lock, b *pgmedic.Backup, kept time.Time, holds []catalog.Hold) (until time.Time, hold bool, err error) {
	if !p.On() {
		return time.Time{}, false, nil
	}
	var errs []error
	if err := p.checkBegan(b.ID, b.StartedAt); err != nil {
		errs = append(errs, err)
	} else {
		until = kept
	}
	for _, h := range holds {
		if h.Until.After(p.MaxHold()) {
			errs = append(errs, pgmedic.Errorf(pgmedic.KindIntegrity, "find out who wrote it; pgmedic release "+b.ID+" --name "+h.Name+" takes it off",
				"nothing is locked for hold %q of backup %s: it ends at %s, in more than %d years, and a lock can't be undone", h.Name, b.ID, h.Until.UTC().Format("2006-01-02 15:04Z"), holdYears))
			continue
		}
		hold = hold || h.Until.IsZero()
		if h.Until.After(until) {
			until = h.Until
		}
	}
	hold = hold && !has.Held
	lock := p.Lock(until)
	if !has.Until.Before(lock.Until) {
		lock.Until = time.Time{}
	}
	return lock.Until, hold, errors.Join(errs...)
}

// MaxHold is until when a hold can lock a backup at the most.
func (p Policy) MaxHold() time.Time { return p.now().AddDate(holdYears, 0, 0) }

// checkBegan refuses to lock for as long as a backup from the future would be kept.
func (p Policy) checkBegan(id string, at time.Time) error {
	ahead := at.Sub(p.now())
	if ahead <= maxAhead {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindIntegrity, "compare the clocks of this host and of the one that took it, or find out who wrote it",
		"backup %s is not locked: it began %s in the future, and a lock can't be undone", id, words.Duration(ahead))
}

func (p Policy) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// Keep locks a backup as its holds say.
func (p Policy) Keep(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, holds []catalog.Hold) error {
	until, hold, err := p.Lacking(store.Lock{}, b, time.Time{}, holds)
	err = errors.Join(err, p.Extend(ctx, c, b, until))
	if hold {
		err = errors.Join(err, Hold(ctx, c, b, true))
	}
	return err
}

// needed are the names of the objects without which a backup can't be used.
func needed(b *pgmedic.Backup) []string {
	names := []string{manifestName, manifestName + ".sha256"}
	if b.Seal.Encryption != "none" {
		names = append(names, manifestName+".hmac")
	}
	for _, o := range b.Objects {
		names = append(names, o.Name)
	}
	return names
}

// each calls f for every object of a backup but marks and holds, the manifest last. It
// ends with the first error of f. An object that is missing, or that a delete marker hides,
// is an error of KindIntegrity after f was called for all others.
func each(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, f func(context.Context, store.Locker, string) error) error {
	l, err := locker(c)
	if err != nil {
		return err
	}
	folder := catalog.Folder(b.Server.Name, b.Database.Name, b.ID)
	there := map[string]bool{}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for o, err := range l.List(ctx, folder+"/") {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		name := o.Key[len(folder)+1:]
		there[name] = true
		if name == manifestName || noteName.MatchString(name) {
			continue
		}
		group.Go(func() error { return f(groupCtx, l, o.Key) })
	}
	err = group.Wait()
	if err == nil && there[manifestName] {
		err = f(ctx, l, folder+"/"+manifestName)
	}
	if err != nil {
		return fmt.Errorf("locks of backup %s: %w", b.ID, err)
	}
	missing := slices.DeleteFunc(needed(b), func(name string) bool { return there[name] })
	if len(missing) > 0 {
		return pgmedic.Errorf(pgmedic.KindIntegrity, "find out who deletes in the store, and bring the object back: a version of it may still be there, below a delete marker",
			"backup %s has lost %d of its objects in %s, such as %s", b.ID, len(missing), l, missing[0])
	}
	return nil
}
