package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// LockMode is how strictly a place keeps what is locked.
type LockMode string

const (
	// LockGovernance lets whoever has a permission of its own for that delete what is
	// locked. Azure and Google call it unlocked.
	LockGovernance LockMode = "governance"
	// LockCompliance lets nobody do it, nor shorten the time. Azure and Google call it
	// locked.
	LockCompliance LockMode = "compliance"
)

// Lock is what keeps an object from being deleted or replaced. The zero Lock keeps it
// from nothing.
type Lock struct {
	Mode LockMode `json:"mode,omitempty"`
	// Until is when it may be deleted, by the clock of the place. Zero is at once.
	Until time.Time `json:"until,omitzero"`
	// Held is true where it may not be deleted until that is taken off (a legal hold).
	Held bool `json:"held,omitempty"`
}

// Locks reports whether an object may not be deleted yet.
func (l Lock) Locks(now time.Time) bool { return l.Held || now.Before(l.Until) }

// WholeSeconds returns the lock with the first whole second that is not before its time:
// not every place keeps parts of one, and a lock must not be shorter than was asked for.
func (l Lock) WholeSeconds() Lock {
	until := l.Until.UTC()
	if l.Until = until.Truncate(time.Second); l.Until.Before(until) {
		l.Until = l.Until.Add(time.Second)
	}
	return l
}

// ErrLocked is found by errors.Is in errors of a Delete of what is locked, from places
// that say so. One that keeps versions hides the object instead, and keeps its bytes.
var ErrLocked = errors.New("the object is locked")

// Locker is a Store of a place that can keep objects from being deleted, whoever asks.
// It is found by a type assertion; whether the very bucket can do it CheckLocks says.
// Locks are of the object that is there at the moment, and not of what a name had before.
type Locker interface {
	Store

	// CheckLocks returns nil if objects can be locked there, a pgmedic.KindUsage error
	// that says why not, pgmedic.KindFailed where the place's clock is not this host's,
	// or another error where the place could not be asked.
	CheckLocks(ctx context.Context) error

	// PutLocked is Put of an object that has the lock from the moment that it is there. A
	// Lock whose time is over is refused by the place.
	PutLocked(ctx context.Context, key string, r io.Reader, l Lock) (Object, error)

	// LockUntil lengthens an object's time. It never shortens it, and leaves alone what
	// has more already.
	LockUntil(ctx context.Context, key string, l Lock) error

	// Hold sets or takes off a legal hold. Both may be repeated.
	Hold(ctx context.Context, key string, held bool) error

	// LockOf returns an object's lock, ErrNotFound where there is no such object, and
	// another error where the place does not say.
	LockOf(ctx context.Context, key string) (Lock, error)
}

// maxClockApart is how far the clocks may be apart, as for deletions: our choice.
const maxClockApart = 5 * time.Minute

// CheckLockClock returns a pgmedic.KindFailed error where a place's clock, which shows
// at, is not this host's: a lock that is too long can't be taken back. Place names it.
func CheckLockClock(place string, at time.Time) error {
	apart := time.Until(at)
	if apart.Abs() < maxClockApart {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindFailed, "compare both with a third clock, and run NTP on both",
		"nothing is locked in %s: its clock and this host's are %s apart, and a lock can't be shortened", place, words.Duration(apart.Abs()))
}

// Versioned is a Store of a place that may keep the bytes of what is deleted.
type Versioned interface {
	// KeepsVersions reports whether what is deleted is only hidden.
	KeepsVersions(ctx context.Context) (bool, error)
}
