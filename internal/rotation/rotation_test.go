package rotation_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/rotation"
)

// kept is a credential where somebody keeps and replaces it.
type kept struct {
	mu    sync.Mutex
	value string
	err   error
	reads int
	now   time.Time
}

func (k *kept) set(value string, err error, later time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.err, k.now = value, err, k.now.Add(later)
}

func (k *kept) credential() *rotation.Credential[string] {
	return rotation.New(k.value, rotation.Options[string]{
		Read: func(context.Context) (string, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.reads++
			return k.value, k.err
		},
		Same: func(was, found string) bool { return was == found },
		Now: func() time.Time {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.now
		},
	})
}

// TestRenew: what is refused is read again, at most every ten seconds, and only another
// credential is tried.
func TestRenew(t *testing.T) {
	k := &kept{value: "one", now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	c := k.credential()
	broken := errors.New("vault can't be reached")
	for i, step := range []struct {
		value   string
		err     error
		later   time.Duration
		refused int
		again   bool
		fails   error
		current string
		reads   int
	}{
		{"one", nil, 0, 0, false, nil, "one", 1},              // it did not change
		{"two", nil, time.Second, 0, false, nil, "one", 1},    // it did, but was read just now
		{"two", nil, 9 * time.Second, 0, true, nil, "two", 2}, // ten seconds are over
		{"two", nil, 0, 0, true, nil, "two", 2},               // another request had the old one
		{"three", nil, 0, 1, false, nil, "two", 2},            // the new one is refused at once
		{"three", broken, time.Minute, 1, false, broken, "two", 3},
		{"three", broken, 0, 1, false, nil, "two", 3}, // asked just now
		{"three", nil, 10 * time.Second, 1, true, nil, "three", 4},
	} {
		k.set(step.value, step.err, step.later)
		again, err := c.Renew(t.Context(), step.refused)
		current, generation := c.Current()
		if again != step.again || !errors.Is(err, step.fails) || current != step.current || k.reads != step.reads || generation != c.Generation() {
			t.Errorf("step %d: %v, %v, now %q, %d reads", i, again, err, current, k.reads)
		}
	}
	if again, err := rotation.New("one", rotation.Options[string]{}).Renew(t.Context(), 0); again || err != nil {
		t.Errorf("what can't be read again: %v, %v", again, err)
	}
}

// TestRenewTogether: several requests that are refused at once read it once, and all go on.
func TestRenewTogether(t *testing.T) {
	k := &kept{value: "one", now: time.Now()}
	c := k.credential()
	k.set("two", nil, 0)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if again, err := c.Renew(t.Context(), 0); !again || err != nil {
				t.Errorf("%v, %v", again, err)
			}
		})
	}
	all.Wait()
	if current, _ := c.Current(); current != "two" || k.reads != 1 {
		t.Errorf("%q after %d reads", current, k.reads)
	}
}

// TestRenewEnded: a request that ends while it reads leaves that to the next one, and one that
// waits for another's reading does so no longer than it lasts.
func TestRenewEnded(t *testing.T) {
	gone := errors.New("interrupted")
	ctx, end := context.WithCancelCause(t.Context())
	reading, now := make(chan struct{}), time.Now()
	reads := 0 // one at a time
	c := rotation.New("one", rotation.Options[string]{
		Read: func(ctx context.Context) (string, error) {
			if reads++; reads > 1 {
				return "two", nil
			}
			reading <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		},
		Same: func(was, found string) bool { return was == found },
		Now:  func() time.Time { return now },
	})
	var both sync.WaitGroup
	defer both.Wait()
	for range 2 {
		both.Go(func() {
			if again, err := c.Renew(ctx, 0); again || !errors.Is(err, gone) {
				t.Errorf("%v, %v", again, err)
			}
		})
	}
	<-reading
	end(gone)
	both.Wait()
	if again, err := c.Renew(t.Context(), 0); !again || err != nil {
		t.Errorf("after that: %v, %v", again, err)
	}
}
