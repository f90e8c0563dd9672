package pgmedic_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// pages returns the text of README.md, CHANGELOG.md and all pages of docs/, by
// path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	add := func(name string) {
		data, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(data)
	}
	add("README.md")
	add("CHANGELOG.md")
	err := fs.WalkDir(os.DirFS("."), "docs", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".md" {
			add(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var (
	fence    = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

// linkProblems returns the links of a page that lead nowhere. Read gives the
// text of a page, or what kept it from being read.
func linkProblems(name, text string, read func(name string) (string, error)) (problems []string) {
	for _, m := range link.FindAllStringSubmatch(withoutCode(text), -1) {
		target := m[1]
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		file, anchor, _ := strings.Cut(target, "#")
		page := name
		if file != "" {
			page = path.Join(path.Dir(name), file)
		}
		there, err := read(page)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %s leads to no file", name, target))
		case anchor != "" && !slices.Contains(anchors(there), anchor):
			problems = append(problems, fmt.Sprintf("%s: %s leads to no heading", name, target))
		}
	}
	return problems
}

// withoutCode blanks what is no text: there brackets mean something else.
func withoutCode(text string) string {
	return codeSpan.ReplaceAllString(fence.ReplaceAllString(text, ""), "code")
}

// anchors returns what the headings of a page are linked by, as GitHub makes
// it: lower case, spaces as dashes, punctuation left out.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1]))
	}
	return all
}

func TestDocsLinks(t *testing.T) {
	read := func(name string) (string, error) {
		if _, err := os.Stat(filepath.FromSlash(name)); err != nil || path.Ext(name) != ".md" {
			return "", err
		}
		data, err := os.ReadFile(filepath.FromSlash(name))
		return string(data), err
	}
	all := pages(t)
	for _, name := range []string{"CONTRIBUTING.md", "SECURITY.md"} {
		text, err := read(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = text
	}
	for name, text := range all {
		for _, problem := range linkProblems(name, text, read) {
			t.Error(problem)
		}
	}
}

// namedPage is a page, and perhaps a heading of it, that a message sends people to.
var namedPage = regexp.MustCompile(`docs/([a-z-]+\.md)(#[\w-]+)?[^.#\w]`)

// TestCodeNamesPages follows the code's references to pages.
func TestCodeNamesPages(t *testing.T) {
	texts, found := pages(t), 0
	for _, root := range []string{"cmd", "internal", "pool"} {
		err := fs.WalkDir(os.DirFS("."), root, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			data, err := os.ReadFile(filepath.FromSlash(name))
			for _, m := range namedPage.FindAllStringSubmatch(string(data), -1) {
				found++
				text, ok := texts["docs/"+m[1]]
				if anchor := strings.TrimPrefix(m[2], "#"); !ok || anchor != "" && !slices.Contains(anchors(text), anchor) {
					t.Errorf("%s: %s leads nowhere", name, m[0])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Fatalf("only %d references are found: the code is not as this test reads it", found)
	}
}

// verb is a command's flags: whether each takes a value.
type verb map[string]bool

var (
	listedVerb = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}`)
	listedFlag = regexp.MustCompile(`(?m)^ +(?:-([a-z]), )?--([a-z0-9-]+)(\[?=| [a-zA-Z]+  )?`)
	// run is a command line of pgmedic, to its end or to what a shell reads.
	run  = regexp.MustCompile(`(?:^|[;&|(])\s*(?:[A-Z_]+=\S+\s+)*(?:bin/)?pgmedic((?:[ \t]+(?:"[^"]*"|[^\s;&|)#>']+))*)`)
	word = regexp.MustCompile(`"[^"]*"|\S+`)
)

// parseFlags reads the flags in the help of a command.
func parseFlags(help string) verb {
	v := verb{}
	for _, m := range listedFlag.FindAllStringSubmatch(help, -1) {
		takes := strings.HasPrefix(m[3], " ")
		v["--"+m[2]] = takes
		if m[1] != "" {
			v["-"+m[1]] = takes
		}
	}
	return v
}

// runProblem returns what is wrong with the arguments of one run of pgmedic, or
// nothing.
func runProblem(args []string, cli map[string]verb) string {
	name, flags := "", cli[""]
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") {
			if name != "" {
				continue
			}
			var ok bool
			if name = arg; name == "…" {
				return ""
			}
			if flags, ok = cli[name]; !ok {
				return fmt.Sprintf("there is no command %q", name)
			}
			continue
		}
		flag, _, hasValue := strings.Cut(arg, "=")
		takes, ok := flags[flag]
		if !ok {
			return fmt.Sprintf("pgmedic %s has no flag %s", name, flag)
		}
		if takes && !hasValue {
			i++
		}
	}
	return ""
}

// codeProblems returns the commands and flags in a page's code that the command
// line does not have. A block marked as text is output and is passed over.
func codeProblems(name, text string, cli map[string]verb) (problems []string) {
	check := func(code string) {
		for _, m := range run.FindAllStringSubmatch(code, -1) {
			if problem := runProblem(word.FindAllString(m[1], -1), cli); problem != "" {
				problems = append(problems, fmt.Sprintf("%s: `%s`: %s", name, strings.TrimSpace(code), problem))
			}
		}
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if !slices.Contains([]string{"", "sh", "console"}, m[1]) {
			continue
		}
		for _, line := range strings.Split(m[2], "\n") {
			command, typed := strings.CutPrefix(line, "$ ")
			if m[1] != "console" || typed {
				check(command)
			}
		}
	}
	for _, m := range codeSpan.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		code := m[1]
		if strings.HasPrefix(code, "pgmedic ") {
			check(code)
		}
		if strings.HasPrefix(code, "--") && !anyFlag(cli, strings.FieldsFunc(code, func(r rune) bool { return r == ' ' || r == '=' })[0]) {
			problems = append(problems, fmt.Sprintf("%s: `%s`: no command has that flag", name, code))
		}
	}
	return problems
}

func anyFlag(cli map[string]verb, flag string) bool {
	for _, flags := range cli {
		if _, ok := flags[flag]; ok {
			return true
		}
	}
	return false
}

// commandLine builds pgmedic and asks it for its commands and flags; "" are
// those of pgmedic itself.
func commandLine(t *testing.T) (help string, cli map[string]verb) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "pgmedic")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/pgmedic").CombinedOutput(); err != nil {
		t.Fatalf("build pgmedic: %v\n%s", err, out)
	}
	ask := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), binary, args...).Output()
		if err != nil {
			t.Fatalf("pgmedic %s: %v", strings.Join(args, " "), err)
		}
		return string(out)
	}
	help = ask("help")
	_, rest, _ := strings.Cut(help, "Available Commands:\n")
	list, _, _ := strings.Cut(rest, "\n\n")
	cli = map[string]verb{"": parseFlags(help)}
	for _, m := range listedVerb.FindAllStringSubmatch(list, -1) {
		page := ask(m[1], "--help")
		cli[m[1]] = parseFlags(page)
		// The flags of `pgmedic keys add` count as those of keys.
		if _, rest, ok := strings.Cut(page, "Available Commands:\n"); ok {
			list, _, _ := strings.Cut(rest, "\n\n")
			for _, sub := range listedVerb.FindAllStringSubmatch(list, -1) {
				maps.Copy(cli[m[1]], parseFlags(ask(m[1], sub[1], "--help")))
			}
		}
	}
	if len(cli) < 10 || len(cli["backup"]) < 10 || !cli["backup"]["--label"] || cli["restore"]["--swap"] {
		t.Fatalf("the help of pgmedic is not as this test reads it: %v", cli)
	}
	return help, cli
}

func TestDocsCommands(t *testing.T) {
	help, cli := commandLine(t)
	texts := pages(t)
	for name, text := range texts {
		if name == "CHANGELOG.md" { // it speaks of what was, too
			continue
		}
		for _, problem := range codeProblems(name, text, cli) {
			t.Error(problem)
		}
	}
	checkExitCodes(t, texts["docs/exit-codes.md"], help)
}

var (
	listedCode = regexp.MustCompile(`(?m)^ +(\d+)  (.+)$`)
	tableCode  = regexp.MustCompile(`(?m)^\| (\d+) \| ([^|]+?) \|`)
)

// checkExitCodes compares the table of exit codes with the list in the help.
func checkExitCodes(t *testing.T, page, help string) {
	t.Helper()
	_, rest, _ := strings.Cut(help, "Exit codes:\n")
	list, _, _ := strings.Cut(rest, "\n\n")
	codes := func(all [][]string) (lines []string) {
		for _, m := range all {
			lines = append(lines, m[1]+" "+strings.ReplaceAll(m[2], "`", ""))
		}
		return lines
	}
	want, have := codes(listedCode.FindAllStringSubmatch(list, -1)), codes(tableCode.FindAllStringSubmatch(page, -1))
	if len(want) < 10 || !slices.Equal(want, have) {
		t.Errorf("docs/exit-codes.md lists\n%s\nand pgmedic help\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

var makeTarget = regexp.MustCompile(`^make ([a-z-]+)$`)

func TestDocsMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range pages(t) {
		for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
			target := makeTarget.FindStringSubmatch(m[1])
			if target != nil && !strings.Contains(string(makefile), "\n"+target[1]+":") {
				t.Errorf("%s: `%s`: the Makefile has no such target", name, m[1])
			}
		}
	}
}

// TestDocsChecksCanFail shows each kind of mistake to the checks of the pages.
func TestDocsChecksCanFail(t *testing.T) {
	read := func(name string) (string, error) {
		if name != "docs/a.md" {
			return "", fs.ErrNotExist
		}
		return "# One *two*: three\n```\n# no heading\n```\n", nil
	}
	cli := map[string]verb{"": {"--quiet": false}, "backup": {"--label": true, "--quiet": false}, "list": {}}
	for text, want := range map[string]string{
		"[x](a.md#one-two-three)":                         "",
		"[x](#one-two-three)":                             "",
		"[x](https://example.com/b.md)":                   "",
		"[x](b.md)":                                       "leads to no file",
		"[x](../a.md)":                                    "leads to no file",
		"[x](a.md#no-heading)":                            "leads to no heading",
		"`pgmedic backup --label a=b`":                    "",
		"`pgmedic --quiet backup x y`":                    "",
		"`pgmedic bakup`":                                 `no command "bakup"`,
		"`pgmedic list --label`":                          "no flag --label",
		"`--lable`":                                       "no command has that flag",
		"```sh\nid=$(pgmedic bakup) && true\n```\n":       `no command "bakup"`,
		"```sh\npgmedic backup && pgmedic lost  # x\n```": `no command "lost"`,
		"```console\n$ pgmedic lost\n```":                 `no command "lost"`,
		"```console\n$ true\nsaid: pgmedic dev with\n```": "",
		"```text\npgmedic lost\n```":                      "",
		"```sh\nX=y pgmedic lost\n```":                    `no command "lost"`,
		"```sh\nsh -c 'x && pgmedic list --no'\n```":      "no flag --no",
		"```sh\ninstall bin/pgmedic /usr/bin\n```":        "",
		"```\npgmedic lost\n```":                          `no command "lost"`,
	} {
		problems := append(linkProblems("docs/a.md", text, read), codeProblems("docs/a.md", text, cli)...)
		switch {
		case want == "" && len(problems) > 0:
			t.Errorf("%q: unexpected: %q", text, problems)
		case want != "" && (len(problems) != 1 || !strings.Contains(problems[0], want)):
			t.Errorf("%q: got %q, want one with %q", text, problems, want)
		}
	}
}
