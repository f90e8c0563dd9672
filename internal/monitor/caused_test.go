package monitor_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic/internal/monitor/judge"
)

// notCaused says of each finding that no test of this package causes on a real
// server why not, and which test there is instead.
func notCaused() map[string]string {
	const store = "the store is looked at by the command: see test/testdata/script/report_deep.txtar and drill.txtar"
	const wal = "the store is looked at by the command: see TestRecovery and TestRecoverable"
	return map[string]string{
		"backup-failed": store, "backup-missing": store, "backup-old": store, "backup-shrunk": store, "backup-unproven": store,
		"base-backup-missing": wal, "moment-unproven": wal, "wal-behind": wal, "wal-broken": wal, "wal-missing": wal, "wal-unknown": wal,
		"disk-filling":         "the disk is looked at by the command: see test/testdata/script/report_deep.txtar",
		"disk-full-soon":       "it takes half a day of a disk that fills: see TestDiskForecast",
		"sessions-unencrypted": "tests' servers listen on this machine only, where TLS protects from nobody: see TestSessionsWithoutTLS",
		"version-outdated":     "tests run on the newest minor versions that can be had: see TestAnOldMinorVersion",
	}
}

// TestEveryFindingIsCaused wants for each finding a test that has it come and go
// on a real server.
func TestEveryFindingIsCaused(t *testing.T) {
	caused := causedFindings(t)
	excused := notCaused()
	for _, id := range judge.IDs() {
		reason, ok := excused[id]
		switch {
		case caused[id] && ok:
			t.Errorf("%s is caused after all, and still excused: %s", id, reason)
		case !caused[id] && !ok:
			t.Errorf("no test causes %s on a real server and sees it go", id)
		}
		delete(excused, id)
	}
	for id := range excused {
		t.Errorf("%s is excused and no finding", id)
	}
}

// causedFindings are the ids that stand in a test function which waits for a
// finding to come, or wants it to be there, and later wants it gone.
func causedFindings(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				literals, calls := inFunction(fn)
				if calls["look"]+calls["withPools"]+calls["judgeNow"]+calls["judgeBy"] == 0 || calls["comes"]+calls["mustFind"]+calls["find"]+calls["about"]+calls["testkit.Eventually"] == 0 ||
					calls["goes"]+calls["mustNotFind"]+calls["testkit.Eventually"] == 0 {
					continue
				}
				for _, l := range literals {
					ids[l] = true
				}
			}
		}
	}
	for id := range ids {
		if !slices.Contains(judge.IDs(), id) {
			delete(ids, id)
		}
	}
	return ids
}

// inFunction are a function's texts, and how often it calls what.
func inFunction(fn *ast.FuncDecl) (literals []string, calls map[string]int) {
	calls = map[string]int{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.BasicLit:
			if s, err := strconv.Unquote(x.Value); err == nil && x.Kind == token.STRING {
				literals = append(literals, s)
			}
		case *ast.CallExpr:
			switch f := x.Fun.(type) {
			case *ast.Ident:
				calls[f.Name]++
			case *ast.SelectorExpr:
				if of, ok := f.X.(*ast.Ident); ok {
					calls[of.Name+"."+f.Sel.Name]++
				}
			}
		}
		return true
	})
	return literals, calls
}
