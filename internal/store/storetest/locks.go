package storetest

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/store"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// LockPlace is an empty place in which objects can be locked, with what its owner can do
// there.
type LockPlace struct {
	Store store.Locker
	// LargeBytes is the size of an object that is made of parts.
	LargeBytes int
	// Destroy deletes an object for good, with every permission but that to bypass locks.
	Destroy func(key string) error
	// Hides is true where a Delete only hides what is locked. Elsewhere it is refused.
	Hides bool
	// Hardens is true where a lock of governance can become one of compliance.
	Hardens bool
	// Settled are the modes in which the longest of several times counts that are set at
	// the same moment.
	Settled []store.LockMode
	// Apart has the place's clock be so far from this host's. Nil where it can't be.
	Apart func(time.Duration)
}

// Locks tests the store.Locker that open returns, in a place that can lock: what has a lock
// keeps its bytes, whoever deletes it with whatever permission but that for locks, until its
// time is over and its hold taken off.
func Locks(t *testing.T, open func(t *testing.T) LockPlace) {
	for name, test := range map[string]func(*testing.T, LockPlace){
		"Until": testLockUntil, "Modes": testLockModes, "Hold": testLockHold, "Over": testLockOver,
		"Races": testLockRaces, "Nothing": testLockNothing,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// lockFor is a lock that lasts for so long from now on.
func lockFor(mode store.LockMode, d time.Duration) store.Lock {
	return store.Lock{Mode: mode, Until: time.Now().UTC().Truncate(time.Second).Add(d)}
}

func (p LockPlace) put(t *testing.T, key string, size int, l store.Lock) {
	t.Helper()
	if o, err := p.Store.PutLocked(t.Context(), key, bytes.NewReader(pattern(size, 1)), l); err != nil || o.SizeBytes != int64(size) {
		t.Fatalf("put %s: %+v, %v", key, o, err)
	}
}

func (p LockPlace) lock(t *testing.T, key string, l store.Lock) {
	t.Helper()
	if err := p.Store.LockUntil(t.Context(), key, l); err != nil {
		t.Errorf("lock %s: %v", key, err)
	}
}

func (p LockPlace) hold(t *testing.T, key string, held bool) {
	t.Helper()
	for range 2 { // which is harmless
		if err := p.Store.Hold(t.Context(), key, held); err != nil {
			t.Fatal(err)
		}
	}
}

// want fails the test unless key has the lock.
func (p LockPlace) want(t *testing.T, key string, want store.Lock) {
	t.Helper()
	got, err := p.Store.LockOf(t.Context(), key)
	if err != nil || got.Mode != want.Mode || !got.Until.Equal(want.Until) || got.Held != want.Held {
		t.Errorf("%s is locked %v (%v), want %v", key, got, err, want)
	}
}

// kept fails the test unless key is kept, whatever is done.
func (p LockPlace) kept(t *testing.T, key string, size int) {
	t.Helper()
	if err := p.Destroy(key); err == nil {
		t.Errorf("%s was deleted though it is locked", key)
	}
	err := p.Store.Delete(t.Context(), key)
	if p.Hides {
		if _, statErr := p.Store.Stat(t.Context(), key); err != nil || !errors.Is(statErr, store.ErrNotFound) {
			t.Errorf("%s was deleted, and is there: %v, %v", key, err, statErr)
		}
		if err := p.Destroy(key); err == nil {
			t.Errorf("the bytes of %s were deleted though they are locked", key)
		}
		return
	}
	if !errors.Is(err, store.ErrLocked) || pgmedic.HintOf(err) == "" {
		t.Errorf("%s is locked, and its deletion: %v", key, err)
	}
	wantBytes(t, p.Store, key, pattern(size, 1))
}

func testLockUntil(t *testing.T, p LockPlace) {
	if err := p.Store.CheckLocks(t.Context()); err != nil {
		t.Fatal(err)
	}
	hour, day := lockFor(store.LockCompliance, time.Hour), lockFor(store.LockCompliance, 24*time.Hour)
	for key, size := range map[string]int{"a/small": 1, "a/large": p.LargeBytes} {
		p.put(t, key, size, hour)
		p.want(t, key, hour)
		// It never overwrites, either.
		if _, err := p.Store.PutLocked(t.Context(), key, bytes.NewReader(pattern(size, 2)), day); !errors.Is(err, store.ErrExists) {
			t.Errorf("a second object of the name: %v", err)
		}
		p.want(t, key, hour)
		// A longer time counts, and a shorter one changes nothing.
		for _, l := range []store.Lock{day, hour, {Mode: store.LockGovernance, Until: hour.Until}} {
			p.lock(t, key, l)
			p.want(t, key, day)
		}
		p.kept(t, key, size)
	}
	put(t, p.Store, "a/later", pattern(1, 1))
	p.want(t, "a/later", store.Lock{})
	p.lock(t, "a/later", day)
	p.want(t, "a/later", day)
	p.kept(t, "a/later", 1)
	// A part of a second more is not less.
	p.put(t, "a/odd", 1, store.Lock{Mode: store.LockCompliance, Until: hour.Until.Add(time.Millisecond)})
	if l, err := p.Store.LockOf(t.Context(), "a/odd"); err != nil || l.Until.Before(hour.Until.Add(time.Millisecond)) {
		t.Errorf("locked %v, %v", l, err)
	}
}

func testLockModes(t *testing.T, p LockPlace) {
	hour := lockFor(store.LockGovernance, time.Hour)
	p.put(t, "a/key", 1, hour)
	p.want(t, "a/key", hour)
	longer := lockFor(store.LockGovernance, 2*time.Hour)
	p.lock(t, "a/key", longer)
	p.want(t, "a/key", longer)
	if !p.Hardens {
		p.kept(t, "a/key", 1)
	}
	t.Run("Hardens", func(t *testing.T) {
		if !p.Hardens {
			testkit.Elsewhere(t, "the place does not make a lock of governance one of compliance")
		}
		testLockHardens(t, p)
	})
}

func testLockHardens(t *testing.T, p LockPlace) {
	// A longer time of the stricter mode makes it that, and no way leads back.
	day := lockFor(store.LockCompliance, 24*time.Hour)
	p.lock(t, "a/key", day)
	p.want(t, "a/key", day)
	week := lockFor(store.LockGovernance, 7*24*time.Hour)
	p.lock(t, "a/key", week)
	p.want(t, "a/key", store.Lock{Mode: store.LockCompliance, Until: week.Until})
	p.kept(t, "a/key", 1)
}

func testLockHold(t *testing.T, p LockPlace) {
	put(t, p.Store, "a/key", pattern(1, 1))
	p.hold(t, "a/key", true)
	p.want(t, "a/key", store.Lock{Held: true})
	if err := p.Destroy("a/key"); err == nil {
		t.Error("it was deleted though it is held")
	}
	if !p.Hides {
		p.kept(t, "a/key", 1)
	}
	hour := lockFor(store.LockGovernance, time.Hour)
	p.lock(t, "a/key", hour)
	p.want(t, "a/key", store.Lock{Mode: hour.Mode, Until: hour.Until, Held: true})
	p.hold(t, "a/key", false)
	p.want(t, "a/key", hour)
	p.kept(t, "a/key", 1)

	// From the first moment on.
	for key, size := range map[string]int{"a/small": 1, "a/large": p.LargeBytes} {
		p.put(t, key, size, store.Lock{Held: true})
		p.want(t, key, store.Lock{Held: true})
		p.hold(t, key, false)
		p.want(t, key, store.Lock{})
		if err := p.Destroy(key); err != nil {
			t.Errorf("%s is kept by nothing, and was not deleted: %v", key, err)
		}
	}
}

func testLockOver(t *testing.T, p LockPlace) {
	if p.Apart == nil {
		testkit.Elsewhere(t, "the clock of this server can't be set")
	}
	hour := lockFor(store.LockCompliance, time.Hour)
	for _, key := range []string{"a/1", "a/2"} {
		p.put(t, key, 1, hour)
	}
	p.hold(t, "a/2", true)
	p.Apart(2 * time.Hour)
	if err := p.Store.Delete(t.Context(), "a/1"); err != nil {
		t.Errorf("its time is over: %v", err)
	}
	wantKeys(t, p.Store, "", "a/2")
	p.kept(t, "a/2", 1)
	// What is over can be locked again.
	again := lockFor(store.LockCompliance, 5*time.Hour)
	p.hold(t, "a/2", false)
	p.lock(t, "a/2", again)
	p.want(t, "a/2", again)
	p.kept(t, "a/2", 1)
}

func testLockRaces(t *testing.T, p LockPlace) {
	for _, mode := range []store.LockMode{store.LockGovernance, store.LockCompliance} {
		t.Run(string(mode), func(t *testing.T) {
			if !slices.Contains(p.Settled, mode) {
				testkit.Elsewhere(t, "of several locks set at the same moment, the place does not keep the longest in this mode")
			}
			testLockRace(t, p, mode)
		})
	}
}

func testLockRace(t *testing.T, p LockPlace, mode store.LockMode) {
	key := "a/" + string(mode)
	p.put(t, key, 1, lockFor(mode, time.Hour))
	const rivals = 6
	longest := lockFor(mode, rivals*24*time.Hour)
	var all sync.WaitGroup
	for i := range rivals {
		all.Go(func() {
			l := longest
			l.Until = l.Until.Add(-time.Duration(i) * 24 * time.Hour)
			if err := p.Store.LockUntil(t.Context(), key, l); err != nil {
				t.Error(err)
			}
			if has, err := p.Store.LockOf(t.Context(), key); err != nil || has.Until.Before(l.Until) {
				t.Errorf("locked until %v, and is %v, %v", l.Until, has, err)
			}
		})
	}
	all.Wait()
	p.want(t, key, longest)
}

func testLockNothing(t *testing.T, p LockPlace) {
	hour := lockFor(store.LockCompliance, time.Hour)
	for what, do := range map[string]func(key string) error{
		"LockUntil": func(key string) error { return p.Store.LockUntil(t.Context(), key, hour) },
		"Hold":      func(key string) error { return p.Store.Hold(t.Context(), key, true) },
		"LockOf":    func(key string) error { _, err := p.Store.LockOf(t.Context(), key); return err },
	} {
		wantKind(t, what+" of nothing", do("a/none"), store.ErrNotFound, pgmedic.KindNotFound)
		wantKind(t, what+" of no key", do("a//b"), nil, pgmedic.KindUsage)
	}
	// A time that is over is refused, and nothing is put.
	if _, err := p.Store.PutLocked(t.Context(), "a/over", strings.NewReader("x"), lockFor(store.LockCompliance, -time.Hour)); err == nil {
		t.Error("an object was put whose lock is over")
	}
	wantKeys(t, p.Store, "")
}

// NoLocks tests a store.Locker in a place that can't lock: it says so, and never takes an
// object as if it were locked.
func NoLocks(t *testing.T, s store.Locker) {
	t.Helper()
	err := s.CheckLocks(t.Context())
	if wantKind(t, "CheckLocks", err, nil, pgmedic.KindUsage); pgmedic.HintOf(err) == "" {
		t.Errorf("CheckLocks has no hint: %v", err)
	}
	if _, err := s.PutLocked(t.Context(), "a/key", strings.NewReader("x"), lockFor(store.LockCompliance, time.Hour)); err == nil {
		t.Error("an object was put as if it were locked")
	}
	wantKeys(t, s, "")
	put(t, s, "a/key", []byte("x"))
	if got, err := s.LockOf(t.Context(), "a/key"); err != nil || got != (store.Lock{}) {
		t.Errorf("LockOf: %v, %v", got, err)
	}
}

// LockClock tests that nothing is locked by a clock that is not the place's: a lock can't
// be taken back. Open returns a store of an empty place whose clock is so far from this
// host's, and one of the same place by which can be listed what is there.
func LockClock(t *testing.T, open func(t *testing.T, apart time.Duration) (store.Locker, store.Store)) {
	t.Helper()
	for apart, ok := range map[time.Duration]bool{-time.Hour: false, -10 * time.Minute: false, time.Minute: true, 10 * time.Minute: false} {
		s, there := open(t, apart)
		_, err := s.PutLocked(t.Context(), "a/key", strings.NewReader("x"), lockFor(store.LockGovernance, 2*time.Hour))
		if ok != (err == nil) || !ok && (pgmedic.KindOf(err) != pgmedic.KindFailed || !strings.Contains(err.Error(), "apart")) {
			t.Errorf("clocks %s apart: %v", apart, err)
		}
		if got := list(t, there, ""); len(got) == 1 != ok {
			t.Errorf("clocks %s apart: there is %q", apart, got)
		}
	}
}
