package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGateOrder: who waits gets in, in the order of arrival.
func TestGateOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10)
		if ok := g.tryEnter(); !ok {
			t.Fatal("an empty gate keeps its first caller out")
		}
		var mu sync.Mutex
		var order []int
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				if err := g.enter(t.Context(), time.Minute); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				g.leave()
			})
			synctest.Wait()
		}
		if ok := g.tryEnter(); ok {
			t.Error("somebody overtook those who wait")
		}
		if err := g.enter(t.Context(), time.Minute); !errors.Is(err, errGateFull) {
			t.Errorf("the eleventh: %v", err)
		}
		g.leave()
		callers.Wait()
		for i, n := range order {
			if n != i {
				t.Fatalf("let in as %v", order)
			}
		}
		if inside, waiting := g.load(); inside != 0 || waiting != 0 {
			t.Errorf("%d inside, %d wait", inside, waiting)
		}
	})
}

// TestGateGiveUp: those who give up leave no place taken, wherever they stood.
func TestGateGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1000)
		g.tryEnter()
		if err := g.enter(t.Context(), time.Second); !errors.Is(err, errGateTimeout) {
			t.Errorf("%v", err)
		}
		if err := g.enter(t.Context(), -time.Second); !errors.Is(err, errGateTimeout) {
			t.Errorf("no time at all: %v", err)
		}
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		var callers sync.WaitGroup
		for range 500 {
			callers.Go(func() {
				if err := g.enter(ctx, time.Minute); !errors.Is(err, why) {
					t.Errorf("%v", err)
				}
			})
		}
		last := make(chan error, 1)
		synctest.Wait()
		go func() { last <- g.enter(t.Context(), time.Minute) }()
		synctest.Wait()
		cancel(why)
		callers.Wait()
		if len(g.waiting) > 20 {
			t.Errorf("%d entries for one who waits", len(g.waiting))
		}
		g.leave()
		if err := <-last; err != nil {
			t.Errorf("the one who stayed: %v", err)
		}
		g.leave()
		if inside, waiting := g.load(); inside != 0 || waiting != 0 {
			t.Errorf("%d inside, %d wait", inside, waiting)
		}
	})
}

// TestGatePassesOn: a turn that comes when its owner gives up is not lost.
func TestGatePassesOn(t *testing.T) {
	g := newGate(1, 10)
	g.tryEnter()
	first, _ := g.line(time.Minute)
	second, _ := g.line(time.Minute)
	g.leave()
	<-first.admitted
	if err := g.giveUp(first, errGateTimeout); !errors.Is(err, errGateTimeout) {
		t.Error(err)
	}
	select {
	case <-second.admitted:
	default:
		t.Error("the place is lost")
	}
}

func TestGateClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10)
		g.tryEnter()
		waiting := make(chan error, 1)
		go func() { waiting <- g.enter(t.Context(), time.Minute) }()
		synctest.Wait()
		empty := g.close()
		if err := <-waiting; !errors.Is(err, errGateClosed) {
			t.Errorf("who waits: %v", err)
		}
		if ok := g.tryEnter(); ok {
			t.Error("let in after the close")
		}
		if err := g.enter(t.Context(), time.Minute); !errors.Is(err, errGateClosed) {
			t.Errorf("who comes late: %v", err)
		}
		select {
		case <-empty:
			t.Error("empty with one inside")
		default:
		}
		g.leave()
		<-empty
		<-g.close()
	})
}

// TestGateCrowd: never more inside than there is room for, whatever happens.
func TestGateCrowd(t *testing.T) {
	const size = 3
	g := newGate(size, 50)
	var mu sync.Mutex
	inside := 0
	step := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		if inside += by; inside > size || inside < 0 {
			t.Errorf("%d inside", inside)
		}
	}
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() {
			for n := range 50 {
				if ok := g.tryEnter(); !ok && g.enter(t.Context(), time.Duration((i+n)%3)*time.Microsecond) != nil {
					continue
				}
				step(1)
				step(-1)
				g.leave()
			}
		})
	}
	callers.Wait()
	if in, waiting := g.load(); in != 0 || waiting != 0 {
		t.Errorf("%d inside, %d wait", in, waiting)
	}
}
