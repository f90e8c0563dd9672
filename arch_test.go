package pgmedic_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	modulePath   = "github.com/pgmedic/pgmedic"
	maxFileLines = 500
	// mainFile is the only one that may end the process, and the example's.
	mainFile    = "cmd/pgmedic/main.go"
	exampleFile = "examples/clinic/main.go"
)

// allowedImports is the import map: for each package, by its folder, the
// packages of ours that it may import; "." is the root. Every package is here.
// A new one needs a line, and the commit says which boundary it draws.
var allowedImports = map[string][]string{
	".": {},
	// The pages that the program prints itself.
	"docs": {},

	"internal/words":    {},
	"internal/config":   {"."},
	"internal/seal":     {"."},
	"internal/digest":   {"."},
	"internal/postgres": {".", "internal/failpoint"},
	"internal/notify":   {"."},
	"internal/audit":    {"."},
	"internal/schedule": {"."},
	"internal/pgtool":   {".", "internal/postgres"},
	"internal/scratch":  {".", "internal/postgres"},
	"internal/store":    {"."},
	"internal/catalog":  {".", "internal/store", "internal/failpoint"},
	// Which backups may go: a pure function.
	"internal/retention": {".", "internal/catalog"},
	"internal/backup":    engineImports,
	"internal/restore":   engineImports,
	"internal/drill":     slices.Concat(engineImports, []string{"internal/restore", "internal/scratch"}),
	"internal/monitor":   {".", "internal/postgres"},
	// SQLite stays out of the rest.
	"internal/monitor/history": {".", "internal/monitor"},
	"internal/render":          {".", "internal/monitor", "internal/words"},
	"internal/server":          {".", "internal/catalog", "internal/monitor", "internal/render", "pool"},

	// The pool is a module of its own.
	"pool":          {},
	"pool/poolprom": {"pool"},
	// What a service does with it; a module of its own, too.
	"examples/clinic": {"pool", "pool/poolprom"},

	"cmd/pgmedic": {"*"},

	// Where tests end the program; in other builds it does nothing.
	"internal/failpoint": {},

	// Support for tests: nothing but tests imports these.
	"internal/scratch/scratchtest": {".", "internal/scratch", "internal/testkit"},
	"internal/store/storetest":     {".", "internal/store"},
	"internal/store/s3test":        {".", "internal/store"},
	"internal/testkit":             {},
}

var engineImports = []string{
	".", "internal/postgres", "internal/pgtool", "internal/seal", "internal/digest", "internal/store", "internal/catalog", "internal/failpoint",
	"internal/words",
}

// forTests reports whether a package is support for tests.
func forTests(folder string) bool {
	return strings.HasSuffix(folder, "test") || folder == "internal/testkit"
}

// emptyNames are package names that say nothing.
var emptyNames = []string{"util", "utils", "common", "types", "service", "services", "core", "manager", "helpers"}

// TestArchitecture parses the files itself, because the answers of go list are
// taken from the cache of test results, which knows nothing of a new file.
func TestArchitecture(t *testing.T) {
	problems, err := checkTree(os.DirFS("."), allowedImports)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

// checkTree returns what is wrong with a tree of packages.
func checkTree(tree fs.FS, allowed map[string][]string) (problems []string, err error) {
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := entry.Name()
			// What the go command ignores, too.
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		found, err := checkFile(name, text, allowed)
		for _, problem := range found {
			problems = append(problems, name+": "+problem)
		}
		return err
	})
	return problems, err
}

// checkFile returns what is wrong with one file that is no test.
func checkFile(name string, text []byte, allowed map[string][]string) (problems []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	// A file behind a tag of its own keeps dependencies in go.mod and is never
	// built.
	if bytes.Contains(text, []byte("//go:build keepdeps\n")) {
		return nil, nil
	}
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if lines := bytes.Count(text, []byte("\n")); lines > maxFileLines && !ast.IsGenerated(file) {
		report("%d lines, more than %d: split it by what it is about", lines, maxFileLines)
	}
	if slices.Contains(emptyNames, file.Name.Name) {
		report("package %s says nothing: name it for the thing it holds", file.Name.Name)
	}
	// Programs and helpers outside the product's own tree are not in the map.
	folder := path.Dir(name)
	if outside := strings.SplitN(folder, "/", 2)[0]; outside != "test" && outside != "bench" {
		if permitted, known := allowed[folder]; known {
			problems = append(problems, checkImports(folder, file, permitted)...)
		} else {
			report("package %s is not in the import map of arch_test.go: add it there, and say in the commit which boundary it draws", folder)
		}
	}
	problems = append(problems, checkCode(name, file)...)
	return problems, nil
}

func checkImports(folder string, file *ast.File, permitted []string) (problems []string) {
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return append(problems, err.Error())
		}
		ours, isOurs := folderOf(imported)
		switch {
		case isOurs && !slices.Contains(permitted, ours) && !slices.Contains(permitted, "*"):
			problems = append(problems, fmt.Sprintf("package %s may not import %s", folder, imported))
		case isOurs && forTests(ours) && !forTests(folder):
			problems = append(problems, fmt.Sprintf("only tests may import %s", imported))
		case !isOurs && folder == "." && strings.Contains(strings.SplitN(imported, "/", 2)[0], "."):
			problems = append(problems, "the root imports the standard library only, not "+imported)
		case imported == "testing" && !forTests(folder):
			problems = append(problems, "only tests may import testing")
		}
	}
	return problems
}

// folderOf returns the folder of an import path of ours.
func folderOf(imported string) (folder string, ours bool) {
	if imported == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imported, modulePath+"/")
}

// checkCode finds calls that end the process, and func init.
func checkCode(name string, file *ast.File) (problems []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if node.Name.Name == "init" && node.Recv == nil {
				problems = append(problems, "func init runs before anybody can pass it anything: use a constructor")
			}
		case *ast.SelectorExpr:
			of, ok := node.X.(*ast.Ident)
			if !ok || name == mainFile || name == exampleFile {
				break
			}
			if of.Name == "os" && node.Sel.Name == "Exit" || of.Name == "log" && strings.HasPrefix(node.Sel.Name, "Fatal") {
				problems = append(problems, fmt.Sprintf("%s.%s: only %s ends the process; return an error", of.Name, node.Sel.Name, mainFile))
			}
		}
		return true
	})
	return problems
}

// TestArchitectureChecker shows that each rule can be broken.
func TestArchitectureChecker(t *testing.T) {
	const ours = modulePath + "/internal/"
	for name, test := range map[string]struct{ file, text, want string }{
		"nothing wrong":      {"internal/drill/drill.go", `package drill; import _ "` + ours + `restore"`, ""},
		"root":               {"internal/seal/seal.go", `package seal; import _ "` + modulePath + `"`, ""},
		"main exits":         {mainFile, `package main; import "os"; func main() { os.Exit(1) }`, ""},
		"main imports all":   {"cmd/pgmedic/wire.go", `package main; import _ "` + ours + `render"`, ""},
		"test support":       {"internal/store/storetest/suite.go", `package storetest; import _ "testing"`, ""},
		"a test file":        {"internal/seal/seal_test.go", `package seal; import _ "` + ours + `backup"`, ""},
		"ignored":            {"internal/seal/testdata/x.go", `package util`, ""},
		"500 lines":          {"internal/seal/seal.go", "package seal" + strings.Repeat("\n", 500), ""},
		"forbidden import":   {"internal/backup/backup.go", `package backup; import _ "` + ours + `restore"`, "may not import"},
		"engine and config":  {"internal/backup/backup.go", `package backup; import _ "` + ours + `config"`, "may not import"},
		"root and ours":      {"root.go", `package pgmedic; import _ "` + ours + `seal"`, "may not import"},
		"root and others":    {"root.go", `package pgmedic; import _ "github.com/jackc/pgx/v5"`, "standard library only"},
		"unknown package":    {"internal/new/new.go", `package new`, "not in the import map"},
		"unknown, any place": {"x/x.go", `package x`, "not in the import map"},
		"test support used":  {"cmd/pgmedic/wire.go", `package main; import _ "` + ours + `store/storetest"`, "only tests may import"},
		"testing used":       {"internal/seal/seal.go", `package seal; import _ "testing"`, "only tests may import"},
		"empty name":         {"internal/seal/seal.go", `package util`, "says nothing"},
		"501 lines":          {"internal/seal/seal.go", "package seal" + strings.Repeat("\n", 501), "501 lines"},
		"exit":               {"cmd/pgmedic/run.go", `package main; import "os"; func f() { os.Exit(1) }`, "os.Exit"},
		"fatal":              {"internal/seal/seal.go", `package seal; import "log"; func f() { log.Fatalf("x") }`, "log.Fatalf"},
		"exit by value":      {"internal/seal/seal.go", `package seal; import "os"; var exit = os.Exit`, "os.Exit"},
		"init":               {"internal/seal/seal.go", `package seal; func init() {}`, "func init"},
		"a method init":      {"internal/seal/seal.go", `package seal; type s int; func (s) init() {}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, filepath.FromSlash(test.file))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			problems, err := checkTree(os.DirFS(root), allowedImports)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(problems) > 0:
				t.Errorf("unexpected: %q", problems)
			case test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], test.want)):
				t.Errorf("got %q, want one with %q", problems, test.want)
			}
		})
	}
}
