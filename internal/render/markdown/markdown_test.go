package markdown_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"charm.land/lipgloss/v2"

	"github.com/pgmedic/pgmedic/internal/render/markdown"
)

const page = "# Deleted\ttable\n\n<a id=\"deleted\"></a>\n\nRun **these two** as *postgres*, see [the manual](https://example.org/a_b), [below](#after) " +
	"or [Stores](stores.md): a &lt; b, 1\\*2, `pgmedic restore --table \"a b\"`.\nThe same paragraph.\\\nA new line.\n\n" +
	"```sh\npgmedic list   --json | a-line-that-is-wider-than-many-a-terminal-and-must-be-pasted-whole --with-an-option\n\n\tindented\n```\n\n" +
	"1. One\n2. Two, which is a sentence that does not fit into the narrowest of lines\n   - below\n   - `code`\n\n> Quoted.\n\n---\n\n## After\n\n" +
	"| what | means |\n|---|---|\n| `a\\|b` | the first, with words enough to be wider than thirty columns |\n| c | **second** |\n"

// TestRender: each form of text has its form on a terminal, and nothing of Markdown is left.
func TestRender(t *testing.T) {
	const want = `Deleted table
═════════════

Run these two as postgres, see the manual
(https://example.org/a_b), below or Stores: a < b,
1*2, ` + "`pgmedic restore --table \"a b\"`" + `. The same
paragraph.
A new line.

    pgmedic list   --json | a-line-that-is-wider-than-many-a-terminal-and-must-be-pasted-whole --with-an-option

        indented

1. One
2. Two, which is a sentence that does not fit into
   the narrowest of lines
   - below
   - ` + "`code`" + `

│ Quoted.

──────────────────────────────────────────────────

After
─────

- what: ` + "`a|b`" + `
  means: the first, with words enough to be wider
  than thirty columns

- what: c
  means: second
`
	if got := markdown.Render(page, markdown.Options{Width: 50}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := markdown.Render(page, markdown.Options{Width: 80}); !strings.HasSuffix(got,
		"\nwhat   means\n`a|b`  the first, with words enough to be wider than thirty columns\nc      second\n") {
		t.Errorf("a table that fits is\n%s", got)
	}
	got := markdown.Render("[a](b.md#c)", markdown.Options{Link: func(to string) string { return "docs/" + to }})
	if got != "a (docs/b.md#c)\n" {
		t.Errorf("a link is %q", got)
	}
	if got := markdown.Render("", markdown.Options{}); got != "" {
		t.Errorf("nothing is %q", got)
	}
}

// TestColoursChangeNoText: without its colours a coloured page is the plain one, and there
// are some.
func TestColoursChangeNoText(t *testing.T) {
	colour := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for width := 20; width <= 120; width++ {
		plain := markdown.Render(page, markdown.Options{Width: width})
		coloured := markdown.Render(page, markdown.Options{Width: width, Color: true})
		if got := colour.ReplaceAllString(coloured, ""); got != plain || coloured == plain {
			t.Fatalf("width %d: coloured it is\n%s\nand plain\n%s", width, got, plain)
		}
	}
}

// TestPagesFit: no page of the documentation has a line that is too wide, at any width of
// a terminal, but for code and single words.
func TestPagesFit(t *testing.T) {
	pages, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, name := range pages {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{20, 60, 79, 100, 200} {
			for line := range strings.SplitSeq(markdown.Render(string(source), markdown.Options{Width: width}), "\n") {
				text := strings.TrimLeft(line, " -│1234567890.")
				if lipgloss.Width(line) > width && !strings.HasPrefix(line, "    ") && strings.Contains(text, " ") {
					t.Fatalf("%s: %d of %d columns: %s", name, lipgloss.Width(line), width, line)
				}
			}
		}
	}
}

// TestNothingDrivesATerminal: what a page quotes from elsewhere stays text.
func TestNothingDrivesATerminal(t *testing.T) {
	const hostile = "\x1b]0;owned\a"
	got := markdown.Render("a "+hostile+" `"+hostile+"` ["+hostile+"](https://x/"+hostile+") <https://x/"+hostile+">\n\n    "+hostile+"\n\n- &#27;[2J\n", markdown.Options{})
	if strings.ContainsAny(got, "\x1b\a") || !strings.Contains(got, "owned") {
		t.Errorf("%q", got)
	}
}

// TestOddPages: however deep a page nests, and whatever is not closed, it has its form.
func TestOddPages(t *testing.T) {
	deep := strings.Repeat("> ", 60)
	for name, source := range map[string]string{
		"quotes":         deep + "words\n",
		"a rule":         deep + "---\n",
		"a heading":      deep + "# words of a heading\n",
		"a table":        deep + "| a | b |\n" + deep + "|---|---|\n" + deep + "| words | words |\n",
		"lists":          strings.Repeat("- ", 60) + "words\n",
		"brackets":       strings.Repeat("[", 500) + "words",
		"emphasis":       strings.Repeat("*a ", 500) + "words",
		"an open fence":  "```sh\nwords",
		"a short table":  "| a | b |\n|---|---|\n| words |\n",
		"an empty table": "| words |\n|---|\n",
		"no UTF-8":       "words \xff\xfe `\xff",
	} {
		for _, width := range []int{1, 20, 80} {
			got := markdown.Render(source, markdown.Options{Width: width, Color: true})
			if name != "a rule" && !strings.Contains(got, "words") || got == "" {
				t.Errorf("%s, width %d: %q", name, width, got)
			}
		}
	}
}
