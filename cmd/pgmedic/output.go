package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore"
	"github.com/pgmedic/pgmedic/internal/terminal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// paint colours words for a terminal, or leaves them as they are. With a key the
// colours are marked, for a stream that passes no others.
type paint struct {
	on  bool
	key string
}

func (e *env) paint(tty bool) paint {
	plain := e.global.noColor || slices.ContainsFunc(e.environ, func(kv string) bool {
		return strings.HasPrefix(kv, "NO_COLOR=") && kv != "NO_COLOR=" || kv == "TERM=dumb"
	})
	return paint{on: tty && !plain, key: e.key}
}

func (p paint) style(s lipgloss.Style, text string) string {
	text = words.Keep{Lines: true}.Clean(text)
	if !p.on {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines { // several at once would be made equally wide
		lines[i] = s.Render(line)
	}
	text = strings.Join(lines, "\n")
	if p.key == "" {
		return text
	}
	return words.Paint(p.key, text)
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
func (p paint) proof(proof pgmedic.Proof) string { return p.standing(proof, string(proof)) }

// standing colours words that say how far a backup is proven. The words say so as well.
func (p paint) standing(proof pgmedic.Proof, text string) string {
	switch proof {
	case pgmedic.ProofProven:
		return p.good(text)
	case pgmedic.ProofFailed:
		return p.bad(text)
	case pgmedic.ProofTaken, pgmedic.ProofIntact, pgmedic.ProofVerified:
	}
	return words.Clean(text)
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
func (e *env) printf(format string, args ...any) { fmt.Fprintf(e.stdout, format, args...) }

// wrapf writes lines of the result that a terminal must not break within words: there each
// is broken between them, and goes on two columns to the right of where it began. What is
// to be pasted is printed with printf.
func (e *env) wrapf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if e.stdoutTTY {
		text = terminal.WrapLines(text, e.stdoutWidth())
	}
	fmt.Fprint(e.stdout, text)
}

// noticef is wrapf to standard error.
func noticef(e *env, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if e.stderrTTY {
		text = terminal.WrapLines(text, e.stderrWidth())
	}
	fmt.Fprint(e.stderr, text)
}

// printTable prints a table that fits into the terminal as far as its columns may shrink.
func printTable(e *env, headers []string, rows [][]string, opts terminal.TableOptions) {
	if e.stdoutTTY {
		opts.Width = e.stdoutWidth()
	}
	opts.Color = e.paint(e.stdoutTTY).on
	e.printf("%s", terminal.Table(headers, rows, opts))
}

// fields prints names and values in two columns, leaving out empty values.
func (e *env) fields(pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	p := e.paint(e.stdoutTTY)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			e.wrapf("  %s  %s\n", p.dim(fmt.Sprintf("%-*s", width, pairs[i])), e.fit(e.value(pairs[i+1]), width+4))
		}
	}
}

// fit breaks a text that begins at a column of standard output between words,
// so that a terminal does not break it within them.
func (e *env) fit(text string, column int) string {
	if !e.stdoutTTY {
		return text
	}
	return terminal.WrapAt(text, column, e.stdoutWidth())
}

// before prints a line of what is said before a question, to standard error.
func (e *env) before(what, text string) {
	const column = 17
	text = e.value(text)
	if e.stderrTTY {
		text = terminal.WrapAt(text, column, e.stderrWidth())
	}
	noticef(e, "  %-*s%s\n", column-2, words.Clean(what)+" ", text)
}

// printJSON prints a result as indented JSON.
func (e *env) printJSON(v any) error {
	encoder := json.NewEncoder(jsonLines{e.stdout})
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// promptOf asks at the terminal of a run.
func promptOf(e *env) terminal.Prompt {
	return terminal.Prompt{In: e.stdin, Out: e.stderr, Terminal: e.stderrTTY, Width: e.stderrWidth}
}

// confirm asks a question that only the exact answer confirms. Without a
// terminal it is not asked, and not confirmed.
func (e *env) confirm(ctx context.Context, question, answer string) error {
	if e.global.yes {
		return nil
	}
	if !e.stdinTTY {
		return pgmedic.Errorf(pgmedic.KindNotConfirmed, "add --yes to confirm without a terminal", "not confirmed: %s", question)
	}
	return e.askFor(ctx, question, answer)
}

// askFor has a person type the answer, whatever --yes says.
func (e *env) askFor(ctx context.Context, question, answer string) error {
	confirmed, err := promptOf(e).Confirm(ctx, e.value(question), answer)
	if err == nil && !confirmed {
		err = pgmedic.Errorf(pgmedic.KindNotConfirmed, "", "not confirmed; nothing was changed")
	}
	return err //nolint:wrapcheck // why the run was ended
}

// flagsOf returns all flags of a command, inherited ones included.
func flagsOf(cmd *cobra.Command) []*pflag.Flag {
	var flags []*pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f) })
	return flags
}

// wholeHash matches a hash that is too long for a line; receipts and JSON have
// all of it.
var wholeHash = regexp.MustCompile(`(sha256 [0-9a-f]{12})[0-9a-f]{52}`)

func (e *env) printChecks(checks []pgmedic.Check) { e.printChecksAt(2, checks) }

// printChecksAt is printChecks with the lines so many columns to the right.
func (e *env) printChecksAt(column int, checks []pgmedic.Check) {
	p := e.paint(e.stdoutTTY)
	width := 0
	for _, c := range checks {
		width = max(width, len(words.Clean(c.Name)))
	}
	for _, c := range checks {
		e.wrapf("%*s%s %-*s  %s\n", column, "", p.outcome(c.Outcome), width, words.Clean(c.Name),
			e.fit(wholeHash.ReplaceAllString(words.Clean(c.Detail), "$1…"), column+width+10))
	}
}

// mostMissing is how many lines of what is missing are printed.
const mostMissing = 20

// printMissing lists what a copy lacks or has otherwise, where the checks' own lines
// have not named all of it.
func (e *env) printMissing(checks []pgmedic.Check) {
	missing := restore.Missing(checks)
	if len(missing) == 0 {
		return
	}
	e.printf("missing or different:\n")
	for _, line := range missing[:min(len(missing), mostMissing)] {
		e.wrapf("  %s\n", words.Clean(line))
	}
	if n := len(missing) - mostMissing; n > 0 {
		e.printf("  … and %s more: --json has all of them\n", pgmedic.Count(int64(n)))
	}
}
