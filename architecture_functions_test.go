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
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// maxFunctionLines is how many lines the body of a function may have, those of functions
// within it included. One that only returns a table of values is not counted.
const maxFunctionLines = 60

// long is a function that has more: as many as it has now, and of which kind it is.
type long struct {
	lines int
	kind  string
}

// Why functions are long. None of them is a reason to become longer.
const (
	queries   = "one query, or a table of them"
	values    = "a table of values"
	help      = "a command's help, and its flags"
	grammar   = "one loop over a grammar"
	stream    = "one loop that reads a stream, answers, and keeps time between"
	steps     = "steps of one job, in an order that is the point of it, each with its error"
	judgement = "one judgement, case by case"
	message   = "the types and the content of one message"
)

// longFunctions are the functions with more lines than that. One that becomes shorter has
// its number lowered here, and leaves once it fits.
var longFunctions = map[string]long{
	"cmd/pgmedic.clusterCommand.printPlan":        {61, message},
	"cmd/pgmedic.pruneCLI":                        {62, help},
	"cmd/pgmedic.reportCLI":                       {69, help},
	"cmd/pgmedic.reportCommand.run":               {65, steps},
	"cmd/pgmedic.restoreCLI":                      {70, help},
	"cmd/pgmedic.scheduleUninstallCommand.run":    {61, steps},
	"cmd/pgmedic.tryStore":                        {64, steps},
	"cmd/pgmedic.verifyCommand.run":               {65, steps},
	"cmd/pgmedic.walFetchCLI":                     {67, help},
	"internal/archive/expire.State.collect":       {62, steps},
	"internal/monitor/collect.sqlForeignKeys":     {72, queries},
	"internal/notify.teams":                       {66, message},
	"internal/pgtool/dumpsql.readGlobals":         {66, grammar},
	"internal/postgres/databases.swapOnce":        {63, steps},
	"internal/postgres/snapshot.inventoryQueries": {175, queries},
	"internal/render/prometheus.limitMetrics":     {71, values},
	"internal/render/prometheus.statementMetrics": {65, values},
	"internal/render/rendertest.Busy":             {74, values},
	"internal/render/rendertest.Clinic":           {94, values},
	"internal/restore/swap.swapRun.replace":       {71, steps},
	"internal/scratch.Start":                      {65, steps},
	"internal/wal.Judge":                          {62, judgement},
	"internal/walstream.pump.receive":             {73, stream},
	"internal/walstream.syncer.listen":            {62, stream},
	"pool.newEndpoint":                            {64, steps},
	"test/fixture.Contents":                       {67, queries},
}

// TestFunctionsAreShort holds the code to both.
func TestFunctionsAreShort(t *testing.T) {
	problems, err := checkFunctions(os.DirFS("."), longFunctions)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Error(problem)
	}
}

// checkFunctions returns the functions of a tree that are too long.
func checkFunctions(tree fs.FS, excepted map[string]long) (problems []string, err error) {
	found := map[string]int{}
	err = eachSource(tree, func(name string, text []byte) error {
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, text, parser.ParseComments)
		if err != nil || ast.IsGenerated(file) {
			return err
		}
		for _, declared := range file.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok || f.Body == nil || isTable(f.Body) {
				continue
			}
			lines := files.Position(f.Body.Rbrace).Line - files.Position(f.Body.Lbrace).Line - 1
			// Of one that is there for each platform, the longest counts.
			function := path.Dir(name) + "." + receiver(f) + f.Name.Name
			found[function] = max(found[function], lines)
		}
		return nil
	})
	for _, function := range slices.Sorted(maps.Keys(found)) {
		lines, bound := found[function], excepted[function].lines
		switch {
		case lines <= maxFunctionLines:
		case bound == 0:
			problems = append(problems, fmt.Sprintf("%s has %d lines, more than %d: split it where that makes it clearer", function, lines, maxFunctionLines))
		case lines > bound:
			problems = append(problems, fmt.Sprintf("%s has %d lines and may have %d: it is long enough", function, lines, bound))
		case lines < bound:
			problems = append(problems, fmt.Sprintf("%s has %d lines: lower its number from %d", function, lines, bound))
		}
	}
	for _, function := range slices.Sorted(maps.Keys(excepted)) {
		if found[function] <= maxFunctionLines {
			problems = append(problems, fmt.Sprintf("%s has no more than %d lines: it needs no exception", function, maxFunctionLines))
		}
	}
	return problems, err
}

// isTable reports whether a function only returns values that stand in it, of which there may
// be as many as there are.
func isTable(body *ast.BlockStmt) bool {
	if len(body.List) != 1 {
		return false
	}
	returned, ok := body.List[0].(*ast.ReturnStmt)
	if !ok || len(returned.Results) != 1 {
		return false
	}
	_, ok = returned.Results[0].(*ast.CompositeLit)
	return ok
}

// receiver returns the type that a method is of and a dot, or nothing.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	for {
		switch wrapped := of.(type) {
		case *ast.StarExpr:
			of = wrapped.X
		case *ast.IndexExpr:
			of = wrapped.X
		case *ast.IndexListExpr:
			of = wrapped.X
		case *ast.Ident:
			return wrapped.Name + "."
		default:
			return ""
		}
	}
}

// TestFunctionsChecker shows that each rule can be broken.
func TestFunctionsChecker(t *testing.T) {
	function := func(head string, lines int) string {
		return "\nfunc " + head + " {\n" + strings.Repeat("_ = 0\n", lines) + "}\n"
	}
	tree := fstest.MapFS{
		"internal/seal/seal.go": {Data: []byte("package seal\n" + function("fits()", 60) + function("long()", 61) +
			function("(k *Key[T]) grown()", 63) + function("(k Key) shorter()", 61) + function("was()", 1) + function("same()", 70))},
		"internal/seal/seal_test.go": {Data: []byte("package seal\n" + function("inTest()", 99))},
		"internal/seal/table.go":     {Data: []byte("package seal\nfunc table() []int {\nreturn []int{\n" + strings.Repeat("1,\n", 99) + "}\n}\n")},
		"internal/seal/made.go":      {Data: []byte("// Code generated by x. DO NOT EDIT.\npackage seal\n" + function("made()", 99))},
		"internal/seal/seal_a.go":    {Data: []byte("package seal\n" + function("each()", 61))},
		"internal/seal/seal_b.go":    {Data: []byte("package seal\n" + function("each()", 1))},
	}
	got, err := checkFunctions(tree, map[string]long{
		"internal/seal.Key.grown": {62, steps}, "internal/seal.Key.shorter": {62, steps}, "internal/seal.was": {61, steps},
		"internal/seal.same": {70, steps}, "internal/seal.each": {61, steps}, "internal/seal.gone": {61, steps},
	})
	want := []string{
		"internal/seal.Key.grown has 63 lines and may have 62: it is long enough",
		"internal/seal.Key.shorter has 61 lines: lower its number from 62",
		"internal/seal.long has 61 lines, more than 60: split it where that makes it clearer",
		"internal/seal.gone has no more than 60 lines: it needs no exception",
		"internal/seal.was has no more than 60 lines: it needs no exception",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
