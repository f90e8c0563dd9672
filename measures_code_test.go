package pgmedic_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ownMeasures are the files that write sizes or times themselves, each with its reason.
var ownMeasures = map[string]string{
	"internal/emergency/plan_space.go":            "a setting of PostgreSQL",
	"internal/monitor/judge/findings_activity.go": "settings of PostgreSQL",
	"internal/monitor/judge/findings_settings.go": "a setting of PostgreSQL",
	"internal/monitor/collect/collect.go":         "a setting of PostgreSQL",
	"internal/walspool/folder.go":                 "wal.spool_max_mb as it is set",
	"internal/schedule/crontab.go":                "an operand of sleep",
	"internal/schedule/systemd.go":                "settings of systemd",
	"internal/schedule/kubernetes.go":             "fields of Kubernetes",
}

// TestMeasuresInMessages: a size, a time or an age is written by words.Bytes, words.Size,
// words.Duration, words.Long and their like, which know where a unit ends. What writes
// one with a unit in its format, or prints one that was divided or rounded for that, is
// found. The pool is a module of its own.
func TestMeasuresInMessages(t *testing.T) {
	needed := map[string]bool{}
	read := 0
	eachFile(t, func(files *token.FileSet, parsed *ast.File) {
		name := files.Position(parsed.Pos()).Filename
		if strings.HasPrefix(name, "pool/") || strings.HasPrefix(name, "internal/words/") {
			return
		}
		read++
		for _, found := range measuresIn(parsed) {
			needed[name] = true
			if ownMeasures[name] == "" {
				t.Errorf("%s: %s: use a function of internal/words", files.Position(found.at), found.what)
			}
		}
	})
	for name := range ownMeasures {
		if !needed[name] {
			t.Errorf("%s writes no size and no time: it needs no exception", name)
		}
	}
	if read < 500 {
		t.Errorf("only %d files were read", read)
	}
}

type measure struct {
	at   token.Pos
	what string
}

var (
	// measured matches a number with a unit, or the name of one in a list. " B" is in texts
	// about other things.
	measured = regexp.MustCompile(`%([-+0-9.]*[dfgsv] ?| )([KMGTP]i?B|kB|ns|µs|ms|s|min|h|d|(second|minute|hour|day)s?)\b|%[-+0-9.]*[dfg] B\b|^ ?[KMGTP]iB$`)
	// ofTime are calls that make a number of a time, or a rounder one.
	ofTime = []string{"Round", "Truncate", "Seconds", "Minutes", "Hours"}
)

// measuresIn returns what in a file writes a size or a time.
func measuresIn(file *ast.File) (all []measure) {
	find := func(n ast.Node, what string) { all = append(all, measure{n.Pos(), what}) }
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if of, ok := call.Fun.(*ast.SelectorExpr); ok && of.Sel.Name == "String" && dividesMeasure(of.X) {
			find(n, "a rounded time as text")
		}
		if slices.ContainsFunc(call.Args, isFormat) {
			for _, arg := range call.Args {
				if dividesMeasure(arg) {
					find(arg, "a size or a time is divided or rounded to be printed")
				}
			}
		}
		return true
	})
	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := literalText(e)
		if m := measured.FindString(text); m != "" {
			find(n, m)
		}
		return !ok
	})
	return all
}

func isFormat(e ast.Expr) bool {
	text, ok := literalText(e)
	return ok && strings.Contains(text, "%")
}

// dividesMeasure reports whether a value is a size that is brought to a larger unit, or a
// time in a number of units or rounded to one.
func dividesMeasure(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return dividesMeasure(e.X)
	case *ast.BinaryExpr:
		by, ok := e.Y.(*ast.BasicLit)
		return e.Op == token.QUO && (isTimeUnit(e.Y) || ok && by.Value == "1024") ||
			e.Op == token.SHR && ok && slices.Contains([]string{"10", "20", "30", "40"}, by.Value)
	case *ast.CallExpr:
		of, ok := e.Fun.(*ast.SelectorExpr)
		return ok && slices.Contains(ofTime, of.Sel.Name) && (len(e.Args) == 0 || len(e.Args) == 1 && isTimeUnit(e.Args[0]))
	}
	return false
}

// isTimeUnit reports whether a value is time.Second or the like, or a product of it.
func isTimeUnit(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return isTimeUnit(e.X)
	case *ast.BinaryExpr:
		return e.Op == token.MUL && (isTimeUnit(e.X) || isTimeUnit(e.Y))
	case *ast.SelectorExpr:
		of, ok := e.X.(*ast.Ident)
		return ok && of.Name == "time"
	}
	return false
}

// TestMeasuresChecker shows what is found, and what is not.
func TestMeasuresChecker(t *testing.T) {
	for code, want := range map[string]int{
		`fmt.Sprintf("%d MB free", free>>20)`:                    2,
		`fmt.Sprintf("%.1f s", seconds)`:                         1,
		`fmt.Sprintf("%s days", n) + "%d hours"`:                 1,
		`f("in %s", d.Round(time.Second))`:                       1,
		`"in " + d.Round(24 * time.Hour).String()`:               1,
		`f("%d left", d/time.Second)`:                            1,
		`f("%.0f left", (d.Minutes()))`:                          1,
		`f("%d left", n/1024)`:                                   1,
		`[]string{"KiB", "MiB"}`:                                 2,
		`f("%s", words.Duration(d.Round(time.Second)))`:          0,
		`log.Info("done", "seconds2", d.Round(time.Second))`:     0,
		`f("%d bytes, %s done, 100 MB", n, at.Format("15:04h"))`: 0,
		`f("%s", at.Truncate(size))`:                             0,
		`strconv.Itoa(n) + " days"`:                              1,
		`f("%s %d%%", days, n) + "days"`:                         0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nvar _ = "+code, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := measuresIn(file); len(got) != want {
			t.Errorf("%s: %v, want %d", code, got, want)
		}
	}
}
