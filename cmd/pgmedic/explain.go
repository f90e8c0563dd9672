package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/docs"
	"github.com/pgmedic/pgmedic/internal/render/markdown"
	"github.com/pgmedic/pgmedic/internal/words"
)

// explainCommand prints the page of the finding that args name.
type explainCommand struct {
	*env
	args []string
}

func explainCLI(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [FINDING]",
		Short: "Explain a finding of the report, and what to do about it",
		Long: `Prints the page of a finding: what it means, its threshold and the source of that
threshold, and what to do. Without a name it lists the findings. The text is laid out
for a terminal of any width; to a file or a pipe it is written the same way, at most 100
columns wide and without colours. --json has it in Markdown.`,
		Example: `  pgmedic explain slot-inactive`,
		Args:    atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			command := &explainCommand{env: e, args: args}
			return command.run(cmd.Context())
		},
	}
}

func (cmd *explainCommand) run(context.Context) error {
	sections := findingSections(findingsPage())
	if len(cmd.args) == 0 {
		return cmd.list(sections)
	}
	i := slices.IndexFunc(sections, func(s findingSection) bool { return s.ID == cmd.args[0] })
	if i < 0 {
		return unknownFinding(cmd.args[0], sections)
	}
	if cmd.global.json {
		return cmd.printJSON(sections[i])
	}
	if err := printPage(cmd.env, "## "+sections[i].ID+"\n\n"+sections[i].Text); err != nil {
		return fmt.Errorf("explain %s: %w", sections[i].ID, err)
	}
	return nil
}

// printPage prints a text in Markdown to standard output, laid out for a terminal, and in
// the same way, without colours, to a file or a pipe.
func printPage(e *env, source string) error {
	_, err := io.WriteString(e.rawOut, markdown.Render(source, markdown.Options{
		Width: helpWidth(e), Color: e.paint(e.stdoutTTY).on, Link: documentLink,
	}))
	return err
}

// documentLink shows where a link of a page leads: to an address, or to another page of the
// documentation, but not to another finding, whose id is the link's words.
func documentLink(destination string) string {
	switch page, _, _ := strings.Cut(destination, "#"); {
	case strings.Contains(destination, "://"):
		return destination
	case page == "":
		return ""
	default:
		return "docs/" + destination
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

func (cmd *explainCommand) list(sections []findingSection) error {
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"findings": sections})
	}
	width := 0
	for _, s := range sections {
		width = max(width, len(s.ID))
	}
	for _, s := range sections {
		first, _, _ := strings.Cut(withoutMarkup(s.Text), ". ")
		cmd.printf("%-*s  %s\n", width, s.ID, cmd.fit(strings.TrimSuffix(words.OneLine(first), ".")+".", width+2))
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
