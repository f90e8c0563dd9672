package pgmedic_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// unsteady are expressions of tests that end differently on a busy machine, or in the
// next run. Tests in test/ put servers under load, and may draw numbers for that.
var unsteady = []struct {
	pattern *regexp.Regexp
	instead string
	load    bool
}{
	{
		regexp.MustCompile(`testkit\.Eventually\(\w+, (\d+ ?\* ?time\.(Milli|Micro)second|[12]?\d ?\* ?time\.Second|time\.Second)\b`),
		"wait for a minute: it is over when the condition holds", false,
	},
	{
		regexp.MustCompile(`\brand\.((Int|Uint|Float|Norm|Exp)\w*|N|Shuffle|Perm)\(`),
		"draw from rand.New(rand.NewPCG(…)) of a seed that is the same each time, or that the test logs", true,
	},
}

// seeding is how a test draws a seed of its own.
var seeding = regexp.MustCompile(`\bseed :?= rand\.Uint64\(`)

// unsteadyIn returns what of a file of tests is unsteady, and what to write instead.
func unsteadyIn(name, text string) (found []string) {
	text = seeding.ReplaceAllString(text, "")
	for _, u := range unsteady {
		if u.load && strings.HasPrefix(name, "test/") {
			continue
		}
		for _, expression := range u.pattern.FindAllString(text, -1) {
			found = append(found, name+": "+expression+"…: "+u.instead)
		}
	}
	return found
}

// TestTestsAreSteady finds tests that depend on how busy the machine is, or on numbers
// that nobody can draw again.
func TestTestsAreSteady(t *testing.T) {
	files := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") || name == "steady_test.go" {
			return err
		}
		text, err := os.ReadFile(name)
		if !strings.Contains(string(text), "\t\"testing\"\n") {
			return err
		}
		files++
		for _, problem := range unsteadyIn(name, string(text)) {
			t.Error(problem)
		}
		return err
	})
	if err != nil || files < 100 {
		t.Errorf("%d files of tests, %v", files, err)
	}
}

// TestSteadyCheckCanFail shows the check what it must find, and what it must not.
func TestSteadyCheckCanFail(t *testing.T) {
	for text, found := range map[string]int{
		"testkit.Eventually(t, 20*time.Second, what, f)":       1,
		"testkit.Eventually(tb, time.Second, what, f)":         1,
		"testkit.Eventually(t, 500*time.Millisecond, what, f)": 1,
		"testkit.Eventually(t, 30*time.Second, what, f)":       0,
		"testkit.Eventually(t, 3*time.Minute, what, f)":        0,
		"rand.IntN(7) + rand.N(3) + rand.Uint64()":             3,
		"seed := rand.Uint64()":                                0,
		"seed = rand.Uint64()":                                 0,
		"rand.New(rand.NewPCG(seed, 0)).IntN(7)":               0,
		"rand.Text()":                                          0,
	} {
		if got := unsteadyIn("internal/x_test.go", text); len(got) != found {
			t.Errorf("%s: %q", text, got)
		}
	}
	if got := unsteadyIn("test/x_test.go", "rand.IntN(7)"); len(got) != 0 {
		t.Errorf("load: %q", got)
	}
}
