package pgmedic_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc = regexp.MustCompile(`(?ms)^func (\w+)\([^\n]*\{\n(.*?)^\}`)
	// aloneInTestAll is what make test does not run, or not by that name.
	aloneInTestAll = regexp.MustCompile(`testkit\.OnlyAll\(|scratchtest\.(Ends|EndsWith15|Majors|EachComplete\w*)\(|onMajors\(`)
	// onlyAll is what make test does not run, and leavesOut15 what make test-all does not
	// run on PostgreSQL 15, since make test does.
	onlyAll     = regexp.MustCompile(`testkit\.OnlyAll\(`)
	leavesOut15 = regexp.MustCompile(`scratchtest\.(Ends|Majors|EachComplete)\(`)
	// sampled is what takes in make test-all the cases that make test leaves out.
	sampled = regexp.MustCompile(`testkit\.Some(Of)?\(|fixture\.Methods\(`)
)

// TestSamplesAreWhole finds tests that take in make test-all what make test leaves out,
// and that make test does not run at all: half of their cases would be nobody's.
func TestSamplesAreWhole(t *testing.T) {
	found := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") || name == "sampling_test.go" || strings.HasPrefix(name, "internal/testkit/") {
			return err
		}
		text, err := os.ReadFile(name)
		for _, f := range testFunc.FindAllSubmatch(text, -1) {
			if onlyAll.Match(f[2]) && leavesOut15.Match(f[2]) {
				t.Errorf("%s: %s is run on PostgreSQL 15 neither by make test nor by make test-all: use scratchtest.EndsWith15", name, f[1])
			}
			if !sampled.Match(f[2]) {
				continue
			}
			found++
			if aloneInTestAll.Match(f[2]) {
				t.Errorf("%s: %s takes a sample, and make test does not run it: use testkit.Few, fixture.BothMethods, or all", name, f[1])
			}
		}
		return err
	})
	if err != nil || found < 20 {
		t.Errorf("%d tests take samples, %v", found, err)
	}
}

// TestSamplesCheckCanFail shows the check tests that it must find.
func TestSamplesCheckCanFail(t *testing.T) {
	f := testFunc.FindSubmatch([]byte("func TestX(t *testing.T) {\n\ttestkit.OnlyAll(t, \"long\")\n\tfor range fixture.Methods(t, 2) {\n\t\tscratchtest.Ends(t)\n\t}\n}\n"))
	if f == nil || !sampled.Match(f[2]) || !aloneInTestAll.Match(f[2]) || !onlyAll.Match(f[2]) || !leavesOut15.Match(f[2]) {
		t.Error("it is not found")
	}
}

// skips is how a test skips itself without saying whether it would have to run where
// everything is asked for.
var skips = regexp.MustCompile(`\b(t|tb|b)\.Skip(f|Now)?\(`)

// TestSkipsAreCounted finds tests that skip past testkit, which counts them and fails
// them in make test-all for what is missing.
func TestSkipsAreCounted(t *testing.T) {
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "internal/testkit/") {
			return err
		}
		text, err := os.ReadFile(name)
		if skipping := skips.Find(text); skipping != nil {
			t.Errorf("%s: %s…): use testkit.OnlyAll, Missing or Elsewhere", name, skipping)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if !skips.MatchString("\tt.Skipf(\"%v\", err)") {
		t.Error("the check finds nothing")
	}
}
