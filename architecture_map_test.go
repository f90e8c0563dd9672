package pgmedic_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
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
