package pgmedic_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedTest    = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	declaredTest = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
)

// TestSecurityPromises: each promise of docs/security.md names the test that breaks
// it, and there is such a test.
func TestSecurityPromises(t *testing.T) {
	declared := map[string]bool{}
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.FromSlash(name))
		for _, m := range declaredTest.FindAllStringSubmatch(string(text), -1) {
			declared[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page := "docs/security.md"
	text, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	_, promises, found := strings.Cut(string(text), "\n## Promises, and the test of each\n")
	if !found {
		t.Fatalf("%s has no section of promises", page)
	}
	promises, _, _ = strings.Cut(promises, "\n## ")
	rows := 0
	for line := range strings.Lines(promises) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| promise") || strings.HasPrefix(line, "|---") {
			continue
		}
		rows++
		names := namedTest.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("%s: no test is named for: %s", path.Base(page), line)
		}
		for _, m := range names {
			if !declared[m[1]] {
				t.Errorf("%s names %s, and there is no such test", page, m[1])
			}
		}
	}
	if rows < 10 {
		t.Errorf("only %d promises", rows)
	}
}
