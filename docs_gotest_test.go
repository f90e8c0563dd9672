package pgmedic_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

// testsOf returns the names of the tests and benchmarks in a folder and, if it ends in
// /..., in those below.
func testsOf(folder string) (names []string, err error) {
	top, below := strings.CutSuffix(folder, "/...")
	top = path.Clean(top)
	err = filepath.WalkDir(filepath.FromSlash(top), func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && filepath.ToSlash(name) != top && !below:
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Benchmark")) {
				names = append(names, f.Name.Name)
			}
		}
		return nil
	})
	return names, err
}

// goTest matches a command of a page that runs tests.
var goTest = regexp.MustCompile("go test [^`\n|<]*")

// goTestProblems returns what is wrong with a command: it names a folder without tests, or
// a test that is not there, and go test would report success.
func goTestProblems(command string, tests func(folder string) ([]string, error)) (problems []string) {
	command, _, _ = strings.Cut(command, " #")
	words := strings.Fields(strings.NewReplacer("'", "", "(", "", ")", "").Replace(command))
	var folders, patterns []string
	for i, word := range words {
		switch {
		case word == "." || strings.HasPrefix(word, "./"):
			folders = append(folders, word)
		case i > 0 && (words[i-1] == "-run" || words[i-1] == "-bench") && word != "^$":
			patterns = append(patterns, word)
		}
	}
	for _, folder := range folders {
		names, err := tests(folder)
		if err != nil || len(names) == 0 {
			problems = append(problems, fmt.Sprintf("%s: there are no tests in %s", command, folder))
			continue
		}
		for _, pattern := range patterns {
			top, script, _ := strings.Cut(pattern, "/")
			if top == "NAME" || top == "." {
				continue // in place of any
			}
			name, err := regexp.Compile(top)
			if err != nil || !slices.ContainsFunc(names, name.MatchString) {
				problems = append(problems, fmt.Sprintf("%s: no test of %s is %s", command, folder, top))
			}
			if !strings.HasPrefix(top, "TestScript") || script == "" || script == "NAME" {
				continue
			}
			if _, err := os.Stat(path.Join("test/testdata/script", script+".txtar")); err != nil {
				problems = append(problems, fmt.Sprintf("%s: there is no script %s", command, script))
			}
		}
	}
	return problems
}

// TestDocsTests: each test and each script that a page names is there. A misspelt one
// passes: go test then runs nothing.
func TestDocsTests(t *testing.T) {
	all := pages(t)
	read, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	all["CONTRIBUTING.md"] = string(read)
	every, err := testsOf("./...")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, command := range goTest.FindAllString(all[name], -1) {
			commands++
			for _, problem := range goTestProblems(command, testsOf) {
				t.Errorf("%s: %s", name, problem)
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(all[name], -1) {
			if test := regexp.MustCompile(`^Test[A-Z]\w+$`).FindString(m[1]); test != "" && !slices.Contains(every, test) {
				t.Errorf("%s: there is no %s", name, test)
			}
		}
	}
	if commands < 20 {
		t.Errorf("only %d commands were found", commands)
	}
}

// TestDocsTestsCanFail: each kind of mistake is found.
func TestDocsTestsCanFail(t *testing.T) {
	tests := func(folder string) ([]string, error) {
		if folder != "./a" {
			return nil, fs.ErrNotExist
		}
		return []string{"TestScripts", "BenchmarkWriter"}, nil
	}
	for command, wrong := range map[string]bool{
		"go test -count=1 -run TestScripts ./a":           false,
		"go test ./a -run TestScript -update # one":       false,
		"go test ./a -run '^$' -bench Writer":             false,
		"go test ./a -run NAME":                           false,
		"go test ./a -run TestScripts/report":             false,
		"go test ./a -run TestScripts/there_is_no_script": true,
		"go test ./a -run TestSkripts":                    true,
		"go test ./a -bench Reader":                       true,
		"go test ./b":                                     true,
	} {
		if got := goTestProblems(command, tests); (len(got) > 0) != wrong {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// TestDocsCountFindings: where a page says how many findings there are, it is true.
func TestDocsCountFindings(t *testing.T) {
	all := pages(t)
	for name, count := range map[string]*regexp.Regexp{
		"README.md":            regexp.MustCompile(`\[(\d+) kinds of findings\]`),
		"docs/architecture.md": regexp.MustCompile(`\| (\d+) findings \|`),
	} {
		m := count.FindStringSubmatch(all[name])
		if len(m) != 2 || m[1] != strconv.Itoa(len(judge.IDs())) {
			t.Errorf("%s: it says %q, there are %d findings", name, m, len(judge.IDs()))
		}
	}
}
