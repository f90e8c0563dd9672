package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/docs"
	"github.com/pgmedic/pgmedic/internal/words"
)

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [FINDING]",
		Short: "Say what a finding of the report means, and what to do",
		Long: `Prints the page of a finding: what it means, by which line it is judged and where
the line comes from, and what to do. Without a name it lists the findings.`,
		Example: `  pgmedic explain slot-inactive`,
		Args:    atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			sections := findingSections(findingsPage())
			if len(args) == 0 {
				return a.listFindings(sections)
			}
			i := slices.IndexFunc(sections, func(s findingSection) bool { return s.ID == args[0] })
			if i < 0 {
				return unknownFinding(args[0], sections)
			}
			if a.global.json {
				return a.printJSON(sections[i])
			}
			a.printf("%s\n\n%s\n", sections[i].ID, withoutMarkup(sections[i].Text))
			return nil
		},
	}
}

// findingsPage is the page that describes all findings.
func findingsPage() string { return docs.Findings }

// findingSection is what the page of findings says of one.
type findingSection struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// findingSections cuts the page of findings at its headings.
func findingSections(page string) []findingSection {
	var all []findingSection
	for _, part := range strings.Split(page, "\n### ")[1:] {
		id, text, _ := strings.Cut(part, "\n")
		// A heading above ends the section.
		text, _, _ = strings.Cut(text, "\n## ")
		all = append(all, findingSection{ID: strings.TrimSpace(id), Text: strings.TrimSpace(text)})
	}
	return all
}

// withoutMarkup takes Markdown's emphasis and links from a text, outside of code.
func withoutMarkup(text string) string {
	link := regexp.MustCompile(`\[([^\]]*)\]\([^)\s]*\)`)
	parts := strings.Split(text, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(link.ReplaceAllString(parts[i], "$1"), "**", "")
	}
	return strings.Join(parts, "`")
}

// explanation is what the page of findings says of one, or nothing.
func explanation(id string) string {
	for _, s := range findingSections(findingsPage()) {
		if s.ID == id {
			return s.Text
		}
	}
	return ""
}

func (a *app) listFindings(sections []findingSection) error {
	if a.global.json {
		return a.printJSON(map[string]any{"findings": sections})
	}
	for _, s := range sections {
		first, _, _ := strings.Cut(withoutMarkup(s.Text), ". ")
		a.printf("%-28s %s\n", s.ID, strings.TrimSuffix(words.OneLine(first), ".")+".")
	}
	return nil
}

func unknownFinding(id string, sections []findingSection) error {
	hint := "`pgmedic explain` lists them"
	ids := make([]string, 0, len(sections))
	for _, s := range sections {
		ids = append(ids, s.ID)
	}
	if near := nearestOf(id, ids); near != "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "did you mean "+near+"?", "there is no finding %q", id)
	}
	for _, s := range sections {
		if strings.Contains(s.ID, id) || strings.Contains(id, s.ID) {
			hint = "did you mean " + s.ID + "?"
			break
		}
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "there is no finding %q", id)
}
