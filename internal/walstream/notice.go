package walstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgmedic/pgmedic/internal/wal"
	"github.com/pgmedic/pgmedic/internal/walspool"
)

// NoticeKind is what a Notice is about.
type NoticeKind string

// The kinds of notices. Those of Behind, StoreAway, Interrupted, SyncAway and Broken come once when it
// begins, and once with Over when it has ended.
const (
	// NoticeBehind: the server has written more than is stored, for longer than allowed.
	NoticeBehind NoticeKind = "behind"
	// NoticeStoreAway: the store has taken nothing for awayAfter.
	NoticeStoreAway NoticeKind = "store_away"
	// NoticeInterrupted: nothing has streamed for awayAfter.
	NoticeInterrupted NoticeKind = "interrupted"
	// NoticeLost: WAL is lost, and a base backup is needed. Its Over, found when a stream
	// begins, is that the stored WAL has no gap that matters any more.
	NoticeLost NoticeKind = "lost"
	// NoticeSlotLost: the server has given up the slot, which was made again.
	NoticeSlotLost NoticeKind = "slot_lost"
	// NoticeFailover: the server is on a new timeline, and the old one has commits that
	// the new one does not have, or it is not known whether it has any.
	NoticeFailover NoticeKind = "failover"
	// NoticeSyncAway: no commit that waits for the spool can end, because nothing is written
	// into that: at once where the spool is full, else after syncAwayAfter.
	NoticeSyncAway NoticeKind = "sync_away"
	// NoticeStored: all that the server is known to have written is stored. It comes about
	// once a minute.
	NoticeStored NoticeKind = "stored"
)

// Notice is something that a person or a program should know of a stream.
type Notice struct {
	Kind NoticeKind
	// Over is true of the end of what a notice of this kind began.
	Over bool
	At   time.Time
	// Summary is a sentence without a full stop, which begins in lower case.
	Summary string
}

// awayAfter is how long the store may take nothing, or nothing may stream, until that is
// noticed: a restart of either is not news. This threshold is our choice.
const awayAfter = 5 * time.Minute

// syncAwayAfter is how long nothing may be written into the spool until that is noticed:
// commits may be waiting. This threshold is our choice.
const syncAwayAfter = time.Minute

// behindAfter is how long the server may be ahead of what is stored: as long as a reader of
// the store allows, without the time between two observations.
func behindAfter(maxDelay time.Duration) time.Duration { return max(3*maxDelay, time.Minute) }

// ErrConflict is found in errors that end a stream because what the server has is not the
// continuation of what is stored: two servers write under one name, or one was set back.
var ErrConflict = errors.New("the server's WAL is not the continuation of what is stored")

// conflictError is ErrConflict in words of its own.
type conflictError string

func conflict(format string, args ...any) error { return conflictError(fmt.Sprintf(format, args...)) }

// Error implements error.
func (e conflictError) Error() string { return string(e) }

// Is reports whether the error is ErrConflict.
func (e conflictError) Is(target error) bool { return target == ErrConflict || target == e }

// watch decides what is noticed. Its methods may be called at the same time.
type watch struct {
	now      func() time.Time
	notify   func(Notice)
	maxDelay time.Duration

	mu sync.Mutex
	// open are the kinds that have begun.
	open map[NoticeKind]bool
	lag  lag
	// failing is since when the store has taken nothing, and waiting since when nothing
	// has streamed; zero where neither is so.
	failing, waiting time.Time
	stored           time.Time
	// unsynced is since when nothing is written into the spool, and synced true once anything
	// was.
	unsynced time.Time
	synced   bool
}

func newWatch(o Options) *watch {
	return &watch{now: o.Now, notify: o.Notify, maxDelay: o.MaxDelay, open: map[NoticeKind]bool{}}
}

// tell hands on a notice. The lock is held, so that they come in order.
func (w *watch) tell(kind NoticeKind, over bool, format string, args ...any) {
	if w.notify != nil {
		w.notify(Notice{Kind: kind, Over: over, At: w.now(), Summary: fmt.Sprintf(format, args...)})
	}
}

// news hands on what neither begins nor ends.
func (w *watch) news(kind NoticeKind, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(kind, false, format, args...)
}

// begins hands on that something has begun, once until it ends.
func (w *watch) begins(kind NoticeKind, format string, args ...any) {
	if !w.open[kind] {
		w.open[kind] = true
		w.tell(kind, false, format, args...)
	}
}

// ends hands on that something has ended, if it has begun here or may have before.
func (w *watch) ends(kind NoticeKind, before bool, summary string) {
	if w.open[kind] || before {
		delete(w.open, kind)
		w.tell(kind, true, "%s", summary)
	}
}

// put takes account of an attempt to store something.
func (w *watch) put(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.failing = time.Time{}
		w.ends(NoticeStoreAway, false, "the store takes WAL again")
	case w.failing.IsZero():
		w.failing = w.now()
	case w.now().Sub(w.failing) >= awayAfter:
		w.begins(NoticeStoreAway, "the store has taken no WAL since %s, and the server keeps it: %s", w.failing.UTC().Format(time.RFC3339), err)
	}
}

// interrupted takes account of an attempt to stream that failed.
func (w *watch) interrupted(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.waiting.IsZero():
		w.waiting = w.now()
	case w.now().Sub(w.waiting) >= awayAfter:
		w.begins(NoticeInterrupted, "no WAL has been streamed since %s: %s", w.waiting.UTC().Format(time.RFC3339), err)
	}
}

// streaming takes account of a stream that has begun. Lost is true where the stored WAL has
// a gap behind which nothing can be recovered.
func (w *watch) streaming(lost bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.waiting.IsZero() && w.lag.zero()
	w.waiting = time.Time{}
	w.ends(NoticeInterrupted, first, "WAL is streamed again")
	if first { // what another run may have left open
		w.ends(NoticeStoreAway, true, "the store takes WAL again")
	}
	if !lost {
		w.ends(NoticeLost, true, "the stored WAL has no gap that no base backup has been taken after")
	}
}

// syncInterrupted takes account of an attempt to fill the spool that failed.
func (w *watch) syncInterrupted(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsynced.IsZero() {
		w.unsynced = w.now()
	}
	if errors.Is(err, walspool.ErrFull) || w.now().Sub(w.unsynced) >= syncAwayAfter {
		w.begins(NoticeSyncAway, "nothing has been written into the spool since %s, and commits that wait for %s do not end: %s", w.unsynced.UTC().Format(time.RFC3339), SyncName, err)
	}
}

// syncing takes account of WAL that is written into the spool.
func (w *watch) syncing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.synced // what another run may have left open
	w.unsynced, w.synced = time.Time{}, true
	w.ends(NoticeSyncAway, first, "WAL is written into the spool again")
}

// gap takes account of WAL that is lost.
func (w *watch) gap(g wal.Gap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begins(NoticeLost, "WAL of timeline %d from %v to %v is lost: take a base backup now, or nothing after it can be recovered", g.Timeline, g.From, g.To)
}

// position takes account of how far the server is known to be, and what is stored.
func (w *watch) position(stored, newest wal.LSN) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.lag = w.lag.next(stored, newest, now)
	switch {
	case w.lag.behind(now, behindAfter(w.maxDelay)):
		w.begins(NoticeBehind, "the server has written more than is stored since %s: %d bytes are not stored yet", w.lag.since.UTC().Format(time.RFC3339), newest-stored)
	case w.lag.target == 0:
		w.ends(NoticeBehind, false, "all that the server had written is stored")
	}
	if stored >= newest && (w.stored.IsZero() || now.Sub(w.stored) >= time.Minute || now.Before(w.stored)) {
		w.stored = now
		w.tell(NoticeStored, false, "all WAL is stored up to %v", stored)
	}
}

// lag is since when what is stored is behind the server. The zero lag is that of a stream
// that has not begun.
type lag struct {
	// target is how far the server was at since, where that is not stored yet; else 0.
	target wal.LSN
	since  time.Time
	known  bool
}

func (l lag) zero() bool { return !l.known }

// next returns the lag after an observation. A position that the server has reached and that
// is not stored counts from when it was first seen; once it is stored, what the server has
// written meanwhile counts from now.
func (l lag) next(stored, newest wal.LSN, now time.Time) lag {
	l.known = true
	if l.target != 0 && stored < l.target {
		return l
	}
	l.target, l.since = 0, now
	if stored < newest {
		l.target = newest
	}
	return l
}

// behind reports whether it lasts for too long.
func (l lag) behind(now time.Time, limit time.Duration) bool {
	return l.target != 0 && now.Sub(l.since) > limit
}

// noting is a store operation that the watch takes account of.
func (w *watch) noting(put func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		err := put(ctx)
		if ctx.Err() == nil {
			w.put(err)
		}
		return err
	}
}
