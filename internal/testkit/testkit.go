// Package testkit says how much of a test is run: in make test what shows within minutes
// whether something is broken, in make test-all what that leaves out, in make chaos
// everything. It also waits, connects, and compares golden files for tests. Nothing but
// tests imports it.
package testkit

import (
	"cmp"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// allVariable asks for what make test leaves out, as make test-all does.
const allVariable = "PGMEDIC_TEST_ALL"

// skipsVariable names a file that gets a line for each test that is skipped, with the
// reason: go test is silent about them.
const skipsVariable = "PGMEDIC_TEST_SKIPS"

// campaignVariable asks for whole campaigns, as make chaos does.
const campaignVariable = "PGMEDIC_CAMPAIGNS"

// All reports whether what takes long is asked for.
func All() bool { return os.Getenv(allVariable) == "1" }

// Amount is how much of a campaign is run, which is the more convincing the longer it
// is: so much in make test, in make test-all, and in make chaos, which takes its time.
func Amount(test, all, chaos int) int {
	switch {
	case campaign():
		return chaos
	case All():
		return all
	}
	return test
}

// Rest reports whether only what make test leaves out is asked for: by make test-all, and
// not where a test is named.
func Rest() bool {
	named := flag.Lookup("test.run")
	return All() && !campaign() && (named == nil || named.Value.String() == "")
}

// LeaveOut has a package's tests of these names left out where only the rest is asked
// for. It is for TestMain of a package whose tests take minutes, and for those that
// make test runs whole.
func LeaveOut(names ...string) error {
	if !flag.Parsed() {
		flag.Parse()
	}
	if given := flag.Lookup("test.skip"); !Rest() || given == nil || given.Value.String() != "" {
		return nil // somebody who leaves out tests by hand runs the others
	}
	return flag.Set("test.skip", "^("+strings.Join(names, "|")+")$")
}

func campaign() bool { return os.Getenv(campaignVariable) == "1" }

// OnlyAll skips a test, with the reason, unless what takes long is asked for. Such a test
// takes all of its cases, or Few of them: those of Some would never run.
func OnlyAll(tb testing.TB, reason string) {
	tb.Helper()
	if !All() {
		skip(tb, "left to make test-all", reason)
	}
}

// Missing ends a test for want of what it needs: it is skipped, or where everything is
// asked for it fails. What says what is missing, and the way to it.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	if All() {
		tb.Fatalf("%s, and %s=1 wants it", what, allVariable)
	}
	skip(tb, "something is missing", what)
}

// Elsewhere skips a test of what this machine, this user or this run can't show, however
// much is asked for.
func Elsewhere(tb testing.TB, reason string) {
	tb.Helper()
	skip(tb, "not to be shown here", reason)
}

// skip skips a test, and tells whoever counts.
func skip(tb testing.TB, kind, reason string) {
	tb.Helper()
	if name := os.Getenv(skipsVariable); name != "" {
		if f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, _ = fmt.Fprintf(f, "%s\t%s\t%s\n", kind, tb.Name(), strings.ReplaceAll(reason, "\n", " "))
			_ = f.Close()
		}
	}
	tb.Skip(kind + ": " + reason)
}

// Some returns n cases of a test that has many alike, spread over their names, half as
// many under the race detector. Make test-all takes the other ones; make chaos, and a test
// that is named by -run with PGMEDIC_TEST_ALL=1, all.
// Which ones depends on the test's name alone: the same each time, and not the same in
// each test. It logs how many it leaves out.
func Some[K cmp.Ordered, V any](tb testing.TB, n int, cases map[K]V) map[K]V {
	tb.Helper()
	some := map[K]V{}
	for _, name := range SomeOf(tb, n, slices.Sorted(maps.Keys(cases))) {
		some[name] = cases[name]
	}
	return some
}

// SomeOf is Some for cases in order.
func SomeOf[T any](tb testing.TB, n int, cases []T) []T {
	tb.Helper()
	if n >= len(cases) || campaign() {
		return cases
	}
	some, others := split(tb.Name(), n, cases)
	switch {
	case Rest():
		some = others
	case All(): // and the test is named
		return cases
	case Race:
		some = Pick(tb.Name(), (n+1)/2, cases)
	}
	tb.Logf("%d of %d cases: make test and make test-all together run all", len(some), len(cases))
	return some
}

// Few is SomeOf for cases of which make test-all takes all: what they show depends on
// more than themselves, such as the version.
func Few[T any](tb testing.TB, n int, cases []T) []T {
	tb.Helper()
	if n >= len(cases) || campaign() || All() {
		return cases
	}
	tb.Logf("%d of %d cases: make test-all runs all", n, len(cases))
	return Pick(tb.Name(), n, cases)
}

// Pick returns n of the cases, at most all of them; which ones depends on a name alone.
func Pick[T any](name string, n int, cases []T) []T {
	some, _ := split(name, n, cases)
	return some
}

// split splits the cases by a name: n of them, and the others.
func split[T any](name string, n int, cases []T) (some, others []T) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	first := int(hash.Sum32() % uint32(len(cases)))
	n = min(n, len(cases))
	taken := make([]bool, len(cases))
	for i := range n {
		taken[(first+i*len(cases)/n)%len(cases)] = true
	}
	for i, c := range cases {
		if taken[i] {
			some = append(some, c)
		} else {
			others = append(others, c)
		}
	}
	return some, others
}
