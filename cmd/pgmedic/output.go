package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/words"
)

// paint colours words for a terminal, or leaves them as they are. With a key the
// colours are marked, for a stream that passes no others.
type paint struct {
	on  bool
	key string
}

func (a *app) paint(tty bool) paint {
	plain := a.global.noColor || slices.ContainsFunc(a.environ, func(kv string) bool {
		return strings.HasPrefix(kv, "NO_COLOR=") && kv != "NO_COLOR=" || kv == "TERM=dumb"
	})
	return paint{on: tty && !plain, key: a.key}
}

func (p paint) style(s lipgloss.Style, text string) string {
	text = words.Keep{Lines: true}.Clean(text)
	if !p.on {
		return text
	}
	if p.key == "" {
		return s.Render(text)
	}
	return words.Paint(p.key, s.Render(text))
}

func (p paint) good(s string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Green).Bold(true), s)
}
func (p paint) warn(s string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Yellow).Bold(true), s)
}
func (p paint) bad(s string) string {
	return p.style(lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true), s)
}
func (p paint) bold(s string) string { return p.style(lipgloss.NewStyle().Bold(true), s) }
func (p paint) dim(s string) string  { return p.style(lipgloss.NewStyle().Faint(true), s) }

// proof colours a degree of proof.
func (p paint) proof(proof pgmedic.Proof) string {
	switch proof {
	case pgmedic.ProofProven:
		return p.good(string(proof))
	case pgmedic.ProofFailed:
		return p.bad(string(proof))
	case pgmedic.ProofTaken, pgmedic.ProofIntact, pgmedic.ProofVerified:
	}
	return words.Clean(string(proof))
}

// outcome is a check's mark.
func (p paint) outcome(o pgmedic.Outcome) string {
	word := fmt.Sprintf("%-7s", words.Clean(string(o)))
	switch o {
	case pgmedic.OutcomeOK:
		return p.good(word)
	case pgmedic.OutcomeWarn:
		return p.warn(word)
	case pgmedic.OutcomeFailed:
		return p.bad(word)
	case pgmedic.OutcomeSkipped:
	}
	return p.dim(word)
}

// printf writes a line of the result.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// fields prints names and values in two columns, leaving out empty values.
func (a *app) fields(pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	p := a.paint(a.stdoutTTY)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			a.printf("  %s  %s\n", p.dim(fmt.Sprintf("%-*s", width, pairs[i])), a.fit(a.value(pairs[i+1]), width+4))
		}
	}
}

// fit breaks a text that begins at a column of standard output between words,
// so that a terminal does not break it within them.
func (a *app) fit(text string, column int) string {
	if !a.stdoutTTY {
		return text
	}
	return wrap(text, column, a.stdoutWidth())
}

// before prints a line of what is said before a question, to standard error.
func (a *app) before(what, text string) {
	const column = 17
	text = a.value(text)
	if a.stderrTTY {
		text = wrap(text, column, a.stderrWidth())
	}
	fmt.Fprintf(a.stderr, "  %-*s%s\n", column-2, words.Clean(what)+" ", text)
}

// wrap breaks a text that begins at a column of a terminal between words.
func wrap(text string, column, width int) string {
	room := width - column
	if room < 20 || lipgloss.Width(text) <= room {
		return text
	}
	var b strings.Builder
	used := 0
	for i, word := range strings.Split(text, " ") {
		switch width := lipgloss.Width(word); {
		case i == 0:
			used = width
		case used+1+width > room:
			b.WriteString("\n" + strings.Repeat(" ", column))
			used = width
		default:
			b.WriteString(" ")
			used += 1 + width
		}
		b.WriteString(word)
	}
	return b.String()
}

// printJSON prints a result as indented JSON.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(jsonLines{a.stdout})
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// confirm asks a question that only the exact answer confirms. Without a
// terminal it is not asked, and not confirmed.
func (a *app) confirm(ctx context.Context, question, answer string) error {
	if a.global.yes {
		return nil
	}
	if !a.stdinTTY {
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, "add --yes to confirm without a terminal", "not confirmed: %s", question)
	}
	return a.askFor(ctx, question, answer)
}

// askFor has a person type the answer, whatever --yes says.
func (a *app) askFor(ctx context.Context, question, answer string) error {
	fmt.Fprintf(a.stderr, "%s Type %q to go on: ", a.value(question), answer)
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(a.stdin).ReadString('\n') // an end of input is no answer
		line <- strings.TrimSpace(text)
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr) // the question's line is still open
		return context.Cause(ctx)
	case text := <-line:
		if text != answer {
			return pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "not confirmed; nothing was changed")
		}
		return nil
	}
}

// flagsOf returns all flags of a command, inherited ones included.
func flagsOf(cmd *cobra.Command) []*pflag.Flag {
	var flags []*pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f) })
	return flags
}
