package main

import (
	"context"
	"fmt"

	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// chooseCase asks at a terminal what happened.
func (cmd *emergencyCommand) chooseCase(ctx context.Context) (emergency.Case, error) {
	m := &caseChooser{paint: terminal.Painter{On: cmd.paint(true).on}, cases: emergency.Cases()}
	if err := show(ctx, cmd.env, m, "the list of cases", "`pgmedic help emergency` prints the runbook"); err != nil {
		return emergency.Case{}, err
	}
	return m.cases[m.list.Marked], nil
}

// caseChooser is a page: the list of what can have happened.
type caseChooser struct {
	paint terminal.Painter
	cases []emergency.Case
	list  terminal.List
}

// room is how many cases fit on a screen: without the title, the keys, and the empty lines
// below and above them.
func (m *caseChooser) room(size terminal.Size) int { return max(size.Height-4, 1) }

// Press implements terminal.Page.
func (m *caseChooser) Press(key terminal.Key, size terminal.Size) terminal.Ending {
	switch key.Stroke {
	case "esc", "q":
		return terminal.Left
	case "enter":
		return terminal.Chosen
	}
	m.list.Press(key.Stroke, len(m.cases), m.room(size))
	return terminal.Open
}

// Lines implements terminal.Page.
func (m *caseChooser) Lines(size terminal.Size) []string {
	from, until := m.list.Window(len(m.cases), m.room(size))
	lines := []string{m.paint.Bold("What happened?"), ""}
	for i, c := range m.cases[from:until] {
		line := fmt.Sprintf("%-16s  %s", c.ID, c.Summary)
		if from+i == m.list.Marked {
			line = m.paint.Bold("› " + line)
		} else {
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return append(lines, "", m.paint.Faint("↑↓: mark   enter: choose   esc: leave"))
}
