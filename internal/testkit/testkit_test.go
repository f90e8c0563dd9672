package testkit_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

func TestSome(t *testing.T) {
	cases := map[string]int{}
	var names []string
	for i := range 10 {
		cases[strconv.Itoa(i)] = i
		names = append(names, strconv.Itoa(i))
	}
	t.Setenv("PGMEDIC_TEST_ALL", "")
	few := func(n int) int {
		if testkit.Race {
			return (n + 1) / 2
		}
		return n
	}
	seen := map[string]bool{}
	for _, test := range names {
		t.Run(test, func(t *testing.T) {
			got := testkit.SomeOf(t, 3, names)
			if len(got) != few(3) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != few(3) || !slices.Equal(got, testkit.SomeOf(t, 3, names)) {
				t.Errorf("%v", got)
			}
			for _, name := range got {
				seen[name] = true
			}
		})
	}
	if len(seen) < 8 {
		t.Errorf("ten tests have but %v of ten cases", seen)
	}
	for n, want := range map[int]int{1: 1, 4: 4, 10: 10, 21: 10} {
		some := testkit.Some(t, n, cases)
		if len(some) != min(few(n), want) {
			t.Errorf("%d of 10: %v", n, some)
		}
		for name, v := range some {
			if strconv.Itoa(v) != name {
				t.Errorf("%s is %d", name, v)
			}
		}
	}
	t.Setenv("PGMEDIC_TEST_ALL", "1")
	if got := testkit.Some(t, 1, cases); len(got) != 10 {
		t.Errorf("all of them: %v", got)
	}
	testkit.OnlyAll(t, "it is run")
	if got := testkit.Amount(1, 2, 3); got != 2 {
		t.Errorf("the amount is %d", got)
	}
	t.Setenv("PGMEDIC_CAMPAIGNS", "1")
	if got := testkit.Amount(1, 2, 3); got != 3 {
		t.Errorf("the amount is %d", got)
	}
}
