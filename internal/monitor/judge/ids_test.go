package judge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

// TestEveryFindingIsListed reads the ids from the files that make findings.
func TestEveryFindingIsListed(t *testing.T) {
	files, err := filepath.Glob("findings_*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	form := regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)
	var made []string
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
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
