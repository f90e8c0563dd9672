package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/immutable"
	"github.com/pgmedic/pgmedic/internal/retention"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/words"
)

// openPlace opens any store, so that what is put there is locked as the configuration
// says. Without mustExist it is to be written to: one that can't lock, though it should,
// is refused.
func (st stores) openPlace(ctx context.Context, place config.Place, access config.Access, mustExist bool) (*catalog.Catalog, func(), error) {
	c, closed, err := st.openUnlocked(ctx, place, access, mustExist)
	if err != nil {
		return nil, nil, err
	}
	locking, unlocked := st.cfg.Locking(place)
	p := st.lockPolicy(locking)
	if unlocked && !mustExist {
		st.log.Warn("object_lock is set, and this folder can't lock: nothing there is locked", "store", c.Store().String())
	}
	if !p.On() {
		return c, closed, nil
	}
	s := p.Wrap(c.Store())
	if !mustExist {
		if s, err = p.Open(ctx, c.Store()); err != nil {
			closed()
			return nil, nil, err
		}
	}
	return catalog.WithAnchor(s, st.trail.anchor), closed, nil
}

// lockPolicy says how the objects of a store are locked.
func (st stores) lockPolicy(l config.Locking) immutable.Policy {
	p := immutable.Policy{Retention: policyOf(l.Retention, 0, ""), Now: st.now}
	switch l.ObjectLock {
	case string(store.LockGovernance):
		p.Mode = store.LockGovernance
	case string(store.LockCompliance):
		p.Mode = store.LockCompliance
	}
	return p
}

// forSafety returns a catalogue in which safety backups are locked for as long as those
// are kept.
func (st stores) forSafety(c *catalog.Catalog) *catalog.Catalog {
	locking, _ := st.cfg.Locking(st.cfg.Backup.Place())
	p := st.lockPolicy(locking)
	p.Purpose = pgmedic.PurposeSafety
	if !p.On() {
		return c
	}
	return catalog.WithAnchor(p.Wrap(c.Store()), st.trail.anchor)
}

// planLocks adds to a plan what locks mean for it. What is to be deleted, and is locked,
// waits: also where a place says yes to a deletion, it keeps the bytes. What is kept is to
// be locked for as long as that is certain now, and as its holds say. A lock that can't be
// read is waited for, and an error.
func (st stores) planLocks(ctx context.Context, stores retained, plan []retention.Series, orphans []retention.Orphan) error {
	var errs []error
	for i := range plan {
		s := stores.named(plan[i].Store)
		if !st.lockPolicy(s.Locking).On() {
			continue
		}
		if s.stop != "" {
			errs = append(errs, pgmedic.Errorf(pgmedic.KindFailed, s.hint, "no lock was lengthened of %s in %s: %s", seriesName(plan[i]), s.Name, s.stop))
		} else {
			errs = append(errs, st.planSeriesLocks(ctx, s, plan[i]))
		}
	}
	for i := range orphans {
		o := &orphans[i]
		s := stores.named(o.Store)
		if o.Verdict != retention.Delete || o.Done || !st.lockPolicy(s.Locking).On() {
			continue
		}
		lock, err := immutable.OfFolder(ctx, s.catalog, o.Folder)
		if why, _ := lockedWords(lock, err, st.now()); why != "" {
			o.Verdict, o.Reason = retention.Wait, o.Reason+"; "+why
			errs = append(errs, unreadLock(o.Folder, err))
		}
	}
	return errors.Join(errs...)
}

// planSeriesLocks is planLocks of one series.
func (st stores) planSeriesLocks(ctx context.Context, s *heldStore, series retention.Series) error {
	locks, failed := make([]store.Lock, len(series.Decisions)), make([]error, len(series.Decisions))
	var asking errgroup.Group
	asking.SetLimit(backupsAsked)
	for i, d := range series.Decisions {
		if d.Verdict == retention.Keep || d.Verdict == retention.Delete {
			of := immutable.Of
			if d.Verdict == retention.Delete {
				of = immutable.OfManifest // without which nothing is kept
			}
			asking.Go(func() error {
				locks[i], failed[i] = of(ctx, s.catalog, series.Entry(d.ID).Backup)
				return nil
			})
		}
	}
	_ = asking.Wait() // what could not be read is in failed
	for i := range series.Decisions {
		d := &series.Decisions[i]
		failed[i] = unreadLock(d.ID, failed[i])
		switch d.Verdict {
		case retention.Delete:
			if why, until := lockedWords(locks[i], failed[i], st.now()); why != "" {
				d.Verdict, d.Reasons = retention.Wait, append(d.Reasons, why)
				if until.After(d.DeleteAfter) {
					d.DeleteAfter = until
				}
			}
		case retention.Keep:
			// What is left of a backup that has lost an object is locked all the same.
			if failed[i] == nil || pgmedic.KindOf(failed[i]) == pgmedic.KindIntegrity {
				e := series.Entry(d.ID)
				until, hold, err := st.lockPolicy(s.Locking).Lacking(locks[i], e.Backup, d.KeptUntil, e.Held(st.now()))
				failed[i] = errors.Join(failed[i], err)
				switch {
				case until.IsZero() && !hold:
				case e.Refused(): // its writer is not known
					d.Reasons = append(d.Reasons, "its lock is not lengthened, because this host refuses it")
				default:
					d.LockUntil, d.LockHold = until, hold
				}
			}
		case retention.Mark, retention.Wait:
		}
	}
	return errors.Join(failed...)
}

const (
	// locksAsked is how many locks are asked for at once.
	locksAsked = 8
	// backupsAsked is how many backups are whose objects are all asked for their locks.
	backupsAsked = 2
)

// lockedWords say why something is waited for, and until when; empty where it is not.
func lockedWords(l store.Lock, err error, now time.Time) (why string, until time.Time) {
	switch {
	case errors.Is(err, store.ErrNotFound): // it is gone, or was never whole
		return "", until
	case err != nil:
		return "until when it is locked could not be read", until
	case !l.Locks(now):
		return "", until
	}
	return "locked " + lockText(l), l.Until
}

// lockText says in words until when something is locked.
func lockText(l store.Lock) string {
	const hold = "until a legal hold is taken off"
	until := fmt.Sprintf("until %s (%s)", l.Until.UTC().Format("2006-01-02 15:04Z"), words.Clean(string(l.Mode)))
	switch {
	case l.Until.IsZero() && l.Held:
		return hold
	case l.Until.IsZero():
		return "not at all"
	case l.Held:
		return until + ", and " + hold
	}
	return until
}

func unreadLock(of string, err error) error {
	if err == nil || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("read the lock of %s: %w", of, err)
}

// lockKept locks a backup as the plan says, and notes that it did.
func (st stores) lockKept(ctx context.Context, s *heldStore, e catalog.Entry, d *retention.Decision) error {
	if !d.Lacks() {
		return nil
	}
	err := st.lockPolicy(s.Locking).Extend(ctx, s.catalog, e.Backup, d.LockUntil)
	if d.LockHold {
		err = errors.Join(err, immutable.Hold(ctx, s.catalog, e.Backup, true))
	}
	d.Locked = err == nil
	return err
}

// lockHeld locks a backup in one store as its holds say, where that store locks.
func (st stores) lockHeld(ctx context.Context, x foundIn, holds []catalog.Hold) error {
	p := st.lockPolicy(x.store.Locking)
	if !p.On() {
		return nil
	}
	return p.Keep(ctx, x.store.catalog, x.entry.Backup, holds)
}

// checkLockable refuses a hold that no lock can be set for, before it is added.
func (st stores) checkLockable(x foundIn, h catalog.Hold) error {
	p := st.lockPolicy(x.store.Locking)
	if !p.On() || !h.Until.After(p.MaxHold()) {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage, "name an earlier time, or leave --until out: then it is held until you release it",
		"--until is after %s, until when a hold can lock a backup at the most", p.MaxHold().UTC().Format(time.DateOnly))
}

// unlockHeld takes the legal hold off all objects of a backup of which a hold without an
// end is released, unless another such is left. Any other release leaves legal holds
// alone: pgmedic set none for what is released. What is locked until a time stays so.
func (st stores) unlockHeld(ctx context.Context, x foundIn, released string) error {
	if !endsLegalHold(x.entry.Holds, released) || !st.unlocks(ctx, x.store, x.entry.Backup.ID) {
		return nil
	}
	return immutable.Hold(ctx, x.store.catalog, x.entry.Backup, false)
}

// endsLegalHold reports whether of the holds the last one without an end is released.
func endsLegalHold(holds []catalog.Hold, released string) bool {
	endless := false
	for _, h := range holds {
		if h.Until.IsZero() && h.Name != released {
			return false
		}
		endless = endless || h.Until.IsZero()
	}
	return endless
}

// unlocks reports whether a store is to take a backup's legal hold off. It warns where that
// is not asked for and there may be one.
func (st stores) unlocks(ctx context.Context, in *heldStore, id string) bool {
	s, locks := in.catalog.Store().(store.Locker)
	if locks && !st.lockPolicy(in.Locking).On() {
		if err := s.CheckLocks(ctx); pgmedic.KindOf(err) != pgmedic.KindUsage || err == nil {
			st.log.Warn("object_lock is off: whether the backup has a legal hold was not checked, and none is taken off", "backup", id, "store", in.Name)
		}
		return false
	}
	return locks
}

// lockRow is what is known of the lock of a backup.
type lockRow struct {
	store.Lock
	// Asked is false where the store is not configured to lock, and nothing is known.
	Asked bool `json:"asked"`
	// Error says why nothing is known though it was asked for.
	Error string `json:"error,omitempty"`
}

// words say until when a backup can't be deleted, or nothing of a store that never locks.
func (r lockRow) words(now time.Time, s store.Store) string {
	_, locks := s.(store.Locker)
	switch {
	case !r.Asked && !locks:
		return ""
	case !r.Asked:
		return "not asked: object_lock is off"
	case r.Error != "":
		return "not known: " + words.Clean(r.Error)
	case !r.Locks(now) && !r.Until.IsZero():
		return "no more, since " + r.Until.UTC().Format("2006-01-02 15:04Z")
	}
	return lockText(r.Lock)
}

// lockOf asks for the lock of a backup in the chosen store, as of says: immutable.Of or
// immutable.OfManifest.
func (st stores) lockOf(ctx context.Context, c *catalog.Catalog, b *pgmedic.Backup, of func(context.Context, *catalog.Catalog, *pgmedic.Backup) (store.Lock, error)) lockRow {
	locking, _ := st.cfg.Locking(st.cfg.Backup.Place())
	if !st.lockPolicy(locking).On() {
		return lockRow{}
	}
	l, err := of(ctx, c, b)
	if err != nil {
		return lockRow{Asked: true, Error: words.OneLine(err.Error())}
	}
	return lockRow{Asked: true, Lock: l}
}

// locksOf asks for the locks of the manifests of backups in the chosen store, by id; none where that is
// not configured to lock.
func (st stores) locksOf(ctx context.Context, c *catalog.Catalog, entries []catalog.Entry) map[string]*lockRow {
	locking, _ := st.cfg.Locking(st.cfg.Backup.Place())
	if !st.lockPolicy(locking).On() {
		return nil
	}
	rows := make([]lockRow, len(entries))
	var asking errgroup.Group
	asking.SetLimit(locksAsked)
	for i, e := range entries {
		asking.Go(func() error {
			rows[i] = st.lockOf(ctx, c, e.Backup, immutable.OfManifest)
			return nil
		})
	}
	_ = asking.Wait() // what could not be read is in the rows
	all := map[string]*lockRow{}
	for i, e := range entries {
		all[e.Backup.ID] = &rows[i]
	}
	return all
}

// printLocks prints until when each backup is locked.
func (st stores) printLocks(c *catalog.Catalog, listing catalog.Listing, locks map[string]*lockRow) {
	for _, e := range listing.Entries {
		row := locks[e.Backup.ID]
		if row == nil {
			continue
		}
		paint, word := st.paint(st.stdoutTTY), "locked"
		if row.Error != "" || !row.Locks(st.now()) {
			word = paint.warn(word)
		}
		st.wrapf("%s    %s  %s\n", word, words.Clean(e.Backup.ID), row.words(st.now(), c.Store()))
	}
}

// checkLocks tries whether a store locks what it should, and says where it keeps what is
// deleted. Of names a copy in the words.
func (st stores) checkLocks(ctx context.Context, l *checklist, of string, s store.Store, place config.Place) {
	locking, _ := st.cfg.Locking(place)
	p := st.lockPolicy(locking)
	s = immutable.Unwrap(s)
	if p.On() {
		if err := st.tryLock(ctx, s, p); err != nil {
			l.fail("object lock", fmt.Errorf("%s%w", of, err))
		} else {
			now := st.now()
			l.ok("object lock", "%s%s: objects are locked (%s), of a backup that begins now until %s at least; pgmedic prune --yes lengthens that", of, s, p.Mode,
				p.Retention.Certain(now, pgmedic.PurposeRegular).Format("2006-01-02 15:04Z"))
		}
	}
	v, ok := s.(store.Versioned)
	if !ok {
		return
	}
	const hint = "give the bucket a lifecycle rule that expires versions which are not current; docs/stores.md has one"
	switch keeps, err := v.KeepsVersions(ctx); {
	case err != nil:
		l.add("versions", pgmedic.OutcomeSkipped, of+"whether the bucket keeps versions of what is deleted is not known: "+words.OneLine(err.Error()),
			"allow s3:GetBucketVersioning, or look there")
	case keeps && p.On():
		l.ok("versions", "%s%s keeps versions: what is deleted is only hidden, and its bytes stay until a lifecycle rule removes them, which was not checked", of, s)
	case keeps:
		l.add("versions", pgmedic.OutcomeWarn, fmt.Sprintf("%s%s keeps versions: what is deleted is only hidden, and its bytes stay until a lifecycle rule removes them, which was not checked", of, s), hint)
	}
}

// triedPrefix is what names begin with of objects that check locked.
const triedPrefix = "pgmedic-check-"

// tryLock puts an object with a lock, and reads that. The object stays until the lock is
// over: hidden where the place keeps versions, elsewhere until a later check deletes it.
func (st stores) tryLock(ctx context.Context, s store.Store, p immutable.Policy) error {
	if _, err := p.Open(ctx, s); err != nil {
		return err
	}
	const tried = 15 * time.Minute
	lockable := s.(store.Locker) // Open says so
	for earlier, err := range s.List(ctx, triedPrefix) {
		// One that is younger than its lock can be that of a check that runs now.
		young := err == nil && st.now().Sub(earlier.ModifiedAt) < tried
		if err == nil && !young && !strings.Contains(earlier.Key, "/") { // and not of a server with such a name
			err = s.Delete(ctx, earlier.Key)
		}
		if err != nil && !errors.Is(err, store.ErrLocked) {
			return fmt.Errorf("delete what an earlier check locked: %w", err)
		}
	}
	key, lock := triedPrefix+catalog.NewID(st.now()), store.Lock{Mode: p.Mode, Until: st.now().Add(tried).UTC().Truncate(time.Second)}
	if _, err := lockable.PutLocked(ctx, key, strings.NewReader("written by pgmedic check; may be deleted\n"), lock); err != nil {
		return fmt.Errorf("write a locked object into the store: %w", err)
	}
	has, err := lockable.LockOf(ctx, key)
	if err == nil && has.Until.Before(lock.Until) {
		err = pgmedic.Errorf(pgmedic.KindFailed, "use another store", "%s took a lock, and says that the object is not locked", s)
	}
	if err == nil {
		err = lockable.LockUntil(ctx, key, store.Lock{Mode: p.Mode, Until: lock.Until.Add(time.Second)})
	}
	if deleteErr := s.Delete(context.WithoutCancel(ctx), key); err == nil && !errors.Is(deleteErr, store.ErrLocked) {
		err = deleteErr
	}
	return err
}
