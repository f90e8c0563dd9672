package html

import (
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/render"
	"github.com/pgmedic/pgmedic/internal/words"
)

const (
	// groupShown is how many findings of one kind are laid open, groupFolded
	// how many more are folded away behind them. The rest is in the JSON.
	groupShown  = 3
	groupFolded = 40
)

// htmlGroup is the findings of one kind and severity.
type htmlGroup struct {
	ID       string
	Severity pgmedic.Severity
	Shown    []htmlFinding
	Folded   []htmlFinding
	// Left counts those that are not on the page.
	Left int
}

// htmlFinding is one finding.
type htmlFinding struct {
	// Anchor is its id on the page.
	Anchor, ID, Section, SectionID string
	Severity                       pgmedic.Severity
	Object, Database, Summary      string
	Facts                          []htmlFact
	Fix, Risk, Docs                string
	// Explain is what the documentation says; only the first of its kind has it.
	Explain []paragraph
}

// htmlFact is a name and a value.
type htmlFact struct {
	Name, Value string
	// Code is set for what a server calls a thing by.
	Code bool
}

// htmlMuted is a finding that somebody silenced.
type htmlMuted struct {
	ID, Object, Summary, Reason, Until string
	Severity                           pgmedic.Severity
}

// groupFindings puts findings of one kind and severity together, where the
// first of them stood.
func groupFindings(findings []pgmedic.Finding, explain func(string) string) []*htmlGroup {
	type key struct {
		id       string
		severity pgmedic.Severity
	}
	var groups []*htmlGroup
	at := map[key]*htmlGroup{}
	// Only what is explained on the page can be linked to.
	texts, explained := map[string]string{}, map[string]bool{}
	for _, f := range findings {
		if _, asked := texts[f.ID]; !asked && explain != nil {
			texts[f.ID] = explain(f.ID)
		}
	}
	for i, f := range findings {
		g := at[key{f.ID, f.Severity}]
		if g == nil {
			g = &htmlGroup{ID: f.ID, Severity: f.Severity}
			at[key{f.ID, f.Severity}] = g
			groups = append(groups, g)
		}
		if len(g.Folded) == groupFolded {
			g.Left++
			continue
		}
		x := newHTMLFinding(f)
		x.Anchor = "finding-" + strconv.Itoa(i+1)
		if texts[f.ID] != "" && !explained[f.ID] {
			explained[f.ID] = true
			x.Explain = markdown(texts[f.ID], texts)
		}
		if len(g.Shown) < groupShown {
			g.Shown = append(g.Shown, x)
			continue
		}
		// What is the same for all of a kind is said once.
		if x.Risk == g.Shown[0].Risk {
			x.Risk = ""
		}
		g.Folded = append(g.Folded, x)
	}
	return groups
}

// newHTMLFinding cleans one finding.
func newHTMLFinding(f pgmedic.Finding) htmlFinding {
	x := htmlFinding{
		ID: words.Clean(f.ID), Severity: f.Severity, Section: sectionTitle(f.Section), SectionID: sectionAnchor(f.Section),
		Object: words.Clean(f.Object), Database: words.Clean(f.Database), Summary: words.Clean(f.Summary), Fix: cleanLines(f.Fix), Risk: words.Clean(f.Risk), Docs: words.Clean(f.Docs),
	}
	for _, e := range f.Evidence {
		if e.Value == "" {
			continue
		}
		name, value := render.FactWords(e)
		x.Facts = append(x.Facts, htmlFact{
			Name: words.Clean(name), Value: words.Clean(value), Code: strings.HasSuffix(e.Name, "statement") || e.Name == "definition",
		})
	}
	return x
}

// cleanLines cleans a text of several lines and keeps the lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = words.Clean(l)
	}
	return strings.Join(lines, "\n")
}

// muted are the findings that the configuration silences.
func (s *sheet) muted() []htmlMuted {
	var all []htmlMuted
	for _, m := range s.report.Muted {
		all = append(all, htmlMuted{
			ID: words.Clean(m.ID), Object: words.Clean(m.Object), Summary: words.Clean(m.Summary), Reason: words.Clean(m.Reason), Severity: m.Severity,
			Until: m.Until.Add(-time.Second).UTC().Format(time.DateOnly),
		})
	}
	return all
}

// paragraph is a paragraph of the documentation, or an item of a list.
type paragraph struct {
	Item  bool
	Spans []span
}

// span is a piece of text in one style.
type span struct {
	Text       string
	Code, Bold bool
	// Href is where it leads: to a site, or to a finding on the page.
	Href string
}

// markdown reads what our own pages on findings are written in: paragraphs,
// lists, code, bold and links. Texts are the explanations on the page: a link to
// another one, or to another page of the documentation, is its words alone.
func markdown(text string, texts map[string]string) []paragraph {
	var all []paragraph
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		for line := range strings.SplitSeq(block, "\n") {
			item, found := strings.CutPrefix(line, "- ")
			if line == "" {
				continue
			}
			// A paragraph is one line in our pages, so lines need no joining.
			all = append(all, paragraph{Item: found, Spans: spans(item, texts)})
		}
	}
	return all
}

// spans cuts a line at its code, bold text and links.
func spans(s string, texts map[string]string) []span {
	var all []span
	plain := func(t string) {
		if t != "" {
			all = append(all, span{Text: t})
		}
	}
	for {
		i := strings.IndexAny(s, "`*[")
		if i < 0 {
			plain(s)
			return all
		}
		x, size := markedSpan(s[i:], texts)
		if size == 0 {
			plain(s[:i+1])
			s = s[i+1:]
			continue
		}
		plain(s[:i])
		all = append(all, x)
		s = s[i+size:]
	}
}

// markedSpan reads the marked text that s begins with, and how long it is;
// zero where it is none.
func markedSpan(s string, texts map[string]string) (span, int) {
	if inner, ok := strings.CutPrefix(s, "`"); ok {
		if code, _, ok := strings.Cut(inner, "`"); ok {
			return span{Text: code, Code: true}, len(code) + 2
		}
	}
	if inner, ok := strings.CutPrefix(s, "**"); ok {
		if bold, _, ok := strings.Cut(inner, "**"); ok {
			return span{Text: strings.ReplaceAll(bold, "`", ""), Bold: true}, len(bold) + 4
		}
	}
	inner, isLink := strings.CutPrefix(s, "[")
	text, rest, closed := strings.Cut(inner, "](")
	target, _, ended := strings.Cut(rest, ")")
	if !isLink || !closed || !ended {
		return span{}, 0
	}
	x := span{Text: strings.ReplaceAll(text, "`", "")}
	id, within := strings.CutPrefix(target, "#")
	switch {
	case within && texts[id] != "":
		x.Href = "#kind-" + id
	case strings.HasPrefix(target, "https://"):
		x.Href = target
	}
	return x, len(text) + len(target) + 4
}
