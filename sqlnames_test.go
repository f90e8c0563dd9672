package pgmedic_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// In a session that internal/postgres opened only pg_catalog is searched for
// names, so SQL that runs there may call functions and operators by bare names.
// These rules hold the rest: nothing else connects, nothing gives such a session
// another search path but where that is the point, and SQL that runs elsewhere,
// for we print it or store it, names everything with its schema.
var (
	// connecting may open sessions.
	connecting = []string{"internal/postgres/connect.go", "internal/postgres/replication.go"}
	// pathSetting may set a search path; each file says why where it does.
	pathSetting = []string{
		"internal/postgres/session.go",        // the one place
		"internal/postgres/pooler.go",         // the first statement of a session, which empties it
		"internal/postgres/search_path.go",    // what was refused without one; nothing of ours follows that is not qualified
		"internal/backup/recover.go",          // the same, in recover.sh
		"internal/monitor/collect/collect.go", // pg_catalog, pg_temp
		"internal/monitor/collect/plans.go",   // EXPLAIN of the role's own statements, never a superuser's
		"cmd/pgmedic/demo.go",                 // the sample clinic
		"cmd/pgmedic/init.go",                 // empties it
	}
	// carried hold SQL that runs in sessions of others: pasted by a person, or in
	// a script that is stored. Hints of errors do so everywhere.
	carried = []string{
		"internal/monitor/judge/*.go", "internal/sqltext/printable.go", "internal/restore/rescue_sql.go",
	}
	// sessionSQL are constants in those files that run in a session of ours.
	sessionSQL = []string{"describeTable", "describeColumns"}
)

var (
	setsPath = regexp.MustCompile(`(?i)\b(re)?set\s+(local\s+|session\s+)?"?search_path|set_config\(\s*'search_path'|^\s*reset\s+all|discard\s+all`)
	// isSQL tells statements from prose that mentions one.
	isSQL        = regexp.MustCompile(`\b(SELECT|WITH|WHERE|JOIN|INSERT INTO|UPDATE|DELETE FROM)\b[^.]`)
	notOperators = regexp.MustCompile(`\bSET [\w.\x00]+ = |\bSELECT \*`)
	hidden       = regexp.MustCompile(`'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*`)
	qualified    = regexp.MustCompile(`OPERATOR\((?:pg_catalog|\x00)\.[^)]*\)`)
	bareCall     = regexp.MustCompile(`(?:^|[^.\w\x00])([a-z_][a-z0-9_]*)\(`)
	bareCast     = regexp.MustCompile(`::\s*([a-z_]\w*)`)
	bareTable    = regexp.MustCompile(`\b(?:FROM|JOIN)\s+(pg_\w+)\b[^.]`)
	bareSymbol   = regexp.MustCompile(`[=<>~|+/@#&^!]+|\s[-*%]\s`)
	bareKeyword  = regexp.MustCompile(`\b(LIKE|ILIKE|SIMILAR TO|BETWEEN|IN \(|DISTINCT FROM|USING \(|NULLIF)`)
	formatVerb   = regexp.MustCompile(`%(\[\d+\])?[-+.\d]*[sdqvf]|%%`)
)

// syntax are words that are followed by a parenthesis and call nothing.
var syntax = []string{"coalesce", "exists", "row", "array", "any", "values", "over", "as", "b"}

// bareNames returns what a statement calls by a bare name.
func bareNames(sql string) (found []string) {
	if !isSQL.MatchString(sql) {
		return nil
	}
	sql = formatVerb.ReplaceAllString(hidden.ReplaceAllString(sql, "\x00"), "\x00")
	sql = notOperators.ReplaceAllString(sql, "\x00")
	sql = qualified.ReplaceAllString(sql, "\x00")
	for _, m := range bareCall.FindAllStringSubmatch(sql, -1) {
		if !slices.Contains(syntax, strings.ToLower(m[1])) {
			found = append(found, "function "+m[1])
		}
	}
	for _, m := range bareCast.FindAllStringSubmatch(sql, -1) {
		if m[1] != "pg_catalog" {
			found = append(found, "type "+m[1])
		}
	}
	for _, m := range bareTable.FindAllStringSubmatch(sql, -1) {
		if m[1] != "pg_catalog" {
			found = append(found, "relation "+m[1])
		}
	}
	for _, m := range bareSymbol.FindAllString(sql, -1) {
		found = append(found, "operator "+strings.TrimSpace(m))
	}
	return append(found, bareKeyword.FindAllString(sql, -1)...)
}

// TestSQLNames holds the sources to the rules above.
func TestSQLNames(t *testing.T) {
	checked := 0
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		folder := strings.SplitN(name, "/", 2)[0]
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") ||
				slices.Contains([]string{"pool", "examples", "test", "bench"}, folder) || forTests(name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		problems, n, err := checkSQL(name, text)
		checked += n
		for _, p := range problems {
			t.Errorf("%s: %s", name, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 20 {
		t.Errorf("only %d statements were found: the rules are not held", checked)
	}
}

// checkSQL returns what is wrong in a file, and how many carried statements it has.
func checkSQL(name string, text []byte) (problems []string, carriedStatements int, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
	if err != nil {
		return nil, 0, err
	}
	leaves := slices.ContainsFunc(carried, func(pattern string) bool { ok, _ := path.Match(pattern, name); return ok })
	carry := func(sql string) {
		if !isSQL.MatchString(sql) {
			return
		}
		carriedStatements++
		for _, bare := range bareNames(sql) {
			problems = append(problems, fmt.Sprintf("%s is a bare name in %.90q", bare, sql))
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ValueSpec:
			return len(node.Names) == 0 || !leaves || !slices.Contains(sessionSQL, node.Names[0].Name)
		case *ast.SelectorExpr:
			of, ok := node.X.(*ast.Ident)
			if ok && slices.Contains([]string{"pgx", "pgconn", "pgxpool"}, of.Name) && !slices.Contains(connecting, name) &&
				(strings.HasPrefix(node.Sel.Name, "Connect") && node.Sel.Name != "ConnectError" && node.Sel.Name != "ConnectTracer" || node.Sel.Name == "New" || node.Sel.Name == "NewWithConfig") {
				problems = append(problems, fmt.Sprintf("%s.%s: only postgres.Connect opens sessions", of.Name, node.Sel.Name))
			}
		case *ast.BinaryExpr, *ast.BasicLit:
			sql, ok := folded(node.(ast.Expr))
			if !ok {
				return true
			}
			if setsPath.MatchString(sql) && !slices.Contains(pathSetting, name) {
				problems = append(problems, fmt.Sprintf("sets the search path: %.60q", sql))
			}
			// What ends in a semicolon is for somebody to paste.
			if leaves || strings.HasSuffix(strings.TrimSpace(sql), ";") {
				carry(sql)
			}
			return false
		case *ast.CallExpr:
			if of, ok := node.Fun.(*ast.SelectorExpr); ok && of.Sel.Name == "Errorf" && len(node.Args) > 2 && !leaves {
				ast.Inspect(node.Args[1], func(node ast.Node) bool {
					if e, ok := node.(ast.Expr); ok {
						if hint, ok := folded(e); ok {
							carry(hint)
							return false
						}
					}
					return true
				})
			}
		}
		return true
	})
	return problems, carriedStatements, nil
}

// folded is a string constant, or a sum of such in which a zero byte stands for
// what is known only later.
func folded(e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, okLeft := folded(e.X)
		right, okRight := folded(e.Y)
		if !okLeft {
			left = "\x00"
		}
		if !okRight {
			right = "\x00"
		}
		return left + right, okLeft || okRight
	case *ast.ParenExpr:
		return folded(e.X)
	}
	return "", false
}

// TestSQLNamesChecker shows that each rule can be broken.
func TestSQLNamesChecker(t *testing.T) {
	for name, test := range map[string]struct{ file, text, want string }{
		"qualified":          {"internal/monitor/judge/findings_x.go", "`SELECT pg_catalog.count(*) FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) 1::pg_catalog.oid`", ""},
		"prose":              {"internal/monitor/judge/findings_x.go", "`a SELECT takes locks (and keeps them)`", ""},
		"elsewhere":          {"internal/monitor/collect/sql.go", "`SELECT count(*) FROM pg_class WHERE oid = 1`", ""},
		"function":           {"internal/monitor/judge/findings_x.go", "`SELECT count(*) FROM t`", "function count"},
		"operator":           {"internal/monitor/judge/findings_x.go", "`SELECT FROM t WHERE a = 1`", "operator ="},
		"a sum":              {"internal/monitor/judge/findings_x.go", "`SELECT FROM t ` + x + ` WHERE a ` + `= 1`", "operator ="},
		"like":               {"internal/monitor/judge/findings_x.go", "`SELECT FROM t WHERE a LIKE 'b'`", "LIKE"},
		"join":               {"internal/monitor/judge/findings_x.go", "`SELECT FROM t JOIN u USING (a)`", "USING"},
		"type":               {"internal/monitor/judge/findings_x.go", "`SELECT a::regclass FROM t`", "type regclass"},
		"relation":           {"internal/monitor/judge/findings_x.go", "`SELECT FROM pg_class `", "relation pg_class"},
		"reset":              {"internal/drill/x.go", "`RESET search_path`", "sets the search path"},
		"set":                {"internal/drill/x.go", "`set local search_path = public`", "sets the search path"},
		"function that sets": {"internal/drill/x.go", "`SELECT pg_catalog.set_config('search_path', 'x', false)`", "sets the search path"},
		"a hint":             {"internal/drill/x.go", "`what is not on the role's search_path is written schema.table`", ""},
		"SQL in a hint":      {"internal/drill/x.go", "pgmedic.Errorf(kind, fmt.Sprintf(`end it: SELECT pg_terminate_backend(%d)`, pid), `x`, y)", "function pg_terminate_backend"},
		"connect":            {"internal/drill/x.go", "pgx.ConnectConfig", "only postgres.Connect"},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _, err := checkSQL(test.file, []byte("package x; var y = "+test.text))
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
