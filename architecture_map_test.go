package pgmedic_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// TestImportMapIsExact: what the import map permits is imported, so that the map says what
// depends on what, and a permission ends with the import that it was given for.
func TestImportMapIsExact(t *testing.T) {
	problems, err := unusedPermissions(os.DirFS("."), allowedImports)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

// unusedPermissions returns what an import map permits and no file of a tree does. The
// files of all build tags and platforms count, tests do not.
func unusedPermissions(tree fs.FS, allowed map[string][]string) (problems []string, err error) {
	for _, folder := range slices.Sorted(maps.Keys(allowed)) {
		files, err := fs.Glob(tree, path.Join(folder, "*.go"))
		if err != nil {
			return nil, err
		}
		var used []string
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				return nil, err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
			if err != nil {
				return nil, err
			}
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return nil, err
				}
				if ours, ok := folderOf(imported); ok {
					used = append(used, ours)
				}
			}
		}
		for n, permitted := range allowed[folder] {
			switch {
			case slices.Contains(allowed[folder][:n], permitted):
				problems = append(problems, "the import map permits "+folder+" to import "+permitted+" twice")
			case permitted != "*" && !slices.Contains(used, permitted):
				problems = append(problems, "the import map permits "+folder+" to import "+permitted+", which it does not: remove that from the line")
			}
		}
	}
	return problems, nil
}

// TestUnusedPermissions shows that a permission that nothing uses is found.
func TestUnusedPermissions(t *testing.T) {
	tree := fstest.MapFS{
		"internal/seal/seal.go":        {Data: []byte(`package seal; import _ "` + modulePath + `"`)},
		"internal/seal/seal_test.go":   {Data: []byte(`package seal; import _ "` + modulePath + `/internal/words"`)},
		"internal/store/store.go":      {Data: []byte(`package store; import _ "fmt"`)},
		"internal/store/only_plan9.go": {Data: []byte(`package store; import _ "` + modulePath + `/internal/owner"`)},
		"cmd/pgmedic/main.go":          {Data: []byte(`package main`)},
	}
	got, err := unusedPermissions(tree, map[string][]string{
		"internal/seal": {".", "internal/words", "."}, "internal/store": {"internal/owner", "fmt"}, "cmd/pgmedic": {"*"},
	})
	want := []string{
		"the import map permits internal/seal to import internal/words, which it does not: remove that from the line",
		"the import map permits internal/seal to import . twice",
		"the import map permits internal/store to import fmt, which it does not: remove that from the line",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// checkRootRows returns the files of the root that are not in the table of a page, those
// that are there twice, and those of the table that do not exist.
func checkRootRows(tree fs.FS, page string) (problems []string) {
	listed := map[string]int{}
	for _, row := range rootRow.FindAllString(page, -1) {
		for _, m := range rootFile.FindAllStringSubmatch(row, -1) {
			listed[m[1]]++
		}
	}
	files, err := fs.Glob(tree, "*.go")
	if err != nil {
		return []string{err.Error()}
	}
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") && listed[name] != 1 {
			problems = append(problems, fmt.Sprintf("%s is %d times in the table of docs/architecture.md, and should be once", name, listed[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		if !slices.Contains(files, name) {
			problems = append(problems, "the table of docs/architecture.md has "+name+", which does not exist")
		}
	}
	return problems
}

var (
	// rootRow is the first column of a row that begins with a file of the root.
	rootRow = regexp.MustCompile(`(?m)^\| \[\w+\.go\]\(\.\./\w+\.go\)[^|]*`)
	// rootFile is one of its files.
	rootFile = regexp.MustCompile(`\]\(\.\./(\w+\.go)\)`)
)

// TestRootRows shows that a file of the root without a place in the table is found, and one
// that has two, and a place without a file.
func TestRootRows(t *testing.T) {
	tree := fstest.MapFS{"backup.go": {}, "chunk.go": {}, "event.go": {}, "event_test.go": {}, "internal/seal/seal.go": {}}
	got := checkRootRows(tree, "| [backup.go](../backup.go), [load.go](../load.go) | x, see [chunk.go](../chunk.go) |\n"+
		"| [event.go](../event.go), [event.go](../event.go) | x |\n| [internal/seal](../internal/seal/seal.go) | x |")
	want := []string{
		"chunk.go is 0 times in the table of docs/architecture.md, and should be once",
		"event.go is 2 times in the table of docs/architecture.md, and should be once",
		"the table of docs/architecture.md has load.go, which does not exist",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
