package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/emergency"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// errorf writes to standard error.
func (cmd *emergencyCommand) errorf(format string, args ...any) {
	fmt.Fprintf(cmd.stderr, format, args...)
}

// emergencyResult is what emergency prints as JSON.
type emergencyResult struct {
	What    string `json:"what"`
	Summary string `json:"summary"`
	// When is the moment of the accident, and Before the second before it, which commands
	// recover to; both empty where it is not known.
	When     string           `json:"when,omitempty"`
	Before   string           `json:"before,omitempty"`
	Database string           `json:"database,omitempty"`
	Table    string           `json:"table,omitempty"`
	Checks   []pgmedic.Check  `json:"checks"`
	Steps    []emergency.Step `json:"steps"`
}

// guide prints the plan; at a terminal step by step.
func (cmd *emergencyCommand) guide(ctx context.Context, plan emergency.Plan) error {
	switch {
	case cmd.global.json:
		r := emergencyResult{
			What: plan.Case.ID, Summary: plan.Case.Summary, Database: cmd.facts.Database, Table: cmd.facts.Table,
			Checks: orEmpty(cmd.list.checks), Steps: orEmpty(plan.Steps),
		}
		if !cmd.facts.When.IsZero() {
			r.When, r.Before = cmd.facts.When.UTC().Format("2006-01-02T15:04:05Z"), cmd.facts.Before().Format("2006-01-02T15:04:05Z")
		}
		return cmd.printJSON(r)
	case cmd.global.quiet:
		for _, s := range plan.Steps {
			if s.Command != "" {
				cmd.printf("%s\n", s.Command)
			}
		}
		return nil
	}
	p := cmd.paint(cmd.stdoutTTY)
	cmd.printf("%s\n", p.bold(plan.Case.ID+": "+plan.Case.Summary))
	if when := cmd.facts.When; !when.IsZero() {
		cmd.printf("  %s\n", cmd.fit("it happened at "+by(when)+", which is "+when.UTC().Format("2006-01-02 15:04:05")+" UTC", 2))
	}
	cmd.printChecks(cmd.list.checks)
	for _, c := range cmd.list.checks {
		if c.Hint != "" && c.Outcome == pgmedic.OutcomeFailed {
			cmd.printf("  %s\n", p.dim(cmd.fit(words.Clean(c.Name+": "+c.Hint), 2)))
		}
	}
	for i, step := range plan.Steps {
		cmd.printStep(i+1, step)
		if !cmd.asks() {
			continue
		}
		if leave, err := cmd.waitStep(ctx, i+1 == len(plan.Steps), step); leave || err != nil {
			return err
		}
	}
	cmd.printf("\n%s\n", cmd.fit("The runbook has more on this: pgmedic help emergency "+plan.Case.ID, 0))
	return nil
}

// printStep prints one step. Commands begin in the first column, so that they can be copied
// as they are.
func (cmd *emergencyCommand) printStep(n int, s emergency.Step) {
	p := cmd.paint(cmd.stdoutTTY)
	cmd.printf("\n%s\n", p.bold(cmd.fit(fmt.Sprintf("%d. %s", n, words.Clean(s.Title)), 0)))
	if s.Why != "" {
		cmd.printf("   %s\n", cmd.fit(words.Clean(s.Why), 3))
	}
	if s.Command != "" {
		cmd.printf("\n%s\n", s.Command)
	}
	for _, u := range s.Unknown {
		cmd.printf("   %s\n", cmd.fit("replace "+u.Word+": "+u.Means, 3))
	}
}

// waitStep waits for what the person says of a step, and runs it if that is asked for.
func (cmd *emergencyCommand) waitStep(ctx context.Context, last bool, s emergency.Step) (leave bool, err error) {
	for {
		keys := "Enter: next step   q: leave"
		if last {
			keys = "Enter: end"
		}
		if s.CanRun {
			keys = "r: run it   " + keys
		}
		text, err := promptOf(cmd.env).Line(ctx, "\n"+keys+" > ")
		switch {
		case errors.Is(err, terminal.ErrClosed):
			return true, nil
		case err != nil:
			return true, err
		case text == "":
			return false, nil
		case text == "q":
			return true, nil
		case text == "r" && s.CanRun:
			if err := cmd.runStep(ctx, s); err != nil {
				return true, err
			}
		case text == "r":
			cmd.errorf("type it yourself in another terminal: pgmedic runs only its own commands, and of those what changes nothing that is there\n")
		default:
			cmd.errorf("not understood: %s\n", words.Clean(text))
		}
	}
}

// runStep asks, and runs the command of a step as a child process at this terminal.
func (cmd *emergencyCommand) runStep(ctx context.Context, s emergency.Step) error {
	text, err := promptOf(cmd.env).Line(ctx, "Run `pgmedic "+words.Clean(s.Argv[0])+" …` as shown above? Type \"yes\" to go on: ")
	switch {
	case errors.Is(err, terminal.ErrClosed):
		return nil
	case err != nil:
		return err
	case text != "yes":
		cmd.errorf("not run\n")
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of this program: %w", err)
	}
	// It is at the same terminal, whose Ctrl-C both get: it ends by itself.
	child := exec.CommandContext(context.WithoutCancel(ctx), program, s.Argv...)
	child.Dir, child.Env = cmd.dir, cmd.environ
	child.Stdin, child.Stdout, child.Stderr = cmd.stdin, fileOf(cmd.rawOut), fileOf(cmd.rawErr)
	err = child.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		cmd.errorf("it ended with exit code %d: read what it said before you go on\n", exit.ExitCode())
		return nil
	case err != nil:
		return fmt.Errorf("run pgmedic %s: %w", s.Argv[0], err)
	}
	cmd.errorf("it ended with exit code 0\n")
	return nil
}

// fileOf is the file that a stream of this run writes to, which a child process needs to see
// that it is at a terminal.
func fileOf(w io.Writer) io.Writer {
	if p, ok := w.(printed); ok {
		return p.File
	}
	return w
}
