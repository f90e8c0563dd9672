package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/docs"
	"github.com/pgmedic/pgmedic/internal/emergency"
)

// runbookCommand prints docs/emergency.md, or a section of it.
type runbookCommand struct {
	*env
	args []string
}

// addRunbook makes `pgmedic help emergency` print the runbook in place of the words of
// --help.
func addRunbook(e *env, root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, help := range root.Commands() {
		if help.Name() != "help" {
			continue
		}
		usual := help.Run
		help.Long += "\n\n`pgmedic help emergency` prints the emergency runbook, and with the name of a case its section."
		help.Example = "  pgmedic help restore\n  pgmedic help emergency\n  pgmedic help emergency disk-full"
		help.Run = nil
		help.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "emergency" {
				return (&runbookCommand{env: e, args: args[1:]}).run(cmd.Context())
			}
			usual(cmd, args)
			return nil
		}
	}
}

// runbookSection is a section of the runbook.
type runbookSection struct {
	// Name is what the command line calls it: the id of a case, or the heading's.
	Name    string `json:"name"`
	Heading string `json:"heading"`
	Text    string `json:"text"`
}

// runbookStart names what comes before the first heading of a section.
const runbookStart = "start"

// runbookSections cuts the page at its headings.
func runbookSections(page string) []runbookSection {
	var all []runbookSection
	for i, part := range strings.Split(page, "\n## ") {
		heading, text, _ := strings.Cut(part, "\n")
		heading = strings.TrimSpace(strings.TrimPrefix(heading, "# "))
		name := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(heading, ",", ""), " ", "-"))
		if i == 0 {
			name = runbookStart
		}
		all = append(all, runbookSection{Name: name, Heading: heading, Text: strings.TrimSpace(text)})
	}
	return all
}

// sectionOf is the section that a word names: a case, or a heading.
func sectionOf(sections []runbookSection, word string) (runbookSection, bool) {
	word = strings.ToLower(word)
	i := slices.IndexFunc(sections, func(s runbookSection) bool { return s.Name == word })
	if c, ok := emergency.Find(word); i < 0 && ok {
		i = slices.IndexFunc(sections, func(s runbookSection) bool { return s.Heading == c.Heading })
	}
	if i < 0 {
		return runbookSection{}, false
	}
	return sections[i], true
}

// runbookNames are the words that name a section: the cases, then the other headings.
func runbookNames(sections []runbookSection) []string {
	var names, headings []string
	for _, c := range emergency.Cases() {
		names = append(names, c.ID)
		headings = append(headings, c.Heading)
	}
	for _, s := range sections {
		if !slices.Contains(headings, s.Heading) {
			names = append(names, s.Name)
		}
	}
	return names
}

func (cmd *runbookCommand) run(context.Context) error {
	sections := runbookSections(docs.Emergency)
	if len(cmd.args) > 1 {
		return pgmedic.Errorf(pgmedic.KindUsage, "name one section, or none for the whole runbook", "pgmedic help emergency takes one name, and got %d", len(cmd.args))
	}
	if len(cmd.args) == 1 {
		s, ok := sectionOf(sections, cmd.args[0])
		if !ok {
			names := runbookNames(sections)
			hint := "say one of " + strings.Join(names, ", ")
			if near := nearestOf(cmd.args[0], names); near != "" {
				hint = "did you mean " + near + "?"
			}
			return pgmedic.Errorf(pgmedic.KindUsage, hint, "the runbook has no section %.60q", cmd.args[0])
		}
		sections = []runbookSection{s}
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"sections": sections})
	}
	var page strings.Builder
	for _, s := range sections {
		mark := "##"
		if s.Name == runbookStart {
			mark = "#"
		}
		page.WriteString(mark + " " + s.Heading + "\n\n" + s.Text + "\n\n")
	}
	if err := printPage(cmd.env, page.String()); err != nil {
		return fmt.Errorf("help emergency: %w", err)
	}
	return nil
}
