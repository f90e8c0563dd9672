package testkit_test

import (
	"flag"
	"slices"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestSome: make test and make test-all together take each case once, make chaos all.
func TestSome(t *testing.T) {
	var names []string
	cases := map[string]int{}
	for i := range 10 {
		names = append(names, strconv.Itoa(i))
		cases[strconv.Itoa(i)] = i
	}
	named := flag.Lookup("test.run").Value
	given := named.String()
	name := func(pattern string) {
		if err := named.Set(pattern); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { name(given) })
	seen := map[string]bool{}
	for _, test := range names {
		t.Run(test, func(t *testing.T) {
			t.Setenv("PGMEDIC_TEST_ALL", "")
			t.Setenv("PGMEDIC_CAMPAIGNS", "")
			few := 3
			if testkit.Race {
				few = 2
			}
			some := testkit.SomeOf(t, 3, names)
			if len(some) != few || !slices.Equal(some, testkit.SomeOf(t, 3, names)) {
				t.Errorf("%v", some)
			}
			for _, name := range some {
				seen[name] = true
			}
			if got := testkit.Some(t, 3, cases); len(got) != few || got[some[0]] != cases[some[0]] {
				t.Errorf("%v", got)
			}
			if got := testkit.SomeOf(t, 10, names); !slices.Equal(got, names) {
				t.Errorf("all of them: %v", got)
			}
			if got := testkit.Few(t, 4, names); len(got) != 4 {
				t.Errorf("a few: %v", got)
			}
			t.Setenv("PGMEDIC_TEST_ALL", "1")
			name("TestSome")
			if got := testkit.SomeOf(t, 3, names); !slices.Equal(got, names) {
				t.Errorf("of a test that is named: %v", got)
			}
			name("")
			others := testkit.SomeOf(t, 3, names)
			if both := slices.Sorted(slices.Values(append(others, testkit.Pick(t.Name(), 3, names)...))); !slices.Equal(both, names) {
				t.Errorf("together they are %v", both)
			}
			if got := testkit.Few(t, 4, names); !slices.Equal(got, names) {
				t.Errorf("all of a few: %v", got)
			}
			t.Setenv("PGMEDIC_CAMPAIGNS", "1")
			if got := testkit.SomeOf(t, 3, names); !slices.Equal(got, names) {
				t.Errorf("in make chaos: %v", got)
			}
		})
	}
	if len(seen) < 8 {
		t.Errorf("ten tests have but %v of ten cases", seen)
	}
}

func TestAmount(t *testing.T) {
	for i, env := range [][2]string{{"", ""}, {"1", ""}, {"1", "1"}} {
		t.Setenv("PGMEDIC_TEST_ALL", env[0])
		t.Setenv("PGMEDIC_CAMPAIGNS", env[1])
		if got := testkit.Amount(0, 1, 2); got != i {
			t.Errorf("%q: %d", env, got)
		}
	}
	testkit.OnlyAll(t, "it is run")
}
