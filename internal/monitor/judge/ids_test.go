package judge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

// TestEveryFindingIsListed reads the ids from all of the package: each text of that form, but
// for those in the list itself. What is in the list has an urgency.
func TestEveryFindingIsListed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)
	var made []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if fn, ok := n.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "idsByUrgency" {
				return false
			}
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if s, err := strconv.Unquote(l.Value); err == nil && form.MatchString(s) {
					made = append(made, s)
				}
			}
			return true
		})
	}
	slices.Sort(made)
	if made = slices.Compact(made); !slices.Equal(made, judge.IDs()) {
		t.Errorf("the findings are\n%v, and listed\n%v", made, judge.IDs())
	}
}
