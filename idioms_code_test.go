package pgmedic_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestIdiomsInMessages reads every text in the code: errors, hints, log lines, findings,
// the HELP of metrics. Where one is put together with +, its parts are read as one.
func TestIdiomsInMessages(t *testing.T) {
	read := 0
	eachText(t, func(position, text string) {
		if !strings.Contains(text, " ") {
			return // a name
		}
		read++
		for _, problem := range idiomProblems(position, strings.ReplaceAll(text, "\n", " ")) {
			t.Error(problem)
		}
	})
	if read < 4000 {
		t.Errorf("only %d texts were read", read)
	}
}

// eachText visits every text in the code, without the tests'.
func eachText(t *testing.T, visit func(position, text string)) {
	t.Helper()
	eachFile(t, func(files *token.FileSet, parsed *ast.File) {
		ast.Inspect(parsed, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := literalText(e)
			if ok {
				visit(files.Position(e.Pos()).String(), text)
			}
			return !ok
		})
	})
}

// eachFile visits every file of the code, without the tests'.
func eachFile(t *testing.T, visit func(files *token.FileSet, parsed *ast.File)) {
	t.Helper()
	files := token.NewFileSet()
	for _, top := range []string{".", "cmd", "internal", "pool"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (path != top && top == "." || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || forTests(filepath.ToSlash(filepath.Dir(path))) && path != "pool/pooltest/pooltest.go" {
				return nil
			}
			parsed, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err == nil {
				visit(files, parsed)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// literalText returns a string literal, or what literals and other values that are joined
// with + come to, with a % for each of those.
func literalText(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, l := literalText(e.X)
		right, r := literalText(e.Y)
		if !l && !r {
			return "", false
		}
		if !l {
			left = "%"
		}
		if !r {
			right = "%"
		}
		return left + right, true
	}
	return "", false
}
