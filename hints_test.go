package pgmedic_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// TestHints: a hint is a fragment that says what to do next. It begins with a small
// letter, a name or a statement, and has no full stop.
func TestHints(t *testing.T) {
	tree := os.DirFS(".")
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		for _, problem := range badHints(t, name, text) {
			t.Error(problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHintsCheckCanFail tries each way to write a hint.
func TestHintsCheckCanFail(t *testing.T) {
	for _, statement := range []string{
		`return pgmedic.Errorf(kind, "Set it", "x")`,
		`return pgmedic.Errorf(kind, "set it.", "x")`,
		`return pgmedic.Errorf(kind, "Set "+name, "x")`,
		`hint := fmt.Sprintf("Set %s", name)`,
		`e.hint = "Set it"`,
		`return &thing{hint: "Set it"}`,
		`return &thing{Advice: "set it."}`,
		`return "Set it"`,
		`bad := func(op, hint string) {}; bad("x", "Set it")`,
	} {
		if len(badHints(t, "x.go", []byte("package x\nfunc aHint() { "+statement+" }"))) == 0 {
			t.Errorf("taken: %s", statement)
		}
	}
	for _, hint := range []string{"set it", "GRANT x;", "DB_HOST names it", "7d, say", "`x`", ""} {
		if bad := badHints(t, "x.go", []byte("package x\nfunc f() { x(pgmedic.Errorf(kind, "+strconv.Quote(hint)+`, "X.")) }`)); len(bad) != 0 {
			t.Error(bad)
		}
	}
}

// badHints returns what is wrong with the hints of a file: the second argument of
// pgmedic.Errorf, what is put into a variable or field of that name, or of the pool's
// Advice, and what a function of that name returns.
func badHints(t *testing.T, name string, text []byte) (problems []string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	check := func(e ast.Expr) {
		begin, end := edges(e)
		first := []rune(begin)
		sentence := len(first) > 1 && unicode.IsUpper(first[0]) && unicode.IsLower(first[1])
		if sentence || strings.HasSuffix(end, ".") {
			problems = append(problems, files.Position(e.Pos()).String()+": a hint begins with a small letter and has no full stop: "+begin)
		}
	}
	takers := hintTakers(file)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if called(n) == "Errorf" && len(n.Args) > 2 {
				check(n.Args[1])
			}
			if i, ok := takers[called(n)]; ok && i < len(n.Args) {
				check(n.Args[i])
			}
		case *ast.KeyValueExpr:
			if isHint(n.Key) {
				check(n.Value)
			}
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if isHint(to) && i < len(n.Rhs) {
					check(n.Rhs[i])
				}
			}
		case *ast.FuncDecl:
			if isHint(n.Name) && n.Body != nil {
				ast.Inspect(n.Body, func(n ast.Node) bool {
					if r, ok := n.(*ast.ReturnStmt); ok {
						for _, e := range r.Results {
							check(e)
						}
					}
					return true
				})
			}
		}
		return true
	})
	return problems
}

// hintTakers returns the functions of a file that take a hint, and as which argument.
func hintTakers(file *ast.File) map[string]int {
	takers := map[string]int{}
	note := func(name string, f *ast.FuncType) {
		i := 0
		for _, field := range f.Params.List {
			for _, param := range field.Names {
				if isHint(param) {
					takers[name] = i
				}
				i++
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			note(n.Name.Name, n.Type)
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if name, ok := to.(*ast.Ident); ok && i < len(n.Rhs) {
					if f, ok := n.Rhs[i].(*ast.FuncLit); ok {
						note(name.Name, f.Type)
					}
				}
			}
		}
		return true
	})
	return takers
}

// isHint reports whether a name is that of a hint.
func isHint(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return isHint(e.Sel)
	case *ast.Ident:
		return strings.HasSuffix(strings.ToLower(e.Name), "hint") || strings.EqualFold(e.Name, "advice")
	}
	return false
}

// called returns the name of what is called, of whatever package.
func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.SelectorExpr:
		return f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// edges returns how a text begins and ends, as far as that is written there.
func edges(e ast.Expr) (begin, end string) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text, text
		}
	case *ast.BinaryExpr:
		begin, _ = edges(e.X)
		_, end = edges(e.Y)
	case *ast.CallExpr:
		if called(e) == "Sprintf" {
			return edges(e.Args[0])
		}
	}
	return begin, end
}
