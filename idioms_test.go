package pgmedic_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/pgmedic/pgmedic/internal/config"
)

// idiom is an expression that reads as translated.
type idiom struct {
	pattern *regexp.Regexp
	instead string
	// except matches what the pattern finds and is good English; nil is nothing.
	except *regexp.Regexp
}

// idioms are the expressions of CONTRIBUTING.md's table. Those are left out that
// are good English in another place.
var idioms = sync.OnceValue(func() []idiom {
	var all []idiom
	for _, row := range [][2]string{
		{`go(es)? over (it|its|the|this|that|host|these|those|all)\b`, "overrides, takes precedence over"},
		{`[Ww]hoever`, "anyone who, a user who"},
		{`(^|[.:;] )[Ww]ho (may|can|has|had|have|reads?|writes?|breaks?|holds?|knows?|wants?) [^?]*$`, "anyone who, a user who"},
		{`\b(looks?|knows?|asks?|sees?) who\b`, "checks for sessions that"},
		{`, for (it|they|this|that|these|those|nothing|nobody|no|which of) (is|are|was|were|has|have|had|can|may|do|does|will|would|could|takes?|needs?|makes?|deletes?|[a-z]+ (is|are|has|have|can|may) )`, "because, since"},
		{`, for (the|a|an|one|each|such) [a-z]+( [a-z]+)? (is|are|was|may|can|has|had|reads?|would)\b`, "because, since"},
		{`\b[Nn]obody('s)?\b`, "name the actor; nothing, not"},
		{`\b(am|is|are|was|were|be|been|being|gets?|got) told\b([^ ]|$| (a[^p]|f[^r]|[^af]))`, "is reported, is passed, receives"},
		{`\banew\b`, "again, from the start, a new"},
		{`(^|[^e]|[^r]e) (is|are|was|were) none\b`, "does not exist, is not a valid"},
		{`\b(is|are|was|were|be|been|being|not) looked (at|into|up on)\b`, "is checked, is read, is collected"},
		{`\bworth a look\b|\b(a|the|each|every|earlier|later|last|first) look (is|was|has|costs?|takes?|took|at which|fails?|failed)\b`, "a collection, a snapshot, a check"},
		{`\b([Tt]he|this|that|these|those) lines? (is|are) ours\b`, "this threshold is our choice"},
		{`\b(for so long|of so many|the newest so many|so many (seconds|bytes|rows|of them))\b`, "N; name the amount"},
		{`\bsuch as is\b|not positively recognised|positively knows`, "name the thing"},
	} {
		all = append(all, idiom{pattern: regexp.MustCompile(row[0]), instead: row[1]})
	}
	return append(all, isNo())
})

// isNo is "X is no Y" for "X is not a Y". "There is no Y" denies that one exists, and "no
// longer", "no one" and a comparative (no more than, no later) are not said of a noun.
func isNo() idiom {
	return idiom{
		pattern: regexp.MustCompile(`(\w+ )?\b(is|are|was|were) no [\w%]\S*`),
		instead: "is not a …, does not …",
		except:  regexp.MustCompile(`^[Tt]here |no (longer|one|more|less|fewer|later|earlier|older|younger|newer|larger|smaller|higher|lower|shorter|better|worse)\b`),
	}
}

// quoted is what a text quotes.
var quoted = regexp.MustCompile(`"[^"\n]*"`)

// idiomProblems returns the expressions in a text that read as translated. Code,
// output in blocks, and what is quoted are passed over.
func idiomProblems(name, text string) (problems []string) {
	for n, line := range strings.Split(blankFences(text), "\n") {
		line = quoted.ReplaceAllString(codeSpan.ReplaceAllString(line, "code"), "quoted")
		for _, one := range idioms() {
			for _, found := range one.pattern.FindAllStringIndex(line, -1) {
				if one.except != nil && one.except.MatchString(line[found[0]:found[1]]) {
					continue
				}
				near := line[max(0, found[0]-40):min(len(line), found[1]+20)]
				problems = append(problems, fmt.Sprintf("%s:%d: …%s…: write %s", name, n+1, strings.ToValidUTF8(near, ""), one.instead))
			}
		}
	}
	return problems
}

// blankFences empties a page's blocks of code and output, and keeps its lines.
func blankFences(text string) string {
	return fence.ReplaceAllStringFunc(text, func(block string) string {
		return strings.Repeat("\n", strings.Count(block, "\n"))
	})
}

// metricRow is a row of the table of metrics, which is generated from the metrics' HELP.
var metricRow = regexp.MustCompile("(?m)^\\| `pgmedic_.*$")

// TestIdiomsInDocs reads the pages; the changelog says what was, in the words of then.
func TestIdiomsInDocs(t *testing.T) {
	texts := pages(t)
	delete(texts, "CHANGELOG.md")
	contributing, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	texts["CONTRIBUTING.md"] = string(contributing)
	texts["docs/metrics.md"] = metricRow.ReplaceAllString(texts["docs/metrics.md"], "")
	for name, text := range texts {
		for _, problem := range idiomProblems(name, text) {
			t.Error(problem)
		}
	}
}

// TestIdiomsInSettings reads the descriptions of settings.
func TestIdiomsInSettings(t *testing.T) {
	keys := config.Keys()
	if len(keys) < 50 {
		t.Fatalf("only %d settings", len(keys))
	}
	for _, key := range keys {
		for _, problem := range idiomProblems(key.Key, key.Doc) {
			t.Error(problem)
		}
	}
	for _, name := range config.Presets() {
		text, err := config.Example(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range idiomProblems("preset "+name, string(text)) {
			t.Error(problem)
		}
	}
}

// maxHelpWidth is the most columns that a line of a command's description takes, unless it
// is to be copied, and indented.
const maxHelpWidth = 100

// TestIdiomsInHelp reads the help of every command, and holds its width.
func TestIdiomsInHelp(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "pgmedic")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/pgmedic").CombinedOutput(); err != nil {
		t.Fatalf("build pgmedic: %v\n%s", err, out)
	}
	read := 0
	var walk func(args ...string)
	walk = func(args ...string) {
		out, err := exec.CommandContext(t.Context(), binary, append([]string{"help"}, args...)...).Output()
		if err != nil {
			t.Fatalf("pgmedic help %s: %v", strings.Join(args, " "), err)
		}
		read++
		long, _, _ := strings.Cut(string(out), "\nUsage:\n")
		for line := range strings.Lines(long) {
			if n := utf8.RuneCountInString(line); n > maxHelpWidth+1 && !strings.HasPrefix(line, "  ") {
				t.Errorf("help %s: a line has %d columns, more than %d: %s", strings.Join(args, " "), n-1, maxHelpWidth, line)
			}
		}
		own, _, _ := strings.Cut(string(out), "Global Flags:\n")
		// A sentence may be broken anywhere: paragraphs are read as one line.
		for _, problem := range idiomProblems("help "+strings.Join(args, " "), joinLines(own)) {
			t.Error(problem)
		}
		_, rest, _ := strings.Cut(own, "Available Commands:\n")
		list, _, _ := strings.Cut(rest, "\n\n")
		for _, m := range listedVerb.FindAllStringSubmatch(list, -1) {
			if m[1] != "help" && m[1] != "completion" {
				walk(append(args, m[1])...)
			}
		}
	}
	walk()
	if read < 15 {
		t.Fatalf("only %d help texts are found", read)
	}
}

// joinLines makes each paragraph of a help text one line.
func joinLines(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.Join(paragraphs, "\n")
}

// TestIdiomsCheckCanFail shows each idiom to the check, and good English like it.
func TestIdiomsCheckCanFail(t *testing.T) {
	for _, text := range []string{
		"A URL goes over host and port.", "Whoever can write to the store", "It ends. Who has a key can read it.",
		"looks who waits", "a standby, for it deletes what you delete", "New keys, for the old key may be known.",
		"and nobody looks", "the seconds are told", "made anew from its table", "One without a manifest is none.",
		"everything is looked at", "Warnings are worth a look.", "since the last look failed", "The line is ours: eight days.",
		"watch for so long", "A backup that fails is no backup.", "/srv is no folder", "These are no tables.", "%q is no %s",
		"It was no backup, and there is no other.", "the path where is no store", "off is no limit",
	} {
		if len(idiomProblems("x", text)) == 0 {
			t.Errorf("taken: %s", text)
		}
	}
	for _, text := range []string{
		"The value overrides it.", "a user who may read it", "Anyone who has the key can read it.", "Who can read the backups?",
		"for 10 seconds, for each table", "a folder, for example", "```text\nNobody\n```", "`nobody`", `the section "Not looked at"`,
		"so many tables that it fails", "there is no backup", "If there is none, create one.", "look at the server's clock",
		"There were no rows.", "it is no longer needed", "its lag is no more than 5 s", "which is no later than it", "the answer is no",
	} {
		for _, problem := range idiomProblems("x", text) {
			t.Errorf("refused: %s", problem)
		}
	}
}

// TestIdiomsInTemplates reads what becomes output or is installed as it is: the pages of a
// report, what lies beside a backup, rules and dashboards, the schemas' descriptions, and
// what the scripts print.
func TestIdiomsInTemplates(t *testing.T) {
	said := regexp.MustCompile(`(?m)^\s*(?:die|note|warn|echo|printf|fail) .*$`)
	for name, text := range templates(t) {
		lines := strings.Split(text, "\n")
		for n, line := range lines {
			switch path.Ext(name) {
			case ".json":
				m := description.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				line = m[1]
			case ".sh":
				line = strings.ReplaceAll(said.FindString(line), `"`, "")
			}
			for _, problem := range idiomProblems(fmt.Sprintf("%s:%d", name, n+1), line) {
				t.Error(problem)
			}
		}
	}
}

// description is a line of JSON that is for people.
var description = regexp.MustCompile(`"(?:description|summary|title)": "(.*)",?$`)

// templates returns the text of those files, by path.
func templates(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, top := range []string{"contrib", "docs/schema", "internal", "scripts"} {
		err := fs.WalkDir(os.DirFS("."), top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			if slices.Contains([]string{".tmpl", ".html", ".yml", ".yaml", ".json", ".sh", ".md", ".service", ".timer"}, path.Ext(name)) {
				data, err := os.ReadFile(filepath.FromSlash(name))
				texts[name] = string(data)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(texts) < 20 {
		t.Fatalf("only %d templates are found", len(texts))
	}
	return texts
}
